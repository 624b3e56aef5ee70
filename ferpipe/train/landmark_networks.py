"""Train the networks that find the 68 points of a face, and assess them by photo."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from torch.nn import functional
from tqdm import tqdm

from ferpipe._system.processes import in_processes
from ferpipe.candide.fit_cascade import WireframeCascade
from ferpipe.datasets.pts import read_pts
from ferpipe.faces.alignment import eye_transform
from ferpipe.faces.detection import Face, find_face
from ferpipe.faces.landmark_cascade import (
    CROP_SIDE,
    PointCascade,
    crop_transform,
    load_cascade,
    read_metadata,
)
from ferpipe.faces.landmark_network import PointNetwork, export_network
from ferpipe.faces.landmark_points import (
    INNER,
    MIRRORED,
    N_POINTS,
    eye_centers,
    outer_eye_distance,
)
from ferpipe.faces.landmarks import central_face
from ferpipe.geometry import fit_similarity, transform_points, warp
from ferpipe.io.images import read_image
from ferpipe.train.crop_loop import train_network
from ferpipe.train.crops import change_picture, far, near, shear

__all__ = [
    "AnnotatedFaces",
    "Recipe",
    "find_faces",
    "find_points",
    "read_annotated_faces",
    "scores_of",
    "train",
    "train_and_evaluate",
]


@dataclass(frozen=True)
class AnnotatedFaces:
    """Photos of one face each with its points.

    Attributes
    ----------
    images : list of ndarray of shape (h_i, w_i), uint8
        Gray.
    landmarks : ndarray of shape (n, 68, 2)
        Points set by hand.
    photos : ndarray of shape (n,), str
        The photo that each face was cut from; faces of one photo stay on one side.
    """

    images: list[NDArray[np.uint8]]
    landmarks: NDArray[np.float64]
    photos: NDArray[np.str_]

    def take(self, indices: NDArray[np.intp]) -> "AnnotatedFaces":
        """Return some of the faces."""
        images = [self.images[i] for i in indices]
        return AnnotatedFaces(images, self.landmarks[indices], self.photos[indices])


def read_annotated_faces(folder: Path | str) -> AnnotatedFaces:
    """Read a folder of ``NAME.jpg`` (or .png) with ``NAME.pts`` beside each.

    Parameters
    ----------
    folder : str or path
        A name such as ``helen_123_1`` is face 1 of the photo ``helen_123``.

    Returns
    -------
    faces : AnnotatedFaces

    Raises
    ------
    ValueError
        If the folder holds no such pair, or a face has another number of points.
    """
    images, landmarks, photos = [], [], []
    for points_file in sorted(Path(folder).expanduser().glob("*.pts")):
        pictures = [points_file.with_suffix(ending) for ending in (".jpg", ".png")]
        found = [picture for picture in pictures if picture.is_file()]
        if not found:
            raise ValueError(f"{points_file}: there is no .jpg or .png of that name.")
        points = read_pts(points_file)
        if len(points) != N_POINTS:
            raise ValueError(f"{points_file}: expected 68 points, found {len(points)}.")
        images.append(read_image(found[0]))
        landmarks.append(points)
        photos.append(points_file.stem.rsplit("_", 1)[0])
    if not images:
        raise ValueError(f"{folder}: expected NAME.jpg and NAME.pts, found no .pts file.")
    return AnnotatedFaces(images, np.array(landmarks), np.array(photos))


@dataclass(frozen=True)
class Recipe:
    """How the two networks are trained.

    Attributes
    ----------
    coarse_size, fine_size : int
        Sides of their crops, in pixels.
    coarse_channels, fine_channels : tuple of int
        As :class:`ferpipe.faces.landmark_network.PointNetwork` takes them.
    coarse_epochs, fine_epochs : int
        Passes over the faces.
    batch_size : int
        Faces a step.
    lr : float
        Highest learning rate of the cycle.
    weight_decay : float
        AdamW's.
    """

    coarse_size: int = 64
    fine_size: int = 96
    coarse_channels: tuple[int, ...] = (16, 32, 48, 96)
    fine_channels: tuple[int, ...] = (16, 32, 64, 128)
    coarse_epochs: int = 100
    fine_epochs: int = 280
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 1e-2


def train(
    faces: AnnotatedFaces,
    folder: Path | str,
    recipe: Recipe = Recipe(),
    *,
    seed: int = 0,
    name: str = "",
    position: int = 0,
) -> None:
    """Train both networks and write them to ``coarse.onnx`` and ``fine.onnx``.

    A network that was already trained there, on the same faces in the same way, is kept:
    a training that was stopped goes on with the first network that is missing.

    Parameters
    ----------
    faces : AnnotatedFaces
        Training faces.
    folder : str or path
        Where the files go.
    recipe : Recipe
        How.
    seed : int, default=0
        Of the weights and of the random crops.
    name : str, default=""
        Shown before the progress bar.
    position : int, default=0
        Line of the progress bar.
    """
    mean_shape = _mean_shape(faces.landmarks)
    width, center = _mean_box(faces, mean_shape)
    facts = {
        "mean_shape": np.round(mean_shape, 6).tolist(),
        "box_width": width,
        "box_center": center.tolist(),
        "training": joblib.hash(
            (faces.images, faces.landmarks, asdict(recipe), seed), coerce_mmap=True
        ),
    }
    for stage, size, channels, epochs, jitter in (
        ("coarse", recipe.coarse_size, recipe.coarse_channels, recipe.coarse_epochs, far),
        ("fine", recipe.fine_size, recipe.fine_channels, recipe.fine_epochs, near),
    ):
        path = Path(folder) / f"{stage}.onnx"
        if path.is_file() and read_metadata(path).get("training") == facts["training"]:
            continue
        crops = _Crops(faces, mean_shape, size, jitter, np.random.default_rng(seed))
        batches = crops.batches(min(recipe.batch_size, len(faces.images)))
        network = train_network(
            partial(PointNetwork, size, channels),
            partial(next, batches),
            partial(_loss_of, unit=size / CROP_SIDE),
            n_epochs=epochs,
            n_steps=max(1, len(faces.images) // recipe.batch_size),
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            seed=seed,
            progress=tqdm(
                desc=f"{name} {stage}", total=epochs, unit="epoch", position=position
            ),
        )
        export_network(network, path, crops.sample(_N_CALIBRATION), **facts)


def _loss_of(
    found: torch.Tensor, points: NDArray[np.float32], *, unit: float
) -> torch.Tensor:
    """Return the loss of points found, their errors counted in outer eye distances."""
    error = (found - torch.from_numpy(points).to(found.device)) / unit
    return 2 * functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.02)


def train_and_evaluate(
    faces: AnnotatedFaces,
    folder: Path | str,
    recipe: Recipe = Recipe(),
    *,
    n_folds: int = 5,
    seed: int = 0,
    n_jobs: int = 1,
    keep_folds: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | tuple[None, None]:
    """Train on all the faces, and on the other folds to measure on each.

    Parameters
    ----------
    faces : AnnotatedFaces
        All faces; those of one photo stay in one fold.
    folder : str or path
        Where the networks that were trained on all the faces go; those of the folds are
        kept in its subfolder ``folds`` until the last of them is measured.
    recipe : Recipe
        How the networks are trained.
    n_folds : int, default=5
        Folds; 0 for no judgement.
    seed : int, default=0
        Of the folds and of the trainings.
    n_jobs : int, default=1
        Trainings at a time, one process each.
    keep_folds : bool, default=False
        Keep the networks of the folds, for other judgements.

    Returns
    -------
    found : ndarray of shape (n, 68, 2), or None without folds
        The points that the networks of the other folds find. Every face counts: one that
        the detector misses starts from a fixed box in the middle.
    missed : ndarray of shape (n,), bool, or None without folds
        Where the detector found no face.
    """
    splits = []
    if n_folds:
        folds = GroupKFold(n_folds, shuffle=True, random_state=seed)
        splits = list(folds.split(faces.images, groups=faces.photos))
    jobs = [joblib.delayed(_train_on_all)(faces, folder, recipe, seed)]
    jobs += [
        joblib.delayed(_train_and_measure)(faces, fit, test, folder, recipe, seed, number)
        for number, (fit, test) in enumerate(splits, start=1)
    ]
    _, *parts = in_processes(jobs, n_jobs=n_jobs)
    if not n_folds:
        return None, None
    found = np.empty((len(faces.images), N_POINTS, 2))
    missed = np.empty(len(faces.images), bool)
    for (_, test), (part, part_missed) in zip(splits, parts, strict=True):
        found[test], missed[test] = part, part_missed
    if not keep_folds:
        shutil.rmtree(Path(folder) / "folds")
    return found, missed


def scores_of(
    found: NDArray[Any], truth: NDArray[Any], missed: NDArray[Any]
) -> dict[str, float]:
    """Sum up how far points are from the hand-made ones, and crops from each other.

    Parameters
    ----------
    found, truth : ndarray of shape (n, 68, 2)
        Points found and points set by hand.
    missed : ndarray of shape (n,), bool
        Where the detector found no face.

    Returns
    -------
    scores : dict
        Errors are in outer eye distances. ``spread_of_aligned_eyes``: when FaceAligner
        brings the found eyes to fixed places, the root mean square distance of the
        hand-made eye centers from their own mean place, in eye-center distances.
    """
    distance = np.linalg.norm(found - truth, axis=2)
    errors = distance / outer_eye_distance(truth)[:, None]
    eyes = np.array(
        [
            transform_points(eye_transform(eye_centers(one), 1), eye_centers(other))
            for one, other in zip(found, truth, strict=True)
        ]
    )
    apart = np.linalg.norm(np.diff(eyes.mean(0), axis=0))
    spread = np.sqrt(((eyes - eyes.mean(0)) ** 2).sum(2).mean()) / apart
    scores = {
        "mean_error_all_68": errors.mean(),
        "mean_error_inner_51": errors[:, INNER].mean(),
        "median_error_all_68": np.median(errors.mean(1)),
        "share_of_faces_above_0.1": (errors.mean(1) > 0.1).mean(),
        "share_of_faces_the_detector_missed": missed.mean(),
        "mean_error_all_68_of_found": errors[~missed].mean(),
        "spread_of_aligned_eyes": spread,
    }
    return {name: round(float(value), 5) for name, value in scores.items()}


def _train_on_all(
    faces: AnnotatedFaces, folder: Path | str, recipe: Recipe, seed: int
) -> None:
    torch.set_num_threads(1)
    train(faces, folder, recipe, seed=seed, name="all faces")


def _train_and_measure(
    faces: AnnotatedFaces,
    fit: NDArray[np.intp],
    test: NDArray[np.intp],
    folder: Path | str,
    recipe: Recipe,
    seed: int,
    number: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    torch.set_num_threads(1)
    folder = Path(folder) / "folds" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"fold {number}"
    train(faces.take(fit), folder, recipe, seed=seed, name=name, position=number)
    return find_points(load_cascade(folder), faces.take(test))


def find_points(
    cascade: PointCascade, faces: AnnotatedFaces
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Let networks find the points of annotated faces, from the detector's boxes.

    Parameters
    ----------
    cascade : PointCascade
        Both networks.
    faces : AnnotatedFaces
        Faces that they have not seen.

    Returns
    -------
    found : ndarray of shape (n, 68, 2)
        ``(x, y)`` in pixels.
    missed : ndarray of shape (n,), bool
        Where the detector found no face, and a fixed box was taken.
    """
    boxes, missed = find_faces(cascade, faces.images)
    found = [
        cascade.predict(image, face.box, face.angle)
        for image, face in zip(faces.images, boxes, strict=True)
    ]
    return np.array(found), missed


