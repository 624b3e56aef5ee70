import os

import numpy as np
import pytest
import yaml
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, StratifiedKFold
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import SVC

from ferpipe._compat import InvalidParameterError
from ferpipe.experiments.spec import SpecError, compile_spec, override, read_mapping
from ferpipe.networks.pretrained import pretrained

TEXT = """
name: example
seed: 7
data: {ck48: {path: somewhere}}
pipeline:
  scale: {try: [StandardScaler, passthrough]}
  both:
    union:
      few: {PCA: {n_components: {try: [2, 3]}}}
      chosen: {pipeline: {range: MinMaxScaler, best: {SelectKBest: {k: 2}}}}
  classify:
    try:
      - SVC: {C: {try: [1, 10]}, kernel: {try: [linear, rbf]}}
      - KNeighborsClassifier: {n_neighbors: {try: [1, 3, 5]}}
      - LogisticRegression
"""


@pytest.fixture
def mapping():
    return yaml.safe_load(TEXT)


def with_pipeline(steps):
    return {"data": {"ck48": {}}, "pipeline": steps}


def with_evaluate(evaluate):
    return with_pipeline({"classify": "SVC"}) | {"evaluate": evaluate}


def test_file_is_the_search_space(mapping):
    spec = compile_spec(mapping)
    assert isinstance(spec.pipeline, Pipeline)
    assert isinstance(spec.pipeline["both"], FeatureUnion)
    candidates = list(ParameterGrid(spec.grid))
    # 2 scalers x 2 sizes x (2 x 2 SVCs + 3 KNNs + 1)
    assert len(candidates) == 2 * 2 * (4 + 3 + 1)
    svc = [c for c in candidates if isinstance(c["classify"], SVC)]
    assert {(c["classify__C"], c["classify__kernel"]) for c in svc} == {
        (1, "linear"),
        (1, "rbf"),
        (10, "linear"),
        (10, "rbf"),
    }
    assert all("classify__n_neighbors" not in c for c in svc)


def test_every_candidate_can_be_set(mapping):
    spec = compile_spec(mapping)
    for candidate in ParameterGrid(spec.grid):
        spec.pipeline.set_params(**candidate)
        for name, value in candidate.items():
            if not hasattr(value, "fit"):
                assert spec.pipeline.get_params()[name] == value


def test_seed_fills_what_is_left_unset():
    spec = compile_spec(
        {
            "seed": 7,
            "data": {"ck48": {}},
            "pipeline": {
                "few": "PCA",
                "classify": {"SVC": {"random_state": 3}},
            },
            "evaluate": {
                "outer_cv": {"StratifiedKFold": {"shuffle": True}},
                "inner_cv": {"StratifiedKFold": {"n_splits": 4}},
            },
        }
    )
    assert spec.pipeline["few"].random_state == 7
    assert spec.pipeline["classify"].random_state == 3
    assert spec.outer_cv.random_state == 7
    assert repr(spec.inner_cv) == repr(StratifiedKFold(4))


def test_resolved_file_is_the_same_experiment(mapping, tmp_path):
    first = compile_spec(mapping)
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(first.resolved, sort_keys=False))
    second = compile_spec(read_mapping(path))
    assert repr(second.pipeline) == repr(first.pipeline)
    assert repr(second.grid) == repr(first.grid)
    assert repr(second.outer_cv) == repr(first.outer_cv)
    assert second.resolved == yaml.safe_load(yaml.safe_dump(first.resolved))


def test_estimators_stand_in_parameters_and_in_named_lists():
    spec = compile_spec(
        with_pipeline(
            {
                "vote": {
                    "VotingClassifier": {
                        "estimators": {
                            "a": {"SVC": {"C": {"try": [1, 2]}}},
                            "b": {"CalibratedClassifierCV": {"estimator": "LinearSVC"}},
                        }
                    }
                }
            }
        )
    )
    assert spec.grid == [{"vote__a__C": [1, 2]}]
    spec.pipeline.set_params(vote__a__C=2)
    assert dict(spec.pipeline["vote"].estimators)["a"].C == 2


def test_lists_become_tuples_where_the_default_is_one():
    spec = compile_spec(
        with_pipeline(
            {
                "range": {"MinMaxScaler": {"feature_range": [0, 2]}},
                "classify": {
                    "MLPClassifier": {"hidden_layer_sizes": {"try": [[3], [4, 5]]}}
                },
            }
        )
    )
    assert spec.pipeline["range"].feature_range == (0, 2)
    assert spec.grid == [{"classify__hidden_layer_sizes": [(3,), (4, 5)]}]


