"""Random changes of training images, alike for all frames of a sequence."""

import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING

from sklearn.base import BaseEstimator

from ferpipe._compat import Interval

if TYPE_CHECKING:
    import torch

__all__ = ["Augment", "augment_batch", "mix_batch", "warp_frames"]


class Augment(BaseEstimator):
    """Settings of the random changes that training images go through.

    Everything is off by default. All frames of a sequence change alike; a single image is a
    sequence of one frame. Gray values change in units of the sequence's own range (highest
    minus lowest value), so that images on any scale are changed alike.

    Parameters
    ----------
    flip : bool or float, default=False
        Probability of mirroring left and right; True stands for 0.5.
    rotation : float, default=0.0
        Largest turn to either side, in radians.
    shear : float, default=0.0
        Largest slant of vertical lines to either side, in radians.
    scale : float, default=0.0
        Largest growth or shrinkage, as a fraction: sizes in 0.9 to 1.1 for 0.1.
    shift : float, default=0.0
        Largest shift along either axis, as a fraction of the side.
    crop : float, default=0.0
        Largest fraction of the side cut off: a window of 1 - crop to 1 times the side is
        placed at random within the image and enlarged to its size.
    window : float, default=1.0
        Side of a window as a fraction of the image's side, above 0.5. It is placed at
        random for each batch, what is beyond it is left out and nothing is enlarged: the
        network trains on smaller images, faster, and predicts whole ones. Made
        for those that end in a mean over places ("residual", "paper_000"); others bring
        the smaller image to the same grid of cells as the whole one.
    brightness : float, default=0.0
        Largest value added or subtracted, as a fraction of the range.
    contrast : float, default=0.0
        Largest fraction by which differences to the mean grow or shrink.
    noise : float, default=0.0
        Largest standard deviation of the pixel noise, as a fraction of the range.
    erase : float, default=0.0
        Probability that a rectangle (10 to 35 % of each side) is painted over with the
        sequence's mean.
    mixup : float, default=0.0
        Parameter of the Beta distribution that mixes the samples of a batch by twos,
        images and labels alike [1]_; 0.2 to 0.4 are usual. Sequences are mixed with
        others of their length only.

    Notes
    -----
    After a change of brightness or contrast or noise, values are clipped to the range
    that the sequence had, as a camera would do: only this saturation is left
    once a network has standardized its input.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical Risk
       Minimization", ICLR 2018, eq. (1).

    Examples
    --------
    >>> from ferpipe import Augment
    >>> Augment(flip=True, rotation=0.2)
    Augment(flip=True, rotation=0.2)
    """

    _parameter_constraints: dict = {
        "flip": ["boolean", Interval(Real, 0, 1, closed="both")],
        "rotation": [Interval(Real, 0, math.pi, closed="both")],
        "shear": [Interval(Real, 0, math.pi / 2, closed="left")],
        "scale": [Interval(Real, 0, 1, closed="left")],
        "shift": [Interval(Real, 0, 1, closed="both")],
        "crop": [Interval(Real, 0, 1, closed="left")],
        "window": [Interval(Real, 0.5, 1, closed="right")],
        "brightness": [Interval(Real, 0, 1, closed="both")],
        "contrast": [Interval(Real, 0, 1, closed="both")],
        "noise": [Interval(Real, 0, 1, closed="both")],
        "erase": [Interval(Real, 0, 1, closed="both")],
        "mixup": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        flip: bool | float = False,
        rotation: float = 0.0,
        shear: float = 0.0,
        scale: float = 0.0,
        shift: float = 0.0,
        crop: float = 0.0,
        window: float = 1.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        noise: float = 0.0,
        erase: float = 0.0,
        mixup: float = 0.0,
    ) -> None:
        self.flip = flip
        self.rotation = rotation
        self.shear = shear
        self.scale = scale
        self.shift = shift
        self.crop = crop
        self.window = window
        self.brightness = brightness
        self.contrast = contrast
        self.noise = noise
        self.erase = erase
        self.mixup = mixup