def find_faces(
    cascade: PointCascade | WireframeCascade | None, images: Sequence[NDArray[np.uint8]]
) -> tuple[list[Face], NDArray[np.bool_]]:
    """Let the detector find the face of each image.

    Parameters
    ----------
    cascade : PointCascade, WireframeCascade or None
        Scores doubtful finds again; None leaves them to the detector's threshold.
    images : list of ndarray of shape (h_i, w_i), uint8
        Gray.

    Returns
    -------
    faces : list of Face
        A fixed box in the middle where the detector finds none.
    missed : ndarray of shape (n,), bool
        Where it finds none.
    """
    rescorers = [partial(cascade.rescore, image) if cascade else None for image in images]
    found = [
        find_face(image, rescore=rescore)
        for image, rescore in zip(images, rescorers, strict=True)
    ]
    missed = np.array([face is None for face in found])
    faces = [
        face or central_face(image, width=_START_WIDTH, center=(0.5, 0.5))
        for face, image in zip(found, images, strict=True)
    ]
    return faces, missed


def _mean_shape(landmarks: NDArray[Any]) -> NDArray[np.float64]:
    """Return the symmetric mean of the shapes, centered, level, outer eye distance 1."""
    mean = landmarks[0]
    for _ in range(5):
        fitted = [
            transform_points(fit_similarity(shape, mean), shape) for shape in landmarks
        ]
        mean = np.mean(fitted, axis=0)
        mean = mean - mean.mean(0)
        mean = (mean + (mean * (-1, 1))[MIRRORED]) / 2
        mean = mean / outer_eye_distance(mean)
    return mean


