"""Train what the package ships: ``python -m ferpipe.train landmarks FOLDER``."""

import argparse
import shlex
import sys
from pathlib import Path

import joblib

import ferpipe
from ferpipe.allocator import keep_freed_memory

__all__ = ["main"]


def main(arguments=None) -> int:
    """Train an asset, judge it and write it with its card.

    Parameters
    ----------
    arguments : list of str, default=None
        Command line; None takes the program's own.

    Returns
    -------
    status : int
        0, or 2 for wrong input and 130 after an interrupt.
    """
    options = _parser().parse_args(arguments)
    keep_freed_memory()
    try:
        _train_landmarks(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 130
    return 0


def _train_landmarks(options):
    from ferpipe.train.landmarks import (
        Recipe,
        read_annotated_faces,
        scores_of,
        train_and_judge,
        write_card,
    )

    faces = read_annotated_faces(options.folder)
    n_photos = len(set(faces.photos))
    print(f"{len(faces.images)} faces of {n_photos} photos")
    recipe = Recipe()
    if options.epochs is not None:
        recipe = Recipe(coarse_epochs=options.epochs, fine_epochs=options.epochs)
    options.out.mkdir(parents=True, exist_ok=True)
    found, missed = train_and_judge(
        faces,
        options.out,
        recipe,
        n_folds=options.folds,
        seed=options.seed,
        n_jobs=options.n_jobs,
    )
    scores, protocol = {}, "not judged"
    if found is not None:
        scores = scores_of(found, faces.landmarks, missed)
        protocol = (
            f"{options.folds} folds by photo, seed {options.seed}, from the boxes of "
            "dlib's detector (a fixed box in the middle where it finds none; those faces "
            "count); distance to the hand-made points / outer eye distance. The networks "
            "here were trained in the same way on all the faces."
        )
        for name, value in scores.items():
            print(f"  {name:<38} {value:.4f}")
    parts = ["python", "-m", "ferpipe.train", "landmarks", "FOLDER"]
    if options.epochs is not None:
        parts += ["--epochs", str(options.epochs)]
    parts += ["--folds", str(options.folds), "--seed", str(options.seed)]
    card = write_card(
        options.out,
        command=shlex.join(parts),
        n_faces=len(faces.images),
        n_photos=n_photos,
        protocol=protocol,
        scores=scores,
        recipe=recipe,
    )
    print(card)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m ferpipe.train", description="Train what the package ships."
    )
    assets = parser.add_subparsers(dest="asset", required=True, metavar="ASSET")
    landmarks = assets.add_parser(
        "landmarks",
        help="the 68 points of a face",
        description="Train the networks that find 68 points, judge them by photo.",
    )
    landmarks.add_argument("folder", help="NAME.jpg with NAME.pts, one face each (300-W)")
    landmarks.add_argument(
        "--out",
        type=Path,
        default=Path(ferpipe.__file__).parent / "pretrained" / "landmarks68",
        help="folder of the networks and their card (default: the package's own)",
    )
    landmarks.add_argument(
        "--folds", type=int, default=5, help="folds of the judgement; 0 for none"
    )
    landmarks.add_argument("--epochs", type=int, help="of both networks, for a quick look")
    landmarks.add_argument("--seed", type=int, default=0)
    landmarks.add_argument(
        "--n-jobs", type=int, default=joblib.cpu_count(), help="trainings at a time"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
