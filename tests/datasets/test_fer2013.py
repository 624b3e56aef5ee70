import gzip
import os

import numpy as np
import pytest

from ferpipe.datasets import fer2013, load_fer2013
from ferpipe.datasets.fer2013 import ferplus_majority

USAGES = ("Training", "Training", "PublicTest")
CODES = (3, 0, 6)
HEADER = "emotion,pixels,Usage\n"
VOTES_HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,"
    "unknown,NF\n"
)


@pytest.fixture
def own_store(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path_factory.mktemp("store")))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8)


@pytest.fixture
def text(images, own_store):
    rows = [
        f"{code},{' '.join(map(str, image.ravel()))},{usage}\n"
        for code, image, usage in zip(CODES, images, USAGES, strict=True)
    ]
    return HEADER + "".join(rows)


@pytest.fixture
def file(tmp_path, text):
    path = tmp_path / "fer2013.csv"
    path.write_text(text)
    return path


def write_votes(file, rows, usages=USAGES):
    lines = [
        f"{usage},fer.png,{','.join(map(str, row))}\n"
        for usage, row in zip(usages, rows, strict=True)
    ]
    file.with_name("fer2013new.csv").write_text(VOTES_HEADER + "".join(lines))


def test_faces_labels_and_usage(file, images):
    bunch = load_fer2013(file)
    assert bunch.data.dtype == np.uint8
    assert np.array_equal(bunch.data, images)
    assert bunch.target.tolist() == ["happiness", "anger", "neutral"]
    assert bunch.usage.tolist() == list(USAGES)
    assert bunch.groups is None
    assert bunch.votes is None
    assert bunch.filenames[2] == f"{file}:4"
    assert bunch.kind == "images"


def test_gzip_folder_and_other_column_order_give_the_same(tmp_path, text, images):
    lines = [line.split(",") for line in text.splitlines()]
    other = "\n".join(f"{emotion}, {usage},{pixels}" for emotion, pixels, usage in lines)
    (tmp_path / "fer2013").mkdir()
    with gzip.open(tmp_path / "fer2013" / "fer2013.csv.gz", "wt") as stream:
        stream.write(other)
    bunch = load_fer2013(tmp_path)
    assert np.array_equal(bunch.data, images)
    assert bunch.usage.tolist() == list(USAGES)


def test_one_usage(file, images):
    X, y = load_fer2013(file, usage="PublicTest", return_X_y=True)
    assert np.array_equal(X, images[2:])
    assert y.tolist() == ["neutral"]
    assert load_fer2013(file, usage="PublicTest").filenames == [f"{file}:4"]


def test_second_call_takes_the_store_until_the_file_changes(file, text, monkeypatch):
    load_fer2013(file)
    with monkeypatch.context() as patch:
        patch.setattr("ferpipe.datasets.fer2013._parse_rows", None)
        assert load_fer2013(file).target[0] == "happiness"
    file.write_text(text.replace("\n3,", "\n5,"))
    os.utime(file, ns=(1, 1))
    assert load_fer2013(file).target[0] == "surprise"


def test_ferplus_votes(file, images):
    rows = [
        (0, 8, 2, 0, 0, 0, 0, 0, 0, 0),
        (5, 5, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, 0, 0, 0, 9, 1, 0),
    ]
    write_votes(file, rows)
    assert load_fer2013(file).votes.tolist() == [list(row) for row in rows]
    bunch = load_fer2013(file, labels="ferplus")
    assert bunch.target.tolist() == ["happiness", "contempt"]
    assert np.array_equal(bunch.data, images[[0, 2]])
    assert bunch.usage.tolist() == ["Training", "PublicTest"]
    assert bunch.votes.tolist() == [list(rows[0]), list(rows[2])]


@pytest.mark.parametrize(
    ("votes", "name"),
    [
        ((10, 0, 0, 0, 0, 0, 0, 0, 0, 0), "neutral"),
        ((0, 0, 0, 4, 1, 1, 1, 1, 1, 1), "sadness"),  # lone votes do not count
        ((0, 0, 4, 0, 0, 0, 3, 0, 3, 0), ""),  # 4 of 10 is no majority
        ((0, 5, 5, 0, 0, 0, 0, 0, 0, 0), ""),
        ((0, 0, 0, 0, 3, 0, 0, 0, 7, 0), ""),  # unknown
        ((2, 0, 0, 0, 0, 0, 0, 0, 0, 8), ""),  # not a face
        ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), ""),
    ],
)
def test_majority(votes, name):
    assert ferplus_majority([votes]).tolist() == [name]


def test_ferplus_without_votes(file):
    with pytest.raises(FileNotFoundError, match=r"fer2013new\.csv.*needs the FER\+ votes"):
        load_fer2013(file, labels="ferplus")


