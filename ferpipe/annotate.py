"""Draw what was seen: boxes, wireframe and labels on frames, and curves over time."""

from collections.abc import Sequence

import numpy as np

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.recognizer import Sighting

__all__ = ["draw_sightings", "plot_scores"]

_MESH, _BOX, _INK = (55, 224, 200), (255, 255, 255), (20, 24, 28)
# below it the wireframe does not lie on the face
_GOOD = 0.5
_UNITS_SHOWN = 6


def draw_sightings(frame, sightings: Sequence[Sighting]):
    """Draw boxes, wireframes and labels of faces.

    Parameters
    ----------
    frame : ndarray of shape (h, w, 3), uint8
        RGB.
    sightings : sequence of Sighting
        Of this frame.

    Returns
    -------
    drawn : ndarray of shape (h, w, 3), uint8
        A copy.
    """
    import cv2

    drawn = np.ascontiguousarray(frame).copy()
    model, _ = load_calibrated()
    size = max(0.4, frame.shape[0] / 900)
    for one in sightings:
        if one.face is None:
            continue
        if one.quality >= _GOOD:
            pose, sigma, alpha = model.split(one.parameters)
            corners = project(model.shape(sigma, alpha), pose)[model.triangles]
            first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
            # y points down: triangles that face the camera turn clockwise
            facing = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
            shown = np.rint(corners[facing] * 16).astype(np.int32)
            cv2.polylines(drawn, list(shown), True, _MESH, 1, cv2.LINE_AA, shift=4)
        x, y, width, height = (round(value) for value in one.box)
        cv2.rectangle(drawn, (x, y), (x + width, y + height), _BOX, 1)
        best = max(one.scores.values())
        text = f"{one.face}: {one.label or 'unsure'} {best:.2f}"
        font = cv2.FONT_HERSHEY_SIMPLEX
        (wide, high), low = cv2.getTextSize(text, font, size, 1)
        top = max(y - high - low - 2, 0)
        cv2.rectangle(drawn, (x, top), (x + wide + 4, top + high + low + 2), _BOX, -1)
        cv2.putText(drawn, text, (x + 2, top + high + 1), font, size, _INK, 1, cv2.LINE_AA)
    return drawn


def plot_scores(sightings: Sequence[Sighting], *, gives: str = "probabilities"):
    """Draw scores and the action units that change most over time.

    Parameters
    ----------
    sightings : sequence of Sighting
        Of one video; the face that is seen most often is shown.
    gives : {"probabilities", "scores"}, default="probabilities"
        As the Recognizer's attribute.

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        If there is no face.
    """
    from matplotlib.figure import Figure

    faces = [one.face for one in sightings if one.face is not None]
    if not faces:
        raise ValueError("There is no face to plot.")
    most = max(sorted(set(faces)), key=faces.count)
    shown = [one for one in sightings if one.face in (most, None)]
    timed = np.isfinite([one.time for one in shown]).all()
    along = [one.time if timed else one.frame for one in shown]
    curves = {
        name: [one.scores[name] for one in shown] for name in next(iter(shown)).scores
    }
    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for name, values in curves.items():
        upper.plot(along, values, label=name, linewidth=1.4)
    upper.set(ylabel=gives, title=f"face {most}")
    model, _ = load_calibrated()
    units = np.stack([model.split(one.parameters)[2] for one in shown])
    change = np.nanmax(units, axis=0) - np.nanmin(units, axis=0)
    for index in np.argsort(-change, kind="stable")[:_UNITS_SHOWN]:
        lower.plot(
            along, units[:, index], label=model.animation_names[index], linewidth=1.4
        )
    lower.set(ylabel="action unit", xlabel="seconds" if timed else "frame")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure
