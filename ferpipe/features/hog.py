"""Histograms of oriented gradients (HOG)."""

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ferpipe.checks import check_frame_shape, check_images
from ferpipe.constraints import Interval, StrOptions, fit_context

__all__ = ["HOGFeatures", "hog"]

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])


def hog(
    images,
    *,
    orientations=9,
    pixels_per_cell=(8, 8),
    cells_per_block=(2, 2),
    block_norm="L2-Hys",
):
    """Histograms of oriented gradients of a batch of images.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Grey or RGB images, uint8 or float; colour is turned into grey first.
    orientations : int, default=9
        Number of orientation bins between 0 and 180 degrees.
    pixels_per_cell : (int, int), default=(8, 8)
        Rows and columns of a cell, in pixels. Pixels that fill no whole cell at the
        bottom and on the right are left out.
    cells_per_block : (int, int), default=(2, 2)
        Rows and columns of a block, in cells. Blocks overlap: one starts at every cell.
    block_norm : {"L1", "L1-sqrt", "L2", "L2-Hys"}, default="L2-Hys"
        Norm that a block is divided by; "L2-Hys" cuts the result at 0.2 and divides
        again.

    Returns
    -------
    features : ndarray of shape (n, n_blocks * cells_per_block * orientations), float64
        In the order block row, block column, cell row, cell column (within the
        block), orientation.

    Raises
    ------
    ValueError
        If the images are smaller than one block.
    """
    from skimage.feature import hog as hog_of_one_image

    block_grid(images.shape[1:3], pixels_per_cell, cells_per_block)
    grey = images @ _LUMINANCE if images.ndim == 4 else images.astype(np.float64)
    return np.stack(
        [
            hog_of_one_image(
                image,
                orientations=orientations,
                pixels_per_cell=pixels_per_cell,
                cells_per_block=cells_per_block,
                block_norm=block_norm,
            )
            for image in grey
        ]
    )


def block_grid(image_size, pixels_per_cell, cells_per_block):
    """Count the rows and columns of blocks in an image.

    Parameters
    ----------
    image_size : (int, int)
        Height and width of the image, in pixels.
    pixels_per_cell, cells_per_block : (int, int)
        As for :func:`hog`.

    Returns
    -------
    n_rows, n_columns : int

    Raises
    ------
    ValueError
        If the image is smaller than one block.
    """
    height, width = image_size
    n_rows = height // pixels_per_cell[0] - cells_per_block[0] + 1
    n_columns = width // pixels_per_cell[1] - cells_per_block[1] + 1
    if n_rows < 1 or n_columns < 1:
        block_height = pixels_per_cell[0] * cells_per_block[0]
        block_width = pixels_per_cell[1] * cells_per_block[1]
        raise ValueError(
            f"Images of {height}x{width} pixels are smaller than one HOG block of "
            f"{block_height}x{block_width} pixels (cells_per_block * pixels_per_cell): "
            "make pixels_per_cell or cells_per_block smaller, or the images larger."
        )
    return n_rows, n_columns


