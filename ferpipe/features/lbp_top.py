"""Local binary patterns of sequences, from three orthogonal planes (LBP-TOP)."""

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ferpipe._base import SequenceMixin
from ferpipe._checks import check_pair, check_sequences
from ferpipe._compat import Interval, StrOptions, fit_context, validate_parameters
from ferpipe.features.cells import cell_edges
from ferpipe.features.extractor import to_gray
from ferpipe.features.lbp import (
    METHODS,
    NORMS,
    bins_of,
    check_points,
    circle,
    count_in_cells,
    draw_codes,
    exact_type,
    n_bins,
    normalized,
    patterns,
    relabel,
)

__all__ = ["LBPTopFeatures", "lbp_top"]

# each plane's rows and columns as axes of (t, y, x)
_PLANES = {"xy": (1, 2), "xt": (0, 2), "yt": (0, 1)}
_METHODS = tuple(method for method in METHODS if method != "var")
# voxels processed at a time
_VOXELS = 1 << 17


def lbp_top(
    sequences: list[NDArray[Any]],
    *,
    n_points: int | Sequence[int] = 8,
    radius: float | Sequence[float] = 1,
    method: str = "nri_uniform",
    cells: tuple[int, int] = (4, 4),
    overlap: float = 0.0,
    norm: str | None = "L1",
    n_jobs: int | None = None,
) -> NDArray[Any]:
    """Histograms of local binary patterns in three planes of sequences of images.

    Parameters
    ----------
    sequences : list of ndarray of shape (T_i, h, w) or (T_i, h, w, 3)
        Gray or RGB frames of one size, uint8 or float; color is turned into gray first.
    n_points : int or (int, int, int), default=8
        Number of points in the planes XY, XT and YT, or one number for all.
    radius : float or (float, float, float), default=1
        Radius along x and y, in pixels, and along time, in frames, or one for all. Points
        lie on ellipses where the two radii of a plane differ.
    method : {"default", "ror", "uniform", "nri_uniform"}, default="nri_uniform"
        As for :func:`ferpipe.features.lbp.local_binary_pattern`.
    cells : (int, int), default=(4, 4)
        Rows and columns of the grid of cells, which covers the inner part of the frames.
    overlap : float, default=0.0
        Share of a cell's height and width that overlaps with the next cell.
    norm : {"L1", "L1-sqrt", "L2"} or None, default="L1"
        Norm by which each histogram is divided, as for :func:`ferpipe.features.lbp.lbp`.
    n_jobs : int, default=None
        Number of threads, as joblib counts them.

    Returns
    -------
    features : ndarray of shape (n, d), float32
        In the order plane (XY, XT, YT), cell row, cell column, bin.

    Raises
    ------
    ValueError
        If a sequence has too few frames for the radius along time, or the frames too few
        pixels for the radius and the cells.
    """
    points, radii = _three(n_points), _three(radius)
    _check_lengths(sequences, radii)
    margins = _margins(radii)
    frame_size = sequences[0].shape[1:3]
    edges = _edges(frame_size, radii, cells, overlap)
    widths = [cells[0] * cells[1] * n_bins(p, method) for p in points]
    features = np.empty((len(sequences), sum(widths)), np.float32)

    def work(chosen: list[int]) -> None:
        volumes = np.stack([to_gray(sequences[i]) for i in chosen])
        volumes = volumes.astype(exact_type(volumes.dtype), copy=False)
        rows = []
        for plane, p in zip(_PLANES, points, strict=True):
            codes = _inner_codes(volumes, plane, p, radii, margins)
            counts = count_in_cells(bins_of(codes, p, method), n_bins(p, method), edges)
            rows.append(normalized(counts, norm).reshape(len(chosen), -1))
        features[chosen] = np.concatenate(rows, axis=1)

    Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(work)(chosen) for chosen in _alike(sequences)
    )
    return features


