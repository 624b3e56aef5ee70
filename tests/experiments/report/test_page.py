import base64
import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import yaml
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ferpipe.experiments.metrics import summarize
from ferpipe.experiments.report import page as report
from ferpipe.experiments.report.figures import DARK, LIGHT
from ferpipe.experiments.report.formatting import (
    mean_spread,
    mean_spread_percent,
    percent,
    range_percent,
)
from ferpipe.experiments.report.page import check_folder, text_table, write_report
from ferpipe.experiments.results import Fold, Results

CLASSES = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
SHARES = (0.14, 0.06, 0.18, 0.08, 0.21, 0.09, 0.24)
SCORING = ("accuracy", "balanced_accuracy", "f1_macro")
GRID = [
    {
        "classify": [SVC()],
        "classify__C": [1, 10, 100],
        "classify__kernel": ["linear", "rbf"],
    },
    {"classify": [KNeighborsClassifier()], "classify__n_neighbors": [3, 5]},
]


def make_results(**changes):
    """A run like a real one: 240 sequences of 40 subjects, 7 classes, 8 candidates."""
    rng = np.random.default_rng(0)
    groups = np.repeat([f"S{i:03d}" for i in range(40)], 6)
    target = rng.choice(CLASSES, 240, p=SHARES)
    centers = dict(zip(CLASSES, rng.normal(0, 1.1, (7, 12)), strict=True))
    habits = np.repeat(rng.normal(0, 0.8, (40, 12)), 6, axis=0)
    X = np.array([centers[name] for name in target]) + habits + rng.normal(0, 1, (240, 12))

    def search(train, inner):
        encoder = LinearDiscriminantAnalysis()
        steps = [("scale", StandardScaler()), ("encode", encoder), ("classify", SVC())]
        model = Pipeline(steps)
        grid = GridSearchCV(model, GRID, scoring=SCORING, refit="accuracy", cv=inner)
        return grid.fit(X[train], target[train], groups=groups[train])

    everything = np.arange(240)
    inner = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    final = search(everything, inner)
    folds = []
    subject_independent = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    plain = StratifiedKFold(5, shuffle=True, random_state=0)
    for split, parts in (
        ("subject_independent", subject_independent.split(X, target, groups)),
        ("stratified", plain.split(X, target)),
    ):
        for number, (train, test) in enumerate(parts):
            fitted = search(train, inner) if split == "subject_independent" else final
            model = fitted.best_estimator_.fit(X[train], target[train])
            scores = {
                name: fitted.scorer_[name](model, X[test], target[test]) for name in SCORING
            }
            encoder = model[:-1]
            folds.append(
                Fold(
                    split=split,
                    number=number,
                    test=test,
                    predicted=model.predict(X[test]),
                    scores=scores,
                    best_params=fitted.best_params_,
                    step_predictions={"encode": encoder.predict(X[test])},
                    n_train=len(train),
                    seconds=7.5 + number,
                )
            )
    results = Results(
        name="lstm_svm",
        data={
            "loader": "expression_sequences",
            "parameters": {"n_sequences": 240, "n_frames": 3, "size": 48},
            "description": "Synthetic faces that move from neutral to an expression.",
            "synthetic": True,
            "kind": "sequences",
            "frame_shape": (48, 48),
            "lengths": (3, 6),
        },
        target=target,
        groups=groups,
        classes=CLASSES,
        primary="subject_independent",
        folds=tuple(folds),
        scoring=SCORING,
        refit="accuracy",
        best_params=final.best_params_,
        cv_results=final.cv_results_,
        model=final.best_estimator_,
        settings={
            "name": "lstm_svm",
            "seed": 0,
            "data": {"expression_sequences": {"n_sequences": 240, "n_frames": 3}},
            "pipeline": {
                "encode": {
                    "SequenceNetwork": {
                        "rnn_type": "lstm",
                        "hidden_size": (128, 64),
                        "training": {"Training": {"max_epochs": 20, "lr": 0.001}},
                    }
                },
                "scale": {"StandardScaler": {"with_mean": True, "with_std": True}},
                "classify": {
                    "try": [{"SVC": {"C": {"try": [1, 10]}}}, "KNeighborsClassifier"]
                },
            },
            "evaluate": {"scoring": list(SCORING), "refit": "accuracy"},
        },
        history={"encode": make_history(rng)},
        fits={
            "candidates": 8,
            "total": 155,
            "steps_computed": 98,
            "steps_reused": 212,
            "rows_computed": 240,
            "rows_reused": 9360,
        },
        seconds=133.4,
        command="python -m ferpipe.grid pipelines/lstm_svm.yaml --n-jobs 2",
        versions={"ferpipe": "0.1.0", "python": "3.12.1", "scikit-learn": "1.9.1"},
    )
    return replace(results, **changes)


