import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferpipe.candide.model import CandideModel
from ferpipe.candide.wfm import WireframeFile, read_wfm, write_wfm

needs_data = pytest.mark.skipif(
    "FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set"
)

GEOMETRY = """# A square with a lid, made up
# VERTICES
4
0 0 0
1.5 0 -.25
1 1 1e-1
0 +1 0
# TRIANGLES
2
0 1 2
0 2 3
"""
UNITS = """# WHAT IT DOES:
3

# Lift (AU1)
2
2 0 0.5 0
3 0 0.25 0
# FAP 3 open
# MNS
1
0 0 -1 0

# not here yet:
# Other

# Bend
0

# WHO IT IS:
1
# Width
1
1 1 0 0
"""
PARAMETERS = """# State
1
2 0.5
1
0 -1.5
"""
TEXTURE = """2
3 0.5 0.25
0 0 1
my face.png
"""
MOTION = """
0.1 0.2 0.3
2 2 2
0 0 -5

# END
"""
WHOLE = GEOMETRY + UNITS + PARAMETERS + TEXTURE + MOTION
N_LINES = WHOLE.count("\n")
# parameters and texture without counts and indices
DENSE = GEOMETRY + UNITS + "0.5\n0\n-1\n2\n" + "0 0\n.1 0\n.2 1\n.3 1\n"


def write(tmp_path, content):
    path = tmp_path / "face.wfm"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path, content):
    return read_wfm(write(tmp_path, content))


def assert_same(first, second):
    for name in ("vertices", "triangles", "shape_units", "animation_units"):
        np.testing.assert_array_equal(
            getattr(first.model, name), getattr(second.model, name)
        )
    assert first.model.shape_names == second.model.shape_names
    assert first.model.animation_names == second.model.animation_names
    for name in ("shape_parameters", "animation_parameters", "rotation", "scale"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.translation, second.translation)
    assert (first.texture_points is None) == (second.texture_points is None)
    if first.texture_points is not None:
        np.testing.assert_array_equal(first.texture_points, second.texture_points)
    assert first.texture_file == second.texture_file


# Reading


def test_every_block_is_read(tmp_path):
    file = read(tmp_path, WHOLE)
    model = file.model
    expected = [[0, 0, 0], [1.5, 0, -0.25], [1, 1, 0.1], [0, 1, 0]]
    np.testing.assert_array_equal(model.vertices, expected)
    np.testing.assert_array_equal(model.triangles, [[0, 1, 2], [0, 2, 3]])
    assert model.triangles.dtype.kind == "i"
    lift = [[0, 0, 0], [0, 0, 0], [0, 0.5, 0], [0, 0.25, 0]]
    np.testing.assert_array_equal(model.animation_units[0], lift)
    assert model.animation_units[1].tolist() == [[0, -1, 0], *[[0, 0, 0]] * 3]
    assert not model.animation_units[2].any()
    assert model.shape_units.tolist() == [[[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]]
    assert file.animation_parameters.tolist() == [0, 0, 0.5]
    assert file.shape_parameters.tolist() == [-1.5]
    assert file.rotation.tolist() == [0.1, 0.2, 0.3]
    assert file.scale.tolist() == [2, 2, 2]
    assert file.translation.tolist() == [0, 0, -5]
    assert file.texture_points.tolist() == [[3, 0.5, 0.25], [0, 0, 1]]
    assert file.texture_file == "my face.png"


def test_units_are_named_by_the_comment_before_them(tmp_path):
    model = read(tmp_path, WHOLE).model
    assert model.animation_names == ("Lift (AU1)", "FAP 3 open", "Bend")
    assert model.shape_names == ("Width",)


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("", "shape_0"),
        ("#\n# ---\n", "shape_0"),
        ("##  Nose   tip #\n", "Nose tip"),
        ("  # Nose\n\n\n", "Nose"),
        ("# Part one\n#\n# Nose\n# in mm\n", "Nose"),
        ("# ----\n# Nose\n# ----\n", "Nose"),
    ],
)
def test_comments_become_names(tmp_path, comment, name):
    text = GEOMETRY + f"0\n# UNITS\n1\n{comment}0\n"
    assert read(tmp_path, text).model.shape_names == (name,)


def test_names_are_unique(tmp_path):
    units = "".join(f"# {name}\n0\n" for name in ("a", "b", "a (2)", "a", "a", "a (2)"))
    names = read(tmp_path, f"{GEOMETRY}6\n{units}").model.animation_names
    assert names == ("a", "b", "a (2)", "a (3)", "a (4)", "a (2) (2)")


