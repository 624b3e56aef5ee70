"""Drawings of predictions: boxes, wireframe and labels on frames, curves over time."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.fit_quality import LEAST_QUALITY
from ferpipe.recognition.stream import FacePrediction

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.figure import Figure

__all__ = ["Curves", "draw_predictions", "plot_scores"]

_MESH, _BOX, _INK = (55, 224, 200), (255, 255, 255), (20, 24, 28)
_UNITS_SHOWN = 6
# about the width of a plot in pixels
_BINS = 1000
_FACES_KEPT = 50

# bin -> number of frames, sums of time, index, scores and action units
_Bins: TypeAlias = dict[int, tuple[int, NDArray]]


def draw_predictions(frame: NDArray, predictions: Sequence[FacePrediction]) -> NDArray:
    """Draw boxes, wireframes and labels of faces.

    Parameters
    ----------
    frame : ndarray of shape (h, w, 3), uint8
        RGB.
    predictions : sequence of FacePrediction
        Predictions of this frame.

    Returns
    -------
    drawn : ndarray of shape (h, w, 3), uint8
        A copy.
    """
    import cv2

    drawn = np.ascontiguousarray(frame).copy()
    model, _ = load_calibrated()
    size = max(0.4, frame.shape[0] / 900)
    for one in predictions:
        if one.face is None:
            continue
        if one.quality >= LEAST_QUALITY:
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


class Curves:
    """Scores and action units of the faces of a video, averaged for a plot.

    Each bin is the mean of neighboring frames, of more frames in a longer video, so that
    memory does not grow with its length. Of many faces, those in the fewest frames are
    dropped.
    """

    def __init__(self) -> None:
        self._n_frames = 0
        self._frames_a_bin = 1
        self._n_seen: dict[int, int] = {}
        self._sums: dict[int, _Bins] = {}
        self._scores: list[str] = []

    @property
    def n_faces(self) -> int:
        """Number of faces with curves."""
        return len(self._n_seen)

    def add(self, predictions: Sequence[FacePrediction]) -> None:
        """Add the predictions of the next frame.

        Parameters
        ----------
        predictions : sequence of FacePrediction
            Predictions of one frame; none for a skipped frame.
        """
        if not predictions:
            return
        if self._n_frames == _BINS * self._frames_a_bin:
            self._merge()
        place = self._n_frames // self._frames_a_bin
        self._n_frames += 1
        self._scores = list(predictions[0].scores)
        for one in predictions:
            if one.face is None:
                continue
            self._n_seen[one.face] = self._n_seen.get(one.face, 0) + 1
            values = np.array(
                [one.time, one.frame, *one.scores.values(), *one.action_units.values()]
            )
            _add_to(self._sums.setdefault(one.face, {}), place, 1, values)
        self._forget({one.face for one in predictions})

    def draw(self, *, gives: str = "probabilities") -> "Figure":
        """Draw the curves of the face in most frames.

        Parameters
        ----------
        gives : {"probabilities", "scores"}, default="probabilities"
            As the attribute of the Recognizer.

        Returns
        -------
        figure : matplotlib Figure

        Raises
        ------
        ValueError
            If there is no face.
        """
        from matplotlib.figure import Figure

        if not self._n_seen:
            raise ValueError("There is no face to plot.")
        most = max(sorted(self._n_seen), key=self._n_seen.__getitem__)
        bins = self._sums[most]
        empty = np.full(len(next(iter(bins.values()))[1]), np.nan)
        # the curves have gaps where the face is absent
        means = np.stack(
            [
                bins[place][1] / bins[place][0] if place in bins else empty
                for place in range(min(bins), max(bins) + 1)
            ]
        )
        n_scores = 2 + len(self._scores)
        moments, frames, scores, units = np.split(means, [1, 2, n_scores], axis=1)
        timed = np.isfinite(moments).any()
        along = (moments if timed else frames)[:, 0]
        figure = Figure(figsize=(8, 5), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for name, values in zip(self._scores, scores.T, strict=True):
            upper.plot(along, values, label=name, linewidth=1.4)
        upper.set(ylabel=gives, title=f"face {most}")
        names = load_calibrated()[0].animation_names
        known = units[np.isfinite(units).all(1)]
        change = np.ptp(known, axis=0) if len(known) else np.zeros(len(names))
        for index in np.argsort(-change, kind="stable")[:_UNITS_SHOWN]:
            lower.plot(along, units[:, index], label=names[index], linewidth=1.4)
        lower.set(ylabel="action unit", xlabel="seconds" if timed else "frame")
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(
                loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8
            )
        return figure

    def _merge(self) -> None:
        """Merge pairs of bins."""
        self._frames_a_bin *= 2
        for face, bins in self._sums.items():
            merged: _Bins = {}
            for place, (count, values) in bins.items():
                _add_to(merged, place // 2, count, values)
            self._sums[face] = merged

    def _forget(self, present: set[int | None]) -> None:
        """Drop the faces in the fewest frames if there are too many, but no present one."""
        gone = [face for face in self._n_seen if face not in present]
        n_excess = max(0, len(self._n_seen) - _FACES_KEPT)
        for face in sorted(gone, key=self._n_seen.__getitem__)[:n_excess]:
            del self._n_seen[face], self._sums[face]


def plot_scores(
    predictions: Iterable[FacePrediction], *, gives: str = "probabilities"
) -> "Figure":
    """Plot scores, and the action units that change most, over time.

    Parameters
    ----------
    predictions : iterable of FacePrediction
        Predictions of one video; the face in most frames is shown.
    gives : {"probabilities", "scores"}, default="probabilities"
        As the attribute of the Recognizer.

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        If there is no face.
    """
    curves = Curves()
    for _, rows in groupby(predictions, key=lambda one: one.frame):
        curves.add(list(rows))
    return curves.draw(gives=gives)


def _add_to(bins: _Bins, place: int, count: int, values: NDArray) -> None:
    before, total = bins.get(place, (0, np.zeros_like(values)))
    bins[place] = (before + count, total + values)
