"""Train the networks that find the 68 points of a face, and judge them by photo."""

import copy
import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.model_selection import GroupKFold
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from ferpipe.align import eye_transform
from ferpipe.detect import Face, find_face
from ferpipe.geometry import (
    compose,
    fit_similarity,
    similarity,
    transform_points,
    warp,
)
from ferpipe.images import read_image
from ferpipe.landmarks.cascade import CROP_SIDE, crop_transform, load_cascade, read_facts
from ferpipe.landmarks.network import PointNetwork, export_network
from ferpipe.landmarks.points import (
    INNER,
    MIRRORED,
    N_POINTS,
    eye_centres,
    outer_eye_distance,
    read_pts,
)
from ferpipe.networks.loop import find_device, uses_bfloat16

__all__ = [
    "AnnotatedFaces",
    "Recipe",
    "find_points",
    "read_annotated_faces",
    "scores_of",
    "train",
    "train_and_judge",
    "write_card",
]


@dataclass(frozen=True)
class AnnotatedFaces:
    """Photos of one face each with its points.

    Attributes
    ----------
    images : list of ndarray of shape (h_i, w_i), uint8
        Grey.
    landmarks : ndarray of shape (n, 68, 2)
        Points set by hand.
    photos : ndarray of shape (n,), str
        The photo that each face was cut from; faces of one photo stay on one side.
    """

    images: list
    landmarks: np.ndarray
    photos: np.ndarray

    def take(self, indices):
        """Return some of the faces."""
        images = [self.images[i] for i in indices]
        return AnnotatedFaces(images, self.landmarks[indices], self.photos[indices])


def read_annotated_faces(folder) -> AnnotatedFaces:
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
        As :class:`ferpipe.landmarks.network.PointNetwork` takes them.
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
    coarse_channels: tuple = (16, 32, 48, 96)
    fine_channels: tuple = (16, 32, 64, 128)
    coarse_epochs: int = 100
    fine_epochs: int = 280
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 1e-2


def train(faces, folder, recipe=Recipe(), *, seed=0, name="", position=0):
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
    width, centre = _mean_box(faces, mean_shape)
    facts = {
        "mean_shape": np.round(mean_shape, 6).tolist(),
        "box_width": width,
        "box_centre": centre.tolist(),
        "training": joblib.hash(
            (faces.images, faces.landmarks, asdict(recipe), seed), coerce_mmap=True
        ),
    }
    for stage, size, channels, epochs, jitter in (
        ("coarse", recipe.coarse_size, recipe.coarse_channels, recipe.coarse_epochs, _far),
        ("fine", recipe.fine_size, recipe.fine_channels, recipe.fine_epochs, _near),
    ):
        path = Path(folder) / f"{stage}.onnx"
        if path.is_file() and read_facts(path).get("training") == facts["training"]:
            continue
        crops = _Crops(faces, mean_shape, size, jitter, np.random.default_rng(seed))
        network = _train_network(
            crops,
            lambda size=size, channels=channels: PointNetwork(size, channels),
            epochs,
            recipe,
            seed,
            tqdm(desc=f"{name} {stage}", total=epochs, unit="epoch", position=position),
        )
        export_network(network, path, crops.sample(_N_CALIBRATION), **facts)


def train_and_judge(
    faces,
    folder,
    recipe=Recipe(),
    *,
    n_folds=5,
    seed=0,
    n_jobs=1,
    keep_folds=False,
):
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
    _, *parts = joblib.Parallel(n_jobs=n_jobs)(jobs)
    if not n_folds:
        return None, None
    found = np.empty((len(faces.images), N_POINTS, 2))
    missed = np.empty(len(faces.images), bool)
    for (_, test), (part, part_missed) in zip(splits, parts, strict=True):
        found[test], missed[test] = part, part_missed
    if not keep_folds:
        shutil.rmtree(Path(folder) / "folds")
    return found, missed


