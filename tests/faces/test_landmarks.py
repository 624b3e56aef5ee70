import importlib
import sys

import dlib
import numpy as np
import pytest
from skimage.data import astronaut, coffee
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ferpipe import LandmarkPredictor
from ferpipe.faces.detection import find_face
from ferpipe.faces.landmark_points import outer_eye_distance
from ferpipe.faces.landmarks import central_face, load_model
from ferpipe.geometry import similarity, transform_points, warp

FACE, NO_FACE = astronaut(), coffee()


@pytest.fixture(scope="module")
def expected():
    return LandmarkPredictor().transform([FACE])[0]


def error(found, expected):
    distance = np.linalg.norm(found - expected, axis=-1)
    return distance.mean() / outer_eye_distance(expected)


def test_images_of_any_size_color_and_dtype(expected):
    images = [FACE, FACE[:300, 50:400], (FACE / 255).astype(np.float32), FACE[..., 1]]
    landmarks = LandmarkPredictor().fit_transform(images)
    assert landmarks.shape == (4, 68, 2)
    assert landmarks.dtype == np.float64
    np.testing.assert_array_equal(landmarks[0], expected)
    np.testing.assert_array_equal(landmarks[2], expected)
    assert error(landmarks[1] + (50, 0), expected) < 0.03
    assert error(landmarks[3], expected) < 0.03


def test_threads_change_nothing(expected):
    images = [FACE] * 3 + [FACE[:, 20:]]
    one = LandmarkPredictor().transform(images)
    np.testing.assert_array_equal(LandmarkPredictor(n_jobs=2).transform(images), one)


def test_missing_faces_are_named():
    with pytest.raises(
        ValueError, match=r"in 2 of 3 images: X\[0\], X\[2\]\. Leave them out"
    ):
        LandmarkPredictor().transform([NO_FACE, FACE, NO_FACE])
    with pytest.raises(ValueError, match=r"X\[0\], X\[1\], .*, X\[9\] and 2 more"):
        LandmarkPredictor().transform([np.zeros((90, 90))] * 12)


def test_missing_faces_are_nan_or_looked_for_in_the_middle(expected):
    images = [NO_FACE, FACE]
    landmarks = LandmarkPredictor(missing="nan").transform(images)
    assert np.isnan(landmarks[0]).all()
    np.testing.assert_array_equal(landmarks[1], expected)
    landmarks = LandmarkPredictor(missing="center").transform(images)
    np.testing.assert_array_equal(landmarks[1], expected)
    assert np.isfinite(landmarks[0]).all()
    only = LandmarkPredictor(detector=None).transform([NO_FACE])
    np.testing.assert_array_equal(landmarks[0], only[0])


def test_crops_need_no_detector(expected):
    x, y, width, _ = find_face(FACE).box
    side = width / central_face(np.zeros((48, 48))).box[2] * 48
    place = similarity(48 / side, 0, (x + width / 2, y + width / 2), (23.5, 27))
    crop = warp(FACE, place, (48, 48))
    landmarks = LandmarkPredictor(detector=None).transform([crop])[0]
    assert error(landmarks, transform_points(place, expected)) < 0.06


def test_locate_tells_boxes_and_scores(expected):
    found = LandmarkPredictor().locate([FACE, NO_FACE])
    face = find_face(FACE)
    np.testing.assert_array_equal(found.boxes[0], face.box)
    assert found.scores[0] == face.score
    np.testing.assert_array_equal(found.landmarks[0], expected)
    assert np.isnan(found.boxes[1]).all()
    assert np.isnan(found.scores[1])
    assert np.isnan(found.landmarks[1]).all()


def test_progress_is_shown_when_asked_for(capsys):
    LandmarkPredictor(detector=None, verbose=True).transform([FACE] * 2)
    assert "faces: 100%" in capsys.readouterr().err
    LandmarkPredictor(detector=None).transform([FACE])
    assert capsys.readouterr().err == ""


