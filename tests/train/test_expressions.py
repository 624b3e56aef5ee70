import csv
import json

import numpy as np
import pytest
import yaml

from ferpipe.networks.pretrained import load_network
from ferpipe.train.__main__ import main

CODES = (0, 3, 6)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the report goes below it
    """An experiment, and a file as FER2013's whose classes differ in a bright row."""
    rng = np.random.default_rng(0)
    with (tmp_path / "fer2013.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["emotion", "pixels", "Usage"])
        for index in range(72):
            code = CODES[index % 3]
            image = rng.integers(0, 100, (48, 48))
            image[6 * (code + 1) : 6 * (code + 1) + 5] += 120
            usage = "Training" if index < 54 else "PublicTest"
            rows.writerow([code, " ".join(map(str, image.ravel())), usage])
    training = {
        "max_epochs": 4,
        "validation": 0.25,
        "calibrate": True,
        "checkpoint": str(tmp_path / "checkpoints"),
    }
    network = {"backbone": "small_cnn", "training": {"Training": training}}
    return {
        "name": "small",
        "data": {"fer2013": {"path": str(tmp_path)}},
        "pipeline": {"classify": {"ImageNetwork": network}},
        "evaluate": {"protocol": "fer2013-official", "scoring": ["accuracy"]},
        "report": {"to": str(tmp_path / "report")},
    }


def write(mapping, path):
    path.write_text(yaml.safe_dump(mapping, sort_keys=False))
    return str(path)


def test_network_card_and_report(experiment, tmp_path, capsys):
    out = tmp_path / "shipped"
    file = write(experiment, tmp_path / "small.yaml")
    assert main(["expressions", file, "--out", str(out)]) == 0
    network = load_network(out / "network.safetensors")
    assert list(network.classes_) == ["anger", "happiness", "neutral"]
    card = json.loads((out / "card.json").read_text())
    assert card["scores"]["accuracy"] == card["scores"]["accuracy_as_shipped"] > 0.6
    # the network of this file looks at one view as it is
    scores = card["scores"]
    assert scores["accuracy_as_shipped_of_one_view"] == scores["accuracy_as_shipped"]
    assert scores["accuracy_as_shipped_of_ten_crops"] > 0.6
    assert scores["accuracy_as_shipped_of_ten_affine"] > 0.6
    command = f"python -m ferpipe.train expressions {file} --out OUT"
    assert card["command"] == command
    assert "PublicTest" in card["protocol"]
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["primary_scores"]["accuracy"] == pytest.approx(
        card["scores"]["accuracy"], abs=1e-5
    )
    assert results["splits"]["official"]["calibration"]["error"] == pytest.approx(
        card["scores"]["expected_calibration_error"], abs=1e-5
    )
    page = (tmp_path / "report" / "report.html").read_text()
    assert "expected calibration error" in page
    assert "Without images that training has too" in page
    assert "accuracy_as_shipped" in capsys.readouterr().out


def test_another_pipeline_is_refused(experiment, tmp_path, capsys):
    experiment["pipeline"] = {"pixels": "PixelFeatures", "classify": "LinearSVC"}
    file = write(experiment, tmp_path / "other.yaml")
    assert main(["expressions", file, "--out", str(tmp_path / "out")]) == 2
    assert "expected one ImageNetwork" in capsys.readouterr().err
