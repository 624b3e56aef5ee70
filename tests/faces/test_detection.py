import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from skimage.data import astronaut, coffee

from ferpipe.faces.detection import Face, detect_faces, find_face, score_face
from ferpipe.geometry import similarity, transform_points, warp

# where the face of skimage's astronaut is: between the eyes and the mouth, by eye
CENTER = np.array([223.0, 121.0])
WIDTH = 92


def center_of(face):
    x, y, width, height = face.box
    return np.array([x + width / 2, y + height / 2]) - 0.5


def assert_on_the_face(face, center=CENTER, width=WIDTH):
    assert np.abs(center_of(face) - center).max() < 0.15 * width
    assert face.box[2] == face.box[3] == pytest.approx(width, rel=0.25)


@pytest.mark.parametrize("detector", ["dlib", "cascade"])
def test_both_detectors_frame_a_face_alike(detector):
    (face,) = detect_faces(astronaut(), detector=detector)
    assert isinstance(face, Face)
    assert_on_the_face(face)
    assert face.angle == 0


@pytest.mark.parametrize("detector", ["dlib", "cascade"])
def test_a_picture_without_faces(detector):
    assert detect_faces(coffee(), detector=detector, min_size=80) == []
    assert find_face(coffee(), detector=detector) is None


def test_gray_color_and_floats_agree():
    color = astronaut()
    (expected,) = detect_faces(color, min_size=80)
    gray = cv2.cvtColor(color, cv2.COLOR_RGB2GRAY)
    for image in (gray, color / 255, color.astype(float), color.tolist()):
        assert detect_faces(image, min_size=80) == [expected]


@pytest.mark.parametrize("detector", ["dlib", "cascade"])
@pytest.mark.parametrize("scale", [0.4, 0.75, 2.5])
def test_boxes_follow_the_image(detector, scale):
    place = similarity(scale, 0, (0, 0), (7, 13))
    image = warp(astronaut(), place, (round(512 * scale), round(512 * scale)))
    (face,) = detect_faces(image, detector=detector, min_size=0.8 * WIDTH * scale)
    assert_on_the_face(face, transform_points(place, CENTER), WIDTH * scale)


def test_faces_below_the_smallest_size_are_not_found():
    assert detect_faces(astronaut(), min_size=180) == []
    assert find_face(astronaut(), min_size=180) is None


def test_dlib_gets_the_image_that_it_needs(monkeypatch):
    sizes = []

    def run(frame, upsampling, threshold):
        sizes.append(frame.shape)
        return [], [], []

    import dlib

    detector = type("Detector", (), {"run": staticmethod(run)})
    monkeypatch.setattr(dlib, "get_frontal_face_detector", lambda: detector)
    monkeypatch.setattr("ferpipe.faces.detection._OF_THREAD", type("Empty", (), {})())
    large = np.zeros((1500, 3000), np.uint8)
    detect_faces(large, min_size=400)
    assert sizes == [(300, 600)]  # 80 pixels are the least that it sees
    sizes.clear()
    detect_faces(np.zeros((50, 60), np.uint8), min_size=5)
    assert sizes == [(200, 240)]  # enlarged four times at most
    sizes.clear()
    find_face(large)  # of a third of the image, and smaller only then; upright and turned
    assert sizes == [(240, 480), (480, 960), (960, 1920), (1500, 3000)] * 3


def test_more_faces_with_a_lower_threshold_best_first():
    few = detect_faces(astronaut(), threshold=0)
    many = detect_faces(astronaut(), threshold=-1.2)
    assert len(many) > len(few) == 1
    assert many[0] == few[0]
    scores = [face.score for face in many]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= -1.2


def two_faces(left_scale, right_scale):
    canvas = np.full((400, 640, 3), 128, np.uint8)
    face = astronaut()[20:230, 120:330]
    for scale, x in ((left_scale, 20), (right_scale, 340)):
        part = cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        canvas[20 : 20 + len(part), x : x + len(part)] = part
    return canvas


def test_find_face_takes_the_largest():
    assert len(detect_faces(two_faces(0.6, 1.3))) == 2
    assert center_of(find_face(two_faces(0.6, 1.3), min_size=40))[0] > 320
    assert center_of(find_face(two_faces(1.3, 0.6), min_size=40))[0] < 320


def test_faces_in_doubt_are_judged(monkeypatch):
    wide, narrow = Face((0, 0, 40, 40), 0.3), Face((5, 5, 30, 30), 0.2)

    def search(image, kind, min_size, threshold, angle):
        return [] if angle else [wide, narrow]

    monkeypatch.setattr("ferpipe.faces.detection._search", search)
    image, asked = np.zeros((100, 100), np.uint8), []

    def rescore(face):
        asked.append(face)
        return -face.box[2] / 100

    assert find_face(image) == wide
    assert find_face(image, rescore=rescore) == narrow
    assert find_face(image, rescore=lambda face: -1) is None
    assert set(asked) == {wide, narrow}
    asked.clear()
    assert find_face(image, threshold=-0.6, rescore=rescore) == wide  # 0.8 above it: sure
    assert asked == []


@pytest.mark.parametrize("detector", ["dlib", "cascade"])
def test_a_face_is_scored_at_its_place(detector):
    image = astronaut()
    x, y, width, height = find_face(image).box
    assert score_face(image, (x, y, width, height), detector=detector) > 0
    beside = (x + 1.5 * width, y + height, width, height)
    assert score_face(image, beside, detector=detector) < -0.5
    turn = similarity(1.4, np.deg2rad(40), (x + width / 2, y + height / 2), (200, 200))
    turned = warp(image, turn, (400, 400))
    box = (200 - 0.7 * width, 200 - 0.7 * width, 1.4 * width, 1.4 * width)
    score = score_face(turned, box, np.deg2rad(40), detector=detector)
    assert score > max(0, score_face(turned, box, detector=detector) + 0.5)


