"""Explanations of a classifier of images: occlusion maps and Grad-CAM."""

from copy import deepcopy
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from ferpipe._base import input_kind
from ferpipe._checks import check_frame_shape, check_images
from ferpipe.features.extractor import to_gray
from ferpipe.networks.image import ImageNetwork

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.axes import Axes

__all__ = ["class_activation_map", "grad_cam", "occlusion_map", "plot_explanation"]

_BATCH = 256  # number of occluded images that are classified together


def occlusion_map(
    model: Any,
    image: ArrayLike,
    *,
    label: Any = None,
    patch: int = 8,
    stride: int = 2,
) -> NDArray:
    """Measure how much each pixel matters, by sliding a gray patch over the image.

    Parameters
    ----------
    model : classifier
        Fitted classifier of images: a network, or a Pipeline that ends in one or in any
        classifier of scikit-learn.
    image : array-like of shape (h, w) or (h, w, 3)
        An image as the model takes it.
    label : object, default=None
        Class to explain, one of ``model.classes_``; None takes the predicted one.
    patch : int, default=8
        Side of the patch in pixels.
    stride : int, default=2
        Steps of the patch in pixels, at most ``patch``: every pixel is covered.

    Returns
    -------
    values : ndarray of shape (h, w)
        Decrease of the probability of the class when a pixel is hidden: the mean over the
        patches that hide it. Positive where the image supports the class, negative where it
        contradicts it.

    Raises
    ------
    TypeError
        If the model is not a classifier of images, or has neither ``predict_proba`` nor
        ``decision_function``.
    ValueError
        If the class is not known, the patch is larger than the image, or the stride is
        larger than the patch.

    See Also
    --------
    grad_cam : Faster and coarser, for ImageNetwork.

    Notes
    -----
    The patch has the mean of the image in each color channel, so that the scale of the
    pixels does not matter. A model without probabilities is explained by its scores
    (``decision_function``), which have the opposite sign for the first of two classes. In
    [1]_ a value belongs to the center of the patch, here to all pixels of the patch.

    References
    ----------
    .. [1] M. D. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks",
       ECCV 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from ferpipe import PixelFeatures
    >>> from ferpipe.recognition.explanation import occlusion_map
    >>> faces = np.random.default_rng(0).random((20, 24, 24))
    >>> faces[::2, :8, :8] += 1  # happiness has one bright corner
    >>> model = make_pipeline(PixelFeatures(), LogisticRegression())
    >>> values = occlusion_map(model.fit(faces, ["happiness", "anger"] * 10), faces[0])
    >>> bool(values[:8, :8].mean() > 5 * values[8:, 8:].mean())
    True
    """
    pixels = check_images([image], name="image")[0]
    # integers cannot hold the gray of the patch
    pixels = pixels.astype(np.result_type(pixels, np.float32), copy=False)
    _check_classifier(model)
    _check_patch(patch, stride, pixels.shape)
    column = _column(model, label, pixels)
    corners = [
        (row, left)
        for row in _starts(pixels.shape[0], patch, stride)
        for left in _starts(pixels.shape[1], patch, stride)
    ]
    whole = _scores(model, pixels[None])[0, column]
    total, times = np.zeros(pixels.shape[:2]), np.zeros(pixels.shape[:2])
    for start in range(0, len(corners), _BATCH):
        chunk = corners[start : start + _BATCH]
        scores = _scores(model, _hide(pixels, chunk, patch))[:, column]
        for (row, left), score in zip(chunk, scores, strict=True):
            hidden = np.s_[row : row + patch, left : left + patch]
            total[hidden] += whole - score
            times[hidden] += 1
    return total / times


