"""The tutorial of docs/own_data.md: every file compiles, every command and program runs."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from ferpipe import compare, datasets, grid
from ferpipe.experiments.spec import compile_spec, read_mapping

TEXT = (Path(__file__).parents[1] / "docs" / "own_data.md").read_text()
PROGRAMS = {"ferpipe.grid": grid.main, "ferpipe.compare": compare.main}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def draw(folder):
    """Six people in both layouts of the tutorial, with letters for their names."""
    people = ["anna", "ben", "carla", "dora", "emil", "fay", "gus", "ida"]
    drawn = datasets.make_expression_sequences(
        n_sequences=42, classes=["anger", "happiness", "surprise"], random_state=0
    )
    for number, (frames, label, subject) in enumerate(
        zip(drawn.data, drawn.target, drawn.groups, strict=True)
    ):
        name = f"{people[int(subject[1:])]}_{number}"
        photo = folder / "photos" / label / f"{name}.png"
        clip = folder / "clips" / label / name
        photo.parent.mkdir(parents=True, exist_ok=True)
        clip.mkdir(parents=True)
        Image.fromarray(frames[-1]).save(photo)
        for i, frame in enumerate(frames):
            Image.fromarray(frame).save(clip / f"{i}.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path)
    for text in blocks("yaml"):
        name = re.search(r"^name: (\w+)", text)[1]
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_commands_and_the_program_run_in_order(folder, capsys):
    commands = [line for text in blocks("console") for line in text.splitlines()]
    assert len(commands) == 7
    for command in commands:
        python, flag, program, *words = shlex.split(command)
        assert (python, flag) == ("python", "-m")
        if program == "ferpipe.grid":
            words += ["--n-jobs", "1"]
        assert PROGRAMS[program](words) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "42 images, 8 subjects, 3 classes" in printed
    assert "42 sequences, 8 subjects, 3 classes" in printed
    assert "accuracy over seeds" in printed
    for report in ("my_report", "my_report_lbp", "my_report_seeds", "my_clips_report"):
        assert (folder / report / "report.html").is_file()
    (program,) = blocks("python")
    exec(program, {})
    labels = capsys.readouterr().out
    assert set(re.findall(r"\w+", labels)) <= {"anger", "happiness", "surprise"}


def test_every_file_compiles(folder):
    names = [path.stem for path in sorted(folder.glob("*.yaml"))]
    assert names == ["mine_and_ck48", "my_clips", "my_faces", "my_photos"]
    for name in names:
        assert compile_spec(read_mapping(folder / f"{name}.yaml")).name == name
