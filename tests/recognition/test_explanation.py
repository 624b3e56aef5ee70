from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from torch.nn.functional import adaptive_avg_pool2d

from ferpipe import ImageNetwork, PerFrame, PixelFeatures, PoolFrames, Training
from ferpipe.recognition import explanation
from ferpipe.recognition.explanation import (
    class_activation_map,
    grad_cam,
    occlusion_map,
    plot_explanation,
)

CLASSES = ["anger", "fear", "happiness"]
CORNER = np.s_[:12, 20:]  # rows and columns of what tells the classes apart


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def linear(rng):
    """Image and fitted model whose scores are weighted sums of the pixels."""
    images = rng.random((30, 14, 11))
    model = make_pipeline(PixelFeatures(), Perceptron()).fit(images, CLASSES * 10)
    return images[0], model


def striped(n, rng):
    """Noise and, in one corner, stripes that lie for fear and stand for anger."""
    images = rng.normal(100, 20, (n, 32, 32))
    stripes = 50 * (np.arange(12) // 2 % 2 * 2 - 1)
    images[::2, 0:12, 20:32] += stripes[:, None]
    images[1::2, 0:12, 20:32] += stripes
    return images.clip(0, 255).astype(np.uint8), np.array(["fear", "anger"] * (n // 2))


@pytest.fixture(scope="module")
def trained():
    X, y = striped(96, np.random.default_rng(0))
    training = Training(max_epochs=6, batch_size=16)
    network = ImageNetwork(training=training, random_state=0).fit(X, y)
    test, truth = striped(8, np.random.default_rng(1))
    assert (network.predict(test) == truth).all()
    return network, test


def test_occlusion_of_a_linear_model_is_what_the_hidden_pixels_add(linear):
    image, model = linear
    weights = model[-1].coef_[1].reshape(14, 11)
    added = weights * (image - image.mean())
    total, times = np.zeros((14, 11)), np.zeros((14, 11))
    for row in (0, 3, 6, 9, 10):  # the last patch of 4 pixels ends at the border
        for left in (0, 3, 6, 7):
            total[row : row + 4, left : left + 4] += added[
                row : row + 4, left : left + 4
            ].sum()
            times[row : row + 4, left : left + 4] += 1
    values = occlusion_map(model, image, label="fear", patch=4, stride=3)
    np.testing.assert_allclose(values, total / times, rtol=0, atol=1e-4)


def test_occlusion_of_two_classes_has_two_signs(rng):
    images = rng.random((20, 12, 12))
    model = make_pipeline(PixelFeatures(), LinearSVC(dual=False))
    model.fit(images, CLASSES[:2] * 10)
    anger, fear = (occlusion_map(model, images[0], label=name) for name in CLASSES[:2])
    np.testing.assert_allclose(anger, -fear)
    added = model[-1].coef_[0] @ (images[0] - images[0].mean()).ravel()
    whole = occlusion_map(model, images[0], label="fear", patch=12)
    np.testing.assert_allclose(whole, added, rtol=1e-5)


def test_occlusion_takes_probabilities_where_there_are_any(rng):
    images = rng.random((20, 12, 12))
    model = make_pipeline(PixelFeatures(), LogisticRegression())
    model.fit(images, CLASSES[:2] * 10)
    gray = np.full((1, 12, 12), images[0].mean())
    expected = model.predict_proba(images[:1])[0, 1] - model.predict_proba(gray)[0, 1]
    values = occlusion_map(model, images[0], label="fear", patch=12)
    np.testing.assert_allclose(values, expected, rtol=1e-4)


def test_occlusion_explains_the_predicted_class_unless_told(linear):
    image, model = linear
    maps = {name: occlusion_map(model, image, label=name) for name in CLASSES}
    expected = maps[model.predict(image[None])[0]]
    np.testing.assert_array_equal(occlusion_map(model, image), expected)
    assert len({values.tobytes() for values in maps.values()}) == 3


def test_occlusion_does_not_depend_on_its_batches(linear, monkeypatch):
    image, model = linear
    expected = occlusion_map(model, image, patch=3)
    monkeypatch.setattr(explanation, "_BATCH", 7)
    np.testing.assert_allclose(occlusion_map(model, image, patch=3), expected, atol=1e-6)


def test_occlusion_of_uint8_and_float_agree_and_leave_the_image(rng):
    images = rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    model = make_pipeline(PixelFeatures(), Perceptron()).fit(images, CLASSES * 4)
    kept = images[0].copy()
    np.testing.assert_allclose(
        occlusion_map(model, images[0]), occlusion_map(model, images[0] * 1.0), atol=1e-3
    )
    np.testing.assert_array_equal(images[0], kept)


def contrast(values):
    """Mean in the corner over mean elsewhere."""
    inside = np.zeros(values.shape, bool)
    inside[CORNER] = True
    positive = np.maximum(values, 0)
    return positive[inside].mean() / positive[~inside].mean()


def test_both_maps_light_up_where_the_class_is_told(trained):
    network, images = trained
    for image in images:
        assert contrast(occlusion_map(network, image)) > 10
    # The maps have 4×4 places, each spread over more than its 8×8 pixels.
    assert contrast(np.mean([grad_cam(network, image) for image in images], axis=0)) > 3


def test_grad_cam_equals_finite_differences(trained):
    network, images = trained
    module = deepcopy(network.net_.module_).double().eval()
    frames = torch.from_numpy((images[0] - images[0].mean()) / images[0].std())
    with torch.no_grad():
        maps = module.backbone.filters(frames[None, None])

        def score(maps):
            return module.output(module.backbone.dense(adaptive_avg_pool2d(maps, 6)))[:, 1]

        # Row k adds a step to all places of map k.
        steps = 1e-5 * torch.eye(96, dtype=torch.double)[:, :, None, None]
        slopes = (score(maps + steps) - score(maps - steps)) / 2e-5
    weights = slopes.numpy() / (maps.shape[2] * maps.shape[3])
    values = np.maximum(0, np.einsum("k,khw->hw", weights, maps[0].numpy()))
    expected = cv2.resize(values, (32, 32), interpolation=cv2.INTER_LINEAR)
    assert expected.max() > 0
    np.testing.assert_allclose(
        grad_cam(network, images[0], label="fear"), expected, atol=1e-4 * expected.max()
    )


def test_class_activation_map_written_out(rng):
    maps, gradients = rng.normal(size=(2, 3, 4, 5))
    expected = sum(gradients[k].mean() * maps[k] for k in range(3)).clip(0)
    np.testing.assert_allclose(class_activation_map(maps, gradients), expected)
    assert (expected == 0).any()


def test_grad_cam_explains_the_predicted_class_unless_told(trained):
    network, images = trained
    fear, anger = (grad_cam(network, images[0], label=name) for name in ("fear", "anger"))
    np.testing.assert_array_equal(grad_cam(network, images[0]), fear)
    assert not np.allclose(fear, anger)


def test_grad_cam_leaves_the_network_as_it_was(trained):
    network, images = trained
    module = network.net_.module_
    module.zero_grad()
    grad_cam(network, images[0])
    assert not any(part._forward_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_grad_cam_of_a_frozen_network_is_the_same(trained):
    network, images = trained
    frozen = deepcopy(network)
    frozen.net_.module_.freeze_frames()
    np.testing.assert_array_equal(grad_cam(frozen, images[0]), grad_cam(network, images[0]))


@pytest.mark.parametrize(
    ("frames", "shape"),
    [
        ("hog_cnn", (96, 3, 3)),
        ("residual", (256, 3, 3)),
        ("paper_000", (512, 3, 3)),
        ("paper_004_unsteered", (256, 3, 3)),
    ],
)
def test_grad_cam_takes_the_last_maps_of_a_frame_network(frames, shape, rng, monkeypatch):
    images = rng.integers(0, 256, (4, 24, 24, 3), dtype=np.uint8)
    network = ImageNetwork(backbone=frames, training=Training(max_epochs=1), random_state=0)
    network.fit(images, CLASSES[:2] * 2)
    seen = []

    def spy(maps, gradients):
        seen.append(maps.shape)
        assert gradients.any()
        return class_activation_map(maps, gradients)

    monkeypatch.setattr(explanation, "class_activation_map", spy)
    assert grad_cam(network, images[0]).shape == (24, 24)
    assert seen == [shape]


def test_grad_cam_refuses_a_network_that_warps_its_images(rng):
    images = rng.integers(0, 256, (4, 16, 16), dtype=np.uint8)
    network = ImageNetwork(backbone="paper_004", training=Training(max_epochs=1))
    network.fit(images, CLASSES[:2] * 2)
    with pytest.raises(ValueError, match=r"backbone='paper_004' warps .*use occlusion_map"):
        grad_cam(network, images[0])


def test_grad_cam_refuses_wrong_input(trained, linear):
    network, images = trained
    with pytest.raises(TypeError, match=r"ImageNetwork, got Pipeline: use occlusion_map"):
        grad_cam(linear[1], linear[0])
    with pytest.raises(NotFittedError):
        grad_cam(ImageNetwork(), images[0])
    with pytest.raises(ValueError, match=r"shape \(31, 32\), but ImageNetwork was fitted"):
        grad_cam(network, images[0][1:], label="fear")
    with pytest.raises(ValueError, match=r"one of .*'anger', 'fear'.* got 'joy'"):
        grad_cam(network, images[0], label="joy")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "joy"}, r"one of the model's classes \['anger'.* got 'joy'"),
        ({"patch": 12}, r"patch=12 is larger than the image of 14x11"),
        ({"patch": 3, "stride": 4}, r"stride=4 is larger than patch=3"),
        ({"patch": 0}, r"patch must be a whole number .* got 0"),
        ({"stride": 1.5}, r"stride must be a whole number .* got 1.5"),
    ],
)
def test_occlusion_refuses_wrong_settings(linear, settings, message):
    with pytest.raises(ValueError, match=message):
        occlusion_map(linear[1], linear[0], **settings)