def grad_cam(model: ImageNetwork, image: ArrayLike, *, label: Any = None) -> NDArray:
    """Find the image regions that support a class in a network's last feature maps.

    Parameters
    ----------
    model : ImageNetwork
        Fitted network.
    image : array-like of shape (h, w) or (h, w, 3)
        An image of the size of fit.
    label : object, default=None
        Class to explain, one of ``model.classes_``; None takes the predicted one.

    Returns
    -------
    values : ndarray of shape (h, w)
        0 or more; larger where the image supports the class more. The unit is that of the
        logit of the class: values of different images cannot be compared.

    Raises
    ------
    TypeError
        If the model is not an ImageNetwork.
    ValueError
        If the class is not known, the image does not have the size of fit, or the network
        warps its images first (``backbone="paper_004"``).

    See Also
    --------
    occlusion_map : For any classifier of images.

    Notes
    -----
    The maps are the last ones of the backbone with more than one pixel: 6×6 for "small_cnn"
    on images of 48×48. Bilinear interpolation enlarges them to the image. Test-time
    augmentation (``tta``) is not used. All is computed on the CPU with a copy of the
    network.

    References
    ----------
    .. [1] R. R. Selvaraju, M. Cogswell, A. Das, R. Vedantam, D. Parikh, D. Batra,
       "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
       ICCV 2017, eq. (1) and (2).

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import ImageNetwork, Training
    >>> from ferpipe.recognition.explanation import grad_cam
    >>> X = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
    >>> network = ImageNetwork(training=Training(max_epochs=1), random_state=0)
    >>> grad_cam(network.fit(X, ["anger", "fear"] * 4), X[0], label="fear").shape
    (32, 32)
    """
    import torch
    from torch.nn.functional import interpolate

    from ferpipe.networks.backbones.layers import SpatialTransformer
    from ferpipe.networks.training.batches import Batches, FrameDataset

    if not isinstance(model, ImageNetwork):
        raise TypeError(
            f"grad_cam explains an ImageNetwork, got {type(model).__name__}: use "
            "occlusion_map, or give the network alone and the image as the steps before it "
            "transform it."
        )
    check_is_fitted(model)
    images = check_images([image], name="image")
    check_frame_shape(images.shape[1:], model.image_shape_, model)
    column = _column(model, label, images[0])
    module = deepcopy(model.net_.module_).cpu().eval()
    if any(isinstance(part, SpatialTransformer) for part in module.backbone.modules()):
        raise ValueError(
            f"backbone={model.backbone!r} warps each image before its feature maps, so "
            "that positions in the maps are not positions in the image: use occlusion_map."
        )
    maps: list[Any] = []

    def keep(part: Any, inputs: Any, output: Any) -> None:
        is_map = isinstance(output, torch.Tensor) and output.ndim == 4
        if is_map and output.shape[2] * output.shape[3] > 1:
            maps.append(output)

    for part in module.backbone.modules():
        part.register_forward_hook(keep)
    ((batch, _),) = Batches(FrameDataset(images), 1)
    # frozen layers give maps with gradients only if their input requires gradients
    scores = module(batch.frames.requires_grad_())
    (gradients,) = torch.autograd.grad(scores[0, column], maps[-1])
    values = class_activation_map(maps[-1][0].detach().numpy(), gradients[0].numpy())
    enlarged = interpolate(
        torch.from_numpy(values)[None, None], images.shape[1:3], mode="bilinear"
    )
    return enlarged[0, 0].numpy()


def class_activation_map(maps: NDArray, gradients: NDArray) -> NDArray:
    """Weight feature maps by the derivative of the score of a class.

    With the score y and the maps A_k of Z pixels, a_k is the mean over the pixels of
    dy / dA_k (eq. 1), and the result max(0, sum over k of a_k A_k) (eq. 2).

    Parameters
    ----------
    maps : ndarray of shape (k, h, w)
        Feature maps.
    gradients : ndarray of shape (k, h, w)
        Derivative of the score by each value of the maps.

    Returns
    -------
    values : ndarray of shape (h, w)
        0 or more.

    References
    ----------
    .. [1] R. R. Selvaraju et al., "Grad-CAM", ICCV 2017, eq. (1) and (2).
    """
    weights = gradients.mean(axis=(1, 2))
    return np.maximum(0, np.tensordot(weights, maps, axes=1))