def test_is_a_step_of_a_pipeline_with_table_output():
    flat = FunctionTransformer(lambda landmarks: landmarks.reshape(len(landmarks), -1))
    model = make_pipeline(LandmarkPredictor(detector=None), flat)
    model.set_output(transform="default")
    assert model.fit_transform([FACE, NO_FACE]).shape == (2, 136)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "X is empty"),
        (FACE[..., 0], ValueError, r"A single image i goes in as \[i\]"),
        (["a.png"], TypeError, r"X\[0\] must hold numbers.*read_image"),
        (np.array(["a.png", "b.png"]), TypeError, "must hold numbers"),
        ([FACE, np.zeros((4, 4, 2))], ValueError, r"X\[1\] must have the shape"),
        ([np.full((9, 9), 300.0)], ValueError, r"X\[0\] has values from 300"),
        ([np.zeros((1, 1), np.uint8)], ValueError, "No face was found in 1 of 1"),
    ],
)
def test_wrong_images(images, error, message):
    with pytest.raises(error, match=message):
        LandmarkPredictor().transform(images)


# Other models


@pytest.fixture(scope="module")
def dat_file(tmp_path_factory, expected):
    """Train a small predictor with dlib's own trainer, on the face in several places."""
    path = tmp_path_factory.mktemp("dat") / "small.dat"
    return train_dlib(path, expected)


def train_dlib(path, landmarks):
    images, objects = [], []
    for shift in range(6):
        place = similarity(1, 0, (0, 0), (4 * shift, -3 * shift))
        image = warp(FACE[..., 1], place, (300, 400))
        x, y, width, height = (round(v) for v in find_face(image).box)
        box = dlib.rectangle(x, y, x + width - 1, y + height - 1)
        points = [dlib.point(round(u), round(v)) for u, v in landmarks + place[:, 2]]
        images.append(image)
        objects.append([dlib.full_object_detection(box, points)])
    options = dlib.shape_predictor_training_options()
    options.cascade_depth, options.num_trees_per_cascade_level, options.tree_depth = (
        4,
        40,
        3,
    )
    options.random_seed = "0"
    dlib.train_shape_predictor(images, objects, options).save(str(path))
    return path


def test_a_file_of_dlib_can_be_named(dat_file, expected):
    (found,) = LandmarkPredictor(str(dat_file)).transform([FACE])
    assert error(found, expected) < 0.1
    assert not np.array_equal(found, expected)


@pytest.mark.parametrize("degrees", [-45, 45])
def test_a_file_of_dlib_takes_turned_faces(dat_file, expected, degrees):
    angle = np.deg2rad(degrees)
    place = similarity(1, angle, (224, 122), (200, 150))
    image = warp(FACE[..., 1], place, (300, 400))
    box = (155.0, 105.0, 90.0, 90.0)
    found = load_model(dat_file).predict(image, box, angle)
    assert error(found, transform_points(place, expected)) < 0.1


def test_the_installed_package_of_models_is_found_without_importing_it(
    tmp_path, monkeypatch, dat_file
):
    with pytest.raises(FileNotFoundError, match="package is not installed"):
        load_model("face_recognition_models")
    models = tmp_path / "face_recognition_models" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise ImportError('pkg_resources')")
    content = dat_file.read_bytes()
    (models / "shape_predictor_68_face_landmarks.dat").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    (found,) = LandmarkPredictor("face_recognition_models").transform([FACE])
    np.testing.assert_array_equal(found, LandmarkPredictor(dat_file).transform([FACE])[0])
    assert "face_recognition_models" not in sys.modules


def test_wrong_models(tmp_path, expected):
    with pytest.raises(ValueError, match=r"'dlib' is not known; expected 'ferpipe'"):
        LandmarkPredictor("dlib").fit([FACE])
    with pytest.raises(
        FileNotFoundError, match=r"none\.dat: this landmark file does not exist"
    ):
        LandmarkPredictor(tmp_path / "none.dat").fit([FACE])
    (tmp_path / "words.dat").write_text("words")
    with pytest.raises(ValueError, match=r"words\.dat: this is not a shape predictor"):
        LandmarkPredictor(tmp_path / "words.dat").transform([FACE])
    train_dlib(tmp_path / "five.dat", expected[[36, 39, 42, 45, 33]])
    with pytest.raises(ValueError, match=r"five\.dat: it finds 5 points; 68 are needed"):
        LandmarkPredictor(tmp_path / "five.dat").transform([FACE])
    with pytest.raises(ValueError, match="'haar' is not known"):
        LandmarkPredictor(detector="haar").fit([FACE])


def test_pickle_holds_the_settings_only():
    import pickle

    predictor = LandmarkPredictor(missing="nan").fit([FACE])
    predictor.transform([FACE])
    assert len(pickle.dumps(predictor)) < 1000
