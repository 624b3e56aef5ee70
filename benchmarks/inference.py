"""Measure the shipped network: images per second, and the time to load it.

``python benchmarks/inference.py``: batches of 1 and 64 images of 48×48, on one thread and
on all, through ``predict_proba`` (which looks at each image and its mirror image), beside
the same torch module called bare on the same views. Loading is timed in fresh processes,
from a Python that has torch imported and from one that has not.
"""

import argparse
import subprocess
import sys
import time

import numpy as np

LOAD = """
import time
{first}
start = time.perf_counter()
from ferpipe import pretrained
network = pretrained({name!r})
network.predict_proba({image})
print(time.perf_counter() - start)
"""


def best_time(functions, rounds, budget=1.0):
    """Return seconds of each function: the shortest of rounds in which they take turns."""
    best = dict.fromkeys(functions, np.inf)
    start = time.perf_counter()
    for done in range(rounds):
        for name, function in functions.items():
            before = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - before)
        if done >= 4 and time.perf_counter() - start > budget * rounds:
            break
    return best


def load_times(name, first, rounds):
    """Seconds until a fresh process has the network and its first answer."""
    image = "__import__('numpy').zeros((1, 48, 48), 'uint8')"
    code = LOAD.format(first=first, name=name, image=image)
    return [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)
        for _ in range(rounds)
    ]


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="fer2013")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()

    import torch

    from ferpipe import pretrained

    network = pretrained(options.network)
    module = network.net_.module_.eval()
    rng = np.random.default_rng(0)
    n_threads = torch.get_num_threads()
    print(f"{options.network}: {network.n_parameters_:,} parameters, tta={network.tta!r}")
    for threads in sorted({1, n_threads}):
        torch.set_num_threads(threads)
        for n in (1, 64):
            images = rng.integers(0, 256, (n, 48, 48), dtype=np.uint8)
            frames = torch.from_numpy(images).float()[:, None]

            def bare(frames=frames):
                with torch.inference_mode():
                    for view in network._views(frames):
                        module(view, None).softmax(1)

            seconds = best_time(
                {"ours": lambda images=images: network.predict_proba(images), "bare": bare},
                options.rounds,
            )
            print(
                f"  {threads} thread{'s' * (threads > 1)}, batch of {n:2d}: "
                f"{n / seconds['ours']:6.0f} images/s, "
                f"{seconds['ours'] / n * 1e3:.2f} ms an image; "
                f"speed / bare module {seconds['bare'] / seconds['ours']:.2f}"
            )
    for first, words in (("import torch", "torch imported"), ("", "nothing imported")):
        times = load_times(options.network, first, 5)
        print(
            f"  loaded with a first answer, {words}: {np.median(times):.2f} s "
            f"(median of 5, {min(times):.2f} to {max(times):.2f})"
        )


if __name__ == "__main__":
    main()
