import cv2
import numpy as np
import pytest

from ferpipe.datasets import load_image_folder, load_sequence_folder


def write(path, level, shape=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, level, np.uint8))


def write_video(path, levels, shape=(16, 32)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, shape[::-1])
    for level in levels:
        writer.write(np.full((*shape, 3), level, np.uint8))
    writer.release()


@pytest.fixture
def images(tmp_path):
    for number, label in enumerate(("Happy", "sleepy")):
        for subject in ("anna", "ben"):
            for image in range(3):
                level = 100 * number + image
                write(tmp_path / "faces" / label / subject / f"{image}.png", level)
    return tmp_path / "faces"


@pytest.fixture
def clips(tmp_path):
    for label in ("anger", "fear"):
        for frame in (1, 2, 10):
            write(tmp_path / "clips" / label / "anna_1" / f"{frame}.png", frame, (16, 32))
        write_video(tmp_path / "clips" / label / "ben_1.mp4", (30, 90, 150, 210))
    return tmp_path / "clips"


def test_images_of_one_size_are_one_array(images):
    bunch = load_image_folder(images)
    assert bunch.data.shape == (12, 20, 30)
    assert bunch.data.dtype == np.uint8
    assert bunch.data[:, 0, 0].tolist() == [0, 1, 2] * 2 + [100, 101, 102] * 2
    assert bunch.target.tolist() == ["happiness"] * 6 + ["sleepy"] * 6
    assert bunch.groups is None
    assert bunch.filenames[0].endswith("Happy/anna/0.png")


def test_images_of_two_sizes_are_a_list_or_scaled(images):
    write(images / "Happy" / "z.png", 7, (10, 10))
    bunch = load_image_folder(images)
    assert isinstance(bunch.data, list)
    assert bunch.data[6].shape == (10, 10)
    scaled = load_image_folder(images, size=24)
    assert scaled.data.shape == (13, 24, 24)
    assert np.all(scaled.data[6] == 7)
    assert load_image_folder(images, size=[8, 16], gray=False).data.shape == (13, 8, 16, 3)


def test_groups_come_from_the_path(images):
    bunch = load_image_folder(images, groups="[^/]+/([^/]+)/")
    assert bunch.groups.tolist() == (["anna"] * 3 + ["ben"] * 3) * 2


def test_sequences_come_from_the_path(images):
    bunch = load_image_folder(images, sequences="(?P<sequence>.+)/", population="ours")
    assert bunch.groups is None
    assert bunch.population == "ours"
    assert bunch.sequences.tolist() == [
        f"{label}/{name}"
        for label in ("Happy", "sleepy")
        for name in ["anna"] * 3 + ["ben"] * 3
    ]
    with pytest.raises(ValueError, match=r"sequences=.* finds no sequence in this path"):
        load_image_folder(images, sequences=r"/(S\d+)")
    with pytest.raises(ValueError, match=r"finds no subject in this path"):
        load_image_folder(images, groups=r"/(?:anna|(ben))/")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (r"/(S\d+)", r"0\.png: groups=.* finds no subject in this path"),
        ("anna", "no group in parentheses"),
        ("(", "not a regular expression"),
    ],
)
def test_wrong_groups(images, groups, message):
    with pytest.raises(ValueError, match=message):
        load_image_folder(images, groups=groups)


@pytest.mark.parametrize("size", [0, (4,), "48", [4.0, 4.0]])
def test_wrong_size(images, size):
    with pytest.raises(ValueError, match="size must be a number of pixels"):
        load_image_folder(images, size=size)


def test_unexpected_and_broken_images(images):
    (images / "Happy" / "notes.txt").write_text("x")
    with pytest.raises(
        ValueError, match=r"notes\.txt: unexpected file.*Expected: <folder>"
    ):
        load_image_folder(images)
    with pytest.warns(UserWarning, match=r"Left out 1: .*notes\.txt"):
        assert len(load_image_folder(images, on_error="warn").data) == 12
    (images / "Happy" / "notes.txt").rename(images / "Happy" / "notes.png")
    with pytest.raises(ValueError, match=r"notes\.png: this is not an image"):
        load_image_folder(images)


def test_empty_class(images):
    (images / "fear").mkdir()
    with pytest.raises(ValueError, match="fear: this class is empty"):
        load_image_folder(images)


def test_class_whose_only_image_is_broken(images):
    write(images / "fear" / "a.png", 1)
    (images / "fear" / "a.png").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match=r"a\.png"),
        pytest.raises(ValueError, match="No file of the class fear can be read"),
    ):
        load_image_folder(images, on_error="warn")


def test_missing_folder_or_a_file_instead(tmp_path, images):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*<class>/<image>"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"0\.png: this is a file. Expected a folder"):
        load_image_folder(images / "Happy" / "anna" / "0.png")


def test_clips_are_folders_of_frames_or_videos(clips):
    bunch = load_sequence_folder(clips, groups="/([a-z]+)_")
    assert [clip.shape for clip in bunch.data] == [(3, 16, 32), (4, 16, 32)] * 2
    assert bunch.data[0][:, 0, 0].tolist() == [1, 2, 10]
    assert bunch.data[1].mean(axis=(1, 2)) == pytest.approx([30, 90, 150, 210], abs=4)
    assert bunch.target.tolist() == ["anger", "anger", "fear", "fear"]
    assert bunch.groups.tolist() == ["anna", "ben"] * 2
    assert bunch.filenames[1].endswith("anger/ben_1.mp4")
    assert bunch.kind == "sequences"


def test_clips_scaled_and_in_color(clips):
    X, y = load_sequence_folder(clips, size=8, gray=False, return_X_y=True)
    assert [clip.shape for clip in X] == [(3, 8, 8, 3), (4, 8, 8, 3)] * 2
    assert y.shape == (4,)


def test_frames_of_two_sizes(clips):
    write(clips / "fear" / "anna_1" / "3.png", 3, (9, 9))
    with pytest.raises(ValueError, match=r"anna_1: the frames.*9 x 9 and 16 x 32"):
        load_sequence_folder(clips)


def test_broken_and_empty_clips(clips):
    (clips / "fear" / "ben_1.mp4").write_text("words")
    with pytest.raises(ValueError, match=r"ben_1\.mp4: no frame can be read"):
        load_sequence_folder(clips)
    (clips / "fear" / "ben_1.mp4").unlink()
    (clips / "fear" / "cleo_1").mkdir()
    with pytest.raises(ValueError, match="cleo_1: this clip has no frames"):
        load_sequence_folder(clips)


def test_image_where_a_clip_should_be(clips):
    write(clips / "fear" / "a.png", 3)
    with pytest.raises(ValueError, match=r"a\.png: unexpected file.*<clip>/<frame>"):
        load_sequence_folder(clips)
