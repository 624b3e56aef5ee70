"""Test-time augmentation: several views of an image, whose probabilities are averaged."""

from typing import TYPE_CHECKING

from ferpipe.networks.training.augment import warp_frames

if TYPE_CHECKING:
    import torch

__all__ = ["TTA", "augmented_views"]

TTA = ("flip", "ten_crop", "ten_affine")
# turns to the left in radians and sizes: within what networks for faces are trained to bear
_POSES = ((0.1, 1.0), (-0.1, 1.0), (0.0, 1.07), (0.0, 0.93))


def augmented_views(frames: "torch.Tensor", tta: str | None) -> "list[torch.Tensor]":
    """Return the views of images that a network averages over.

    Parameters
    ----------
    frames : float Tensor of shape (n, c, h, w)
        Images.
    tta : {"flip", "ten_crop", "ten_affine"} or None
        The image; also its mirror image; or five windows of 11/12 of the sides, in the
        corners and in the middle, and their mirror images; or the image as it is, turned
        by 0.1 radians to either side, 7 % larger and 7 % smaller, and their mirror images.

    Returns
    -------
    frames : list of Tensor of shape (n, c, h', w')
        1, 2 or 10 of them.

    Raises
    ------
    ValueError
        If there are no such views.
    """
    if tta is not None and tta not in TTA:
        raise ValueError(f"tta must be None or one of {', '.join(TTA)}, got {tta!r}.")
    if tta is None:
        return [frames]
    if tta == "ten_crop":
        windows = _windows(frames)
    elif tta == "ten_affine":
        windows = [frames, *(_posed(frames, *pose) for pose in _POSES)]
    else:
        windows = [frames]
    return [view for window in windows for view in (window, window.flip(-1))]


def _windows(frames: "torch.Tensor") -> "list[torch.Tensor]":
    height, width = frames.shape[-2:]
    down, right = round(height / 12), round(width / 12)
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    return [
        frames[..., top : top + height - down, left : left + width - right]
        for top, left in corners
    ]


def _posed(frames: "torch.Tensor", angle: float, scale: float) -> "torch.Tensor":
    n_frames = len(frames)
    return warp_frames(
        frames,
        angle=frames.new_full((n_frames,), angle),
        shear=frames.new_zeros(n_frames),
        scale=frames.new_full((n_frames,), scale),
        shift=frames.new_zeros(n_frames, 2),
        window=frames.new_ones(n_frames),
        window_center=frames.new_zeros(n_frames, 2),
    )
