from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.fit_cascade import load_own_cascade
from ferpipe.faces.detection import Face, detect_faces
from ferpipe.recognition.tracking import Tracker, match_boxes, overlaps
from ferpipe.synthesis.appearance import Appearance
from ferpipe.synthesis.render import render

SIDE = 80


class Scene:
    """Detector and cascade of a made-up world: an image is the middles of its faces."""

    model = SimpleNamespace(parameter_names=("rx",))

    def __init__(self, blind=()):
        self.landmarks = self
        self.detections = 0
        self.blind = blind  # looks at which the detector overlooks everything

    def detect(self, image):
        self.detections += 1
        if self.detections in self.blind:
            return []
        return [Face((x - SIDE / 2, y - SIDE / 2, SIDE, SIDE), 1.0) for x, y in image]

    def predict(self, image, box, angle):
        return np.full((68, 2), (box[0] + SIDE / 2, box[1] + SIDE / 2))

    def refine(self, image, landmarks):
        if not len(image):
            return landmarks
        nearest = np.linalg.norm(image - landmarks[0], axis=1).argmin()
        return np.full((68, 2), image[nearest])

    def box_of(self, landmarks):
        x, y = landmarks[0]
        return (x - SIDE / 2, y - SIDE / 2, SIDE, SIDE), 0.0

    def from_landmarks(self, image, landmarks):
        there = len(image) and (np.linalg.norm(image - landmarks[0], axis=1) < 1).any()
        return np.zeros(1), 0.9 if there else 0.1


def run(scene, images, **settings):
    """Return for each frame the middles of the faces by their numbers."""
    tracker = Tracker(scene.detect, scene, **settings)
    found = []
    for index, image in enumerate(images):
        tracks = tracker.step(np.array(image, float).reshape(-1, 2), index / 30)
        found.append({one.face: one.landmarks[0].tolist() for one in tracks})
    return found


def test_overlaps():
    boxes = [(0, 0, 4, 4), (10, 10, 2, 2)]
    others = [(0, 0, 4, 4), (2, 0, 4, 4), (4, 0, 4, 4)]
    expected = [[1, 8 / 24, 0], [0, 0, 0]]
    np.testing.assert_allclose(overlaps(boxes, others), expected)
    assert overlaps([], others).shape == (0, 3)


def test_pairs_have_the_largest_sum_of_overlaps():
    rng = np.random.default_rng(0)
    for _ in range(20):
        boxes, others = (
            np.column_stack([rng.uniform(0, 20, (3, 2)), np.full((3, 2), 30.0)])
            for _ in range(2)
        )
        shares = overlaps(boxes, others)
        best = max(sum(shares[range(3), order]) for order in permutations(range(3)))
        pairs = match_boxes(boxes, others, least=0)
        assert sum(shares[pair] for pair in pairs) == pytest.approx(best)
    assert match_boxes([(0, 0, 4, 4)], [(3, 0, 4, 4)]) == []
    assert match_boxes([], others) == []


def test_the_detector_looks_every_few_frames_and_when_a_face_is_lost():
    scene = Scene()
    run(scene, [[(100, 100)]] * 20, detect_every=5)
    assert scene.detections == 4
    scene = Scene()
    gone = [[(100, 100), (300, 100)]] * 3 + [[(100, 100)]] * 3
    found = run(scene, gone, detect_every=100)
    assert [sorted(faces) for faces in found] == [[0, 1]] * 3 + [[0]] * 3
    assert scene.detections == 2


def test_without_a_face_the_detector_looks_in_each_frame():
    scene = Scene()
    found = run(scene, [[]] * 4 + [[(50, 50)]], detect_every=10)
    assert found == [{}] * 4 + [{0: [50, 50]}]
    assert scene.detections == 5


def test_a_face_that_the_detector_overlooks_is_followed():
    scene = Scene(blind=(2, 3))
    path = [[(100 + 2 * t, 100)] for t in range(8)]
    found = run(scene, path, detect_every=2)
    assert found == [{0: [100 + 2 * t, 100]} for t in range(8)]


@pytest.mark.parametrize(("away", "number"), [(20, 0), (40, 1)])
def test_a_lost_face_is_waited_for_a_second(away, number):
    found = run(Scene(), [[(100, 100)]] * 3 + [[]] * away + [[(100, 100)]])
    assert found[-1] == {number: [100, 100]}
    assert not any(found[3:-1])


@pytest.mark.parametrize("detect_every", [1, 4])
def test_faces_that_hide_each_other_keep_their_numbers(detect_every):
    images = []
    for t in range(61):
        one, other = (100 + 6 * t, 100), (460 - 6 * t, 104)
        hidden = abs(one[0] - other[0]) < 60  # the second one is behind
        images.append([one] if hidden else [one, other])
    found = run(Scene(), images, detect_every=detect_every)
    assert found[0] == {0: [100, 100], 1: [460, 104]}
    assert found[-1] == {0: [460, 100], 1: [100, 104]}
    assert all(set(faces) <= {0, 1} for faces in found)
    assert all(
        faces[0] == list(image[0]) for faces, image in zip(found, images, strict=True)
    )


def test_drawn_faces_that_cross_keep_their_numbers():
    model, prior = load_calibrated()
    parameters = np.zeros(85)
    parameters[3:6] = 38, 60, 56
    parameters[6:20] = prior.mean[:14]
    faces = [
        render(model, parameters, Appearance(skin=skin, hair=hair), 120)
        for skin, hair in ((0.75, 0.2), (0.5, 0.05))
    ]
    cascade = load_own_cascade()
    tracker = Tracker(
        lambda image: detect_faces(image, min_size=70), cascade, detect_every=5
    )
    last = {}
    for t in range(16):
        frame = np.full((150, 420), 128, np.uint8)
        for face, x in ((faces[1], 300 - 20 * t), (faces[0], 20 * t)):
            frame[15:135, x : x + 120] = face
        tracks = tracker.step(frame, t / 30)
        numbers = {one.face for one in tracks}
        last = {one.face: one.box[0] + one.box[2] / 2 for one in tracks}
        if t == 0:
            assert numbers == {0, 1}
            first = last
    assert set(last) == {0, 1}
    assert (first[0] < first[1]) != (last[0] < last[1])
