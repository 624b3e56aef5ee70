from dataclasses import replace

import numpy as np
import pytest

from ferpipe.candide.camera import mirror_parameters, project
from ferpipe.candide.model import CandideModel
from ferpipe.candide.template import template_model
from ferpipe.synthesis.render import Appearance, random_appearance, render, render_faces

SIZE = 96
MODEL = template_model()
NAMES = MODEL.parameter_names
# without what is drawn at random
EVEN = Appearance(texture=0.0, noise=0.0, blur=0.0, light=(0.0, 0.3, 1.0))


def parameters_of(units=(), size=SIZE, **pose):
    """Make parameters of a frontal face; a unit of both sides may go by its number."""
    pose = {"s": 0.36 * size, "tx": (size - 1) / 2, "ty": 0.5 * size} | pose
    parameters = np.zeros(len(NAMES))
    for name, value in (pose | dict(units)).items():
        for whole in (name, f"{name}_left", f"{name}_right"):
            if whole in NAMES:
                parameters[NAMES.index(whole)] = value
    return parameters


def points_of(parameters):
    pose, sigma, alpha = MODEL.split(parameters)
    return project(MODEL.shape(sigma, alpha), pose)


def window(points, vertices, margin):
    """Return the rows and columns of a box about vertices."""
    low = np.floor(points[vertices].min(0) - margin).astype(int)
    high = np.ceil(points[vertices].max(0) + margin).astype(int) + 1
    return slice(low[1], high[1]), slice(low[0], high[0])


def random_faces(n, seed=0):
    rng = np.random.default_rng(seed)
    parameters = np.array([parameters_of() for _ in range(n)])
    parameters[:, :3] = rng.normal(0, 0.2, (n, 3))
    parameters[:, 6:20] = rng.normal(0, 0.6, (n, 14))
    parameters[:, 20:] = rng.uniform(0, 0.3, (n, len(MODEL.animation_names)))
    return parameters, [random_appearance(rng) for _ in range(n)]


# Images


@pytest.mark.parametrize("size", [16, 48, 97, 200])
def test_size_and_dtype(size):
    image = render(MODEL, parameters_of(size=size), Appearance(), size)
    assert image.shape == (size, size)
    assert image.dtype == np.uint8
    assert image.std() > 20