@pytest.mark.parametrize("degrees", [-60, 60])
def test_a_turned_face_is_found_at_its_angle(degrees):
    angle = np.deg2rad(degrees)
    turned = warp(astronaut(), similarity(1.5, angle, CENTER, (200, 200)), (400, 400))
    assert detect_faces(turned, min_size=100, threshold=0) == []
    (face,) = detect_faces(turned, min_size=100, angle=angle)
    assert_on_the_face(face, np.array([200, 200]), 1.5 * WIDTH)
    assert face.angle == angle


@pytest.mark.parametrize("degrees", [-45, 45])
def test_find_face_also_looks_for_turned_faces(degrees):
    place = similarity(1.5, np.deg2rad(degrees), CENTER, (200, 200))
    face = find_face(warp(astronaut(), place, (400, 400)))
    assert_on_the_face(face, np.array([200, 200]), 1.5 * WIDTH)
    assert np.sign(face.angle) == np.sign(degrees)


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (48, 48), (1, 20_000)])
def test_tiny_and_narrow_images(shape):
    assert detect_faces(np.zeros(shape, np.uint8)) == []
    assert find_face(np.zeros(shape, np.uint8)) is None


def test_a_face_that_fills_a_small_image_is_found():
    small = cv2.resize(astronaut()[60:190, 160:290], (48, 48), interpolation=cv2.INTER_AREA)
    assert find_face(small).box[2] == pytest.approx(48 * WIDTH / 130, rel=0.25)


def test_what_is_no_image_is_refused():
    with pytest.raises(TypeError, match="must hold numbers"):
        detect_faces(np.array(["a.png"]))


# YuNet: a stand-in with its outputs, as the file itself is not part of the package


def stand_in_for_yunet(path):
    """Write a network that sees a face with five fixed points round the brightest place.

    As in YuNet, the maps of each stride have a row a cell: class and objectness scores,
    box (center x, y in strides from the cell, log of width and height in strides) and five
    points (in strides from the cell).
    """
    nodes, outputs, weights = [], [], []
    points = np.array([-2, -1, 2, -1, 0, 0.5, -1.5, 2, 1.5, 2], np.float32)
    rows = {"bbox": np.array([0, 0, np.log(8), np.log(8)], np.float32), "kps": points}
    for stride in (8, 16, 32):
        nodes.append(
            helper.make_node(
                "AveragePool",
                ["image"],
                [f"mean_{stride}"],
                kernel_shape=[stride, stride],
                strides=[stride, stride],
            )
        )
        nodes.append(
            helper.make_node("ReduceMean", [f"mean_{stride}"], [f"gray_{stride}"], axes=[1])
        )
        white = 255 if stride == 32 else 1e9  # the finer maps see nothing
        weights.append(
            helper.make_tensor(f"scale_{stride}", TensorProto.FLOAT, [1], [white])
        )
        nodes.append(
            helper.make_node("Div", [f"gray_{stride}", f"scale_{stride}"], [f"d_{stride}"])
        )
        weights.append(
            helper.make_tensor(f"rows_{stride}", TensorProto.INT64, [3], [1, -1, 1])
        )
        for kind in ("cls", "obj"):
            name = f"{kind}_{stride}"
            nodes.append(
                helper.make_node("Reshape", [f"d_{stride}", f"rows_{stride}"], [name])
            )
            outputs.append(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, 1])
            )
        for kind, row in rows.items():
            name = f"{kind}_{stride}"
            weights.append(
                helper.make_tensor(f"row_{name}", TensorProto.FLOAT, [1, len(row)], row)
            )
            weights.append(helper.make_tensor(f"no_{name}", TensorProto.FLOAT, [1], [0]))
            nodes.append(
                helper.make_node("Mul", [f"cls_{stride}", f"no_{name}"], [f"zero_{name}"])
            )
            nodes.append(helper.make_node("Add", [f"zero_{name}", f"row_{name}"], [name]))
            outputs.append(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, len(row)])
            )
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 320, 320])
    graph = helper.make_graph(nodes, "yunet", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def test_yunet_from_a_file(tmp_path):
    path = stand_in_for_yunet(tmp_path / "yunet.onnx")
    image = np.zeros((160, 224, 3), np.uint8)
    image[64:96, 128:160] = 255  # one cell of 32 pixels: row 2, column 4
    (face,) = detect_faces(image, detector=path, min_size=24)
    assert face.score == pytest.approx(1, abs=1e-3)
    # eyes at (-2, -1) and (2, -1), mouth at (0, 2) strides: the line down is 3 long
    assert face.box[2] == pytest.approx(1.69 * 5 * 32, rel=1e-3)
    expected = np.array([4 * 32, 2 * 32]) + 32 * np.array([0, -1 + 0.457 * 3])
    assert center_of(face) == pytest.approx(expected, abs=1)


def test_wrong_detectors(tmp_path):
    image = np.zeros((60, 60), np.uint8)
    with pytest.raises(
        ValueError, match=r"'haar' is not known; expected 'dlib', 'cascade'"
    ):
        detect_faces(image, detector="haar")
    with pytest.raises(
        FileNotFoundError, match=r"none\.onnx: this detector file does not exist"
    ):
        detect_faces(image, detector=tmp_path / "none.onnx")
    (tmp_path / "words.onnx").write_text("words")
    with pytest.raises(ValueError, match=r"words\.onnx: OpenCV cannot read this"):
        find_face(image, detector=tmp_path / "words.onnx")
