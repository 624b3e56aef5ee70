"""Some hundred hostile files for every reader; benchmarks/fuzz.py reads many more."""

import os
import runpy
import signal
from pathlib import Path

import pytest

FUZZ = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "fuzz.py"))
READERS = FUZZ["readers"]()
# what one reads takes longer
FEWER = {"model": 150, "card": 100, "yaml": 150, "openface": 150, "fex": 150}


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_read(name, tmp_path):
    reader = READERS[name]
    for content in reader.contents:
        path = tmp_path / reader.name
        path.write_bytes(content)
        reader.read(path)


@pytest.mark.parametrize("name", READERS)
def test_hostile_files_give_data_or_the_readers_own_error(name, tmp_path):
    n_read, _, crashes = FUZZ["fuzz"](name, READERS[name], tmp_path, FEWER.get(name, 300))
    assert not crashes
    # the files are not so broken that all are refused at the first look, nor still whole
    assert n_read < FEWER.get(name, 300)


def test_an_input_is_made_again_by_its_seed_and_number():
    make = FUZZ["hostile_file"]
    one, again, other = (make("wfm", READERS["wfm"], 3, n) for n in (7, 7, 8))
    assert one == again != other


def test_what_is_no_error_of_the_reader_is_found(tmp_path):
    def read(path):
        int("x" if path.stat().st_size % 2 else "1")

    reader = FUZZ["Reader"]("hostile.txt", [b"some good content"], read)
    _, _, crashes = FUZZ["fuzz"]("txt", reader, tmp_path, 50)
    (wrong,) = crashes
    assert "raised by another package" in wrong


def test_an_input_that_ends_the_process_is_told_of():
    def read(path):
        if path.read_bytes() in fatal:
            os.kill(os.getpid(), signal.SIGTERM)

    reader = FUZZ["Reader"]("hostile.txt", [b"some good content"], read)
    fatal = [FUZZ["hostile_file"]("txt", reader, 0, number) for number in (12, 17)]
    n_read, _, crashes = FUZZ["fuzz_apart"]("txt", reader, 20, first=5)
    assert crashes == {"the process ended with -15": [12, 17]}
    assert n_read == 18
