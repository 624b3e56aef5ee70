import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ferpipe.candide.template import (
    ANCHORS,
    N_VERTICES,
    partners,
    template_model,
    triangles_of_openings,
)
from ferpipe.candide.wfm import read_wfm
from ferpipe.faces.landmark_points import MIRRORED

needs_data = pytest.mark.skipif(
    "FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set"
)

RESERVED = {4, 35, 36, 37, 38, 39, 41, 42, 43}
# irises, pupils and teeth
LOOSE = {*range(67, 75), 113, 114, 115}
ACTION_UNITS = [
    f"AU{number:02}"
    for number in (*(1, 2, 4, 5, 6, 7), *range(9, 19), 20, *range(22, 29), 43, 46)
]
# what muscles of one side do alone
SIDED = [
    f"AU{number:02}" for number in (*(1, 2, 4, 5, 6, 7), *range(9, 16), 20, 34, 35, 46)
]
TO_THE_OTHER_SIDE = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def model():
    return template_model()


def used_vertices():
    return np.array(sorted(set(range(N_VERTICES)) - RESERVED))


def unit(model, name):
    """Return what an animation unit does; that of both sides if it has two."""
    names = (name, f"{name}_left", f"{name}_right")
    chosen = [index for index, one in enumerate(model.animation_names) if one in names]
    assert chosen, name
    return model.animation_units[chosen].sum(0)


def move_of(model, name, vertex):
    return unit(model, name)[model.vertex_names[vertex]]


def partner_by_name(model):
    names = {index: name for name, index in model.vertex_names.items()}
    swapped = {"left": "right", "right": "left"}
    partner = {}
    for index, name in names.items():
        body, _, side = name.rpartition("_")
        other = f"{body}_{swapped[side]}" if side in swapped else name
        partner[index] = model.vertex_names[other]
    return partner


# Counts and names


def test_slots(model):
    assert model.vertices.shape == (N_VERTICES, 3) == (116, 3)
    origin = {int(i) for i in np.flatnonzero((model.vertices == 0).all(1))}
    assert origin == RESERVED
    assert not RESERVED & set(model.triangles.ravel())
    assert len(model.shape_names) == 14
    assert len(model.animation_names) == 65
    assert len(set(model.parameter_names)) == 6 + 14 + 65


def test_no_unit_moves_a_reserved_vertex_and_none_moves_nothing(model):
    for units in (model.shape_units, model.animation_units):
        assert not units[:, sorted(RESERVED)].any()
        assert units.any((1, 2)).all()
        assert np.isfinite(units).all()


@pytest.mark.parametrize("name", ACTION_UNITS)
def test_every_action_unit_is_there(model, name):
    expected = {f"{name}_left", f"{name}_right"} if name in SIDED else {name}
    assert expected == {one for one in model.animation_names if one.startswith(name)}


def test_every_used_vertex_has_a_name_with_its_side(model):
    assert sorted(model.vertex_names.values()) == used_vertices().tolist()
    for name, index in model.vertex_names.items():
        side = {"left": 1, "right": -1}.get(name.rpartition("_")[2], 0)
        assert np.sign(model.vertices[index, 0]) == side, name


def test_the_drawing_is_made_once_and_shared():
    assert template_model() is template_model()


# Symmetry


def test_partners_are_the_vertices_named_after_the_other_side(model):
    partner = partners()
    assert partner.shape == (N_VERTICES,)
    for index, other in partner_by_name(model).items():
        assert partner[index] == other
    assert all(partner[index] == index for index in RESERVED)


def test_the_rest_shape_is_symmetrical(model):
    for index, other in partner_by_name(model).items():
        mirrored = model.vertices[other] * TO_THE_OTHER_SIDE
        np.testing.assert_array_equal(model.vertices[index], mirrored)


def test_units_are_mirror_images_of_their_partners(model):
    partner = partner_by_name(model)
    for units, mirrored in [
        (model.shape_units, model.mirrored_shape),
        (model.animation_units, model.mirrored_animation),
    ]:
        assert sorted(mirrored) == list(range(len(units)))
        for one, other in enumerate(mirrored):
            assert mirrored[other] == one
            for index in partner:
                expected = units[other][partner[index]] * TO_THE_OTHER_SIDE
                np.testing.assert_array_equal(units[one][index], expected)