def test_a_map_of_values_stays_a_map():
    spec = compile_spec(
        with_pipeline({"classify": {"SVC": {"class_weight": {"anger": 2, "fear": 1}}}})
    )
    assert spec.pipeline["classify"].class_weight == {"anger": 2, "fear": 1}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"piepline": {}}, r"top of the file: 'piepline' .* Did you mean pipeline\?"),
        ({"data": {"ck48": {}}}, r"pipeline: this key is missing"),
        (with_pipeline(["SVC"]), r"pipeline: expected an ordered map"),
        (with_pipeline({"c": "SCV"}), r"pipeline\.c: 'SCV' .* Did you mean SVC"),
        (
            with_pipeline({"a": "pasthrough", "c": "SVC"}),
            r"pipeline\.a: 'pasthrough' .* Did you mean passthrough\?",
        ),
        (
            with_pipeline({"a": {"union": {"x": "dorp", "y": "PCA"}}, "c": "SVC"}),
            r"pipeline\.a\.union\.x: 'dorp' .* Did you mean drop\?",
        ),
        (with_pipeline({"c": "os.system"}), r"pipeline\.c: 'os\.system' .* dotted paths"),
        (with_pipeline({"c": {"os.system": "ls"}}), r"pipeline\.c: 'os\.system'"),
        (
            with_pipeline({"c": {"SVC": {"kernal": "rbf"}}}),
            r"pipeline\.c\.SVC: 'kernal' is not a known parameter. Did you mean kernel\?",
        ),
        (
            with_pipeline({"c": {"SVC": {"kernel": "lineer"}}}),
            r"pipeline\.c\.SVC\.kernel: .* Got 'lineer' instead",
        ),
        (
            with_pipeline({"c": {"SVC": {"C": 2, "kernel": "lineer"}}}),
            r"pipeline\.c\.SVC\.kernel: .* Got 'lineer' instead",
        ),
        (
            with_pipeline({"c": {"SVC": {"C": {"try": []}}}}),
            r"pipeline\.c\.SVC\.C\.try: expected a list of at least one alternative",
        ),
        (
            with_pipeline({"c": {"SVC": {"C": {"try": [1, -1]}}}}),
            r"pipeline\.c\.SVC\.C: .* Got -1 instead",
        ),
        (
            with_pipeline({"c": {"MLPClassifier": {"hidden_layer_sizes": [{"try": [1]}]}}}),
            r"hidden_layer_sizes\[0\]: try cannot be inside a list",
        ),
        (
            with_pipeline({"c": {"CalibratedClassifierCV": {"estimator": {"SVCC": {}}}}}),
            r"CalibratedClassifierCV\.estimator: 'SVCC' .* Did you mean SVC",
        ),
        (
            with_pipeline({"c": {"SVC": None, "C": 1}}),
            r"pipeline\.c: expected an estimator, Name or",
        ),
        (
            with_pipeline({"c": {"SVC": {"C": {"try": [1], "or": 2}}}}),
            r"pipeline\.c\.SVC\.C: try must be the only key",
        ),
        (with_pipeline({"a": "SVC", "c": "SVC"}), r"pipeline\.a: SVC has no transform"),
        (with_pipeline({"s": "StandardScaler"}), r"pipeline\.s: .* must be a classifier"),
        (with_pipeline({"t": "Training", "c": "SVC"}), r"pipeline\.t: .* parameter object"),
        (with_pipeline({"a__b": "SVC"}), r"'a__b' cannot be the name of a step"),
        (
            with_evaluate({"outer_cv": {"StratifiedKFold": {"n_split": 3}}}),
            r"evaluate\.outer_cv\.StratifiedKFold: 'n_split' .* Did you mean n_splits\?",
        ),
        (
            with_evaluate({"outer_cv": {"StratifiedKFold": {"n_splits": 1}}}),
            r"evaluate\.outer_cv\.StratifiedKFold: .*n_splits=2 or more",
        ),
        (
            with_evaluate({"outer_cv": "KFolds"}),
            r"evaluate\.outer_cv: .* Did you mean KFold",
        ),
        (with_evaluate({"scoring": ["acuracy"]}), r"evaluate\.scoring: .* accuracy"),
        (with_evaluate({"refit": "f1"}), r"evaluate\.refit: 'f1'"),
        (with_pipeline({"c": "SVC"}) | {"seed": "x"}, r"seed: expected a whole number"),
        (with_pipeline({"c": "SVC"}) | {"name": "a/b"}, r"name: expected letters"),
        (with_pipeline({"c": "SVC"}) | {"search": "halfing"}, r"search: .* mean halving\?"),
        (
            with_pipeline({"c": "SVC"}) | {"search": {"halving": {"facter": 3}}},
            r"search\.halving: 'facter' .* Did you mean factor\?",
        ),
        (
            with_pipeline({"c": "SVC"}) | {"search": {"random": {"n_iter": 0}}},
            r"search\.random\.n_iter: expected a whole number from 1 to",
        ),
        (with_evaluate({"seeds": 5}), r"evaluate\.seeds: expected a list of seeds"),
        (with_evaluate({"seeds": [0, -1]}), r"evaluate\.seeds\[1\]: expected a whole"),
        (with_evaluate({"seeds": [0, 1, 0]}), r"evaluate\.seeds: each seed once"),
        (
            with_evaluate({"seeds": [1, 2]}) | {"seed": 3},
            r"evaluate\.seeds: the first is 1, but seed is 3",
        ),
    ],
)
def test_mistakes_name_their_place_and_the_right_word(mapping, message):
    with pytest.raises(SpecError, match=message):
        compile_spec(mapping)


