import pytest
from sklearn.dummy import DummyClassifier

from ferpipe import Distillation, EarlyStopping, WeightAveraging
from ferpipe.io.format1 import current_recipe, current_state

FLAT = {
    "lr": 0.01,
    "patience": None,
    "best_epoch": False,
    "average_from": None,
    "average_with": None,
    "teacher": None,
    "teacher_share": 0.5,
    "teacher_folds": 3,
}
TEACHER = DummyClassifier()
GROUPS = [
    ({}, {"early_stopping": None, "averaging": None, "distillation": None}),
    (
        {"patience": 4},
        {"early_stopping": EarlyStopping(patience=4, restore_best_weights=False)},
    ),
    ({"best_epoch": True}, {"early_stopping": EarlyStopping(patience=None)}),
    (
        {"average_from": 0.0, "average_with": "a"},
        {"averaging": WeightAveraging(start=0.0, blend_with="a")},
    ),
    (
        {"teacher": TEACHER, "teacher_share": 0.2, "teacher_folds": 5},
        {"distillation": Distillation(TEACHER, weight=0.2, folds=5)},
    ),
]


@pytest.mark.parametrize(("flat", "grouped"), GROUPS)
def test_flat_settings_of_a_training_become_objects(flat, grouped):
    state = current_state("Training", FLAT | flat)
    expected = {**GROUPS[0][1], **grouped, "lr": 0.01}
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        if value is None or name == "lr":
            assert state[name] == value
        else:
            assert type(state[name]) is type(value)
            assert state[name].get_params(deep=False) == value.get_params(deep=False)


def test_settings_of_now_stay():
    state = {"lr": 0.01, "distillation": Distillation("a")}
    assert current_state("Training", state) == state


def test_a_training_saved_before_it_had_a_teacher():
    assert current_state("Training", {"patience": None, "lr": 0.1}) == {
        "lr": 0.1,
        "early_stopping": None,
    }


def test_recipes_are_translated_at_any_depth():
    teacher = {"ImageNetwork": {"training": {"Training": {"patience": 3}}}}
    recipe = {
        "classify": {
            "ImageNetwork": {
                "frames": "residual",
                "views": "one",
                "training": {"Training": {"lr": 0.1, "teacher": teacher}},
            }
        }
    }
    stopping = {"EarlyStopping": {"patience": 3, "restore_best_weights": False}}
    taught = {"training": {"Training": {"early_stopping": stopping}}}
    distillation = {"teacher": {"ImageNetwork": taught}, "weight": 0.5, "folds": 3}
    assert current_recipe(recipe) == {
        "classify": {
            "ImageNetwork": {
                "backbone": "residual",
                "tta": None,
                "training": {
                    "Training": {"lr": 0.1, "distillation": {"Distillation": distillation}}
                },
            }
        }
    }


def test_tensors_of_the_backbone_are_renamed():
    state = {"frames": "residual", "weights_": {"frames.a": 1, "output.frames": 2}}
    assert current_state("ImageNetwork", state) == {
        "backbone": "residual",
        "weights_": {"backbone.a": 1, "output.frames": 2},
    }
