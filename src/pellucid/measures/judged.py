"""What a measure looks at (`Judged`), what it says (`Judgement`), and all of it together (`Scores`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.records import ROLES, TWIN, WHO_WAS_RIGHT, Explanation, Measurement, Verdict, stratum_of
from pellucid.core.settings import MeasureSettings

if TYPE_CHECKING:
    from torch import Tensor

    from pellucid.data.dataset import Subset
    from pellucid.models.saved import Network
    from pellucid.stats.intervals import Interval


@dataclass(frozen=True)
class Judged:
    """Everything the measures of one run look at, on the same images.

    Attributes
    ----------
    networks : dict of role -> Network
    images : Subset
        All test images, N of them.
    logits : dict of role -> float32 array [N, K]
    val_logits : dict of role -> float32 array [M, K]
        Of the validation images; the temperature of `ece_scaled` is fitted on them.
    val_targets : int64 array [M]
    explanations : list of Explanation
        Every role x method on the images ``images[rows]``, in that order.
    rows : int array [E]
        Which of the N images are explained.
    settings : MeasureSettings
    weights : int array [B, N]
        How often each image counts in each bootstrap resample (see ``stats.intervals.resample``). All measures share it, so
        differences between networks and measures are paired.
    baselines : Subset or None
        The training images with which some methods compare: timing those methods needs them.
    """

    networks: dict[str, Network]
    images: Subset
    logits: dict[str, np.ndarray]
    val_logits: dict[str, np.ndarray]
    val_targets: np.ndarray
    explanations: list[Explanation]
    rows: np.ndarray
    settings: MeasureSettings
    weights: np.ndarray
    baselines: Subset | None = None

    @property
    def roles(self) -> list[str]:
        """Return the networks' roles: teacher, base, student first, then others as given."""
        return [*(role for role in ROLES if role in self.networks), *(role for role in self.networks if role not in ROLES)]

    @property
    def timed_roles(self) -> list[str]:
        """Return the roles whose cost is of interest: the twin's is the teacher's."""
        return [role for role in self.roles if role != TWIN]

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names."""
        return self.images.classes

    @cached_property
    def targets(self) -> np.ndarray:
        """Return the true classes, int64 [N]."""
        return self.images.targets

    @cached_property
    def units(self) -> np.ndarray:
        """Return each image's resampling unit as a number, int64 [N]."""
        return self.images.units

    @cached_property
    def strata(self) -> dict[str, np.ndarray]:
        """Return bool [N] each: the classes, and the images sorted by whether teacher and student were right."""
        groups = {stratum_of(label): self.targets == k for k, label in enumerate(self.classes)}
        if {"teacher", "student"} <= set(self.logits):
            teacher, student = (self.logits[role].argmax(1) == self.targets for role in ("teacher", "student"))
            groups |= zip(WHO_WAS_RIGHT, (teacher & student, teacher & ~student, ~teacher & student, ~teacher & ~student), strict=True)
        return groups

    @property
    def unit(self) -> str:
        """Return what the resampling units are: ``subjects``, ``groups`` or ``images``."""
        return self.images.dataset.unit_name

    @property
    def methods(self) -> list[str]:
        """Return the explainers used, in the order asked for."""
        return list(dict.fromkeys(explanation.method for explanation in self.explanations))

    def explanation(self, role: str, method: str) -> Explanation | None:
        """Return one network's maps of one method, or None where it wasn't explained so."""
        return next((e for e in self.explanations if (e.model, e.method) == (role, method)), None)

    def inputs(self, role: str, *, label: str, which: np.ndarray | None = None, each: int = 32) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield the explained images as a network wants to see them, a few at a time and with progress.

        Parameters
        ----------
        role : str
        label : str
            What the progress line says is being done.
        which : int array [m], optional
            Positions in `rows`; default: all.
        each : int
            Images at once.

        Yields
        ------
        (positions in `rows` [n], float Tensor [n, C, H, W])
        """
        from pellucid.core.progress import track
        from pellucid.data.views import to_input
        from pellucid.models.taps import reference

        network = self.networks[role]
        which = np.arange(len(self.rows)) if which is None else which
        batches = [which[start : start + each] for start in range(0, len(which), each)]
        for batch in track(batches, f"{label}, {role}", each=each):
            yield batch, to_input(self.images[self.rows[batch]].pixels, network.spec).to(reference(network.model).device)

    def on_all(self, explained: np.ndarray) -> np.ndarray:
        """Spread values of the explained images [E] over all images, NaN elsewhere: float64 [N]."""
        full = np.full(len(self.images), np.nan)
        full[self.rows] = explained
        return full

    def mean(self, name: str, values: np.ndarray, *, among: np.ndarray | None = None, share: bool = False, **facts: Any) -> Measurement:
        """Measure the mean over images, with an interval over resampling units.

        Parameters
        ----------
        name : str
        values : float array [N]
            One value per image; NaN where it has none (left out).
        among : bool array [N] or None
            Only these images (a stratum).
        share : bool
            Values are hits and misses, so an exact interval stands where all hit or all miss.
        facts : the other fields of :class:`Measurement`
        """
        from pellucid.stats.intervals import mean_interval

        kept = np.isfinite(values) if among is None else np.isfinite(values) & among
        found = mean_interval(values[kept], self.weights[:, kept], units=self.units[kept], unit=self.unit, share=share)
        if not kept.any():
            facts["reason"] = "; ".join(filter(None, ("undefined: no image has a value", facts.get("reason"))))
        return measurement(name, found, unit=self.unit, **facts)

    def means(self, name: str, values: np.ndarray, **facts: Any) -> list[Measurement]:
        """Measure the mean over all images and over each stratum of :attr:`strata` that has a value; parameters as of :meth:`mean`."""
        within = {stratum: among for stratum, among in self.strata.items() if np.isfinite(values[among]).any()}
        return [self.mean(name, values, **facts)] + [
            self.mean(name, values, among=among, **facts | {"stratum": stratum}) for stratum, among in within.items()
        ]

    def units_of(self, images: np.ndarray) -> int:
        """Return how many resampling units some images (bool [N]) belong to."""
        return len(np.unique(self.units[images]))


@dataclass(frozen=True)
class Judgement:
    """What one measure says.

    Attributes
    ----------
    measurements : list of Measurement
    per_image : dict of str -> array [N]
        What it says of each test image, for sorting, comparing runs and pooling folds; NaN where an image wasn't judged.
    """

    measurements: list[Measurement]
    per_image: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """What all measures together say: the measurements, one verdict per question, values per image, what was judged, and the audit beside it."""

    measurements: list[Measurement]
    verdicts: list[Verdict]
    per_image: dict[str, np.ndarray]
    judged: Judged
    audit: dict[str, Any]


def measurement(name: str, found: Interval, *, reason: str = "", **facts: Any) -> Measurement:
    """Return the measurement that an interval makes; `reason` is added to what the interval itself has to say.

    Parameters
    ----------
    name : str
    found : Interval
    reason : str
        What to know when reading it, or why it is undefined.
    facts : the other fields of :class:`Measurement`
    """
    own = "" if found.value is None and reason else found.reason
    return Measurement(
        name, found.value, found.low, found.high, n_images=found.n_images, n_units=found.n_units, method=found.method,
        reason="; ".join(filter(None, (own, reason))), **facts,
    )  # fmt: skip
