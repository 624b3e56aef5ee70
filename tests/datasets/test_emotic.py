from collections import Counter

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from ferpipe.datasets.emotic import EMOTIC_CATEGORIES, emotic_expression, load_emotic

SEVEN = {"anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"}


def cells(names):
    """Return names as a MATLAB cell array."""
    array = np.empty((1, len(names)), object)
    array[0] = names
    return array


def structures(entries):
    """Return dicts with the same keys as a MATLAB structure array."""
    array = np.empty((1, len(entries)), [(key, object) for key in entries[0]])
    for place, entry in enumerate(entries):
        for key, value in entry.items():
            array[0, place][key] = value
    return array


def person(split, box, *names):
    """Return an annotation: one annotator in train, two and their sum elsewhere."""
    if split == "train":
        labels = {"annotations_categories": {"worker_id": "A", "categories": cells(names)}}
    else:
        single = [{"worker_id": word, "categories": cells(names[:1])} for word in "AB"]
        labels = {
            "annotations_categories": structures(single),
            "combined_categories": cells(names),
        }
    return {"body_bbox": np.array([box], float), **labels}


def photograph(filename, people):
    return {
        "filename": filename,
        "folder": "mscoco/images",
        "image_size": {"n_col": 40.0, "n_row": 30.0},
        "person": structures(people),
    }


CONTENT = {
    "train": [
        photograph(
            "a.jpg",
            [
                person("train", [0, 0, 20, 30], "Happiness", "Engagement"),
                person("train", [20, 10, 44, 33], "Anger"),
            ],
        ),
        photograph("b.jpg", [person("train", [5, 5, 15, 25], "Fatigue")]),
    ],
    "val": [photograph("c.jpg", [person("val", [0, 0, 9, 9], "Fear", "Disquietment")])],
    "test": [photograph("d.jpg", [person("test", [-3, 0, 9, 9], "Peace", "Yearning")])],
}


def write_annotations(root, content):
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    mat = {split: structures(entries) for split, entries in content.items()}
    savemat(root / "Annotations" / "Annotations.mat", mat)


@pytest.fixture
def folder(tmp_path):
    """Photographs of 30 x 40 pixels whose gray level is their column."""
    root = tmp_path / "EMOTIC"
    write_annotations(root, CONTENT)
    (root / "emotic/mscoco/images").mkdir(parents=True)
    for name in "abcd":
        image = np.tile(np.arange(40, dtype=np.uint8), (30, 1))
        # without loss, whatever the name says: readers look at the content
        done, content = cv2.imencode(".png", image)
        assert done
        (root / f"emotic/mscoco/images/{name}.jpg").write_bytes(content.tobytes())
    return root


def test_people_are_cut_out(folder):
    bunch = load_emotic(folder)
    assert bunch.target.tolist() == ["happiness", "anger", "fear", "neutral"]
    assert [image.shape for image in bunch.data] == [(30, 20), (20, 20), (9, 9), (9, 9)]
    assert bunch.data[1][0].tolist() == list(range(20, 40))
    assert bunch.boxes.tolist() == [
        [0, 0, 20, 30],
        [20, 10, 40, 30],
        [0, 0, 9, 9],
        [0, 0, 9, 9],
    ]
    assert bunch.usage.tolist() == ["train", "train", "val", "test"]
    assert bunch.groups.tolist() == [
        f"mscoco/images/{name}.jpg" for name in ("a", "a", "c", "d")
    ]
    assert bunch.filenames[2].endswith("emotic/mscoco/images/c.jpg")
    assert bunch.n_without_expression == 1
    assert "table of this package" in bunch.DESCR


def test_categories_are_kept(folder):
    bunch = load_emotic(folder)
    named = [
        {name for name, there in zip(bunch.category_names, row, strict=True) if there}
        for row in bunch.categories
    ]
    assert bunch.categories.shape == (4, 26)
    assert named == [
        {"Happiness", "Engagement"},
        {"Anger"},
        {"Fear", "Disquietment"},
        {"Peace", "Yearning"},
    ]