def make_history(rng):
    epochs = np.arange(20)
    train = 1.9 * np.exp(-epochs / 6) + 0.08 + rng.normal(0, 0.02, 20)
    valid = 1.6 * np.exp(-epochs / 5) + 0.48 + rng.normal(0, 0.05, 20)
    return [
        {
            "epoch": int(epoch) + 1,
            "train_loss": float(train[epoch]),
            "train_accuracy": float(1 - train[epoch] / 2.2),
            "valid_loss": float(valid[epoch]),
            "valid_accuracy": float(1 - valid[epoch] / 2.6),
        }
        for epoch in epochs
    ]


LEARNING_CURVE = {
    "n_train": [38, 77, 115, 154, 192],
    "train": [[1, 1, 0.99], [0.99, 0.97, 0.98], [0.96, 0.97, 0.97], [0.95] * 3, [0.95] * 3],
    "test": [
        [0.5, 0.6, 0.55],
        [0.6, 0.7, 0.64],
        [0.7, 0.73, 0.75],
        [0.75, 0.8, 0.76],
        [0.79] * 3,
    ],
}


@pytest.fixture(scope="module")
def results():
    return make_results()


@pytest.fixture(scope="module")
def faces(results):
    """The same run, as if its faces were photographs."""
    return replace(results, data={**results.data, "synthetic": False})


@pytest.fixture(scope="module")
def no_subjects(results):
    """The same run without groups: the stratified split alone."""
    folds = tuple(fold for fold in results.folds if fold.split == "stratified")
    return replace(results, groups=None, primary="stratified", folds=folds, history={})


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(results, folder)
    return folder


