"""Time of a network on one face: as this process would do it, and in one thread.

``python benchmarks/threads.py`` prints milliseconds for one face by the default number of
threads (the variable OMP_NUM_THREADS must not be set) and within one thread, and their
ratio. Both are measured in turns, as other programs on the machine come and go.
"""

import argparse
import time

import numpy as np

import ferpipe
from ferpipe._system.threads import at_most


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    import torch

    print(f"{torch.get_num_threads()} threads by default")
    for name in ("fer2013_small", "fer2013"):
        network = ferpipe.pretrained(name)
        face = np.random.default_rng(0).integers(0, 256, (1, 48, 48), dtype=np.uint8)
        network.predict_proba(face)
        taken = {"default": [], "one": []}
        for _ in range(options.repeats):
            taken["default"].append(seconds(network, face))
            with at_most(1):
                taken["one"].append(seconds(network, face))
        medians = {kind: 1000 * float(np.median(times)) for kind, times in taken.items()}
        ratio = medians["default"] / medians["one"]
        print(
            f"{name:14}  default {medians['default']:7.1f} ms   one thread "
            f"{medians['one']:7.1f} ms   ratio {ratio:.2f}"
        )


def seconds(network, face):
    """Time one answer."""
    start = time.perf_counter()
    network.predict_proba(face)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
