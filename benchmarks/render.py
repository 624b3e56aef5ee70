"""Speed of drawing wireframe faces.

``python benchmarks/render.py`` prints images a second at 96 x 96 with one and two
processes for 1024 random faces, each of another person and of twenty persons in turn, and
milliseconds a face by size: the best of three rounds each. ``--draw FILE`` writes a sheet
of expressions by poses, to be looked at.
"""

import argparse
import sys
import time
from functools import partial

import cv2
import numpy as np

from ferpipe.candide.template import template_model
from ferpipe.synthesis.render import random_appearance, render_faces

N_FACES, N_PERSONS, SIZE = 1024, 20, 96
ROUNDS = 3
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"AU06": 1, "AU12": 1, "AU25": 0.7},
    "surprise": {"AU01": 1, "AU02": 1, "AU05": 1, "AU26": 1},
    "anger": {"AU04": 1, "AU07": 0.6, "AU23": 1},
    "disgust": {"AU09": 1, "AU10": 1},
    "sadness": {"AU01": 1, "AU04": 0.7, "AU15": 1, "AU17": 0.4},
    "fear": {"AU01": 1, "AU02": 0.8, "AU04": 0.8, "AU05": 1, "AU20": 1, "AU25": 1},
    "contempt": {"AU14_left": 1, "AU12_left": 0.4},
}
# rx, ry and rz
POSES = ((0, 0, 0), (0, 0.35, 0), (0.1, -0.5, 0.1), (-0.25, 0.15, 0), (0, 0.9, 0))


def parameters_of(model, size, units, angles, sigma):
    """Return the parameters of a face in the middle of the image."""
    alpha = [
        units.get(name, units.get(name.partition("_")[0], 0.0))
        for name in model.animation_names
    ]
    return np.array([*angles, 0.36 * size, (size - 1) / 2, 0.52 * size, *sigma, *alpha])


def random_parameters(model, rng, n, size):
    """Draw expressions, poses and persons."""
    expressions = list(EXPRESSIONS.values())
    n_shape = len(model.shape_names)
    return np.array(
        [
            parameters_of(
                model,
                size,
                expressions[rng.integers(len(expressions))],
                rng.normal(0, (0.15, 0.3, 0.1)),
                rng.normal(0, 0.6, n_shape),
            )
            for _ in range(n)
        ]
    )


def fastest(draw):
    """Return the seconds that drawing takes at best."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        draw()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def speed(model):
    """Print images a second and milliseconds a face."""
    rng = np.random.default_rng(0)
    parameters = random_parameters(model, rng, N_FACES, SIZE)
    strangers = [random_appearance(rng) for _ in range(N_FACES)]
    known = [
        random_appearance(rng, person=strangers[i * N_PERSONS // N_FACES])
        for i in range(N_FACES)
    ]
    print(f"{N_FACES} faces of {SIZE} x {SIZE}: images a second, ms a face")
    for name, looks in (("all strangers", strangers), (f"{N_PERSONS} persons", known)):
        for n_jobs in (1, 2):
            draw = partial(render_faces, model, parameters, looks, SIZE, n_jobs=n_jobs)
            draw()
            seconds = fastest(draw)
            print(
                f"  {name:<14} {n_jobs} processes {N_FACES / seconds:6.0f} "
                f"{1000 * seconds / N_FACES:6.2f}"
            )
    print("ms a face of a known person, one process")
    for size in (48, 96, 128, 224):
        parameters = random_parameters(model, rng, 100, size)
        seconds = fastest(partial(render_faces, model, parameters, known[:1] * 100, size))
        print(f"  {size:>4} {10 * seconds:6.2f}")


def sheet(model, size=SIZE):
    """Draw expressions from left to right, poses from top to bottom."""
    rng = np.random.default_rng(0)
    n_shape = len(model.shape_names)
    parameters = [
        parameters_of(model, size, units, angles, rng.normal(0, 0.6, n_shape))
        for angles in POSES
        for units in EXPRESSIONS.values()
    ]
    appearances = [random_appearance(rng) for _ in parameters]
    images = render_faces(model, parameters, appearances, size)
    rows = images.reshape(len(POSES), len(EXPRESSIONS), size, size).swapaxes(1, 2)
    return rows.reshape(len(POSES) * size, len(EXPRESSIONS) * size)


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", help="file for a sheet of synthetic faces")
    options = parser.parse_args()
    model = template_model()
    speed(model)
    if options.draw:
        cv2.imwrite(options.draw, sheet(model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
