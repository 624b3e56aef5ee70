import pickle

import cv2
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeRegressor

from ferpipe.candide.box_features import BoxFeatures, box_pool, mirrored_boxes
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.designed_objectives import EdgeObjective
from ferpipe.candide.displacement import displace
from ferpipe.candide.learned_objective import (
    LearnedObjective,
    load_objective,
    nearest_minima,
    save_objective,
)
from ferpipe.candide.optimizer import fit_objective
from ferpipe.candide.tree_arrays import TreeArrays, can_flatten
from ferpipe.candide.visible_points import contour_normals, mean_shape, visible_partners
from ferpipe.geometry import fit_similarity, similarity, transform_points

SIZE = 120
# the least that learns something, in a second or two
QUICK = {"reaches": (0.15,), "n_features": 6, "n_displacements": 2, "random_state": 0}


def spotted_faces(n, seed):
    """Draw images in which a spot marks each visible point, light and dark by turns."""
    model, prior = load_calibrated()
    visible = sorted(model.landmarks)
    typical = model.shape(*np.split(prior.mean, [len(model.shape_names)]))[visible]
    rng = np.random.default_rng(seed)
    signs = np.where(np.arange(len(visible)) % 3 == 0, 1, -1)
    signs = np.minimum(signs, signs[visible_partners()])
    y, x = np.mgrid[:SIZE, :SIZE]
    images, points = [], []
    for _ in range(n):
        place = similarity(
            rng.uniform(38, 44), rng.normal(0, 0.1), (0, 0.4), rng.normal(60, 2, 2)
        )
        shape = typical[:, :2] * (1, -1) + rng.normal(0, 0.015, (len(visible), 2))
        shape = transform_points(place, shape)
        off = np.hypot(x[..., None] - shape[:, 0], y[..., None] - shape[:, 1])
        image = 120 + (60 * signs * np.exp(-((off / 3) ** 2) / 2)).sum(-1)
        images.append(np.clip(image + rng.normal(0, 2, image.shape), 0, 255))
        points.append(shape)
    return [image.astype(np.uint8) for image in images], np.array(points)


@pytest.fixture(scope="module")
def faces():
    return spotted_faces(40, 0)


@pytest.fixture(scope="module")
def unseen():
    return spotted_faces(10, 1)


@pytest.fixture(scope="module")
def learned(faces):
    return LearnedObjective(**QUICK).fit(*faces)


def improvement(objective, faces, seed=0):
    """Tell how far points are after and before the objective says where they should go."""
    images, points = faces
    mean = mean_shape(points)
    starts = displace(points, 0.1, mean, np.random.RandomState(seed))
    after, before = [], []
    for image, start, truth in zip(images, starts, points, strict=True):
        unit = np.linalg.norm(fit_similarity(mean, start)[:, 0])
        prepared = objective.prepare(image, start)
        targets, _ = objective.find_targets(
            prepared, start, contour_normals(start), unit, 0
        )
        after.append(np.linalg.norm(targets - truth, axis=1).mean() / unit)
        before.append(np.linalg.norm(start - truth, axis=1).mean() / unit)
    return np.mean(after), np.mean(before)


# Box features


def test_box_features_are_differences_of_means():
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 255, (90, 90), dtype=np.uint8)
    pool = box_pool()
    assert len(pool) == 588
    features = BoxFeatures(pool, 90)
    places = np.array([[45, 45], [44.6, 50.4]])
    found = features.describe(cv2.integral(crop).ravel(), features.index(places))
    assert found.shape == (2, len(pool))
    for (x, y), row in zip([(45, 45), (45, 50)], found, strict=True):
        for (one, other), value in zip(pool[::17], row[::17], strict=True):
            means = [
                crop[y + top : y + bottom, x + left : x + right].mean()
                for left, top, right, bottom in (one, other)
            ]
            assert value == pytest.approx(means[0] - means[1], abs=1e-3)


