import cv2
import numpy as np
import pytest
import torch

from ferpipe import ImageNetwork, Training
from ferpipe.networks.test_time_augmentation import augmented_views


def test_views_of_an_image():
    frames = torch.arange(2 * 24 * 36.0).reshape(2, 1, 24, 36)
    assert [view is frames for view in augmented_views(frames, None)] == [True]
    image, mirrored = augmented_views(frames, "flip")
    assert image is frames
    assert torch.equal(mirrored[..., 0], frames[..., -1])
    ten = augmented_views(frames, "ten_crop")
    assert len(ten) == 10
    assert {tuple(view.shape) for view in ten} == {(2, 1, 22, 33)}
    places = {(0, 0), (0, 3), (2, 0), (2, 3), (1, 1)}
    firsts = {int(view[0, 0, 0, 0]) for view in ten[::2]}
    assert firsts == {36 * top + left for top, left in places}
    for view, mirror in zip(ten[::2], ten[1::2], strict=True):
        assert torch.equal(view.flip(-1), mirror)


def test_poses_of_an_image():
    image = np.zeros((1, 24, 36), np.float32)
    image[0, 8:13, 10:25] = 100
    frames = torch.from_numpy(image)[None]
    views = augmented_views(frames, "ten_affine")
    assert views[0] is frames
    for view, mirror in zip(views[::2], views[1::2], strict=True):
        assert torch.equal(view.flip(-1), mirror)
    center = ((36 - 1) / 2, (24 - 1) / 2)
    degrees = np.rad2deg(0.1)
    poses = [(degrees, 1), (-degrees, 1), (0, 1.07), (0, 0.93)]
    for view, (angle, scale) in zip(views[2::2], poses, strict=True):
        matrix = cv2.getRotationMatrix2D(center, angle, scale)
        expected = cv2.warpAffine(
            image[0], matrix, (36, 24), borderMode=cv2.BORDER_REPLICATE
        )
        # OpenCV interpolates at places rounded to a 32nd of a pixel
        np.testing.assert_allclose(view[0, 0].numpy(), expected, atol=100 / 16)
        assert np.abs(view[0, 0].numpy() - image[0]).max() > 25


@pytest.mark.parametrize("frames", ["small_cnn", "residual"])
def test_probabilities_of_views_are_averaged(frames):
    X = np.random.default_rng(0).integers(0, 256, (12, 24, 24), dtype=np.uint8)
    network = ImageNetwork(
        backbone=frames, training=Training(max_epochs=1), random_state=0
    ).fit(X, ["anger", "fear"] * 6)
    one = network.predict_proba(X)
    mirrored = network.predict_proba(X[:, :, ::-1])
    both = network.set_params(tta="flip").predict_proba(X)
    np.testing.assert_allclose(both, (one + mirrored) / 2, atol=1e-6)
    np.testing.assert_allclose(network.predict_proba(X[:, :, ::-1]), both, atol=1e-6)
    embeddings = [network.set_params(tta=None).transform(x) for x in (X, X[:, :, ::-1])]
    mean = network.set_params(tta="flip").transform(X)
    np.testing.assert_allclose(mean, np.mean(embeddings, axis=0), atol=1e-5)
    assert not np.allclose(mean, embeddings[0])
    ten = network.set_params(tta="ten_crop").predict_proba(X)
    windows = [
        X[:, top : top + 22, left : left + 22]
        for top, left in [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    ]
    # one estimator a size of image: the windows go through its module
    module = network.net_.module_.eval()
    mean = np.zeros_like(ten)
    with torch.inference_mode():
        for window in windows:
            for view in (window, window[:, :, ::-1].copy()):
                scores = module(torch.from_numpy(view).float()[:, None], None)
                mean += scores.softmax(1).numpy() / 10
    np.testing.assert_allclose(ten, mean, atol=1e-5)
