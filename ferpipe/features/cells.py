"""The grid of cells over an image in which features are counted or averaged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cell_edges"]


def cell_edges(
    size: Sequence[int], cells: tuple[int, int], overlap: float = 0.0
) -> list[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Divide an image into cells that differ in size by one pixel at most.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image, in pixels.
    cells : (int, int)
        Rows and columns of cells.
    overlap : float, default=0.0
        Share of a cell's height and width that it has in common with the next, from 0
        to below 1. Cells grow with it; the grid covers the image all the same.

    Returns
    -------
    edges : list of two (starts, ends)
        First and last-plus-one pixel of the cells: for rows and for columns.

    Raises
    ------
    ValueError
        If a cell would have no pixel.
    """
    if any(length < n for length, n in zip(size, cells, strict=True)):
        raise ValueError(
            f"cells={tuple(cells)} needs at least that many rows and columns of pixels, "
            f"got {size[0]}x{size[1]}: use fewer cells, or larger images."
        )
    edges = []
    for length, n in zip(size, cells, strict=True):
        extent = length / (1 + (n - 1) * (1 - overlap))
        starts: NDArray[Any] = np.arange(n) * extent * (1 - overlap)
        # the same edge comes out of two sums, which differ in their last bit
        first, last = (
            np.floor(side + 1e-6).astype(int) for side in (starts, starts + extent)
        )
        edges.append((first, last))
    return edges