def plot_explanation(
    image: ArrayLike, values: ArrayLike, axes: "Axes | None" = None
) -> "Axes":
    """Draw a map over its image: red supports the class, blue contradicts it.

    Parameters
    ----------
    image : array-like of shape (h, w) or (h, w, 3)
        The image.
    values : array-like of shape (h, w)
        Result of :func:`occlusion_map` or :func:`grad_cam` for the image.
    axes : matplotlib Axes, default=None
        Axes to draw in; None makes a new figure.

    Returns
    -------
    axes : matplotlib Axes

    Raises
    ------
    ValueError
        If the map does not have the size of the image.
    """
    from matplotlib.figure import Figure

    images = check_images([image], name="image")
    values = np.asarray(values)
    if values.shape != images.shape[1:3]:
        raise ValueError(
            f"values must have the image's shape {images.shape[1:3]}, got {values.shape}: "
            "give a map of this image."
        )
    most = np.abs(values).max() or 1.0
    if axes is None:
        axes = Figure(layout="constrained").subplots()
    axes.imshow(to_gray(images)[0], cmap="gray")
    drawn = axes.imshow(
        values, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.8 * np.abs(values) / most
    )
    axes.figure.colorbar(drawn, ax=axes)
    axes.set(xticks=[], yticks=[])
    return axes


def _check_classifier(model: Any) -> None:
    if not hasattr(model, "predict") or not is_classifier(model):
        raise TypeError(
            f"Expected a fitted classifier of images, got {type(model).__name__}."
        )
    check_is_fitted(model)
    kind = input_kind(model)
    if kind not in (None, "images", "raw images", "raw"):
        raise TypeError(
            f"Expected a classifier of images, got one of {kind}: fit a model of single "
            "images."
        )
    if not hasattr(model, "predict_proba") and not hasattr(model, "decision_function"):
        raise TypeError(
            f"{type(model).__name__} has neither probabilities nor scores: use a "
            "classifier with predict_proba or decision_function."
        )


def _check_patch(patch: int, stride: int, shape: tuple[int, ...]) -> None:
    for name, value in (("patch", patch), ("stride", stride)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(
                f"{name} must be a whole number of pixels, 1 or more, got {value!r}."
            )
    if patch > min(shape[:2]):
        raise ValueError(
            f"patch={patch} is larger than the image of {shape[0]}x{shape[1]} pixels: "
            "make it smaller."
        )
    if stride > patch:
        raise ValueError(
            f"stride={stride} is larger than patch={patch}, which would leave pixels that "
            "are never hidden: make it smaller."
        )


def _column(model: Any, label: Any, image: NDArray) -> int:
    """Return the column of a class in the scores; None stands for the predicted class."""
    if label is None:
        label = model.predict(image[None])[0]
    classes = list(model.classes_)
    if label not in classes:
        raise ValueError(
            f"label must be one of the model's classes {[str(c) for c in classes]}, got "
            f"{label!r}."
        )
    return classes.index(label)


def _scores(model: Any, images: NDArray) -> NDArray:
    if hasattr(model, "predict_proba"):
        return model.predict_proba(images)
    scores = model.decision_function(images)
    return np.column_stack([-scores, scores]) if scores.ndim == 1 else scores


def _starts(side: int, patch: int, stride: int) -> list[int]:
    """Return the first rows or columns of the patches; the last one ends at the border."""
    return sorted({*range(0, side - patch + 1, stride), side - patch})


def _hide(image: NDArray, corners: list[tuple[int, int]], patch: int) -> NDArray:
    gray = image.mean(axis=(0, 1))
    images = np.repeat(image[None], len(corners), axis=0)
    for covered, (row, left) in zip(images, corners, strict=True):
        covered[row : row + patch, left : left + patch] = gray
    return images
