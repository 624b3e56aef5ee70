"""What the estimators share: tags, checks of images and sequences, one rule for output."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, ClassVar, Self

import numpy as np
import sklearn.utils
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ferpipe._checks import (
    as_list,
    check_frame_shape,
    check_images,
    check_sequences,
    check_value_scale,
    value_scale_of,
)
from ferpipe._compat import (
    as_table,
    fit_context,
    set_output_container,
    validate_parameters,
)

__all__ = [
    "ImageMixin",
    "ImageTransformer",
    "InputTags",
    "RawImageMixin",
    "SampleMixin",
    "SequenceMixin",
    "Tags",
    "first_steps",
    "input_kind",
    "is_stateless",
]


# Tags, as scikit-learn has them


@dataclass(slots=True)
class InputTags(sklearn.utils.InputTags):
    """scikit-learn's tags of the input, and what kind of samples an estimator takes.

    Attributes
    ----------
    images : bool, default=False
        Whether a sample is an image.
    sequences : bool, default=False
        Whether a sample is a sequence of images or feature vectors. An estimator that
        takes both has both tags.
    raw_sizes : bool, default=False
        Whether images, or frames, may differ in size.
    """

    images: bool = False
    sequences: bool = False
    raw_sizes: bool = False


@dataclass(slots=True)
class Tags(sklearn.utils.Tags):
    """scikit-learn's tags of an estimator, and one of our own.

    Attributes
    ----------
    stateless : bool, default=False
        Whether a transformer describes each sample by itself: ``fit`` learns the shape of
        a sample and nothing else.
    """

    stateless: bool = False


def _own_tags(tags: Any) -> Tags:
    """Turn scikit-learn's tags into ours, for samples that are no rows of a table."""
    if isinstance(tags, Tags):
        return tags
    inputs = InputTags(**_values(tags.input_tags))
    inputs.two_d_array, inputs.three_d_array = False, True
    return Tags(**{**_values(tags), "input_tags": inputs})


def _values(tags: Any) -> dict[str, Any]:
    return {field.name: getattr(tags, field.name) for field in fields(tags)}


def _tags_of(estimator: Any) -> Any:
    """Return an estimator's tags; None for what is none, such as "passthrough"."""
    return get_tags(estimator) if hasattr(estimator, "__sklearn_tags__") else None


def first_steps(estimator: Any) -> Iterator[Any]:
    """Yield the estimators that the input of a Pipeline or FeatureUnion goes to."""
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
        for step in steps[:1]:
            yield from first_steps(step)
    elif isinstance(estimator, FeatureUnion):
        for _, part in estimator.transformer_list:
            if part != "drop":
                yield from first_steps(part)
    else:
        yield estimator


def input_kind(estimator: Any) -> str | None:
    """Return what kind of samples an estimator takes, as its tags have it.

    Parameters
    ----------
    estimator : estimator
        An estimator of one step, or a Pipeline or FeatureUnion.

    Returns
    -------
    kind : {"images", "raw images", "sequences", "raw sequences", "raw"} or None
        None if the first steps have no such tags, or different ones; "raw" if all of them
        take images or frames of any sizes, alone if they take images and sequences.
    """
    kinds = {_kind_of(step) for step in first_steps(estimator)}
    if len(kinds) > 1:
        kinds = {kind.removeprefix("raw ") for kind in kinds if kind}
    return kinds.pop() if len(kinds) == 1 else None


def _kind_of(step: Any) -> str | None:
    tags = getattr(_tags_of(step), "input_tags", None)
    if not isinstance(tags, InputTags):
        return None
    kinds = [kind for kind in ("images", "sequences") if getattr(tags, kind)]
    kind = kinds[0] if len(kinds) == 1 else ""
    return f"raw {kind}".strip() if tags.raw_sizes else kind or None


def is_stateless(transformer: Any) -> bool:
    """Return whether a transformer learns nothing but the shape of a sample.

    It has the tag ``stateless``, or it is frozen.
    """
    if isinstance(transformer, FrozenEstimator):
        return True
    return getattr(_tags_of(transformer), "stateless", False)


# Mixins


class SampleMixin(TransformerMixin):
    """Transformers of samples that are no rows of a table: their tags and their output.

    One rule holds for what ``set_output`` and scikit-learn's configuration ask for: rows
    (n, d) become a data frame, and a list of rows, one array (T_i, d) per sequence,
    becomes a list of data frames. Images, landmarks and sequences of images pass as they
    are. ``_gives`` names the output of a transformer that gives none of the first two.
    """

    _gives: ClassVar[str] = "rows"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the methods that transform."""
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)
        for name in ("transform", "fit_transform"):
            if name in vars(cls):
                setattr(cls, name, _with_tables(vars(cls)[name]))

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set what ``transform`` and ``fit_transform`` return.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            Arrays, or data frames of that package: one for rows, one per sequence for
            sequences of feature vectors. Images and landmarks are arrays all the same.
            None changes nothing.

        Returns
        -------
        self : estimator
        """
        if transform is not None:
            set_output_container(self, transform)
        return self

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Raise an error: the output has no columns.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's interface.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            f"Only feature vectors have names, and {type(self).__name__} gives "
            f"{self._gives}: ask the step that turns them into features."
        )

    def __sklearn_tags__(self) -> Tags:
        return _own_tags(super().__sklearn_tags__())