def test_boxes_of_many_lines_are_each_lines_own():
    rng = np.random.default_rng(1)
    crop = rng.integers(0, 255, (90, 90), dtype=np.uint8)
    pool = box_pool()
    lines = pool[[[0, 7], [100, 200], [30, 587]]]
    places = rng.uniform(40, 50, (3, 5, 2))
    together = BoxFeatures(lines, 90)
    integral = cv2.integral(crop).ravel()
    found = together.describe(integral, together.index(places))
    assert found.shape == (3, 5, 2)
    # the clipping to the border is as far as the largest boxes of all lines reach
    for boxes, where, expected in zip(lines, places, found, strict=True):
        alone = BoxFeatures(boxes, 90)
        np.testing.assert_array_equal(
            alone.describe(integral, alone.index(where)), expected
        )


def test_places_beyond_the_border_are_described_as_the_nearest_within():
    crop = np.random.default_rng(2).integers(0, 255, (90, 90), dtype=np.uint8)
    boxes = box_pool()[:7]  # reach 6 pixels at most
    features = BoxFeatures(boxes, 90)
    reach = np.abs(boxes).max()
    places = np.array([[-30.0, 40.0], [reach, 40.0], [400, 40], [90 - reach, 40]])
    found = features.describe(cv2.integral(crop).ravel(), features.index(places))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[3])


def test_mirrored_boxes_see_the_same_in_mirrored_crops():
    crop = np.random.default_rng(3).integers(0, 255, (90, 90), dtype=np.uint8)
    pool = box_pool()
    features, other = BoxFeatures(pool, 90), BoxFeatures(mirrored_boxes(pool), 90)
    place = np.array([[44, 47]])
    mirrored = np.ascontiguousarray(crop[:, ::-1])
    found = features.describe(cv2.integral(crop).ravel(), features.index(place))
    there = other.index(np.array([[89 - 44, 47]]))
    same = other.describe(cv2.integral(mirrored).ravel(), there)
    np.testing.assert_allclose(same, found, atol=1e-3)


# Trees

ENSEMBLES = [
    DecisionTreeRegressor(max_depth=5, random_state=0),
    RandomForestRegressor(7, max_depth=6, random_state=0),
    ExtraTreesRegressor(7, max_depth=4, random_state=0),
    GradientBoostingRegressor(n_estimators=9, max_depth=3, random_state=0),
]


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=lambda one: type(one).__name__)
def test_trees_as_arrays_predict_the_same(ensemble):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 400, 5)).astype(np.float32).round(1)
    y = X[..., 0] * X[..., 1] + np.abs(X[..., 2]) + rng.normal(0, 0.1, (3, 400))
    fitted = [clone(ensemble).fit(rows, values) for rows, values in zip(X, y, strict=True)]
    assert all(can_flatten(one) for one in fitted)
    arrays = TreeArrays.of(fitted, 5)
    # many values are equal to thresholds' neighbours, some between
    new = rng.normal(size=(3, 300, 5)).astype(np.float32)
    new[:, ::2] = new[:, ::2].round(1)
    expected = [one.predict(rows) for one, rows in zip(fitted, new, strict=True)]
    np.testing.assert_allclose(arrays.predict(new), expected, rtol=1e-5, atol=1e-6)
    order = [2, 0, 2]
    np.testing.assert_allclose(
        arrays.take(order).predict(new[order]), np.array(expected)[order], atol=1e-5
    )


def test_values_on_a_threshold_go_the_same_way():
    X = np.float32([[0.1], [0.2], [0.3], [0.4]])
    tree = DecisionTreeRegressor(max_depth=2, random_state=0).fit(X, [0, 5, 1, 7])
    thresholds = tree.tree_.threshold[tree.tree_.feature >= 0]
    near = np.float32(thresholds)
    new = np.concatenate([near, np.nextafter(near, np.float32(1)), X[:, 0]])[:, None]
    found = TreeArrays.of([tree], 1).predict(new[None])[0]
    np.testing.assert_array_equal(found, tree.predict(new))


def test_what_is_no_small_tree_is_not_taken():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 3)), rng.normal(size=2000)
    assert not can_flatten(Ridge().fit(X, y))
    assert not can_flatten(DecisionTreeRegressor().fit(X, y))
    boosted = GradientBoostingRegressor(n_estimators=2, init=Ridge()).fit(X, y)
    assert not can_flatten(boosted)


