"""Probes of a split on thumbnails, in seconds: does a nearest neighbour recognise what it has seen in training?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core import rng
from pellucid.core.errors import SplitError
from pellucid.data.dataset import Dataset
from pellucid.data.split import make_split, whole_units
from pellucid.stats.classification import balanced_accuracy
from pellucid.stats.intervals import Interval, interval, mean_interval, resample

if TYPE_CHECKING:
    from pellucid.data.load import Data

SIDE = 32
SHUFFLES = 200
_GAP = 0.02  # above chance by more than this is recognition, not luck of the shuffles


def nearest_neighbour(data: Data) -> dict[str, Any]:
    """Return how well each test image's class is told by the most alike training image.

    Parameters
    ----------
    data : Data
        Its own split is judged beside a random split by image and, where subjects or groups are known, one by subject.

    Returns
    -------
    dict
        ``value``, ``low``, ``high``: balanced accuracy under the given split; ``chance``; ``image_split`` and ``subject_split``:
        the same three under these (None where it can't be made); ``text``. As high as by image and well above by subject: the split leaks.

    Notes
    -----
    32-px thumbnails, Euclidean distance, one neighbour.
    """
    thumbnails = _thumbnails(data.store.images)
    given = _score(data.dataset, thumbnails, data.split.sides)
    by_image = _under(data, thumbnails, "image")
    known = any(data.dataset.subjects) or any(data.dataset.groups)
    by_subject = _under(data, thumbnails, "subject") if known else None
    chance = 1 / data.task.n_classes
    parts = [f"{_said(given)} under the given split"]
    parts += [f"{_said(by_image)} under a random split by image"] if by_image else []
    parts += [f"{_said(by_subject)} under a split by subject"] if by_subject else ["no subjects are known"]
    text = f"1-nearest-neighbour on {SIDE}-px thumbnails, balanced accuracy: {', '.join(parts)}; chance {chance:.2f}.{_leaks(given, by_subject)}"
    return {
        **_plain(given), "chance": chance, "image_split": by_image and _plain(by_image), "subject_split": by_subject and _plain(by_subject),
        "text": text,
    }  # fmt: skip


def shuffled_labels(data: Data) -> dict[str, Any]:
    """Return how often a nearest neighbour gets right labels that were dealt to subjects at random.

    The labels then say nothing of the picture, only whose it is: what is above chance is recognition of subjects (or groups) across
    the split. Under a sound split it is at chance.

    Parameters
    ----------
    data : Data

    Returns
    -------
    dict
        ``value``, ``low``, ``high``: accuracy, mean over 200 shuffles, with its interval over test units; ``chance``; ``unit``: to
        what the labels were dealt; ``text``.
    """
    dataset, sides = data.dataset, data.split.sides
    train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
    nearest = train[_nearest(_thumbnails(data.store.images), train, test)]
    units = whole_units(dataset)
    labels = _labels(dataset)[np.unique(units, return_index=True)[1]]  # the first image speaks for its unit
    generator = rng.generator(0, "shuffled labels")
    right = np.zeros(len(test))
    for _ in range(SHUFFLES):
        dealt = generator.permutation(labels)
        right += dealt[units[test]] == dealt[units[nearest]]
    found = mean_interval(
        right / SHUFFLES, resample(labels[units[test]], units[test]), units=units[test], unit=dataset.unit_name, share=True
    )
    counts = np.bincount(labels)
    chance = float((counts * (counts - 1)).sum() / max(len(labels) * (len(labels) - 1), 1))
    unit = "subjects or groups" if any(dataset.subjects) or any(dataset.groups) else "images"
    seen = found.low is not None and found.low > chance + _GAP
    text = (
        f"Labels dealt to {unit} at random are told right with {_said(found)}; chance {chance:.2f}. "
        + ("The test shows what training has seen: the split leaks." if seen else "Nothing is recognised across the split.")
    )  # fmt: skip
    return {**_plain(found), "chance": chance, "unit": unit, "text": text}


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pixels [N, 32 * 32 * C] in [0, 1]."""
    from PIL import Image

    def small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32).reshape(-1) / np.float32(255)

    return np.stack([small(np.asarray(image)) for image in images])


def _nearest(thumbnails: NDArray[np.float32], train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each test row the place in `train` of the most alike image."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(thumbnails[train])
    return search.kneighbors(thumbnails[test], return_distance=False)[:, 0]


def _labels(dataset: Dataset) -> NDArray[np.int64]:
    """Return one label for each image; of several the first."""
    return dataset.targets if dataset.targets.ndim == 1 else dataset.targets.argmax(1)


def _score(dataset: Dataset, thumbnails: NDArray[np.float32], sides: NDArray[np.str_]) -> Interval:
    train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
    targets = _labels(dataset)
    votes = np.eye(dataset.task.n_classes)[targets[train[_nearest(thumbnails, train, test)]]]  # as logits: all on one class
    units = np.array(dataset.resampling_units)[test]
    return interval(
        lambda counts: balanced_accuracy(targets[test], votes, counts), resample(targets[test], units),
        n_units=len(set(units)), unit=dataset.unit_name,
    )  # fmt: skip


def _under(data: Data, thumbnails: NDArray[np.float32], kind: str) -> Interval | None:
    try:
        split = make_split(data.dataset, data.settings.model_copy(update={"split": kind}))
    except SplitError:
        return None
    return _score(data.dataset, thumbnails, split.sides)


def _leaks(given: Interval, by_subject: Interval | None) -> str:
    if given.low is None or by_subject is None or by_subject.high is None:
        return ""
    leaks = given.low > by_subject.high
    return " The given split is easier than one by subject: it leaks." if leaks else " The given split is not easier than one by subject."


def _plain(found: Interval) -> dict[str, float | None]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _said(found: Interval) -> str:
    if found.value is None:
        return found.reason
    return f"{found.value:.2f}" + (f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None else f" ({found.reason})")