def test_who_a_person_is_has_no_side_and_sided_actions_are_partners(model):
    assert model.mirrored_shape == tuple(range(14))
    names = model.animation_names
    pairs = {names[i]: names[j] for i, j in enumerate(model.mirrored_animation)}
    for name in SIDED:
        assert pairs[f"{name}_left"] == f"{name}_right"
    assert pairs["AU61"] == "AU62"
    assert pairs["AU26"] == "AU26"


def test_triangles_are_symmetrical(model):
    partner = partner_by_name(model)

    def as_set(triangles):
        # turned so that the smallest comes first: the direction stays
        return Counter(min((a, b, c), (b, c, a), (c, a, b)) for a, b, c in triangles)

    left = as_set(model.triangles.tolist())
    # a mirror image goes round the other way
    right = as_set([partner[v] for v in t[::-1]] for t in model.triangles.tolist())
    assert left == right


def test_landmarks_are_symmetrical(model):
    partner = partner_by_name(model)
    for vertex, points in model.landmarks.items():
        mirrored = {int(MIRRORED[point]) for point in points}
        assert mirrored == set(model.landmarks[partner[vertex]])


# The mesh


def edges(triangles):
    triangles = np.asarray(triangles).tolist()
    return Counter(edge for a, b, c in triangles for edge in ((a, b), (b, c), (c, a)))


def boundary(edge_counts):
    """Return the edges that no triangle has in the other direction."""
    return {edge for edge in edge_counts if edge[::-1] not in edge_counts}


def along(model, *names):
    """Return the edges of the closed line through vertices, in this direction."""
    line = [model.vertex_names[name] for name in names]
    return set(zip(line, line[1:] + line[:1], strict=True))


def areas_from_the_front(vertices, triangles):
    (x, y) = np.moveaxis(vertices[triangles][:, :, :2], 2, 0)
    return (
        (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0])
        - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    ) / 2


def test_triangles_are_counter_clockwise_as_seen_from_the_front(model):
    assert (areas_from_the_front(model.vertices, model.triangles) > 1e-5).all()
    for triangles in triangles_of_openings():
        assert (areas_from_the_front(model.vertices, triangles) > 1e-5).all()


def test_triangles_do_not_overlap(model):
    counts = edges(model.triangles)
    assert {edge for edge, count in counts.items() if count > 1} == set()


def test_all_that_is_used_is_in_the_mesh_but_irises_pupils_and_teeth(model):
    assert set(model.triangles.ravel()) == set(used_vertices().tolist()) - LOOSE


EYE_OUTLINE = [
    "eye_inner",
    "lower_lid_inner",
    "lower_lid",
    "lower_lid_outer",
    "eye_outer",
    "upper_lid_outer",
    "upper_lid",
    "upper_lid_inner",
]
MOUTH_OUTLINE = [
    "inner_mouth_corner_right",
    "inner_lower_lip_side_right",
    "inner_lower_lip",
    "inner_lower_lip_side_left",
    "inner_mouth_corner_left",
    "inner_upper_lip_side_left",
    "inner_upper_lip",
    "inner_upper_lip_side_right",
]


def test_the_openings_fill_the_eyes_and_the_mouth(model):
    eyes, mouth = triangles_of_openings()
    left = along(model, *(f"{name}_left" for name in EYE_OUTLINE))
    right = along(model, *(f"{name}_right" for name in EYE_OUTLINE[::-1]))
    assert boundary(edges(eyes)) == left | right
    assert boundary(edges(mouth)) == along(model, *MOUTH_OUTLINE)
    # the mesh has the same edges, in the other direction, as borders
    borders = boundary(edges(model.triangles))
    holes = {edge[::-1] for edge in left | right | along(model, *MOUTH_OUTLINE)}
    assert holes <= borders
    # with them only the outline of the head is open: one closed line, through the chin
    outline = dict(borders - holes)
    whole = edges(np.concatenate([model.triangles, eyes, mouth]))
    assert boundary(whole) == set(outline.items())
    line = [model.vertex_names["chin_bottom"]]
    while outline[line[-1]] != line[0] and len(line) <= len(outline):
        line.append(outline[line[-1]])
    assert sorted(line) == sorted(outline)
    assert model.vertex_names["skull_top"] in line


