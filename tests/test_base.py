import pytest
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from ferpipe import FaceAligner, HOGFeatures, LBPFeatures, PerFrame
from ferpipe._base import input_kind


def union(**parts):
    return FeatureUnion(list(parts.items()))


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (HOGFeatures(), "images"),
        (make_pipeline("passthrough", HOGFeatures(), StandardScaler()), "images"),
        (PerFrame(HOGFeatures()), "sequences"),
        (union(a=HOGFeatures(), b=make_pipeline(LBPFeatures())), "images"),
        (union(a=HOGFeatures(), b=PerFrame(HOGFeatures())), None),
        # a part that is left out takes nothing
        (union(a=HOGFeatures(), b="drop"), "images"),
        (union(a="drop", b=PerFrame(FaceAligner())), "raw sequences"),
        (StandardScaler(), None),
    ],
)
def test_the_first_steps_say_what_is_taken(estimator, kind):
    assert input_kind(estimator) == kind
