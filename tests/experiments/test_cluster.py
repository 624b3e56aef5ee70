import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import pytest
import yaml
from distributed import Client, LocalCluster, Security
from distributed.comm import CommClosedError, connect
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

import ferpipe.experiments.cluster
import ferpipe.experiments.worker
from ferpipe.caching.store import Store
from ferpipe.experiments.cluster import _in_a_file, check_address
from ferpipe.experiments.plan import make_plan
from ferpipe.experiments.run import run_experiment
from ferpipe.experiments.spec import compile_spec
from ferpipe.experiments.worker import MappedData, RunPlugin
from ferpipe.grid import main

# the clusters of these tests are on this machine and live for a moment
pytestmark = pytest.mark.filterwarnings("ignore:tcp.* is not protected")
SEARCHED = {
    "name": "spread",
    "data": {"expression_sequences": {}},
    "pipeline": {
        "pool": {"PoolFrames": {"method": {"try": ["mean", "max"]}}},
        "classify": {"SVC": {"C": {"try": [0.1, 1]}, "kernel": "linear"}},
    },
    "evaluate": {
        "outer_cv": {"StratifiedKFold": {"n_splits": 3, "shuffle": True}},
        "inner_cv": {"StratifiedKFold": {"n_splits": 2, "shuffle": True}},
        "scoring": ["accuracy", "f1_macro"],
    },
}
ONE_SEARCH = {"evaluate": {**SEARCHED["evaluate"], "protocol": "random-80-20"}}
del ONE_SEARCH["evaluate"]["outer_cv"]
HOG = {"hog": "HOGFeatures", "classify": {"SVC": {"C": {"try": [0.1, 1]}}}}
QUIET = {
    "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    "silence_logs": logging.CRITICAL,
}


def make_bunch(n=60):
    rng = np.random.default_rng(0)
    label, subject = np.arange(n) % 3, rng.permutation(np.arange(n) % 15)
    frames = np.eye(3, 4)[label][:, None] * 2 + rng.normal(size=(n, 3, 4))
    return Bunch(
        data=list(frames),
        target=np.array(["anger", "fear", "surprise"])[label],
        groups=np.array([f"S{s:03}" for s in subject]),
        kind="sequences",
        synthetic=True,
        DESCR="noise",
    )


def make_spec(**changes):
    return compile_spec(SEARCHED | changes)


class Fragile(TransformerMixin, BaseEstimator):
    """A step that changes nothing, but may end its process or run out of memory."""

    def __init__(self, fate="lives", marker=""):
        self.fate = fate
        self.marker = marker

    def fit(self, X, y=None):
        if self.fate == "memory":
            raise MemoryError("a made-up one")
        if self.fate == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fate == "dies once" and not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def transform(self, X):
        return X


def fragile_spec(fates, marker="", **changes):
    spec = make_spec(**changes)
    steps = [("fragile", Fragile(marker=str(marker))), *spec.pipeline.steps]
    grid = [{"fragile__fate": fates, **one} for one in spec.grid]
    return replace(spec, pipeline=Pipeline(steps), grid=grid)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
    ):
        # a store of the workers' own, as on another machine
        patch.setenv("FERPIPE_CACHE", str(tmp_path_factory.mktemp("workers")))
        with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster:
            yield cluster


@pytest.fixture
def address(cluster):
    return cluster.scheduler_address


def assert_same(results, expected):
    assert results.best_params == expected.best_params
    for one, other in zip(results.folds, expected.folds, strict=True):
        assert (one.split, one.number, one.seed) == (other.split, other.number, other.seed)
        assert (one.scores, one.best_params) == (other.scores, other.best_params)
        np.testing.assert_array_equal(one.test, other.test)
        np.testing.assert_array_equal(one.predicted, other.predicted)
    assert results.learning_curve == expected.learning_curve
    assert list(results.cv_results) == list(expected.cv_results)
    for name, values in expected.cv_results.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(results.cv_results[name], values)
    assert repr(results.model) == repr(expected.model)


def test_workers_of_a_scheduler_give_what_one_process_gives(address):
    expected = run_experiment(make_spec(), make_bunch())
    results = run_experiment(make_spec(), make_bunch(), dask=address)
    assert_same(results, expected)
    assert results.fits["total"] == expected.fits["total"]
    assert np.all(results.cv_results["mean_fit_time"] > 0)
    X = make_bunch().data
    np.testing.assert_array_equal(results.model.predict(X), expected.model.predict(X))


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {"random": {"n_iter": 3}}, **ONE_SEARCH},
        {"search": {"halving": {"factor": 2}}, **ONE_SEARCH},
        {"pipeline": {"pool": "PoolFrames", "classify": "GaussianNB"}, **ONE_SEARCH},
        {**ONE_SEARCH, "evaluate": {**ONE_SEARCH["evaluate"], "seeds": [0, 1]}},
    ],
    ids=["random", "halving", "one candidate", "seeds"],
)
def test_every_kind_of_search_is_the_same(address, changes):
    spec, bunch = make_spec(**changes), make_bunch(n=90)
    assert_same(run_experiment(spec, bunch, dask=address), run_experiment(spec, bunch))


