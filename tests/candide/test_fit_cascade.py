import numpy as np
import pytest
from skimage.data import astronaut, coffee

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import mirror_parameters, project, rotation_matrix
from ferpipe.candide.fit_cascade import load_own_cascade, parameters_in
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.detection import find_face
from ferpipe.faces.landmark_points import outer_eye_distance
from ferpipe.faces.landmarks import central_face, load_model
from ferpipe.geometry import similarity, transform_points, warp
from ferpipe.io.images import read_image
from ferpipe.synthesis.render import random_appearance, render_faces

PHOTO = read_image(astronaut())


@pytest.fixture(scope="module")
def cascade():
    return load_own_cascade()


@pytest.fixture(scope="module")
def face():
    return find_face(PHOTO)


@pytest.fixture(scope="module")
def drawn():
    """Return pictures of people who were never drawn before, and the truth about them."""
    model, prior = load_calibrated()
    rng = np.random.default_rng(987)
    parameters = np.zeros((12, len(model.parameter_names)))
    pose, sigma, alpha = model.split(parameters)
    pose[:, :3] = rng.normal(0, (0.1, 0.25, 0.1), (12, 3))
    pose[:, 3:] = 42, 64, 54
    sigma[:] = rng.multivariate_normal(prior.mean[:14], prior.covariance[:14, :14], 12)
    smiles = [model.animation_names.index(f"AU12_{side}") for side in ("left", "right")]
    alpha[::2, smiles] = 0.9
    looks = [random_appearance(rng) for _ in parameters]
    return render_faces(model, parameters, looks, 128), parameters


def angle_between(one, other):
    turned = rotation_matrix(one[:3]).T @ rotation_matrix(other[:3])
    return np.degrees(np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1)))


def test_parameters_in_another_image_project_where_its_points_are():
    model, _ = load_calibrated()
    rng = np.random.default_rng(0)
    parameters = np.r_[0.2, -0.4, 0.3, 50, 60, 70, rng.normal(0, 0.3, 79)]
    matrix = similarity(0.7, 0.6, (10, 20), (31, 18))
    there = parameters_in(matrix, parameters)
    pose, sigma, alpha = model.split(parameters)
    shape = model.shape(sigma, alpha)
    expected = transform_points(matrix, project(shape, pose))
    np.testing.assert_allclose(project(shape, there[:6]), expected, atol=1e-9)
    np.testing.assert_array_equal(there[6:], parameters[6:])


def test_the_wireframe_lies_on_a_face(cascade, face):
    parameters, quality = cascade.predict(PHOTO, face.box, face.angle)
    pose, sigma, alpha = cascade.model.split(parameters)
    shown = project(cascade.model.shape(sigma, alpha)[cascade.vertices], pose)
    landmarks = load_model("ferpipe").predict(PHOTO, face.box)
    _, points = visible_points(cascade.model, landmarks)
    off = np.linalg.norm(shown - points, axis=1).mean()
    assert off < 0.05 * outer_eye_distance(landmarks)
    assert quality > 0.7


def test_drawn_people_are_recovered(cascade, drawn):
    images, truth = drawn
    fits = []
    for image in images:
        face = find_face(image) or central_face(image)
        fits.append(cascade.predict(image, face.box, face.angle)[0])
    angles = [angle_between(one, other) for one, other in zip(truth, fits, strict=True)]
    assert np.median(angles) < 4
    smiles = [cascade.model.parameter_names.index(f"AU12_{s}") for s in ("left", "right")]
    found = np.array(fits)[:, smiles].mean(1)
    assert found[::2].min() > found[1::2].max()


def test_where_it_starts_from_hardly_matters(cascade, face):
    parameters, _ = cascade.predict(PHOTO, face.box)
    again, _ = cascade.refine(PHOTO, parameters)
    landmarks = load_model("ferpipe").predict(PHOTO, face.box)
    from_landmarks, _ = cascade.from_landmarks(PHOTO, landmarks)
    shifted = parameters + np.r_[0, 0, 0.1, 0.05 * parameters[3], 4, -4, np.zeros(79)]
    from_shifted, _ = cascade.refine(PHOTO, shifted)
    for other in (again, from_landmarks, from_shifted):
        assert angle_between(parameters, other) < 4
        assert np.abs(other[4:6] - parameters[4:6]).max() < 0.04 * parameters[3]
        assert np.corrcoef(other[6:], parameters[6:])[0, 1] > 0.9


def test_a_mirrored_photo_gives_mirrored_parameters(cascade, face):
    x, y, width, height = face.box
    parameters, _ = cascade.predict(PHOTO, face.box)
    box = (PHOTO.shape[1] - x - width, y, width, height)
    other, _ = cascade.predict(np.ascontiguousarray(PHOTO[:, ::-1]), box)
    back = mirror_parameters(cascade.model, other, PHOTO.shape[1])
    assert angle_between(parameters, back) < 4
    assert np.abs(back[4:6] - parameters[4:6]).max() < 0.05 * parameters[3]
    assert np.corrcoef(back[6:], parameters[6:])[0, 1] > 0.9


@pytest.mark.parametrize("size", [48, 96, 256])
def test_the_size_of_the_picture_hardly_matters(cascade, face, size):
    x, y, width, _ = face.box
    corner, side = (x - 0.4 * width, y - 0.5 * width), 1.8 * width
    matrix = similarity(size / side, 0, corner, (0, 0))
    small = warp(PHOTO, matrix, (size, size))
    box = (*transform_points(matrix, np.array([x, y])), *2 * (width * size / side,))
    whole, _ = cascade.predict(PHOTO, face.box)
    part, _ = cascade.predict(small, box)
    assert angle_between(whole, part) < 5
    assert part[3] == pytest.approx(whole[3] * size / side, rel=0.05)
    assert np.corrcoef(whole[6:], part[6:])[0, 1] > 0.8


def test_quality_is_low_where_there_is_no_face(cascade, face):
    _, on_face = cascade.predict(PHOTO, face.box)
    noise = np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)
    for image in (noise, np.full((128, 128), 90, np.uint8), read_image(coffee())):
        parameters, quality = cascade.predict(image, central_face(image).box)
        assert np.isfinite(parameters).all()
        assert 0 <= quality < on_face - 0.15


def test_a_known_person_changes_shape_alone(cascade, face):
    parameters, _ = cascade.predict(PHOTO, face.box)
    there = cascade.with_shape(PHOTO, parameters, np.zeros(14))
    np.testing.assert_array_equal(there[6:20], 0)
    np.testing.assert_array_equal(there[:6], parameters[:6])
    np.testing.assert_array_equal(there[20:], parameters[20:])
