import os
from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut, coffee
from skimage.transform import resize
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from ferpipe import FaceAligner, HOGFeatures, LandmarkPredictor, PerFrame
from ferpipe.faces.alignment import TEMPLATES, align_face, eye_transform
from ferpipe.faces.landmark_points import eye_centers
from ferpipe.geometry import similarity, transform_points, warp

FACE, NO_FACE = astronaut(), coffee()


def eyes_in(crop):
    landmarks = LandmarkPredictor(detector=None).transform([crop])[0]
    return eye_centers(landmarks)


# The transform


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_are_level_and_symmetrical(template):
    (left, height), (right, other) = TEMPLATES[template]
    assert height == other
    assert left + right == pytest.approx(1)
    assert 0.2 < left < 0.4
    assert 0.25 < height < 0.5


def test_eyes_come_to_their_places():
    eyes = np.array([[100.0, 80.0], [130.0, 95.0]])
    matrix = eye_transform(eyes, 48, ((0.25, 0.4), (0.75, 0.4)))
    # 0.25 of 48 pixels from the left edge of the first pixel, whose center is 0
    np.testing.assert_allclose(
        transform_points(matrix, eyes), [[11.5, 18.7], [35.5, 18.7]], atol=1e-9
    )
    assert np.linalg.det(matrix[:, :2]) > 0


def test_margin_adds_room_on_every_side():
    eyes = np.array([[100.0, 80.0], [130.0, 95.0]])
    tight = eye_transform(eyes, 100, "fer2013")
    wide = eye_transform(eyes, 150, "fer2013", margin=0.25)
    # the same scale: 100 pixels and 25 more on every side
    np.testing.assert_allclose(wide[:, :2], tight[:, :2])
    np.testing.assert_allclose(wide[:, 2], tight[:, 2] + 25)


def test_mask_blackens_what_is_outside_the_hull():
    image = np.full((40, 40, 3), 200, np.uint8)
    corners = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 25.0], [10.0, 25.0], [20, 20]])
    crop = align_face(image, similarity(1, 0, (0, 0), (0, 0)), 40, landmarks=corners)
    inside = np.zeros((40, 40), bool)
    inside[10:26, 10:31] = True
    assert (crop[inside] == 200).all()
    assert (crop[~inside] == 0).all()


# The estimator


@pytest.fixture(scope="module")
def crop():
    return FaceAligner(96).transform([FACE])[0]


def test_crops_have_the_eyes_of_the_template(crop):
    expected = 96 * np.array(TEMPLATES["fer2013"]) - 0.5
    assert crop.shape == (96, 96)
    assert crop.dtype == np.uint8
    distance = expected[1, 0] - expected[0, 0]
    assert np.abs(eyes_in(crop) - expected).max() < 0.05 * distance


def test_any_sizes_and_kinds_of_images(crop):
    images = [FACE, FACE[:300, 50:400], (FACE / 255).tolist(), FACE[..., 1]]
    crops = FaceAligner(96).fit_transform(images)
    np.testing.assert_array_equal(crops[0], crop)
    np.testing.assert_array_equal(crops[2], crop)
    for other in crops:
        assert np.abs(other.astype(float) - crop).mean() < 16


def test_dense_arrays_are_images_too(crop):
    crops = FaceAligner(96).transform(np.stack([FACE, FACE]))
    np.testing.assert_array_equal(crops, [crop, crop])


@pytest.mark.parametrize("degrees", [-30, -20, -10, 10, 20, 30])
def test_a_turned_face_gives_the_same_crop(crop, degrees):
    turned = warp(
        FACE, similarity(1, np.deg2rad(degrees), (224, 122), (256, 256)), (512, 512)
    )
    (found,) = FaceAligner(96).transform([turned])
    # of 255 gray values; within 3 % of the distance of the eyes
    assert np.abs(found[10:86, 10:86].astype(float) - crop[10:86, 10:86]).mean() < 10
    distance = 96 * (TEMPLATES["fer2013"][1][0] - TEMPLATES["fer2013"][0][0])
    assert np.abs(eyes_in(found) - eyes_in(crop)).max() < 0.04 * distance


def test_color_margin_mask_and_template(crop):
    color = FaceAligner(96, color=True).transform([FACE, FACE[..., 0]])
    assert color.shape == (2, 96, 96, 3)
    luma = color[0] @ [0.299, 0.587, 0.114]
    assert np.abs(luma - crop).max() <= 2
    assert (color[1][..., 0] == color[1][..., 2]).all()
    wide = FaceAligner(144, margin=0.25).transform([FACE])[0]
    assert np.abs(wide[24:120, 24:120].astype(float) - crop).mean() < 3
    masked = FaceAligner(96, mask=True).transform([FACE])[0]
    assert (masked[:5] == 0).all()
    assert (masked[45:70, 35:60] == crop[45:70, 35:60]).all()
    assert 0.3 < (masked > 0).mean() < 0.95
    moved = FaceAligner(96, template=[(0.4, 0.3), (0.6, 0.3)]).transform([FACE])[0]
    assert np.abs(moved.astype(float) - crop).mean() > 10