def test_votes_of_other_faces(file):
    rows = [(10, *[0] * 9)] * 3
    write_votes(file, rows[:2], USAGES[:2])
    with pytest.raises(ValueError, match=r"fer2013new\.csv has 2 rows, but .* has 3"):
        load_fer2013(file)
    write_votes(file, rows, ("Training", "PublicTest", "PublicTest"))
    with pytest.raises(ValueError, match=r"fer2013new\.csv:3: Usage differs"):
        load_fer2013(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n0,", "\n9,", r"fer2013\.csv:3: emotion is 9, not 0 to 6"),
        (",PublicTest", ",Public", r"fer2013\.csv:4: Usage is 'Public'"),
        ("\n0,", "\n0,12 ", r"fer2013\.csv:3: there are 2305 pixels, not 2304"),
        ("\n0,", "\n0,x ", r"fer2013\.csv:3: pixels must be whole numbers"),
        (HEADER, "label,image\n", r"the first line is 'label,image'. Expected: fer2013"),
        (",Training\n0", "\n0", r"fer2013\.csv:2: there are 2 columns, not 3"),
    ],
)
def test_broken_csv(file, text, old, new, message):
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_fer2013(file)


def test_pixels_out_of_range(file, text):
    start = text.index("\n0,") + 3
    end = text.index(" ", start)
    file.write_text(text[:start] + "256" + text[end:])
    with pytest.raises(ValueError, match=r"fer2013\.csv:3: pixels run from .* to 256"):
        load_fer2013(file)


def test_csv_without_rows(file):
    file.write_text(HEADER)
    with pytest.raises(ValueError, match="there are no rows"):
        load_fer2013(file)


def test_cut_off_gzip(tmp_path, text):
    path = tmp_path / "fer2013.csv.gz"
    content = gzip.compress(text.encode())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"fer2013\.csv\.gz: not a whole csv file"):
        load_fer2013(path)


def test_folder_without_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no FER2013 file here.*fer2013.csv.gz"):
        load_fer2013(tmp_path)


def test_wrong_words(file):
    with pytest.raises(ValueError, match="Did you mean PublicTest"):
        load_fer2013(file, usage="Publictest")
    with pytest.raises(ValueError, match="'official' or 'ferplus', got 'fer'"):
        load_fer2013(file, labels="fer")
    with pytest.raises(ValueError, match="no row with Usage PrivateTest, only"):
        load_fer2013(file, usage="PrivateTest")


@pytest.mark.parametrize("usage", [None, "Training", "PublicTest"])
def test_lazy_images_are_mapped_and_the_same(file, usage):
    bunch = load_fer2013(file, usage=usage, lazy=True)
    expected = load_fer2013(file, usage=usage)
    for loaded in (bunch, load_fer2013(file, usage=usage, lazy=True)):
        assert isinstance(loaded.data, np.memmap)
        assert not loaded.data.flags.writeable
        np.testing.assert_array_equal(loaded.data, expected.data)
        assert loaded.target.tolist() == expected.target.tolist()
        assert loaded.usage.tolist() == expected.usage.tolist()


def test_lazy_images_with_gaps_between_them_are_mapped_too(file, images):
    none = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    write_votes(file, [[10] + [0] * 9, none, [0] * 6 + [10] + [0] * 3])
    bunch = load_fer2013(file, labels="ferplus", lazy=True)
    assert isinstance(bunch.data, np.memmap)
    np.testing.assert_array_equal(bunch.data, images[[0, 2]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first line is ''"),
        (VOTES_HEADER.encode() + b"\n" * 3, "Usage differs"),
        (b"\xff\xfe", "not a whole csv file"),
        ([[1] * 9] * 3, "the rows have 9 votes"),
        ([[300] + [1] * 9] * 3, "ten whole numbers per row"),
    ],
)
def test_broken_votes_are_refused_with_the_name_of_their_file(file, content, message):
    if isinstance(content, bytes):
        file.with_name("fer2013new.csv").write_bytes(content)
    else:
        write_votes(file, content)
    with pytest.raises(ValueError, match=rf"fer2013new\.csv.*{message}"):
        load_fer2013(file)


def test_a_line_without_end_is_refused(file):
    file.write_text(HEADER + "3," + "1 " * 60_000)
    with pytest.raises(ValueError, match=r"a line has 100,000 characters or more"):
        load_fer2013(file)


def test_a_file_that_unpacks_without_end_is_refused(tmp_path, own_store, monkeypatch):
    monkeypatch.setattr(fer2013, "_LARGEST_TEXT", 10_000)
    row = f"3,{' '.join(['0'] * 2304)},Training\n"
    path = tmp_path / "fer2013.csv.gz"
    path.write_bytes(gzip.compress((HEADER + 20_000 * row).encode("ascii")))
    with pytest.raises(ValueError, match=r"unpacks to more than .* over 100 times"):
        load_fer2013(path)


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set")
def test_real_data():
    # With the user's own store: parsing takes seconds once, not at every run of the tests.
    bunch = load_fer2013("$FERPIPE_DATA")
    usage, counts = np.unique(bunch.usage, return_counts=True)
    assert dict(zip(usage, counts, strict=True)) == {"PublicTest": 3589, "Training": 28709}
    assert bunch.data.shape == (32298, 48, 48)
    assert bunch.votes.shape == (32298, 10)
    assert len(bunch.target_names) == 7
