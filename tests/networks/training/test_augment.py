import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import kstest
from skimage.data import camera
from skimage.transform import rescale, resize, rotate

from ferpipe import Augment
from ferpipe.networks.training.augment import augment_batch, mix_batch, warp_frames

EVERYTHING = {
    "flip": True,
    "rotation": 0.3,
    "shear": 0.2,
    "scale": 0.1,
    "shift": 0.1,
    "crop": 0.2,
    "brightness": 0.2,
    "contrast": 0.3,
    "noise": 0.1,
    "erase": 1.0,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_image(height=40, width=40):
    image = resize(camera()[100:400, 100:400] / 255, (height, width), anti_aliasing=True)
    return torch.from_numpy(image).float()[None, None]


def warp(frames, **changes):
    n = len(frames)
    settings = {
        "angle": torch.zeros(n),
        "shear": torch.zeros(n),
        "scale": torch.ones(n),
        "shift": torch.zeros(n, 2),
        "window": torch.ones(n),
        "window_center": torch.zeros(n, 2),
    }
    changes = {name: torch.tensor(value).expand(n, -1) if isinstance(value, tuple) else
               torch.full((n,), value) for name, value in changes.items()}  # fmt: skip
    return warp_frames(frames, **{**settings, **changes})


def inside(image, margin):
    return image[..., margin:-margin, margin:-margin]


@pytest.mark.parametrize("named", EVERYTHING)
def test_all_frames_of_a_sequence_change_alike(named):
    image = smooth_image()
    lengths = torch.tensor([3, 1, 4])
    frames = image.expand(8, 1, 40, 40).contiguous()
    augment = Augment(**{named: EVERYTHING[named]})
    for seed in range(20):
        result = augment_batch(frames, augment, generator(seed), lengths)
        first, _, last = result.split(lengths.tolist())
        assert torch.equal(first, first[:1].expand_as(first))
        assert torch.equal(last, last[:1].expand_as(last))
        if not torch.equal(first[0], last[0]):
            return
    pytest.fail("all sequences were changed alike, in 20 batches")


@pytest.mark.parametrize("named", EVERYTHING)
def test_only_what_is_named_is_on(named):
    frames = smooth_image().repeat(16, 1, 1, 1)
    before = frames.clone()
    unchanged = augment_batch(frames, Augment(), generator())
    assert torch.equal(unchanged, before)
    changed = augment_batch(frames, Augment(**{named: EVERYTHING[named]}), generator())
    assert torch.equal(frames, before)
    assert not torch.equal(changed, before)


def test_same_generator_same_result_and_global_state_untouched():
    frames = torch.rand(6, 3, 20, 24)
    state = torch.random.get_rng_state()
    one, two, three = (
        augment_batch(frames, Augment(**EVERYTHING), generator(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_flip_is_exact_mirroring():
    frames = torch.rand(3, 3, 11, 9)
    assert torch.equal(
        augment_batch(frames, Augment(flip=1.0), generator()), torch.flip(frames, dims=[3])
    )
    many = torch.arange(2.0).expand(400, 1, 1, 2)
    flipped = augment_batch(many, Augment(flip=True), generator())[:, 0, 0, 0]
    assert 150 < flipped.sum() < 250
    rarely = augment_batch(many, Augment(flip=0.1), generator())[:, 0, 0, 0]
    assert 15 < rarely.sum() < 70


@pytest.mark.parametrize("degrees", [-25, 10, 90])
@pytest.mark.parametrize("shape", [(40, 40), (40, 60)])
def test_rotation_is_that_of_skimage(degrees, shape):
    image = smooth_image(*shape)
    ours = warp(image, angle=math.radians(degrees))[0, 0].numpy()
    expected = rotate(image[0, 0].numpy(), degrees, mode="edge", order=1)
    np.testing.assert_allclose(inside(ours, 13), inside(expected, 13), atol=2e-3)


@pytest.mark.parametrize("shape", [(41, 41), (41, 61)])
def test_shift_and_shear_are_those_of_scipy(shape):
    image = smooth_image(*shape)
    height, width = shape
    moved = warp(image, shift=(3 / width, -2 / height))[0, 0].numpy()
    expected = ndimage.shift(image[0, 0].numpy(), (-2, 3), order=1, mode="nearest")
    np.testing.assert_allclose(moved, expected, atol=1e-4)

    slanted = warp(image, shear=0.2)[0, 0].numpy()
    # The top leans right: row r, above the center, comes from columns further left.
    matrix = np.array([[1, 0], [math.tan(0.2), 1]])
    center = (np.array(shape) - 1) / 2
    expected = ndimage.affine_transform(
        image[0, 0].numpy(), matrix, center - matrix @ center, order=1, mode="nearest"
    )
    np.testing.assert_allclose(slanted, expected, atol=1e-4)


def test_scale_and_crop_enlarge():
    image = smooth_image(64, 64)
    larger = warp(image, scale=2.0)[0, 0].numpy()
    cut_out = warp(image, window=0.5)[0, 0].numpy()
    center = image[0, 0, 16:48, 16:48].numpy()
    expected = rescale(center, 2, order=1, mode="edge")
    np.testing.assert_allclose(inside(larger, 4), inside(expected, 4), atol=2e-3)
    np.testing.assert_allclose(cut_out, larger, atol=1e-6)
    corner = warp(image, window=0.5, window_center=(-0.25, 0.25))[0, 0].numpy()
    expected = rescale(image[0, 0, 32:, :32].numpy(), 2, order=1, mode="edge")
    np.testing.assert_allclose(inside(corner, 4), inside(expected, 4), atol=2e-3)


def test_a_crop_stays_within_the_image():
    ramp = torch.linspace(0, 1, 50)[:, None] + 2 * torch.linspace(0, 1, 50)
    result = augment_batch(ramp.expand(200, 1, 50, 50), Augment(crop=0.4), generator())
    steps = result.diff(dim=-1)
    # Border pixels that go on would give steps of 0.
    assert steps[..., 2:-2].min() > 0.5 * 2 / 49


def test_a_window_is_cut_not_enlarged():
    ramp = torch.arange(48.0)[:, None] * 100 + torch.arange(36.0)
    corners, drawn = set(), generator()
    for _ in range(60):
        cut = augment_batch(ramp.expand(2, 1, 48, 36), Augment(window=0.75), drawn)
        assert cut.shape == (2, 1, 36, 27)
        first = int(cut[0, 0, 0, 0])
        top, left = divmod(first, 100)
        assert torch.equal(cut[0, 0], ramp[top : top + 36, left : left + 27])
        assert torch.equal(cut[0], cut[1])
        corners |= {("top", top), ("left", left)}
    assert {("top", 0), ("top", 12), ("left", 0), ("left", 9)} <= corners


def test_warp_draws_stay_within_their_limits():
    # The horizontal gradient of a ramp tells the angle and the scale.
    ramp = torch.arange(21.0).expand(300, 1, 21, 21)
    turned = augment_batch(ramp, Augment(rotation=0.3), generator())[:, 0, 8:13, 8:13]
    angles = torch.atan2(-turned.diff(dim=1).mean((1, 2)), turned.diff(dim=2).mean((1, 2)))
    assert angles.abs().max() <= 0.3 + 1e-4
    assert angles.min() < -0.25
    assert angles.max() > 0.25
    sizes = augment_batch(ramp, Augment(scale=0.2), generator())[:, 0, 8:13, 8:13]
    sizes = 1 / sizes.diff(dim=2).mean((1, 2))
    assert 0.8 - 1e-4 <= sizes.min() < 0.83
    assert 1.17 < sizes.max() <= 1.2 + 1e-4


def test_changes_follow_the_scale_of_the_pixels():
    frames = torch.rand(7, 1, 16, 16, dtype=torch.float64).float()
    lengths = torch.tensor([2, 4, 1])
    augment = Augment(**EVERYTHING)
    small = augment_batch(frames, augment, generator(), lengths)
    large = augment_batch(255 * frames - 40, augment, generator(), lengths)
    torch.testing.assert_close((large + 40) / 255, small, atol=1e-4, rtol=0)


def test_brightness_shifts_contrast_stretches_and_both_saturate():
    frames = torch.rand(100, 1, 12, 12)
    frames[:, :, 0, 0], frames[:, :, 0, 1] = 0.0, 1.0
    brighter = augment_batch(frames, Augment(brightness=0.3), generator())
    free = (brighter > 0) & (brighter < 1)
    change = brighter - frames
    for index in range(len(frames)):
        assert change[index][free[index]].std() < 1e-6
    assert change.abs().max() <= 0.3
    assert change.amax((1, 2, 3)).max() > 0.25
    assert change.amin((1, 2, 3)).min() < -0.25
    assert (brighter.min(), brighter.max()) == (0, 1)

    stretched = augment_batch(frames, Augment(contrast=0.5), generator())
    ratio = (stretched - frames.mean((1, 2, 3), keepdim=True)).std((1, 2, 3)) / frames.std(
        (1, 2, 3)
    )
    assert ratio.min() > 0.5 - 1e-3
    assert ratio.min() < 0.6
    assert ratio.max() > 1.15


def test_erased_rectangles_have_the_sequences_mean():
    frames = torch.rand(50, 1, 40, 40)
    lengths = torch.full((10,), 5)
    erased = augment_batch(frames, Augment(erase=1.0), generator(), lengths)
    for sequence, whole in zip(erased.split(5), frames.split(5), strict=True):
        changed = sequence != whole
        assert 0 < changed.float().mean() < 0.36**2
        torch.testing.assert_close(sequence[changed], whole.mean().expand(changed.sum()))
    untouched = augment_batch(frames, Augment(erase=0.3), generator()) == frames
    assert 0.5 < untouched.all(dim=(1, 2, 3)).float().mean() < 0.85


def test_mixup_blends_samples_of_one_length():
    lengths = torch.tensor([2, 3, 2, 3, 3, 1])
    frames = torch.arange(14.0)[:, None, None, None].expand(14, 1, 2, 2)
    parts = frames.split(lengths.tolist())
    moved = False
    for seed in range(5):
        mixed, partners, share = mix_batch(frames, 0.4, generator(seed), lengths)
        assert 0.5 <= share <= 1
        assert torch.equal(lengths[partners], lengths)
        moved |= bool((partners != torch.arange(6)).any())
        for sample, part in enumerate(mixed.split(lengths.tolist())):
            expected = share * parts[sample] + (1 - share) * parts[partners[sample]]
            torch.testing.assert_close(part, expected)
    assert moved
    mixed, partners, share = mix_batch(frames, 0.4, generator(1))
    torch.testing.assert_close(mixed, share * frames + (1 - share) * frames[partners])


def test_mixup_shares_follow_a_folded_beta():
    source = generator(3)
    shares = [mix_batch(torch.zeros(2, 1, 1, 1), 0.4, source)[2] for _ in range(500)]
    reference = np.random.default_rng(0).beta(0.4, 0.4, 20_000)
    folded = np.maximum(reference, 1 - reference)
    assert kstest(shares, folded).pvalue > 0.01


@pytest.mark.parametrize(
    "wrong",
    [{"flip": 2}, {"rotation": -0.1}, {"scale": 1.0}, {"erase": "yes"}, {"mixup": -1}],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' parameter of Augment"):
        Augment(**wrong)._validate_params()