def scores_of(found, truth, missed) -> dict:
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
        hand-made eye centres from their own mean place, in eye-centre distances.
    """
    distance = np.linalg.norm(found - truth, axis=2)
    errors = distance / outer_eye_distance(truth)[:, None]
    eyes = np.array(
        [
            transform_points(eye_transform(eye_centres(one), 1), eye_centres(other))
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


def write_card(folder, *, command, n_faces, n_photos, protocol, scores, recipe) -> Path:
    """Write ``card.json`` beside the networks.

    Parameters
    ----------
    folder : str or path
        Holds the networks.
    command : str
        What trains them again.
    n_faces, n_photos : int
        Size of the training data.
    protocol : str
        How the scores were obtained.
    scores : dict
        What :func:`scores_of` returned.
    recipe : Recipe
        How the networks were trained.
    """
    folder = Path(folder)
    files = {name: folder / name for name in ("coarse.onnx", "fine.onnx")}
    card = {
        "what": "68 facial landmarks from a grey image and a box of the face",
        "data": f"{n_faces} faces of {n_photos} photos: AFW and the training part of "
        "Helen, with the 68 points of the 300-W challenge",
        "terms": "300-W: research purposes only, so these weights are for research only",
        "protocol": protocol,
        "scores": scores,
        "command": command,
        "recipe": asdict(recipe),
        "bytes": {name: file.stat().st_size for name, file in files.items()},
        "sha256": {
            name: sha256(file.read_bytes()).hexdigest() for name, file in files.items()
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "onnx", "numpy")},
        },
    }
    path = folder / "card.json"
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def _train_on_all(faces, folder, recipe, seed):
    torch.set_num_threads(1)
    train(faces, folder, recipe, seed=seed, name="all faces")


def _train_and_measure(faces, fit, test, folder, recipe, seed, number):
    torch.set_num_threads(1)
    folder = Path(folder) / "folds" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"fold {number}"
    train(faces.take(fit), folder, recipe, seed=seed, name=name, position=number)
    return find_points(load_cascade(folder), faces.take(test))


def find_points(cascade, faces):
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
    found, missed = [], []
    for image in faces.images:
        face = find_face(image, judge=partial(cascade.judge, image))
        missed.append(face is None)
        face = face or _central_face(image)
        found.append(cascade.predict(image, face.box, face.angle))
    return np.array(found), np.array(missed)


def _mean_shape(landmarks):
    """Return the symmetric mean of the shapes, centred, level, outer eye distance 1."""
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


def _mean_box(faces, mean_shape):
    """Return the median width and centre of detected boxes in the mean face's frame."""
    widths, centres = [], []
    for image, shape in zip(faces.images, faces.landmarks, strict=True):
        face = find_face(image)
        if face is None:
            continue
        to_mean = fit_similarity(shape, mean_shape)
        x, y, width, height = face.box
        middle = np.array([x + width / 2, y + height / 2]) - 0.5
        centre = transform_points(to_mean, middle)
        if np.abs(centre).max() < 1:  # not a find beside the face
            centres.append(centre)
            widths.append(width * np.sqrt(np.linalg.det(to_mean[:, :2])))
    if not widths:
        raise ValueError("The detector finds a face in none of the training images.")
    return float(np.median(widths)), np.median(centres, axis=0) * (0, 1)


def _central_face(image):
    """Return the box that faces start from when the detector finds none."""
    height, width = image.shape
    side = 0.55 * min(height, width)
    return Face(((width - side) / 2, (height - side) / 2, side, side), 0.0)


def _far(rng, placement, middle):
    """Draw where a detector's box might put the mean face."""
    angle = rng.normal(0, 10) if rng.random() < 0.8 else rng.uniform(-40, 40)
    size = _size(placement) * np.exp(rng.normal(0, 0.13))
    shift = rng.normal(size=2) * (0.16, 0.11) * _size(placement)
    target = transform_points(placement, middle) + shift
    return similarity(size, np.deg2rad(angle), middle, target)


def _near(rng, placement, middle):
    """Draw where the coarse network might put the mean face."""
    angle = np.arctan2(placement[1, 0], placement[0, 0]) + np.deg2rad(rng.normal(0, 4))
    size = _size(placement) * np.exp(rng.normal(0, 0.05))
    shift = rng.normal(size=2) * 0.035 * _size(placement)
    target = transform_points(placement, middle) + shift
    return similarity(size, angle, middle, target)


def _size(placement):
    return np.hypot(placement[0, 0], placement[1, 0])


# crops by which the ranges of 8-bit activations are set
_N_CALIBRATION = 300