def training(**settings):
    return with_pipeline({"c": {"ImageNetwork": {"training": {"Training": settings}}}})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (with_evaluate({"folds": {}}), "evaluate: 'folds' .* called outer_cv now"),
        (with_evaluate({"inner": {}}), "'inner' .* called inner_cv now"),
        (with_evaluate({"choose_by": "accuracy"}), "'choose_by' .* called refit now"),
        *(
            (
                with_pipeline({"c": {"SequenceNetwork": {old: None}}}),
                f"'{old}' .* {new} now",
            )
            for old, new in (
                ("frames", "backbone"),
                ("cell", "rnn_type"),
                ("hidden", "hidden_size"),
                ("readout", "pooling"),
            )
        ),
        (with_pipeline({"c": {"ImageNetwork": {"views": "flip"}}}), "'views' .* tta now"),
        (with_pipeline({"c": "AdaptiveHistogramEqualizer"}), "called CLAHE now"),
        (training(average_from=0.5), "averaging: {WeightAveraging: {start: ...}} now"),
        (training(average_with="a"), "averaging: {WeightAveraging: {blend_with: ...}} now"),
        (training(teacher="a"), "distillation: {Distillation: {teacher: ...}} now"),
        (training(teacher_share=0.5), "distillation: {Distillation: {weight: ...}} now"),
        (training(teacher_folds=3), "distillation: {Distillation: {folds: ...}} now"),
        (training(patience=3), "early_stopping: {EarlyStopping: {patience: ...}} now"),
        (training(best_epoch=True), "{EarlyStopping: {restore_best_weights: ...}} now"),
        # a name of before that belongs elsewhere
        (with_pipeline({"c": {"SVC": {"frames": 1}}}), "Known: .*kernel"),
    ],
)
def test_keys_of_before_name_those_of_now(mapping, message):
    with pytest.raises(SpecError, match=message):
        compile_spec(mapping)


def test_a_part_of_a_union_may_be_left_out():
    pca = {"PCA": {"n_components": {"try": [2, 3]}}}
    parts = {"few": {"try": [pca, "drop"]}, "all": "StandardScaler", "never": "drop"}
    spec = compile_spec(with_pipeline({"both": {"union": parts}, "classify": "SVC"}))
    X = np.random.default_rng(0).random((9, 5))
    widths = [
        clone(spec.pipeline)[:-1].set_params(**parameters).fit_transform(X).shape[1]
        for parameters in ParameterGrid(spec.grid)
    ]
    assert sorted(widths) == [5, 7, 8]
    again = spec.resolved["pipeline"]["both"]["union"]
    assert again["few"]["try"][1] == again["never"] == "drop"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"scale": "drop"}, r"pipeline\.scale: drop leaves out a part of a union; passth"),
        (
            {"all": {"union": {"a": "drop"}}},
            r"pipeline\.all\.union: every part may be drop",
        ),
        (
            {"all": {"union": {"a": {"try": ["PCA", "drop"]}, "b": "drop"}}},
            r"pipeline\.all\.union: every part may be drop",
        ),
    ],
)
def test_what_may_not_be_left_out(steps, message):
    with pytest.raises(SpecError, match=message):
        compile_spec(with_pipeline(steps | {"classify": "SVC"}))


