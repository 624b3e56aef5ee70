"""Draw a grey face from action units, identity, pose and light.

The face is a height map (an ellipsoid with nose, brows, cheeks and folds) lit by one
distant lamp, times a map of tones (skin, brows, eyes, lips, mouth). Action units move
the outlines and raise or press in the height map.

Coordinates are in half eye distances, x to the image's right, y down, z towards the
viewer; the origin lies half-way between the eyes.
"""

from collections.abc import Mapping
from operator import itemgetter

import numpy as np

__all__ = [
    "ACTION_UNITS",
    "IDENTITY_RANGES",
    "LIGHT_RANGES",
    "POSE_NAMES",
    "draw_face",
]

# L and R are the left and right side of the image.
ACTION_UNITS = (
    "AU01",
    "AU02",
    "AU04",
    "AU05",
    "AU06",
    "AU09",
    "AU10",
    "AU11",
    "AU12",
    "AU14L",
    "AU14R",
    "AU15",
    "AU23",
    "AU24",
    "AU25",
    "AU26",
    "AU27",
    "AU43",
)

# (lowest, highest); tones run from 0 (black) to 1 (white), lengths are relative to an
# average face unless they are plain half eye distances.
IDENTITY_RANGES = {
    "face_width": (0.9, 1.1),
    "face_length": (0.93, 1.07),
    "jaw_width": (0.75, 1.05),
    "eye_distance": (0.93, 1.07),
    "eye_width": (0.88, 1.12),
    "eye_opening": (0.75, 1.25),
    "brow_height": (0.85, 1.2),
    "brow_thickness": (0.6, 1.6),
    "brow_slant": (-0.1, 0.1),
    "brow_tone": (0.1, 0.5),
    "nose_length": (0.88, 1.12),
    "nose_width": (0.85, 1.2),
    "mouth_height": (0.94, 1.06),
    "mouth_width": (0.85, 1.12),
    "mouth_curve": (-0.04, 0.04),
    "lip_fullness": (0.6, 1.4),
    "lip_tone": (0.5, 0.8),
    "skin_tone": (0.45, 0.85),
    "hair_tone": (0.08, 0.5),
    "fold_depth": (0.0, 0.4),
}

# Roll, yaw and pitch in radians; scale is a factor; shifts in half eye distances.
POSE_NAMES = ("roll", "yaw", "pitch", "scale", "shift_x", "shift_y")

# Azimuth (0 = from the viewer's right, pi/2 = from below) in radians, elevation above
# the image plane in radians.
LIGHT_RANGES = {
    "azimuth": (-np.pi, 0.0),
    "elevation": (0.8, 1.4),
    "ambient": (0.4, 0.6),
    "gain": (0.75, 1.15),
    "background": (0.05, 0.8),
}

_UNITS_ACROSS = 4.2  # width of the image in half eye distances
_FACE_CENTRE_Y = 1.05  # shown in the middle of the image
_OVERSAMPLING = 2
_STRONGEST = 5.0


def draw_face(
    action_units: Mapping[str, float],
    identity: Mapping[str, float],
    pose: Mapping[str, float],
    light: Mapping[str, float],
    size: int,
) -> np.ndarray:
    """Draw one face.

    Parameters
    ----------
    action_units : mapping of str to float
        Intensity, 0 (absent), 1 (A) to 5 (E), of some of ``ACTION_UNITS``.
    identity : mapping of str to float
        A value for each key of ``IDENTITY_RANGES``.
    pose : mapping of str to float
        A value for each of ``POSE_NAMES``.
    light : mapping of str to float
        A value for each key of ``LIGHT_RANGES``.
    size : int
        Width and height of the image, in pixels.

    Returns
    -------
    image : ndarray of shape (size, size), float32
        Grey values; 0 is black and 1 is white, bright skin may exceed 1.
    """
    import cv2

    units = {name: action_units.get(name, 0.0) / _STRONGEST for name in ACTION_UNITS}
    fine = _Canvas(size * _OVERSAMPLING, pose)
    tone = _tone_map(fine, units, identity, light)
    tone = cv2.resize(tone, (size, size), interpolation=cv2.INTER_AREA)
    canvas = _Canvas(size, pose)
    shading = _shading(canvas, _height_map(canvas, units, identity), light)
    head = canvas.area(_head_outline(units, identity))
    return light["gain"] * tone * _paint(1.0, head, shading)