class Page(HTMLParser):
    """Text, tables, pictures and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.images, self.addresses, self.tags, self.tables = [], [], set(), []
        self.text, self._open = [], []
        self.feed(text)
        self.close()
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        self._open.append(tag)
        self.addresses += [attrs[k] for k in ("src", "srcset", "href") if k in attrs]
        if tag == "img":
            self.images.append(attrs)
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in ("td", "th"):
            self.tables[-1]["rows"][-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            continue

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.text.append(data)
        if "caption" in self._open:
            self.tables[-1]["caption"] += data
        elif "td" in self._open or "th" in self._open:
            self.tables[-1]["rows"][-1][-1] += data

    def table(self, words):
        """Rows of the one table whose caption has these words, first cell to others."""
        (found,) = [
            table for table in self.tables if words in " ".join(table["caption"].split())
        ]
        return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in found["rows"]}


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text())


def page_of(results, folder):
    return Page(write_report(results, folder)["report.html"].read_text())


def test_report_names_the_files_it_wrote(results, tmp_path):
    paths = write_report(results, tmp_path / "new" / "folder")
    assert sorted(paths) == [
        "confusion_matrix.png",
        "cv_results.csv",
        "learning_curves.png",
        "report.html",
        "resolved.yaml",
        "results.json",
    ]
    assert sorted(paths.values()) == sorted((tmp_path / "new" / "folder").iterdir())
    assert all(path.stat().st_size for path in paths.values())


def test_page_loads_nothing(page, folder):
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object"}
    text = (folder / "report.html").read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text


def test_every_figure_and_table_says_what_it_shows(page):
    assert [image["alt"].split(" over ")[0] for image in page.images] == [
        "Line chart of encode: loss",
        "Line chart of encode: loss",
        "Line chart of encode: accuracy",
        "Line chart of encode: accuracy",
    ]
    assert all(table["caption"].strip() for table in page.tables)


def test_figures_have_the_color_of_the_page_they_stand_on(page):
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    pages = {"light": LIGHT.page, "dark": DARK.page}
    for image in page.images:
        picture = imread(BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert picture[0, 0, :3] == pytest.approx(to_rgb(pages[image["class"]]))
    assert [image["class"] for image in page.images] == ["light", "dark"] * 2


def test_numbers_of_the_page_are_those_of_the_summary(page, results):
    summary = summarize(results)
    head = summary["splits"]["subject_independent"]
    accuracy = head["accuracy"]
    assert f"{percent(accuracy['mean'])} ± " in page.words
    assert f"± {100 * accuracy['spread']:.1f} over 5 folds" in page.words
    assert f"95 % interval {range_percent(accuracy['interval'])}" in page.words
    scores = page.table("Mean ± standard deviation over folds")
    assert scores["score"] == ["subject-independent", "stratified"]
    for scorer in SCORING:
        assert scores[scorer] == [
            mean_spread(summary["splits"][split]["scores"][scorer])
            for split in ("subject_independent", "stratified")
        ]
    alone = head["steps"]["encode"]["accuracy"]
    assert scores["accuracy of encode alone"][0] == mean_spread(alone)
    classes = page.table("Every class")
    for name in CLASSES:
        of_class = head["per_class"][name]
        assert classes[name] == [
            *(f"{of_class[key]:.3f}" for key in ("precision", "recall", "f1")),
            str(of_class["support"]),
        ]


def test_confusion_table_has_counts_and_shares(page, results):
    confusion = summarize(results)["splits"]["subject_independent"]["confusion"]
    table = page.table("Confusion matrix")
    for name, row in zip(CLASSES, confusion, strict=True):
        cells = [f"{100 * n / sum(row):.0f} %{n}" if n else "" for n in row]
        assert table[name] == cells


def test_fold_tables_show_scores_and_choices(page, results):
    subject_independent = page.table(
        "Subject-independent, synthetic data: numbers of training"
    )
    plain = page.table("Stratified, synthetic data: numbers of training and test sequences")
    assert len(subject_independent) == len(plain) == 6
    for fold in results.folds:
        row = (subject_independent if fold.split == "subject_independent" else plain)[
            str(fold.number + 1)
        ]
        subjects = len(set(results.groups[fold.test]))
        assert row[:3] == [str(fold.n_train), str(len(fold.test)), str(subjects)]
        assert row[3:6] == [f"{fold.scores[name]:.3f}" for name in SCORING]
    assert "every fold classify = SVC(C=1, kernel='rbf')" in page.words


def test_folds_that_chose_alike_are_named_together(results, tmp_path):
    folds = [
        replace(fold, best_params={"classify__C": 10 if fold.number == 1 else 0.1})
        for fold in results.folds
        if fold.split == "subject_independent"
    ]
    words = page_of(replace(results, folds=folds, history={}), tmp_path).words
    assert "folds 1, 3, 4, 5 classify__C = 0.1 fold 2 classify__C = 10" in words


def test_search_table_is_sorted_and_readable(page, results):
    rows = page.table("The best 8 of 8 candidates by accuracy")
    ranks = [int(rank) for rank in rows if rank != "rank"]
    assert ranks == sorted(set(results.cv_results["rank_test_accuracy"]))
    best = results.cv_results["rank_test_accuracy"].argmin()
    assert rows["1"][0].startswith(
        f"{results.cv_results['mean_test_accuracy'][best]:.3f} ± "
    )


def test_page_says_what_was_measured_and_its_limits(page):
    assert "240 synthetic sequences of 40 subjects" in page.words
    assert "a model that was trained on other subjects" in page.words
    assert "An expression is not a feeling" in page.words
    assert "worth 0.42 points" in page.words
    assert "python -m ferpipe.grid pipelines/lstm_svm.yaml --n-jobs 2" in page.words
    assert "98 steps fitted, 212 read from the store" in page.words
    assert "240 samples transformed, 9360 read from the store" in page.words
    assert "2 min 13 s" in page.words


def test_synthetic_scores_are_labelled_wherever_they_stand(results, folder, page):
    text = (folder / "report.html").read_text()
    assert "(synthetic data)" in text[text.index("<title>") : text.index("</title>")]
    for table in page.tables:
        if "of each class" not in table["caption"]:
            assert "synthetic data" in table["caption"], table["caption"]
    assert all(image["alt"].endswith("Synthetic data.") for image in page.images)
    assert "(synthetic data)" in text_table(results).splitlines()[0]
    assert json.loads((folder / "results.json").read_text())["label"] == "synthetic data"
    with open(folder / "cv_results.csv") as file:
        assert {row["synthetic"] for row in csv.DictReader(file)} == {"True"}


def test_real_scores_are_not_called_synthetic(faces, tmp_path):
    paths = write_report(faces, tmp_path)
    assert "synthetic" not in paths["report.html"].read_text()
    assert "synthetic" not in text_table(faces)
    assert json.loads(paths["results.json"].read_text())["synthetic"] is False


def test_without_subjects_the_headline_warns(no_subjects, tmp_path):
    page = page_of(no_subjects, tmp_path)
    assert "Stratified accuracy" in page.words
    assert "Subjects are unknown: a subject may be on both sides" in page.words
    assert "The gap" not in page.words
    text = text_table(no_subjects)
    assert "stratified accuracy:" in text
    assert "subjects are unknown and may be on both sides" in text
    assert "subject-independent" not in text


def test_text_table(results):
    summary = summarize(results)
    text = text_table(results)
    lines = text.splitlines()
    accuracy = summary["splits"]["subject_independent"]["accuracy"]
    assert lines[2] == (
        f"subject-independent accuracy: {mean_spread_percent(accuracy)}, "
        f"95 % interval {range_percent(accuracy['interval'])}"
    )
    for scorer in SCORING:
        (line,) = [line for line in lines[5:] if line.startswith(f"{scorer}  ")]
        for split in summary["splits"].values():
            assert mean_spread(split["scores"][scorer]) in line
    assert any(line.startswith("accuracy of encode alone") for line in lines)
    assert f"{100 * summary['gap']['accuracy']:+.1f} points of pooled accuracy" in text
    assert "parameters  classify = SVC(C=" in text
    assert "8 candidates, 155 fits; 98 steps fitted, 212 read from the store" in text
    assert "240 samples transformed, 9360 read from the store" in text
    assert lines[-1] == "time        2 min 13 s"
    assert max(map(len, lines)) < 160


def test_json_is_strict_and_whole(results, tmp_path):
    broken = replace(
        results.folds[0], scores={**results.folds[0].scores, "accuracy": np.nan}
    )
    results = replace(results, folds=(broken, *results.folds[1:]))
    text = write_report(results, tmp_path)["results.json"].read_text()

    kept = {"classify__C": 1, "classify__kernel": "rbf"}

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(text, parse_constant=refuse)
    assert read["splits"] == summarize(results)["splits"]
    assert read["folds"][0]["scores"]["accuracy"] is None
    assert read["folds"][1]["predicted"] == results.folds[1].predicted.tolist()
    assert read["best_params"] == {"classify": "SVC()", **kept}
    assert read["target"] == results.target.tolist()
    assert read["fits"] == results.fits
    assert read["history"]["encode"][3] == results.history["encode"][3]
    assert {"settings", "versions", "command", "seconds", "best_params"} <= set(read)


def test_cv_table_is_sorted_with_parameters_as_columns(results, folder):
    with open(folder / "cv_results.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    ranks = [int(row["rank_test_accuracy"]) for row in rows]
    assert ranks == sorted(results.cv_results["rank_test_accuracy"])
    assert "params" not in rows[0]
    neighbours = [row for row in rows if row["param_classify"] == "KNeighborsClassifier()"]
    assert sorted(row["param_classify__n_neighbors"] for row in neighbours) == ["3", "5"]
    assert {row["param_classify__C"] for row in neighbours} == {""}
    kernels = {row["param_classify__kernel"] for row in rows}
    assert kernels == {"linear", "rbf", ""}


def test_search_by_one_scorer(results, tmp_path):
    found = GridSearchCV(PCA(), {"n_components": [1, 2, 3]}, cv=2)
    found.fit(np.random.default_rng(0).normal(size=(20, 4)))
    paths = write_report(
        replace(results, history={}, cv_results=found.cv_results_), tmp_path
    )
    with open(paths["cv_results.csv"]) as file:
        assert [int(row["rank_test_score"]) for row in csv.DictReader(file)] == [1, 2, 3]


def test_resolved_settings_can_be_read_again(results, folder):
    text = (folder / "resolved.yaml").read_text()
    assert text.startswith("# Repeat: python -m ferpipe.grid pipelines/lstm_svm.yaml")
    assert "# scikit-learn 1.9.1\n" in text
    expected = json.loads(json.dumps(results.settings))  # tuples are lists in YAML
    assert yaml.safe_load(text) == expected
    assert "&id" not in text


def test_comment_of_the_resolved_file_stays_a_comment(results, tmp_path):
    results = replace(
        results, history={}, command="python -m ferpipe.grid a.yaml --set 'name=x\nseed: 3'"
    )
    text = write_report(results, tmp_path)["resolved.yaml"].read_text()
    assert yaml.safe_load(text)["seed"] == 0


def test_learning_curve_over_samples_without_networks(results, tmp_path):
    page = page_of(replace(results, history={}, learning_curve=LEARNING_CURVE), tmp_path)
    image, _ = page.images
    assert image["alt"].startswith(
        "Line chart of accuracy over training samples: train goes"
    )
    assert "test goes from 0.550 at 38 to 0.790 at 192" in image["alt"]
    assert (tmp_path / "learning_curves.png").exists()


def test_without_curves_the_report_says_why(results, tmp_path):
    write_report(results, tmp_path)
    assert (tmp_path / "learning_curves.png").exists()
    results = replace(results, history={}, learning_curve=None)
    paths = write_report(results, tmp_path)
    assert "learning_curves.png" not in paths
    assert not (tmp_path / "learning_curves.png").exists()
    page = Page(paths["report.html"].read_text())
    assert not page.images
    assert "There is no figure: no step of this pipeline trains in epochs" in page.words


def test_without_a_search_there_is_no_search_table(results, tmp_path):
    folds = [replace(fold, best_params={}) for fold in results.folds]
    results = replace(results, cv_results={}, best_params={}, folds=folds, history={})
    paths = write_report(results, tmp_path)
    assert "cv_results.csv" not in paths
    words = Page(paths["report.html"].read_text()).words
    assert "There was no search: the experiment has one candidate." in words
    assert "parameters" not in text_table(results)


def test_text_of_the_data_set_cannot_become_markup(results, tmp_path):
    data = {**results.data, "description": "<script>alert(1)</script> & more"}
    page = page_of(replace(results, data=data, history={}), tmp_path)
    assert "script" not in page.tags
    assert "<script>alert(1)</script> & more" in page.words


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["draw_confusion", "_json"])
def test_failure_while_making_files_leaves_the_old_report(
    results, folder, tmp_path, monkeypatch, error, place
):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_):
        raise error

    monkeypatch.setattr(report, place, fail)
    with pytest.raises(type(error)):
        write_report(replace(results, name="other"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_while_moving_files_leaves_each_whole(
    results, folder, tmp_path, monkeypatch, error
):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    moved, move = [], os.replace

    def fail_at_the_third(source, destination):
        if len(moved) == 2:
            raise error
        moved.append(destination)
        move(source, destination)

    monkeypatch.setattr(report.os, "replace", fail_at_the_third)
    with pytest.raises(type(error)):
        write_report(replace(results, name="other"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in folder.iterdir()
    ), "a temporary folder or file was left"
    for path in tmp_path.iterdir():
        if path not in moved:
            assert path.read_bytes() == (folder / path.name).read_bytes()
    assert [path.name for path in moved] == ["results.json", "report.html"]
    assert json.loads(moved[0].read_text())["name"] == "other"
    assert "other (synthetic data)" in moved[1].read_text()
    assert moved[1].read_text().endswith("</html>")


def test_files_that_are_no_reports_are_neither_replaced_nor_removed(results, tmp_path):
    victims = ["model.joblib", "cv_results.csv", "report.html", "results.json"]
    for name in victims:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"of somebody else")
        with pytest.raises(FileExistsError, match=f"holds {name} and no report"):
            write_report(replace(results, cv_results={}), folder)
        assert (folder / name).read_bytes() == b"of somebody else"
        assert list(folder.iterdir()) == [folder / name]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="expected a folder"):
        write_report(results, link)


def test_a_folder_that_the_file_names_holds_a_report_or_nothing_else(results, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{'a' * 32}.pt").touch()
    check_folder(tmp_path, named=False)
    (tmp_path / "notes.txt").touch()
    check_folder(tmp_path, named=True)
    with pytest.raises(FileExistsError, match=r"holds notes\.txt .* --out"):
        check_folder(tmp_path, named=False)
    write_report(results, tmp_path)
    check_folder(tmp_path, named=False)


def test_names_with_control_characters_and_halves_of_characters(results, tmp_path):
    old = results.classes[0]
    hostile = "a\x1b[2J\u202e$\\frac{\udcff"

    def renamed(values):
        return np.array([hostile if value == old else value for value in values], object)

    folds = tuple(replace(f, predicted=renamed(f.predicted)) for f in results.folds)
    changed = replace(
        results,
        classes=(hostile, *results.classes[1:]),
        target=renamed(results.target),
        folds=folds,
    )
    paths = write_report(changed, tmp_path)
    page = paths["report.html"].read_text()
    assert r"a\x1b[2J\u202e$\frac{\udcff" in page
    assert not set("\x1b\u202e") & set(page)
    assert json.loads(paths["results.json"].read_text())["classes"][0] == hostile


def test_importing_the_report_loads_no_plotting_library():
    code = "import sys, ferpipe.experiments.report.page; print('matplotlib' in sys.modules)"
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False"]
