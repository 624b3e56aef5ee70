import cv2
import numpy as np
import pytest

from ferpipe.datasets.ckplus import load_ckplus

# number in an emotion file -> class
CODES = {
    1: "anger",
    2: "contempt",
    3: "disgust",
    4: "fear",
    5: "happiness",
    6: "sadness",
    7: "surprise",
}
UNITS = {"S005": [(9, 4), (17, 0)], "S010": [(1, 3), (2, 3), (27, 5)]}


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_points(file, frame):
    lines = [f"   {frame + point}.5000000e+00   {point}.0000000e+00" for point in range(68)]
    write_text(file, "\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Two subjects, one sequence an emotion each and one without; 5 frames, S010 has 6.

    The gray level of a frame is 30 times the emotion plus its number, so that 151 is the
    first frame of happiness.
    """
    root = tmp_path / "CK+"
    for subject, n_frames in (("S005", 5), ("S010", 6)):
        for code in range(8):
            place = f"{subject}/{code + 1:03d}"
            stem = f"{subject}_{code + 1:03d}"
            for frame in range(1, n_frames + 1):
                file = root / "cohn-kanade-images" / place / f"{stem}_{frame:08d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), np.full((12, 16), 30 * code + frame, np.uint8))
                points = root / "Landmarks" / place / f"{file.stem}_landmarks.txt"
                write_points(points, frame)
            last = f"{stem}_{n_frames:08d}"
            facs = root / "FACS" / place / f"{last}_facs.txt"
            lines = [
                f"   {unit}.0e+00   {strength}.0e+00" for unit, strength in UNITS[subject]
            ]
            write_text(facs, "\n".join(lines) + "\n")
            (root / "Emotion" / place).mkdir(parents=True)
            if code:
                file = root / "Emotion" / place / f"{last}_emotion.txt"
                write_text(file, f"   {code}.0000000e+00\n")
    return root


def levels(frames):
    return frames[..., 0, 0].tolist()


def test_last_frames_of_labelled_sequences(folder):
    bunch = load_ckplus(folder)
    assert len(bunch.data) == 14
    assert bunch.groups.tolist() == ["S005"] * 7 + ["S010"] * 7
    assert bunch.target.tolist() == list(CODES.values()) * 2
    assert bunch.sequences[[0, 13]].tolist() == ["S005_002", "S010_008"]
    assert bunch.data[0].shape == (3, 12, 16)
    assert bunch.data[0].dtype == np.uint8
    assert levels(bunch.data[4]) == [153, 154, 155]
    assert levels(bunch.data[11]) == [154, 155, 156]
    assert bunch.filenames[4][0].endswith("S005/006/S005_006_00000003.png")
    assert bunch.kind == "sequences"
    assert bunch.landmarks is None
    assert "signed agreement" in bunch.DESCR


def test_numbers_of_classes(folder):
    assert len(load_ckplus(folder, classes=6).data) == 12
    assert "contempt" not in load_ckplus(folder, classes=6).target_names
    assert load_ckplus(folder, classes=["happy", "fear"]).target_names == [
        "fear",
        "happiness",
    ]


def test_neutral_comes_from_the_first_frames(folder):
    bunch = load_ckplus(folder, classes=8, first=2)
    assert len(bunch.data) == 28
    assert len(bunch.target_names) == 8
    assert bunch.target[8:10].tolist() == ["neutral", "happiness"]
    assert levels(bunch.data[8]) == [151, 152]
    assert levels(bunch.data[9]) == [153, 154, 155]
    assert bunch.sequences[8] == bunch.sequences[9]


def test_first_and_last_frames_are_one_sample_without_neutral(folder):
    bunch = load_ckplus(folder, first=1, last=2)
    assert levels(bunch.data[4]) == [151, 154, 155]
    assert bunch.target[4] == "happiness"


def test_all_frames(folder):
    bunch = load_ckplus(folder, last=None)
    assert [len(clip) for clip in bunch.data] == [5] * 7 + [6] * 7
    assert levels(bunch.data[4]) == [151, 152, 153, 154, 155]


def test_single_frames_know_their_sequence(folder):
    sequences = load_ckplus(folder, classes=8, first=1, last=2)
    frames = load_ckplus(folder, classes=8, first=1, last=2, as_sequences=False)
    lengths = [len(clip) for clip in sequences.data]
    assert frames.kind == "images"
    assert np.array_equal(frames.data, np.concatenate(sequences.data))
    assert np.array_equal(frames.target, np.repeat(sequences.target, lengths))
    assert np.array_equal(frames.sequences, np.repeat(sequences.sequences, lengths))
    assert frames.filenames == [file for files in sequences.filenames for file in files]


def test_action_units(folder):
    bunch = load_ckplus(folder, target="action_units", last=1)
    assert bunch.target_names == ["AU01", "AU02", "AU09", "AU17", "AU27"]
    # the sequence without emotion has a FACS file too
    assert bunch.target.tolist() == [[0, 0, 1, 1, 0]] * 8 + [[1, 1, 0, 0, 1]] * 8
    assert bunch.groups.tolist() == ["S005"] * 8 + ["S010"] * 8
    assert bunch.data[0].shape == (1, 12, 16)


def test_action_units_can_be_fitted(folder):
    from sklearn.neighbors import KNeighborsClassifier

    bunch = load_ckplus(folder, target="action_units", last=1, as_sequences=False)
    X = bunch.data.reshape(len(bunch.data), -1)
    model = KNeighborsClassifier(1).fit(X, bunch.target)
    assert np.array_equal(model.predict(X), bunch.target)


def test_landmarks(folder):
    bunch = load_ckplus(folder, first=1, last=2, landmarks=True)
    assert bunch.landmarks[4].shape == (3, 68, 2)
    assert bunch.landmarks[4][:, 0].tolist() == [[1.5, 0], [4.5, 0], [5.5, 0]]
    assert bunch.landmarks[4][0, 67].tolist() == [68.5, 67]
    frames = load_ckplus(folder, last=2, landmarks=True, as_sequences=False)
    assert frames.landmarks.shape == (28, 68, 2)
    assert frames.landmarks[:2, 0].tolist() == [[4.5, 0], [5.5, 0]]


def test_sequences_of_two_sizes_and_in_color(folder):
    for file in (folder / "cohn-kanade-images/S005/002").iterdir():
        image = np.zeros((10, 16, 3), np.uint8)
        image[:, :, 2] = 200
        cv2.imwrite(str(file), image)
    bunch = load_ckplus(folder)
    assert bunch.data[0].shape == (3, 10, 16)
    assert levels(bunch.data[0]) == [60, 60, 60]  # 0.299 of 200
    assert load_ckplus(folder, gray=False).data[0][0, 0, 0].tolist() == [200, 0, 0]
    assert isinstance(load_ckplus(folder, as_sequences=False).data, list)


def test_path_of_the_folder_above_and_return_X_y(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    X, y = load_ckplus("~", return_X_y=True)
    assert len(X) == len(y) == 14
    _, y = load_ckplus(folder, target="action_units", return_X_y=True)
    assert y.shape == (16, 5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"target": "valence"}, "'emotion' or 'action_units', got 'valence'"),
        ({"classes": 9}, "got 9"),
        ({"first": -1}, "first must be a number of frames, at least 0, got -1"),
        ({"last": 0}, "last must be a number of frames, at least 1, got 0"),
        ({"last": 1.5}, "last must be a number of frames"),
        ({"classes": 8}, "neutral is taken from the first frames; say how many"),
        ({"first": 1, "as_sequences": False}, "need the class neutral"),
        ({"last": None, "as_sequences": False}, "last=None takes whole sequences"),
        ({"last": None, "first": 1}, "last=None takes whole sequences"),
        ({"last": None, "classes": 8}, "last=None takes whole sequences"),
    ],
)
def test_wrong_parameters(folder, parameters, message):
    with pytest.raises(ValueError, match=message):
        load_ckplus(folder, **parameters)


@pytest.mark.parametrize("name", ["cohn-kanade-images", "Emotion", "FACS", "Landmarks"])
def test_missing_folder(folder, name):
    (folder / name).rename(folder / "elsewhere")
    target = "action_units" if name == "FACS" else "emotion"
    with pytest.raises(FileNotFoundError, match=f"{name}: no such folder. Expected: CK"):
        load_ckplus(folder, target=target, landmarks=True)


def test_missing_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*_emotion\.txt"):
        load_ckplus(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["8.0", "2.5", "", "1.0 2.0", "anger", "-1"])
def test_damaged_emotion_file_is_named(folder, text):
    file = folder / "Emotion/S005/002/S005_002_00000005_emotion.txt"
    file.write_text(text)
    with pytest.raises(
        ValueError, match=rf"{file.name}: .* was expected|{file.name}: this"
    ):
        load_ckplus(folder)
    with pytest.warns(UserWarning, match=f"Left out 1: .*{file.name}"):
        assert len(load_ckplus(folder, on_error="warn").data) == 13


@pytest.mark.parametrize("text", ["", "9.0", "0 1", "9.0 4.0\n12.5 1.0", "AU9 4"])
def test_damaged_facs_file_is_named(folder, text):
    file = folder / "FACS/S010/001/S010_001_00000006_facs.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"{file.name}: "):
        load_ckplus(folder, target="action_units")
    with pytest.warns(UserWarning, match=f"Left out 1: .*{file.name}"):
        bunch = load_ckplus(folder, target="action_units", on_error="warn")
    assert len(bunch.data) == 15


def test_label_file_of_another_name(folder):
    file = folder / "Emotion/S005/002/S005_002_00000005_emotion.txt"
    file.rename(file.with_name("label.txt"))
    with pytest.raises(ValueError, match=r"label\.txt: one file \.\.\._emotion\.txt"):
        load_ckplus(folder)


def test_missing_and_damaged_landmarks_are_named(folder):
    file = folder / "Landmarks/S005/002/S005_002_00000005_landmarks.txt"
    file.write_text("1 2\n" * 67)
    with pytest.raises(ValueError, match=f"{file.name}: 68 lines of x and y"):
        load_ckplus(folder, landmarks=True)
    file.unlink()
    with pytest.raises(ValueError, match=f"{file.name}: there is no such file"):
        load_ckplus(folder, landmarks=True)
    assert len(load_ckplus(folder).data) == 14


def test_label_without_images_and_class_without_sequences(folder):
    for file in (folder / "cohn-kanade-images/S005/002").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="S005_002: there is a label for it, but no image"):
        load_ckplus(folder)
    for subject in ("S005", "S010"):
        for file in (folder / "Emotion" / subject / "003").iterdir():
            file.unlink()
    with pytest.raises(ValueError, match="no sequence of the class contempt"):
        load_ckplus(folder)


def test_sequence_that_is_too_short(folder):
    with pytest.raises(ValueError, match=r"S005_002: it has 5 frames, fewer than.* = 6"):
        load_ckplus(folder, first=2, last=4)


def test_unexpected_broken_and_unequal_frames(folder):
    place = folder / "cohn-kanade-images/S005/002"
    (place / ".DS_Store").write_bytes(b"x")
    foreign = place / "S005_009_00000001.png"
    foreign.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"S005_009_00000001\.png: unexpected file"):
        load_ckplus(folder)
    foreign.unlink()
    broken = place / "S005_002_00000004.png"
    broken.write_bytes(b"x")
    with pytest.raises(ValueError, match=f"{broken.name}: this is not an image"):
        load_ckplus(folder)
    cv2.imwrite(str(broken), np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match="002: the frames of this sequence differ in size"):
        load_ckplus(folder)