def test_displacements_of_one_vertex_add_up(tmp_path):
    text = GEOMETRY + "1\n# Unit\n3\n2 .5 1 0\n0 1 1 1\n2 -.5 1 0\n"
    unit = read(tmp_path, text).model.animation_units[0]
    assert unit.tolist() == [[1, 1, 1], [0, 0, 0], [0, 2, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "text",
    [
        GEOMETRY,
        GEOMETRY + "0\n0\n",
        GEOMETRY + UNITS,
        GEOMETRY + UNITS + PARAMETERS,
        GEOMETRY + UNITS + PARAMETERS + "0\n",
        GEOMETRY + UNITS + PARAMETERS + TEXTURE,
        GEOMETRY + UNITS + "0\n0\n0\n",
    ],
)
def test_files_may_stop_after_any_block(tmp_path, text):
    file = read(tmp_path, text)
    units = UNITS in text
    assert (len(file.model.vertices), len(file.model.triangles)) == (4, 2)
    assert file.model.animation_units.shape == (3 * units, 4, 3)
    assert file.model.shape_units.shape == (units, 4, 3)
    expected = [0, 0, 0.5] if PARAMETERS in text else [0] * 3 * units
    assert file.animation_parameters.tolist() == expected
    assert file.rotation.tolist() == file.translation.tolist() == [0, 0, 0]
    assert file.scale.tolist() == [1, 1, 1]
    assert (file.texture_file is not None) == (TEXTURE in text)


def test_a_file_of_vertices_alone_has_no_triangles(tmp_path):
    model = read(tmp_path, "2\n0 0 0\n1 1 1").model
    assert model.vertices.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert model.triangles.shape == (0, 3)


def test_dialect_with_one_value_for_each_unit_and_vertex(tmp_path):
    file = read(tmp_path, DENSE)
    assert file.animation_parameters.tolist() == [0.5, 0, -1]
    assert file.shape_parameters.tolist() == [2]
    expected = [[0, 0, 0], [1, 0.1, 0], [2, 0.2, 1], [3, 0.3, 1]]
    assert file.texture_points.tolist() == expected
    assert file.texture_file is None
    assert file.scale.tolist() == [1, 1, 1]


def test_texture_without_a_file(tmp_path):
    text = WHOLE.replace("my face.png\n", "")
    file = read(tmp_path, text)
    assert file.texture_file is None
    assert file.texture_points.shape == (2, 3)
    assert file.translation.tolist() == [0, 0, -5]


@pytest.mark.parametrize(
    "content",
    [
        WHOLE.replace("\n", "\r\n"),
        WHOLE.replace("\n", "\r"),
        WHOLE.replace("\n", "\n\n  \n"),
        WHOLE.rstrip("\n"),
        WHOLE.replace(" ", "\t "),
        b"\xef\xbb\xbf" + WHOLE.encode(),
        WHOLE.replace("\n1 1 1e-1\n", "\n\n# a comment\n 1 1.0 0.1 \n"),
        WHOLE.replace("# A square", "# J\xf6rgen's square").encode("latin-1"),
    ],
)
def test_layout_and_encoding_do_not_matter(tmp_path, content):
    expected = read(tmp_path, WHOLE)
    if isinstance(content, str) and "\n\n  \n" in content:
        # every comment line now stands alone
        content = content.replace("# MNS", "#").replace("# Other", "#")
    # tabs within the name of the image are kept
    file = read(tmp_path, content)
    assert_same(replace(file, texture_file=expected.texture_file), expected)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_keep_their_letters(tmp_path, encoding):
    text = WHOLE.replace("# Width", "# Größe")
    assert read(tmp_path, text.encode(encoding)).model.shape_names == ("Größe",)


# Errors of reading


@pytest.mark.parametrize(
    ("line", "new", "message"),
    [
        (3, "four", r"expected the number of vertices \(1 or more\), got 'four'"),
        (3, "-4", r"expected the number of vertices \(1 or more\), got '-4'"),
        (3, "0", r"expected the number of vertices \(1 or more\), got '0'"),
        (3, "4.0", "expected the number of vertices .*, got '4.0'"),
        (3, "4 4", "expected the number of vertices .*, got '4 4'"),
        (3, "9" * 5000, "expected the number of vertices .*, got '9{39}…'"),
        (5, "abc", r"expected 3 numbers \(a vertex\), got 'abc'"),
        (5, "1 2", r"expected 3 numbers \(a vertex\), got '1 2'"),
        (5, "1 2 3 4", r"expected 3 numbers \(a vertex\), got '1 2 3 4'"),
        (5, "1 nan 2", r"expected 3 numbers \(a vertex\), got '1 nan 2'"),
        (5, "1 -inf 2", r"expected 3 numbers \(a vertex\), got '1 -inf 2'"),
        (5, "1 1e999 2", r"expected 3 numbers \(a vertex\), got '1 1e999 2'"),
        (5, "1 1e 2", r"expected 3 numbers \(a vertex\), got '1 1e 2'"),
        (5, "1 1_0 2", r"expected 3 numbers \(a vertex\), got '1 1_0 2'"),
        (5, "1,5 0 0", r"expected 3 numbers \(a vertex\), got '1,5 0 0'"),
        (9, "-1", r"expected the number of triangles \(0 or more\), got '-1'"),
        (10, "0 1 4", r"expected 3 vertices from 0 to 3 \(a triangle\), got '0 1 4'"),
        (10, "0 -1 2", r"expected 3 vertices from 0 to 3 \(a triangle\), got '0 -1 2'"),
        (10, "0 1.5 2", r"expected 3 vertices from 0 to 3 \(a triangle\), got"),
        (13, "x", "expected the number of animation units .*, got 'x'"),
        (16, "x", "expected the number of vertices that animation unit 0 moves .*"),
        (17, "4 0 0 0", "expected a vertex from 0 to 3 and 3 numbers .*, got '4 0 0 0'"),
        (17, "2 0 0", "expected a vertex from 0 to 3 and 3 numbers .*, got '2 0 0'"),
        (34, "1 1e400 0 0", "expected a vertex from 0 to 3 and 3 numbers"),
        (36, "x", "expected the number of animation parameters .*, got 'x'"),
        (37, "3 0.5", "expected an index from 0 to 2 and a number"),
        (39, "-1 0.5", "expected an index from 0 to 0 and a number"),
        (40, "-2", "expected the number of texture points .*, got '-2'"),
        (41, "4 0 0", "expected a vertex from 0 to 3 and 2 numbers"),
        (46, "2 2", r"expected 3 numbers \(a global motion\), got '2 2'"),
        (49, "# end\n7 8", "expected the end of the file, got '7 8'"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, new, message):
    lines = WHOLE.split("\n")
    lines[line - 1] = new
    number = line + new.count("\n")
    with pytest.raises(ValueError, match=rf"face\.wfm, line {number}: {message}"):
        read(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("n_lines", "message"),
    [
        (2, "expected the number of vertices .*, got the end of the file"),
        (6, "the file ends within the vertices: expected 4 lines, got 3; 1 missing"),
        (9, "the file ends within the triangles: expected 2 lines, got 0; 2 missing"),
        (15, "within the animation units: expected 3 lines, got 0; 3 missing"),
        (17, "within the animation units: expected 3 lines, got 2; 1 missing"),
        (18, "within the animation units: expected 3 units, got 1; 2 missing"),
        (21, "within the animation unit 1: expected 1 lines, got 0; 1 missing"),
        (32, "within the shape units: expected 1 lines, got 0; 1 missing"),
    ],
)
def test_files_cut_short_say_what_is_missing(tmp_path, n_lines, message):
    text = "\n".join(WHOLE.split("\n")[:n_lines])
    with pytest.raises(ValueError, match=rf"face\.wfm, line {n_lines}: .*{message}"):
        read(tmp_path, text)


@pytest.mark.parametrize("line", [3, 9, 13, 16, 31, 33, 36, 38, 40])
@pytest.mark.parametrize("count", [10**9, 10**15 - 1])
def test_absurd_counts_take_no_memory(tmp_path, line, count):
    lines = WHOLE.split("\n")
    lines[line - 1] = str(count)
    missing = rf"expected {count} lines, got \d+; \d+ missing"
    with pytest.raises(ValueError, match=rf"face\.wfm, line {N_LINES}: .*{missing}"):
        read(tmp_path, "\n".join(lines))


def test_many_vertices_times_many_units_take_no_memory(tmp_path):
    text = "9000\n" + "0 0 0\n" * 9000 + "0\n9000\n" + "0\n" * 9000
    message = r"line 9003: expected at most 466 animation units .*, got '9000'"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_sums_that_overflow_are_named(tmp_path):
    text = GEOMETRY + "1\n# Unit\n2\n2 1e308 0 0\n2 1e308 0 0\n"
    with pytest.raises(ValueError, match=r"line 16: .* finite sum, got '1e\+308 0.0 0.0'"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"# only a comment",
        bytes(range(256)) * 8,
        b"\x00" * 100,
        WHOLE.encode("utf-16"),
        np.random.default_rng(0).bytes(5000),
    ],
)
def test_foreign_content_is_an_error_in_a_line(tmp_path, content):
    with pytest.raises(ValueError, match=r"face\.wfm, line \d+: expected the number of v"):
        read(tmp_path, content)


def test_huge_files_are_not_read(tmp_path):
    path = tmp_path / "face.wfm"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"face\.wfm: the file is larger than"):
        read_wfm(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.wfm"):
        read_wfm(tmp_path / "none.wfm")
    with pytest.raises(ValueError, match=r"is a folder") as error:
        read_wfm(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("text", [WHOLE, DENSE], ids=["counted", "dense"])
def test_damaged_files_read_or_are_value_errors(tmp_path, text):
    random = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        content = bytearray(text.encode())
        for _ in range(random.integers(1, 4)):
            start = int(random.integers(len(content)))
            stop = start + int(random.integers(1, 9))
            damage = random.integers(4)
            if damage == 0:
                del content[start:stop]
            elif damage == 1:
                content[start:start] = content[start:stop]
            elif damage == 2:
                content[start:stop] = random.bytes(stop - start)
            elif start:
                del content[start:]
        path = write(tmp_path, bytes(content))
        try:
            file = read_wfm(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert np.isfinite(file.model.vertices).all()
    assert all(message.startswith(f"{path}, line ") for message in messages)
    assert 20 < len(messages) < 280


# Writing


@pytest.mark.parametrize(
    "text",
    [WHOLE, DENSE, GEOMETRY, GEOMETRY + UNITS, WHOLE.replace("my face.png\n", "")],
    ids=["whole", "dense", "geometry", "units", "no image"],
)
def test_what_was_read_is_written_and_read_again(tmp_path, text):
    file = read(tmp_path, text)
    write_wfm(file, tmp_path / "again.wfm")
    assert_same(read_wfm(tmp_path / "again.wfm"), file)


def random_model(seed=0, n=12, n_shape=3, n_animation=5, **changes):
    random = np.random.default_rng(seed)
    units = random.normal(size=(n_shape + n_animation, n, 3)) * 10.0 ** -random.integers(
        0, 20, (n_shape + n_animation, n, 1)
    )
    units[:, random.random(n) < 0.5] = 0
    arguments = {
        "vertices": random.normal(size=(n, 3)),
        "triangles": random.integers(0, n, (7, 3)),
        "shape_units": units[:n_shape],
        "animation_units": units[n_shape:],
        "shape_names": tuple(f"Größe {index}" for index in range(n_shape)),
        "animation_names": tuple(f"AU{index}" for index in range(n_animation)),
    }
    return CandideModel(**{**arguments, **changes})


def random_file(model):
    random = np.random.default_rng(1)
    return WireframeFile(
        model,
        random.normal(size=len(model.shape_names)),
        random.normal(size=len(model.animation_names)),
        rotation=random.normal(size=3),
        scale=random.normal(size=3),
        translation=random.normal(size=3) * 1e300,
        texture_points=np.column_stack([[2, 0, 2], random.random((3, 2))]),
        texture_file="skin, 2 # ü.png",
    )


def test_numbers_are_written_exactly(tmp_path):
    file = random_file(random_model())
    write_wfm(file, str(tmp_path / "face.wfm"))
    assert_same(read_wfm(tmp_path / "face.wfm"), file)


def test_only_vertices_that_move_are_written(tmp_path):
    model = random_model(n_shape=0, n_animation=1)
    write_wfm(model, tmp_path / "face.wfm")
    lines = (tmp_path / "face.wfm").read_text().split("\n")
    n_moved = int(lines[lines.index("# AU0") + 1])
    assert 0 < n_moved == model.animation_units[0].any(axis=1).sum() < 12


def test_a_model_is_written_at_rest(tmp_path):
    model = random_model()
    write_wfm(model, tmp_path / "face.wfm")
    zeros = np.zeros(3)
    expected = WireframeFile(model, zeros, np.zeros(5), zeros, np.ones(3), zeros)
    assert_same(read_wfm(tmp_path / "face.wfm"), expected)


@pytest.mark.parametrize(
    "name", ["", "a\nb", "a\rb", " a", "a  b", "# a", "a #", "---", "a\x85b"]
)
def test_names_that_would_change_are_refused(tmp_path, name):
    model = random_model(n_shape=1, shape_names=(name,))
    with pytest.raises(ValueError, match="shape_names must be one line"):
        write_wfm(model, tmp_path / "face.wfm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"animation_names": tuple("aabcd")}, "animation_names must differ, got 'a'"),
        ({"vertices": np.full((12, 3), np.nan)}, "vertices must hold finite numbers"),
        ({"shape_units": np.full((3, 12, 3), np.inf)}, "shape_units must hold finite"),
        ({"shape_names": ("a", "b", "c\ud800")}, "surrogates not allowed"),
    ],
)
def test_models_that_cannot_be_written_leave_no_file(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_wfm(random_model(**changes), tmp_path / "face.wfm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", " a", "a\nb", "#a.png", "1 2 3"])
def test_texture_files_that_would_change_are_refused(tmp_path, name):
    file = replace(random_file(random_model()), texture_file=name)
    with pytest.raises(ValueError, match="texture_file must be one line"):
        write_wfm(file, tmp_path / "face.wfm")


def test_models_too_large_to_be_read_are_not_written(tmp_path):
    model = random_model(n=90_000, n_shape=0, n_animation=0)
    with pytest.raises(ValueError, match=r"face\.wfm: the file is larger than"):
        write_wfm(model, tmp_path / "face.wfm")


def test_a_model_without_vertices_is_not_written(tmp_path):
    empty = np.empty((0, 3))
    model = CandideModel(empty, empty, np.empty((0, 0, 3)), np.empty((0, 0, 3)), (), ())
    with pytest.raises(ValueError, match=r"expected the number of vertices \(1 or more\)"):
        write_wfm(model, tmp_path / "face.wfm")
    assert list(tmp_path.iterdir()) == []


def test_only_wireframes_are_written(tmp_path):
    with pytest.raises(TypeError, match="WireframeFile or a CandideModel, got dict"):
        write_wfm({}, tmp_path / "face.wfm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape_parameters": np.zeros(2)}, r"shape_parameters .* \(3,\), got \(2,\)"),
        ({"animation_parameters": np.zeros(3)}, r"animation_parameters .* \(5,\), got"),
        ({"scale": np.ones(1)}, r"scale must have the shape \(3,\), got \(1,\)"),
        ({"texture_points": np.zeros((3, 2))}, r"\(k, 3\) with k > 0, got \(3, 2\)"),
        ({"texture_points": np.zeros((0, 3))}, r"\(k, 3\) with k > 0, got \(0, 3\)"),
        ({"texture_points": np.full((1, 3), 12)}, "indices of the 12 vertices, 0 to 11"),
        ({"texture_points": np.full((1, 3), 0.5)}, "indices of the 12 vertices"),
        ({"texture_points": None}, "texture_file needs texture_points"),
    ],
)
def test_parts_of_a_file_must_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(random_file(random_model()), **changes)