def test_override_replaces_values_and_leaves_the_original(mapping):
    changed = override(
        mapping,
        [
            "data.ck48.classes=5",
            "pipeline.both.union.few.PCA.n_components={try: [4, 5, 6]}",
            "evaluate.refit=accuracy",
        ],
    )
    assert changed["data"]["ck48"] == {"path": "somewhere", "classes": 5}
    assert changed["evaluate"] == {"refit": "accuracy"}
    assert {4, 5, 6} == {c["both__few__n_components"] for c in candidates(changed)}
    assert "classes" not in mapping["data"]["ck48"]


def test_override_reaches_into_a_bare_name():
    changed = override(
        with_pipeline({"scale": "StandardScaler", "c": "SVC"}),
        ["pipeline.scale.StandardScaler.with_mean=false"],
    )
    assert compile_spec(changed).pipeline["scale"].with_mean is False


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", r"expected a\.b\.c=value"),
        ("pipeline.clasify.SVC.C=3", r"'clasify' .* Did you mean classify"),
        ("name.first=3", r"name is 'example'; nothing can be set in it"),
        ("seed=[1", r"not valid YAML"),
    ],
)
def test_override_refuses_paths_that_lead_nowhere(mapping, assignment, message):
    with pytest.raises(SpecError, match=message):
        override(mapping, [assignment])


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-3\nb: 2E5\nc: 1.5\nd: 3\ne: 1e\n")
    values = read_mapping(path)
    assert values == {"a": 0.001, "b": 200000.0, "c": 1.5, "d": 3, "e": "1e"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", r"line 2: .*'a' is repeated"),
        ("a: &x [1]\nb: *x\n", r"line 2: .*aliases"),
        ("a: [1\nb: 2\n", r"not valid YAML"),
        ("- a\n", r"an experiment file is a mapping"),
        ("a: !!python/object/apply:os.system [ls]\n", r"not valid YAML"),
    ],
)
def test_read_mapping_refuses(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_mapping(path)


def test_read_mapping_names_a_missing_or_binary_file(tmp_path):
    with pytest.raises(SpecError, match=r"nothing\.yaml: cannot read .* No such file"):
        read_mapping(tmp_path / "nothing.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="not a text file"):
        read_mapping(path)


def candidates(mapping):
    return list(ParameterGrid(compile_spec(mapping).grid))


SEEDED = {
    "name": "seeded",
    "data": {"expression_sequences": {}},
    "pipeline": {
        "pool": "PoolFrames",
        "reduce": {"PCA": {"n_components": 2}},
        "classify": {"SVC": {"random_state": 7}},
    },
    "evaluate": {
        "outer_cv": {"StratifiedKFold": {"n_splits": 3, "shuffle": True}},
        "seeds": [4, 5],
    },
}


def test_seeds_compile_to_one_experiment_each():
    spec = compile_spec(SEEDED)
    (other,) = spec.repeats
    for compiled, seed in ((spec, 4), (other, 5)):
        assert compiled.seed == seed
        assert compiled.outer_cv.random_state == compiled.inner_cv.random_state == seed
        assert compiled.pipeline["reduce"].random_state == seed
        # what the file sets stays
        assert compiled.pipeline["classify"].random_state == 7
    assert other.repeats == ()


def test_seeds_survive_resolving():
    resolved = compile_spec(SEEDED).resolved
    assert resolved["evaluate"]["seeds"] == [4, 5]
    again = compile_spec(resolved)
    assert again.resolved == resolved
    assert [one.pipeline["reduce"].random_state for one in (again, *again.repeats)] == [
        4,
        5,
    ]


@pytest.mark.parametrize(
    ("search", "compiled"),
    [
        ("grid", ("grid", {})),
        ("random", ("random", {"n_iter": 10})),
        ({"random": {"n_iter": 4}}, ("random", {"n_iter": 4})),
        ({"halving": {"factor": 2}}, ("halving", {"factor": 2})),
    ],
)
def test_searches(search, compiled):
    spec = compile_spec(with_pipeline({"c": "SVC"}) | {"search": search})
    assert spec.search == compiled
    assert compile_spec(spec.resolved).search == compiled


# Networks that ship


def frozen(network):
    return {"FrozenEstimator": {"estimator": network}}


def test_a_network_that_ships_stands_frozen():
    steps = {"describe": frozen({"pretrained": {"name": "fer2013"}}), "classify": "SVC"}
    spec = compile_spec(with_pipeline(steps))
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    codes = clone(spec.pipeline[0]).fit(faces, None).transform(faces)
    np.testing.assert_array_equal(codes, pretrained("fer2013").transform(faces))
    again = compile_spec(spec.resolved)
    assert again.resolved == spec.resolved
    np.testing.assert_array_equal(again.pipeline[0].transform(faces), codes)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"pretrained": {"name": "fer2031"}}, r"pretrained\.name: There is no network"),
        ({"pretrained": {}}, r"pretrained: expected {name: \.\.\.}, got {}"),
        ({"pretrained": {"name": ["fer2013"]}}, r"pretrained: expected {name: \.\.\.}"),
        ({"pretrained": {"name": "fer2013", "tta": "one"}}, "only parameter is name"),
    ],
)
def test_a_network_that_does_not_ship_is_refused(network, message):
    with pytest.raises(SpecError, match=message):
        compile_spec(with_pipeline({"describe": frozen(network), "classify": "SVC"}))


