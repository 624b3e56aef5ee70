import os
import resource
import runpy
import shutil
import sqlite3
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from joblib import Parallel, delayed

import ferpipe
from ferpipe.caching import store as store_module
from ferpipe.caching.store import RowStore, Store

X = np.random.default_rng(0).normal(size=(40, 3))
FLIPS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "flips.py"))


def test_computes_once_and_finds_by_content(tmp_path):
    store = Store(tmp_path)
    calls = []

    def compute():
        calls.append(1)
        return X * 2

    first = store.get_or_compute(("double", X), compute)
    again = Store(tmp_path).get_or_compute(("double", X.copy()), compute)
    other = store.get_or_compute(("double", X + 1e-12), compute)
    assert len(calls) == 2
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, other)


def test_another_version_computes_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.get_or_compute(("a",), lambda: 1)
    monkeypatch.setattr(ferpipe, "__version__", "0.0.0")
    assert store.get_or_compute(("a",), lambda: 2) == 2


def test_another_version_of_a_library_computes_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.get_or_compute(("a",), lambda: 1)
    store_module._library_versions.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(
            store_module, "version", lambda name: "0.0" if name == "torch" else "1"
        )
        assert store.get_or_compute(("a",), lambda: 2) == 2
    store_module._library_versions.cache_clear()
    assert store.get_or_compute(("a",), lambda: 3) == 1


def test_another_state_of_the_package_computes_again(tmp_path, monkeypatch):
    # while the package is worked on, its version stays
    file = tmp_path / "package" / "__init__.py"
    file.parent.mkdir()
    monkeypatch.setattr(ferpipe, "__file__", str(file))
    store = Store(tmp_path / "store")
    values = []
    for number, text in enumerate(["first", "second", "first"]):
        file.write_text(text)
        store_module._package_digest.cache_clear()
        values.append(store.get_or_compute(("a",), lambda number=number: number))
    store_module._package_digest.cache_clear()
    assert values == [0, 1, 0]


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    store = Store(tmp_path)
    store.get_or_compute(("a",), lambda: X)
    (entry,) = tmp_path.glob("*/*.joblib")
    content = bytearray(entry.read_bytes())
    if damage == "cut":
        del content[-10:]
    else:
        content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    found = []
    with pytest.warns(UserWarning, match=f"{entry.name}: this is damaged"):
        value = store.get_or_compute(("a",), lambda: X, on_access=found.append)
    assert found == [False]
    np.testing.assert_array_equal(value, X)
    assert len(list(tmp_path.glob("*/*.joblib"))) == 1


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail():
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        Store(tmp_path).get_or_compute(("a",), fail)
    unpicklable = Store(tmp_path)
    with pytest.raises(Exception, match="pickle"):
        unpicklable.get_or_compute(("b",), lambda: (i for i in range(3)))
    assert not [p for p in tmp_path.glob("*/*") if p.suffix != ".lock"]


def test_the_entries_unused_for_longest_leave_first(tmp_path):
    store = Store(tmp_path, size_limit=3 * 8000 + 2000)
    for number in range(3):
        store.get_or_compute((number,), lambda n=number: np.full(1000, float(n)))
    entries = sorted(tmp_path.glob("*/*.joblib"), key=os.path.getmtime)
    for number, path in enumerate(entries):
        os.utime(path, (1000 + number, 1000 + number))
    store.get_or_compute((0,), lambda: pytest.fail("was there"))
    store.get_or_compute((3,), lambda: np.zeros(1000))
    found = []
    for number in (0, 3, 2, 1):
        store.get_or_compute((number,), lambda: np.zeros(1000), on_access=found.append)
    assert found == [True, True, True, False]


def test_two_that_want_the_same_compute_it_once(tmp_path):
    barrier = Barrier(4)
    calls = []

    def work(_):
        barrier.wait()
        return Store(tmp_path).get_or_compute(("a",), lambda: calls.append(1) or X)

    with ThreadPoolExecutor(4) as pool:
        for value in pool.map(work, range(4)):
            np.testing.assert_array_equal(value, X)
    assert len(calls) == 1


def no_room(*arguments, **options):
    raise OSError(28, "No space left on device")


def test_a_full_disk_costs_the_entry_and_not_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module.joblib, "dump", no_room)
    with pytest.warns(UserWarning, match=r"nothing can be kept .*No space left.*Make room"):
        assert Store(tmp_path).get_or_compute(("a",), lambda: 7) == 7
    assert not [path for path in tmp_path.glob("*/*") if path.is_file()]
    monkeypatch.undo()
    assert Store(tmp_path).get_or_compute(("a",), lambda: 8) == 8