def test_missing_raise_names_the_images():
    with pytest.raises(ValueError, match=r"in 1 of 2 images: X\[1\]"):
        FaceAligner().transform([FACE, NO_FACE])


def test_missing_nan(crop):
    crops = FaceAligner(96, missing="nan").transform([NO_FACE, FACE])
    assert crops.dtype == np.float32
    assert np.isnan(crops[0]).all()
    np.testing.assert_array_equal(crops[1], crop)


def test_missing_center(crop):
    crops = FaceAligner(96, missing="center", mask=True).transform([NO_FACE, FACE])
    assert crops.dtype == np.uint8
    height, width = NO_FACE.shape[:2]
    left = (width - height) // 2
    square = NO_FACE[:, left : left + height] @ (0.299, 0.587, 0.114)
    expected = resize(square, (96, 96), anti_aliasing=True)
    assert np.abs(crops[0] - expected).mean() < 2


def test_locate_tells_boxes_landmarks_and_transforms(crop):
    aligner = FaceAligner(96)
    found = aligner.locate([FACE, NO_FACE])
    assert found.boxes.shape == (2, 4)
    assert found.landmarks.shape == (2, 68, 2)
    assert found.transforms.shape == (2, 2, 3)
    assert np.isnan(found.transforms[1]).all()
    places = transform_points(found.transforms[0], eye_centers(found.landmarks[0]))
    np.testing.assert_allclose(places, 96 * np.array(TEMPLATES["fer2013"]) - 0.5, atol=1e-6)
    assert set(vars(aligner)) == set(aligner.get_params())  # nothing is kept


def test_crops_go_straight_into_a_pipeline():
    flipped = np.ascontiguousarray(FACE[:, ::-1])
    model = make_pipeline(FaceAligner(), HOGFeatures(), KNeighborsClassifier(1))
    model.set_output(transform="pandas")
    images = [FACE, flipped[:400], FACE[:400], flipped]
    model.fit(images[:2], ["happiness", "other"])
    assert model.predict(images[2:]).tolist() == ["happiness", "other"]


def test_frames_of_clips_are_aligned_one_by_one(crop):
    clips = [[FACE, FACE[:400]], [FACE[:, :400]] * 3]
    aligned = PerFrame(FaceAligner(96)).fit_transform(clips)
    assert [len(frames) for frames in aligned] == [2, 3]
    for frames in aligned:
        for frame in frames:
            np.testing.assert_allclose(eyes_in(frame), eyes_in(crop), atol=1.5)
    clips[1][2] = NO_FACE
    with pytest.raises(ValueError, match=r"1 of 5 images: frame 2 of X\[1\]\. "):
        PerFrame(make_pipeline(FaceAligner(), HOGFeatures())).fit(clips)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("fer", "template"),
        ([0.3, 0.4], "positions of both eyes"),
        ([(0.7, 0.4), (0.3, 0.4)], "subject's right eye"),
        ([(0.7, np.nan), (0.3, 0.4)], "positions of both eyes"),
    ],
)
def test_wrong_templates(template, message):
    with pytest.raises(ValueError, match=message):
        FaceAligner(template=template).fit([FACE])


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "X is empty"),
        (FACE[..., 0], ValueError, r"A single image i goes in as \[i\]"),
        (["a.png"], TypeError, r"X\[0\] must hold numbers.*read_image"),
        (np.array(["a.png", "b.png"]), TypeError, "must hold numbers"),
        ([np.zeros((1, 1), np.uint8)], ValueError, "No face was found in 1 of 1"),
    ],
)
def test_wrong_images(images, error, message):
    with pytest.raises(error, match=message):
        FaceAligner().transform(images)


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set")
def test_video_frames_without_a_face():
    from ferpipe import read_frames

    path = Path(os.environ["FERPIPE_DATA"], "media", "face_noface.mov")
    frames = [frame for _, frame in read_frames(path)][::12]
    crops = FaceAligner(missing="nan", n_jobs=2).transform(frames)
    gone = np.isnan(crops).all(axis=(1, 2))
    # the face is there first and then gone for good
    assert 4 < gone.argmax() < 8
    assert gone[gone.argmax() :].all()
    assert not gone[: gone.argmax()].any()
