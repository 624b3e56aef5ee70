import numpy as np
import pytest
from skimage.data import astronaut

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.designed_objectives import EdgeObjective, LandmarkObjective
from ferpipe.candide.learned_objective import LearnedObjective
from ferpipe.candide.objective_search import OBJECTIVES, ObjectiveSearch, objective_named
from ferpipe.candide.prior import unit_limits
from ferpipe.faces.detection import find_face
from ferpipe.faces.landmarks import load_model
from ferpipe.io.images import read_image

PHOTO = read_image(astronaut())
MODEL, PRIOR = load_calibrated()


@pytest.fixture(params=OBJECTIVES)
def search(request):
    landmarks = load_model("ferpipe")
    objective = objective_named(request.param, MODEL, landmarks)
    return ObjectiveSearch(objective, MODEL, PRIOR, landmarks)


def test_objectives_have_names():
    kinds = [
        type(objective_named(name, MODEL, load_model("ferpipe"))) for name in OBJECTIVES
    ]
    assert kinds == [LandmarkObjective, LearnedObjective, EdgeObjective]


def test_units_keep_within_their_limits(search):
    face = find_face(PHOTO)
    parameters, quality = search.predict(PHOTO, face.box)
    least, most = unit_limits(MODEL, PRIOR)
    assert (parameters[6:] >= least - 1e-9).all()
    assert (parameters[6:] <= most + 1e-9).all()
    assert 0 <= quality <= 1
    assert quality > 0.9 or isinstance(search.objective, EdgeObjective)


def test_a_warm_start_stays(search):
    face = find_face(PHOTO)
    parameters, _ = search.predict(PHOTO, face.box)
    again, _ = search.refine(PHOTO, parameters)
    reach = 0.3 if isinstance(search.objective, EdgeObjective) else 0.05
    assert np.abs(again[4:6] - parameters[4:6]).max() < reach * parameters[3]


def test_a_known_person_stays_the_same(search):
    face = find_face(PHOTO)
    parameters, _ = search.predict(PHOTO, face.box)
    sigma = np.linspace(-0.5, 0.5, 14)
    there = search.with_shape(PHOTO, parameters, sigma)
    np.testing.assert_array_equal(there[6:20], sigma)
    assert (there[20:] != parameters[20:]).any()