def test_without_a_folder_everything_is_computed(tmp_path):
    (tmp_path / "file").write_text("no folder")
    found = []
    with pytest.warns(UserWarning, match="nothing can be kept here"):
        value = Store(tmp_path / "file").get_or_compute(
            ("a",), lambda: 7, on_access=found.append
        )
    assert value == 7
    assert found == [False]


@pytest.mark.parametrize("use", ["read", "write"])
def test_without_a_folder_there_are_no_rows(tmp_path, use):
    (tmp_path / "file").write_text("no folder")
    rows = RowStore(tmp_path / "file")
    with pytest.warns(UserWarning, match="nothing can be kept here"):
        assert not (rows.read([b"a"]) if use == "read" else rows.write({b"a": np.ones(3)}))


def test_what_is_lost_is_said_once_until_something_is_kept_again(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def sentences():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number in range(3):
                store.get_or_compute(("new", number), lambda: X)
        return len(caught)

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(store_module.joblib, "dump", no_room)
            assert sentences() == 1
            assert sentences() == 0
            store = Store(tmp_path)
            assert sentences() == 1
        assert sentences() == 0
        shutil.rmtree(tmp_path)


@contextmanager
def small_files(n_bytes):
    """Let no file grow larger, as on a disk that fills up half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_entry_that_is_written_half_way_is_no_entry(tmp_path):
    large = np.arange(100_000)
    with small_files(50_000), pytest.warns(UserWarning, match="nothing can be kept here"):
        assert Store(tmp_path).get_or_compute(("a",), lambda: large) is large
    assert not [path for path in tmp_path.glob("*/*") if path.is_file()]
    found = []
    for _ in range(2):
        Store(tmp_path).get_or_compute(("a",), lambda: large, on_access=found.append)
    assert found == [False, True]


def test_rows_that_are_written_half_way_are_no_rows(tmp_path):
    rows = RowStore(tmp_path)
    rows.write({b"a": np.ones(3)})
    with small_files(50_000), pytest.warns(UserWarning, match="nothing can be kept here"):
        rows.write({b"b": np.ones(3), b"c": np.ones(100_000)})
    assert rows.read([b"a", b"b", b"c"]).keys() == {b"a"}
    rows.write({b"c": np.ones(100_000)})
    assert rows.read([b"a", b"b", b"c"]).keys() == {b"a", b"c"}


@pytest.fixture
def closed_folder():
    """A folder that root may go to as nobody, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name) / "store"


@contextmanager
def read_only(folder):
    """Let nothing be written there, root included, who gives up that right."""
    paths = [folder, *folder.rglob("*")]
    was_root = os.geteuid() == 0
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_store_that_cannot_be_written_to_is_read(closed_folder):
    store = Store(closed_folder)
    store.get_or_compute(("a",), lambda: 7)
    found = []
    with read_only(closed_folder):
        assert store.get_or_compute(("a",), lambda: 8, on_access=found.append) == 7
        with pytest.warns(UserWarning, match="nothing can be kept here .*ermission"):
            assert store.get_or_compute(("b",), lambda: 9, on_access=found.append) == 9
        assert store.get_or_compute(("c",), lambda: 5, on_access=found.append) == 5
    assert found == [True, False, False]
    assert [path.suffix for path in closed_folder.glob("*/*")] == [".joblib"]


def test_a_damaged_entry_that_cannot_be_removed_is_not_taken(closed_folder):
    store = Store(closed_folder)
    store.get_or_compute(("a",), lambda: 7)
    (entry,) = closed_folder.glob("*/*.joblib")
    entry.write_bytes(entry.read_bytes()[:-1])
    with (
        read_only(closed_folder),
        pytest.warns(UserWarning, match="nothing can be kept"),
        pytest.warns(UserWarning, match="this is damaged"),
    ):
        assert store.get_or_compute(("a",), lambda: 8) == 8


def test_rows_of_a_folder_that_cannot_be_written_to_are_computed(closed_folder):
    rows = RowStore(closed_folder)
    rows.write({b"a": np.ones(3)})
    with read_only(closed_folder), pytest.warns(UserWarning, match="nothing can be kept"):
        assert rows.read([b"a"]) == {}
    assert rows.read([b"a"]).keys() == {b"a"}


