"""Train the network of CandideFitter on annotated and synthetic faces, and evaluate it."""

from collections.abc import Iterator
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
from ferpipe.candide import template_tables as tables
from ferpipe.candide.camera import mirror_parameters, project, rotation_matrix
from ferpipe.candide.fit_cascade import (
    WireframeCascade,
    load_wireframe_cascade,
    parameters_in,
)
from ferpipe.candide.fit_network import WireframeNetwork
from ferpipe.candide.fit_quality import save_quality_model
from ferpipe.candide.model import CandideModel
from ferpipe.candide.prior import Prior
from ferpipe.candide.template import partners
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.landmark_cascade import (
    CROP_SIDE,
    crop_transform,
    load_cascade,
    read_metadata,
)
from ferpipe.faces.landmark_network import export_network
from ferpipe.faces.landmark_points import outer_eye_distance
from ferpipe.faces.landmarks import load_model
from ferpipe.geometry import fit_similarity, transform_points, warp
from ferpipe.synthesis.render import random_appearance, render_faces
from ferpipe.train.crop_loop import train_network
from ferpipe.train.crops import change_picture, near, shear
from ferpipe.train.landmark_networks import AnnotatedFaces, find_faces
from ferpipe.train.quality_model import train_and_evaluate_quality, train_quality_model
from ferpipe.train.wireframe import calibrate

__all__ = [
    "FitterRecipe",
    "agreement",
    "columns_of_units",
    "sample_faces",
    "errors_of",
    "random_parameters",
    "scores_of_errors",
    "scores_on_synthetic_faces",
    "train_fitter",
    "train_and_evaluate_fitter",
]

# What FACS does not score together, for the muscles oppose each other or the second is
# more of the first
_OPPOSED = (
    ("AU05", "AU43"),
    ("AU05", "AU46"),
    ("AU43", "AU46"),
    ("AU12", "AU15"),
    ("AU18", "AU20"),
    ("AU24", "AU25"),
    ("AU24", "AU26"),
    ("AU24", "AU27"),
    ("AU26", "AU27"),
)
# below it, what pulls the jaw down is AU26
_LEAST = {"AU27": 0.5}
_N_CALIBRATION = 300
# units whose correlations are told
_REPORTED_UNITS = (
    *("AU01", "AU02", "AU04", "AU05", "AU09", "AU10"),
    *("AU12", "AU15", "AU20", "AU26", "AU27", "AU43"),
)


@dataclass(frozen=True)
class FitterRecipe:
    """How the network is trained.

    Attributes
    ----------
    size : int
        Side of its crops, in pixels.
    channels : tuple of int
        As :class:`ferpipe.candide.fit_network.WireframeNetwork` takes them.
    n_synthetic : int
        Faces that are drawn for it.
    batch : (int, int)
        Annotated and synthetic faces a step.
    n_epochs, n_steps : int
        Epochs, and steps in each.
    lr : float
        Highest learning rate of the cycle.
    weight_decay : float
        AdamW's.
    share_changed : float
        Of the synthetic faces, those whose picture is changed as those of photos are; the
        others keep their finest folds.
    """

    size: int = 96
    channels: tuple[int, ...] = (16, 32, 64, 128)
    n_synthetic: int = 12000
    batch: tuple[int, int] = (16, 32)
    n_epochs: int = 24
    n_steps: int = 250
    lr: float = 3e-3
    weight_decay: float = 1e-2
    share_changed: float = 0.35


