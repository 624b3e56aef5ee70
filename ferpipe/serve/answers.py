"""The responses of the server, as in the OpenAPI schema."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.recognition.stream import FacePrediction

__all__ = ["Answer", "Box", "FaceAnswer", "FrameAnswer", "ModelFacts", "Refusal", "face_of"]

# of points of the overlay, in pixels
_DECIMALS = 2

_Point = Annotated[list[float], Field(min_length=2, max_length=2)]
_Triangle = Annotated[list[int], Field(min_length=3, max_length=3)]


class Box(BaseModel):
    """A box in pixels, from the upper left corner of the image."""

    x: float
    y: float
    width: float
    height: float


class FaceAnswer(BaseModel):
    """One face."""

    face: int = Field(description="number of the face, the same in all frames of a stream")
    box: Box
    detector_score: float
    label: str | None = Field(
        description="class of the highest score; null if the model abstains"
    )
    scores: dict[str, float] = Field(
        description="by class: probabilities, or the values of a decision function"
    )
    quality: float = Field(
        description="probability that the wireframe lies on a face; below 0.5 reject it"
    )
    action_units: dict[str, float] = Field(description="0 is neutral, 1 is intensity D")
    pose: dict[str, float] = Field(
        description="rx, ry, rz in radians; scale s and place tx, ty in pixels"
    )
    landmarks: list[_Point] = Field(description="68 points (x, y) in pixels")
    wireframe: list[_Point] = Field(
        description="vertices (x, y) in pixels; /v1/model has the triangles"
    )


class Answer(BaseModel):
    """The faces in an image."""

    width: int = Field(description="of the upright image, in pixels")
    height: int
    gives: Literal["probabilities", "scores"]
    seconds: float = Field(description="spent on decoding and recognition")
    faces: list[FaceAnswer]


class FrameAnswer(Answer):
    """The faces in a frame of a stream."""

    frame: int = Field(description="from 0")
    time: float = Field(description="in seconds")


class ModelFacts(BaseModel):
    """The model behind the server."""

    name: str
    version: str = Field(description="of ferpipe")
    classes: list[str]
    gives: Literal["probabilities", "scores"]
    takes: dict[str, Any] = Field(
        description="kind and shape of the input that the model was fitted on"
    )
    card: dict[str, Any] = Field(description="training data, protocol, scores, terms")
    action_units: list[str]
    triangles: list[_Triangle] = Field(
        description="of the wireframe: vertices, in the order of FaceAnswer.wireframe"
    )
    limits: dict[str, float]


class Refusal(BaseModel):
    """The reason of a refusal."""

    detail: str


def face_of(prediction: FacePrediction) -> FaceAnswer:
    """Convert the prediction for one face."""
    model, _ = load_calibrated()
    pose, sigma, alpha = model.split(prediction.parameters)
    vertices = project(model.shape(sigma, alpha), pose)
    return FaceAnswer.model_validate(
        {
            "face": prediction.face,
            "box": dict(zip(Box.model_fields, prediction.box, strict=True)),
            "detector_score": prediction.detector_score,
            "label": prediction.label,
            "scores": prediction.scores,
            "quality": prediction.quality,
            "action_units": prediction.action_units,
            "pose": prediction.pose,
            "landmarks": np.round(prediction.landmarks, _DECIMALS).tolist(),
            "wireframe": np.round(vertices, _DECIMALS).tolist(),
        }
    )
