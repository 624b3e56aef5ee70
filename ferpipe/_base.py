"""What kind of data an estimator takes, found at the first steps of a pipeline."""

from collections.abc import Iterator
from typing import Any

from sklearn.pipeline import FeatureUnion, Pipeline

__all__ = ["first_steps", "input_kind"]


def first_steps(estimator) -> Iterator[Any]:
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


def input_kind(estimator):
    """Return what an estimator takes.

    Parameters
    ----------
    estimator : estimator
        An estimator of one step, or a Pipeline or FeatureUnion.

    Returns
    -------
    kind : {"images", "raw images", "sequences", "raw sequences", "raw"} or None
        None when its first steps do not say; "raw" when all of them take images or frames
        of any sizes, alone when they take images and sequences.
    """
    kinds = {getattr(step, "input_kind", None) for step in first_steps(estimator)}
    if len(kinds) > 1:
        kinds = {kind.removeprefix("raw ") for kind in kinds if kind}
    return kinds.pop() if len(kinds) == 1 else None
