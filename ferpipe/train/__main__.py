"""Train what the package ships: ``python -m ferpipe.train ASSET FOLDER``."""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferpipe._system.memory import keep_freed_memory
from ferpipe._system.terminal import careful_output, error_line
from ferpipe._system.threads import n_cores

if TYPE_CHECKING:
    from ferpipe.train.landmark_networks import AnnotatedFaces

__all__ = ["main"]

_BOXES = (
    "the boxes of dlib's detector (a fixed box in the middle where it finds none; those "
    "faces count)"
)


def main(arguments: list[str] | None = None) -> int:
    """Train an asset, assess it and write it with its card.

    Parameters
    ----------
    arguments : list of str, default=None
        Command line; None takes the program's own.

    Returns
    -------
    status : int
        0, or 2 for wrong input and 130 after an interrupt.
    """
    with careful_output():
        options = _parser().parse_args(arguments)
        keep_freed_memory()
        try:
            _run(options)
        except (OSError, ValueError) as error:
            error_line(error)
            return 2
        except KeyboardInterrupt:
            print("stopped.", file=sys.stderr)
            return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    from ferpipe.train.cards import write_card

    if options.out is None:
        raise ValueError(
            "--out FOLDER is missing: name the folder for what is trained and its card. "
            "(The package's own folder is not written to by itself: whatever is cached "
            "would be computed anew.)"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    if options.asset == "fingerprints":
        from ferpipe.train.expressions import add_fingerprints

        print(add_fingerprints(options.folder, options.out))
        return
    card = options.train(options)
    path = write_card(options.out, **card)
    for name, value in card["scores"].items():
        print(f"  {name:<38} {value}")
    print(path)


def _on_faces(
    train: Callable[..., dict[str, Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Train on annotated faces; return what the card says."""
    from ferpipe.train.landmark_networks import read_annotated_faces

    faces = read_annotated_faces(options.folder)
    n_photos = len(set(faces.photos))
    print(f"{len(faces.images)} faces of {n_photos} photos")
    command = ["python", "-m", "ferpipe.train", options.asset, "FOLDER", "--out", "OUT"]
    for name in ("epochs", "rounds", "networks", "folds", "seed"):
        value = getattr(options, name, None)
        if value is not None:
            command += [f"--{name}", "NETWORKS" if name == "networks" else str(value)]
    return {
        **train(faces, options),
        "data": f"{len(faces.images)} faces of {n_photos} photos: AFW and the training "
        "part of Helen, with the 68 points of the 300-W challenge",
        "terms": "300-W: research purposes only, so these weights are for research only",
        "command": shlex.join(command),
    }


def _train_expressions(options: argparse.Namespace) -> dict[str, Any]:
    from ferpipe.train.expressions import train_expressions

    trained = train_expressions(options.experiment, options.out)
    return {
        "files": ["network.safetensors", "network.fingerprints.npz"],
        "what": "one of seven expressions from a gray crop of a face, for ImageNetwork",
        "data": "FER2013, the part Training with its official labels: 48x48 gray faces "
        "collected by image search (Goodfellow et al. 2013); no other images",
        "terms": "FER2013: research purposes only, so these weights are for research only",
        "protocol": trained.protocol,
        "scores": trained.scores,
        "recipe": trained.recipe,
        "command": f"python -m ferpipe.train expressions {options.experiment} --out OUT",
        "packages": ["torch", "skorch", "numpy"],
    }


def _train_landmarks(
    faces: "AnnotatedFaces", options: argparse.Namespace
) -> dict[str, Any]:
    from ferpipe.train.landmark_networks import Recipe, scores_of, train_and_evaluate

    recipe = Recipe()
    if options.epochs is not None:
        recipe = Recipe(coarse_epochs=options.epochs, fine_epochs=options.epochs)
    found, missed = train_and_evaluate(
        faces,
        options.out,
        recipe,
        n_folds=options.folds,
        seed=options.seed,
        n_jobs=options.n_jobs,
        keep_folds=options.keep_folds,
    )
    scores, protocol = {}, "not evaluated"
    if found is not None and missed is not None:
        scores = scores_of(found, faces.landmarks, missed)
        protocol = (
            f"{options.folds} folds by photo, seed {options.seed}, from {_BOXES}; distance "
            "to the hand-made points / outer eye distance. The networks here were trained "
            "in the same way on all the faces."
        )
    return {
        "files": ["coarse.onnx", "fine.onnx"],
        "what": "68 facial landmarks from a gray image and a box of the face",
        "protocol": protocol,
        "scores": scores,
        "recipe": asdict(recipe),
        "packages": ["torch", "onnx", "numpy"],
    }


def _calibrate_candide(
    faces: "AnnotatedFaces", options: argparse.Namespace
) -> dict[str, Any]:
    from ferpipe.candide.calibrated import save_calibrated
    from ferpipe.train.wireframe import Calibration, calibrate_and_evaluate

    settings = Calibration(n_rounds=options.rounds)
    model, prior, scores = calibrate_and_evaluate(
        faces.landmarks, faces.photos, settings, n_folds=options.folds, seed=options.seed
    )
    save_calibrated(options.out / "wireframe.npz", model, prior)
    protocol = (
        f"{options.folds} folds by photo, seed {options.seed}: fitted to every other of "
        "the hand-made points that show a vertex, measured on the rest, and the other way "
        "round; distance / outer eye distance. This one was calibrated on all the faces."
    )
    return {
        "files": ["wireframe.npz"],
        "what": "rest shape, shape units and animation units of the wireframe, and the "
        "Gaussian prior of its parameters",
        "protocol": protocol if options.folds else "not evaluated",
        "scores": scores,
        "recipe": asdict(settings),
        "packages": ["numpy", "scipy"],
    }


def _train_objective(
    faces: "AnnotatedFaces", options: argparse.Namespace
) -> dict[str, Any]:
    from ferpipe.train.learned_objectives import SETTINGS, train_and_evaluate

    objective, scores = train_and_evaluate(
        faces,
        options.out,
        n_folds=options.folds,
        seed=options.seed,
        keep_folds=options.keep_folds,
    )
    protocol = (
        f"{options.folds} folds by photo, seed {options.seed}: fitted from {_BOXES}, with "
        "a wireframe calibrated on the other folds; distance to the hand-made points that "
        "show a vertex / outer eye distance. P1 and P2 on lines displaced as in training. "
        "This one was trained on all the faces."
    )
    settings = objective.get_params()
    return {
        "files": ["objective.npz"],
        "what": "regressors of how far places in an image are from where the wireframe's "
        "visible points are, for LearnedObjective",
        "protocol": protocol if options.folds else "not evaluated",
        "scores": scores,
        "recipe": {name: settings[name] for name in SETTINGS},
        "packages": ["numpy", "scikit-learn"],
    }


def _train_fitter(faces: "AnnotatedFaces", options: argparse.Namespace) -> dict[str, Any]:
    from ferpipe.candide.calibrated import load_calibrated
    from ferpipe.candide.fit_cascade import load_wireframe_cascade
    from ferpipe.faces.landmarks import load_model
    from ferpipe.train.wireframe_network import (
        FitterRecipe,
        scores_of_errors,
        scores_on_synthetic_faces,
        train_and_evaluate_fitter,
    )

    recipe = FitterRecipe()
    if options.epochs is not None:
        recipe = FitterRecipe(n_epochs=options.epochs)
    model, prior = load_calibrated()
    errors, score = train_and_evaluate_fitter(
        faces,
        options.out,
        options.networks,
        model,
        prior,
        recipe,
        seed=options.seed,
        n_jobs=options.n_jobs,
    )
    cascade = load_wireframe_cascade(options.out, load_model("ferpipe"), model)
    scores = {
        "quality_area_under_the_curve": score,
        "synthetic_faces": scores_on_synthetic_faces(cascade, prior),
    }
    protocol = (
        "Quality: good placements against displaced ones and noise, on a fifth of the "
        "photos. Synthetic faces: 400 people that no training has seen, at 128 pixels; "
        "rotation in degrees, and each unit's correlation with the truth (synthetic)."
    )
    if errors is not None:
        scores = {**scores_of_errors(errors), **scores}
        protocol = (
            f"The folds by photo of the landmark networks, seed {options.seed}, with those "
            f"networks and a wireframe of the same folds, from {_BOXES}; distance to the "
            "hand-made points that show a vertex / outer eye distance. The network here "
            f"was trained in the same way on all the faces. {protocol}"
        )
    return {
        "files": ["wireframe.onnx", "quality.npz"],
        "what": "the wireframe's parameters from a gray crop of a face, and the quality of "
        "a fit",
        "protocol": protocol,
        "scores": scores,
        "recipe": asdict(recipe),
        "packages": ["torch", "onnx", "numpy", "scikit-learn"],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ferpipe.train", description="Train what the package ships."
    )
    assets = parser.add_subparsers(dest="asset", required=True, metavar="ASSET")
    landmarks = assets.add_parser(
        "landmarks",
        help="the 68 points of a face",
        description="Train the networks that find 68 points, assess them by photo.",
    )
    landmarks.set_defaults(train=partial(_on_faces, _train_landmarks))
    _add_common(landmarks)
    landmarks.add_argument("--epochs", type=int, help="of both networks, for a quick look")
    landmarks.add_argument(
        "--n-jobs", type=int, default=n_cores(), help="trainings at a time"
    )
    landmarks.add_argument(
        "--keep-folds", action="store_true", help="keep the networks of the folds"
    )
    candide = assets.add_parser(
        "candide",
        help="the wireframe",
        description="Calibrate the wireframe on faces with 68 points, assess it by photo.",
    )
    candide.set_defaults(train=partial(_on_faces, _calibrate_candide))
    _add_common(candide)
    candide.add_argument(
        "--rounds", type=int, default=4, help="of fitting the faces and then the model"
    )
    objective = assets.add_parser(
        "objective",
        help="the objective that is learned",
        description="Train what says where the wireframe's points should go, by photo.",
    )
    objective.set_defaults(train=partial(_on_faces, _train_objective))
    _add_common(objective)
    objective.add_argument(
        "--keep-folds", action="store_true", help="keep the objectives of the folds"
    )
    fitter = assets.add_parser(
        "fitter",
        help="the network of CandideFitter",
        description="Train what gives the wireframe's parameters, assess it by photo.",
    )
    fitter.set_defaults(train=partial(_on_faces, _train_fitter))
    _add_common(fitter, folds=False)
    fitter.add_argument(
        "--networks",
        type=Path,
        help="what the landmarks' training wrote with --keep-folds, for the judgement",
    )
    fitter.add_argument("--epochs", type=int, help="for a quick look")
    fitter.add_argument("--n-jobs", type=int, default=n_cores(), help="trainings at a time")
    expressions = assets.add_parser(
        "expressions",
        help="the network that names expressions",
        description="Train the network of an experiment file and write its weights.",
    )
    expressions.set_defaults(train=_train_expressions)
    expressions.add_argument("experiment", help="pipelines/fer2013_cnn.yaml")
    _add_out(expressions)
    images = assets.add_parser(
        "fingerprints",
        help="the training images of a network that was trained before",
        description="Write the fingerprints of FER2013's Training beside a network.",
    )
    images.add_argument("folder", help="of FER2013")
    _add_out(images)
    return parser


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for what is trained and its card; it must be named",
    )


def _add_common(parser: argparse.ArgumentParser, folds: bool = True) -> None:
    parser.add_argument("folder", help="NAME.jpg with NAME.pts, one face each (300-W)")
    _add_out(parser)
    if folds:
        parser.add_argument(
            "--folds", type=int, default=5, help="folds of the judgement; 0 for none"
        )
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    # as Ctrl-C does: what trains in other processes is stopped too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