def test_a_worker_that_is_killed_costs_nothing(address, tmp_path):
    expected = run_experiment(make_spec(**ONE_SEARCH), make_bunch())
    with Client(address, set_as_default=False) as client:
        before = set(client.run(os.getpid).values())
        spec = fragile_spec(["dies once"], tmp_path / "marker", **ONE_SEARCH)
        results = run_experiment(spec, make_bunch(), dask=address)
        assert (tmp_path / "marker").exists()
        assert before - set(client.run(os.getpid).values())
    for name in ("mean_test_accuracy", "split1_test_f1_macro"):
        np.testing.assert_array_equal(results.cv_results[name], expected.cv_results[name])
    assert results.folds[0].scores == expected.folds[0].scores
    np.testing.assert_array_equal(results.folds[0].predicted, expected.folds[0].predicted)


@pytest.mark.parametrize("fate", ["memory", "dies"])
def test_a_candidate_without_enough_memory_is_scored_nan(cluster, monkeypatch, fate):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    pipeline = {"pool": "PoolFrames", "classify": "GaussianNB"}
    spec = fragile_spec(["lives", fate], **ONE_SEARCH, pipeline=pipeline)
    # one candidate is not searched: two that do the same
    expected = run_experiment(
        fragile_spec(["lives", "lives"], **ONE_SEARCH, pipeline=pipeline), make_bunch()
    )
    reason = "a made-up one" if fate == "memory" else "were killed, one after the other"
    with (
        pytest.warns(match=f"candidate 1 on .* is scored NaN: .*{reason}"),
        pytest.warns(match="One or more of the test scores are non-finite"),
    ):
        results = run_experiment(spec, make_bunch(), dask=cluster.scheduler_address)
    scores = results.cv_results["mean_test_accuracy"]
    assert np.isnan(scores[1])
    assert scores[0] == expected.cv_results["mean_test_accuracy"][0]
    assert results.folds[0].scores == expected.folds[0].scores


def test_another_run_goes_on_from_the_jobs_that_are_kept(address, tmp_path, monkeypatch):
    spec, bunch = make_spec(**ONE_SEARCH), make_bunch()
    first = run_experiment(spec, bunch, dask=address, store=Store(tmp_path))
    monkeypatch.setattr(Client, "submit", None)  # nothing is asked of the workers
    again = run_experiment(spec, bunch, dask=address, store=Store(tmp_path))
    assert_same(again, first)


def test_a_change_of_the_data_is_another_job(address, tmp_path):
    spec, bunch = make_spec(**ONE_SEARCH), make_bunch()
    run_experiment(spec, bunch, dask=address, store=Store(tmp_path))
    bunch.data = [2 * frames for frames in bunch.data]
    again = run_experiment(spec, bunch, dask=address, store=Store(tmp_path))
    assert_same(again, run_experiment(spec, bunch))
    assert again.fits["steps_computed"] > 0


def test_the_data_is_sent_once_and_not_with_the_jobs(address, monkeypatch):
    bunch = make_bunch()
    n_bytes = sum(frames.nbytes for frames in bunch.data)
    sent, told = [], []
    submit, register = Client.submit, Client.register_plugin

    def watched_submit(client, *arguments, **settings):
        sent.append(len(cloudpickle.dumps((arguments, settings))))
        return submit(client, *arguments, **settings)

    def watched_register(client, plugin, **settings):
        told.append(len(cloudpickle.dumps(plugin)))
        return register(client, plugin, **settings)

    monkeypatch.setattr(Client, "submit", watched_submit)
    monkeypatch.setattr(Client, "register_plugin", watched_register)
    run_experiment(make_spec(**ONE_SEARCH), bunch, dask=address)
    assert len(told) == 1
    assert told[0] > n_bytes > 10 * max(sent)
    assert len(sent) == 4 * 2 + 1


def image_bunch(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (60, 16, 16), dtype=np.uint8)
    images[::3, :8] += 100
    images[1::3, :, :8] += 100
    np.save(tmp_path / "faces.npy", images)
    bunch = make_bunch()
    bunch.data, bunch.kind = np.load(tmp_path / "faces.npy", mmap_mode="r"), "images"
    return bunch