def test_the_openings_triangles_do_not_overlap():
    for triangles in triangles_of_openings():
        assert max(edges(triangles).values()) == 1


# What units mean. x goes to the subject's left, y up and z to the camera


def test_sided_units_leave_the_other_side_alone(model):
    right = [i for name, i in model.vertex_names.items() if name.endswith("_right")]
    for name in SIDED:
        assert not unit(model, f"{name}_left")[right].any(), name


def test_a_smile_pulls_the_corner_of_the_mouth_up_and_outward(model):
    x, y, _ = move_of(model, "AU12_left", "mouth_corner_left")
    assert x > 0.05
    assert y > 0.05
    smile = unit(model, "AU12_left")
    brows = [i for name, i in model.vertex_names.items() if "brow" in name]
    assert not smile[brows].any()
    assert not smile[model.vertices[:, 0] < 0].any()
    furthest = np.linalg.norm(smile, axis=1).argmax()
    assert furthest == model.vertex_names["mouth_corner_left"]


def test_the_inner_brow_raiser_raises_the_inner_ends_most(model):
    raised = unit(model, "AU01")[:, 1]
    inner = [model.vertex_names[f"brow_inner_{side}"] for side in ("left", "right")]
    assert (raised[inner] > 0.05).all()
    assert set(np.argsort(raised)[-2:]) == set(inner)
    assert (raised >= 0).all()


def test_the_outer_brow_raiser_raises_the_outer_end_more_than_the_inner(model):
    outer = move_of(model, "AU02", "brow_outer_left")[1]
    assert outer > 0.05
    assert outer > 2 * move_of(model, "AU02", "brow_inner_left")[1]


def test_the_brow_lowerer_lowers_the_brows_and_brings_them_together(model):
    for side, inward in (("left", -1), ("right", 1)):
        x, y, _ = move_of(model, "AU04", f"brow_inner_{side}")
        assert x * inward > 0.02
        assert y < -0.05
        assert move_of(model, "AU04", f"brow_top_{side}")[1] < 0


def opening_of_eye(model, name, side):
    moved = model.vertices + unit(model, name)
    upper, lower = (model.vertex_names[f"{lid}_lid_{side}"] for lid in ("upper", "lower"))
    return (moved[upper] - moved[lower])[:2]


@pytest.mark.parametrize("side", ["left", "right"])
def test_lids(model, side):
    drawn = model.vertices
    upper, lower = (model.vertex_names[f"{lid}_lid_{side}"] for lid in ("upper", "lower"))
    open_by = (drawn[upper] - drawn[lower])[1]
    assert open_by > 0.05
    for name in ("AU43", f"AU46_{side}"):
        # a small gap: lids that touch, and do not cross
        assert np.abs(opening_of_eye(model, name, side)).max() < 0.01
        assert opening_of_eye(model, name, side)[1] > -1e-9
    other = "right" if side == "left" else "left"
    assert opening_of_eye(model, f"AU46_{side}", other)[1] == open_by
    assert opening_of_eye(model, "AU05", side)[1] > 1.3 * open_by
    assert 0 < opening_of_eye(model, "AU07", side)[1] < 0.8 * open_by
    # a widened eye raises the upper lid, a tightened one the lower
    assert move_of(model, "AU05", f"lower_lid_{side}")[1] == 0
    assert move_of(model, "AU07", f"lower_lid_{side}")[1] > 0