def test_occlusion_refuses_other_models(linear, rng):
    image, _ = linear
    for model in ("a string", make_pipeline(PixelFeatures(), LinearRegression())):
        with pytest.raises(TypeError, match="classifier of images is needed, got"):
            occlusion_map(model, image)
    with pytest.raises(NotFittedError):
        occlusion_map(make_pipeline(PixelFeatures(), LinearSVC(dual=False)), image)
    sequences = rng.random((6, 2, 14, 11))
    steps = PerFrame(PixelFeatures()), PoolFrames("mean"), LinearSVC(dual=False)
    model = make_pipeline(*steps).fit(sequences, CLASSES * 2)
    with pytest.raises(TypeError, match="got one of sequences"):
        occlusion_map(model, image)


def test_occlusion_refuses_a_model_of_bare_labels(rng):
    class Nearest(NearestCentroid):
        predict_proba = decision_function = property()  # as in older scikit-learn

    images = rng.random((6, 14, 11))
    model = make_pipeline(PixelFeatures(), Nearest()).fit(images, CLASSES * 2)
    with pytest.raises(TypeError, match="neither probabilities nor scores"):
        occlusion_map(model, images[0])


def test_plot_lays_the_map_over_the_image(rng):
    image = rng.random((8, 9, 3))
    values = np.zeros((8, 9))
    values[2, 3], values[4, 5] = 0.5, -2.0
    axes = plot_explanation(image, values)
    face, overlay = axes.images
    assert face.get_array().shape == (8, 9)
    np.testing.assert_array_equal(overlay.get_array(), values)
    assert overlay.get_clim() == (-2, 2)
    shown = overlay.get_alpha()
    assert (shown[2, 3], shown[4, 5], shown[0, 0]) == pytest.approx((0.2, 0.8, 0))
    red, _, blue, _ = overlay.to_rgba(2.0)
    assert red > blue
    axes.figure.canvas.draw()


def test_plot_draws_where_it_is_told_and_an_empty_map(rng):
    axes = Figure().subplots()
    assert plot_explanation(rng.random((8, 9)), np.zeros((8, 9)), axes) is axes
    axes.figure.canvas.draw()
    with pytest.raises(ValueError, match=r"image's shape \(8, 9\), got \(9, 8\)"):
        plot_explanation(rng.random((8, 9)), np.zeros((9, 8)))
