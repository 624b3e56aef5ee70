import cv2
import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils import Bunch

from ferpipe.experiments.leakage import find_leaks
from ferpipe.experiments.metrics import summarize
from ferpipe.experiments.report.page import text_table, write_report
from ferpipe.experiments.run import DataError, make_plan, run_experiment
from ferpipe.experiments.spec import SpecError, compile_spec


def images(n=36):
    rng = np.random.default_rng(0)
    return Bunch(
        data=rng.integers(0, 256, (n, 12, 12), dtype=np.uint8),
        target=np.array(["anger", "fear", "sadness"])[np.arange(n) % 3],
        groups=None,
        filenames=[f"face{i}.png" for i in range(n)],
        kind="images",
        synthetic=True,
        DESCR="noise",
    )


def folds_of(bunch, n_splits=3):
    splitter = StratifiedKFold(n_splits, shuffle=True, random_state=0)
    return list(splitter.split(bunch.data, bunch.target))


def experiment(**evaluate):
    return compile_spec(
        {
            "name": "leaky",
            "data": {"image_folder": {"path": "nowhere"}},
            "pipeline": {"pixels": "PixelFeatures", "classify": "KNeighborsClassifier"},
            "evaluate": {"outer_cv": {"StratifiedKFold": {"n_splits": 3}}, **evaluate},
        }
    )


def test_nothing_to_say_where_nothing_leaks():
    bunch = images()
    assert find_leaks(folds_of(bunch), bunch) == {}
    bunch["sequences"] = np.arange(36) // 3
    by_sequence = StratifiedGroupKFold(3).split(
        bunch.data, bunch.target, bunch["sequences"]
    )
    assert find_leaks(list(by_sequence), bunch) == {}


def test_frames_of_a_sequence_are_named():
    bunch = images()
    bunch["sequences"] = np.repeat([f"S{i}" for i in range(18)], 2)
    leak = find_leaks(folds_of(bunch), bunch)["sequences"]
    assert leak.startswith("frames of sequence 'S")
    named = leak.split("'")[1]
    at = np.flatnonzero(bunch["sequences"] == named)
    assert any(len({i in set(test) for i in at}) == 2 for _, test in folds_of(bunch))


def test_identical_images_are_named_only_if_they_are_divided():
    bunch = images()
    _, test = folds_of(bunch)[0]
    within, outside = test[:2], np.setdiff1d(np.arange(36), test)[0]
    bunch.data[within[1]] = bunch.data[within[0]]
    assert find_leaks(folds_of(bunch), bunch) == {}
    bunch.data[outside] = bunch.data[test[3]]
    leak = find_leaks(folds_of(bunch), bunch)["identical"]
    names = {f"face{outside}.png", f"face{test[3]}.png"}
    assert all(name in leak for name in names)
    assert "(and 0 more groups are)" in leak


@pytest.mark.parametrize(
    ("names", "named"),
    [
        ([f"/home/me/{'ab'[i % 2]}/{i}.png" for i in range(36)], "a/0.png and b/1.png"),
        ([f"/home/me/faces.csv:{i}" for i in range(36)], "faces.csv:0 and faces.csv:1 "),
        ([f"{i}.png" for i in range(36)], "0.png and 1.png"),
        (
            [[f"/home/me/{i}/{k}.png" for k in "abc"] for i in range(36)],
            "0/a.png and 1/a.png ",
        ),
        (["/somewhere/0.png", *["faces/1.png"] * 35], "somewhere/0.png and "),
    ],
)
def test_files_are_named_from_the_folder_that_holds_all(names, named):
    bunch = images()
    bunch["filenames"] = names
    bunch.data[1] = bunch.data[0]
    (leak,) = find_leaks([(np.arange(1, 36), np.array([0]))], bunch).values()
    assert f"samples {named}" in leak


@pytest.mark.parametrize("as_lists", [False, True])
def test_identical_sequences_are_found(as_lists):
    bunch = images()
    rng = np.random.default_rng(1)
    clips = [rng.integers(0, 9, (2 + i % 2, 4, 4), dtype=np.uint8) for i in range(36)]
    folds = folds_of(bunch)
    bunch.update(kind="sequences", data=[list(c) for c in clips] if as_lists else clips)
    assert find_leaks(folds, bunch) == {}
    train, test = folds[0]
    bunch.data[test[0]] = bunch.data[train[0]]
    assert list(find_leaks(folds, bunch)) == ["identical"]


def test_subjects_on_both_sides_are_named():
    bunch = images()
    bunch["groups"] = np.array([f"S{i // 6}" for i in range(36)])
    train, test = np.arange(33), np.arange(33, 36)
    leaks = find_leaks([(train, test)], bunch)
    assert list(leaks) == ["subjects"]
    assert leaks["subjects"].startswith("samples of subject 'S5' (and of 0 others) stand")
    assert find_leaks([(train[:30], test)], bunch) == {}


