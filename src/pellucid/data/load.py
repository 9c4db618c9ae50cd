"""Images ready to be worked on: found, decoded once, split and audited."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.errors import SettingError
from pellucid.core.fingerprint import fingerprint
from pellucid.core.records import ImageSpec, Task
from pellucid.core.settings import DataSettings, parse
from pellucid.core.workspace import Workspace
from pellucid.data.dataset import Dataset, Subset
from pellucid.data.find import find
from pellucid.data.split import Split, make_split
from pellucid.data.store import Store, open_store

if TYPE_CHECKING:
    from pellucid.data.views import Views

CHUNK = 256


@dataclass(frozen=True)
class Data:
    """A data set with its stored pixels and its split.

    Attributes
    ----------
    dataset : Dataset
    store : Store
    split : Split
    settings : DataSettings
    mean, std : tuple of float
        Per channel, for pixels in [0, 1].
    """

    dataset: Dataset
    store: Store
    split: Split
    settings: DataSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def name(self) -> str:
        """Return what people call the data."""
        return self.dataset.name

    @property
    def task(self) -> Task:
        """Return the classes and whether an image has one or several."""
        return self.dataset.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in their recorded order."""
        return self.dataset.task.classes

    @property
    def train(self) -> Subset:
        """Return the training split."""
        return self._side("train")

    @property
    def val(self) -> Subset:
        """Return the validation split, which chooses epochs and thresholds."""
        return self._side("val")

    @property
    def test(self) -> Subset:
        """Return the test split, which chooses nothing."""
        return self._side("test")

    @property
    def channels(self) -> int:
        """Return 1 (grey) or 3 (RGB)."""
        return self.store.images.shape[3]

    @property
    def views(self) -> Views:
        """Return how training images are varied."""
        from pellucid.data.views import Views  # torch: auditing does without

        return Views(self.settings.view_seed, tuple(self.settings.view_parts))

    @cached_property
    def audit(self) -> dict[str, Any]:
        """Return what the audit found (see :mod:`pellucid.data.audit`)."""
        from pellucid.data.audit import audit  # scipy: training does without

        return audit(self.dataset, self.store, self.split.sides, how=self.split.how)

    @cached_property
    def key(self) -> str:
        """Return the fingerprint of all that training can see: pixels, targets, split, normalisation, views."""
        sides = [str(side) for side in self.split.sides]
        store = [self.settings.size, self.settings.fit, self.channels, self.settings.window]
        views = [self.settings.view_seed, sorted(self.settings.view_parts)]
        return fingerprint(
            "data", self.dataset.content, self.dataset.ids, sides, store, self.mean, self.std, self.settings.normalise, views
        )

    def spec(self, size: int | None = None) -> ImageSpec:
        """Return what a network trained on these data sees, at `size` pixels (default: ``data.size``)."""
        asked = self.settings
        return ImageSpec(
            size or asked.size, self.channels, self.mean, self.std, normalise=asked.normalise,
            stored_size=asked.size, fit=asked.fit, window=asked.window,
        )  # fmt: skip

    def _side(self, name: str) -> Subset:
        return Subset(self.dataset, self.store, np.flatnonzero(np.asarray(self.split.sides) == name), name)


def load(
    source: str | Path | DataSettings = "phantom", *, workspace: Workspace | None = None, beside: Path | None = None, **settings: Any
) -> Data:
    """Find images, decode them once, split them by subject.

    Parameters
    ----------
    source : str, Path or DataSettings
        A folder of class folders, a ``.csv`` manifest, a ``.zip``, an ``.npz``, or a generator such as ``phantom``.
    workspace : Workspace, optional
        Where decoded images are kept.
    beside : Path, optional
        A folder in which a bare name is looked for first.
    **settings
        Any setting of the ``[data]`` section, and the source's own.

    Raises
    ------
    SettingError, SourceError, UnreadableError, SplitError, StorageError
        As the messages say.

    Examples
    --------
    >>> data = load("phantom", n_subjects=12, slices=4, size=64)
    >>> data.classes
    ('none', 'solid', 'ring', 'diffuse')
    """
    asked = source if isinstance(source, DataSettings) else parse({"data": {"source": str(source), **settings}}).data
    dataset, store = open_store(find(asked, beside=beside), asked, workspace or Workspace())
    split = make_split(dataset, asked)
    mean, std = _statistics(store, np.flatnonzero(np.asarray(split.sides) == "train"))
    return Data(dataset, store, split, asked, _given(asked.mean, mean), _given(asked.std, std))


def _given(asked: list[float] | None, computed: tuple[float, ...]) -> tuple[float, ...]:
    """Return the asked values, one per channel (a single one stands for all), or else the computed ones."""
    if asked is None:
        return computed
    if len(asked) not in (1, len(computed)):
        raise SettingError(f"[data] mean and std have {len(asked)} values, the images {len(computed)} channels. Give one per channel.")
    return tuple(asked) * (len(computed) // len(asked))


def _statistics(store: Store, rows: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel of the rows' pixels in [0, 1], in float64 and by chunks."""
    total, squares, count = 0.0, 0.0, 0
    for start in range(0, len(rows), CHUNK):
        pixels = np.asarray(store.images[rows[start : start + CHUNK]], dtype=np.float64) / 255
        total = total + pixels.sum((0, 1, 2))
        squares = squares + np.square(pixels).sum((0, 1, 2))
        count += pixels[..., 0].size
    mean = np.asarray(total) / count
    std = np.sqrt(np.maximum(np.asarray(squares) / count - mean**2, 1e-8))
    return tuple(np.round(mean, 6).tolist()), tuple(np.round(std, 6).tolist())
