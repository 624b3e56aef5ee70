import numpy as np
import pytest
from matplotlib.collections import LineCollection

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.recognition.plots import plot_fit, plot_parameters, plot_units


@pytest.fixture
def parameters():
    model, _ = load_calibrated()
    values = np.zeros(len(model.parameter_names))
    values[:6] = 0, 0.2, 0.1, 50, 70, 60
    return values


def lines_of(figure):
    (axes,) = figure.axes
    (mesh,) = (child for child in axes.collections if isinstance(child, LineCollection))
    return mesh.get_segments()


def test_mesh_lies_on_the_face(parameters):
    model, _ = load_calibrated()
    image = np.full((140, 150), 99, np.uint8)
    segments = lines_of(plot_fit(image, parameters))
    pose, sigma, alpha = model.split(parameters)
    corners = project(model.shape(sigma, alpha), pose)
    drawn = np.concatenate(segments)
    assert np.abs(drawn[:, None] - corners).max(2).min(1).max() < 1e-9
    # what faces away is not drawn: fewer triangles the further the face is turned
    turned = parameters.copy()
    turned[1] = 1.2
    assert len(lines_of(plot_fit(image, turned))) < len(segments) <= len(model.triangles)
    np.testing.assert_array_equal(
        plot_fit(image, parameters).axes[0].images[0].get_array(), image
    )


def test_parameters_that_change_most_are_drawn():
    sequence = np.zeros((5, 4))
    sequence[:, 1], sequence[:, 3] = np.linspace(0, 1, 5), np.linspace(0, -2, 5)
    figure = plot_parameters(sequence, list("abcd"), most=2, times=np.arange(5) / 25)
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["d", "b"]
    np.testing.assert_array_equal(lines[0].get_ydata(), sequence[:, 3])
    assert figure.axes[0].get_xlabel() == "seconds"


def test_units_are_drawn_at_their_amounts():
    figure = plot_units(names=["AU26", "AU43"], amounts=(0, 1), columns=2)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["AU26", "AU26 +1", "AU43", "AU43 +1"]
    rest, dropped, same, closed = (axes.images[0].get_array().astype(int) for axes in shown)
    np.testing.assert_array_equal(rest, same)
    changed = np.abs(dropped - rest).sum(1)
    assert changed[90:].sum() > 5 * changed[:60].sum()  # the jaw, not the brows
    assert np.abs(closed - rest).sum() > 0


def test_unknown_units_are_refused():
    with pytest.raises(ValueError, match="no unit 'AU99'"):
        plot_units(names=["AU99"])
