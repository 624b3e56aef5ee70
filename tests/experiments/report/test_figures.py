import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ferpipe.experiments.report.figures import (
    DARK,
    LIGHT,
    Panel,
    curve_panels,
    draw_confusion,
    draw_panels,
)

CURVE = {
    "n_train": [10, 20],
    "train": {"mean": [1.0, 0.9], "spread": [0.0, 0.1]},
    "test": {"mean": [0.5, 0.6], "spread": [0.2, 0.1]},
}
SUMMARY = {
    "name": "toy",
    "synthetic": True,
    "primary": "subject_independent",
    "classes": ["anger", "fear", "joy"],
    "splits": {"subject_independent": {"confusion": [[8, 2, 0], [1, 3, 0], [0, 0, 0]]}},
}


def panels(history, curve=None):
    results = SimpleNamespace(history=history, refit="f1_macro")
    return curve_panels(results, {"learning_curve": curve})


def test_history_gives_a_panel_a_quantity_that_was_recorded():
    epochs = [
        {"train_loss": 2.0, "valid_loss": 3.0, "valid_accuracy": 0.5, "lr": 0.1},
        {"train_loss": 1.0, "valid_loss": np.nan, "valid_accuracy": None},
        {"train_loss": 0.5, "valid_loss": 2.0, "valid_accuracy": 0.7},
    ]
    loss, accuracy = panels({"net": epochs}, CURVE)
    assert (loss.title, accuracy.title) == ("net: loss", "net: accuracy")
    assert loss.lines == {
        "train": ((1, 2, 3), (2.0, 1.0, 0.5), None),
        "validation": ((1, 3), (3.0, 2.0), None),
    }
    assert accuracy.lines == {"validation": ((1, 3), (0.5, 0.7), None)}


def test_scores_over_samples_are_shown_where_no_network_left_a_history():
    (panel,) = panels({}, CURVE)
    assert (panel.title, panel.x_label) == ("f1_macro", "training samples")
    assert panel.lines["test"] == ([10, 20], [0.5, 0.6], [0.2, 0.1])
    assert panels({"net": [{"lr": 0.1}]}, CURVE) == [panel]
    assert panels({}, None) == []


def test_alt_text_says_how_each_line_goes():
    assert panels({}, CURVE)[0].alt == (
        "Line chart of f1_macro over training samples: train goes from 1.000 at 10 to "
        "0.900 at 20; test goes from 0.500 at 10 to 0.600 at 20."
    )


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_panels_draw_their_lines_and_bands(theme):
    figure = draw_panels([*panels({}, CURVE)] * 3, SUMMARY, theme)
    assert len(figure.axes) == 3
    axes = figure.axes[2]
    train, held_out = axes.lines
    np.testing.assert_array_equal(train.get_xydata(), [[10, 1.0], [20, 0.9]])
    np.testing.assert_array_equal(held_out.get_xydata(), [[10, 0.5], [20, 0.6]])
    assert held_out.get_color() == theme.lines[1]
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.3, 0.7))


def test_spread_of_a_single_fold_is_not_drawn():
    panel = Panel("a", "b", {"train": ([1, 2], [3, 4], [None, None])})
    assert not draw_panels([panel], SUMMARY, LIGHT).axes[0].collections


def test_confusion_figure_shows_counts_and_shares():
    axes = draw_confusion(SUMMARY).axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {
        (0, 0): "80 %\n8",
        (1, 0): "20 %\n2",
        (0, 1): "25 %\n1",
        (1, 1): "75 %\n3",
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == SUMMARY["classes"]
    np.testing.assert_allclose(axes.images[0].get_array()[2], 0)


@pytest.mark.parametrize("synthetic", [True, False])
def test_figures_of_synthetic_scores_say_so(synthetic):
    summary = {**SUMMARY, "synthetic": synthetic}
    title = draw_confusion(summary).axes[0].get_title(loc="left")
    assert title == "toy, subject-independent" + ", synthetic data" * synthetic
    axes = draw_panels(panels({}, CURVE), summary, LIGHT).axes[0]
    assert axes.get_title(loc="right") == "synthetic data" * synthetic


def test_drawing_does_not_touch_pyplot():
    code = (
        "import sys; "
        "from ferpipe.experiments.report.figures import LIGHT, Panel, draw_panels;"
        "panel = Panel('a', 'b', {'c': ([1], [2], None)});"
        "draw_panels([panel], {'synthetic': True}, LIGHT).canvas.draw();"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False"]
