"""Flip bits in cached values: a damaged value must be computed again, never returned.

``python benchmarks/flips.py 2500`` writes rows, a fitted step and mapped images, then flips
one bit at a random place of a copy of each file, reads it, and prints how often what came
back was right from the disk, computed anew with and without a warning, wrong, or an error.
Every flip is made again by its number and the seed.
"""

import argparse
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np

from ferpipe.caching.store import RowStore, Store
from ferpipe.io.memmap import map_images

RNG = np.random.default_rng(0)
KEYS = [RNG.bytes(16) for _ in range(32)]
ROWS = {
    key: RNG.normal(0, 50, size=(7, 30)).astype(dtype)
    for key, dtype in zip(KEYS, 8 * ["<f4", "<f8", "<i2", "u1"], strict=True)
}
IMAGES = RNG.integers(0, 256, (4, 12, 12), dtype=np.uint8)


def read_rows(folder):
    """Return whether all returned rows are right, and whether rows are missing."""
    store, right, anew = RowStore(folder), True, False
    # what is not found is kept again; a file whose index is damaged may begin anew then
    for _ in range(3):
        found = store.read(KEYS)
        for key, row in found.items():
            right &= row.dtype == ROWS[key].dtype and np.array_equal(row, ROWS[key])
        missing = {key: row for key, row in ROWS.items() if key not in found}
        if not missing:
            return right, anew
        anew = True
        store.write(missing)
    return False, anew


def read_step(folder):
    """Return whether a value is right, and whether it was computed again."""
    computed = []
    value = Store(folder).get_or_compute(
        ("a step",), lambda: computed.append(1) or dict(enumerate(IMAGES))
    )
    right = all(np.array_equal(value[n], one) for n, one in enumerate(IMAGES))
    return right and len(value) == len(IMAGES), bool(computed)


def read_images(folder):
    """Return whether mapped images are right, and whether they were written again."""
    written = []

    def write(append):
        written.append(1)
        for image in IMAGES:
            append(image)
        return {"places": np.arange(len(IMAGES))}

    with patch.dict("os.environ", {"FERPIPE_CACHE": str(folder)}):
        images, notes = map_images(("images",), write)
    right = images.dtype == IMAGES.dtype and np.array_equal(images, IMAGES)
    return right and list(notes["places"]) == list(range(len(IMAGES))), bool(written)


READERS = {"rows": read_rows, "step": read_step, "images": read_images}


def flip(name, number, seed, folder):
    """Flip a bit of one file and read it; return the outcome."""
    read = READERS[name]
    rng = np.random.default_rng([seed, number])
    good = folder / name
    if not good.exists():
        read(good)
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        shutil.copytree(good, copy)
        files = [path for path in sorted(copy.rglob("*")) if path.is_file()]
        files = [path for path in files if path.stat().st_size]
        path = files[rng.integers(len(files))]
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                right, anew = read(copy)
            except Exception as error:
                return f"raised {type(error).__name__}: {error}"
    if not right:
        return "wrong"
    if not anew:
        return "right from the disk"
    return f"computed anew {'with' if caught else 'without'} a warning"


def main():
    """Read the command line, flip and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=2500, help="flips of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bad = 0
    for name in READERS:
        with tempfile.TemporaryDirectory() as folder:
            found = Counter(
                flip(name, number, options.seed, Path(folder))
                for number in range(options.n)
            )
        print(f"{name}: {options.n} flips, seed {options.seed}", flush=True)
        for words, count in found.most_common():
            print(f"    {count:6} {words}")
            bad += words.startswith(("wrong", "raised"))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
