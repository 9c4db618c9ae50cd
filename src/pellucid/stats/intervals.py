"""95 % intervals: bootstrap by subject (or group, or image), exact where a share stands at its bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pellucid.core import rng

LEVEL = 0.95
# Fewer defined resamples than this share and the percentiles would describe the lucky ones only.
_DEFINED = 0.5


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval.

    Attributes
    ----------
    value, low, high : float or None
        None means undefined; `reason` then says why.
    method : str
        E.g. ``bootstrap by subject, 2000`` or ``exact, 31 subjects``.
    n_images, n_units : int
        Images it rests on, and resampling units.
    reason : str
        Why something is undefined, or "".
    """

    value: float | None
    low: float | None
    high: float | None
    method: str
    n_images: int
    n_units: int
    reason: str = ""


def resample(targets: ArrayLike, units: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> NDArray[np.int32]:
    """Draw units with replacement, class by class, and count how often each image is in.

    Parameters
    ----------
    targets : int64 array [N]
        Classes. A unit belongs to the class most of its images have (the lower class number on a tie).
    units : int or str array [N]
        The unit (subject, group or image) of each image; the images of a unit are drawn together.
    resamples : int
        Number of resamples B.
    seed : int

    Returns
    -------
    int32 array [B, N]
        Each class keeps its number of units in every resample. A class of a single unit never varies: what rests on it
        alone has no interval.

    Examples
    --------
    >>> resample([0, 0, 1, 1], ["a", "a", "b", "c"], resamples=1).tolist()[0][:2]
    [1, 1]
    """
    targets = np.asarray(targets, dtype=np.int64)
    of_image = np.unique(np.asarray(units), return_inverse=True)[1]
    n_units = int(of_image.max(initial=-1)) + 1
    votes = np.zeros((n_units, int(targets.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(votes, (of_image, targets), 1)
    stratum = votes.argmax(1)  # [units]
    generator = rng.generator(seed, "bootstrap")
    drawn = np.zeros((resamples, n_units), dtype=np.int32)
    for kind in np.unique(stratum):
        members = np.flatnonzero(stratum == kind)
        drawn[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
    return drawn[:, of_image]


def interval(
    statistic: Callable[[NDArray[np.int32]], NDArray[np.float64]],
    weights: NDArray[np.int32],
    *,
    n_units: int,
    unit: str,
    n_images: int | None = None,
    share: bool = True,
) -> Interval:
    """Return the value of a statistic on all images, with its percentile interval over the resamples.

    Parameters
    ----------
    statistic : callable
        Counts [B, N] -> float64 [B], NaN where undefined; see :mod:`pellucid.stats.classification`.
    weights : int32 array [B, N]
        From :func:`resample`.
    n_units : int
        Units the statistic rests on (for one class: the units of that class).
    unit : str
        ``subjects``, ``groups`` or ``images``.
    n_images : int or None
        Images the statistic rests on, where not all N.
    share : bool
        Whether 0 and 1 are bounds of it (accuracy, AUC). There the bootstrap has no spread, and the exact (Clopper-Pearson)
        interval on units stands in. False for cross-entropy, correlations and differences.

    Returns
    -------
    Interval
        Undefined, with its reason, for a single unit or where the statistic itself is.
    """
    n_images = weights.shape[1] if n_images is None else n_images
    value = float(statistic(np.ones((1, weights.shape[1]), dtype=np.int32))[0])
    if not np.isfinite(value):
        return Interval(None, None, None, "", n_images, n_units, "undefined for these images")
    if n_units < 2:
        return Interval(value, None, None, "", n_images, n_units, f"no interval: {n_units} {_one(unit)} only")
    if share and value in (0.0, 1.0):
        low, high = clopper_pearson(n_units if value else 0, n_units)
        return Interval(value, low, high, f"exact, {n_units} {unit}", n_images, n_units)
    values = statistic(weights)
    values = values[np.isfinite(values)]
    method = f"bootstrap by {_one(unit)}, {len(weights)}"
    if len(values) < _DEFINED * len(weights):
        return Interval(value, None, None, method, n_images, n_units, "no interval: undefined in most resamples")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if values.max() - values.min() <= 1e-12 * max(1.0, abs(value)):
        return Interval(value, None, None, method, n_images, n_units, "no interval: the resamples don't differ")
    return Interval(value, float(low), float(high), method, n_images, n_units)


def mean_interval(
    values: ArrayLike, weights: NDArray[np.int32], *, units: ArrayLike, unit: str, share: bool = False
) -> Interval:  # fmt: skip
    """Return the mean of one value per image with its interval; images with NaN are left out and not counted.

    Parameters
    ----------
    values : float array [N]
        NaN where an image has none.
    weights : int32 array [B, N]
        From :func:`resample`.
    units : int or str array [N]
        Resampling unit of each image.
    unit : str
        ``subjects``, ``groups`` or ``images``.
    share : bool
        As in :func:`interval`.
    """
    values = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(values)
    filled = np.where(defined, values, 0.0)

    def mean(counts: NDArray[np.int32]) -> NDArray[np.float64]:
        return weighted_mean(counts, filled, defined)

    n_units = len(np.unique(np.asarray(units)[defined]))
    return interval(mean, weights, n_units=n_units, unit=unit, n_images=int(defined.sum()), share=share)


def weighted_mean(counts: NDArray[np.int32], filled: NDArray[np.float64], defined: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the means [B] of values [N] under counts [B, N] over the defined images; NaN where none is drawn."""
    total = counts @ defined.astype(np.float64)
    return np.divide(counts @ filled, total, out=np.full(len(counts), np.nan), where=total > 0)


def ratio_of_means(counts: NDArray[np.int32], over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratios [B] of the means of two values [N] of the same images under counts [B, N]; NaN where the lower mean is 0."""
    below = counts @ under
    return np.divide(counts @ over, below, out=np.full(len(counts), np.nan), where=below != 0)


def weighted_median(counts: NDArray[np.int32], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the medians [B] of values [N] under counts [B, N]: of each value repeated as often as it counts; NaN where none does."""
    order = np.argsort(values, kind="stable")
    ordered, below = values[order], np.cumsum(counts[:, order], axis=1)
    total = below[:, -1:]
    lower, upper = ordered[(2 * below >= total).argmax(1)], ordered[(2 * below > total).argmax(1)]
    return np.where(total[:, 0] > 0, (lower + upper) / 2, np.nan)


def clopper_pearson(right: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share.

    Parameters
    ----------
    right, n : int
        Successes and trials (n >= 1).

    Source
    ------
    Clopper & Pearson 1934, by quantiles of the beta distribution.
    """
    from scipy.stats import beta

    tail = (1 - LEVEL) / 2
    low = 0.0 if right == 0 else float(beta.ppf(tail, right, n - right + 1))
    high = 1.0 if right == n else float(beta.ppf(1 - tail, right + 1, n - right))
    return low, high


def _one(unit: str) -> str:
    return unit.removesuffix("s")