def test_a_leak_is_refused_or_marked(tmp_path):
    bunch = images()
    train, test = next(iter(StratifiedKFold(3).split(bunch.data, bunch.target)))
    bunch.data[test[0]] = bunch.data[train[0]]
    with pytest.raises(DataError, match=r"are identical .* measures memory.*allow_leak"):
        make_plan(experiment(), bunch)
    spec = experiment(allow_leak=True)
    assert compile_spec(spec.resolved).allow_leak is True
    results = run_experiment(spec, bunch)
    assert "identical" in results.leak
    assert "warning: samples" in text_table(results)
    page = write_report(results, tmp_path)["report.html"].read_text()
    assert 'role="alert"' in page
    clean = run_experiment(experiment(allow_leak=True), images())
    assert clean.leak is None
    assert "warning:" not in text_table(clean)


def test_allow_leak_is_true_or_false():
    with pytest.raises(SpecError, match=r"evaluate\.allow_leak: expected true or false"):
        experiment(allow_leak="yes")


def clips(n_clips=12, n_frames=3):
    """Frames of clips, one folder a class, that differ by a little noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n_clips, 8, 8), dtype=np.uint8)
    still = np.repeat([cv2.resize(image, (24, 24)) for image in coarse], n_frames, axis=0)
    bunch = images(len(still))
    bunch.data = (still * 0.9 + rng.integers(0, 20, still.shape)).astype(np.uint8)
    bunch.target = np.repeat(np.array(["anger", "fear"])[np.arange(n_clips) % 2], n_frames)
    return bunch


def test_near_identical_images_on_both_sides_are_counted_and_named():
    bunch = clips()
    spec = experiment(outer_cv={"StratifiedKFold": {"n_splits": 3, "shuffle": True}})
    with pytest.warns(UserWarning, match=r"images have a near-identical one on the other"):
        plan = make_plan(spec, bunch)
    assert plan.leak is None
    (note,) = plan.notes
    assert int(note.split()[0]) >= 30
    assert ".png and face" in note
    assert "note: " + note in text_table(run_quietly(spec, bunch))
    bunch.sequences = np.repeat([f"clip{i}" for i in range(12)], 3)
    plan = make_plan(spec, bunch)
    assert plan.notes == ()
    assert list(plan.split.folds) == ["sequence_independent"]


def run_quietly(spec, bunch):
    with pytest.warns(UserWarning, match="near-identical"):
        return run_experiment(spec, bunch)


def test_frames_of_a_sequence_are_resampled_together(tmp_path):
    bunch = clips()
    bunch.sequences = np.repeat([f"clip{i}" for i in range(12)], 3)
    results = run_experiment(experiment(), bunch)
    summary = summarize(results)
    interval = summary["splits"]["sequence_independent"]["accuracy"]["interval"]
    assert interval["method"] in ("sequence bootstrap", "wilson over sequences")
    assert summary["n_subjects"] is None
    assert summary["gap"] is None
    assert "3 sequence-independent folds, no sequence on both sides" in summary["protocol"]
    page = write_report(results, tmp_path)["report.html"].read_text()
    assert "a model that was trained on other sequences" in page
    assert "sequence-independent accuracy" in text_table(results)


def test_near_identical_images_of_one_subject_are_no_leak():
    bunch = clips()
    bunch.groups = np.repeat([f"S{i}" for i in range(12)], 3)
    plan = make_plan(experiment(), bunch)
    assert plan.notes == ()
    assert plan.leak is None
    assert list(plan.split.folds) == ["subject_independent", "stratified"]


def test_the_same_picture_at_two_sizes_is_found():
    bunch = images()
    bunch.data = [cv2.resize(image, (24, 24)) for image in bunch.data]
    assert find_leaks(folds_of(bunch), bunch) == {}
    train, test = folds_of(bunch)[0]
    bunch.data[train[0]] = cv2.resize(bunch.data[test[0]], (96, 96))
    leak = find_leaks(folds_of(bunch), bunch)["identical"]
    assert "show the same picture in another size or data set (and 0 more pairs do)" in leak
    for place in (train[0], test[0]):
        assert f"face{place}.png" in leak
    bunch.groups = np.array([f"S{i}" for i in range(36)])
    assert "identical" in find_leaks(folds_of(bunch), bunch)
    # near-identical frames of one subject in crops of two sizes: the subject says enough
    bunch.groups[train[0]] = bunch.groups[test[0]]
    assert "identical" not in find_leaks(folds_of(bunch), bunch)
