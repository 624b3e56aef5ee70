from dataclasses import replace

import numpy as np
import pytest

from ferpipe.candide.camera import project
from ferpipe.candide.model import CandideModel
from ferpipe.candide.template import template_model
from ferpipe.synthesis.appearance import Appearance
from ferpipe.synthesis.scene import BACKGROUND, EYE, MOUTH, scene_of
from ferpipe.synthesis.texture import to_map

MODEL = template_model()
SCENE = scene_of(MODEL)
POSES = np.array([[0, 0, 0, 30, 48, 50], [0.2, -0.5, 0.1, 20, 10, 20.0]])
LOOKS = [Appearance(), Appearance(hair_length=1.0, light=(1.0, 0.2, 0.5))]
VIEW = SCENE.view(np.stack([MODEL.vertices] * 2), POSES, LOOKS)


def test_a_scene_is_made_once():
    copy = CandideModel(
        MODEL.vertices + 1,
        MODEL.triangles.copy(),
        MODEL.shape_units,
        MODEL.animation_units,
        MODEL.shape_names,
        MODEL.animation_names,
    )
    assert scene_of(copy) is SCENE


def test_vertices_are_where_the_camera_shows_them():
    first = SCENE.triangles < 116
    for i, pose in enumerate(POSES):
        expected = project(MODEL.vertices, pose)[np.where(first, SCENE.triangles, 0)]
        np.testing.assert_allclose(
            np.moveaxis(VIEW.corners[:, i], 0, 2).swapaxes(0, 1)[first], expected[first]
        )


def test_gradients_lead_to_the_map():
    n = len(SCENE.triangles)
    own = (SCENE.triangles < 116).all(1) & ~SCENE.open[:-1]
    on_map = to_map(MODEL.vertices[:, :2])
    for i in range(2):
        for t in set(VIEW.orders[i].tolist()) & set(np.flatnonzero(own).tolist()):
            x, y = VIEW.corners[:, i, :, t]
            a, b, c = VIEW.gradients[i, :2, :, t].swapaxes(0, 1)[..., None]
            places = (a * x + b * y + c).T
            np.testing.assert_allclose(places, on_map[SCENE.triangles[t]], atol=0.02)
    assert not VIEW.gradients[..., n].any()


def test_far_triangles_come_first_and_those_turned_away_not_at_all():
    for i, pose in enumerate(POSES):
        order = VIEW.orders[i]
        x, y = VIEW.corners[:, i][..., order]
        area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        assert (area < 0).all()
        # the tip of the nose after the skin about the mouth, before nothing of the face
        shown = order.tolist()
        nose = [t for t in shown if 5 in SCENE.triangles[t]]
        jaw = [t for t in shown if 30 in SCENE.triangles[t]]
        assert nose
        if jaw and pose[1] == 0:
            assert min(map(shown.index, nose)) > max(map(shown.index, jaw))


def test_a_turned_face_shows_fewer_triangles_of_one_side():
    from_before, from_aside = (set(order.tolist()) for order in VIEW.orders)
    cheeks = [
        {t for t, corners in enumerate(SCENE.triangles.tolist()) if vertex in corners}
        for vertex in (28, 61)
    ]
    assert all(len(cheek & from_before) > 1 for cheek in cheeks)
    shown = [len(cheek & from_aside) for cheek in cheeks]
    assert shown[0] != shown[1]


def test_kinds():
    kinds = SCENE.kinds
    assert len(kinds) == len(SCENE.triangles) + 1
    assert kinds[SCENE.background] == BACKGROUND
    assert (kinds == BACKGROUND).sum() == 1
    for kind in (EYE, MOUTH):
        assert (kinds == kind).sum() >= 8
    np.testing.assert_array_equal(SCENE.open, (kinds == EYE) | (kinds == MOUTH))


def test_only_triangles_with_a_common_side_are_one_surface():
    smooth = SCENE.smooth
    np.testing.assert_array_equal(smooth, smooth.T)
    assert not smooth[SCENE.open].any()
    assert not smooth[SCENE.background].any()
    plain = np.flatnonzero(SCENE.kinds == 0)
    assert smooth[plain, plain].all()
    for a in plain[::7]:
        for b in plain[::5]:
            common = set(SCENE.triangles[a]) & set(SCENE.triangles[b])
            assert smooth[a, b] == (len(common) > 1)


@pytest.mark.parametrize(("side", "brighter"), [(1.0, 90), (-1.0, 91)])
def test_light_falls_on_the_side_it_comes_from(side, brighter):
    look = replace(Appearance(), light=(side, 0.0, 0.3), ambient=0.2)
    view = SCENE.view(MODEL.vertices[None], POSES[:1], [look])

    def light(vertex):
        t = next(t for t in view.orders[0] if vertex in SCENE.triangles[t])
        at = SCENE.triangles[t].tolist().index(vertex)
        x, y = view.corners[:, 0, at, t]
        a, b, c = view.gradients[0, 2, :, t]
        return a * x + b * y + c

    assert light(brighter) > light(181 - brighter) + 0.1
    assert 0.2 <= light(181 - brighter) <= 1.0 + 1e-5