def test_images_do_not_depend_on_the_processes():
    parameters, appearances = random_faces(300)
    parameters[:, 3:6] /= 4
    alone = render_faces(MODEL, parameters, appearances, SIZE // 4, n_jobs=1)
    together = render_faces(MODEL, parameters, appearances, SIZE // 4, n_jobs=2)
    assert alone.shape == (300, 24, 24)
    assert alone.dtype == np.uint8
    np.testing.assert_array_equal(together, alone)


def test_one_face_is_drawn_as_among_others():
    parameters, appearances = random_faces(20)
    appearances = [replace(look, noise=0.0) for look in appearances]
    together = render_faces(MODEL, parameters, appearances, 48)
    alone = render(MODEL, parameters[18], appearances[18], 48)
    np.testing.assert_array_equal(alone, together[18])


@pytest.mark.parametrize("size", [48, 96, 160])
def test_edges_are_smooth(size):
    # as if drawn eight times as large and made small
    times = 8
    look = replace(EVEN, background_tone=1.0, skin=0.4)
    parameters = parameters_of({"AU26": 0.5}, size=size, ry=0.2)
    large = parameters.copy()
    large[3] *= times
    large[4:6] = times * (large[4:6] + 0.5) - 0.5
    expected = render(MODEL, large, look, size * times).astype(float)
    expected = expected.reshape(size, times, size, times).mean((1, 3))
    image = render(MODEL, parameters, look, size)
    # where head and background meet
    edges = (expected > 0.3 * 255) & (expected < 0.9 * 255)
    edges[:, size // 4 : -size // 4] = False
    assert edges.sum() > size / 2
    off = np.abs(image - expected)[edges]
    assert off.mean() < 13
    assert np.quantile(off, 0.95) < 45


def test_noise_depends_on_the_seed_and_the_face():
    parameters, appearances = [parameters_of()] * 2, [Appearance()] * 2
    first, second = render_faces(MODEL, parameters, appearances, SIZE)
    assert (first != second).mean() > 0.3
    again = render_faces(MODEL, parameters, appearances, SIZE)
    np.testing.assert_array_equal(again, [first, second])
    other = render_faces(MODEL, parameters, appearances, SIZE, random_state=1)
    assert (other[0] != first).mean() > 0.3


def test_rng_draws_the_noise_alone():
    look = Appearance(noise=0.0)
    images = [
        render(MODEL, parameters_of(), look, SIZE, rng=np.random.default_rng(seed))
        for seed in (1, 2)
    ]
    np.testing.assert_array_equal(*images)
    look = Appearance(noise=6.0)
    plain = render(MODEL, parameters_of(), replace(look, noise=0.0), SIZE)
    noisy = render(MODEL, parameters_of(), look, SIZE, rng=np.random.default_rng(3))
    assert (noisy.astype(float) - plain).std() == pytest.approx(6, rel=0.03)


def test_no_face_gives_no_image():
    images = render_faces(MODEL, np.zeros((0, len(NAMES))), [], SIZE)
    assert images.shape == (0, SIZE, SIZE)


# Geometry


@pytest.mark.parametrize(
    "pose", [{}, {"ry": 0.5}, {"ry": -0.4, "rx": 0.2}, {"rz": 0.3, "tx": 60.0}]
)
@pytest.mark.parametrize("gaze", [{}, {"AU61": 0.4}, {"AU62": 0.4}])
def test_the_iris_is_where_the_pupil_is_projected(pose, gaze):
    size = 160
    units = {"AU05": 1, **gaze}
    parameters = parameters_of(units, size=size, **pose)
    light = replace(EVEN, iris=0.9, skin=0.95, brow=0.0)
    points = points_of(parameters)
    # what the color of the iris changes is the iris
    dark, bright = (
        render(MODEL, parameters, replace(light, iris=iris), size).astype(float)
        for iris in (0.9, 0.2)
    )
    change = bright - dark
    rows, columns = np.mgrid[:size, :size]
    near = np.hypot(columns - points[113, 0], rows - points[113, 1]) < 0.12 * parameters[3]
    assert change[near].sum() > 500
    x = (columns * change)[near].sum() / change[near].sum()
    assert x == pytest.approx(points[113, 0], abs=0.02 * parameters[3])
    far = np.hypot(columns - points[114, 0], rows - points[114, 1]) > 0.12 * parameters[3]
    assert not change[far & ~near].any()


def iris_change(parameters, size=SIZE):
    images = [
        render(MODEL, parameters, replace(EVEN, iris=iris), size).astype(float)
        for iris in (0.9, 0.2)
    ]
    return np.abs(images[1] - images[0]).sum()


def test_closed_lids_hide_the_iris():
    open_eyes = iris_change(parameters_of())
    assert open_eyes > 1000
    assert iris_change(parameters_of({"AU43": 0.5})) < 0.75 * open_eyes
    assert iris_change(parameters_of({"AU43": 1})) < 0.05 * open_eyes


def test_one_eye_can_be_closed():
    ratio = iris_change(parameters_of({"AU46_left": 1})) / iris_change(parameters_of())
    assert ratio == pytest.approx(0.5, abs=0.06)


def test_a_dropped_jaw_opens_the_dark_mouth():
    bright = replace(EVEN, skin=0.9, lip=0.1)
    dark = []
    for units in ({}, {"AU26": 0.5}, {"AU26": 1}, {"AU27": 1}):
        parameters = parameters_of(units, size=200)
        box = window(points_of(parameters), [31, 64, 7, 8], 0)
        dark.append((render(MODEL, parameters, bright, 200)[box] < 60).sum())
    assert dark[0] < 20
    assert dark[1] > 60
    assert dark[2] > 1.5 * dark[1]
    assert dark[3] > 1.5 * dark[2]


def test_teeth_show_between_parted_lips():
    parameters = parameters_of({"AU25": 1, "AU10": 1}, size=160)
    # darker than teeth are
    image = render(MODEL, parameters, replace(EVEN, skin=0.35), 160)
    points = points_of(parameters)
    middle = np.rint((points[87] + points[40]) / 2).astype(int)
    assert image[middle[1] - 3 : middle[1] + 3, middle[0]].max() > 140


def test_a_smile_leaves_the_brows_alone():
    before, after = (
        render(MODEL, parameters_of(units), EVEN, SIZE).astype(int)
        for units in ({}, {"AU12": 1})
    )
    change = np.abs(after - before)
    points = points_of(parameters_of())
    brows = window(points, [15, 16, 17, 18, 48, 49, 50, 51], 1)
    mouth = window(points, [31, 64, 7, 8], 2)
    assert change[brows].max() <= 2  # the light on the temples
    assert change[mouth].mean() > 8


@pytest.mark.parametrize(("ry", "far"), [(0.5, 113), (-0.5, 114)])
def test_a_long_nose_hides_the_far_eye(ry, far):
    shown = []
    for depth in (0, 8):
        parameters = parameters_of({"nose_depth": depth}, size=160, rx=-0.4, ry=ry, s=60.0)
        images = [
            render(MODEL, parameters, replace(EVEN, iris=iris), 160).astype(float)
            for iris in (0.9, 0.2)
        ]
        box = window(points_of(parameters), [far], 5)
        shown.append(np.abs(images[1] - images[0])[box].sum())
    assert shown[1] < 0.2 * shown[0]


@pytest.mark.parametrize("seed", range(4))
def test_mirrored_parameters_give_the_mirrored_image(seed):
    rng = np.random.default_rng(seed)
    (parameters,), _ = random_faces(1, seed)
    look = replace(random_appearance(rng), texture=0.0, noise=0.0, background=0)
    look = replace(look, freckles=0.0)
    right, up, front = look.light
    mirrored = render(
        MODEL,
        mirror_parameters(MODEL, parameters, SIZE),
        replace(look, light=(-right, up, front)),
        SIZE,
    )
    image = render(MODEL, parameters, look, SIZE).astype(float)
    difference = np.abs(mirrored[:, ::-1] - image)
    assert difference.mean() < 0.15
    assert np.quantile(difference, 0.99) <= 2
    assert np.abs(mirrored - image).mean() > 5  # or mirroring would be no matter


@pytest.mark.parametrize(
    "pose", [{"tx": -20.0}, {"tx": 110.0}, {"ty": -30.0}, {"s": 200.0}, {"ry": 3.0}]
)
def test_a_face_may_leave_the_image(pose):
    beside = replace(EVEN, background_tone=1.0)
    image = render(MODEL, parameters_of(**pose), beside, SIZE)
    assert image.shape == (SIZE, SIZE)
    assert image.min() < 200  # something of the head or the clothes is seen


def test_a_face_out_of_sight_leaves_the_background():
    beside = replace(EVEN, background_tone=0.6)
    image = render(MODEL, parameters_of(tx=9000.0, ty=-9000.0), beside, SIZE)
    assert (image == 153).all()


def test_the_shape_of_curves_goes_through_the_vertices():
    # lips painted darker change the image as far as the corners of the mouth
    parameters = parameters_of({"AU12": 1}, size=200)
    images = [
        render(MODEL, parameters, replace(EVEN, lip=lip), 200).astype(float)
        for lip in (0.0, 0.6)
    ]
    rows, columns = np.nonzero(np.abs(images[1] - images[0]) > 4)
    points = points_of(parameters)
    assert columns.min() == pytest.approx(points[64, 0], abs=2.5)
    assert columns.max() == pytest.approx(points[31, 0], abs=2.5)
    assert rows.max() == pytest.approx(points[8, 1], abs=2.5)


# Folds


def without_motion(model):
    """Return the model whose action units move nothing: only their folds are seen."""
    still = np.zeros_like(model.animation_units)
    return CandideModel(
        model.vertices,
        model.triangles,
        model.shape_units,
        still,
        model.shape_names,
        model.animation_names,
        model.vertex_names,
        model.landmarks,
        model.mirrored_shape,
        model.mirrored_animation,
    )


STILL = without_motion(MODEL)


def fold_change(units):
    plain = render(STILL, parameters_of(), EVEN, SIZE).astype(float)
    return render(STILL, parameters_of(units), EVEN, SIZE) - plain


@pytest.mark.parametrize(
    ("unit", "vertices"),
    [
        ("AU01", [2, 49, 16]),
        ("AU02", [2, 48, 15, 13, 46]),
        ("AU04", [17, 50, 2, 94]),
        ("AU06", [15, 27, 23, 48, 60, 56]),
        ("AU09", [77, 78, 94, 26, 59, 90, 91]),
        ("AU10", [26, 59, 90, 91]),
        ("AU11", [26, 59, 90, 91]),
        ("AU12", [26, 59, 90, 91, 31, 64, 8]),
        ("AU14", [31, 64, 90, 91, 8]),
        ("AU17", [31, 64, 9, 10, 8]),
    ],
)
def test_units_fold_the_skin_where_they_are(unit, vertices):
    change = fold_change({unit: 1})
    outside = change.copy()
    outside[window(points_of(parameters_of()), vertices, 4)] = 0
    assert change.min() < -8
    assert np.abs(outside).max() <= 2


def test_folds_grow_with_the_unit_and_are_clipped():
    depths = [-fold_change({"AU04": value}).min() for value in (-1, 0, 0.5, 1, 3)]
    assert depths[0] == depths[1] == 0
    assert depths[2] == pytest.approx(depths[3] / 2, abs=2)
    assert depths[4] == depths[3] > 8


def test_a_unit_of_one_side_folds_that_side():
    change = np.abs(fold_change({"AU14_left": 1}))
    assert change[:, : SIZE // 2].max() == 0
    # the subject's left is right in the image
    assert change[:, SIZE // 2 :].max() > 8
    other = np.abs(fold_change({"AU14_right": 1}))
    np.testing.assert_allclose(other[:, ::-1], change, atol=2)


def test_a_model_without_known_units_has_no_folds():
    model = CandideModel(
        MODEL.vertices,
        MODEL.triangles,
        MODEL.shape_units,
        MODEL.animation_units[:2] * 0,
        MODEL.shape_names,
        ("a", "b"),
    )
    parameters = np.append(parameters_of()[:20], (1, 1))
    expected = render(STILL, parameters_of(), EVEN, SIZE)
    np.testing.assert_array_equal(render(model, parameters, EVEN, SIZE), expected)


# Appearance


def test_people_look_different():
    rng = np.random.default_rng(0)
    people = [replace(random_appearance(rng), **PICTURE) for _ in range(8)]
    images = render_faces(MODEL, [parameters_of()] * 8, people, SIZE).astype(float)
    apart = np.abs(images[:, None] - images).mean((-1, -2))
    assert apart[~np.eye(8, dtype=bool)].min() > 5


PICTURE = {"light": (0, 0.3, 1), "ambient": 0.5, "noise": 0.0, "blur": 0.0} | {
    "background": 0,
    "background_tone": 0.5,
    "brightness": 1.0,
    "contrast": 1.0,
}


@pytest.mark.parametrize(
    ("change", "brighter", "darker"),
    [
        ({"light": (1.0, 0.0, 0.3)}, 90, 91),
        ({"light": (-1.0, 0.0, 0.3)}, 91, 90),
        ({"light": (0.0, 1.0, 0.3)}, 2, 9),
    ],
)
def test_light_comes_from_where_it_should(change, brighter, darker):
    image = render(MODEL, parameters_of(), replace(EVEN, **change), SIZE)
    lit, dark = np.rint(points_of(parameters_of())[[brighter, darker]]).astype(int)
    assert image[lit[1], lit[0]] > image[dark[1], dark[0]] + 15


@pytest.mark.parametrize(
    ("change", "vertices"),
    [
        ({"skin": 0.4}, [90]),
        ({"brow": 0.1}, [16, 18]),
        ({"brow_thickness": 0.12}, [16, 18]),
        ({"lip": 0.7}, [7]),
        ({"iris": 0.2}, [113]),
        ({"hair": 0.8}, [0]),
        ({"hair_line": 0.5}, [2]),
        ({"beard": 0.6}, [9]),
        ({"texture": 1.0, "texture_seed": 2}, [27]),
        ({"texture": 1.0, "freckles": 0.8}, [27]),
        ({"ambient": 0.9}, [60]),
        ({"blur": 1.5}, [113]),
        ({"contrast": 0.5}, [90]),
        ({"brightness": 0.8}, [90]),
    ],
)
def test_each_part_of_the_appearance_is_seen(change, vertices):
    parameters = parameters_of(ty=58.0)
    images = [
        render(MODEL, parameters, look, SIZE) for look in (EVEN, replace(EVEN, **change))
    ]
    box = window(points_of(parameters), vertices, 2)
    assert np.abs(images[1][box].astype(float) - images[0][box]).max() >= 6


@pytest.mark.parametrize("name", ["hair_length", "hair_volume", "clothes"])
def test_hair_and_clothes_are_seen_beside_the_face(name):
    parameters = parameters_of(s=20.0, ty=40.0)
    images = [
        render(MODEL, parameters, replace(EVEN, **{name: value}), SIZE).astype(float)
        for value in (0.0, 1.5)
    ]
    changed = np.abs(images[1] - images[0]) > 20
    assert changed.sum() > 100
    assert not changed[window(points_of(parameters), [23, 56, 9], 0)].any()
    # nor over the neck, below the chin
    assert not changed[68:72, 45:50].any()


def test_the_bald_have_no_hair():
    bald = replace(EVEN, hair_line=2.0)
    images = [
        render(MODEL, parameters_of(s=20.0, ty=40.0), look, SIZE)
        for look in (bald, replace(bald, hair=0.9, hair_volume=0.5, hair_length=2.0))
    ]
    np.testing.assert_array_equal(*images)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_backgrounds_vary_as_they_should(kind):
    away = parameters_of(tx=9000.0, ty=-9000.0)
    look = replace(EVEN, background=kind, background_range=0.6, background_seed=3)
    image = render(MODEL, away, look, SIZE)
    assert (np.ptp(image) > 60) == (kind > 0)
    other = render(MODEL, away, replace(look, background_seed=4), SIZE)
    assert (other != image).any() == (kind > 0)


# Refusals


@pytest.mark.parametrize(
    ("parameters", "size", "message"),
    [
        (np.zeros(30), SIZE, "This model has 85 parameters"),
        (parameters_of(rx=np.nan), SIZE, "finite"),
        (parameters_of({"AU12": np.inf}), SIZE, "finite"),
        (parameters_of(s=0.0), SIZE, "scale s must be positive"),
        (parameters_of(), 15, "at least 16 pixels, got 15"),
        (parameters_of()[None], SIZE, r"shape \(n_parameters\)"),
    ],
)
def test_wrong_arguments_are_refused(parameters, size, message):
    with pytest.raises(ValueError, match=message):
        render(MODEL, parameters, EVEN, size)
    with pytest.raises(ValueError, match=message.replace(r"\(n", r"\(n, n")):
        render_faces(MODEL, np.asarray(parameters)[None], [EVEN], size)


def test_each_face_needs_an_appearance():
    with pytest.raises(ValueError, match="got 1 appearances of 2 faces"):
        render_faces(MODEL, [parameters_of()] * 2, [EVEN], SIZE)


def test_other_wireframes_are_refused():
    model = CandideModel(
        np.zeros((5, 3)),
        np.zeros((1, 3), int),
        np.zeros((0, 5, 3)),
        np.zeros((0, 5, 3)),
        (),
        (),
    )
    with pytest.raises(ValueError, match="116 vertices of template_model"):
        render(model, np.array([0, 0, 0, 30.0, 20, 20]), EVEN, SIZE)
