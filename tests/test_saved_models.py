"""Model files of format 1, saved at commit 13a3f9c, load and predict the same as then.

There is one file per public estimator and parameter object, with other parameters than the
defaults, and files of pipelines. ``samples.npz`` holds synthetic faces and random numbers;
each model's ``.npz`` holds the name of its data and its answers of that day.
"""

from pathlib import Path

import numpy as np
import pytest

import ferpipe

FOLDER = Path(__file__).parent / "saved" / "format1"
LISTS = {"films", "tracks", "faces_films"}
NAMES = sorted(path.stem for path in FOLDER.glob("*.joblib"))


def test_the_files_are_all_there():
    assert len(NAMES) == 37


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*was saved with:UserWarning")
@pytest.mark.filterwarnings("ignore:Trying to unpickle estimator")
def test_a_model_of_format_1_predicts_as_on_the_day_it_was_saved(
    name, tmp_path, monkeypatch
):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path))
    expected = np.load(FOLDER / f"{name}.npz")
    data = str(expected["data"])
    X = np.load(FOLDER / "samples.npz")[data]
    model = ferpipe.load(FOLDER / f"{name}.joblib")
    for method in expected.files:
        if method == "data":
            continue
        answer = getattr(model, method)(list(X) if data in LISTS else X)
        if method == "predict":
            np.testing.assert_array_equal(answer, expected[method])
        else:
            np.testing.assert_allclose(answer, expected[method], rtol=1e-4, atol=1e-5)