def test_mapped_images_are_mapped_by_the_workers(address, tmp_path):
    spec, bunch = make_spec(pipeline=HOG, **ONE_SEARCH), image_bunch(tmp_path)
    plugin = RunPlugin(make_plan(spec, bunch), "run", None, keep=False)
    assert len(cloudpickle.dumps(plugin)) < bunch.data.nbytes
    expected = run_experiment(spec, bunch)
    assert_same(run_experiment(spec, bunch, dask=address), expected)
    plugin.plan.bunch.data = replace(plugin.plan.bunch.data, path="/nowhere/faces.npy")
    with (
        Client(address, set_as_default=False) as client,
        pytest.raises(FileNotFoundError, match=r"worker tcp://.* /nowhere/faces\.npy"),
    ):
        client.register_plugin(plugin)


def test_processes_of_this_machine_map_a_large_array(tmp_path, monkeypatch):
    spec, bunch = make_spec(pipeline=HOG, **ONE_SEARCH), image_bunch(tmp_path)
    bunch.data = np.array(bunch.data)
    plan = make_plan(spec, bunch)
    folder = tmp_path / "run"
    folder.mkdir()
    assert _in_a_file(plan, folder) is plan
    monkeypatch.setattr(ferpipe.experiments.cluster, "_LARGE", bunch.data.nbytes)
    found = _in_a_file(plan, folder).bunch
    assert MappedData.of(found.data).path == str(folder / "data.npy")
    np.testing.assert_array_equal(found.data, bunch.data)
    np.testing.assert_array_equal(found.target, bunch.target)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mapped_file_is_known_again(tmp_path, order):
    path = tmp_path / "a.npy"
    values = np.arange(24.0).reshape(2, 3, 4)
    np.save(path, np.asarray(values, order=order))
    mapped = np.load(path, mmap_mode="r")
    described = MappedData.of(mapped)
    np.testing.assert_array_equal(described.open(), values)
    assert MappedData.of(mapped[1:]) is None  # a part is sent as what it is
    assert MappedData.of(values) is None
    np.save(path, values + 1)
    with pytest.raises(FileNotFoundError, match="missing or another file"):
        described.open()


@pytest.mark.parametrize(
    "text", ["local", "local:0", "local:two", "tcp://host", "host:8786", "ssh://host:1", ""]
)
def test_what_names_no_cluster_is_refused(text, capsys):
    with pytest.raises(ValueError, match=r"expected local:N .* tls://HOST:PORT .* got '"):
        check_address(text)
    with pytest.raises(SystemExit) as caught:
        main(["file.yaml", "--dask", text])
    assert caught.value.code == 2
    assert "expected local:N" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "local:4",
        "tls://scheduler:8786",
        "tcp://scheduler:8786",
        "tcp://10.0.0.1:80",
        "tcp://[::1]:8786",
    ],
)
def test_what_names_a_cluster_is_taken(text):
    check_address(text)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path / "cache"))
    images = {"expression_sequences": {"n_sequences": 42, "size": 32}}
    pipeline = {"hog": {"PerFrame": {"transformer": "HOGFeatures"}}, **SEARCHED["pipeline"]}
    path = tmp_path / "spread.yaml"
    mapping = {**SEARCHED, **ONE_SEARCH, "data": images, "pipeline": pipeline}
    path.write_text(yaml.safe_dump(mapping, sort_keys=False))
    return path


def test_processes_of_this_machine_refuse_who_has_no_certificate(tmp_path):
    with ferpipe.experiments.cluster._connect("local:1", tmp_path) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        information = client.scheduler_info()
        (worker,) = information["workers"]
        for address in (information["address"], worker):
            assert address.startswith("tls://127.0.0.1:")
            host, port = address.removeprefix("tls://").split(":")
            plain, strange = f"tcp://{host}:{port}", Security.temporary()
            with pytest.raises((OSError, CommClosedError)):
                asyncio.run(ask(plain, {}))
            with pytest.raises((OSError, CommClosedError)):
                asyncio.run(ask(address, strange.get_connection_args("client")))
        own = client.security.get_connection_args("client")
        assert asyncio.run(ask(information["address"], own))


async def ask(address, arguments):
    """Ask a scheduler or worker who it is, as dask's own programs do."""
    comm = await connect(address, timeout=2, **arguments)
    try:
        await comm.write({"op": "identity", "reply": True})
        return await asyncio.wait_for(comm.read(), 2)
    finally:
        comm.abort()


