"""Generated brain-like slices with lesions whose place is known: data for trying things out, and ground truth for explanations.

One subject is one anatomy, written as smooth functions of place and height, so that any slice can be drawn at any size. One
slice is drawn in layers: head, brain with folds, ventricles and deep grey, vessels, lesion, then what a scanner adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pellucid.core import rng
from pellucid.core.errors import SettingError
from pellucid.core.fingerprint import fingerprint
from pellucid.core.records import Task
from pellucid.core.registry import part
from pellucid.core.settings import DataSettings
from pellucid.data import table
from pellucid.data.dataset import Dataset

VERSION = 1  # raised by hand when the same options give other pixels
CLASSES = ("none", "solid", "ring", "diffuse")
SIZES = (64, 224)

# Brightness of tissues as in a T1 image after contrast medium, in [0, 1].
AIR, FAT, BONE, FLUID, GREY, WHITE, VESSEL = 0.0, 0.80, 0.10, 0.13, 0.42, 0.58, 0.86


@part(generator=True)
def phantom(
    path: Path,
    settings: DataSettings,
    *,
    n_subjects: int = 60,
    slices: int = 8,
    seed: int = 0,
    shortcut: float = 0.0,
    shortcut_split: Literal["all", "train"] = "all",
) -> Dataset:
    """Generated brain-like slices without a lesion or with a solid, ring or diffuse one, and the lesion's mask.

    Every subject has an anatomy of its own and one class, as in sets of tumour images; its slices are alike. A subject with
    lesions has several of its kind, two neighbouring slices cut through each. Bright vessels, uneven brightness and noise are
    there to be mistaken for lesions.

    Parameters
    ----------
    path : Path
        Not read.
    settings : DataSettings
        Slices are drawn at ``size`` pixels, but never below 64 or above 224 (the store then resizes them).
    n_subjects : int
        At least 4; the classes take turns.
    slices : int
        Slices per subject.
    seed : int
        Same seed, same bytes.
    shortcut : float
        0 to 1. Above 0, each slice carries a mark of one to four ticks in its upper left corner. With this probability the number
        of ticks tells the class, otherwise it is drawn.
    shortcut_split : str
        ``train``: the mark tells the class only in the training part of the ``split`` column, and is drawn elsewhere.

    Returns
    -------
    Dataset
        Subjects ``s001``, ...; columns ``slice`` (1 is the lowest), ``split`` (70/15/15 of each class's subjects) and, with a
        shortcut, ``ticks``.

    Raises
    ------
    SettingError
        An option lies outside its range.

    Examples
    --------
    >>> dataset = phantom(Path(), DataSettings(), n_subjects=4, slices=2)
    >>> dataset.read(0).shape, dataset.ids[:2]
    ((96, 96), ['s001_1', 's001_2'])
    """
    _check(n_subjects, slices, shortcut)
    size = int(np.clip(settings.size, *SIZES))
    rows, cuts = _plan(n_subjects, slices, seed, shortcut, shortcut_split)

    @lru_cache(maxsize=64)
    def drawn(name: str) -> Slice:
        return draw(cuts[name], size)

    columns = settings.model_copy(update={"path": "path", "mask": "mask"})
    source = {"kind": "phantom", "path": "", "seed": seed}
    stamp = fingerprint("phantom", VERSION, size, seed, n_subjects, slices, shortcut, shortcut_split)
    dataset = table.build(rows, columns, name="phantom", source=source, stamp=lambda _: stamp,
                          read=lambda name: drawn(name).pixels, read_mask=lambda name: drawn(name).mask)  # fmt: skip
    return _in_order(dataset) if settings.label == "label" else dataset


class Cut(NamedTuple):
    """All that decides one slice."""

    seed: int
    subject: int
    kind: str
    level: int  # 0 is the lowest
    n_slices: int
    ticks: int = 0


class Slice(NamedTuple):
    """One drawn slice: uint8 [S, S] and where its lesion is, bool [S, S]."""

    pixels: np.ndarray
    mask: np.ndarray


def draw(cut: Cut, size: int) -> Slice:
    """Draw one slice at `size` pixels."""
    anatomy = _anatomy(cut.seed, cut.subject)
    height = (cut.level + 0.5) / cut.n_slices
    x, y = _head_coordinates(anatomy, size)
    soft = 1.0 / size  # half a pixel: edges are this wide
    brain = _brain(anatomy, x, y, height, soft)
    image = _vessels(anatomy, brain, x, y, height, soft)
    covered = np.zeros(image.shape)
    if cut.kind != "none":
        image, covered = _lesion(_focus(cut, anatomy), image, brain, x, y, soft)
    pixels = _scan(anatomy, image, cut)
    if cut.ticks:
        _stamp_ticks(pixels, cut.ticks)
    return Slice(pixels, covered > 0.5)


@dataclass(frozen=True)
class Anatomy:
    """One subject's head. Lengths are in half image sides; angles in radians; x to the right, y to the front."""

    shift: np.ndarray  # [2]
    tilt: float
    radii: np.ndarray  # [2], half width and half length of the head
    outline: np.ndarray  # [4, 2] strength and phase of the outline's harmonics
    scalp: float
    bone: float
    folds: np.ndarray  # [W, 4] angular count, radial frequency, height frequency, phase
    fold_depth: float
    ribbon: float  # thickness of the cortex
    atrophy: float  # width of the fluid in the folds
    ventricles: float
    lean: float  # the midline's bend
    vessel_places: np.ndarray  # [V, 4] x, y, height, radius
    contrast: float  # of white against grey matter
    gain: float
    bias: np.ndarray  # [2, 3] slope, bend
    noise: float
    grain: np.ndarray  # [T, 3] waves of the tissue's texture


@lru_cache(maxsize=32)
def _anatomy(seed: int, subject: int) -> Anatomy:
    draws = rng.generator(seed, f"phantom/subject/{subject}")

    def between(low: float, high: float, *shape: int) -> np.ndarray:
        # Only Generator.random is promised to stay the same over NumPy's versions.
        return low + (high - low) * draws.random(shape)

    waves = 18
    folds = np.stack([
        np.floor(between(9, 20, waves)) * np.where(draws.random(waves) < 0.5, -1, 1),
        between(-9, 9, waves), between(-4, 4, waves), between(0, 2 * np.pi, waves),
    ], axis=1)  # fmt: skip
    grain = np.stack([between(-60, 60, 12), between(-60, 60, 12), between(0, 2 * np.pi, 12)], axis=1)
    n_vessels = 10
    angle, reach = between(0, 2 * np.pi, n_vessels), np.sqrt(between(0.05, 0.9, n_vessels))
    vessels = np.stack(
        [0.5 * reach * np.cos(angle), 0.66 * reach * np.sin(angle), between(0, 1, n_vessels), between(0.012, 0.028, n_vessels)], axis=1
    )
    return Anatomy(
        shift=between(-0.03, 0.03, 2), tilt=float(between(-0.12, 0.12)),
        radii=np.array([float(between(0.68, 0.76)), float(between(0.85, 0.92))]),
        outline=np.stack([between(-0.018, 0.018, 4), between(0, 2 * np.pi, 4)], axis=1),
        scalp=float(between(0.035, 0.06)), bone=float(between(0.04, 0.06)),
        folds=folds, fold_depth=float(between(0.13, 0.19)), ribbon=float(between(0.036, 0.046)), atrophy=float(between(0.002, 0.012)),
        ventricles=float(between(0.7, 1.5)), lean=float(between(-0.02, 0.02)), vessel_places=vessels,
        contrast=float(between(0.8, 1.15)), gain=float(between(0.85, 1.1)), bias=between(-0.12, 0.12, 2, 3), noise=float(between(0.015, 0.04)), grain=grain,
    )  # fmt: skip


def _head_coordinates(anatomy: Anatomy, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of every pixel centre in the upright head, each [S, S]."""
    steps = (2 * np.arange(size) + 1) / size - 1
    across, up = np.meshgrid(steps - anatomy.shift[0], -steps - anatomy.shift[1])
    sine, cosine = np.sin(anatomy.tilt), np.cos(anatomy.tilt)
    return cosine * across + sine * up, cosine * up - sine * across


class Brain(NamedTuple):
    """A slice before vessels and lesion: brightness, distance inward from the brain's surface and from the nearest fluid, each [S, S]."""

    image: np.ndarray
    depth: np.ndarray
    from_fluid: np.ndarray
    from_folds: np.ndarray


def _brain(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, height: float, soft: float) -> Brain:
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    inside = _outline(anatomy, angle, height) - radius  # from the skin inward
    depth = inside - anatomy.scalp - anatomy.bone - 0.012
    fluid_edge = depth - 0.006 - anatomy.atrophy
    middle = np.abs(x - anatomy.lean * np.cos(2.2 * y)) + np.maximum(0, (0.33 - 0.33 * height) - np.abs(y + 0.02)) * 1.5
    sylvian = np.minimum(_segment(x, y, (0.72, -0.02), (0.40, 0.10)), _segment(x, y, (-0.72, -0.02), (-0.40, 0.10))) + 0.08 * height
    folds = _folds(anatomy, angle, radius, height) + np.maximum(0, depth - anatomy.fold_depth * (0.8 + 0.2 * np.cos(3 * angle))) * 1.3
    folds = np.minimum(folds, _medial_folds(anatomy, x, y, height))
    from_folds = np.minimum.reduce([fluid_edge, middle - 0.008, sylvian - 0.012, folds - anatomy.atrophy])
    from_ventricles = _ventricles(anatomy, x, y, height)

    white = GREY + (WHITE - GREY) * anatomy.contrast
    image = np.full(x.shape, white)
    deep = _deep_grey(x, y, height)
    image += (GREY - white) * np.maximum(_step(anatomy.ribbon - from_folds, 2.2 * soft), 0.85 * deep)
    image += _grain(anatomy, x, y) * 0.02
    from_fluid = np.minimum(from_folds, from_ventricles)
    image += (FLUID - image) * _step(-from_folds, 1.6 * soft) * 0.9
    image += (FLUID - image) * _step(-from_ventricles, 1.2 * soft)
    image += (0.16 - image) * _step(-fluid_edge, 1.2 * soft)
    image += (BONE - image) * _step(-depth, soft)
    marrow = np.exp(-(((inside - anatomy.scalp - 0.55 * anatomy.bone) / (0.16 * anatomy.bone)) ** 2))
    image += 0.18 * marrow
    image += (FAT - image) * _step(anatomy.scalp - inside, soft) * (0.85 + 0.15 * np.cos(2 * angle))
    image += (AIR - image) * _step(-inside, soft)
    return Brain(image, depth, from_fluid, from_folds)


def _outline(anatomy: Anatomy, angle: np.ndarray, height: float) -> np.ndarray:
    """Return the head's radius in each direction: an ellipse, squarer than a true one, with the subject's own bumps."""
    half_width, half_length = anatomy.radii * (1 - 0.05 * height**2)
    power = 2.25
    radius = (np.abs(np.cos(angle) / half_width) ** power + np.abs(np.sin(angle) / half_length) ** power) ** (-1 / power)
    bumps = sum(strength * np.cos((k + 1) * angle + phase) for k, (strength, phase) in enumerate(anatomy.outline))
    narrow_forehead = -0.02 * np.sin(angle)
    return radius * (1 + bumps + narrow_forehead)


def _folds(anatomy: Anatomy, angle: np.ndarray, radius: np.ndarray, height: float) -> np.ndarray:
    """Return the distance to the nearest sulcus: the zero lines of random waves, which wind as folds do."""
    wave, slope_a, slope_r = np.zeros_like(angle), np.zeros_like(angle), np.zeros_like(angle)
    for count, frequency, lift, phase in anatomy.folds:
        argument = count * angle + frequency * radius + lift * height + phase
        sine = np.sin(argument)
        wave += np.cos(argument)
        slope_a += count * sine
        slope_r += frequency * sine
    steepness = np.hypot(slope_a / np.maximum(radius, 0.1), slope_r)
    usual = np.sqrt(np.mean(anatomy.folds[:, 0] ** 2) * len(anatomy.folds) / 2) / 0.6
    return np.abs(wave) / np.hypot(steepness, 0.5 * usual)


def _medial_folds(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, height: float) -> np.ndarray:
    """Return the distance to the short folds that leave the midline, in front and behind."""
    phase = anatomy.folds[0, 3]
    along = np.abs(np.sin(9.0 * y + phase + np.sign(x) * 0.7 + 2 * height)) / 9.0
    return along + np.maximum(0, np.abs(x) - 0.12) * 1.5 + np.maximum(0, 0.36 - 0.36 * height - np.abs(y + 0.02)) * 1.5


def _ventricles(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, height: float) -> np.ndarray:
    """Return the distance from the ventricles, negative inside: front horns, bodies, back horns, third ventricle."""
    wide = anatomy.ventricles * (1.1 - 0.7 * height)
    across = np.abs(x - anatomy.lean)
    front = _segment(across, y, (0.035, 0.06), (0.10 + 0.03 * wide, 0.30)) - 0.034 * wide * (1 + 0.6 * np.clip((y - 0.1) / 0.2, 0, 1))
    body = _segment(across, y, (0.035, 0.08), (0.06 + 0.05 * (1 - height), -0.14)) - (0.016 + 0.022 * height) * wide
    back = _segment(across, y, (0.07 + 0.05 * (1 - height), -0.14), (0.20, -0.36)) - 0.040 * wide * np.clip(1.2 + 2.2 * (y + 0.2), 0.25, 1)
    third = _segment(across, y, (0.0, -0.02), (0.0, -0.14)) - 0.014 * wide + 0.05 * np.maximum(0, height - 0.4)
    return np.minimum.reduce([front, body, back, third])


def _deep_grey(x: np.ndarray, y: np.ndarray, height: float) -> np.ndarray:
    """Return how much of each pixel is deep grey matter: caudate, putamen with pallidum, thalamus."""
    across = np.abs(x)
    fade = np.clip(1.6 - 1.8 * height, 0, 1)
    caudate = _blob(across, y, (0.17, 0.20), (0.045, 0.10), 0.35)
    putamen = _blob(across, y, (0.30, 0.06), (0.06, 0.16), -0.25)
    thalamus = _blob(across, y, (0.12, -0.12), (0.085, 0.11), -0.5)
    return fade * np.maximum.reduce([caudate, putamen, thalamus])


def _vessels(anatomy: Anatomy, brain: Brain, x: np.ndarray, y: np.ndarray, height: float, soft: float) -> np.ndarray:
    """Return the image with what lights up after contrast medium without being a lesion."""
    image = brain.image
    back = _step(0.030 - np.hypot(x, brain.depth * (y < 0) + (y >= 0) - 0.005), soft)
    front = _step(0.016 - np.hypot(x, brain.depth * (y > 0) + (y <= 0) - 0.004), soft)
    image = image + (VESSEL - image) * np.maximum(back, 0.8 * front)
    for vx, vy, vz, radius in anatomy.vessel_places:
        seen = radius - 0.05 * abs(vz - height)
        if seen > 0.004:
            image = image + (VESSEL - image) * _step(seen - np.hypot(x - vx, y - vy), soft) * 0.9
    return image


class Focus(NamedTuple):
    """One lesion where the slice cuts it."""

    kind: str
    x: float
    y: float
    radius: float
    lobes: np.ndarray  # [3, 2] strength and phase
    brightness: float
    core: float
    rim: float
    halo: float
    mottle: np.ndarray  # [6, 3] waves


def _focus(cut: Cut, anatomy: Anatomy) -> Focus:
    """Choose the lesion of this slice; two neighbouring slices share one and cut it at different heights."""
    draws = rng.generator(cut.seed, f"phantom/focus/{cut.subject}/{cut.level // 2}")
    u = draws.random(12)
    lobes = np.stack([(0.05, 0.11, 0.07) * (0.4 + draws.random(3)), 2 * np.pi * draws.random(3)], axis=1)
    waves = np.stack([70 * draws.random(6) - 35, 70 * draws.random(6) - 35, 2 * np.pi * draws.random(6)], axis=1)
    angle, reach = 2 * np.pi * u[0], np.sqrt(0.12 + 0.88 * u[1])
    half_width, half_length = anatomy.radii - anatomy.scalp - anatomy.bone
    widest = {"solid": (0.07, 0.16), "ring": (0.08, 0.18), "diffuse": (0.13, 0.25)}[cut.kind]
    radius = widest[0] + (widest[1] - widest[0]) * u[2]
    offset = (u[3] - 0.5) * 0.5 + (0.5 if cut.level % 2 else 0.0) * (1 if u[3] < 0.5 else -1)
    return Focus(
        kind=cut.kind,
        x=float((half_width - 0.75 * radius - 0.04) * reach * np.cos(angle)), y=float((half_length - 0.75 * radius - 0.04) * reach * np.sin(angle)),
        radius=float(radius * np.sqrt(1 - offset**2)), lobes=lobes,
        brightness=float(0.62 + 0.22 * u[4]), core=float(0.22 + 0.16 * u[5]), rim=float(0.18 + 0.2 * u[6]), halo=float(u[7]), mottle=waves,
    )  # fmt: skip


def _lesion(focus: Focus, image: np.ndarray, brain: Brain, x: np.ndarray, y: np.ndarray, soft: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the image with the lesion, and how much of each pixel it covers."""
    dx, dy = x - focus.x, y - focus.y
    angle, distance = np.arctan2(dy, dx), np.hypot(dx, dy)
    edge = focus.radius * (1 + sum(strength * np.cos((k + 2) * angle + phase) for k, (strength, phase) in enumerate(focus.lobes)))
    mottle = sum(np.cos(kx * x + ky * y + phase) for kx, ky, phase in focus.mottle) / 6
    within = _step(brain.depth - 0.01, 2 * soft)
    if focus.kind == "diffuse":
        covered = _step(edge * (1 + 0.35 * mottle) - distance, 0.10 * focus.radius + 2 * soft) * within
        target = focus.core + 0.10 + 0.03 * mottle
        return image + (target - image) * 0.75 * covered, covered
    covered = _step(edge - distance, 1.5 * soft) * within
    halo = np.exp(-((np.maximum(distance - edge, 0) / (0.35 * focus.radius)) ** 2)) * within * _step(brain.from_folds - 0.02, 0.02)
    image = image + (0.34 - image) * 0.6 * halo * focus.halo
    target = focus.brightness + 0.05 * mottle
    if focus.kind == "ring":
        inner = edge * (1 - focus.rim * (1 + 0.5 * np.cos(angle + focus.lobes[0, 1]))) - distance
        target = target + (focus.core + 0.04 * mottle - target) * _step(inner, 1.5 * soft)
    return image + (target - image) * covered, covered


def _scan(anatomy: Anatomy, image: np.ndarray, cut: Cut) -> np.ndarray:
    """Return uint8 pixels: uneven sensitivity, and the noise of a magnitude image (Rician)."""
    size = len(image)
    steps = (2 * np.arange(size) + 1) / size - 1
    (sx, sy, sxy), (bx, by, _) = anatomy.bias
    field = 1 + sx * steps + (sy * steps)[:, None] + sxy * steps * steps[:, None] + bx * steps**2 + (by * steps**2)[:, None]
    draws = rng.generator(cut.seed, f"phantom/noise/{cut.subject}/{cut.level}").random((2, size, size))
    strength, phase = anatomy.noise * np.sqrt(-2 * np.log(1 - draws[0])), 2 * np.pi * draws[1]
    signal = np.hypot(image * field * anatomy.gain + strength * np.cos(phase), strength * np.sin(phase))
    return np.rint(255 * np.clip(signal, 0, 1)).astype(np.uint8)


def _stamp_ticks(pixels: np.ndarray, ticks: int) -> None:
    """Draw the mark of one to four upright ticks into the upper left corner."""
    size = len(pixels)
    unit = max(size // 48, 1)
    for tick in range(ticks):
        left = 2 * unit + 2 * unit * tick
        pixels[2 * unit : 6 * unit, left : left + unit] = 225


def _grain(anatomy: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return sum(np.cos(kx * x + ky * y + phase) for kx, ky, phase in anatomy.grain) / 3


def _step(distance: np.ndarray, soft: float) -> np.ndarray:
    """Return 0 to 1 across an edge: 0.5 where `distance` is 0."""
    return np.clip(0.5 + 0.5 * distance / soft, 0, 1)


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


def _plan(n_subjects: int, slices: int, seed: int, shortcut: float, shortcut_split: str) -> tuple[list[table.Row], dict[str, Cut]]:
    """Return the rows and, by image name, what to draw."""
    draws = rng.generator(seed, "phantom/ticks")
    sides = _sides(n_subjects, seed)
    rows: list[table.Row] = []
    cuts: dict[str, Cut] = {}
    for subject in range(n_subjects):
        number, side = subject % len(CLASSES), sides[subject]
        for level in range(slices):
            name = f"s{subject + 1:03d}_{level + 1}"
            telling, drawn = draws.random(2)
            tells = telling < shortcut and (shortcut_split == "all" or side == "train")
            ticks = (number if tells else int(drawn * len(CLASSES))) + 1 if shortcut > 0 else 0
            row = {
                "path": name,
                "label": CLASSES[number],
                "subject": f"s{subject + 1:03d}",
                "mask": name,
                "slice": str(level + 1),
                "split": side,
            }
            rows.append(row | ({"ticks": str(ticks)} if ticks else {}))
            cuts[name] = Cut(seed, subject, CLASSES[number], level, slices, ticks)
    return rows, cuts


def _sides(n_subjects: int, seed: int) -> list[str]:
    """Put 70/15/15 of each class's subjects on the three sides."""
    sides = ["train"] * n_subjects
    for number in range(len(CLASSES)):
        members = np.arange(number, n_subjects, len(CLASSES))
        shuffled = members[np.argsort(rng.uniform(rng.derive(seed, "phantom/split"), members), kind="stable")]
        held = max(round(0.15 * len(members)), 1) if len(members) >= 3 else 0
        for place, subject in enumerate(shuffled[: 2 * held]):
            sides[subject] = "test" if place < held else "val"
    return sides


def _in_order(dataset: Dataset) -> Dataset:
    """Give the classes their natural order (none first) instead of the alphabet's."""
    from dataclasses import replace

    names = tuple(name for name in CLASSES if name in dataset.task.classes)
    place = np.array([names.index(name) for name in dataset.task.classes])
    return replace(dataset, task=Task("single", names), targets=place[dataset.targets])


def _check(n_subjects: int, slices: int, shortcut: float) -> None:
    if n_subjects < len(CLASSES):
        raise SettingError(
            f"[data] n_subjects = {n_subjects}: at least {len(CLASSES)} are needed, one for each class.", setting="n_subjects"
        )
    if slices < 1:
        raise SettingError(f"[data] slices = {slices}: at least 1 is needed.", setting="slices")
    if not 0 <= shortcut <= 1:
        raise SettingError(f"[data] shortcut = {shortcut}: a probability lies between 0 and 1.", setting="shortcut")
