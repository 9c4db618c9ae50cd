"""A drawn head: one subject's anatomy as smooth functions of place and height, so that any slice can be had at any size.

Lengths are in half image sides, x to the right, y to the front, height 0 (lowest slice) to 1. Distances are positive inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pellucid.core import rng

# Brightness of tissues as in a T1 image after contrast medium, in [0, 1].
AIR, FAT, BONE, FLUID, GREY, WHITE, VESSEL = 0.0, 0.78, 0.07, 0.12, 0.40, 0.60, 0.88
_FOLD_WAVES = 18
_VESSELS = 7


@dataclass(frozen=True)
class Anatomy:
    """What makes one subject's head unlike another's."""

    shift: np.ndarray  # [2]
    tilt: float  # radians
    radii: np.ndarray  # [2] half width and half length of the head
    outline: np.ndarray  # [4, 2] strength and phase of the outline's waves
    scalp: float  # thickness
    bone: float
    folds: np.ndarray  # [W, 4] waves of the cortex: turns around the head, inward and height frequency, phase
    fold_depth: float
    cortex: float  # thickness
    fluid: float  # half width of the folds and of the rim around the brain
    ventricles: float  # 1 is usual
    lean: float  # the midline's bend
    contrast: float  # of white against grey matter
    vessels: np.ndarray  # [V, 4] x, y, height, radius
    grain: np.ndarray  # [T, 3] waves of the tissue's texture
    gain: float
    field: np.ndarray  # [5] uneven sensitivity of the coil
    noise: float

    @property
    def brain_radii(self) -> np.ndarray:
        """Return half width and half length of the brain."""
        return self.radii - self.scalp - self.bone - 0.02


class Slice(NamedTuple):
    """A drawn slice [S, S]: brightness, and how deep each pixel lies under the brain's surface and from the next fluid."""

    image: np.ndarray
    depth: np.ndarray
    from_fluid: np.ndarray


class Grid(NamedTuple):
    """What all slices of a subject share at one size: places in the upright head, and the subject's waves there."""

    x: np.ndarray  # [S, S]
    y: np.ndarray
    angle: np.ndarray
    radius: np.ndarray
    outline: np.ndarray  # radius of the head in this direction
    folds: np.ndarray  # complex [W, S, S]
    grain: np.ndarray  # [S, S]
    soft: float  # half a pixel: how wide edges are


@lru_cache(maxsize=64)
def anatomy(seed: int, subject: int) -> Anatomy:
    """Return the anatomy of a subject; the same for the same two numbers on any machine."""
    draws = rng.generator(seed, f"phantom/subject/{subject}")

    def between(low: float, high: float, *shape: int) -> np.ndarray:
        # Only Generator.random is promised to stay the same over NumPy's versions.
        return low + (high - low) * draws.random(shape)

    sign = np.where(draws.random(_FOLD_WAVES) < 0.5, -1, 1)
    turns = np.floor(between(6, 17, _FOLD_WAVES)) * sign
    folds = np.stack([turns, between(-20, 20, _FOLD_WAVES), between(-5, 5, _FOLD_WAVES), between(0, 2 * np.pi, _FOLD_WAVES)], axis=1)
    angle, reach = between(0, 2 * np.pi, _VESSELS), np.sqrt(between(0.05, 0.9, _VESSELS))
    places = [0.5 * reach * np.cos(angle), 0.66 * reach * np.sin(angle), between(0, 1, _VESSELS), between(0.012, 0.026, _VESSELS)]
    return Anatomy(
        shift=between(-0.03, 0.03, 2),
        tilt=float(between(-0.12, 0.12)),
        radii=np.array([between(0.72, 0.80), between(0.90, 0.96)]),
        outline=np.stack([between(-0.014, 0.014, 4), between(0, 2 * np.pi, 4)], axis=1),
        scalp=float(between(0.030, 0.055)),
        bone=float(between(0.040, 0.060)),
        folds=folds,
        fold_depth=float(between(0.13, 0.20)),
        cortex=float(between(0.040, 0.052)),
        fluid=float(between(0.003, 0.011)),
        ventricles=float(between(0.7, 1.5)),
        lean=float(between(-0.02, 0.02)),
        contrast=float(between(0.8, 1.15)),
        vessels=np.stack(places, axis=1),
        grain=np.stack([between(-60, 60, 12), between(-60, 60, 12), between(0, 2 * np.pi, 12)], axis=1),
        gain=float(between(0.94, 1.06)),
        field=between(-0.12, 0.12, 5),
        noise=float(between(0.018, 0.030)),
    )


