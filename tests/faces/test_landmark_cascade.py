import os
from pathlib import Path

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.data import astronaut

from ferpipe.datasets import read_pts
from ferpipe.faces.detection import Face, find_face
from ferpipe.faces.landmark_cascade import (
    CROP_SIDE,
    CropPlacer,
    crop_transform,
    place_in_box,
)
from ferpipe.faces.landmark_points import (
    MIRRORED,
    eye_centers,
    outer_eye_distance,
)
from ferpipe.faces.landmarks import load_model
from ferpipe.geometry import fit_similarity, similarity, transform_points, warp

GRAY = np.rint(255 * rgb2gray(astronaut())).astype(np.uint8)
# set by hand on skimage's astronaut
PUPILS = np.array([[203.2, 100.8], [246.5, 103.7]])
NOSE_TIP, MOUTH = np.array([225.8, 126.7]), np.array([224.2, 145.0])


@pytest.fixture(scope="module")
def cascade():
    return load_model("ferpipe")


@pytest.fixture(scope="module")
def landmarks(cascade):
    return cascade.predict(GRAY, find_face(GRAY).box)


def error(found, expected):
    """Mean distance, in outer eye distances."""
    distance = np.linalg.norm(found - expected, axis=-1)
    return distance.mean() / outer_eye_distance(expected)


def test_crop_holds_the_mean_face_in_its_middle(cascade):
    mean_shape = cascade.mean_shape
    placement = similarity(40, 0.3, (0, 0), (200, 150))
    matrix = crop_transform(placement, mean_shape, 96)
    points = transform_points(matrix, transform_points(placement, mean_shape))
    np.testing.assert_allclose((points.min(0) + points.max(0)) / 2, (47.5, 47.5))
    assert outer_eye_distance(points) == pytest.approx(96 / CROP_SIDE)
    assert points[36, 1] == pytest.approx(points[45, 1])


def test_place_in_box_puts_the_box_where_boxes_are(cascade):
    box = (100, 50, 80, 80)
    placement = place_in_box(box, 0.2, cascade.mean_shape, 1.7, (0.0, -0.1))
    center = transform_points(placement, np.array([0.0, -0.1]))
    np.testing.assert_allclose(center, (139.5, 89.5))
    shape = transform_points(placement, cascade.mean_shape)
    assert outer_eye_distance(shape) == pytest.approx(80 / 1.7)
    across = shape[45] - shape[36]
    assert np.arctan2(across[1], across[0]) == pytest.approx(0.2)


def test_mean_shape_is_symmetrical_and_in_its_own_frame(cascade):
    shape = cascade.mean_shape
    np.testing.assert_allclose(shape[MIRRORED], shape * (-1, 1), atol=1e-5)
    assert outer_eye_distance(shape) == pytest.approx(1, abs=1e-5)


def test_points_lie_where_the_face_has_them(landmarks):
    unit = outer_eye_distance(landmarks)
    assert np.abs(eye_centers(landmarks) - PUPILS).max() < 0.06 * unit
    assert np.abs(landmarks[30] - NOSE_TIP).max() < 0.1 * unit
    assert np.abs(landmarks[[62, 66]].mean(0) - MOUTH).max() < 0.1 * unit


@pytest.mark.parametrize(
    ("scale", "degrees"), [(1, 0), (0.8, 0), (2, 0), (4, 0), (1.5, 15), (1.5, -25)]
)
def test_points_follow_the_image(cascade, landmarks, scale, degrees):
    side = round(512 * scale)
    center = (side / 2, side / 2)
    place = similarity(scale, np.deg2rad(degrees), (256, 200), center)
    moved = warp(GRAY, place, (side, side))
    face = find_face(moved)
    found = cascade.predict(moved, face.box, face.angle)
    assert error(found, transform_points(place, landmarks)) < 0.03


def test_points_of_a_mirrored_face_are_mirrored(cascade, landmarks):
    mirrored = np.ascontiguousarray(GRAY[:, ::-1])
    found = cascade.predict(mirrored, find_face(mirrored).box)
    expected = (landmarks * (-1, 1) + (511, 0))[MIRRORED]
    assert error(found, expected) < 0.03


def test_refining_stays_and_comes_back(cascade, landmarks):
    assert error(cascade.refine(GRAY, landmarks), landmarks) < 0.02
    unit = outer_eye_distance(landmarks)
    moved = landmarks + 0.05 * unit * np.array([1, -1])
    assert error(cascade.refine(GRAY, moved), landmarks) < 0.025


def test_points_near_the_border_are_still_found(cascade):
    # a face that fills its image: the crop looks beyond the border
    part = GRAY[60:170, 165:285]
    whole = cascade.predict(GRAY, find_face(GRAY).box)
    found = cascade.predict(part, find_face(part).box)
    assert error(found, whole - (165, 60)) < 0.06


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set")
def test_shipped_networks_fit_the_faces_that_they_were_trained_on(cascade):
    # no score (that is in the card): it shows that the files are whole and used rightly
    from ferpipe.io.images import read_image

    folder = Path(os.environ["FERPIPE_DATA"], "faces68")
    errors = []
    for points_file in sorted(folder.glob("*.pts"))[::40]:
        image = read_image(points_file.with_suffix(".jpg"))
        face = find_face(image)
        if face is not None:
            found = cascade.predict(image, face.box, face.angle)
            errors.append(error(found, read_pts(points_file)))
    assert len(errors) > 20
    assert np.mean(errors) < 0.035


@pytest.mark.parametrize("degrees", [0, 20, -30])
def test_box_of_points_is_where_the_detector_has_it(cascade, landmarks, degrees):
    turn = similarity(1, np.deg2rad(degrees), (256, 256), (256, 256))
    (x, y, width, height), angle = cascade.box_of(transform_points(turn, landmarks))
    _, upright = cascade.box_of(landmarks)
    assert angle - upright == pytest.approx(np.deg2rad(degrees))
    expected = find_face(GRAY).box
    assert width == height == pytest.approx(expected[2], rel=0.15)
    center = transform_points(turn, np.array(expected[:2]) + expected[2] / 2)
    np.testing.assert_allclose((x + width / 2, y + width / 2), center, atol=0.1 * width)


def test_finds_are_scored_again(cascade, landmarks):
    face = find_face(GRAY)
    turned = similarity(1, np.deg2rad(30), (256, 256), (256, 256))
    image = warp(GRAY, turned, GRAY.shape)
    x, y, width, _ = face.box
    beside = Face((x + 1.5 * width, y + width, width, width), face.score)
    assert cascade.rescore(GRAY, face) == pytest.approx(face.score, abs=1)
    # scored as if it stood upright
    box, angle = cascade.box_of(transform_points(turned, landmarks))
    again = cascade.rescore(image, Face(box, 0.0, angle))
    assert again == pytest.approx(cascade.rescore(GRAY, face), abs=0.5)
    assert cascade.rescore(GRAY, beside) < -0.5


def test_placer_frames_as_the_fitted_similarity_does():
    rng = np.random.default_rng(0)
    mean_shape = load_model("ferpipe").mean_shape
    for chosen in (slice(None), slice(17, 60, 3)):
        placer = CropPlacer(mean_shape[chosen], mean_shape, 96)
        matrix = similarity(80, 0.4, (0, 0), (120, 90))
        points = transform_points(matrix, mean_shape) + rng.normal(0, 2, mean_shape.shape)
        placement = fit_similarity(mean_shape[chosen], points[chosen])
        expected = crop_transform(placement, mean_shape, 96)
        np.testing.assert_allclose(placer(points[chosen]), expected, atol=1e-9)
