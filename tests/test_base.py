import numpy as np
import pytest
import sklearn.utils
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from ferpipe import (
    CLAHE,
    CandideFitter,
    FaceAligner,
    HOGFeatures,
    ImageNetwork,
    LandmarkPredictor,
    LBPFeatures,
    PerFrame,
    PixelNormalizer,
)
from ferpipe._base import input_kind, is_stateless


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


def test_a_fitted_candide_fitter_takes_what_it_was_fitted_on():
    fitter = CandideFitter(detector=None)
    faces = np.random.default_rng(0).integers(0, 255, (2, 48, 48), dtype=np.uint8)
    assert input_kind(fitter) == "raw"
    assert input_kind(fitter.fit(faces)) == "raw images"
    assert input_kind(fitter.fit([faces])) == "raw sequences"


@pytest.mark.parametrize(
    ("transformer", "expected"),
    [
        (HOGFeatures(), True),
        (PerFrame(HOGFeatures()), True),
        (PerFrame(StandardScaler()), False),
        (FaceAligner(), True),
        (CLAHE(), True),
        (PixelNormalizer(), False),
        (ImageNetwork(), False),
        (FrozenEstimator(StandardScaler()), True),
        # scikit-learn hands a part of the last step's tags on to a Pipeline
        (make_pipeline(StandardScaler(), HOGFeatures()), False),
        ("passthrough", False),
        (None, False),
    ],
)
def test_what_learns_nothing_but_a_shape_is_stateless(transformer, expected):
    assert is_stateless(transformer) is expected


@pytest.mark.parametrize(
    "transformer",
    [FaceAligner(16, detector=None), LandmarkPredictor(detector=None), CLAHE()],
)
def test_images_and_landmarks_pass_by_set_output(transformer):
    faces = np.random.default_rng(0).integers(0, 255, (2, 48, 48), dtype=np.uint8)
    expected = clone(transformer).fit_transform(faces)
    for alone in (transformer, make_pipeline(transformer)):
        output = alone.set_output(transform="pandas").fit_transform(faces)
        assert isinstance(output, np.ndarray)
        np.testing.assert_array_equal(output, expected)


def test_own_tags_are_tags_of_scikit_learn():
    tags = get_tags(FrozenEstimator(PerFrame(FaceAligner())))
    assert isinstance(tags, sklearn.utils.Tags)
    assert isinstance(tags.input_tags, sklearn.utils.InputTags)
    assert tags.stateless
    assert tags.input_tags.sequences
    assert tags.input_tags.raw_sizes
    assert not tags.input_tags.images
