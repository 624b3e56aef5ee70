"""Model files of every format load and predict the same as on the day they were saved.

Those of format 1 were saved at commit 13a3f9c, before modules and parameters were renamed.
There is one file per public estimator and parameter object, with other parameters than the
defaults, and files of pipelines. ``samples.npz`` holds synthetic faces and random numbers;
each model's ``.npz`` holds the name of its data and its answers of that day.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import ferpipe

SAVED = Path(__file__).parent / "saved"
LISTS = {"films", "tracks", "faces_films"}
FILES = sorted(SAVED.glob("format*/*.joblib"))


def test_the_files_are_all_there():
    counts = Counter(path.parent.name for path in FILES)
    assert counts == {"format1": 37, "format2": 4}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.filterwarnings("ignore:.*was saved with:UserWarning")
@pytest.mark.filterwarnings("ignore:Trying to unpickle estimator")
def test_a_model_predicts_as_on_the_day_it_was_saved(path, tmp_path, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path))
    expected = np.load(path.with_suffix(".npz"))
    data = str(expected["data"])
    X = np.load(SAVED / "format1" / "samples.npz")[data]
    model = ferpipe.load(path)
    for method in expected.files:
        if method == "data":
            continue
        answer = getattr(model, method)(list(X) if data in LISTS else X)
        if method == "predict":
            np.testing.assert_array_equal(answer, expected[method])
        else:
            np.testing.assert_allclose(answer, expected[method], rtol=1e-4, atol=1e-5)
