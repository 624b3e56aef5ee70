"""Sequences: apply a transformer to every frame, pool frames, differences of frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Self

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ferpipe._base import SequenceMixin, Tags, input_kind, is_stateless
from ferpipe._compat import HasMethods, StrOptions, fit_context, validate_parameters
from ferpipe.faces.landmarks import NoFaceError
from ferpipe.io.images import check_raw_sequences

__all__ = ["FrameDeltas", "PerFrame", "PoolFrames", "frame_deltas", "pool_frames"]


def pool_frames(sequences: list[NDArray[Any]], method: str = "mean") -> NDArray[Any]:
    """Turn sequences of feature vectors into one row each.

    Parameters
    ----------
    sequences : list of ndarray of shape (T_i, d)
        Feature vectors, time first.
    method : {"mean", "max", "last", "concat"}, default="mean"
        Mean or maximum over time, the last frame, or all frames concatenated.

    Returns
    -------
    rows : ndarray of shape (n, d), or (n, T * d) for "concat"

    Raises
    ------
    ValueError
        If ``method="concat"`` and the sequences differ in length.
    """
    if method == "mean":
        return np.stack([sequence.mean(axis=0) for sequence in sequences])
    if method == "max":
        return np.stack([sequence.max(axis=0) for sequence in sequences])
    if method == "last":
        return np.stack([sequence[-1] for sequence in sequences])
    lengths = sorted({len(sequence) for sequence in sequences})
    if len(lengths) > 1:
        raise ValueError(
            f"'concat' needs sequences of one length only, got lengths "
            f"from {lengths[0]} to {lengths[-1]}: cut the sequences to one length, or pool "
            "with 'mean', 'max' or 'last'."
        )
    return np.stack([sequence.ravel() for sequence in sequences])


def frame_deltas(
    sequences: list[NDArray[Any]], reference: str = "first", *, append: bool = True
) -> list[NDArray[Any]]:
    """Differences of each frame to the first or to the previous frame.

    Parameters
    ----------
    sequences : list of ndarray of shape (T_i, ...)
        Frames, time first. Whole numbers become floats, so that no difference
        overflows.
    reference : {"first", "previous"}, default="first"
        Frame that is subtracted. From the first frame, itself is subtracted either way.
    append : bool, default=True
        Append the differences to the features, for frames ``(d,)``; False returns the
        differences alone.

    Returns
    -------
    deltas : list of ndarray of shape (T_i, 2 * d) or (T_i, ...)
        Float; the first frame's differences are 0.
    """
    deltas = []
    for sequence in sequences:
        frames = sequence.astype(np.result_type(sequence.dtype, np.float32), copy=False)
        if reference == "first":
            delta = frames - frames[0]
        else:
            delta = np.diff(frames, axis=0, prepend=frames[:1])
        deltas.append(np.concatenate([frames, delta], axis=1) if append else delta)
    return deltas


class PerFrame(SequenceMixin, BaseEstimator):
    """Apply a transformer of images or feature vectors to every frame of sequences.

    The frames of all sequences go through the transformer in one batch and are split
    into sequences again, which may differ in length. Where the transformer takes raw
    images (FaceAligner), frames may differ in size.

    Parameters
    ----------
    transformer : transformer
        Transformer of frames. A clone of it is fitted on all frames of all sequences, each
        frame with the target and group of its sequence.

    Attributes
    ----------
    transformer_ : transformer
        The fitted clone.
    frame_shape_ : tuple of int
        Shape of a frame seen in fit: ``(d,)``, ``(h, w)`` or ``(h, w, 3)``; missing if
        frames may differ in size.

    See Also
    --------
    PoolFrames : Pool each sequence of feature vectors into one row.

    Notes
    -----
    Groups are passed to the transformer if its fit takes them. With
    ``set_output(transform="pandas")``, sequences of feature vectors become a list of data
    frames, one per sequence; images stay arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import HOGFeatures, PerFrame
    >>> clips = [np.zeros((3, 48, 48)), np.zeros((5, 48, 48))]
    >>> [frames.shape for frames in PerFrame(HOGFeatures()).fit_transform(clips)]
    [(3, 900), (5, 900)]
    """

    __metadata_request__fit = {"groups": True}

    _parameter_constraints: dict = {"transformer": [HasMethods(["fit", "transform"])]}

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Fit the transformer on the frames of all sequences.

        Parameters
        ----------
        X : list of array-like of shape (T_i, ...), or ndarray of shape (n, T, ...)
            Sequences.
        y : array-like of shape (n,), default=None
            Target of each sequence, which the transformer gets for each frame.
        groups : array-like of shape (n,), default=None
            Group of each sequence, such as its subject.

        Returns
        -------
        self : PerFrame
        """
        frames, lengths = self._frames_of(X, reset=True)
        self.transformer_ = clone(self.transformer)
        y, groups = self._repeat_targets(y, groups, lengths)
        with _frames_named(lengths):
            self.transformer_.fit(frames, y, **groups)
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def fit_transform(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> list[NDArray[Any]]:
        """Fit the transformer on all frames and transform them.

        Parameters
        ----------
        X : list of array-like of shape (T_i, ...), or ndarray of shape (n, T, ...)
            Sequences.
        y : array-like of shape (n,), default=None
            Target of each sequence, which the transformer gets for each frame.
        groups : array-like of shape (n,), default=None
            Group of each sequence, such as its subject.

        Returns
        -------
        transformed : list of ndarray of shape (T_i, ...)
            One array a sequence.
        """
        frames, lengths = self._frames_of(X, reset=True)
        self.transformer_ = clone(self.transformer)
        y, groups = self._repeat_targets(y, groups, lengths)
        with _frames_named(lengths):
            if hasattr(self.transformer_, "fit_transform"):
                transformed = self.transformer_.fit_transform(frames, y, **groups)
            else:  # a FrozenEstimator has no fit_transform
                transformed = self.transformer_.fit(frames, y, **groups).transform(frames)
        return _split(transformed, lengths, self.transformer_)

    def transform(self, X: Any) -> list[NDArray[Any]]:
        """Transform every frame.

        Parameters
        ----------
        X : list of array-like of shape (T_i, ...), or ndarray of shape (n, T, ...)
            Sequences, with frames of the shape seen in fit.

        Returns
        -------
        transformed : list of ndarray of shape (T_i, ...)
            One array a sequence.

        Raises
        ------
        ValueError
            If the frames have another shape than in fit, or the transformer does not return
            one row or image per frame.
        """
        check_is_fitted(self)
        validate_parameters(self)
        frames, lengths = self._frames_of(X, reset=False)
        with _frames_named(lengths):
            transformed = self.transformer_.transform(frames)
        return _split(transformed, lengths, self.transformer_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the features of a frame, as the transformer names them.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features that come in; images have none.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        return self.transformer_.get_feature_names_out(input_features)

    def _frames_of(
        self, X: Any, *, reset: bool
    ) -> tuple[NDArray[Any] | list[NDArray[Any]], list[int]]:
        if self._takes_raw_images():
            clips = check_raw_sequences(X)
            return list(chain.from_iterable(clips)), [len(clip) for clip in clips]
        sequences = self._check_sequences(X, reset=reset)
        return np.concatenate(sequences), [len(sequence) for sequence in sequences]

    def _repeat_targets(
        self, y: Any, groups: Any, lengths: list[int]
    ) -> tuple[Any, dict[str, Any]]:
        y = None if y is None else _repeat(y, lengths, "y")
        if groups is None or not _takes_groups(self.transformer_):
            return y, {}
        return y, {"groups": _repeat(groups, lengths, "groups")}

    def _takes_raw_images(self) -> bool:
        return input_kind(self.transformer) in ("raw images", "raw")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.stateless = is_stateless(self.transformer)
        tags.input_tags.raw_sizes = self._takes_raw_images()
        return tags


@contextmanager
def _frames_named(lengths: list[int]) -> Iterator[None]:
    """Name frames without a face by their sequence."""
    try:
        yield
    except NoFaceError as error:
        names = [f"frame {t} of X[{i}]" for i, n in enumerate(lengths) for t in range(n)]
        raise NoFaceError(error.missing, names) from None


class PoolFrames(SequenceMixin, BaseEstimator):
    """Pool each sequence of feature vectors into one row.

    Parameters
    ----------
    method : {"mean", "max", "last", "concat"}, default="mean"
        Mean or maximum of each feature over time, the last frame, or all frames
        concatenated. "concat" needs sequences of one length.

    Attributes
    ----------
    frame_shape_ : tuple of int
        Shape ``(d,)`` of a frame seen in fit.
    n_frames_ : int
        Length of the sequences seen in fit; with ``method="concat"`` only.

    See Also
    --------
    PerFrame : Turn frames that are images into feature vectors.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import PoolFrames
    >>> clips = [np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[5.0, 7.0]])]
    >>> PoolFrames("mean").fit_transform(clips)
    array([[2., 4.],
           [5., 7.]])
    """

    _parameter_constraints: dict = {
        "method": [StrOptions({"mean", "max", "last", "concat"})]
    }

    def __init__(self, method: str = "mean") -> None:
        self.method = method

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the number of features; with ``method="concat"``, also of frames.

        Parameters
        ----------
        X : list of array-like of shape (T_i, d), or ndarray of shape (n, T, d)
            Sequences of feature vectors.
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : PoolFrames

        Raises
        ------
        ValueError
            If the frames are images, or lengths differ with ``method="concat"``.
        """
        sequences = self._check_sequences(X, reset=True)
        frame_shape = self.frame_shape_
        if len(frame_shape) != 1:
            raise ValueError(
                f"PoolFrames takes sequences of feature vectors (T_i, d), got frames of "
                f"shape {frame_shape}: turn images into features first, for example with "
                "PerFrame(HOGFeatures())."
            )
        pool_frames(sequences, self.method)  # refuse unequal lengths in fit
        if self.method == "concat":
            self.n_frames_ = len(sequences[0])
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Pool each sequence into one row.

        Parameters
        ----------
        X : list of array-like of shape (T_i, d), or ndarray of shape (n, T, d)
            Sequences of feature vectors.

        Returns
        -------
        rows : ndarray of shape (n, d), or (n, T * d) with ``method="concat"``

        Raises
        ------
        ValueError
            If the frames differ from those of fit, or the lengths with ``method="concat"``.
        """
        check_is_fitted(self)
        validate_parameters(self)
        sequences = self._check_sequences(X, reset=False)
        rows = pool_frames(sequences, self.method)
        if self.method == "concat" and len(sequences[0]) != self.n_frames_:
            raise ValueError(
                f"X has sequences of {len(sequences[0])} frames, but PoolFrames was fitted "
                f"on sequences of {self.n_frames_} frames: cut them to that length, or "
                "pool with 'mean', 'max' or 'last'."
            )
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns: ``mean_x0``, or ``t0_x0`` for frame 0 of "concat".

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features of a frame, or one name for the column that holds the
            sequences. If not given: the names of the data frames seen in fit, or ``x0``,
            ``x1``, ….

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        if input_features is not None and len(input_features) == 1 < self.frame_shape_[0]:
            # a ColumnTransformer names the column that holds the sequences
            column = input_features[0]
            names = [f"{column}_{name}" for name in self._names_of_frame(None)]
        else:
            names = self._names_of_frame(input_features)
        if self.method == "concat":
            prefixes = [f"t{t}" for t in range(self.n_frames_)]
        else:
            prefixes = [self.method]
        return np.asarray(
            [f"{prefix}_{name}" for prefix in prefixes for name in names], dtype=object
        )


class FrameDeltas(SequenceMixin, BaseEstimator):
    """Differences of each frame to the first or to the previous frame.

    If a sequence starts with a neutral face, the difference to the first frame removes
    the appearance of the person; the difference to the previous frame is the motion.

    Parameters
    ----------
    reference : {"first", "previous"}, default="first"
        Frame that is subtracted from each frame.
    append : bool, default=True
        Append the differences to the features. False returns the differences alone, and
        is the only choice for frames that are images.

    Attributes
    ----------
    frame_shape_ : tuple of int
        Shape of a frame seen in fit: ``(d,)``, ``(h, w)`` or ``(h, w, 3)``.

    Notes
    -----
    Sequences keep their length: the first frame is subtracted from itself, so its
    differences are 0, and a sequence of one frame has only zeros. Whole numbers (such as
    uint8 images) become float32 or wider. With ``set_output(transform="pandas")``,
    sequences of feature vectors become a list of data frames, one per sequence.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import FrameDeltas
    >>> clip = np.array([[1.0], [4.0], [6.0]])
    >>> FrameDeltas("previous").fit_transform([clip])[0]
    array([[1., 0.],
           [4., 3.],
           [6., 2.]])
    """

    _parameter_constraints: dict = {
        "reference": [StrOptions({"first", "previous"})],
        "append": ["boolean"],
    }

    def __init__(self, reference: str = "first", *, append: bool = True) -> None:
        self.reference = reference
        self.append = append

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the shape of a frame and nothing else.

        Parameters
        ----------
        X : list of array-like of shape (T_i, ...), or ndarray of shape (n, T, ...)
            Sequences.
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : FrameDeltas

        Raises
        ------
        ValueError
            If the frames are images and ``append`` is True.
        """
        self._check_sequences(X, reset=True)
        frame_shape = self.frame_shape_
        if self.append and len(frame_shape) != 1:
            raise ValueError(
                f"FrameDeltas can append differences to feature vectors (d,) only, got "
                f"frames of shape {frame_shape}: set append=False to get the differences "
                "alone."
            )
        return self

    def transform(self, X: Any) -> list[NDArray[Any]]:
        """Compute the differences.

        Parameters
        ----------
        X : list of array-like of shape (T_i, ...), or ndarray of shape (n, T, ...)
            Sequences, with frames of the shape seen in fit.

        Returns
        -------
        deltas : list of ndarray of shape (T_i, 2 * d) or (T_i, ...)
        """
        check_is_fitted(self)
        validate_parameters(self)
        sequences = self._check_sequences(X, reset=False)
        return frame_deltas(sequences, self.reference, append=self.append)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the features of a frame: ``x0``, …, then ``delta_x0``, ….

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features of a frame. If not given: the names of the data frames
            seen in fit, or ``x0``, ``x1``, ….

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        names = self._names_of_frame(input_features)
        deltas = [f"delta_{name}" for name in names]
        return np.asarray([*names, *deltas] if self.append else deltas, dtype=object)


def _takes_groups(transformer: Any) -> bool:
    if sklearn.get_config()["enable_metadata_routing"]:
        # works for a Pipeline too, whose fit has no groups in its signature
        return bool(get_routing_for_object(transformer).consumes("fit", ["groups"]))
    return has_fit_parameter(transformer, "groups")


def _repeat(values: Any, lengths: list[int], name: str) -> NDArray[Any]:
    values = np.asarray(values)
    if values.ndim == 0 or len(values) != len(lengths):
        raise ValueError(
            f"{name} must have one entry per sequence: expected {len(lengths)}, got an "
            f"array of shape {values.shape}."
        )
    return np.repeat(values, lengths, axis=0)


def _split(transformed: Any, lengths: list[int], transformer: Any) -> list[NDArray[Any]]:
    frames = np.asarray(transformed)  # a data frame when the transformer is set to pandas
    if frames.ndim < 2 or len(frames) != sum(lengths):
        raise ValueError(
            f"{type(transformer).__name__} must return one row or image for "
            f"each of the {sum(lengths)} frames, got {type(transformed).__name__} of shape "
            f"{getattr(transformed, 'shape', None)}."
        )
    return np.split(frames, np.cumsum(lengths)[:-1])
