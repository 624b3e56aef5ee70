"""The examples that take a model run on a small one."""

import asyncio
import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import ferpipe
from ferpipe import HOGFeatures, datasets

EXAMPLES = Path(__file__).parents[1] / "examples" / "recognizer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model, a picture of a synthetic face and a clip of three frames of it."""
    folder = tmp_path_factory.mktemp("examples")
    faces = datasets.make_expression_sequences(
        8, n_frames=1, classes=["anger", "happiness"], random_state=0
    )
    model = make_pipeline(HOGFeatures(), LogisticRegression())
    model.fit(np.stack(faces.data)[:, -1], faces.target)
    ferpipe.save(model, folder / "model.joblib")
    face = datasets.make_expression_sequences(7, 1, 140, random_state=3).data[0][0]
    picture = np.full((180, 220), 120, np.uint8)
    picture[20:160, 40:180] = face
    Image.fromarray(picture).save(folder / "photo.png")
    code = cv2.VideoWriter_fourcc(*"MJPG")
    clip = cv2.VideoWriter(str(folder / "clip.avi"), code, 10, (220, 180))
    for _ in range(3):
        clip.write(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
    clip.release()
    return folder


def run(name, folder, file):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), "model.joblib", file],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_names_the_expression(folder):
    (line,) = run("predict_image.py", folder, "photo.png").splitlines()
    assert re.fullmatch(r"(anger|happiness) (0\.[5-9]\d\d|1\.000), box \(.*\)", line)


def test_the_script_has_ten_lines():
    assert len((EXAMPLES / "predict_image.py").read_text().splitlines()) == 10


def test_the_notebook_makes_a_table_and_a_plot(folder):
    printed = run("table_and_plot.py", folder, "clip.avi")
    assert printed.count("Person_0") == 3
    with Image.open(folder / "expressions.png") as plot:
        assert plot.size[0] > 500


def test_the_application_counts_smiles(folder, monkeypatch):
    monkeypatch.setenv("MODEL", str(folder / "model.joblib"))
    spec = importlib.util.spec_from_file_location("album", EXAMPLES / "fastapi_app.py")
    album = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(album)

    async def post(content):
        transport = httpx.ASGITransport(album.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            return await client.post("/photos", files={"photo": ("a.png", content)})

    photo = (folder / "photo.png").read_bytes()
    (face,) = ferpipe.Recognizer(folder / "model.joblib").predict_image(io.BytesIO(photo))
    expected = {"faces": 1, "smiling": int(face.label == "happiness")}
    assert asyncio.run(post(photo)).json() == expected
    refused = asyncio.run(post(b"notes"))
    assert refused.status_code == 422
    assert "not an image" in refused.json()["detail"]
