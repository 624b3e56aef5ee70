"""What tests of the Recognizer compare: the crops that its model saw, and its scores."""

import numpy as np

from ferpipe.faces.alignment import align_face, eye_transform
from ferpipe.faces.landmark_points import eye_centers

CLASSES = ["anger", "happiness", "surprise"]


def crop(frame, row, size=48, template="fer2013"):
    """Return the crop of a frame that the model was given for a prediction."""
    return align_face(
        frame, eye_transform(eye_centers(row.landmarks), size, template), size
    )


def scores_of(rows):
    """Return the scores of predictions as a table."""
    return np.array([list(row.scores.values()) for row in rows])


def beginnings(frames):
    """Return the sequences that a model has read after each frame."""
    return [np.stack(frames[: t + 1]) for t in range(len(frames))]