def random_parameters(
    model: CandideModel,
    prior: Prior,
    rng: np.random.Generator,
    n: int,
    size: int,
    *,
    spread: tuple[float, float, float] = (11, 20, 8),
    common: float = 0.22,
    rare: float = 0.04,
) -> NDArray[np.float64]:
    """Draw what people, poses and actions may be, for faces in the middle of an image.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its shape units.
    rng : numpy.random.Generator
        What they are drawn from.
    n : int
        Faces.
    size : int
        Side of the images, in pixels.
    spread : (float, float, float), default=(11, 20, 8)
        Standard deviations of rx, ry and rz, in degrees.
    common, rare : float, default=0.22, 0.04
        Share of the faces that show an action unit, for those that
        ``tables.COMMON_UNITS`` lists and for the others. What opposes each other is not
        shown together.

    Returns
    -------
    parameters : ndarray of shape (n, n_parameters)
        As the model's ``parameter_names`` lists them.
    """
    n_shape = len(model.shape_names)
    parameters = np.zeros((n, len(model.parameter_names)))
    pose, sigma, alpha = model.split(parameters)
    pose[:, :3] = np.clip(rng.normal(0, np.deg2rad(spread), (n, 3)), -0.9, 0.9)
    pose[:, 3] = 0.33 * size * rng.uniform(0.9, 1.1, n)
    pose[:, 4:] = rng.normal((0.5 * size, 0.42 * size), 0.02 * size, (n, 2))
    people = prior.mean[:n_shape], prior.covariance[:n_shape, :n_shape]
    sigma[:] = rng.multivariate_normal(*people, n)
    units = columns_of_units(model)
    listed = tables.COMMON_UNITS.split()
    for unit, columns in units.items():
        shown = rng.random(n) < (common if unit in listed else rare)
        least = _LEAST.get(unit, 0.0)
        amount = (shown * rng.uniform(least, 1.1, n))[:, None] * np.ones(len(columns))
        uneven = rng.random(n) < 0.25
        if len(columns) == 2:
            amount[uneven] *= rng.uniform(0, 1, (uneven.sum(), 2))
        alpha[:, columns] = amount
    for first, second in _OPPOSED:
        one, other = units[first], units[second]
        both = (alpha[:, one] > 0).any(1) & (alpha[:, other] > 0).any(1)
        first_stays = rng.random(n) < 0.5
        alpha[np.ix_(both & ~first_stays, one)] = 0
        alpha[np.ix_(both & first_stays, other)] = 0
    return parameters


def columns_of_units(model: CandideModel) -> dict[str, list[int]]:
    """Return action unit -> its columns in alpha: one, or those of both sides."""
    columns: dict[str, list[int]] = {}
    for index, name in enumerate(model.animation_names):
        columns.setdefault(name.partition("_")[0], []).append(index)
    return columns