class _Canvas:
    """A square grid of pixels onto which points of the posed face are projected."""

    def __init__(self, size, pose):
        self.size = size
        self.unit = size / _UNITS_ACROSS * pose["scale"]
        self.sin_yaw, self.cos_yaw = np.sin(pose["yaw"]), np.cos(pose["yaw"])
        self.sin_pitch, self.cos_pitch = np.sin(pose["pitch"]), np.cos(pose["pitch"])
        roll = pose["roll"]
        self.rotation = np.array(
            [[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]
        )
        self.centre = size / 2 + self.unit * np.array([pose["shift_x"], pose["shift_y"]])
        rows, columns = np.mgrid[:size, :size]
        flat = np.stack([columns - self.centre[0], rows - self.centre[1]], axis=-1)
        plane = flat.astype(np.float32) / self.unit @ self.rotation.astype(np.float32)
        self.x, self.y = plane[..., 0], plane[..., 1] + _FACE_CENTRE_Y

    def turn(self, points):
        """Turn points (n, 2) on the face by yaw and pitch; stay in half eye distances."""
        x, y = np.asarray(points, dtype=float).reshape(-1, 2).T
        z = _depth(x, y)
        turned_x = x * self.cos_yaw + z * self.sin_yaw
        turned_y = (y - _FACE_CENTRE_Y) * self.cos_pitch + z * self.sin_pitch
        return np.stack([turned_x, turned_y + _FACE_CENTRE_Y], axis=1)

    def pixels(self, points):
        """Project points (n, 2) on the face to pixels, in OpenCV's fixed-point form."""
        plane = self.turn(points) - [0, _FACE_CENTRE_Y]
        pixels = plane @ self.rotation.T * self.unit + self.centre
        return np.round(pixels * 16).astype(np.int32)

    def area(self, outline):
        """Return the covered share of each pixel by a closed outline (n, 2)."""
        import cv2

        mask = np.zeros((self.size, self.size), np.uint8)
        cv2.fillPoly(mask, [self.pixels(outline)], 255, lineType=cv2.LINE_AA, shift=4)
        return mask.astype(np.float32) / 255

    def line(self, points, width):
        """Return the covered share of each pixel by a line (n, 2) of a width."""
        import cv2

        mask = np.zeros((self.size, self.size), np.uint8)
        thickness = max(1, round(width * self.unit))
        cv2.polylines(
            mask, [self.pixels(points)], False, 255, thickness, cv2.LINE_AA, shift=4
        )
        return mask.astype(np.float32) / 255 * min(1.0, width * self.unit)

    def deepest(self, lines, width):
        """Return the greatest depth at each pixel of lines given as (depth, points)."""
        import cv2

        thickness = max(1, round(width * self.unit))
        mask = np.zeros((self.size, self.size), np.uint8)
        for depth, points in sorted(lines, key=itemgetter(0)):
            if depth > 0:
                value = min(255, round(depth * 255))
                cv2.polylines(
                    mask,
                    [self.pixels(points)],
                    False,
                    value,
                    thickness,
                    cv2.LINE_AA,
                    shift=4,
                )
        return mask.astype(np.float32) / 255

    def bump(self, x, y, width, length):
        """Return a bell of height 1 at a point of the face."""
        (centre_x, centre_y), *_ = self.turn([(x, y)])
        return np.exp(
            -0.5 * ((self.x - centre_x) / width) ** 2
            - 0.5 * ((self.y - centre_y) / length) ** 2
        )

    def soften(self, image, width):
        """Blur by a Gaussian of a width in half eye distances."""
        import cv2

        return cv2.GaussianBlur(image, (0, 0), width * self.unit)


def _depth(x, y):
    """Height of the smooth face over the plane of the eyes, at points."""
    nose = 0.55 * np.exp(-0.5 * (x / 0.25) ** 2 - 0.5 * ((y - 1.0) / 0.35) ** 2)
    return 0.7 - 0.22 * x**2 - 0.09 * (y - 0.8) ** 2 + nose


def _height_map(canvas, units, identity):
    nose_y, nose_width = identity["nose_length"], identity["nose_width"]
    mouth_y = 1.95 * identity["mouth_height"]
    turned_x = canvas.x - 0.7 * canvas.sin_yaw
    inside = (
        1
        - (turned_x / (2.3 * identity["face_width"])) ** 2
        - ((canvas.y - 0.7) / (2.9 * identity["face_length"])) ** 2
    )
    height = 1.9 * np.sqrt(np.maximum(inside, 0.02))
    height += 0.32 * canvas.bump(0, 0.95 * nose_y, 0.2 * nose_width, 0.3)
    height += 0.25 * canvas.bump(0, 0.5 * nose_y, 0.16 * nose_width, 0.5)
    height += 0.1 * canvas.bump(0, 2.75 + 0.5 * _jaw_drop(units), 0.35, 0.25)
    height += 0.08 * canvas.bump(0, mouth_y, 0.6, 0.35)
    height += (0.03 + 0.07 * units["AU04"]) * canvas.bump(0, -0.45, 0.25, 0.18)
    for side in (-1, 1):
        height -= 0.2 * canvas.bump(side * identity["eye_distance"], -0.05, 0.5, 0.28)
        wing_lift = 0.15 * units["AU09"] + 0.06 * units["AU10"]
        height += 0.13 * canvas.bump(
            side * 0.33 * nose_width, 1.1 * nose_y - wing_lift, 0.12, 0.12
        )
        cheek = 0.12 * units["AU06"] + 0.11 * units["AU12"] + 0.06 * units["AU11"]
        lift = 0.15 * units["AU06"] + 0.1 * units["AU12"]
        height += (0.1 + cheek) * canvas.bump(side * 1.15, 0.95 - lift, 0.4, 0.3)
        dimple = units["AU14L" if side < 0 else "AU14R"]
        corner = (side * 0.86 * identity["mouth_width"], mouth_y - 0.06 * dimple)
        height -= 0.2 * dimple * canvas.bump(*corner, 0.09, 0.2)
        height += 0.1 * dimple * canvas.bump(corner[0] + side * 0.25, corner[1], 0.12, 0.25)
        height += 0.12 * units["AU15"] * canvas.bump(side * 0.75, mouth_y + 0.5, 0.2, 0.15)
    press = units["AU24"] + 0.5 * units["AU23"]
    height += 0.08 * press * canvas.bump(0, mouth_y - 0.25, 0.5, 0.1)
    height += 0.1 * press * canvas.bump(0, mouth_y + 0.3, 0.45, 0.12)
    depth = canvas.deepest(_folds(units, identity), width=0.09)
    return height - canvas.soften(depth, 0.06)


def _folds(units, identity):
    """Yield depth and course of each fold and wrinkle of the skin."""
    raised = 0.5 * (units["AU01"] + units["AU02"])
    mouth_y = 1.95 * identity["mouth_height"]
    resting = 0.1 * identity["fold_depth"]
    for row, y in enumerate((-0.95, -1.12)):
        lift = 0.08 * raised
        for side in (-1, 1):
            share = 0.6 * units["AU02"] + 0.4 * raised
            yield (
                0.16 * share,
                _arc(side * 0.5, y - lift, side * 1.3, y - lift, side * 0.06),
            )
        middle = min(1.0, units["AU01"] + 0.3 * raised)
        yield (0.14 + 0.04 * row) * middle, _arc(-0.5, y - lift, 0.5, y - lift, 0.04)
    for side in (-1, 1):
        yield 0.22 * units["AU04"], _arc(side * 0.14, -0.75, side * 0.12, -0.3, side * 0.02)
        # Bunny lines across the bridge of the nose.
        for y in (0.15, 0.33, 0.5):
            course = _arc(side * 0.05, y, side * 0.38, y - 0.12, side * 0.03)
            yield 0.3 * units["AU09"], course
        top = 1.0 * identity["nose_length"] - 0.15 * units["AU09"] - 0.05 * units["AU10"]
        wide = 0.16 * units["AU12"]
        yield (
            resting
            + 0.16 * units["AU12"]
            + 0.38 * units["AU11"]
            + 0.12 * units["AU10"]
            + 0.1 * units["AU09"]
            + 0.04 * units["AU15"],
            _arc(side * 0.48, top, side * (0.8 + wide), 1.5, side * 0.06),
        )
        yield (
            0.6 * resting + 0.16 * units["AU12"] + 0.05 * units["AU15"],
            _arc(side * (0.8 + wide), 1.5, side * (0.95 + wide), mouth_y, 0.0),
        )
        # The fold turns inwards round the raised upper lip.
        yield 0.2 * units["AU10"], _arc(side * 0.5, 1.25, side * 0.75, 1.6, side * 0.14)
        # Lower-lid furrow and crow's feet.
        eye = side * identity["eye_distance"]
        course = _arc(eye - side * 0.3, 0.3, eye + side * 0.4, 0.22, -side * 0.1)
        yield 0.2 * units["AU06"], course
        for y in (-0.05, 0.12):
            yield 0.16 * units["AU06"], _arc(eye + side * 0.5, 0.02, eye + side * 0.8, y, 0)
        yield 0.12 * units["AU15"], _arc(side * 0.72, 2.15, side * 0.82, 2.5, 0.0)


def _shading(canvas, height, light):
    slope_y, slope_x = np.gradient(height * canvas.unit)
    direction = np.array(
        [
            np.cos(light["elevation"]) * np.cos(light["azimuth"]),
            np.cos(light["elevation"]) * np.sin(light["azimuth"]),
            np.sin(light["elevation"]),
        ]
    )
    towards = direction[2] - slope_x * direction[0] - slope_y * direction[1]
    lit = np.maximum(towards, 0) / np.sqrt(1 + slope_x**2 + slope_y**2)
    return light["ambient"] + (1 - light["ambient"]) * lit / direction[2] * 0.9


def _tone_map(canvas, units, identity, light):
    skin = identity["skin_tone"]
    tone = np.full((canvas.size, canvas.size), light["background"], np.float32)
    tone = _paint(tone, canvas.area(_hair_outline(identity)), identity["hair_tone"] * skin)
    tone = _paint(tone, canvas.area(_head_outline(units, identity)), skin)
    for side in (-1, 1):
        tone = _draw_eye(tone, canvas, units, identity, side)
        brow = canvas.soften(canvas.area(_brow_outline(units, identity, side)), 0.025)
        tone = _paint(tone, 0.9 * brow, identity["brow_tone"] * skin)
        wing_lift = 0.15 * units["AU09"] + 0.06 * units["AU10"]
        nostril = _ellipse(
            side * 0.19 * identity["nose_width"],
            1.22 * identity["nose_length"] - wing_lift,
            0.1,
            0.05,
        )
        tone = _paint(tone, 0.7 * canvas.soften(canvas.area(nostril), 0.03), 0.3 * skin)
    return _draw_mouth(tone, canvas, units, identity)


def _draw_eye(tone, canvas, units, identity, side):
    skin = identity["skin_tone"]
    centre_x, centre_y = side * identity["eye_distance"], 0.0
    half_width = 0.42 * identity["eye_width"]
    squint = 0.45 * units["AU06"] + 0.2 * units["AU09"] + 0.1 * units["AU12"]
    upper = 0.21 * identity["eye_opening"]
    upper *= max(0.05, 1 + 0.75 * units["AU05"] - units["AU43"] - 0.5 * squint)
    lower = 0.12 * (1 + 0.2 * units["AU05"] - 1.3 * squint)
    share = np.linspace(0, 1, 11)
    x = centre_x + half_width * (2 * share - 1)
    upper_lid = np.stack([x, centre_y - upper * np.sin(np.pi * share) ** 0.8], axis=1)
    lower_lid = np.stack([x, centre_y + lower * np.sin(np.pi * share)], axis=1)
    opening = canvas.area(np.concatenate([upper_lid, lower_lid[::-1]]))
    tone = _paint(tone, opening, 0.35 + 0.45 * skin)
    iris = canvas.area(_ellipse(centre_x, centre_y - 0.03, 0.19, 0.19))
    tone = _paint(tone, iris * opening, 0.18)
    pupil = canvas.area(_ellipse(centre_x, centre_y - 0.03, 0.09, 0.09))
    tone = _paint(tone, pupil * opening, 0.03)
    glint = canvas.area(_ellipse(centre_x + 0.06, centre_y - 0.09, 0.035, 0.035))
    tone = _paint(tone, glint * opening, 0.9)
    tone = _paint(tone, 0.85 * canvas.line(upper_lid, 0.08), 0.15 * skin)
    tone = _paint(tone, 0.35 * canvas.line(lower_lid, 0.05), 0.4 * skin)
    crease = upper_lid - [0, 0.1 - 0.05 * units["AU05"]]
    return _paint(tone, 0.35 * canvas.line(crease[1:-1], 0.05), 0.5 * skin)


def _brow_outline(units, identity, side):
    """Inner, middle and outer place of a brow, moved by its action units."""
    slant = identity["brow_slant"]
    raise_inner, raise_outer = units["AU01"], units["AU02"]
    frown = units["AU04"]
    inner_y = slant - 0.26 * raise_inner - 0.03 * raise_outer + 0.2 * frown
    inner_y += 0.2 * units["AU09"]
    middle_y = -0.12 - 0.12 * raise_inner - 0.24 * raise_outer + 0.17 * frown
    outer_y = 0.08 - slant - 0.26 * raise_outer + 0.1 * frown
    inner_x = 0.42 - 0.12 * frown - 0.04 * units["AU09"]
    spine = _through(
        (side * inner_x, inner_y), (side * 0.95, middle_y), (side * 1.55, outer_y)
    )
    spine[:, 1] -= 0.56 * identity["brow_height"]
    half = 0.085 * identity["brow_thickness"] * np.linspace(1, 0.3, len(spine))
    edge = np.stack([np.zeros_like(half), half], axis=1)
    return np.concatenate([spine - edge, (spine + edge)[::-1]])


def _draw_mouth(tone, canvas, units, identity):
    skin = identity["skin_tone"]
    lines = _lip_lines(units, identity)
    lips = canvas.area(np.concatenate([lines["top"], lines["bottom"][::-1]]))
    tone = _paint(tone, canvas.soften(lips, 0.03), identity["lip_tone"] * skin)
    gap = float(np.max(lines["inner_bottom"][:, 1] - lines["inner_top"][:, 1]))
    opening = np.concatenate([lines["inner_top"], lines["inner_bottom"][::-1]])
    if gap > 0.03:
        inside = canvas.area(opening)
        tone = _paint(tone, inside, 0.1)
        teeth_height = min(0.16, 0.6 * gap)
        teeth_low = lines["inner_top"] + [0, teeth_height]
        teeth = canvas.area(np.concatenate([lines["inner_top"], teeth_low[::-1]])[2:-2])
        tone = _paint(tone, teeth * inside, 0.75)
    seam = 0.5 * (lines["inner_top"] + lines["inner_bottom"])
    if gap <= 0.12:
        tone = _paint(tone, 0.8 * canvas.line(seam, 0.035), 0.25 * skin)
    for side, end in ((-1, seam[:2]), (1, seam[-2:])):
        dimple = units["AU14L" if side < 0 else "AU14R"]
        corner = canvas.soften(canvas.line(end, 0.07), 0.04)
        tone = _paint(tone, (0.4 + 0.6 * dimple) * corner, 0.3 * skin)
    return tone


def _lip_lines(units, identity):
    """Four lines from corner to corner: outer and inner edge of both lips."""
    along = np.linspace(-1, 1, 21)
    middle = 1 - along**2
    jaw = _jaw_drop(units)
    opening = 0.14 * units["AU25"] + 0.85 * jaw + 0.12 * units["AU10"]
    tight = 1 - 0.5 * units["AU23"] - 0.55 * units["AU24"] * (1 - 0.5 * units["AU23"])
    full = identity["lip_fullness"] * max(0.15, tight)
    spread = 1 + 0.22 * units["AU12"] - 0.12 * units["AU23"] - 0.05 * units["AU24"]
    spread += 0.05 * units["AU15"] - 0.2 * units["AU27"] - 0.06 * units["AU26"]
    x = 0.72 * identity["mouth_width"] * spread * along
    corner = identity["mouth_curve"] - 0.32 * units["AU12"] + 0.24 * units["AU15"]
    corner += 0.25 * jaw + 0.06 * units["AU10"]
    tug = np.where(along < 0, units["AU14L"], units["AU14R"])
    x = x + 0.22 * tug * along**3
    y = 1.95 * identity["mouth_height"] + (corner - 0.15 * tug) * np.abs(along) ** 2.2
    y = y - 0.04 * units["AU24"] - 0.03 * units["AU09"]
    raised = (0.32 * units["AU10"] + 0.08 * units["AU09"] + 0.03 * units["AU11"]) * np.sqrt(
        np.maximum(middle, 0)
    )
    inner_top = y - 0.12 * opening * middle - 0.55 * raised
    inner_bottom = y + 0.88 * opening * middle**0.8
    bow = 1 - 0.28 * np.exp(-0.5 * (along / 0.1) ** 2)
    narrow = 1 - 0.6 * tug * np.abs(along)
    top = inner_top - 0.2 * full * bow * middle**0.8 * narrow - 0.35 * raised
    bottom = inner_bottom + 0.27 * full * middle**0.7 * narrow
    return {
        name: np.stack([x, edge], axis=1)
        for name, edge in (
            ("top", top),
            ("inner_top", inner_top),
            ("inner_bottom", inner_bottom),
            ("bottom", bottom),
        )
    }


def _jaw_drop(units):
    return min(1.0, 0.5 * units["AU26"] + units["AU27"])


def _head_outline(units, identity):
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    side, down = np.cos(angle), np.sin(angle)
    narrowing = 1 - (1 - 0.95 * identity["jaw_width"]) * np.maximum(down, 0) ** 1.5
    side = np.sign(side) * np.abs(side) ** 0.75
    x = 1.95 * identity["face_width"] * side * narrowing
    below = 2.85 * identity["face_length"] + 0.55 * _jaw_drop(units)
    y = 0.35 + np.where(down > 0, below, 2.5) * down
    return np.stack([x, y], axis=1)


def _hair_outline(identity):
    angle = np.linspace(np.pi, 2 * np.pi, 30)
    x = 2.25 * identity["face_width"] * np.cos(angle)
    y = 0.5 + 2.9 * np.sin(angle)
    return np.stack([x, y], axis=1)


def _ellipse(x, y, half_width, half_height):
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    return np.stack(
        [x + half_width * np.cos(angle), y + half_height * np.sin(angle)], axis=1
    )


def _arc(x0, y0, x1, y1, sag):
    """Points from one end to the other, bent to the left of the way by ``sag``."""
    share = np.linspace(0, 1, 9)
    bend = 4 * sag * share * (1 - share)
    length = np.hypot(x1 - x0, y1 - y0)
    x = x0 + (x1 - x0) * share + bend * (y1 - y0) / length
    y = y0 + (y1 - y0) * share - bend * (x1 - x0) / length
    return np.stack([x, y], axis=1)


def _through(start, middle, end):
    """Points of a parabola (in share) through three points."""
    share = np.linspace(0, 1, 11)[:, None]
    start, middle, end = (np.asarray(point) for point in (start, middle, end))
    return (
        start * (1 - share) * (1 - 2 * share)
        + middle * 4 * share * (1 - share)
        + end * share * (2 * share - 1)
    )


def _paint(tone, coverage, value):
    return tone + coverage * (value - tone)