@lru_cache(maxsize=4)
def grid(seed: int, subject: int, size: int) -> Grid:
    """Return the subject's grid of `size` x `size` pixel centres."""
    head = anatomy(seed, subject)
    steps = (2 * np.arange(size) + 1) / size - 1
    across, up = np.meshgrid(steps - head.shift[0], -steps - head.shift[1])
    sine, cosine = np.sin(head.tilt), np.cos(head.tilt)
    x, y = cosine * across + sine * up, cosine * up - sine * across
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    count, inward, _, phase = head.folds.T[:, :, None, None]
    # Without this bend the folds would all point to the centre, like spokes.
    bent = angle + 0.10 * np.sin(3 * angle + phase[0]) + 0.07 * np.sin(5 * angle + 13 * radius + phase[1])
    folds = np.exp(1j * (count * bent + inward * radius + phase))
    return Grid(x, y, angle, radius, _outline(head, angle), folds, waves(head.grain, x, y), 1.0 / size)


def draw(head: Anatomy, at: Grid, height: float) -> Slice:
    """Draw a slice of a head, from the inside out, without lesion and noise."""
    inside = at.outline * (1 - 0.06 * height**2) - at.radius
    depth = inside - head.scalp - head.bone - 0.012
    from_folds = np.minimum.reduce(
        [depth - 0.006 - head.fluid, _midline(head, at, height), _sylvian(at, height), _folds(head, at, depth, height)]
    )
    from_ventricles = _ventricles(head, at, height)

    white = GREY + (WHITE - GREY) * head.contrast
    cortex = edge(head.cortex - from_folds, 2.2 * at.soft)
    image = white + (GREY - white) * np.maximum(cortex, 0.8 * _deep_grey(at, height)) + 0.012 * at.grain
    image = blend(image, FLUID, 0.95 * edge(-from_folds, 1.4 * at.soft))
    image = blend(image, FLUID, edge(-from_ventricles, 1.2 * at.soft))
    image = blend(image, BONE, edge(-depth, at.soft))
    image += 0.16 * np.exp(-(((inside - head.scalp - 0.55 * head.bone) / (0.18 * head.bone)) ** 2))  # marrow
    image = blend(image, FAT * (0.88 + 0.12 * np.cos(2 * at.angle)), edge(head.scalp - inside, at.soft))
    image = blend(image, AIR, edge(-inside, at.soft))
    image = _vessels(head, image, at, depth, height)
    return Slice(image, depth, np.minimum(from_folds, from_ventricles))


def scan(head: Anatomy, image: np.ndarray, seed: int) -> np.ndarray:
    """Return the uint8 pixels that a scanner gives: uneven sensitivity, and the noise of a magnitude image (Rician)."""
    size = len(image)
    x = (2 * np.arange(size) + 1) / size - 1
    y = x[:, None]
    field = 1 + head.field[0] * x + head.field[1] * y + head.field[2] * x * y + head.field[3] * x**2 + head.field[4] * y**2
    draws = rng.generator(seed, "phantom/noise").random((2, size, size))
    strength, phase = head.noise * np.sqrt(-2 * np.log(1 - draws[0])), 2 * np.pi * draws[1]
    signal = np.hypot(image * field * head.gain + strength * np.cos(phase), strength * np.sin(phase))
    return np.rint(255 * np.clip(signal, 0, 1)).astype(np.uint8)


def edge(distance: np.ndarray, soft: float) -> np.ndarray:
    """Return 0 to 1 across an edge, 0.5 where `distance` is 0."""
    return np.clip(0.5 + 0.5 * distance / soft, 0, 1)


