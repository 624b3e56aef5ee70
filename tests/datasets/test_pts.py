import numpy as np
import pytest

from ferpipe.datasets import read_pts

POINTS = np.random.default_rng(0).uniform(1, 200, (68, 2))
LINES = [f"{x:.6f} {y:.6f}" for x, y in POINTS]


@pytest.mark.parametrize(
    "lines",
    [
        ["version: 1", "n_points:  68", "{", *LINES, "}"],
        ["VERSION: 1", "N_POINTS: 68", "{", *LINES, "}"],
        ["version: 1", "{", *LINES, "}"],
        ["n_points: 68", "{", *(line.replace(" ", ", ") for line in LINES), "}"],
        ["68", *LINES],
        LINES,
        [line.replace(" ", ",") for line in LINES],
        ["\ufeff" + LINES[0], *LINES[1:], ""],
    ],
    ids=[
        *("300-W", "upper case", "no count", "commas in braces"),
        *("a count first", "no header", "commas", "byte-order mark"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_pts_files_of_several_makers_count_pixels_from_one(tmp_path, lines, end):
    (tmp_path / "a.pts").write_bytes(end.join(lines).encode())
    landmarks = read_pts(str(tmp_path / "a.pts"))
    assert landmarks.dtype == np.float64
    np.testing.assert_allclose(landmarks, POINTS - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no point"),
        (b"n_points: 0\n{\n}\n", "holds no point"),
        (b"words\n", "no .pts file .* the line 'words'"),
        (b"version: 1\nn_points: 2\n{\n1 2\n", "closing brace is missing"),
        (b"version: 1\nn_points: 2\n{\n1 2\n}\n", "expected 2 points.* 4 numbers, found 2"),
        (b"version: 1\nn_points: 1\n{\n1 x\n}\n", "no .pts file .* the line '1 x'"),
        (b"version: 1\nn_points: 1\n{\n1 nan\n}\n", "not finite"),
        (b"n_points: many\n{\n1 2\n}\n", "no number of points follows n_points"),
        (b"n_points: 1\n1 2\n", "no brace"),
        (b"2\n1 2\n", "expected 2 points.* found 2"),
        (b"1,5 2,5\n3,5 4,5\n", r"a line of 4 numbers; a number is written with a point"),
        (b"n_points: 1\n{\n1,5 2,5\n}\n", "found 4; a number is written with a point"),
        (b"1 2 3\n4 5 6\n", "a line of 3 numbers"),
        (b"\x80\x03binary", "the file is binary"),
        ("1 2\n".encode("utf-16"), "the file is binary"),
        (b" " * (2**20 + 1), "larger than the 1,048,576 bytes"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:20],
)
def test_wrong_pts_files_are_refused_by_name(tmp_path, content, message):
    (tmp_path / "a.pts").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.pts: .*{message}"):
        read_pts(tmp_path / "a.pts")


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="this is a folder"):
        read_pts(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.pts"):
        read_pts(tmp_path / "none.pts")
