import numpy as np
import pytest

from ferpipe.candide.model import POSE_NAMES, CandideModel

N, N_SHAPE, N_ANIMATION = 5, 2, 3


def parts(rng=None, n_shape=N_SHAPE, n_animation=N_ANIMATION):
    rng = np.random.default_rng(0) if rng is None else rng
    return {
        "vertices": rng.normal(size=(N, 3)),
        "triangles": np.array([[0, 1, 2], [2, 3, 4]]),
        "shape_units": rng.normal(size=(n_shape, N, 3)),
        "animation_units": rng.normal(size=(n_animation, N, 3)),
        "shape_names": tuple(f"who {index}" for index in range(n_shape)),
        "animation_names": tuple(f"what {index}" for index in range(n_animation)),
    }


@pytest.fixture
def model():
    return CandideModel(**parts())


def looped_shape(model, sigma, alpha):
    vertices = model.vertices.copy()
    for weight, unit in zip(sigma, model.shape_units, strict=True):
        vertices += weight * unit
    for weight, unit in zip(alpha, model.animation_units, strict=True):
        vertices += weight * unit
    return vertices


# Faces


def test_the_rest_shape_is_that_of_parameters_0(model):
    shape = model.shape(np.zeros(N_SHAPE), [0] * N_ANIMATION)
    np.testing.assert_array_equal(shape, model.vertices)


def test_a_face_is_the_rest_shape_and_its_units(model):
    rng = np.random.default_rng(1)
    sigma, alpha = rng.normal(size=(4, 6, N_SHAPE)), rng.normal(size=(4, 6, N_ANIMATION))
    shapes = model.shape(sigma, alpha)
    assert shapes.shape == (4, 6, N, 3)
    for index in np.ndindex(4, 6):
        expected = looped_shape(model, sigma[index], alpha[index])
        np.testing.assert_allclose(shapes[index], expected, atol=1e-12)
        alone = model.shape(sigma[index], alpha[index])
        np.testing.assert_allclose(alone, expected, atol=1e-12)


def test_one_person_with_many_actions(model):
    rng = np.random.default_rng(2)
    sigma, alpha = rng.normal(size=N_SHAPE), rng.normal(size=(7, N_ANIMATION))
    expected = [looped_shape(model, sigma, one) for one in alpha]
    np.testing.assert_allclose(model.shape(sigma, alpha), expected, atol=1e-12)


def test_no_faces(model):
    none = model.shape(np.empty((0, N_SHAPE)), np.empty((0, N_ANIMATION)))
    assert none.shape == (0, N, 3)


@pytest.mark.parametrize(("n_shape", "n_animation"), [(0, 3), (2, 0), (0, 0)])
def test_models_without_units_of_a_kind(n_shape, n_animation):
    model = CandideModel(**parts(n_shape=n_shape, n_animation=n_animation))
    sigma, alpha = np.ones((4, n_shape)), np.ones((4, n_animation))
    expected = looped_shape(model, sigma[0], alpha[0])
    np.testing.assert_allclose(model.shape(sigma, alpha), [expected] * 4, atol=1e-12)
    pose, who, what = model.split(np.zeros((4, 6 + n_shape + n_animation)))
    assert (pose.shape, who.shape, what.shape) == ((4, 6), (4, n_shape), (4, n_animation))


# Parameters


def test_parameters_are_pose_then_shape_then_animation(model):
    assert POSE_NAMES == ("rx", "ry", "rz", "s", "tx", "ty")
    expected = (*POSE_NAMES, "who 0", "who 1", "what 0", "what 1", "what 2")
    assert model.parameter_names == expected


def test_split_follows_the_names(model):
    parameters = np.arange(2 * 3 * 11.0).reshape(2, 3, 11)
    pose, sigma, alpha = model.split(parameters)
    np.testing.assert_array_equal(pose, parameters[:, :, [0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(sigma, parameters[:, :, [6, 7]])
    np.testing.assert_array_equal(alpha, parameters[:, :, [8, 9, 10]])
    for part in (pose, sigma, alpha):
        assert np.shares_memory(part, parameters)


@pytest.mark.parametrize("n", [0, 6, 10, 12])
def test_parameters_of_another_model_are_refused(model, n):
    message = (
        r"has 11 parameters \(6 of the pose, 2 shape units and 3 animation units\), "
        rf"got {n}:"
    )
    with pytest.raises(ValueError, match=message):
        model.split(np.zeros((11, n)))


# What is no model


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("vertices", np.zeros((N, 2))),
        ("vertices", np.zeros(N)),
        ("triangles", np.zeros((4, 2), int)),
        ("triangles", np.zeros(3, int)),
        ("shape_units", np.zeros((N_SHAPE, N + 1, 3))),
        ("shape_units", np.zeros((N_SHAPE + 1, N, 3))),
        ("shape_units", np.zeros((N_SHAPE, 3 * N))),
        ("animation_units", np.zeros((N_ANIMATION, N - 1, 3))),
        ("animation_units", np.zeros((N_ANIMATION - 1, N, 3))),
        ("animation_units", np.zeros((N_ANIMATION, N, 2))),
    ],
)
def test_arrays_of_the_wrong_shape_are_named(name, wrong):
    with pytest.raises(ValueError, match=f"^{name} must have the shape "):
        CandideModel(**parts() | {name: wrong})


@pytest.mark.parametrize("name", ["shape_names", "animation_names"])
def test_every_unit_needs_a_name(name):
    units = name.replace("names", "units")
    with pytest.raises(ValueError, match=f"^{units} must have the shape "):
        CandideModel(**parts() | {name: ("only this",)})


@pytest.mark.parametrize("corner", [-1, N, 99])
def test_triangles_of_vertices_that_are_not_there_are_refused(corner):
    triangles = np.array([[0, 1, 2], [2, 3, corner]])
    with pytest.raises(ValueError, match=r"triangles must hold indices .*, 0 to 4"):
        CandideModel(**parts() | {"triangles": triangles})


def test_the_first_and_the_last_vertex_may_be_corners_and_triangles_lack():
    first_and_last = np.array([[0, 1, N - 1]])
    assert len(CandideModel(**parts() | {"triangles": first_and_last}).triangles) == 1
    none = np.zeros((0, 3), int)
    assert len(CandideModel(**parts() | {"triangles": none}).triangles) == 0
