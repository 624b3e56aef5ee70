"""Train what the package ships: ``python -m ferpipe.train landmarks|candide FOLDER``."""

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
        options.train(options)
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
        keep_folds=options.keep_folds,
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


def _calibrate_candide(options):
    from ferpipe.candide.calibrated import save_calibrated
    from ferpipe.train.candide import Calibration, calibrate_and_judge, write_card
    from ferpipe.train.landmarks import read_annotated_faces

    faces = read_annotated_faces(options.folder)
    n_photos = len(set(faces.photos))
    print(f"{len(faces.images)} faces of {n_photos} photos")
    options.out.mkdir(parents=True, exist_ok=True)
    settings = Calibration(n_rounds=options.rounds)
    model, prior, scores = calibrate_and_judge(
        faces.landmarks, faces.photos, settings, n_folds=options.folds, seed=options.seed
    )
    save_calibrated(options.out / "wireframe.npz", model, prior)
    for name, value in scores.items():
        print(f"  {name:<38} {value:.4f}")
    parts = ["python", "-m", "ferpipe.train", "candide", "FOLDER"]
    parts += ["--rounds", str(options.rounds)]
    parts += ["--folds", str(options.folds), "--seed", str(options.seed)]
    protocol = (
        f"{options.folds} folds by photo, seed {options.seed}: fitted to every other of "
        "the hand-made points that show a vertex, measured on the rest, and the other way "
        "round; distance / outer eye distance. This one was calibrated on all the faces."
    )
    card = write_card(
        options.out,
        command=shlex.join(parts),
        n_faces=len(faces.images),
        n_photos=n_photos,
        protocol=protocol if options.folds else "not judged",
        scores=scores,
        settings=settings,
    )
    print(card)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m ferpipe.train", description="Train what the package ships."
    )
    assets = parser.add_subparsers(dest="asset", required=True, metavar="ASSET")
    pretrained = Path(ferpipe.__file__).parent / "pretrained"
    landmarks = assets.add_parser(
        "landmarks",
        help="the 68 points of a face",
        description="Train the networks that find 68 points, judge them by photo.",
    )
    landmarks.set_defaults(train=_train_landmarks)
    _add_common(landmarks, pretrained / "landmarks68")
    landmarks.add_argument("--epochs", type=int, help="of both networks, for a quick look")
    landmarks.add_argument(
        "--n-jobs", type=int, default=joblib.cpu_count(), help="trainings at a time"
    )
    landmarks.add_argument(
        "--keep-folds", action="store_true", help="keep the networks of the folds"
    )
    candide = assets.add_parser(
        "candide",
        help="the wireframe",
        description="Calibrate the wireframe on faces with 68 points, judge it by photo.",
    )
    candide.set_defaults(train=_calibrate_candide)
    _add_common(candide, pretrained / "candide")
    candide.add_argument(
        "--rounds", type=int, default=4, help="of fitting the faces and then the model"
    )
    return parser


def _add_common(parser, out):
    parser.add_argument("folder", help="NAME.jpg with NAME.pts, one face each (300-W)")
    parser.add_argument(
        "--out",
        type=Path,
        default=out,
        help="folder of what is trained and its card (default: the package's own)",
    )
    parser.add_argument(
        "--folds", type=int, default=5, help="folds of the judgement; 0 for none"
    )
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    sys.exit(main())