def test_an_unprotected_scheduler_is_told_of(address):
    with (
        warnings.catch_warnings(),
        pytest.warns(UserWarning, match="is not protected: whoever reaches this port"),
    ):
        run_experiment(make_spec(**ONE_SEARCH), make_bunch(), dask=address)


def write_certificates(security, folder):
    """Write a temporary certificate to files, as those of several machines lie."""
    paths = {}
    for name, content in (
        ("ca_file", security.tls_ca_file),
        ("cert", security.tls_client_cert),
        ("key", security.tls_client_key),
    ):
        paths[name] = folder / f"{name}.pem"
        paths[name].write_text(content)
    return paths


def test_a_scheduler_with_certificates_is_used_by_who_has_them(tmp_path):
    security = Security.temporary()
    files = write_certificates(security, tmp_path)
    spec, bunch = make_spec(**ONE_SEARCH), make_bunch()
    with LocalCluster(
        n_workers=1, threads_per_worker=1, security=security, **QUIET
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with pytest.raises(ConnectionError, match=r"tls://.* asks for certificates"):
            run_experiment(spec, bunch, dask=address)
        settings = {
            "distributed.comm.tls.ca-file": str(files["ca_file"]),
            "distributed.comm.tls.client.cert": str(files["cert"]),
            "distributed.comm.tls.client.key": str(files["key"]),
        }
        with dask.config.set(settings):
            results = run_experiment(spec, bunch, dask=address)
    assert_same(results, run_experiment(spec, bunch))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_scheduler_that_does_not_answer_is_one_line(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ferpipe.experiments.cluster, "_PATIENCE", 0.5)
    where = f"tcp://127.0.0.1:{free_port()}"
    assert main([str(file), "--dask", where, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert where in printed.out
    assert f"error: no dask scheduler answers at {where} within 0.5 s" in printed.err
    assert "Traceback" not in printed.err
    assert not list((tmp_path / "out").iterdir())


def test_without_the_extra_the_line_names_it(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main([str(file), "--dask", "local:2", "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'ferpipe[dask]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("n_workers", "error", "message"),
    [
        (0, ConnectionError, r"has no workers: start some with `dask worker tcp://"),
        (1, ValueError, r"worker tcp://.* has 2 threads, .* start it with --nthreads 1"),
    ],
)
def test_workers_that_cannot_be_used(monkeypatch, n_workers, error, message):
    monkeypatch.setattr(ferpipe.experiments.cluster, "_PATIENCE", 0.5)
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=2,
            processes=False,
            protocol="tcp",
            **QUIET,
        ) as cluster,
        pytest.raises(error, match=message),
    ):
        run_experiment(make_spec(), make_bunch(), dask=cluster.scheduler_address)


def test_workers_with_other_versions_are_refused(address, monkeypatch):
    monkeypatch.setattr(
        ferpipe.experiments.worker, "package_versions", lambda: {"numpy": "1.0"}
    )
    with pytest.raises(ValueError, match=r"has numpy .* instead of 1\.0: install the same"):
        run_experiment(make_spec(), make_bunch(), dask=address)


def test_the_program_gives_the_same_with_processes_of_dask(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(file), "--dask", "local:2", "--out", str(out)]) == 0
    assert "9 fits\n  local:2\n" in capsys.readouterr().out
    expected = ferpipe.run(file, cache=False)
    results = json.loads((out / "results.json").read_text())
    assert results["folds"][0]["predicted"] == expected.folds[0].predicted.tolist()
    assert results["folds"][0]["scores"] == expected.folds[0].scores
    assert results["best_params"] == expected.best_params
    # two processes that want a sample at the same moment may both compute it
    assert results["fits"]["rows_computed"] >= expected.fits["rows_computed"]
    counted = [
        fits["rows_computed"] + fits["rows_reused"]
        for fits in (results["fits"], expected.fits)
    ]
    assert counted[0] == counted[1]


def test_a_killed_program_leaves_no_worker_behind(file, tmp_path):
    program = subprocess.Popen(
        [sys.executable, "-m", "ferpipe.grid", str(file), "--dask", "local:1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 90
    # the jobs keep their steps here: the workers are at context
    while not list((tmp_path / "cache").glob("*/*.joblib")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    program.kill()
    program.wait()
    while group_exists(program.pid):
        assert time.monotonic() < deadline + 60, "workers go on without the program"
        time.sleep(0.1)


def group_exists(number):
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_every_process(file, tmp_path):
    program = subprocess.Popen(
        [sys.executable, "-m", "ferpipe.grid", str(file), "--dask", "local:1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "cache").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does
    _, error = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "stopped: no report was written" in error
    assert "Traceback" not in error
    while group_exists(program.pid):
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)
