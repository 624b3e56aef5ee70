"""What the README shows runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def run(code, folder):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


EXPERIMENT, PHOTOS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_experiment_runs(tmp_path):
    score, labels = run(EXPERIMENT, tmp_path)
    assert 0.14 < float(score) <= 1
    assert (tmp_path / "model.joblib").exists()
    assert len(labels.split()) == 3


def test_the_photos_are_cropped(tmp_path):
    shown = "print(crops.shape, landmarks.shape, len(faces))"
    assert run(PHOTOS + shown, tmp_path) == ["(2, 48, 48) (2, 68, 2) 1"]


def test_every_file_it_links_to_is_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) > 3
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_programs_of_its_commands_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= targets
    for file in re.findall(r"pipelines/\w+\.yaml", README):
        assert (ROOT / file).exists()