def test_a_network_that_ships_is_no_step_by_itself():
    # the first clone would forget what it has learned
    with pytest.raises(SpecError, match=r"pipeline\.describe: .*'pretrained'"):
        compile_spec(
            with_pipeline({"describe": {"pretrained": {"name": "fer2013"}}, "c": "SVC"})
        )


# what a file from a stranger must not do


def writing_to(folder):
    training = {"Training": {"checkpoint": folder}}
    return with_pipeline({"classify": {"ImageNetwork": {"training": training}}})


def reporting_to(folder):
    return with_pipeline({"classify": "SVC"}) | {"report": {"to": folder}}


@pytest.mark.parametrize("make", [writing_to, reporting_to])
@pytest.mark.parametrize(
    "folder", ["..", "../victim", "a/../../victim", "/", "~", "link", "link/inside", "a\0b"]
)
def test_folders_outside_the_working_directory_are_refused(
    make, folder, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    (tmp_path / "victim").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(SpecError, match=r"outside .*--out FOLDER|is not a folder"):
        compile_spec(make(folder))
    for inside in ("reports/example", "a/../b", str(tmp_path / "here" / "c")):
        compile_spec(make(inside))


@pytest.mark.parametrize("make", [writing_to, reporting_to])
def test_the_command_line_allows_another_folder(make, tmp_path):
    spec = make(str(tmp_path / "out" / "checkpoints"))
    compile_spec(spec, out=tmp_path / "out")
    with pytest.raises(SpecError, match=r"outside of the working directory.*--out"):
        compile_spec(spec, out=tmp_path / "other")


def test_every_folder_that_is_tried_is_checked():
    with pytest.raises(SpecError, match=r"Training\.checkpoint: '/b' is outside"):
        compile_spec(writing_to({"try": ["a", "/b"]}))


@pytest.mark.parametrize("name", ["..", ".", "-rf", ".hidden", "a/b", "a" * 101, "a\n"])
def test_names_that_are_no_names_of_folders_are_refused(name, mapping):
    with pytest.raises(SpecError, match=r"^name: "):
        compile_spec(mapping | {"name": name})


def test_pipelines_within_pipelines_are_bounded():
    def nested(kind, depth):
        steps = {"scale": "StandardScaler"}
        for _ in range(depth):
            steps = {"inner_cv": {kind: steps}}
        return with_pipeline({**steps, "classify": "SVC"})

    for kind in ("pipeline", "union"):
        compile_spec(nested(kind, 6))
        with pytest.raises(SpecError, match="more than 6 deep"):
            compile_spec(nested(kind, 8))
        # each level took three times as long as the one within it
        with pytest.raises(SpecError, match="more than 24 deep"):
            compile_spec(nested(kind, 20))


def test_a_nested_pipeline_is_asked_once_whether_it_transforms(monkeypatch):
    asked = []
    monkeypatch.setattr(
        Pipeline, "transform", property(lambda self: asked.append(self)), raising=True
    )
    steps = {"scale": "StandardScaler"}
    for _ in range(6):
        steps = {"inner_cv": {"pipeline": steps}}
    compile_spec(with_pipeline({**steps, "classify": "SVC"}))
    assert len(asked) <= 2 * 6


def test_a_pipeline_that_classifies_stands_last_only():
    inner = {"pipeline": {"scale": "StandardScaler", "classify": "SVC"}}
    compile_spec(with_pipeline({"all": inner}))
    for step in (inner, {"try": ["PCA", inner]}):
        with pytest.raises(SpecError, match=r"pipeline\.all: Pipeline has no transform"):
            compile_spec(with_pipeline({"all": step, "classify": "SVC"}))


def test_what_is_too_deep_or_too_much_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    wide = {"SVC": {"C": {"try": list(range(30_000))}}}
    itself = {}
    itself["again"] = itself
    for value, message in (
        (deep, "more than 24 deep"),
        (itself, "more than 24 deep"),
        (wide, "more than 20,000 names and values"),
        ({"SVC": {"C": 10**400}}, "a number in the experiment is too large"),
    ):
        for take in (compile_spec, lambda mapping: override(mapping, ["seed=1"])):
            with pytest.raises(SpecError, match=message):
                take(with_pipeline({"classify": value}))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            with_evaluate({"outer_cv": {"KFold": {"n_splits": 10**9}}}),
            r"evaluate\.outer_cv\.KFold\.n_splits: at most 1,000",
        ),
        (
            with_evaluate({"inner_cv": {"RepeatedStratifiedKFold": {"n_repeats": 10**9}}}),
            r"evaluate\.inner_cv\.RepeatedStratifiedKFold\.n_repeats: at most",
        ),
        (
            with_evaluate({"outer_cv": {"LeavePGroupsOut": {"n_groups": 50}}}),
            r"n_groups: at most 3",
        ),
        (with_evaluate({"seeds": list(range(101))}), r"evaluate\.seeds: at most 100"),
        (
            with_evaluate({}) | {"search": {"random": {"n_iter": 10**12}}},
            r"search\.random\.n_iter: expected a whole number from 1 to 100,000",
        ),
        (
            with_evaluate({}) | {"search": {"halving": {"factor": 10**12}}},
            r"search\.halving\.factor: expected a whole number from 2 to 1,000",
        ),
        (
            with_pipeline(
                {
                    "classify": {
                        "SVC": {
                            name: {"try": list(range(1, 51))}
                            for name in ("C", "degree", "coef0", "max_iter")
                        }
                    }
                }
            ),
            r"search\.grid: the pipeline has 6,250,000 candidates, more than 100,000",
        ),
        *(
            (with_evaluate({}) | {"data": {"expression_sequences": data}}, message)
            for data, message in (
                ({"n_sequences": 10**9}, r"n_sequences: at most 5,000, got 1000000000"),
                ({"n_frames": 10**9}, r"n_frames: at most 200"),
                ({"size": [48, 10**9]}, r"size: at most 2,048"),
                ({"n_sequences": float("inf")}, r"n_sequences: at most"),
                ({"n_sequences": 5000, "n_frames": 200}, r"pixels, more than 268,435,456"),
            )
        ),
        (
            with_evaluate({})
            | {"data": {"joined": {"sets": {"a": {"n_sequences": 10**9}, "b": {}}}}},
            r"data\.joined\.sets\.a\.n_sequences: at most",
        ),
        (with_pipeline({"a\x1b[31m": "PCA", "classify": "SVC"}), "control characters"),
    ],
)
def test_counts_without_bound_are_refused(mapping, message):
    with pytest.raises(SpecError, match=message):
        compile_spec(mapping)


@pytest.mark.parametrize("kind", ["pipe", "folder", "endless"])
def test_only_ordinary_files_are_read(kind, tmp_path):
    path = tmp_path / "experiment.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(SpecError, match=r"this is (a folder|not an ordinary file)"):
        read_mapping(path)


def test_a_parameter_is_named_by_the_error_and_not_by_its_message(monkeypatch):
    def refuse(constraints, params, caller_name):
        if "C" in params:
            raise InvalidParameterError("a message with 'quotes' of another word")

    monkeypatch.setattr("ferpipe._compat.validate_parameter_constraints", refuse)
    with pytest.raises(SpecError, match=r"pipeline\.c\.SVC\.C: a message with 'quotes'"):
        compile_spec(with_pipeline({"c": "SVC"}))


def test_names_of_steps_do_not_count_as_nested_pipelines():
    steps = {"pipeline": "PCA"}
    for _ in range(4):
        steps = {"pipeline": {"pipeline": steps}}
    spec = compile_spec(with_pipeline({**steps, "classify": "SVC"}))
    assert list(dict(spec.pipeline.steps)) == ["pipeline", "classify"]