class HOGFeatures(TransformerMixin, BaseEstimator):
    """Histograms of oriented gradients: where edges run, and in which direction.

    The gradients of an image are counted by direction in small cells, weighted by
    their magnitude, and made comparable within overlapping blocks of cells. They
    follow the folds and contours that an expression makes and hardly change with the
    light. A strong first choice for small aligned faces with a linear classifier.

    Parameters
    ----------
    orientations : int, default=9
        Number of orientation bins between 0 and 180 degrees.
    pixels_per_cell : (int, int), default=(8, 8)
        Rows and columns of a cell, in pixels.
    cells_per_block : (int, int), default=(2, 2)
        Rows and columns of a block, in cells.
    block_norm : {"L1", "L1-sqrt", "L2", "L2-Hys"}, default="L2-Hys"
        Norm that a block is divided by.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.

    See Also
    --------
    ferpipe.PerFrame : Apply it to every frame of sequences.

    Notes
    -----
    The values are those of :func:`skimage.feature.hog` on a grey image. Differences
    from [1]_ are its own: no Gaussian window over a block, and a gradient votes for
    one bin of one cell, without interpolation. Colour becomes grey by the luminance
    0.2125 R + 0.7154 G + 0.0721 B on the image's own scale, where [1]_ takes the
    channel with the largest gradient at each pixel.

    References
    ----------
    .. [1] N. Dalal and B. Triggs, "Histograms of oriented gradients for human
       detection", CVPR 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import HOGFeatures
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> extractor = HOGFeatures().fit(faces)
    >>> extractor.transform(faces).shape
    (4, 900)
    >>> str(extractor.get_feature_names_out()[0])
    'hog_r0c0_b0_o10'
    """

    input_kind = "images"

    _parameter_constraints: dict = {
        "orientations": [Interval(Integral, 1, None, closed="left")],
        "pixels_per_cell": [tuple, list],
        "cells_per_block": [tuple, list],
        "block_norm": [StrOptions({"L1", "L1-sqrt", "L2", "L2-Hys"})],
    }

    def __init__(
        self,
        *,
        orientations=9,
        pixels_per_cell=(8, 8),
        cells_per_block=(2, 2),
        block_norm="L2-Hys",
    ):
        self.orientations = orientations
        self.pixels_per_cell = pixels_per_cell
        self.cells_per_block = cells_per_block
        self.block_norm = block_norm

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the images and remember their shape; nothing else is learned.

        Parameters
        ----------
        X : array-like of shape (n, h, w) or (n, h, w, 3)
            Images.
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : HOGFeatures

        Raises
        ------
        ValueError
            If the images are smaller than one block.
        """
        images = check_images(X)
        _check_pair(self.pixels_per_cell, "pixels_per_cell")
        _check_pair(self.cells_per_block, "cells_per_block")
        block_grid(images.shape[1:3], self.pixels_per_cell, self.cells_per_block)
        self.image_shape_ = images.shape[1:]
        return self

    def transform(self, X):
        """Describe images by their gradients.

        Parameters
        ----------
        X : array-like of shape (n, h, w) or (n, h, w, 3)
            Images of the shape seen in fit.

        Returns
        -------
        features : ndarray of shape (n, d)
        """
        check_is_fitted(self)
        images = check_images(X)
        check_frame_shape(images.shape[1:], self.image_shape_, self)
        return hog(
            images,
            orientations=self.orientations,
            pixels_per_cell=self.pixels_per_cell,
            cells_per_block=self.cells_per_block,
            block_norm=self.block_norm,
        )

    def get_feature_names_out(self, input_features=None):
        """Name the columns of the output, such as ``hog_r3c4_b0_o30``.

        ``r3c4`` is the row and column of the cell in the image; ``b0`` says which
        cell of its block it is, counted row by row (a cell belongs to several
        blocks); ``o30`` is the middle of the orientation bin in degrees: the
        direction of the gradient, measured from the x axis towards the y axis
        (downwards).

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's interface; pixels have no names.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        n_rows, n_columns = block_grid(
            self.image_shape_[:2], self.pixels_per_cell, self.cells_per_block
        )
        cell_rows, cell_columns = self.cells_per_block
        width = 180 / self.orientations
        names = [
            f"hog_r{row + i}c{column + j}_b{i * cell_columns + j}_o{width * (bin_ + 0.5):g}"
            for row in range(n_rows)
            for column in range(n_columns)
            for i in range(cell_rows)
            for j in range(cell_columns)
            for bin_ in range(self.orientations)
        ]
        return np.asarray(names, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


def _check_pair(value, name):
    if len(value) != 2 or not all(
        isinstance(number, Integral) and number >= 1 for number in value
    ):
        raise ValueError(
            f"{name} must be two whole numbers of at least 1 (rows, columns), such as "
            f"(8, 8), got {value!r}."
        )
