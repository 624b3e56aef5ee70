"""Which expressions are in an image? ``python predict_image.py fer2013 photo.jpg``"""

import sys

from ferpipe import Recognizer

model, image = sys.argv[1:]
for face in Recognizer(model).predict_image(image):
    if face.face is not None:
        print(f"{face.label} {max(face.scores.values()):.3f}, box {face.box}")
