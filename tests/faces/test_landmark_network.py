import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ferpipe.faces.landmark_network import PointNetwork, export_network


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = PointNetwork(32, (8, 8, 16, 16))
    network.train()
    for _ in range(3):  # so that the running statistics are not those of the start
        network(255 * torch.rand(8, 1, 32, 32))
    return network.eval()


def test_number_of_parameters_is_the_documented_one():
    n_parameters = sum(part.numel() for part in PointNetwork(96).parameters())
    assert n_parameters == 572_476
    assert f"{n_parameters:,} parameters" in PointNetwork.__doc__


def test_a_sharp_heat_map_gives_its_place(network):
    torch.nn.init.zeros_(network.heat.weight)
    crop = 255 * torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        # equal heat everywhere: the middle
        points = network(crop)
        np.testing.assert_allclose(points, np.full((1, 68, 2), 15.5), atol=1e-4)
        heat = torch.full((1, 68, 4, 4), -100.0)
        heat[:, :, 1, 3] = 100.0
        network.heat.register_forward_hook(lambda *_: heat)
        points = network(crop)
    np.testing.assert_allclose(points[0, 0], (27.5, 11.5), atol=1e-4)  # x, y


def test_light_and_contrast_do_not_matter(network):
    crop = 200 * torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        expected = network(crop)
        np.testing.assert_allclose(network(crop + 40), expected, atol=1e-3)
        assert (network(1.2 * crop) - expected).abs().max() < 1


def crops(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32), dtype=np.uint8)


def test_exported_network_gives_nearly_the_same(network, tmp_path):
    path = tmp_path / "a.onnx"
    export_network(network, path, crops(50), mean_shape=[[0, 1]], box_width=1.75)
    session = onnxruntime.InferenceSession(path)
    errors, spread = [], []
    for crop in crops(20, seed=1):
        (points,) = session.run(None, {"crop": crop[None, None]})
        with torch.no_grad():
            expected = network(torch.from_numpy(crop)[None, None].float()).numpy()
        errors.append(np.abs(points - expected).mean())
        spread.append(expected)
    # 8 bits: a small part of what the points differ by from crop to crop
    assert np.mean(errors) < 0.1 * np.std(spread, axis=0).mean()
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["box_width"]) == 1.75
    assert json.loads(facts["mean_shape"]) == [[0, 1]]


def test_exported_file_says_nothing_of_the_machine(network, tmp_path):
    export_network(network, tmp_path / "a.onnx", crops(5))
    content = (tmp_path / "a.onnx").read_bytes()
    assert b"site-packages" not in content
    assert not re.search(rb"\.py\b", content)
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model)
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds.values()


def test_export_says_nothing(network, tmp_path, capfd):
    export_network(network, tmp_path / "a.onnx", crops(5))
    assert capfd.readouterr() == ("", "")
