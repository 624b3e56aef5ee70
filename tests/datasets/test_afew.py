import cv2
import numpy as np
import pytest

from ferpipe.datasets.afew import load_afew

RATE = 10
WORDS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def write_clip(path, levels, size=(16, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter_fourcc(*"MJPG")
    video = cv2.VideoWriter(str(path), code, RATE, size[::-1])
    for level in levels:
        video.write(np.full((*size, 3), level, np.uint8))
    video.release()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Seven classes; 12 frames a clip of Train, 7 of Val, each brighter than the last."""
    root = tmp_path_factory.mktemp("set") / "AFEW"
    for number, word in enumerate(WORDS):
        write_clip(root / "Train" / word / f"00{number}46280.avi", range(20, 140, 10))
        write_clip(root / "Val" / word / f"00{number}12345.avi", range(20, 90, 10))
    return root


@pytest.fixture
def folder(drawn, tmp_path):
    """A copy of the tree that a test may change: the clips are links."""
    for file in drawn.rglob("*.avi"):
        copy = tmp_path / "AFEW" / file.relative_to(drawn)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(file)
    return tmp_path / "AFEW"


def test_both_splits(folder):
    bunch = load_afew(folder)
    assert [clip.shape for clip in bunch.data] == [(12, 16, 32)] * 7 + [(7, 16, 32)] * 7
    assert bunch.data[0].mean(axis=(1, 2)) == pytest.approx(range(20, 140, 10), abs=3)
    assert bunch.usage.tolist() == ["Train"] * 7 + ["Val"] * 7
    assert bunch.target[:7].tolist() == [
        "anger",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
        "surprise",
    ]
    assert bunch.groups is None
    assert bunch.kind == "sequences"
    assert bunch.filenames[0].endswith("Train/Angry/00046280.avi")


def test_one_split_under_its_other_name(folder):
    (folder / "Val").rename(folder / "Val_AFEW")
    X, y = load_afew(folder.parent, usage="Val", gray=False, return_X_y=True)
    assert {clip.shape for clip in X} == {(7, 16, 32, 3)}
    assert len(y) == 7


@pytest.mark.parametrize(
    ("every", "levels"),
    [
        (0.3, [20, 50, 80, 110]),
        # 0.25 s falls between frames: the next one is taken
        (0.25, [20, 50, 70, 100, 120]),
        (0.05, list(range(20, 140, 10))),
        (10, [20]),
    ],
)
def test_one_frame_in_so_many_seconds(folder, every, levels):
    clip = load_afew(folder, usage="Train", every=every).data[0]
    assert clip.mean(axis=(1, 2)) == pytest.approx(levels, abs=3)


def test_times_a_little_early_are_on_time(folder, monkeypatch):
    def frames(path, *, gray):
        for time in (0, 0.2, 0.2999, 0.4, 0.5999):
            yield time, np.full((4, 4), round(100 * time), np.uint8)

    monkeypatch.setattr("ferpipe.datasets.afew.read_frames", frames)
    clip = load_afew(folder, usage="Val", every=0.3).data[0]
    assert clip[:, 0, 0].tolist() == [0, 30, 60]


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"usage": "Test"}, "'Train', 'Val' or None, got 'Test'"),
        ({"every": 0}, "number of seconds above 0"),
    ],
)
def test_wrong_parameters(folder, parameter, message):
    with pytest.raises(ValueError, match=message):
        load_afew(folder, **parameter)


def test_missing_folders(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*000046280\.avi"):
        load_afew(tmp_path / "nowhere")
    (folder / "Val").rename(folder / "Validation")
    with pytest.raises(FileNotFoundError, match="no folder Val or Val_AFEW"):
        load_afew(folder)


def test_unexpected_and_broken_files(folder):
    (folder / "Train/Angry/list.txt").write_text("x")
    with pytest.raises(ValueError, match=r"list\.txt: unexpected file.*Expected: AFEW"):
        load_afew(folder)
    (folder / "Train/Angry/list.txt").rename(folder / "Train/Angry/2.avi")
    with pytest.raises(ValueError, match=r"2\.avi: no frame can be read"):
        load_afew(folder)
    with pytest.warns(UserWarning, match=r"2\.avi"):
        assert len(load_afew(folder, on_error="warn").data) == 14


def test_missing_and_empty_class(folder):
    for file in (folder / "Train" / "Happy").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="Happy: this class is empty"):
        load_afew(folder)
    (folder / "Train" / "Happy").rename(folder / "Train" / "Hapy")
    with pytest.raises(FileNotFoundError, match="Happy: there is no folder of this class"):
        load_afew(folder)


def test_folders_beside_the_classes_are_passed_over(folder):
    write_clip(folder / "Train" / "AlignedFaces" / "1.avi", [10])
    assert len(load_afew(folder).data) == 14