# The published files


@needs_data
@pytest.mark.parametrize(
    ("name", "n_animation", "names", "n_texture"),
    [
        ("candide3.wfm", 14, {"Jaw drop", "Upper lip raiser"}, 113),
        (
            "candide3_1_6_with_faps.wfm",
            70,
            {
                "Jaw drop",
                "AUV0 Upper lip raiser (AU10)",
                "FAP 3 open_jaw",
                "FAP64 bend_nose",
            },
            None,
        ),
    ],
)
def test_published_files(tmp_path, name, n_animation, names, n_texture):
    file = read_wfm(Path(os.environ["FERPIPE_DATA"], "candide", name))
    model = file.model
    assert model.vertices.shape == (113, 3)
    assert model.triangles.shape == (184, 3)
    assert model.shape_units.shape == (38, 113, 3)
    assert model.animation_units.shape == (n_animation, 113, 3)
    assert names <= set(model.animation_names)
    assert {"Head height", "Mouth width", "Jaw z-position"} <= set(model.shape_names)
    # no unit is called by a heading, a default or the unit of its FAP
    for unit in model.shape_names + model.animation_names:
        assert len(unit) > 5
        assert not unit.endswith((":", ")")) or "(AU" in unit
    assert all(unit.any() for unit in (*model.shape_units, *model.animation_units))
    assert not file.animation_parameters.any()
    points = file.texture_points
    assert (None if points is None else len(points)) == n_texture
    write_wfm(file, tmp_path / "again.wfm")
    assert_same(read_wfm(tmp_path / "again.wfm"), file)