def test_a_folder_that_is_removed_in_the_middle_is_made_again(tmp_path):
    store = Store(tmp_path / "store")

    def compute():
        shutil.rmtree(store.folder)
        return X

    np.testing.assert_array_equal(store.get_or_compute(("a",), compute), X)
    found = []
    store.get_or_compute(("a",), lambda: X, on_access=found.append)
    assert found == [True]


def test_a_folder_that_is_removed_while_it_is_looked_through(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    glob = Path.glob

    def removed(folder, pattern):
        if pattern.startswith("*/"):
            shutil.rmtree(store.folder, ignore_errors=True)
            raise FileNotFoundError(2, "No such file or directory")
        return glob(folder, pattern)

    monkeypatch.setattr(Path, "glob", removed)
    assert store.get_or_compute(("a",), lambda: 1) == 1
    assert store.get_or_compute(("a",), lambda: 2) == 2


def test_an_entry_that_leaves_while_it_is_read_is_computed_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.get_or_compute(("a",), lambda: 1)
    (entry,) = tmp_path.glob("*/*.joblib")
    whole = store_module.file_digest

    def digest(file, name):
        entry.unlink()
        return whole(file, name)

    monkeypatch.setattr(store_module, "file_digest", digest)
    monkeypatch.setattr(store_module, "_write", lambda *arguments: None)
    assert store.get_or_compute(("a",), lambda: 2) == 2


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path):
    old, new = tmp_path / "00" / "old.part", tmp_path / "00" / "new.part"
    old.parent.mkdir()
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    Store(tmp_path).get_or_compute(("a",), lambda: 1)
    assert new.exists()
    assert not old.exists()


def test_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path / "here"))
    Store().get_or_compute(("a",), lambda: 1)
    assert list((tmp_path / "here").glob("*/*.joblib"))


# Rows


def rows_of(n, size=100):
    rng = np.random.default_rng(n)
    return {bytes([i]): rng.normal(size=size) for i in range(n)}


def test_rows_are_found_as_they_were_written(tmp_path):
    rows = {
        b"a": np.arange(6, dtype=np.uint8).reshape(2, 3),
        b"b": np.array([np.nan, -0.0, np.inf], np.float32),
        b"c": np.zeros((0, 4)),
        b"d": np.array(True),
        b"e": np.arange(12.0).reshape(3, 4).T,
    }
    RowStore(tmp_path).write(rows)
    found = RowStore(tmp_path).read([*rows, b"z", b"a"])
    assert found.keys() == rows.keys()
    for key, row in rows.items():
        assert found[key].dtype == row.dtype
        np.testing.assert_array_equal(found[key], row, strict=True)


def test_rows_that_find_no_room_are_left_out_with_a_warning(tmp_path, monkeypatch):
    def full(*arguments):
        raise sqlite3.OperationalError("database or disk is full")

    store = RowStore(tmp_path)
    store.write({b"a": np.ones(3)})
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_write_rows", full)
        with pytest.warns(UserWarning, match=r"nothing can be kept .*disk is full"):
            store.write({b"b": np.ones(3)})
    assert store.read([b"a", b"b"]).keys() == {b"a"}


def test_rows_are_written_after_the_folder_was_removed(tmp_path):
    store = RowStore(tmp_path / "store")
    store.write({b"a": np.ones(3)})
    shutil.rmtree(store.folder)
    store.write({b"b": np.ones(3)})
    assert store.read([b"a", b"b"]).keys() == {b"b"}


def test_many_rows_are_read_at_once(tmp_path):
    rows = {i.to_bytes(4, "big"): np.array([i]) for i in range(2345)}
    RowStore(tmp_path).write(rows)
    assert RowStore(tmp_path).read(rows) == rows


def test_a_damaged_row_is_left_out(tmp_path):
    store = RowStore(tmp_path)
    store.write({b"a": np.ones(3), b"b": np.full(3, 7.0)})
    path = tmp_path / "rows.sqlite"
    content = path.read_bytes()
    assert content.count(np.full(3, 7.0).tobytes()) == 1
    path.write_bytes(content.replace(np.full(3, 7.0).tobytes(), np.full(3, 8.0).tobytes()))
    with pytest.warns(UserWarning, match=r"rows\.sqlite: this is damaged"):
        assert store.read([b"a", b"b"]).keys() == {b"a"}
    store.write({b"b": np.zeros(3)})
    np.testing.assert_array_equal(store.read([b"b"])[b"b"], np.zeros(3))


