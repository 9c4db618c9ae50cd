"""Which side of the split each image stands on; no side shares a subject or group with another unless asked for by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core import rng
from pellucid.core.errors import SettingError, SplitError, did_you_mean, listing, nearest
from pellucid.core.settings import DataSettings
from pellucid.data.dataset import Dataset

SIDES = ("train", "val", "test")
SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "holdout"),
}
# Units are whole numbers of images, so one random draw may miss the shares of images by a lot; the best of a few rarely does.
_DRAWS = 32
_EXAMPLES = 5


@dataclass(frozen=True)
class Split:
    """A side for each image.

    Attributes
    ----------
    sides : str array [N]
        ``train``, ``val`` or ``test``.
    how : str
        How it was made, in words.
    leaks : list of dict
        Subjects or groups on more than one side, as :func:`crossing` gives them.
    unit : str
        What was kept on one side: ``subjects``, ``groups`` or ``images``.
    """

    sides: NDArray[np.str_]
    how: str
    leaks: list[dict[str, Any]]
    unit: str

    def rows(self, side: str) -> NDArray[np.int64]:
        """Return the rows of the images on one side."""
        return np.flatnonzero(self.sides == side)


def make_split(dataset: Dataset, settings: DataSettings) -> Split:
    """Put each image on a side, as ``data.split`` says.

    Parameters
    ----------
    dataset : Dataset
    settings : DataSettings
        ``split`` and what belongs to it: ``subject`` (held out by group or subject, stratified by class), ``image`` (by image),
        ``kfold`` (fold `fold` of `folds` is the test) or ``column:NAME``. Where a k-fold or a column leaves no validation,
        `val_share` of the units outside the test are taken for it.

    Returns
    -------
    Split
        A pure function of the images' names, units and classes and of `split_seed`; the order of the images plays no part.

    Raises
    ------
    SettingError
        No such kind of split, or a fold that isn't there.
    SplitError
        Too few units, an empty side, a class without training images, an unknown value in the split column, or a column that
        parts a subject or group (unless `allow_leak`).
    """
    kind, _, column = settings.split.partition(":")
    if kind == "column" and column:
        split = _by_column(dataset, settings, column)
    elif settings.split in ("subject", "image"):
        split = _held_out(dataset, settings)
    elif settings.split == "kfold":
        split = _fold(dataset, settings)
    else:
        choices = ["subject", "image", "kfold", "column:NAME"]
        raise SettingError(
            f'[data] split = "{settings.split}" is no split.{did_you_mean(settings.split, choices)} There are: {", ".join(choices)}.',
            setting="data.split", near=nearest(settings.split, choices),
        )  # fmt: skip
    _check_sides(dataset, split.sides)
    return split


def crossing(dataset: Dataset, sides: NDArray[np.str_]) -> list[dict[str, Any]]:
    """Return the subjects and groups that stand on more than one side.

    Parameters
    ----------
    dataset : Dataset
    sides : str array [N]

    Returns
    -------
    list of dict
        At most one for each of ``subject`` and ``group``: ``column``, ``units`` (how many of them cross), ``images`` (how many
        images these have), ``examples`` (e.g. ``007: train 4, test 2``; those with most images first) and ``names``.
    """
    found = []
    for column, values in (("subject", dataset.subjects), ("group", dataset.groups)):
        tallies: dict[str, Counter[str]] = defaultdict(Counter)
        for value, side in zip(values, sides, strict=True):
            if value and side:
                tallies[value][str(side)] += 1
        parted = {value: tally for value, tally in tallies.items() if len(tally) > 1}
        if parted:
            worst = sorted(parted, key=lambda value: (-parted[value].total(), value))[:_EXAMPLES]
            texts = [f"{value}: " + ", ".join(f"{s} {parted[value][s]}" for s in SIDES if parted[value][s]) for value in worst]
            images = sum(tally.total() for tally in parted.values())
            found.append({"column": column, "units": len(parted), "images": images, "examples": texts, "names": worst})
    return found


def whole_units(dataset: Dataset) -> NDArray[np.int64]:
    """Return a number [N] for each image's split unit, so that neither a group nor a subject is parted.

    The unit is the group where set, else the subject, else the image (``Dataset.split_units``). Where a subject has images in several
    groups, or some outside any group, these are joined. Units are numbered by the least name in them.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(token: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(token, token)
        while parent[token] != token:
            parent[token] = token = parent[parent[token]]
        return token

    def tokens(row: int) -> list[tuple[str, str]]:
        named = [("group", dataset.groups[row]), ("subject", dataset.subjects[row])]
        return [token for token in named if token[1]] or [("image", dataset.ids[row])]

    for row in range(len(dataset)):
        first, *others = (root(token) for token in tokens(row))
        for other in others:
            # The least name becomes the root, so that the numbering doesn't hang on the order of the images.
            first, other = sorted((root(first), root(other)))
            parent[other] = first
    roots = ["/".join(root(tokens(row)[0])) for row in range(len(dataset))]
    return np.unique(roots, return_inverse=True)[1].astype(np.int64) if roots else np.zeros(0, np.int64)


def split_unit_name(dataset: Dataset) -> str:
    """Return what a split keeps together: ``groups``, ``subjects`` or ``images``."""
    return "groups" if any(dataset.groups) else "subjects" if any(dataset.subjects) else "images"


def _held_out(dataset: Dataset, settings: DataSettings) -> Split:
    if settings.val_share + settings.test_share >= 1:
        raise SplitError(
            f"[data] val_share {settings.val_share:g} and test_share {settings.test_share:g} leave nothing to train on. Lower them."
        )
    by_image = settings.split == "image"
    units = _image_units(dataset) if by_image else whole_units(dataset)
    unit = "images" if by_image else split_unit_name(dataset)
    n_units = len(np.unique(units))
    if n_units < 3:
        raise SplitError(f"{dataset.name}: {n_units} {unit} can't be held out on three sides. Add data, or use a split column.")
    sides = _hold_out(units, _class_table(dataset), settings.val_share, settings.test_share, settings.split_seed)
    shares = f"about {settings.val_share:.0%} val and {settings.test_share:.0%} test, seed {settings.split_seed}"
    return Split(sides, f"held out by {_one(unit)}: {shares}", crossing(dataset, sides), unit)


def _fold(dataset: Dataset, settings: DataSettings) -> Split:
    if settings.fold >= settings.folds:
        raise SettingError(
            f"[data] fold = {settings.fold}: with folds = {settings.folds} the folds are 0 to {settings.folds - 1}.", setting="data.fold"
        )
    units, unit = whole_units(dataset), split_unit_name(dataset)
    n_units = len(np.unique(units))
    if n_units < settings.folds:
        raise SplitError(f"{dataset.name}: {n_units} {unit} can't make {settings.folds} folds. Lower data.folds, or add data.")
    classes = _class_table(dataset)
    folds = _deal(units, classes, settings.folds, rng.generator(settings.split_seed, f"folds {settings.repeat}"))
    sides = np.where(folds == settings.fold, "test", "train").astype("<U5")
    _carve_val(sides, units, classes, settings)
    how = f"fold {settings.fold} of {settings.folds} by {_one(unit)}, repeat {settings.repeat}, seed {settings.split_seed}"
    return Split(sides, f"{how}; val is {settings.val_share:.0%} of the rest", crossing(dataset, sides), unit)


def _by_column(dataset: Dataset, settings: DataSettings, column: str) -> Split:
    if column not in dataset.columns:
        names = list(dataset.columns)
        raise SplitError(
            f'{dataset.name}: there is no column "{column}" to split by.{did_you_mean(column, names)} '
            f"Columns: {listing(sorted(names), show=20) or 'none'}."
        )
    meaning = {spelling: side for side, spellings in SPELLINGS.items() for spelling in spellings}
    sides = np.array([meaning.get(value.strip().lower(), "") for value in dataset.columns[column]], dtype="<U5")
    unknown = Counter(value for value, side in zip(dataset.columns[column], sides, strict=True) if not side)
    if unknown:
        seen = [f'"{value}" ({count:,} images)' for value, count in sorted(unknown.items())]
        known = ", ".join(spelling for spellings in SPELLINGS.values() for spelling in spellings)
        raise SplitError(f"{dataset.name}, column {column}: no side is called {listing(seen)}. Use one of {known}.")
    leaks = crossing(dataset, sides)
    if leaks and not settings.allow_leak:
        raise _parted(dataset, column, leaks, sides)
    how, unit = f"by column {column}", split_unit_name(dataset)
    if not (sides == "val").any():
        _carve_val(sides, whole_units(dataset), _class_table(dataset), settings)
        how += f"; val is {settings.val_share:.0%} of its train, by {_one(unit)}, seed {settings.split_seed}"
        leaks = crossing(dataset, sides)
    return Split(sides, how, leaks, unit)


def _parted(dataset: Dataset, column: str, leaks: list[dict[str, Any]], sides: NDArray[np.str_]) -> SplitError:
    leak = leaks[0]
    name, values = leak["names"][0], dataset.subjects if leak["column"] == "subject" else dataset.groups
    tally = Counter(str(side) for value, side in zip(values, sides, strict=True) if value == name)
    first, *others = [(side, tally[side]) for side in SIDES if tally[side]]
    where = f"{first[0]} ({first[1]} image{'s' if first[1] != 1 else ''})" + "".join(f" and {side} ({n})" for side, n in others)
    more = ", ".join(
        f"{leak['units']:,} {leak['column']}{'s' if leak['units'] != 1 else ''} with {leak['images']:,} images" for leak in leaks
    )
    return SplitError(
        f'{dataset.name}, column {column}: {leak["column"]} "{name}" is in {where}; in all {more}. '
        'Use split = "subject", or data.allow_leak = true if you accept the banner in the report.',
        units=leak["names"],
    )


def _check_sides(dataset: Dataset, sides: NDArray[np.str_]) -> None:
    for side in SIDES:
        if not (sides == side).any():
            raise SplitError(f"{dataset.name}: no image is left for {side}. Add data, or change data.split or its shares.")
    classes = _class_table(dataset)
    in_train = classes[sides == "train"].sum(0)
    for k in np.flatnonzero(in_train == 0):
        elsewhere = [f"{side} ({n:,} images)" for side in SIDES[1:] if (n := int(classes[sides == side, k].sum()))]
        where = f"is in {' and '.join(elsewhere)} but not in train" if elsewhere else "has no image"
        raise SplitError(f'{dataset.name}: class "{dataset.task.classes[k]}" {where}. Move some to train, or leave the class out.')


def _class_table(dataset: Dataset) -> NDArray[np.int64]:
    """Return 0/1 [N, K]: which classes each image has."""
    if dataset.task.kind == "multi":
        return dataset.targets.astype(np.int64)
    return np.eye(dataset.task.n_classes, dtype=np.int64)[dataset.targets]


def _image_units(dataset: Dataset) -> NDArray[np.int64]:
    return np.unique(dataset.ids, return_inverse=True)[1].astype(np.int64)


def _carve_val(sides: NDArray[np.str_], units: NDArray[np.int64], classes: NDArray[np.int64], settings: DataSettings) -> None:
    rest = np.flatnonzero(sides == "train")
    if len(rest):
        sides[rest] = _hold_out(units[rest], classes[rest], settings.val_share, 0.0, settings.split_seed)


def _hold_out(
    units: NDArray[np.int64], classes: NDArray[np.int64], val_share: float, test_share: float, seed: int
) -> NDArray[np.str_]:  # fmt: skip
    """Hold out whole units, class by class, and of a few draws keep the one whose shares of images come nearest."""
    of_image, per_unit, stratum = _unit_table(units, classes)
    generator = rng.generator(seed, "split")
    side = np.zeros(len(stratum), dtype=np.int64)
    for kind in np.unique(stratum):
        members = np.flatnonzero(stratum == kind)
        draws = [_draw(len(members), val_share, test_share, generator) for _ in range(_DRAWS)]
        side[members] = min(draws, key=lambda draw: _error(draw, per_unit[members], val_share, test_share))
    return np.array(SIDES)[side][of_image]


def _draw(n: int, val_share: float, test_share: float, generator: np.random.Generator) -> NDArray[np.int64]:
    n_val, n_test = _quota(n, val_share, test_share)
    return generator.permutation(np.repeat([0, 1, 2], [n - n_val - n_test, n_val, n_test]))


def _error(side: NDArray[np.int64], per_unit: NDArray[np.int64], val_share: float, test_share: float) -> float:
    held = np.stack([per_unit[side == s].sum(0) for s in range(3)])  # [sides, K]
    wanted = np.array([1 - val_share - test_share, val_share, test_share])[:, None] * per_unit.sum(0)
    # A class that is missing from train makes the split unusable, whatever its shares.
    missing = (held[0] == 0) & (wanted[0] > 0)
    return float(np.abs(held - wanted).sum()) + 1e9 * float(missing.sum())


def _quota(n: int, val_share: float, test_share: float) -> tuple[int, int]:
    """Return how many of a class's n units go to val and test; train keeps at least one, then test gets one, then val."""
    n_test = min(max(round(n * test_share), 1 if test_share else 0), n - 1)
    return min(max(round(n * val_share), 1), n - 1 - n_test), n_test


def _deal(
    units: NDArray[np.int64], classes: NDArray[np.int64], folds: int, generator: np.random.Generator
) -> NDArray[np.int64]:  # fmt: skip
    """Deal whole units to folds [N], large ones first, each to the fold that has least of its class, then least of all."""
    of_image, per_unit, stratum = _unit_table(units, classes)
    order = generator.permutation(len(stratum))
    order = order[np.argsort(-per_unit[order].sum(1), kind="stable")]
    held = np.zeros((folds, classes.shape[1]))
    n_held = np.zeros(folds)
    fold = np.zeros(len(stratum), dtype=np.int64)
    for unit in order:
        fold[unit] = np.lexsort((held.sum(1), n_held, held[:, stratum[unit]]))[0]
        held[fold[unit]] += per_unit[unit]
        n_held[fold[unit]] += 1
    return fold[of_image]


def _unit_table(
    units: NDArray[np.int64], classes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Return each image's unit counted from 0 [N], images per unit and class [units, K], and the units' majority class."""
    numbers, of_image = np.unique(units, return_inverse=True)
    per_unit = np.zeros((len(numbers), classes.shape[1]), dtype=np.int64)
    np.add.at(per_unit, of_image, classes)
    return of_image, per_unit, per_unit.argmax(1)


def _one(unit: str) -> str:
    return unit.removesuffix("s")
