import pickle

import cv2
import numpy as np
import pytest
import torch

from ferpipe import CNNFeatures, ImageNetwork, PerFrame, Training, pretrained
from ferpipe.networks.pretrained import save_network


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    return pretrained("fer2013")


def fitted_on(shape, folder, *, backbone="residual"):
    X = np.random.default_rng(1).integers(0, 256, (8, *shape), dtype=np.uint8)
    y = ["anger", "fear"] * 4
    training = Training(max_epochs=1, precision="float32")
    network = ImageNetwork(backbone=backbone, training=training, random_state=0).fit(X, y)
    return network, save_network(network, folder / "network.safetensors")


def test_last_block_averaged_is_the_embeddings(faces):
    features = CNNFeatures(block=5, cells=1).fit_transform(faces)
    embeddings = pretrained("fer2013").set_params(tta=None).transform(faces)
    np.testing.assert_allclose(features, embeddings, atol=1e-5)


@pytest.mark.parametrize("block", [1, 2, 3, 4, 5])
def test_maps_are_those_that_pass_through_the_network(faces, network, block):
    seen = []
    module = network.net_.module_.eval()
    parts = [part for part in module.backbone.filters if hasattr(part, "second")]
    hook = parts[block - 1].register_forward_hook(lambda *_: seen.append(_[2]))
    with torch.inference_mode():
        module(torch.from_numpy(faces[:, None].astype(np.float32)))
    hook.remove()
    maps = seen[0].numpy()
    extractor = CNNFeatures(block=block, cells=None).fit(faces)
    features = extractor.transform(faces)
    np.testing.assert_allclose(features, maps.reshape(6, -1), atol=1e-4)
    name = extractor.get_feature_names_out()[features.shape[1] // 2 + 3]
    number, place = name.removeprefix("cnn_f").split("_r")
    row, column = map(int, place.split("c"))
    at_name = features[:, features.shape[1] // 2 + 3]
    np.testing.assert_allclose(at_name, maps[:, int(number), row, column], atol=1e-4)


def test_cells_are_means_over_places(faces):
    maps = CNNFeatures(cells=None).fit_transform(faces).reshape(6, 128, 12, 12)
    expected = maps.reshape(6, 128, 4, 3, 4, 3).mean(axis=(3, 5))
    features = CNNFeatures().fit_transform(faces)
    np.testing.assert_allclose(features, expected.reshape(6, -1), atol=1e-5)


def test_views_are_the_face_and_its_mirror_image(faces):
    one, flip = CNNFeatures().fit(faces), CNNFeatures(tta="flip").fit(faces)
    mirrored = faces[:, :, ::-1]
    expected = (one.transform(faces) + one.transform(mirrored)) / 2
    np.testing.assert_allclose(flip.transform(faces), expected, atol=1e-5)
    assert np.abs(one.transform(faces) - one.transform(mirrored)).max() > 0.1


def test_other_sizes_are_brought_to_that_of_the_network(faces):
    large = np.stack(
        [cv2.GaussianBlur(cv2.resize(face, (96, 96)), (0, 0), 5) for face in faces]
    )
    halved = large.reshape(6, 48, 2, 48, 2).mean(axis=(2, 4))
    features = CNNFeatures().fit_transform(large)
    direct = CNNFeatures().fit_transform(halved)
    assert np.corrcoef(features.ravel(), direct.ravel())[0, 1] > 0.998
    wide = np.random.default_rng(0).random((2, 20, 33, 3))
    assert CNNFeatures().fit_transform(wide).shape == (2, 2048)


@pytest.mark.parametrize("backbone", ["residual", "wide_residual"])
def test_network_of_color_images_sees_color(tmp_path, backbone):
    network, file = fitted_on((24, 24, 3), tmp_path, backbone=backbone)
    X = np.random.default_rng(2).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    extractor = CNNFeatures(weights=file, block=5, cells=1)
    np.testing.assert_allclose(extractor.fit_transform(X), network.transform(X), atol=2e-2)
    gray = X[..., 0]
    same = np.repeat(gray[..., None], 3, axis=3)
    np.testing.assert_array_equal(
        extractor.fit_transform(gray), extractor.fit_transform(same)
    )


def test_saved_extractor_needs_no_file_of_weights(tmp_path):
    _, file = fitted_on((24, 24), tmp_path)
    X = np.random.default_rng(2).random((3, 24, 24))
    extractor = CNNFeatures(weights=file, cells=3).fit(X)
    expected = extractor.transform(X)
    stored = pickle.dumps(extractor)
    file.unlink()
    assert b"torch" not in stored
    np.testing.assert_array_equal(pickle.loads(stored).transform(X), expected)
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        extractor.fit(X)


def test_frames_of_sequences(faces):
    films = [faces[:2], faces[2:]]
    rows = PerFrame(CNNFeatures()).fit_transform(films)
    whole = CNNFeatures().fit_transform(faces)
    np.testing.assert_allclose(np.concatenate(rows), whole, atol=1e-5)


def test_another_kind_of_network_is_refused(tmp_path):
    _, file = fitted_on((24, 24), tmp_path, backbone="small_cnn")
    with pytest.raises(ValueError, match="of backbone='small_cnn': CNNFeatures takes"):
        CNNFeatures(weights=file).fit(np.zeros((2, 24, 24)))


def test_grid_finer_than_the_maps_is_refused(faces):
    with pytest.raises(ValueError, match=r"maps of block 5, which have 6 x 6 places"):
        CNNFeatures(block=5, cells=7).fit(faces)