# What is learned


def test_minima_are_those_of_the_nearest_ideal_objective():
    offsets = np.linspace(-0.2, 0.2, 13)
    truth = np.array([-0.2, -0.07, 0, 0.13])
    values = np.abs(offsets - truth[:, None])
    np.testing.assert_allclose(nearest_minima(offsets, values), truth, atol=0.005)
    noisy = values + np.random.default_rng(0).normal(0, 0.03, (300, 4, 13))
    found = np.array([nearest_minima(offsets, one) for one in noisy])
    lowest = offsets[noisy.argmin(2)]
    assert (found - truth).std() < 0.5 * (lowest - truth).std()


def test_points_of_unseen_faces_are_found(learned, unseen):
    after, before = improvement(learned, unseen)
    assert before > 0.05
    assert after < 0.5 * before


def test_it_is_nearer_to_ideal_than_edges(learned, unseen):
    found = learned.indicators(*unseen, random_state=0)
    designed = EdgeObjective((0.15,)).indicators(*unseen, random_state=0)
    assert found.n_lines == designed.n_lines
    assert found.p1 > designed.p1 + 0.05
    assert found.p2 > designed.p2 + 0.2
    assert found.displacement < designed.displacement


def test_values_are_the_distances(learned, unseen):
    images, points = unseen
    truth = points[0]
    unit = np.linalg.norm(fit_similarity(mean_shape(points), truth)[:, 0])
    offsets, values = learned.values(images[0], truth, contour_normals(truth), unit, 0)
    assert offsets.shape == (13,)
    assert values.shape == (38, 13)
    correlation = np.corrcoef(values.mean(0), np.abs(offsets))[0, 1]
    assert correlation > 0.9


def test_sure_directions_are_sure_and_others_not(learned):
    noise = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE), dtype=np.uint8)
    _, points = spotted_faces(1, 5)
    normals = contour_normals(points[0])
    _, sure = learned.find_targets(noise, points[0], normals, 40, 0)
    np.testing.assert_allclose(sure, np.swapaxes(sure, 1, 2))
    assert np.linalg.eigvalsh(sure).min() > -1e-9
    # twice as large a face is as sure of shares, not of pixels
    _, half = learned.find_targets(noise, points[0], normals, 80, 0)
    np.testing.assert_allclose(half, sure / 4)


def test_mirrored_faces_go_to_mirrored_places(learned, unseen):
    images, points = unseen
    partner = visible_partners()
    flipped = (points[0] * (-1, 1) + (SIZE - 1, 0))[partner]
    start = points[0] + (2, 1)
    mirrored = (start * (-1, 1) + (SIZE - 1, 0))[partner]
    found, _ = learned.find_targets(images[0], start, contour_normals(start), 40, 0)
    other, _ = learned.find_targets(
        np.ascontiguousarray(images[0][:, ::-1]),
        mirrored,
        contour_normals(mirrored),
        40,
        0,
    )
    back = (other * (-1, 1) + (SIZE - 1, 0))[partner]
    # places are rounded to pixels of the crop
    assert np.median(np.linalg.norm(back - found, axis=1)) < 0.5
    assert np.linalg.norm(found - points[0], axis=1).mean() < 2
    assert np.linalg.norm(other - flipped, axis=1).mean() < 2


def test_same_seed_same_objective(learned, faces):
    again = LearnedObjective(**QUICK).fit(*faces)
    image, points = faces[0][0], faces[1][0]
    args = (points, contour_normals(points), 40, 0)
    np.testing.assert_array_equal(
        again.values(image, *args)[1], learned.values(image, *args)[1]
    )


def test_68_points_are_as_good(learned, unseen):
    model, _ = load_calibrated()
    images, points = unseen
    landmarks = np.zeros((len(points), 68, 2))
    for number, vertex in enumerate(sorted(model.landmarks)):
        landmarks[:, list(model.landmarks[vertex])] = points[:, number, None]
    found, expected = (
        learned.indicators(images, one, random_state=0) for one in (landmarks, points)
    )
    assert found == expected


