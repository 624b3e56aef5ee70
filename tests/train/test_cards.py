import json

import numpy as np

from ferpipe.train.cards import write_card


def test_the_card_says_where_it_comes_from(tmp_path):
    (tmp_path / "network.onnx").write_bytes(b"weights")
    path = write_card(
        tmp_path,
        ["network.onnx"],
        what="a test",
        data="nothing",
        terms="free",
        protocol="none",
        scores={"mean_error": 0.1},
        command="python -m ferpipe.train fitter FOLDER",
        recipe={"size": 96},
        packages=["numpy"],
    )
    card = json.loads(path.read_text())
    assert (card["data"], card["terms"]) == ("nothing", "free")
    assert card["bytes"]["network.onnx"] == 7
    assert len(card["sha256"]["network.onnx"]) == 64
    assert card["versions"]["numpy"] == np.__version__