def _alike(sequences: list[NDArray[Any]]) -> Iterator[list[int]]:
    """Yield indices of sequences of one length and type, to be processed at once."""
    groups: dict[Any, list[int]] = {}
    for index, sequence in enumerate(sequences):
        groups.setdefault((sequence.shape, sequence.dtype), []).append(index)
    for (shape, _), group in groups.items():
        step = max(1, _VOXELS // int(np.prod(shape[:3])))
        yield from (group[start : start + step] for start in range(0, len(group), step))


def _inner_codes(
    volumes: NDArray[Any],
    plane: str,
    n_points: int,
    radii: Sequence[float],
    margins: list[int],
) -> NDArray[Any]:
    """Return the patterns of voxels whose points lie inside the sequence in all planes."""
    axes = _PLANES[plane]
    # radii are along x, y, t, axes are of (t, y, x)
    codes = patterns(volumes, axes, circle(n_points, [radii[2 - axis] for axis in axes]))
    inner = [slice(margin, -margin) for margin in margins]
    return codes[(slice(None), *inner)]


def _three(value: Any) -> tuple[Any, ...]:
    return (value,) * 3 if isinstance(value, Real) else tuple(value)


def _margins(radii: Sequence[float]) -> list[int]:
    """Return how many frames, rows and columns at either end can have points outside."""
    return [int(np.ceil(radius)) for radius in reversed(radii)]


def _edges(
    frame_size: tuple[int, ...],
    radii: Sequence[float],
    cells: tuple[int, int],
    overlap: float,
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Edges of the cells within the inner part of a frame."""
    inner = [
        size - 2 * margin
        for size, margin in zip(frame_size, _margins(radii)[1:], strict=True)
    ]
    if min(inner) < 1:
        raise ValueError(
            f"Frames of {frame_size[0]}x{frame_size[1]} pixels have no inner part for "
            f"radius={radii} (x, y, t): use a smaller radius, or larger frames."
        )
    return cell_edges(inner, cells, overlap)


def _check_lengths(sequences: list[NDArray[Any]], radii: Sequence[float]) -> None:
    least = 2 * _margins(radii)[0] + 1
    for index, sequence in enumerate(sequences):
        if len(sequence) < least:
            raise ValueError(
                f"X[{index}] has {len(sequence)} frames, but LBP-TOP needs at least "
                f"{least} frames for a radius of {radii[2]:g} along time (twice the radius "
                "and one more): drop such sequences, repeat frames, or make the radius "
                "smaller."
            )


class LBPTopFeatures(SequenceMixin, BaseEstimator):
    """Local binary patterns from three orthogonal planes: texture and its motion.

    A sequence of images is a block of voxels. Patterns are computed in its XY planes, the
    frames, and in its XT and YT planes, which hold how rows and columns of pixels change
    over time. They are counted in the cells of a grid over all frames, so a sequence of
    any length becomes one row, for example for an SVM. A strong, classic baseline for
    dynamic expressions.

    Parameters
    ----------
    n_points : int or (int, int, int), default=8
        Number of points in the planes XY, XT and YT, or one number for all.
    radius : float or (float, float, float), default=1
        Radius along x and y, in pixels, and along time, in frames, or one for all.
    method : {"default", "ror", "uniform", "nri_uniform"}, default="nri_uniform"
        Kind of patterns, as for LBPFeatures.
    cells : (int, int), default=(4, 4)
        Rows and columns of the grid of cells.
    overlap : float, default=0.0
        Share of a cell's height and width that overlaps with the next cell, from 0 to
        below 1.
    norm : {"L1", "L1-sqrt", "L2"} or None, default="L1"
        Norm by which each histogram is divided, as for LBPFeatures.
    n_jobs : int, default=None
        Number of threads, as joblib counts them.

    Attributes
    ----------
    frame_shape_ : tuple of int
        Shape of a frame seen in fit, ``(h, w)`` or ``(h, w, 3)``.

    See Also
    --------
    LBPFeatures : The same for images.

    Notes
    -----
    As in Zhao and Pietikäinen [1]_, a voxel counts if its points lie within the sequence
    in all planes: the first and last ``ceil(radius)`` frames, rows and columns serve as
    neighbors only, and the cells divide the rest of a frame. A sequence needs
    ``2 * ceil(radius) + 1`` frames, three for a radius of 1; shorter ones are an error.

    Points are interpolated bilinearly, and time is the vertical axis of the XT and YT
    planes. Histograms are normalized for each plane and cell. Color becomes gray by its
    luminance.

    References
    ----------
    .. [1] G. Zhao and M. Pietikäinen, "Dynamic texture recognition using local binary
       patterns with an application to facial expressions", IEEE Transactions on Pattern
       Analysis and Machine Intelligence 29(6), 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import LBPTopFeatures
    >>> clips = [np.zeros((3, 48, 48)), np.zeros((5, 48, 48))]
    >>> extractor = LBPTopFeatures().fit(clips)
    >>> extractor.transform(clips).shape
    (2, 2832)
    >>> str(extractor.get_feature_names_out()[1000])
    'lbp_xt_r0c0_b56'
    """

    _parameter_constraints: dict = {
        "n_points": [Interval(Integral, 1, 31, closed="both"), tuple, list],
        "radius": [Interval(Real, 0, None, closed="neither"), tuple, list],
        "method": [StrOptions(set(_METHODS))],
        "cells": [tuple, list],
        "overlap": [Interval(Real, 0, 1, closed="left")],
        "norm": [StrOptions(set(NORMS)), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        n_points: int | Sequence[int] = 8,
        radius: float | Sequence[float] = 1,
        method: str = "nri_uniform",
        cells: tuple[int, int] = (4, 4),
        overlap: float = 0.0,
        norm: str | None = "L1",
        n_jobs: int | None = None,
    ) -> None:
        self.n_points = n_points
        self.radius = radius
        self.method = method
        self.cells = cells
        self.overlap = overlap
        self.norm = norm
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the sequences and remember the shape of a frame; nothing else is learned.

        Parameters
        ----------
        X : list of array-like of shape (T_i, h, w[, 3]), or ndarray (n, T, h, w[, 3])
            Sequences of images, uint8 or float.
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : LBPTopFeatures

        Raises
        ------
        ValueError
            If a sequence has too few frames for the radius along time, or the frames too
            few pixels for the radius and the cells.
        """
        sequences = self._check_sequences(X, reset=True)
        self._check_parameters(self.frame_shape_)
        _check_lengths(sequences, _three(self.radius))
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Describe each sequence by one row.

        Parameters
        ----------
        X : list of array-like of shape (T_i, h, w[, 3]), or ndarray (n, T, h, w[, 3])
            Sequences, with frames of the shape seen in fit.

        Returns
        -------
        features : ndarray of shape (n, d), float32

        Raises
        ------
        ValueError
            If the frames have another shape than in fit, or a sequence has too few of them.
        """
        check_is_fitted(self)
        validate_parameters(self)
        sequences = self._check_sequences(X, reset=False)
        self._check_parameters(self.frame_shape_)
        return lbp_top(
            sequences,
            n_points=self.n_points,
            radius=self.radius,
            method=self.method,
            cells=self.cells,
            overlap=self.overlap,
            norm=self.norm,
            n_jobs=self.n_jobs,
        )

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns of the output, such as ``lbp_xt_r3c2_b12``.

        ``xt`` is the plane, ``r3c2`` the row and column of the cell, ``b12`` the bin.

        Parameters
        ----------
        input_features : ignored
            Ignored: pixels have no names.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        names = [
            f"lbp_{plane}_r{row}c{column}_b{number}"
            for plane, points in zip(_PLANES, _three(self.n_points), strict=True)
            for row in range(self.cells[0])
            for column in range(self.cells[1])
            for number in range(n_bins(points, self.method))
        ]
        return np.asarray(names, dtype=object)

    def plot(self, sequence: NDArray[Any], axes: Any = None) -> Any:
        """Draw the codes of the middle frame in the three planes, and the cells.

        Parameters
        ----------
        sequence : ndarray of shape (T, h, w) or (T, h, w, 3)
            One sequence.
        axes : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        axes : matplotlib Axes
        """
        sequences = check_sequences([sequence])
        self._check_parameters(sequences[0].shape[1:])
        radii = _three(self.radius)
        _check_lengths(sequences, radii)
        volumes = to_gray(sequences[0])[None]
        volumes = volumes.astype(exact_type(volumes.dtype), order="C", copy=False)
        pictures = []
        for plane, points in zip(_PLANES, _three(self.n_points), strict=True):
            codes = _inner_codes(volumes, plane, points, radii, _margins(radii))[0]
            pictures.append(codes[len(codes) // 2])
            if self.method != "default":
                pictures[-1] = relabel(pictures[-1], points, self.method)
        edges = _edges(volumes.shape[2:], radii, self.cells, self.overlap)
        return draw_codes(pictures, [p.upper() for p in _PLANES], [edges] * 3, axes)

    def _check_parameters(self, frame_shape: tuple[int, ...]) -> None:
        if len(frame_shape) < 2:
            raise ValueError(
                f"LBPTopFeatures takes sequences of images (T, h, w) or (T, h, w, 3), got "
                f"frames of shape {frame_shape}."
            )
        points, radii = _three(self.n_points), _three(self.radius)
        if len(points) != 3:
            raise ValueError(
                f"n_points must be one number or three (XY, XT, YT), got {self.n_points!r}."
            )
        if len(radii) != 3 or not all(isinstance(r, Real) and float(r) > 0 for r in radii):
            raise ValueError(
                "radius must be positive, one number or three (x, y, t), got "
                f"{self.radius!r}."
            )
        check_points(points, self.method)
        check_pair(self.cells, "cells", (4, 4))
        _edges(frame_shape[:2], radii, self.cells, self.overlap)