# Other regressors, copies and files


def test_any_regressor_will_do_but_only_trees_are_written_as_arrays(
    faces, unseen, tmp_path
):
    ridge = Ridge()
    objective = LearnedObjective(regressor=ridge, **QUICK).fit(*faces)
    after, before = improvement(objective, unseen)
    assert after < before
    assert not hasattr(ridge, "coef_")  # the given one is left alone
    with pytest.raises(ValueError, match="use joblib"):
        save_objective(tmp_path / "objective.npz", objective)


def test_a_forest_is_evaluated_as_its_trees_are(faces, unseen):
    few = {"n_features": 3, "n_displacements": 1}
    forest = RandomForestRegressor(3, max_depth=3)
    objective = LearnedObjective(regressor=forest, **QUICK | few).fit(*faces)
    assert objective.stages_[0].regressors.columns.shape == (46, 3, 7)


def test_copies_say_the_same(learned, unseen, tmp_path):
    expected = learned.indicators(*unseen, random_state=0)
    copied = pickle.loads(pickle.dumps(learned))
    assert copied.indicators(*unseen, random_state=0) == expected
    save_objective(tmp_path / "objective.npz", learned)
    loaded = load_objective(tmp_path / "objective.npz")
    assert loaded.indicators(*unseen, random_state=0) == expected
    assert loaded.reaches == (0.15,)
    assert clone(loaded).get_params() == loaded.get_params()
    # as a parameter of other estimators
    frozen = clone(FrozenEstimator(learned))
    assert frozen.n_stages == 1
    assert frozen.indicators(*unseen, random_state=0) == expected


def test_the_shipped_one_finds_its_way(unseen):
    objective = load_objective()
    assert objective.n_stages == 3
    images, points = unseen
    offsets, values = objective.values(
        images[0], points[0], contour_normals(points[0]), 40, 2
    )
    assert values.shape == (38, len(offsets))
    assert np.isfinite(values).all()


@pytest.mark.parametrize("size", [SIZE, 8])
def test_an_image_of_nothing_gives_some_face(size):
    model, prior = load_calibrated()
    start = np.r_[0, 0, 0, size / 3, size / 2, size / 2, prior.mean]
    blank = np.full((size, size), 90, np.uint8)
    found, off = fit_objective(model, prior, load_objective(), blank, start)
    assert np.isfinite(found).all()
    assert np.isfinite(off)
    # about where it was: nothing says otherwise
    assert np.abs(found[3:6] - start[3:6]).max() < size / 4


# Wrong inputs


def test_faces_that_do_not_fit_are_refused(faces):
    images, points = faces
    with pytest.raises(ValueError, match="at least 20 images"):
        LearnedObjective(**QUICK).fit(images[:5], points[:5])
    with pytest.raises(ValueError, match="39 images and the points of 40 faces"):
        LearnedObjective(**QUICK).fit(images[:39], points)
    with pytest.raises(ValueError, match=r"\(n, 68, 2\)"):
        LearnedObjective(**QUICK).fit(images, points[:, :30])
    with pytest.raises(ValueError, match="finite"):
        LearnedObjective(**QUICK).fit(images, np.where(points > 90, np.nan, points))
    with pytest.raises(TypeError, match="array of uint8, got float64"):
        LearnedObjective(**QUICK).fit([image / 255.0 for image in images], points)
    color = [np.repeat(image[..., None], 3, axis=2) for image in images]
    with pytest.raises(ValueError, match=r"shape \(h, w\), got \(120, 120, 3\)"):
        LearnedObjective(**QUICK).fit(color, points)
    with pytest.raises(ValueError, match=r"reaches must be positive.*-0.1"):
        LearnedObjective(**QUICK | {"reaches": (0.2, -0.1)}).fit(images, points)


def test_an_objective_that_has_learned_nothing_says_so(faces):
    from sklearn.exceptions import NotFittedError

    images, points = faces
    with pytest.raises(NotFittedError):
        LearnedObjective().find_targets(
            images[0], points[0], contour_normals(points[0]), 40, 0
        )