def _mean_box(
    faces: AnnotatedFaces, mean_shape: NDArray[Any]
) -> tuple[float, NDArray[np.float64]]:
    """Return the median width and center of detected boxes in the mean face's frame."""
    widths, centers = [], []
    for image, shape in zip(faces.images, faces.landmarks, strict=True):
        face = find_face(image)
        if face is None:
            continue
        to_mean = fit_similarity(shape, mean_shape)
        x, y, width, height = face.box
        middle = np.array([x + width / 2, y + height / 2]) - 0.5
        center = transform_points(to_mean, middle)
        if np.abs(center).max() < 1:  # not a find beside the face
            centers.append(center)
            widths.append(width * np.sqrt(np.linalg.det(to_mean[:, :2])))
    if not widths:
        raise ValueError("The detector finds a face in none of the training images.")
    return float(np.median(widths)), np.median(centers, axis=0) * (0, 1)


# width of the box that faces start from when the detector finds none, in sides
_START_WIDTH = 0.55
# crops by which the ranges of 8-bit activations are set
_N_CALIBRATION = 300


class _Crops:
    """Random training crops of annotated faces, mirrored and changed in many ways."""

    def __init__(
        self,
        faces: AnnotatedFaces,
        mean_shape: NDArray[Any],
        size: int,
        jitter: Callable[..., NDArray[np.float64]],
        rng: np.random.Generator,
    ) -> None:
        self.faces, self.mean_shape, self.size = faces, mean_shape, size
        self.jitter, self.rng = jitter, rng
        self.middle = (mean_shape.min(0) + mean_shape.max(0)) / 2
        self.placements = [fit_similarity(mean_shape, face) for face in faces.landmarks]

    def draw(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return a crop of a face, float32, and its points in pixels of the crop."""
        rng, size = self.rng, self.size
        placement = self.jitter(rng, self.placements[index], self.middle)
        matrix = crop_transform(placement, self.mean_shape, size)
        if rng.random() < 0.5:
            matrix = shear(rng, matrix, size)
        crop = warp(self.faces.images[index], matrix, (size, size)).astype(np.float32)
        points = transform_points(matrix, self.faces.landmarks[index])
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
            points = (points * (-1, 1) + (size - 1, 0))[MIRRORED]
        return change_picture(crop, rng), points

    def batches(self, n: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield crops (n, size, size) and their points, all faces in turn, without end."""
        while True:
            order = self.rng.permutation(len(self.faces.images))
            for start in range(0, len(order) - n + 1, n):
                drawn = [self.draw(index) for index in order[start : start + n]]
                crops, points = zip(*drawn, strict=True)
                yield np.stack(crops), np.stack(points).astype(np.float32)

    def sample(self, n: int) -> NDArray[np.uint8]:
        """Return n crops of random faces, uint8 of shape (n, size, size)."""
        faces = self.rng.integers(0, len(self.faces.images), n)
        drawn = np.stack([self.draw(index)[0] for index in faces])
        return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)
