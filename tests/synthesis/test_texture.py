from dataclasses import replace

import numpy as np
import pytest

from ferpipe.candide.template import partners, template_model
from ferpipe.synthesis.appearance import Appearance, random_appearance
from ferpipe.synthesis.texture import (
    CLOTHES_COLUMN,
    HAIR_COLUMNS,
    N_LEVELS,
    SKIN_COLUMNS,
    find_folds,
    fold,
    paint,
    to_map,
)

NAMES = tuple(template_model().animation_names)
EVEN = Appearance(texture=0.0)


def tone_at(tones, level, point):
    column, row = np.rint((to_map(point) + 0.5) / 2**level - 0.5).astype(int)
    return tones[row, column]


def test_who_was_painted_is_kept():
    look = Appearance(texture_seed=7)
    tones = paint(look, 0)
    assert paint(replace(look, light=(1, 0, 0), background=2, noise=9.0), 0) is tones
    assert paint(replace(look, texture_seed=8), 0) is not tones
    with pytest.raises(ValueError, match="read-only"):
        tones[0] = 0


@pytest.mark.parametrize("level", range(1, N_LEVELS))
def test_coarser_maps_show_the_same_person(level):
    look = replace(random_appearance(np.random.default_rng(3)), texture=0.3)
    fine, coarse = paint(look, 0), paint(look, level)
    rows, columns = coarse.shape
    mean = fine.reshape(rows, 2**level, columns, 2**level).mean((1, 3))
    assert np.abs(coarse - mean).mean() < 0.02 * mean.mean()
    assert np.corrcoef(coarse.ravel(), mean.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("level", range(N_LEVELS))
def test_without_texture_the_face_is_symmetrical(level):
    face = paint(replace(EVEN, beard=0.4), level)[:, : 144 >> level]
    np.testing.assert_allclose(face, face[:, ::-1], atol=0.02)
    assert np.ptp(face) > 0.3


@pytest.mark.parametrize("level", range(N_LEVELS))
def test_vertices_are_on_the_map(level):
    tones = paint(EVEN, level)
    places = to_map(template_model().vertices[:, :2]) / 2**level
    beyond = places.max(0) + 1 - (144 >> level, tones.shape[0])
    assert (places > 0).all()
    assert (beyond < 0).all()


@pytest.mark.parametrize("level", range(N_LEVELS))
def test_features_are_where_their_vertices_are(level):
    vertices = template_model().vertices[:, :2]
    tones = paint(replace(EVEN, lip=0.4, brow=0.8, brow_thickness=0.09), level)
    left, right = 16, partners()[16]
    cheek = tone_at(tones, level, vertices[90])
    for brow in (left, right):
        under = vertices[brow] - (0, 0.035)
        assert tone_at(tones, level, under) < 0.6 * cheek
    lip = (vertices[40] + vertices[8]) / 2
    assert tone_at(tones, level, lip) < 0.8 * cheek
    assert tone_at(tones, level, (0, 1.3)) == pytest.approx(EVEN.hair, abs=0.02)


@pytest.mark.parametrize("level", range(N_LEVELS))
def test_other_parts_take_their_tones_from_beside_the_face(level):
    look = replace(EVEN, skin=0.6, hair=0.2, clothes=0.9)
    tones = paint(look, level)
    for column, tone in (
        *((column, 0.6) for column in SKIN_COLUMNS),
        *((column, 0.2) for column in HAIR_COLUMNS),
        (CLOTHES_COLUMN, 0.9),
    ):
        place = (column + 0.5) / 2**level - 0.5
        # both that are mixed
        for near in (np.floor(place), np.ceil(place)):
            np.testing.assert_allclose(tones[:, int(near)], tone, atol=1e-6)


def test_the_skin_of_each_person_has_its_own_texture():
    looks = [Appearance(texture=1.0, texture_seed=seed) for seed in range(4)]
    cheeks = [paint(look, 0)[125:160, 30:50] for look in looks]
    for a in range(4):
        assert cheeks[a].std() > 0.01
        for b in range(a):
            assert np.abs(np.corrcoef(cheeks[a].ravel(), cheeks[b].ravel())[0, 1]) < 0.6


def test_folds_darken_by_as_much_as_units_are_active():
    skin = np.full(paint(EVEN, 0).shape, 0.5, np.float32)
    folds = find_folds(NAMES)[0]
    alpha = np.zeros(len(NAMES))
    np.testing.assert_array_equal(fold(skin, folds, alpha), skin)
    alpha[NAMES.index("AU04_left")] = 0.5
    half = skin - fold(skin, folds, alpha)
    whole = skin - fold(skin, folds, 2 * alpha)
    np.testing.assert_allclose(whole, 2 * half, atol=1e-6)
    np.testing.assert_array_equal(fold(skin, folds, -alpha), skin)
    np.testing.assert_array_equal(fold(skin, folds, 9 * alpha), skin - whole)
    # the subject's left is on the right
    assert whole[:, 76:].max() > 0.1
    assert np.abs(whole[:, :68]).max() < 1e-6


def test_no_fold_is_black():
    skin = np.ones(paint(EVEN, 0).shape, np.float32)
    folded = fold(skin, find_folds(NAMES)[0], np.ones(len(NAMES)))
    assert folded.min() == pytest.approx(0.25)


@pytest.mark.parametrize("level", range(1, N_LEVELS))
def test_folds_of_coarser_maps_are_the_same(level):
    alpha = np.full(len(NAMES), 0.3)
    fine, coarse = (
        fold(np.ones_like(paint(EVEN, at)), find_folds(NAMES)[at], alpha)
        for at in (0, level)
    )
    rows, columns = coarse.shape
    mean = fine.reshape(rows, 2**level, columns, 2**level).mean((1, 3))
    np.testing.assert_allclose(coarse, mean, atol=0.05)


def test_units_that_are_not_known_make_no_folds():
    assert find_folds(("a", "AU99_left")) == ([],) * N_LEVELS
