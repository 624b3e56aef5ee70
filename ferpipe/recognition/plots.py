"""Figures of fits: the mesh on a face, parameters over time, the effect of each unit.

Functions return new Figure objects; pyplot and its global state are not used.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import depths, project
from ferpipe.candide.model import CandideModel
from ferpipe.synthesis.render import Appearance, render

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.figure import Figure

__all__ = ["plot_fit", "plot_parameters", "plot_units"]


def plot_fit(
    image: NDArray, parameters: ArrayLike, *, model: CandideModel | None = None
) -> "Figure":
    """Draw the mesh on a face.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, 3)
        Gray or RGB.
    parameters : ndarray of shape (n_parameters,)
        Output of ``CandideFitter(output="parameters")`` for this image.
    model : CandideModel, default=None
        The wireframe; None takes the calibrated one.

    Returns
    -------
    figure : matplotlib Figure
    """
    from matplotlib.figure import Figure

    model = load_calibrated()[0] if model is None else model
    height, width = np.shape(image)[:2]
    figure = Figure(figsize=(5, 5 * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    _draw_mesh(axes, model, np.asarray(parameters), "#37e0c8", 0.7)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.axis("off")
    return figure


def plot_parameters(
    sequence: ArrayLike,
    names: Sequence[str],
    *,
    times: ArrayLike | None = None,
    most: int = 8,
) -> "Figure":
    """Plot the parameters that change most over the frames of a sequence.

    Parameters
    ----------
    sequence : ndarray of shape (T, d)
        Output of CandideFitter for the frames.
    names : sequence of str of length d
        Names of the columns, from ``get_feature_names_out``.
    times : array-like of shape (T,), default=None
        Seconds; None numbers the frames.
    most : int, default=8
        Number of parameters in the plot.

    Returns
    -------
    figure : matplotlib Figure
    """
    from matplotlib.figure import Figure

    sequence = np.asarray(sequence)
    along = np.arange(len(sequence)) if times is None else np.asarray(times)
    change = np.ptp(sequence, axis=0)
    shown = np.argsort(-change, kind="stable")[:most]
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for index in shown:
        axes.plot(along, sequence[:, index], label=str(names[index]), linewidth=1.4)
    axes.set(xlabel="frame" if times is None else "seconds", ylabel="parameter")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure


def plot_units(
    model: CandideModel | None = None,
    *,
    names: Sequence[str] | None = None,
    amounts: Sequence[float] = (-1, 0, 1),
    columns: int = 3,
) -> "Figure":
    """Draw the face with several values of each shape and animation unit.

    Parameters
    ----------
    model : CandideModel, default=None
        The wireframe; None takes the calibrated one.
    names : sequence of str, default=None
        Units; None for all shape and animation units.
    amounts : sequence of float, default=(-1, 0, 1)
        Values of the parameter, from left to right.
    columns : int, default=3
        Number of units per row.

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        If a unit is unknown.
    """
    from matplotlib.figure import Figure

    model = load_calibrated()[0] if model is None else model
    known = [*model.shape_names, *model.animation_names]
    names = known if names is None else list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"The model has no unit {unknown[0]!r}; it has {', '.join(known)}."
        )
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(1.1 * columns * len(amounts), 1.3 * rows))
    grid = figure.subplots(rows, columns * len(amounts), squeeze=False)
    figure.subplots_adjust(0, 0, 1, 0.985, 0.02, 0.12)
    for axes in grid.ravel():
        axes.axis("off")
    look = Appearance(background_tone=0.9, noise=0.0)
    for place, name in enumerate(names):
        row, column = divmod(place, columns)
        for step, amount in enumerate(amounts):
            parameters = np.zeros(len(model.parameter_names))
            parameters[:6] = 0, 0.25, 0, 58, 80, 72
            parameters[6 + known.index(name)] = amount
            axes = grid[row, column * len(amounts) + step]
            axes.imshow(render(model, parameters, look, 160), cmap="gray", vmin=0, vmax=255)
            axes.set_title(f"{name} {amount:+g}" if amount else name, fontsize=7, pad=1)
    return figure


def _draw_mesh(
    axes: Any, model: CandideModel, parameters: NDArray, color: str, width: float
) -> None:
    """Draw the edges of the triangles that face the camera."""
    from matplotlib.collections import LineCollection

    pose, sigma, alpha = model.split(parameters)
    vertices = model.shape(sigma, alpha)
    corners = project(vertices, pose)[model.triangles]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # y points down in the image: triangles that face the camera turn clockwise there
    facing = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    nearest = np.argsort(depths(vertices, pose)[model.triangles].mean(1), kind="stable")
    order = [index for index in nearest if facing[index]]
    closed = corners[order][:, [0, 1, 2, 0]]
    axes.add_collection(LineCollection(list(closed), colors=color, linewidths=width))
