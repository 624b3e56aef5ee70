"""Likely faces of the calibrated wireframe, and an objective that knows their points."""

import numpy as np

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project

MODEL, PRIOR = load_calibrated()
N_VISIBLE = 38


def sample_faces(n, seed):
    """Sample likely faces: their parameters and visible points."""
    rng = np.random.default_rng(seed)
    units = rng.multivariate_normal(PRIOR.mean, PRIOR.covariance / 4, n, method="cholesky")
    pose = np.column_stack(
        [
            rng.normal(0, [0.1, 0.15, 0.1], (n, 3)),
            rng.uniform(50, 80, n),
            rng.normal(120, 6, (n, 2)),
        ]
    )
    parameters = np.column_stack([pose, units])
    return parameters, project_visible(parameters)


def project_visible(parameters):
    pose, sigma, alpha = MODEL.split(parameters)
    return project(MODEL.shape(sigma, alpha)[..., sorted(MODEL.landmarks), :], pose)


class Oracle:
    """Knows where points are, across contours only or in both directions."""

    n_stages = 2

    def __init__(self, truth, *, across_only=False):
        self.truth, self.across_only = truth, across_only
        self.stages = []

    def prepare(self, image, points):
        return image

    def find_targets(self, prepared, points, normals, unit, stage):
        self.stages.append(stage)
        sure = np.broadcast_to(np.eye(2), (len(points), 2, 2))
        if self.across_only:
            sure = normals[:, :, None] * normals[:, None, :]
        return self.truth, sure * 1e4 / unit**2

    def values(self, prepared, points, normals, unit, stage):
        offsets = np.linspace(-0.2, 0.2, 41)
        places = ((self.truth - points) * normals).sum(1) / unit
        return offsets, np.abs(offsets - places[:, None])
