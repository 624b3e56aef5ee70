import numpy as np
import pytest
from wireframe_faces import MODEL, PRIOR, Oracle, project_visible, sample_faces

from ferpipe.candide.optimizer import fit_objective, start_in_box
from ferpipe.candide.prior import unit_limits
from ferpipe.candide.visible_points import (
    visible_points,
)
from ferpipe.faces.landmarks import load_model
from ferpipe.geometry import fit_similarity, transform_points


@pytest.fixture(scope="module")
def facts():
    return load_model("ferpipe")


def test_mean_face_is_placed_in_the_box(facts):
    parameters = start_in_box(MODEL, PRIOR, (60, 50, 100, 100), 0.0, facts)
    assert parameters.shape == (len(MODEL.parameter_names),)
    points = project_visible(parameters)
    _, mean = visible_points(MODEL, facts.mean_shape)
    placement = fit_similarity(mean, points)
    np.testing.assert_allclose(
        transform_points(placement, facts.box_center), (109.5, 99.5), atol=1
    )
    assert 100 / placement[0, 0] == pytest.approx(facts.box_width, rel=0.02)
    turned = start_in_box(MODEL, PRIOR, (60, 50, 100, 100), 0.4, facts)
    assert parameters[2] - turned[2] == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("across_only", [False, True])
def test_faces_are_found_where_the_objective_wants_them(across_only):
    true, points = sample_faces(4, 5)
    image = np.zeros((240, 240), np.uint8)
    for one, parameters in zip(points, true, strict=True):
        pose = parameters[:6] + np.array([0, 0, 0.1, 5, 8, -6])
        start = np.r_[pose, PRIOR.mean]
        oracle = Oracle(one, across_only=across_only)
        found, off = fit_objective(MODEL, PRIOR, oracle, image, start)
        away, before = (
            np.linalg.norm(project_visible(p) - one, axis=1).mean() / parameters[3]
            for p in (found, start)
        )
        assert before > 0.1
        assert away < (0.04 if across_only else 0.015)
        assert off < 0.02
        assert oracle.stages[0] == 0
        assert oracle.stages[-1] == 1


def test_limits_are_kept():
    true, points = sample_faces(1, 6)
    limits = unit_limits(MODEL, PRIOR)
    limits[:, -65:] = [[-0.01], [0.01]]
    start = np.r_[true[0, :6], PRIOR.mean]
    image = np.zeros((240, 240), np.uint8)
    found, off = fit_objective(MODEL, PRIOR, Oracle(points[0]), image, start, limits=limits)
    assert (np.abs(found[-65:]) <= 0.01).all()
    free, off_free = fit_objective(MODEL, PRIOR, Oracle(points[0]), image, start)
    assert np.abs(free[-65:]).max() > 0.05
    assert off > 1.5 * off_free


def test_fits_that_stand_still_look_no_more():
    start = np.r_[0, 0, 0, 60, 120, 120, PRIOR.mean]
    oracle = Oracle(project_visible(start))
    image = np.zeros((240, 240), np.uint8)
    found, off = fit_objective(MODEL, PRIOR, oracle, image, start)
    np.testing.assert_allclose(found, start, atol=0.01)
    assert off < 1e-3
    assert oracle.stages == [0, 1]
    oracle.stages.clear()
    fit_objective(MODEL, PRIOR, oracle, image, start, first_stage=1)
    fit_objective(MODEL, PRIOR, oracle, image, start, first_stage=7)
    assert oracle.stages == [1, 1]