def augment_batch(
    frames: "torch.Tensor",
    augment: Augment,
    generator: "torch.Generator",
    lengths: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """Change a batch of images at random, all frames of a sequence alike.

    Parameters
    ----------
    frames : float Tensor of shape (N, c, h, w)
        Frames of all sequences, one sequence after the other.
    augment : Augment
        What to change and how far; ``mixup`` is left to mix_batch.
    generator : torch.Generator
        Source of the random numbers, on the CPU. The same state gives the same result.
    lengths : int Tensor of shape (n,) or None, default=None
        Number of frames of each sequence; None makes each frame a sequence.

    Returns
    -------
    frames : float Tensor of shape (N, c, h, w)
        New images, of ``window`` times the sides; the input is not changed.
    """
    import torch

    n_frames = len(frames)
    if lengths is None:
        owner = torch.arange(n_frames)
    else:
        owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    n_sequences = n_frames if lengths is None else len(lengths)

    def share(*shape: int) -> "torch.Tensor":
        """Random numbers in [0, 1): one per sequence, repeated for its frames."""
        numbers = torch.rand(n_sequences, *shape, generator=generator)
        return numbers[owner].to(frames.device)

    def spread(limit: "float | torch.Tensor", *shape: int) -> "torch.Tensor":
        return (2 * share(*shape) - 1) * limit

    if augment.flip:
        chance = 0.5 if augment.flip is True else augment.flip
        mirrored = share(1, 1, 1) < chance
        frames = torch.where(mirrored, frames.flip(-1), frames)
    if augment.rotation or augment.shear or augment.scale or augment.shift or augment.crop:
        window = 1 - augment.crop * share()
        frames = warp_frames(
            frames,
            angle=spread(augment.rotation),
            shear=spread(augment.shear),
            scale=1 + spread(augment.scale),
            shift=spread(augment.shift, 2),
            window=window,
            window_center=spread((1 - window[:, None]) / 2, 2),
        )
    if augment.brightness or augment.contrast or augment.noise:
        frames = _change_values(
            frames, augment, owner, n_sequences, share, spread, generator
        )
    if augment.erase:
        frames = _erase(frames, augment.erase, owner, n_sequences, share)
    if augment.window < 1:
        frames = _cut_window(frames, augment.window, generator)
    return frames


def mix_batch(
    frames: "torch.Tensor",
    alpha: float,
    generator: "torch.Generator",
    lengths: "torch.Tensor | None" = None,
) -> "tuple[torch.Tensor, torch.Tensor, float]":
    """Blend each sample of a batch with another one of its length.

    Parameters
    ----------
    frames : float Tensor of shape (N, c, h, w)
        Frames of all sequences, one sequence after the other.
    alpha : float
        Both parameters of the Beta distribution of the share.
    generator : torch.Generator
        Source of the random numbers, on the CPU.
    lengths : int Tensor of shape (n,) or None, default=None
        Number of frames of each sequence; None makes each frame a sequence.

    Returns
    -------
    frames : float Tensor of shape (N, c, h, w)
        ``share * frames + (1 - share) * frames of the partners``.
    partners : int Tensor of shape (n,)
        With which sample each one was mixed.
    share : float
        At least 0.5: the larger part is the sample's own.
    """
    import torch
    from scipy.special import betaincinv

    sampled = float(betaincinv(alpha, alpha, torch.rand((), generator=generator).item()))
    share = max(sampled, 1 - sampled)
    if lengths is None:
        partners = torch.randperm(len(frames), generator=generator)
        places = partners
    else:
        partners = torch.arange(len(lengths))
        for length in lengths.unique():
            alike = torch.nonzero(lengths == length)[:, 0]
            order = torch.randperm(len(alike), generator=generator)
            partners[alike] = alike[order]
        places = torch.cat(
            [
                torch.arange(len(frames)).split(lengths.tolist())[partner]
                for partner in partners
            ]
        )
    return torch.lerp(frames[places], frames, share), partners, share


def warp_frames(
    frames: "torch.Tensor",
    *,
    angle: "torch.Tensor",
    shear: "torch.Tensor",
    scale: "torch.Tensor",
    shift: "torch.Tensor",
    window: "torch.Tensor",
    window_center: "torch.Tensor",
) -> "torch.Tensor":
    """Turn, slant, resize, shift and crop images by one bilinear interpolation.

    The content is slanted, turned and resized about the image's center, then shifted,
    then the window is cut out. Beyond the border the border's pixels go on.

    Parameters
    ----------
    frames : float Tensor of shape (N, c, h, w)
        Images.
    angle, shear : float Tensor of shape (N,)
        Radians; a positive angle turns counter-clockwise in the image as shown.
    scale : float Tensor of shape (N,)
        1 keeps the size, 2 shows everything twice as large.
    shift : float Tensor of shape (N, 2)
        Right and down, as fractions of width and height.
    window : float Tensor of shape (N,)
        Side of the window as a fraction of the image's side.
    window_center : float Tensor of shape (N, 2)
        Right and down from the image's center, as fractions of width and height.

    Returns
    -------
    frames : float Tensor of shape (N, c, h, w)
    """
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    height, width = frames.shape[-2:]
    cos, sin, slant = torch.cos(angle), torch.sin(angle), torch.tan(shear)
    # The grid says where each output pixel comes from: the inverse of the content's motion.
    inverse = (
        torch.stack([cos + slant * sin, slant * cos - sin, sin, cos], dim=1).reshape(
            -1, 2, 2
        )
        / scale[:, None, None]
    )
    aspect = torch.tensor(
        [[1.0, height / width], [width / height, 1.0]], device=frames.device
    )
    inverse = inverse * aspect
    offset = inverse @ (2 * (window_center - shift))[:, :, None]
    theta = torch.cat([inverse * window[:, None, None], offset], dim=2)
    grid = affine_grid(theta, list(frames.shape), align_corners=False)
    return grid_sample(frames, grid, padding_mode="border", align_corners=False)


def _change_values(
    frames: "torch.Tensor",
    augment: Augment,
    owner: "torch.Tensor",
    n_sequences: int,
    share: "Callable[..., torch.Tensor]",
    spread: "Callable[..., torch.Tensor]",
    generator: "torch.Generator",
) -> "torch.Tensor":
    import torch

    low, high = _lowest_and_highest(frames, owner, n_sequences)
    extent = high - low
    if augment.contrast:
        mean = _sequence_mean(frames, owner, n_sequences)
        frames = mean + (frames - mean) * (1 + spread(augment.contrast, 1, 1, 1))
    if augment.brightness:
        frames = frames + extent * spread(augment.brightness, 1, 1, 1)
    if augment.noise:
        pixels = torch.randn(n_sequences, *frames.shape[1:], generator=generator)[owner]
        strength = augment.noise * share(1, 1, 1)
        frames = frames + extent * strength * pixels.to(frames.device)
    return frames.clamp(low, high)


def _erase(
    frames: "torch.Tensor",
    chance: float,
    owner: "torch.Tensor",
    n_sequences: int,
    share: "Callable[..., torch.Tensor]",
) -> "torch.Tensor":
    import torch

    def within(size: int) -> "torch.Tensor":
        """Which rows (or columns) the rectangle covers, for each frame."""
        places = (torch.arange(size, device=frames.device) + 0.5) / size
        half = (0.1 + 0.25 * share(1)) / 2
        return (places - share(1)).abs() < half

    rows, columns = within(frames.shape[2]), within(frames.shape[3])
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    covered &= share(1, 1, 1) < chance
    return torch.where(covered, _sequence_mean(frames, owner, n_sequences), frames)


def _cut_window(
    frames: "torch.Tensor", window: float, generator: "torch.Generator"
) -> "torch.Tensor":
    """Cut one window out of all frames of a batch."""
    import torch

    for axis in (2, 3):
        size = frames.shape[axis]
        side = round(window * size)
        start = int(torch.randint(size - side + 1, (), generator=generator))
        frames = frames.narrow(axis, start, side)
    return frames


def _sequence_mean(
    frames: "torch.Tensor", owner: "torch.Tensor", n_sequences: int
) -> "torch.Tensor":
    """Mean of the sequence that each frame belongs to, (N, 1, 1, 1)."""
    import torch

    owner = owner.to(frames.device)
    sums = torch.zeros(n_sequences, device=frames.device)
    sums = sums.index_add(0, owner, frames.mean(dim=(1, 2, 3)))
    counts = torch.bincount(owner, minlength=n_sequences)
    return (sums / counts)[owner][:, None, None, None]


def _lowest_and_highest(
    frames: "torch.Tensor", owner: "torch.Tensor", n_sequences: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Extremes of the sequence that each frame belongs to, (N, 1, 1, 1) each."""
    import torch

    owner = owner.to(frames.device)
    start = torch.zeros(n_sequences, device=frames.device)
    low = start.scatter_reduce(
        0, owner, frames.amin(dim=(1, 2, 3)), "amin", include_self=False
    )
    high = start.scatter_reduce(
        0, owner, frames.amax(dim=(1, 2, 3)), "amax", include_self=False
    )
    return low[owner][:, None, None, None], high[owner][:, None, None, None]
