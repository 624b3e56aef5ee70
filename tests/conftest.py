"""Synthetic faces, and models of them, for tests of several files."""

import cv2
import numpy as np
import pytest
from predictions import CLASSES
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ferpipe import (
    HOGFeatures,
    PerFrame,
    SequenceNetwork,
    Training,
    datasets,
)


@pytest.fixture(scope="session")
def crops():
    bunch = datasets.make_expression_sequences(
        18, n_frames=2, size=48, classes=CLASSES, random_state=0
    )
    return np.stack(bunch.data), bunch.target


@pytest.fixture(scope="session")
def model(crops):
    data, target = crops
    classifier = make_pipeline(HOGFeatures(), LogisticRegression())
    return classifier.fit(data[:, -1], target)


@pytest.fixture(scope="session")
def frames():
    """A synthetic face that moves and smiles, in larger pictures."""
    bunch = datasets.make_expression_sequences(
        2, n_frames=7, size=140, classes=["happiness", "anger"], random_state=3
    )
    pictures = []
    for index, face in enumerate(bunch.data[0]):
        picture = np.full((200, 280), 120, np.uint8)
        picture[30:170, 40 + 4 * index : 180 + 4 * index] = face
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="session")
def clip(frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (280, 200))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


@pytest.fixture(scope="session")
def causal(crops):
    """A network that reads forwards only, on features of each frame."""
    data, target = crops
    network = SequenceNetwork(
        backbone=None,
        hidden_size=6,
        bidirectional=False,
        pooling="per_frame",
        training=Training(max_epochs=3, lr=0.02),
        random_state=0,
    )
    return make_pipeline(PerFrame(HOGFeatures()), network).fit(list(data), target)