def _with_tables(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method return tables where they are asked for."""

    @wraps(method)
    def transform(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        output = method(self, X, *args, **kwargs)
        if not hasattr(self, "get_feature_names_out"):
            return output
        if isinstance(output, np.ndarray) and output.ndim == 2:
            return as_table(output, self, X)
        if isinstance(output, list) and all(np.ndim(rows) == 2 for rows in output):
            return [as_table(rows, self, None) for rows in output]
        return output

    return transform


class ImageMixin(SampleMixin):
    """Estimators of images of one size.

    ``depends_on_scale`` is True where the output grows with the gray values.
    """

    depends_on_scale: ClassVar[bool] = False

    image_shape_: tuple[int, ...]

    def _check_images(self, X: Any, *, reset: bool) -> NDArray[Any]:
        """Check images, and learn their shape and scale or compare with those of fit."""
        images = check_images(X)
        if reset:
            self.image_shape_ = images.shape[1:]
            if self.depends_on_scale:
                self.value_scale_ = value_scale_of(images)
        else:
            check_frame_shape(images.shape[1:], self.image_shape_, self)
            # models that were saved by earlier versions have no record of the scale
            check_value_scale(images, getattr(self, "value_scale_", None), self)
        return images

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.images = True
        return tags


class ImageTransformer(ImageMixin):
    """Transformers of images of one size that check, learn and transform in one order.

    A subclass has ``_transform(images)``. It may have ``_learn(images)``, for what fit
    learns beside the shape, and ``_check_parameters(image_shape)``, which raises a
    ValueError for parameters that do not suit the images.
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the images and learn their shape, and what else the class says.

        Parameters
        ----------
        X : array-like of shape (n, h, w) or (n, h, w, 3)
            Images, uint8 or float.
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If the parameters do not suit the images.
        """
        images = self._check_images(X, reset=True)
        self._learn(images)
        self._check_parameters(self.image_shape_)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Transform images.

        Parameters
        ----------
        X : array-like of shape (n, h, w) or (n, h, w, 3)
            Images of the shape seen in fit.

        Returns
        -------
        transformed : ndarray of shape (n, d), (n, h, w) or (n, h, w, 3)
            Features or images, as the class says.

        Raises
        ------
        ValueError
            If the images have another shape than in fit, or are on quite another scale
            and the output depends on it.
        """
        check_is_fitted(self)
        # they may have changed since fit
        validate_parameters(self)
        images = self._check_images(X, reset=False)
        self._check_parameters(self.image_shape_)
        return self._transform(images)

    def _learn(self, images: NDArray[Any]) -> None:
        """Learn what the class learns beside the shape of an image."""

    def _check_parameters(self, image_shape: tuple[int, ...]) -> None:
        """Refuse parameters that do not suit the images."""

    def _transform(self, images: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.stateless = True
        return tags


class RawImageMixin(SampleMixin):
    """Transformers of images of any sizes that learn nothing: fit is not needed."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.stateless = True
        tags.input_tags.images = True
        tags.input_tags.raw_sizes = True
        return tags


class SequenceMixin(SampleMixin):
    """Estimators of sequences, whose frames have one shape."""

    frame_shape_: tuple[int, ...]
    feature_names_in_: NDArray[Any]

    def _check_sequences(self, X: Any, *, reset: bool) -> list[NDArray[Any]]:
        """Check sequences, and learn the shape and names of a frame or compare them."""
        X = as_list(X)
        names = _column_names(X)
        sequences = check_sequences(X)
        if reset:
            self.frame_shape_ = sequences[0].shape[1:]
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            if names is not None:
                self.feature_names_in_ = names
            return sequences
        check_frame_shape(sequences[0].shape[1:], self.frame_shape_, self, kind="frames")
        known = getattr(self, "feature_names_in_", None)
        if names is not None and known is not None and list(names) != list(known):
            place = next(i for i in range(len(names)) if names[i] != known[i])
            raise ValueError(
                f"X has a column {place} named {names[place]!r}, but {type(self).__name__} "
                f"was fitted on {known[place]!r} there: give the columns of fit, in their "
                "order."
            )
        return sequences

    def _names_of_frame(self, input_features: Any) -> list[str]:
        """Return names of a frame's features: those given, those of fit, or x0, x1, …."""
        if len(self.frame_shape_) != 1:
            raise ValueError(
                "Only feature vectors have names; the frames have shape "
                f"{self.frame_shape_}."
            )
        (n_features,) = self.frame_shape_
        unnamed = [f"x{index}" for index in range(n_features)]
        names = list(getattr(self, "feature_names_in_", unnamed))
        if input_features is None:
            return names
        if len(input_features) != n_features:
            raise ValueError(
                f"input_features must name the {n_features} features of a frame, got "
                f"{len(input_features)} names."
            )
        return list(input_features)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sequences = True
        return tags


def _column_names(X: Any) -> NDArray[Any] | None:
    """Return the names of the columns, if the sequences are data frames."""
    first = X[0] if isinstance(X, list) and X else None
    columns = getattr(first, "columns", None)
    if columns is None or not all(isinstance(name, str) for name in columns):
        return None
    return np.asarray(columns, dtype=object)