def test_one_split_in_color_from_the_folder_above(folder):
    X, y = load_emotic(folder.parent, usage="val", gray=False, return_X_y=True)
    assert X[0].shape == (9, 9, 3)
    assert y.tolist() == ["fear"]


def test_every_category_has_its_place_in_the_table():
    assert len(EMOTIC_CATEGORIES) == 26
    assert list(EMOTIC_CATEGORIES) == sorted(EMOTIC_CATEGORIES)
    assert set(EMOTIC_CATEGORIES.values()) == SEVEN | {""}


@pytest.mark.parametrize(
    ("categories", "expression"),
    [
        (["Surprise"], "surprise"),
        (["Aversion", "Engagement", "Confidence", "Peace"], "disgust"),
        (["Sadness", "Suffering", "Fear"], "sadness"),
        (["Sadness", "Fear"], ""),
        (["Sadness", "Fear", "Peace"], ""),
        (["Engagement"], "neutral"),
        (["Fatigue", "Yearning"], ""),
        ([], ""),
    ],
)
def test_expression_of_categories(categories, expression):
    assert emotic_expression(categories) == expression


def test_order_of_categories_does_not_matter():
    rng = np.random.default_rng(0)
    names = list(EMOTIC_CATEGORIES)
    found = Counter()
    for _ in range(200):
        chosen = rng.choice(names, 4, replace=False).tolist()
        expression = emotic_expression(chosen)
        assert emotic_expression(chosen[::-1]) == expression
        found[expression] += 1
    assert set(found) == SEVEN | {""}


def test_unknown_category_is_named(folder):
    with pytest.raises(ValueError, match="'Joy' is not a category of EMOTIC"):
        emotic_expression(["Joy"])
    wrong = [photograph("x.jpg", [person("val", [0, 0, 9, 9], "Hapiness")])]
    write_annotations(folder, CONTENT | {"val": wrong})
    with pytest.raises(
        ValueError, match=r"val: x\.jpg: 'Hapiness'.*Did you mean Happiness"
    ):
        load_emotic(folder)


@pytest.mark.parametrize("box", [[40, 0, 60, 20], [9, 9, 9, 20]])
def test_box_outside_the_photograph(folder, box):
    wrong = [photograph("c.jpg", [person("val", box, "Fear")])]
    write_annotations(folder, CONTENT | {"val": wrong})
    with pytest.raises(ValueError, match=r"c\.jpg: the box .* 30 x 40 pixels"):
        load_emotic(folder)


def test_box_of_three_numbers_and_missing_field(folder):
    wrong = [photograph("c.jpg", [person("val", [1, 2, 3], "Fear")])]
    write_annotations(folder, CONTENT | {"val": wrong})
    with pytest.raises(ValueError, match=r"c\.jpg: body_bbox has 3 numbers"):
        load_emotic(folder)
    wrong[0].pop("person")
    write_annotations(folder, CONTENT | {"val": wrong})
    with pytest.raises(ValueError, match=r"c\.jpg: there is no field person"):
        load_emotic(folder)


def test_missing_photograph(folder):
    file = folder / "emotic/mscoco/images/c.jpg"
    file.unlink()
    with pytest.raises(ValueError, match=r"c\.jpg"):
        load_emotic(folder)


def test_broken_or_missing_annotations(folder, tmp_path):
    file = folder / "Annotations/Annotations.mat"
    write_annotations(folder, {"train": CONTENT["train"]})
    with pytest.raises(ValueError, match="there is no structure val"):
        load_emotic(folder)
    file.write_text("words, and no MATLAB file, longer than the header of one")
    with pytest.raises(ValueError, match=r"Annotations\.mat: this is not a MATLAB file"):
        load_emotic(folder)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"Annotations\.mat: there is no such file"):
        load_emotic(folder)
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*EMOTIC/Annotations"):
        load_emotic(tmp_path / "nowhere")


def test_unknown_usage(folder):
    with pytest.raises(ValueError, match=r"'tset' is not a known usage.*test"):
        load_emotic(folder, usage="tset")
