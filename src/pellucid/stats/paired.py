"""Comparing two networks on the same images: paired differences, tests on subject means, and how much data would decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pellucid.stats.intervals import Interval, clopper_pearson, interval

Statistic = Callable[[NDArray[np.int32]], NDArray[np.float64]]


def difference(
    statistic_a: Statistic,
    statistic_b: Statistic,
    weights: NDArray[np.int32],
    *,
    n_units: int,
    unit: str,
    n_images: int | None = None,
    share: bool = True,
) -> Interval:
    """Return a - b on all images, with the interval of the difference over joint resamples.

    Parameters
    ----------
    statistic_a, statistic_b : callables
        Counts [B, N] -> float64 [B], of the same images in the same order.
    weights : int32 array [B, N]
        From :func:`pellucid.stats.intervals.resample`.
    n_units, unit, n_images
        As in :func:`pellucid.stats.intervals.interval`.
    share : bool
        Whether both are shares of images. If so and no resample shows any difference, the exact bound on the share of units
        that could differ unseen stands in on both sides.
    """
    found = interval(
        lambda counts: statistic_a(counts) - statistic_b(counts), weights, n_units=n_units, unit=unit, n_images=n_images, share=False
    )
    alike = found.value is not None and abs(found.value) <= 1e-12 and found.low is None and n_units > 1
    if share and alike and "don't differ" in found.reason:
        bound = clopper_pearson(0, n_units)[1]
        return Interval(0.0, -bound, bound, f"exact, none of {n_units} {unit} differs", found.n_images, n_units)
    return found


def wilcoxon_by_unit(a: ArrayLike, b: ArrayLike, units: ArrayLike) -> float:
    """Return the two-sided p-value of the Wilcoxon signed-rank test on the units' mean differences.

    Parameters
    ----------
    a, b : float arrays [N]
        One value per image for each of two networks or methods. Images with NaN in either are left out.
    units : int or str array [N]
        The subject (group, image) of each image: the test's n is the number of units, not of images.

    Returns
    -------
    float
        1.0 where no unit differs; NaN with fewer than two units.

    Source
    ------
    Wilcoxon 1945; zero differences are dropped.
    """
    from scipy.stats import wilcoxon

    gaps = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    defined = np.isfinite(gaps)
    _, of_image = np.unique(np.asarray(units)[defined], return_inverse=True)
    counts = np.bincount(of_image)
    if len(counts) < 2:
        return math.nan
    means = np.bincount(of_image, weights=gaps[defined]) / counts
    if not means.any():
        return 1.0
    return float(wilcoxon(means[means != 0]).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given; NaN stays NaN and isn't counted.

    Source
    ------
    Holm 1979.

    Examples
    --------
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(given), np.nan)
    tested = np.flatnonzero(np.isfinite(given))
    ordered = tested[np.argsort(given[tested], kind="stable")]
    factors = np.arange(len(ordered), 0, -1)
    adjusted[ordered] = np.minimum(1.0, np.maximum.accumulate(given[ordered] * factors))
    return adjusted.tolist()


def needed_units(n: int, half_width: float, margin: float) -> int:
    """Return about how many resampling units would narrow an interval to the margin.

    Parameters
    ----------
    n : int
        Units the interval rests on.
    half_width : float
        Half its width.
    margin : float
        The difference that matters, > 0.

    Notes
    -----
    ``n * (half_width / margin)^2``: widths shrink with the root of n.
    """
    return math.ceil(n * (half_width / margin) ** 2)