@pytest.mark.parametrize("damage", ["no database", "cut"])
def test_a_damaged_file_of_rows_begins_anew(tmp_path, damage):
    store = RowStore(tmp_path)
    store.write(rows_of(100))
    path = tmp_path / "rows.sqlite"
    path.write_bytes(b"x" * 5000 if damage == "no database" else path.read_bytes()[:9000])
    with pytest.warns(UserWarning, match=r"rows\.sqlite: this is damaged"):
        assert store.read(rows_of(100)) == {}
    store.write(rows_of(3))
    assert store.read(rows_of(100)).keys() == rows_of(3).keys()


def test_the_rows_unused_for_longest_leave_first(tmp_path, monkeypatch):
    store = RowStore(tmp_path, size_limit=400_000)
    now = [10_000]
    monkeypatch.setattr(store_module.time, "time", lambda: now[0])
    first, second, third = (
        {bytes([part, i]): np.zeros(1000) for i in range(n)}
        for part, n in ((0, 15), (1, 15), (2, 25))
    )
    store.write(first)
    now[0] += 4000
    store.write(second)
    now[0] += 4000
    store.read(first)  # used again
    store.write(third)
    assert store.read(third).keys() == third.keys()
    assert len(store.read(first)) > len(store.read(second))
    assert (tmp_path / "rows.sqlite").stat().st_size < 600_000


def write_and_read(folder, start):
    store = RowStore(folder)
    for i in range(start, start + 40):
        store.write({i.to_bytes(4, "big"): np.array([i])})
        store.read(j.to_bytes(4, "big") for j in range(i))


def test_processes_write_rows_at_the_same_time(tmp_path):
    Parallel(2)(delayed(write_and_read)(tmp_path, start) for start in (0, 20, 60))
    keys = [i.to_bytes(4, "big") for i in range(100)]
    assert RowStore(tmp_path).read(keys) == {
        key: np.array([i]) for i, key in enumerate(keys)
    }


@pytest.mark.parametrize("what", ["key", "form", "content", "checksum", "none"])
def test_a_row_whose_parts_do_not_belong_together_is_left_out(tmp_path, what):
    store = RowStore(tmp_path)
    store.write({b"a" * 16: np.arange(6.0), b"b" * 16: np.arange(6, dtype="<i8")})
    changes = {
        "key": ("UPDATE rows SET key = ? WHERE key = ?", b"c" * 16),
        "form": ("UPDATE rows SET form = ? WHERE key = ?", b'["<f8", [3, 2]]'),
        "content": ("UPDATE rows SET content = ? WHERE key = ?", bytes(48)),
        "checksum": ("UPDATE rows SET checksum = ? WHERE key = ?", 7),
        "none": ("UPDATE rows SET form = ? WHERE key = ?", None),
    }
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as database:
        sentence, value = changes[what]
        database.execute(sentence, (value, b"a" * 16))
        database.commit()
    keys = [letter * 16 for letter in (b"a", b"b", b"c")]
    with pytest.warns(UserWarning, match="damaged"):
        found = store.read(keys)
    assert found.keys() == {b"b" * 16}


@pytest.mark.parametrize("name", ["rows", "step", "images"])
def test_flipped_bits_never_give_a_wrong_value_nor_an_error(name, tmp_path):
    flip = FLIPS["flip"]
    found = {flip(name, number, 1, tmp_path) for number in range(150)}
    assert found <= {
        "right from the disk",
        "computed anew with a warning",
        "computed anew without a warning",
    }
    assert "computed anew with a warning" in found


@pytest.mark.parametrize("use", ["store", "rows", "part"])
@pytest.mark.parametrize("others", ["group", "all", "owner"])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path, monkeypatch, use, others):
    folder = tmp_path / "store"
    Store(folder).get_or_compute(("a",), lambda: 7)
    RowStore(folder).write({b"a": np.ones(3)})
    place = next(path for path in folder.iterdir() if path.is_dir())
    place = place if use == "part" else folder
    if others == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root may give files away")
        os.chown(place, 12345, -1)
    else:
        place.chmod(0o770 if others == "group" else 0o707)
    work = {
        "rows": lambda: RowStore(folder).read([b"a"]),
        "store": lambda: Store(folder).get_or_compute(("a",), lambda: 8),
    }
    with pytest.raises(ValueError, match=r"this folder (may be|belongs).*chmod go-w"):
        work["rows" if use == "rows" else "store"]()


def test_folders_are_made_for_the_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        Store(tmp_path / "store").get_or_compute(("a",), lambda: 7)
    finally:
        os.umask(before)
    found = [p for p in (tmp_path / "store", *(tmp_path / "store").iterdir()) if p.is_dir()]
    assert [path.stat().st_mode & 0o777 for path in found] == [0o700] * 2