class _Crops:
    """Random training crops of annotated faces, mirrored and changed in many ways."""

    def __init__(self, faces, mean_shape, size, jitter: Callable, rng):
        self.faces, self.mean_shape, self.size = faces, mean_shape, size
        self.jitter, self.rng = jitter, rng
        self.middle = (mean_shape.min(0) + mean_shape.max(0)) / 2
        self.placements = [fit_similarity(mean_shape, face) for face in faces.landmarks]

    def draw(self, index):
        """Return a crop of a face, float32, and its points in pixels of the crop."""
        rng, size = self.rng, self.size
        placement = self.jitter(rng, self.placements[index], self.middle)
        matrix = crop_transform(placement, self.mean_shape, size)
        if rng.random() < 0.5:
            middle = np.full(2, (size - 1) / 2)
            linear = np.eye(2) + rng.normal(0, 0.05, (2, 2))
            matrix = compose(np.column_stack([linear, middle - linear @ middle]), matrix)
        crop = warp(self.faces.images[index], matrix, (size, size)).astype(np.float32)
        points = transform_points(matrix, self.faces.landmarks[index])
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
            points = (points * (-1, 1) + (size - 1, 0))[MIRRORED]
        return _disturb(crop, rng), points

    def sample(self, n):
        """Return n crops of random faces, uint8 of shape (n, size, size)."""
        faces = self.rng.integers(0, len(self.faces.images), n)
        drawn = np.stack([self.draw(index)[0] for index in faces])
        return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def _disturb(crop, rng):
    """Change focus, resolution, light and noise, and cover a part."""
    import cv2

    size = len(crop)
    if rng.random() < 0.3:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.2:
        small = max(8, round(size * rng.uniform(0.3, 0.8)))
        crop = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        crop = 255 * np.clip(crop / 255, 0, 1) ** np.exp(rng.normal(0, 0.4))
    crop = (crop - 128) * np.exp(rng.normal(0, 0.25)) + 128 + rng.normal(0, 20)
    if rng.random() < 0.3:
        ramp, angle = np.linspace(-1, 1, size), rng.uniform(0, 2 * np.pi)
        light = np.cos(angle) * ramp + np.sin(angle) * ramp[:, None]
        crop = crop * (1 + 0.5 * rng.random() * light)
    if rng.random() < 0.3:
        crop = crop + rng.normal(0, rng.uniform(2, 12), crop.shape)
    if rng.random() < 0.4:
        height, width = (rng.uniform(0.1, 0.45, 2) * size).astype(int)
        row, column = rng.integers(0, size - height), rng.integers(0, size - width)
        patch = crop[row : row + height, column : column + width]
        if rng.random() < 0.5:
            patch[:] = rng.uniform(0, 255)
        else:
            row, column = rng.integers(0, size - height), rng.integers(0, size - width)
            patch[:] = crop[row : row + height, column : column + width].copy()
    return crop.astype(np.float32)


def _train_network(crops, make_network, epochs, recipe, seed, progress):
    """Train one network; return the running mean of its weights."""
    device = find_device("auto")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make_network().to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.99),
    )
    n_faces = len(crops.faces.images)
    batch_size = min(recipe.batch_size, n_faces)
    steps = n_faces // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=epochs * steps, pct_start=0.1
    )
    unit = crops.size / CROP_SIDE  # the outer eye distance, in pixels
    step = 0
    network.train()
    for _ in range(epochs):
        order = crops.rng.permutation(n_faces)
        total = 0.0
        for start in range(0, steps * batch_size, batch_size):
            drawn = [crops.draw(index) for index in order[start : start + batch_size]]
            images, points = (
                np.stack(part).astype(np.float32) for part in zip(*drawn, strict=True)
            )
            batch = torch.from_numpy(images)[:, None].to(device)
            with torch.autocast(
                device, torch.bfloat16, enabled=uses_bfloat16("auto", device)
            ):
                found = network(batch.contiguous(memory_format=torch.channels_last))
            error = (found - torch.from_numpy(points).to(device)) / unit
            loss = 2 * functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.02)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            _average(average, network, min(0.998, (1 + step) / (10 + step)))
            total += loss.item()
        progress.set_postfix(loss=f"{total / steps:.4f}", refresh=False)
        progress.update()
    progress.close()
    return average.cpu()


def _average(average, network, share):
    with torch.no_grad():
        states = zip(
            average.state_dict().values(), network.state_dict().values(), strict=True
        )
        for mean, new in states:
            if mean.dtype.is_floating_point:
                mean.mul_(share).add_(new, alpha=1 - share)
            else:
                mean.copy_(new)