def sample_faces(
    model: CandideModel,
    prior: Prior,
    n: int,
    size: int,
    *,
    seed: int,
    verbose: bool = False,
    **how: Any,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Draw random people.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its shape units.
    n : int
        Faces.
    size : int
        Side of the images, in pixels.
    seed : int
        What they are drawn from.
    verbose : bool, default=False
        Show a progress bar.
    **how
        As :func:`random_parameters` takes it.

    Returns
    -------
    images : ndarray of shape (n, size, size), uint8
    parameters : ndarray of shape (n, n_parameters)
    """
    rng = np.random.default_rng(seed)
    parameters = random_parameters(model, prior, rng, n, size, **how)
    looks = [random_appearance(rng) for _ in range(n)]
    images = render_faces(
        model, parameters, looks, size, random_state=seed, verbose=verbose
    )
    return images, parameters


class _Crops:
    """Random training crops of annotated and of synthetic faces."""

    def __init__(
        self,
        faces: AnnotatedFaces,
        model: CandideModel,
        prior: Prior,
        mean_shape: NDArray[Any],
        recipe: FitterRecipe,
        rng: np.random.Generator,
        verbose: bool,
    ) -> None:
        self.images, self.model, self.recipe, self.rng = faces.images, model, recipe, rng
        self.mean_shape, self.size = mean_shape, recipe.size
        self.middle = (mean_shape.min(0) + mean_shape.max(0)) / 2
        self.vertices, mean_points = visible_points(model, mean_shape)
        _, self.points = visible_points(model, faces.landmarks)
        # crops of training show the face as large as those of 128 pixels do
        seed = int(rng.integers(2**31))
        self.synthetic, self.parameters = sample_faces(
            model, prior, recipe.n_synthetic, 128, seed=seed, verbose=verbose
        )
        pose, sigma, alpha = model.split(self.parameters)
        self.synthetic_points = project(model.shape(sigma, alpha)[:, self.vertices], pose)
        place = partial(fit_similarity, mean_points)
        self.placements = [place(points) for points in self.points]
        self.synthetic_placements = [place(points) for points in self.synthetic_points]
        at = {vertex: index for index, vertex in enumerate(self.vertices)}
        self.mirrored = [at[partners()[vertex]] for vertex in self.vertices]

    def draw(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return a crop of an annotated face and its points in pixels of the crop."""
        matrix = self._matrix(self.placements[index])
        if self.rng.random() < 0.5:
            matrix = shear(self.rng, matrix, self.size)
        crop = warp(self.images[index], matrix, (self.size, self.size)).astype(np.float32)
        points = transform_points(matrix, self.points[index])
        if self.rng.random() < 0.5:
            crop, points = self._mirror(crop, points)
        return change_picture(crop, self.rng), points

    def sample_synthetic(
        self, index: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Return a crop of a synthetic face, its points and its parameters."""
        matrix = self._matrix(self.synthetic_placements[index])
        crop = warp(self.synthetic[index], matrix, (self.size, self.size)).astype(
            np.float32
        )
        points = transform_points(matrix, self.synthetic_points[index])
        parameters = parameters_in(matrix, self.parameters[index])
        if self.rng.random() < 0.5:
            crop, points = self._mirror(crop, points)
            parameters = mirror_parameters(self.model, parameters, self.size)
        if self.rng.random() < self.recipe.share_changed:
            crop = change_picture(crop, self.rng)
        return crop, points, parameters

    def batches(
        self,
    ) -> Iterator[tuple[NDArray[Any], tuple[NDArray[np.float32], NDArray[np.float32]]]]:
        """Yield crops, annotated faces first, their points and the drawn parameters."""
        n, n_synthetic = self.recipe.batch
        of_photos = self._indices(len(self.images), n)
        of_synthetic = self._indices(len(self.synthetic), n_synthetic)
        while True:
            photos = [self.draw(index) for index in next(of_photos)]
            synthetic = [self.sample_synthetic(index) for index in next(of_synthetic)]
            crops = np.stack([part[0] for part in [*photos, *synthetic]])
            points = np.stack([part[1] for part in [*photos, *synthetic]])
            parameters = np.stack([part[2] for part in synthetic])
            yield crops, (points.astype(np.float32), parameters.astype(np.float32))

    def sample(self, n: int) -> NDArray[np.uint8]:
        """Return n crops of random faces of photos, uint8 of shape (n, size, size)."""
        faces = self.rng.integers(0, len(self.images), n)
        crops = np.stack([self.draw(index)[0] for index in faces])
        return np.clip(np.rint(crops), 0, 255).astype(np.uint8)

    def _matrix(self, placement: NDArray[Any]) -> NDArray[np.float64]:
        placement = near(self.rng, placement, self.middle)
        return crop_transform(placement, self.mean_shape, self.size)

    def _mirror(
        self, crop: NDArray[np.float32], points: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        crop = np.ascontiguousarray(crop[:, ::-1])
        return crop, (points * (-1, 1) + (self.size - 1, 0))[self.mirrored]

    def _indices(self, n: int, n_taken: int) -> Iterator[NDArray[np.intp]]:
        rest = np.empty(0, int)
        while True:
            if len(rest) < n_taken:
                rest = np.append(rest, self.rng.permutation(n))
            yield rest[:n_taken]
            rest = rest[n_taken:]


class _Loss:
    """Errors of points in outer eye distances, and of drawn parameters in spreads."""

    def __init__(self, model: CandideModel, vertices: NDArray[Any], scale: float) -> None:
        units = np.concatenate([model.shape_units, model.animation_units])
        self.rest = torch.tensor(model.vertices[vertices], dtype=torch.float32)
        self.units = torch.tensor(units[:, vertices], dtype=torch.float32)
        self.scale = scale
        self.network: WireframeNetwork

    def __call__(
        self,
        found: tuple[torch.Tensor, torch.Tensor],
        shown: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> torch.Tensor:
        parameters, points = found
        truth, known = (torch.from_numpy(part).to(points.device) for part in shown)
        n_synthetic = len(known)
        loss = self._of_points(points - truth)
        loss = loss + self._of_points(self._projected(parameters) - truth)
        normal = self.network.normalized
        off = normal(parameters[-n_synthetic:]) - normal(known)
        # squares: most units are 0 on most faces, and what lowers absolute errors is
        # to say 0 always
        return loss + 0.5 * (off.clamp(-5, 5) ** 2).mean()

    def _of_points(self, off: torch.Tensor) -> torch.Tensor:
        off = off / self.scale
        return 2 * functional.smooth_l1_loss(off, torch.zeros_like(off), beta=0.02)

    def _projected(self, parameters: torch.Tensor) -> torch.Tensor:
        pose, units = parameters[:, :6], parameters[:, 6:]
        vertices = self.rest + torch.einsum("nu,ukc->nkc", units, self.units)
        (cx, cy, cz), (sx, sy, sz) = torch.cos(pose[:, :3]).T, torch.sin(pose[:, :3]).T
        right = torch.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], 1)
        up = torch.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], 1)
        camera = pose[:, 3, None, None] * torch.stack([right, -up], 1)
        return vertices @ camera.transpose(1, 2) + pose[:, None, 4:6]


def train_fitter(
    faces: AnnotatedFaces,
    model: CandideModel,
    prior: Prior,
    mean_shape: NDArray[Any],
    folder: Path | str,
    recipe: FitterRecipe = FitterRecipe(),
    **shown: Any,
) -> None:
    """Train the network and write it to a folder.

    One that was already trained there, on the same faces in the same way, is kept.

    Parameters
    ----------
    faces : AnnotatedFaces
        Training faces.
    model : CandideModel
        The wireframe, calibrated on them.
    prior : Prior
        Of its units.
    mean_shape : ndarray of shape (68, 2)
        Of the networks that look first.
    folder : str or path
        Where ``wireframe.onnx`` goes.
    recipe : FitterRecipe
        How.
    **shown
        ``seed`` of the synthetic faces, the weights and the random crops, 0 by default;
        ``name`` before the progress bar and its ``position``.
    """
    seed, name = shown.get("seed", 0), shown.get("name", "")
    facts = {
        "training": joblib.hash(
            (faces.images, faces.landmarks, asdict(recipe), seed), coerce_mmap=True
        )
    }
    path = Path(folder) / "wireframe.onnx"
    if path.is_file() and read_metadata(path).get("training") == facts["training"]:
        return
    rng = np.random.default_rng(seed)
    crops = _Crops(faces, model, prior, mean_shape, recipe, rng, verbose=True)
    scale = recipe.size / CROP_SIDE
    n_shape = len(model.shape_names)
    spread = np.full(len(prior.mean), 0.3)
    spread[:n_shape] = np.sqrt(np.diag(prior.covariance)[:n_shape])
    loss = _Loss(model, crops.vertices, scale)

    def make_network() -> WireframeNetwork:
        loss.network = WireframeNetwork(
            recipe.size,
            recipe.channels,
            len(crops.vertices),
            scale=scale,
            unit_mean=np.r_[prior.mean[:n_shape], np.zeros(len(prior.mean) - n_shape)],
            unit_spread=spread,
        )
        return loss.network

    network = train_network(
        make_network,
        partial(next, crops.batches()),
        loss,
        n_epochs=recipe.n_epochs,
        n_steps=recipe.n_steps,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        seed=seed,
        progress=tqdm(
            desc=f"{name} wireframe",
            total=recipe.n_epochs,
            unit="epoch",
            position=shown.get("position", 0),
        ),
    )
    outputs = ("parameters", "points")
    export_network(
        network,
        path,
        crops.sample(_N_CALIBRATION),
        outputs=outputs,
        **facts,
    )


def train_and_evaluate_fitter(
    faces: AnnotatedFaces,
    folder: Path | str,
    networks: Path | str | None,
    model: CandideModel,
    prior: Prior,
    recipe: FitterRecipe = FitterRecipe(),
    *,
    seed: int = 0,
    n_jobs: int = 1,
) -> tuple[NDArray[np.float64] | None, float]:
    """Train on all the faces, and on the other folds to measure on each.

    Parameters
    ----------
    faces : AnnotatedFaces
        All faces.
    folder : str or path
        Where the network that was trained on all the faces goes, and those of the folds.
    networks : str, path or None
        What ``ferpipe.train.landmark_networks.train_and_evaluate`` wrote with
        ``keep_folds``: the networks of its folds look first; the folds are the same. None
        for no judgement.
    model : CandideModel
        Calibrated on all faces. On the faces of a fold it is calibrated anew.
    prior : Prior
        Of its units.
    recipe : FitterRecipe
        How the networks are trained.
    seed : int, default=0
        Of the folds and of the trainings.
    n_jobs : int, default=1
        Trainings at a time, one process each.

    Returns
    -------
    errors : ndarray of shape (n, 2), or None without folds
        Mean distance of the points of the fitted wireframe to the hand-made ones, in outer
        eye distances, and the fit's quality. Every face counts: one that the detector
        misses starts from a fixed box in the middle.
    score : float
        Of the quality_model of fits, as
        :func:`ferpipe.train.quality_model.train_and_evaluate_quality` gives it.
    """
    jobs = [joblib.delayed(_train_on_all)(faces, folder, model, prior, recipe, seed)]
    splits = []
    if networks is not None:
        place = Path(networks, "folds")
        if not place.is_dir():
            raise ValueError(
                f"{place}: expected the landmark networks of the folds there; "
                "python -m ferpipe.train landmarks FOLDER --keep-folds --out NETWORKS "
                "writes them."
            )
        of_folds = sorted(place.iterdir())
        folds = GroupKFold(len(of_folds), shuffle=True, random_state=seed)
        splits = list(folds.split(faces.images, groups=faces.photos))
        jobs += [
            joblib.delayed(_train_and_measure)(faces, *split, folder, part, recipe, seed)
            for split, part in zip(splits, of_folds, strict=True)
        ]
    score, *parts = in_processes(jobs, n_jobs=n_jobs)
    if not splits:
        return None, score
    errors = np.empty((len(faces.images), 2))
    for (_, test), part in zip(splits, parts, strict=True):
        errors[test] = part
    return errors, score


def _train_on_all(
    faces: AnnotatedFaces,
    folder: Path | str,
    model: CandideModel,
    prior: Prior,
    recipe: FitterRecipe,
    seed: int,
) -> float:
    torch.set_num_threads(1)
    mean_shape = load_model("ferpipe").mean_shape
    train_fitter(
        faces, model, prior, mean_shape, folder, recipe, seed=seed, name="all faces"
    )
    quality_model, score = train_and_evaluate_quality(faces, model, mean_shape, seed=seed)
    save_quality_model(Path(folder) / "quality.npz", quality_model)
    return score


def _train_and_measure(
    faces: AnnotatedFaces,
    fit: NDArray[np.intp],
    test: NDArray[np.intp],
    folder: Path | str,
    networks: Path,
    recipe: FitterRecipe,
    seed: int,
) -> NDArray[np.float64]:
    torch.set_num_threads(1)
    number = int(networks.name)
    landmarks = load_cascade(networks)
    model, prior = calibrate(faces.landmarks[fit])
    folder = Path(folder) / "folds" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    seen, mean_shape = faces.take(fit), landmarks.mean_shape
    train_fitter(
        seen,
        model,
        prior,
        mean_shape,
        folder,
        recipe,
        seed=seed,
        name=f"fold {number}",
        position=number,
    )
    save_quality_model(
        folder / "quality.npz", train_quality_model(seen, model, mean_shape, seed=seed)
    )
    cascade = load_wireframe_cascade(folder, landmarks, model)
    return errors_of(cascade, faces.take(test))


def errors_of(cascade: WireframeCascade, faces: AnnotatedFaces) -> NDArray[np.float64]:
    """Fit the wireframe to annotated faces, from the detector's boxes, and measure.

    Parameters
    ----------
    cascade : WireframeCascade
        Networks that have not seen the faces.
    faces : AnnotatedFaces
        Faces and their points.

    Returns
    -------
    errors : ndarray of shape (n, 2)
        Mean distance over the points that the wireframe has, in outer eye distances, and
        the fit's quality.
    """
    found, _ = find_faces(cascade, faces.images)
    fits = [
        cascade.predict(image, face.box, face.angle)
        for image, face in zip(faces.images, found, strict=True)
    ]
    parameters, quality = (np.array(part) for part in zip(*fits, strict=True))
    pose, sigma, alpha = cascade.model.split(parameters)
    vertices, truth = visible_points(cascade.model, faces.landmarks)
    shown = project(cascade.model.shape(sigma, alpha)[:, vertices], pose)
    distances = np.linalg.norm(shown - truth, axis=2).mean(1)
    return np.column_stack([distances / outer_eye_distance(faces.landmarks), quality])


def scores_of_errors(errors: NDArray[Any]) -> dict[str, float]:
    """Sum up what :func:`train_and_evaluate_fitter` returns."""
    distances, quality = errors.T
    good = quality > 0.5
    scores = {
        "mean_error": distances.mean(),
        "median_error": np.median(distances),
        "share_of_faces_above_0.1": (distances > 0.1).mean(),
        "share_of_quality_above_0.5": good.mean(),
        "mean_error_of_these": distances[good].mean(),
        "share_of_these_above_0.1": (distances[good] > 0.1).mean(),
    }
    return {name: round(float(score), 5) for name, score in scores.items()}


def scores_on_synthetic_faces(
    cascade: WireframeCascade,
    prior: Prior,
    *,
    n: int = 400,
    size: int = 128,
    seed: int = 1_000_000,
) -> dict[str, float]:
    """Fit the wireframe to synthetic faces that no training has seen.

    Parameters
    ----------
    cascade : WireframeCascade
        The networks.
    prior : Prior
        What people are drawn from.
    n : int, default=400
        Faces.
    size : int, default=128
        Side of the images, in pixels; an outer eye distance is about a third of it.
    seed : int, default=1000000
        What they are drawn from. Trainings draw theirs from others.

    Returns
    -------
    scores : dict
        ``rotation_mean`` and ``rotation_median``: the angle between the fitted and the
        true turn of the head, in degrees; each unit's correlation with the truth, for
        both sides' mean. Poses have standard deviations of 8, 15 and 8 degrees, each unit
        is shown by 22 % of the faces. Faces that the detector misses do not count;
        ``found`` is the share of the others.
    """
    images, truth = sample_faces(
        cascade.model, prior, n, size, seed=seed, spread=(8, 15, 8), rare=0.0
    )
    faces, missed = find_faces(cascade, list(images))
    fitted = np.array(
        [
            cascade.predict(image, face.box, face.angle)[0]
            for image, face in zip(images, faces, strict=True)
        ]
    )
    return {
        "found": 1 - missed.mean(),
        **agreement(cascade.model, truth[~missed], fitted[~missed]),
    }


def agreement(
    model: CandideModel, truth: NDArray[Any], fitted: NDArray[Any]
) -> dict[str, float]:
    """Compare fitted parameters with the true ones.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    truth, fitted : ndarray of shape (n, n_parameters)
        Parameters of faces.

    Returns
    -------
    scores : dict
        As :func:`scores_on_synthetic_faces` returns them.
    """
    turned, again = (rotation_matrix(part[:, :3]) for part in (truth, fitted))
    cosines = (np.einsum("nij,nij->n", turned, again) - 1) / 2
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    scores = {"rotation_mean": angles.mean(), "rotation_median": np.median(angles)}
    actions = [model.split(part)[2] for part in (truth, fitted)]
    units = columns_of_units(model)
    for unit in _REPORTED_UNITS:
        one, other = (part[:, units[unit]].mean(1) for part in actions)
        if one.std() and other.std():  # some face shows it
            scores[unit] = np.corrcoef(one, other)[0, 1]
    return {name: round(float(score), 4) for name, score in scores.items()}