def test_the_jaw_drops_and_the_mouth_stretches_more(model):
    for name, least in (("AU26", 0.1), ("AU27", 0.25)):
        for vertex in ("chin_boss", "chin_bottom", "lower_lip", "inner_lower_lip"):
            assert move_of(model, name, vertex)[1] < -least
        assert abs(move_of(model, name, "inner_upper_lip")[1]) < 0.05
        assert not move_of(model, name, "nose_tip").any()
    assert (
        move_of(model, "AU27", "chin_boss")[1]
        < 1.5 * move_of(model, "AU26", "chin_boss")[1]
    )


def test_lips(model):
    def lips_part(name):
        upper = move_of(model, name, "inner_upper_lip")[1]
        return upper - move_of(model, name, "inner_lower_lip")[1]

    assert lips_part("AU25") > 0.03
    assert lips_part("AU16") > 0.03
    assert lips_part("AU10") > 0.03
    assert move_of(model, "AU10", "upper_lip_peak_left")[1] > 0.05
    assert move_of(model, "AU15", "mouth_corner_left")[1] < -0.05
    assert move_of(model, "AU13", "mouth_corner_left")[1] > 0.05
    for name, outward in (("AU20", 1), ("AU14", 1), ("AU18", -1), ("AU23", -1)):
        assert move_of(model, name, "mouth_corner_left")[0] * outward > 0.03, name
    for name in ("AU18", "AU22"):  # puckered and funnelled lips come forward
        assert move_of(model, name, "upper_lip")[2] > 0.05
        assert move_of(model, name, "lower_lip")[2] > 0.05
    for name in ("AU24", "AU28"):  # pressed and sucked lips get thin
        assert (
            move_of(model, name, "upper_lip")[1] < 0 < move_of(model, name, "lower_lip")[1]
        )
    assert move_of(model, "AU28", "upper_lip")[2] < 0
    assert move_of(model, "AU17", "chin_boss")[1] > 0.05
    assert move_of(model, "AU17", "lower_lip")[1] > 0.03


def test_the_nose_wrinkles_and_cheeks_rise(model):
    assert move_of(model, "AU09", "nostril_left")[1] > 0.03
    assert move_of(model, "AU09", "brow_inner_left")[1] < 0
    assert move_of(model, "AU06", "cheek_left")[1] > 0.03
    assert move_of(model, "AU06", "lower_lid_left")[1] > 0
    assert move_of(model, "AU11", "upper_lip_side_left")[1] > 0.02


@pytest.mark.parametrize(
    ("name", "axis", "sign"),
    [("AU61", 0, 1), ("AU62", 0, -1), ("AU63", 1, 1), ("AU64", 1, -1)],
)
def test_both_eyes_look_the_same_way(model, name, axis, sign):
    left, right = (move_of(model, name, f"pupil_{side}") for side in ("left", "right"))
    np.testing.assert_array_equal(left, right)
    assert left[axis] * sign > 0.02
    assert np.flatnonzero(left).tolist() == [axis]
    # irises go with their pupils
    for index, vertex in model.vertex_names.items():
        if index.startswith("iris"):
            np.testing.assert_array_equal(unit(model, name)[vertex], left)


def test_persons_differ_as_the_names_say(model):
    def size(name, vertex, axis):
        index = model.shape_names.index(name)
        return model.shape_units[index][model.vertex_names[vertex]][axis]

    assert size("head_height", "skull_top", 1) > 0
    assert size("face_width", "jaw_corner_left", 0) > 0
    assert size("brow_height", "brow_inner_left", 1) > 0
    assert size("eye_separation", "pupil_left", 0) > 0
    assert (
        size("eye_width", "eye_outer_left", 0) > 0 > size("eye_width", "eye_inner_left", 0)
    )
    assert size("eye_opening", "upper_lid_left", 1) > 0
    assert size("nose_depth", "nose_tip", 2) > 0
    assert size("nose_length", "nose_tip", 1) < 0
    assert size("nose_width", "nostril_left", 0) > 0
    assert size("mouth_width", "mouth_corner_left", 0) > 0
    assert size("mouth_height", "upper_lip", 1) < 0
    assert size("chin_height", "chin_bottom", 1) < 0


# The 68 points


