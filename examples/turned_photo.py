"""Do I get the same crop when the photo is turned, smaller and mirrored?"""

import numpy as np
from PIL import Image
from skimage.data import astronaut

from ferpipe import FaceAligner

photo = Image.fromarray(astronaut())
changed = {
    "turned by 20 degrees": photo.rotate(20),
    "half as large": photo.resize((256, 256)),
    "cut off below": photo.crop((0, 0, 512, 300)),
    "mirrored": photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}
aligner = FaceAligner(size=96)
(crop,) = aligner.transform([np.asarray(photo)])
others = aligner.transform([np.asarray(image) for image in changed.values()])
for name, other in zip(changed, others, strict=True):
    if name == "mirrored":
        other = other[:, ::-1]
    correlation = np.corrcoef(crop.ravel(), other.ravel())[0, 1]
    print(f"{name}: correlation with the crop of the photo {correlation:.3f}")