def blend(image: np.ndarray, value: float | np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the image with this share of every pixel replaced by a value."""
    return image + (value - image) * share


def waves(vectors: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the sum of plane waves [T, 3] (two frequencies and a phase), scaled to unit variance."""
    total = np.zeros_like(x)
    for across, up, phase in vectors:
        total += np.cos(across * x + up * y + phase)
    return total / np.sqrt(len(vectors) / 2)


def _outline(head: Anatomy, angle: np.ndarray) -> np.ndarray:
    """Return the head's radius in each direction: an ellipse, a little squarer than a true one, with the subject's bumps."""
    half_width, half_length = head.radii
    power = 2.2
    radius = (np.abs(np.cos(angle) / half_width) ** power + np.abs(np.sin(angle) / half_length) ** power) ** (-1 / power)
    bumps = -0.02 * np.sin(angle)  # the forehead is narrower
    for number, (strength, phase) in enumerate(head.outline):
        bumps = bumps + strength * np.cos((number + 1) * angle + phase)
    return radius * (1 + bumps)


def _folds(head: Anatomy, at: Grid, depth: np.ndarray, height: float) -> np.ndarray:
    """Return the distance to the nearest fold: the zero lines of random waves wind as folds do; deep inside there are none."""
    count, inward, lift, _ = head.folds.T
    turned = np.exp(1j * lift * height)
    sums = np.tensordot(np.stack([turned, turned * count, turned * inward]), at.folds, axes=1)
    wave, slope_around, slope_inward = sums[0].real, sums[1].imag / np.maximum(at.radius, 0.1), sums[2].imag
    usual = np.sqrt(np.sum(count**2) / 2) / 0.6
    lateral = np.abs(wave) / np.sqrt(slope_around**2 + slope_inward**2 + (0.5 * usual) ** 2)
    lateral += 1.3 * np.maximum(0, depth - head.fold_depth * (0.75 + 0.25 * np.cos(7 * at.angle + head.folds[2, 3])))
    medial = np.abs(np.sin(9 * at.y + head.folds[0, 3] + 0.7 * np.sign(at.x) + 2 * height)) / 9
    medial += 1.5 * np.maximum(0, np.abs(at.x) - 0.08) + 1.5 * np.maximum(0, 0.38 - 0.36 * height - np.abs(at.y + 0.02))
    return np.minimum(lateral, medial) - head.fluid


def _midline(head: Anatomy, at: Grid, height: float) -> np.ndarray:
    """Return the distance to the cleft between the halves; in low slices the middle is bridged."""
    bridge = np.maximum(0, 0.36 - 0.36 * height - np.abs(at.y + 0.02))
    return np.abs(at.x - head.lean * np.cos(2.2 * at.y)) + 1.5 * bridge - 0.007


def _sylvian(at: Grid, height: float) -> np.ndarray:
    """Return the distance to the deep cleft at the side of each half, which closes higher up."""
    across = np.abs(at.x)
    outer, inner = _segment(across, at.y, (0.75, -0.06), (0.50, 0.06)), _segment(across, at.y, (0.50, 0.06), (0.42, 0.18))
    return np.minimum(outer, inner) + 0.07 * height - 0.014


def _ventricles(head: Anatomy, at: Grid, height: float) -> np.ndarray:
    """Return the distance from the ventricles: front and back horns, in high slices joined by the bodies; the third below."""
    across, wide = np.abs(at.x - 0.5 * head.lean), head.ventricles * (1 - 0.35 * height**2)
    neck, hind = (0.030 + 0.035 * height, 0.09), (0.105 - 0.03 * height, -0.13)
    front = _segment(across, at.y, neck, (0.15 - 0.04 * height, 0.28)) - 0.027 * wide * np.clip(0.8 + 2.2 * (at.y - 0.1), 0.5, 1.25)
    body = _segment(across, at.y, neck, hind) - 0.030 * wide * np.clip(2.2 * height - 0.75, -1, 1)
    back = _segment(across, at.y, hind, (0.23 - 0.08 * height, -0.34)) - 0.034 * wide * np.clip(1.2 + 2.5 * (at.y + 0.22), 0.3, 1.1)
    third = _segment(across, at.y, (0.0, 0.02), (0.0, -0.15)) - 0.011 * wide + 0.06 * np.maximum(0, height - 0.4)
    return np.minimum.reduce([front, body, back, third])


def _deep_grey(at: Grid, height: float) -> np.ndarray:
    """Return how much of each pixel is deep grey matter: caudate, putamen with pallidum, thalamus."""
    across = np.abs(at.x)
    caudate = _blob(across, at.y, (0.185, 0.20), (0.040, 0.10), 0.45)
    putamen = _blob(across, at.y, (0.30, 0.07), (0.055, 0.16), -0.22)
    thalamus = _blob(across, at.y, (0.105, -0.08), (0.075, 0.11), -0.5)
    return np.clip(1.7 - 2.0 * height, 0, 1) * np.maximum.reduce([caudate, putamen, thalamus])


def _vessels(head: Anatomy, image: np.ndarray, at: Grid, depth: np.ndarray, height: float) -> np.ndarray:
    """Return the image with what lights up after contrast medium without being a lesion."""
    sinus = edge(0.028 - np.hypot(at.x, np.where(at.y < 0, depth - 0.006, 1)), at.soft)
    front = edge(0.015 - np.hypot(at.x, np.where(at.y > 0, depth - 0.004, 1)), at.soft)
    spots = np.maximum(sinus, 0.8 * front)
    for x, y, level, radius in head.vessels:
        seen = radius - 0.05 * abs(level - height)
        if seen > 0.004:
            spots = np.maximum(spots, edge(seen - np.hypot(at.x - x, at.y - y), at.soft))
    return blend(image, VESSEL, 0.95 * spots)


def _segment(x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """Return the distance to a straight line between two points."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


def _blob(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radii: tuple[float, float], turn: float) -> np.ndarray:
    """Return a soft ellipse, 1 inside."""
    sine, cosine = np.sin(turn), np.cos(turn)
    dx, dy = x - centre[0], y - centre[1]
    reach = np.hypot((cosine * dx + sine * dy) / radii[0], (cosine * dy - sine * dx) / radii[1])
    return np.clip((1.15 - reach) / 0.3, 0, 1)