@pytest.mark.parametrize(
    ("vertex", "points"),
    [
        # the first points are on the left of the image: the subject's right
        ("brow_outer_right", {17}),
        ("brow_inner_left", {22}),
        ("nose_tip", {30}),
        ("nose_bottom", {33}),
        ("nostril_right", {31}),
        ("eye_outer_right", {36}),
        ("upper_lid_right", {37, 38}),
        ("eye_inner_right", {39}),
        ("lower_lid_right", {40, 41}),
        ("eye_inner_left", {42}),
        ("eye_outer_left", {45}),
        ("mouth_corner_right", {48}),
        ("upper_lip_side_right", {49}),
        ("upper_lip_peak_right", {50}),
        ("upper_lip", {51}),
        ("mouth_corner_left", {54}),
        ("lower_lip_side_left", {55, 56}),
        ("lower_lip", {57}),
        ("inner_mouth_corner_right", {60}),
        ("inner_upper_lip_side_right", {61}),
        ("inner_upper_lip", {62}),
        ("inner_lower_lip_side_left", {65}),
        ("inner_lower_lip", {66}),
        ("chin_bottom", {8}),
    ],
)
def test_landmarks_show_the_vertices_of_their_name(model, vertex, points):
    assert set(model.landmarks[model.vertex_names[vertex]]) == points


def test_no_landmark_shows_two_vertices(model):
    shown = [point for points in model.landmarks.values() for point in points]
    assert len(shown) == len(set(shown))
    assert set(shown) <= set(range(68))


# The public Candide-3, by which vertices are numbered


@pytest.fixture(scope="module")
def public():
    return read_wfm(Path(os.environ["FERPIPE_DATA"], "candide", "candide3.wfm")).model


def numbered():
    """Return the vertices that Candide-3 has too."""
    return np.array(sorted(set(range(113)) - RESERVED))


def aligned(public, model):
    """Scale and shift the public vertices to ours."""
    theirs, ours = public.vertices[numbered()], model.vertices[numbered()]
    middle, our_middle = theirs.mean(0), ours.mean(0)
    off, our_off = theirs - middle, ours - our_middle
    return our_middle + (off * our_off).sum() / (off * off).sum() * off


@needs_data
def test_vertices_are_on_the_side_where_candide_has_them(public, model):
    ours, theirs = (np.sign(one.vertices[numbered(), 0]) for one in (model, public))
    assert numbered()[ours != theirs].tolist() == []


@needs_data
def test_vertices_are_about_where_candide_has_them(public, model):
    off = aligned(public, model) - model.vertices[numbered()]
    head = np.isin(numbered(), ANCHORS)
    assert np.linalg.norm(off[~head], axis=1).max() < 0.35
    # its skull and ears are flatter than those of heads: only from the front alike
    assert np.linalg.norm(off[head, :2], axis=1).max() < 0.35
    assert np.linalg.norm(off[head], axis=1).max() < 0.5


@needs_data
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("AU01", "Inner brows raiser"),
        ("AU02", "Outer brow raiser"),
        ("AU04", "Brow lowerer"),
        ("AU05", "Upper lid raiser"),
        ("AU07", "Lid tightener"),
        ("AU09", "Nose wrinkler"),
        ("AU10", "Upper lip raiser"),
        ("AU15", "Lip corner depressor"),
        ("AU20", "Lip stretcher"),
        ("AU23", "Lip presser"),
        ("AU24", "Lip presser"),
        ("AU26", "Jaw drop"),
        ("AU27", "Jaw drop"),
        ("AU43", "Eyes closed"),
        ("AU29", "Jaw z-push"),
        ("AU30_left", "Jaw x-push"),
    ],
)
def test_units_move_vertices_the_way_candides_do(public, model, name, theirs):
    ours = unit(model, name)[:113]
    other = public.animation_units[public.animation_names.index(theirs)]
    both = ours.any(1) & other.any(1)
    assert both.sum() >= 4
    ours, other = ours[both], other[both]
    cosine = (ours * other).sum() / np.linalg.norm(ours) / np.linalg.norm(other)
    assert cosine > 0.3
