import numpy as np
import pytest

from ferpipe import ActionUnitRules
from ferpipe.candide.action_unit_rules import RULES
from ferpipe.candide.calibrated import load_calibrated

EXPRESSIONS = sorted(RULES)


def actions(**amounts):
    """Animation units at the prior's mean but for some, in standard deviations."""
    model, prior = load_calibrated()
    n = len(model.animation_names)
    spread = np.sqrt(np.diag(prior.covariance))[-n:]
    values = prior.mean[-n:].copy()
    for name, amount in amounts.items():
        for index, full in enumerate(model.animation_names):
            if name in (full, full.partition("_")[0]):
                values[index] += amount * spread[index]
    return values


@pytest.fixture(scope="module")
def rules():
    return ActionUnitRules().fit(np.zeros((len(EXPRESSIONS), 65)), EXPRESSIONS)


@pytest.mark.parametrize(
    ("units", "expression"),
    [
        ({"AU23": 2, "AU24": 2}, "anger"),
        ({"AU14_left": 2}, "contempt"),
        ({"AU14_right": 2}, "contempt"),
        ({"AU09": 2}, "disgust"),
        ({"AU10": 2}, "disgust"),
        ({"AU01": 2, "AU02": 2, "AU04": 2.5}, "fear"),
        ({"AU12": 2}, "happiness"),
        ({"AU01": 2, "AU04": 2, "AU15": 2}, "sadness"),
        ({"AU11": 2}, "sadness"),
        ({"AU01": 2, "AU02": 2}, "surprise"),
        ({"AU05": 2}, "surprise"),
    ],
)
def test_the_table(rules, units, expression):
    assert rules.predict([actions(**units)]) == [expression]


def test_scores_are_standard_deviations(rules):
    scores = rules.decision_function([actions(AU12=1.5), actions()])
    assert scores[0, EXPRESSIONS.index("happiness")] == pytest.approx(1.5)
    np.testing.assert_allclose(scores[1], 0, atol=1e-12)


def test_one_side_is_half(rules):
    (scores,) = rules.decision_function([actions(AU12_left=2)])
    assert scores[EXPRESSIONS.index("happiness")] == pytest.approx(1)


def test_shape_units_before_the_actions_change_nothing(rules):
    alone = np.stack([actions(AU12=2), actions(AU09=1)])
    both = np.column_stack([np.random.default_rng(0).normal(size=(2, 14)), alone])
    again = ActionUnitRules().fit(both, ["happiness", "disgust"])
    assert again.predict(both).tolist() == ["happiness", "disgust"]
    scores = ActionUnitRules().fit(alone, ["happiness", "disgust"]).decision_function(alone)
    np.testing.assert_allclose(again.decision_function(both), scores)


def test_only_classes_of_fit_are_predicted():
    rules = ActionUnitRules().fit(np.zeros((2, 65)), ["anger", "fear"])
    assert rules.predict([actions(AU12=3)])[0] in ("anger", "fear")
    assert rules.decision_function([actions()]).shape == (1,)


def test_wrong_input():
    with pytest.raises(ValueError, match="no rule for neutral"):
        ActionUnitRules().fit(np.zeros((2, 65)), ["neutral", "fear"])
    with pytest.raises(ValueError, match=r"65 columns .* or 79 .* got 68"):
        ActionUnitRules().fit(np.zeros((2, 68)), ["anger", "fear"])
