"""Generated brain-like slices with lesions whose place is known: data for trying things out, and ground truth for explanations."""

from __future__ import annotations

from dataclasses import replace
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
from pellucid.data import brain, lesion, table
from pellucid.data.dataset import Dataset

VERSION = 2  # raised by hand when the same options give other pixels
CLASSES = ("none", *lesion.KINDS)
SIZES = (64, 224)


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
    def drawn(name: str) -> tuple[np.ndarray, np.ndarray]:
        return draw(cuts[name], size)

    columns = settings.model_copy(update={"path": "path", "mask": "mask"})
    source = {"kind": "phantom", "path": "", "seed": seed}
    stamp = fingerprint("phantom", VERSION, size, seed, n_subjects, slices, shortcut, shortcut_split)
    dataset = table.build(rows, columns, name="phantom", source=source, stamp=lambda _: stamp,
                          read=lambda name: drawn(name)[0], read_mask=lambda name: drawn(name)[1])  # fmt: skip
    return _in_order(dataset) if settings.label == "label" else dataset


class Cut(NamedTuple):
    """All that decides one slice."""

    seed: int
    subject: int
    kind: str
    level: int  # 0 is the lowest
    n_slices: int
    ticks: int = 0


def draw(cut: Cut, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one slice, uint8 [S, S], and where its lesion is, bool [S, S]."""
    head, at = brain.anatomy(cut.seed, cut.subject), brain.grid(cut.seed, cut.subject, size)
    drawn = brain.draw(head, at, height=(cut.level + 0.5) / cut.n_slices)
    image, covered = drawn.image, np.zeros((size, size))
    if cut.kind != "none":
        image, covered = lesion.add(_focus(cut, head), drawn, at)
    pixels = brain.scan(head, image, rng.derive(cut.seed, f"{cut.subject}/{cut.level}"))
    if cut.ticks:
        _mark(pixels, cut.ticks)
    return pixels, covered > 0.5


def _focus(cut: Cut, head: brain.Anatomy) -> lesion.Lesion:
    """Return the lesion that this slice cuts; two neighbouring slices share one, nearer to and farther from its middle."""
    seed = rng.derive(cut.seed, f"{cut.subject}/{cut.level // 2}")
    near, far = 0.3 * rng.uniform(seed, 0), 0.5 + 0.3 * rng.uniform(seed, 1)
    return lesion.choose(cut.kind, head, seed, offset=float(far if cut.level % 2 else near))


def _mark(pixels: np.ndarray, ticks: int) -> None:
    """Draw one to four upright ticks into the upper left corner."""
    unit = max(len(pixels) // 48, 1)
    for tick in range(ticks):
        left = 2 * unit * (tick + 1)
        pixels[2 * unit : 6 * unit, left : left + unit] = 225


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
