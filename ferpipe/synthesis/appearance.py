"""The appearance of a synthetic face besides its geometry: person and image."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["NO_HAIR", "Appearance", "random_appearance"]

# hair lines above this height are those of bald heads
NO_HAIR = 1.5


@dataclass(frozen=True)
class Appearance:
    """The appearance of a face in an image, without its geometry.

    Tones are fractions of white, darknesses fractions of the skin's tone; lengths are in
    outer eye distances unless noted otherwise.

    Attributes
    ----------
    skin : float
        Tone of the skin.
    texture : float
        Strength of the texture of skin and hair, 0 to 1; at 0 the face is symmetric.
    texture_seed : int
        Seed of the texture.
    freckles : float
        Darkness of the freckles.
    beard : float
        Darkness of the beard.
    brow : float
        Darkness of the eyebrows.
    brow_thickness : float
        Height of the eyebrows.
    iris : float
        Darkness of the iris, as a fraction of white.
    lip : float
        Darkness of the lips.
    hair : float
        Tone of the hair.
    hair_line : float
        Height above the eyes at which the hair begins; above 1.5 there is no hair.
    hair_volume : float
        Distance of the hair's surface from the skull.
    hair_length : float
        Length of the hair below the temples.
    clothes : float
        Tone of the clothes.
    background : int
        0 for a plain background, 1 for a gradient, 2 for blurred noise.
    background_tone : float
        Tone of the background.
    background_range : float
        Variation of the tone of a gradient or of noise.
    background_seed : int
        Seed of the gradient's direction or of the noise.
    light : tuple of float
        Direction to the light source: components to the right of the image, up and to the
        camera; of any length.
    ambient : float
        Fraction of ambient light.
    brightness : float
        Factor of all tones.
    contrast : float
        Factor of the difference from mid-gray.
    blur : float
        Standard deviation of the blur, in pixels.
    noise : float
        Standard deviation of the noise, in gray levels of 255.
    """

    skin: float = 0.7
    texture: float = 0.3
    texture_seed: int = 0
    freckles: float = 0.0
    beard: float = 0.0
    brow: float = 0.6
    brow_thickness: float = 0.06
    iris: float = 0.7
    lip: float = 0.3
    hair: float = 0.15
    hair_line: float = 0.9
    hair_volume: float = 0.15
    hair_length: float = 0.0
    clothes: float = 0.3
    background: int = 0
    background_tone: float = 0.5
    background_range: float = 0.3
    background_seed: int = 0
    light: tuple[float, float, float] = (0.2, 0.4, 1.0)
    ambient: float = 0.45
    brightness: float = 1.0
    contrast: float = 1.0
    blur: float = 0.4
    noise: float = 2.0


def random_appearance(
    rng: np.random.Generator, *, person: Appearance | None = None
) -> Appearance:
    """Sample an appearance.

    Parameters
    ----------
    rng : numpy.random.Generator
        The source of random numbers.
    person : Appearance, optional
        Keep this person (skin, brows, eyes, lips, hair, clothes) and sample only
        background, light, brightness, contrast, blur and noise.

    Returns
    -------
    appearance : Appearance
    """
    skin = rng.uniform(0.35, 0.95)
    dark_hair = rng.uniform(0.03, 0.25)
    hair = rng.choice([dark_hair, rng.uniform(0.25, 0.75)], p=[0.65, 0.35])
    no_hair, bearded, freckled, long = rng.uniform(size=4)
    of_person: dict[str, Any] = {
        "skin": skin,
        "texture": rng.uniform(0.1, 1),
        "texture_seed": int(rng.integers(2**31)),
        "freckles": rng.uniform(0.1, 0.4) if freckled < 0.15 else 0.0,
        "beard": rng.uniform(0.1, 0.6) if bearded < 0.2 else 0.0,
        "brow": rng.uniform(0.3, 0.85),
        "brow_thickness": rng.uniform(0.03, 0.095),
        "iris": rng.uniform(0.5, 0.92),
        "lip": rng.uniform(0.1, 0.45),
        "hair": float(hair),
        "hair_line": 2.0 if no_hair < 0.08 else rng.uniform(0.6, 1.15),
        "hair_volume": rng.uniform(0.04, 0.3),
        "hair_length": rng.uniform(1.2, 2.5) if long < 0.4 else 0.0,
        "clothes": rng.uniform(0.05, 0.9),
    }
    of_picture: dict[str, Any] = {
        "background": int(rng.integers(3)),
        "background_tone": rng.uniform(0.05, 0.95),
        "background_range": rng.uniform(0.1, 0.8),
        "background_seed": int(rng.integers(2**31)),
        "light": (rng.uniform(-0.9, 0.9), rng.uniform(-0.2, 1.0), 1.0),
        "ambient": rng.uniform(0.2, 0.6),
        "brightness": rng.uniform(0.85, 1.3),
        "contrast": rng.uniform(0.8, 1.3),
        "blur": rng.uniform(0.0, 0.9),
        "noise": rng.uniform(0.5, 7),
    }
    if person is not None:
        return replace(person, **of_picture)
    return Appearance(**of_person, **of_picture)
