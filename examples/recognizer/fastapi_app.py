"""How do I use a model in a web application of my own?

``MODEL=fer2013 uvicorn fastapi_app:app`` serves an album that tells which photos show a
smile. ``python -m ferpipe.serve`` is a whole server; this is for applications that have
other things to do as well.
"""

import io
import os
from threading import Lock
from typing import Annotated

from fastapi import FastAPI, File, HTTPException

from ferpipe import Recognizer

app = FastAPI()
recognizer = Recognizer(os.environ.get("MODEL", "fer2013"))
one_at_a_time = Lock()


@app.post("/photos")
def add_photo(photo: Annotated[bytes, File()]) -> dict:
    """Tell whether the people in a photo smile; plain ``def``: it runs in a thread."""
    try:
        with one_at_a_time:
            predictions = recognizer.predict_image(io.BytesIO(photo))
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    faces = [one for one in predictions if one.face is not None]
    smiling = sum(one.label == "happiness" for one in faces)
    return {"faces": len(faces), "smiling": smiling}
