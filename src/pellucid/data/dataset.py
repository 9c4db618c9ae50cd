"""The types of the data room: what a source found, and the part of it that a stage works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.records import Task

if TYPE_CHECKING:
    from pellucid.data.store import Store


@dataclass(frozen=True)
class Dataset:
    """Images by index, with all that is known of them but their pixels.

    Attributes
    ----------
    name : str
        What people call it, e.g. the folder's name.
    task : Task
        The classes, in a stable order.
    ids : list of str
        One name per image, unique, stable (usually its path).
    targets : int64 array [N] (single) or 0/1 array [N, K] (multi)
    read : callable
        ``read(i)`` decodes image i: uint8 or uint16 array [H, W] or [H, W, 3].
        Raises ValueError with a short reason where it can't be decoded.
    read_mask : callable or None
        ``read_mask(i)`` gives a bool array [H, W], or None where the image has no mask.
    subjects, groups : list of str
        "" where unknown.
    columns : dict of str -> list of str
        Every other column of the manifest, as text ("" where missing).
    boxes : list of tuple or None
        ``(x0, y0, x1, y1)`` in pixels of the file, or None.
    source : dict
        ``kind``, ``path`` and what else says where it came from.
    content : str
        Fingerprint of all pixels, masks and labels.
    skipped : dict of id -> reason
        Images left out because they can't be read.
    """

    name: str
    task: Task
    ids: list[str]
    targets: np.ndarray
    read: Callable[[int], np.ndarray]
    content: str
    read_mask: Callable[[int], np.ndarray | None] | None = None
    subjects: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    boxes: list[tuple[float, float, float, float] | None] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.ids)
        for name in ("subjects", "groups"):
            if not getattr(self, name):
                object.__setattr__(self, name, [""] * n)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def split_units(self) -> list[str]:
        """Return what must stay on one side of the split: the group where set, else the subject, else the image."""
        return [group or subject or name for group, subject, name in zip(self.groups, self.subjects, self.ids, strict=True)]

    @property
    def resampling_units(self) -> list[str]:
        """Return what intervals resample: the subject where set, else the group, else the image."""
        return [subject or group or name for group, subject, name in zip(self.groups, self.subjects, self.ids, strict=True)]

    @property
    def unit_name(self) -> str:
        """Return what the resampling units are: ``subjects``, ``groups`` or ``images``."""
        return "subjects" if any(self.subjects) else "groups" if any(self.groups) else "images"

    def keep(self, rows: np.ndarray) -> Dataset:
        """Return the dataset of these rows only, in this order."""
        kept = [int(row) for row in rows]
        read, read_mask = self.read, self.read_mask
        return replace(
            self,
            ids=[self.ids[r] for r in kept],
            targets=self.targets[kept],
            read=lambda i: read(kept[i]),
            read_mask=None if read_mask is None else (lambda i: read_mask(kept[i])),
            subjects=[self.subjects[r] for r in kept],
            groups=[self.groups[r] for r in kept],
            columns={name: [values[r] for r in kept] for name, values in self.columns.items()},
            boxes=[self.boxes[r] for r in kept] if self.boxes else [],
        )


@dataclass(frozen=True)
class Subset:
    """Some images of a dataset with their stored pixels, e.g. the test split; slicing gives a smaller one.

    Attributes
    ----------
    dataset : Dataset
    store : Store
    rows : int64 array [n]
        Rows of the dataset (and of the store).
    split : str
        ``train``, ``val`` or ``test``.
    """

    dataset: Dataset
    store: Store
    rows: np.ndarray
    split: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | np.ndarray | list[int]) -> Subset:
        return replace(self, rows=self.rows[which])

    @property
    def ids(self) -> list[str]:
        """Return the images' names."""
        return [self.dataset.ids[row] for row in self.rows]

    @property
    def targets(self) -> np.ndarray:
        """Return int64 [n], or 0/1 [n, K] for a multi-label task."""
        return self.dataset.targets[self.rows]

    @property
    def pixels(self) -> np.ndarray:
        """Return the stored pixels, uint8 [n, S, S, C] (a copy)."""
        return np.asarray(self.store.images[self.rows])

    @property
    def masks(self) -> np.ndarray | None:
        """Return bool [n, S, S], all False where an image has no mask; None where no image of the dataset has one."""
        return None if self.store.masks is None else np.asarray(self.store.masks[self.rows]) > 0

    @property
    def subjects(self) -> list[str]:
        """Return each image's subject, "" where unknown."""
        return [self.dataset.subjects[row] for row in self.rows]

    @property
    def units(self) -> np.ndarray:
        """Return the resampling unit of each image as a number, int64 [n]."""
        return np.unique(self.unit_names, return_inverse=True)[1]

    @property
    def unit_names(self) -> np.ndarray:
        """Return each image's resampling unit by its own name, text [n], which is the same in every run."""
        names = self.dataset.resampling_units
        return np.array([names[row] for row in self.rows])

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names."""
        return self.dataset.task.classes


def evenly_spaced(n: int, at_most: int) -> np.ndarray:
    """Return at most so many of n positions, evenly spaced, the first and the last among them, int64 [m]."""
    return np.unique(np.linspace(0, n - 1, min(at_most, n)).round().astype(np.int64))
