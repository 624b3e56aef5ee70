"""How do I train on my own folder of images, one folder a class?"""

import tempfile
from pathlib import Path

from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

import ferpipe
from ferpipe import HOGFeatures, datasets

with tempfile.TemporaryDirectory() as folder:
    # Stands for your folder: <class>/<subject>_<number>.png
    synthetic = datasets.make_expression_sequences(
        n_sequences=120, classes=5, random_state=0
    )
    for number, frames in enumerate(synthetic.data):
        place = Path(folder) / synthetic.target[number]
        place.mkdir(exist_ok=True)
        Image.fromarray(frames[-1]).save(place / f"{synthetic.groups[number]}_{number}.png")

    faces = datasets.load_image_folder(folder, size=48, groups=r"(\w+)_\d+\.png$")
    model = make_pipeline(HOGFeatures(), LinearSVC(C=0.1))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(model, faces.data, faces.target, groups=faces.groups, cv=folds)
    print(f"accuracy by subject {scores.mean():.3f}")

    path = ferpipe.save(model.fit(faces.data, faces.target), Path(folder) / "model.joblib")
    again = ferpipe.load(path).score(faces.data, faces.target)
    print(f"on its own training images, after loading {again:.3f}")
