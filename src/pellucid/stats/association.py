"""How strongly one property goes with another, on categories."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def cramers_v(a: ArrayLike, b: ArrayLike, *, n_units: int | None = None) -> tuple[float, float]:
    """Return the bias-corrected Cramér's V of two categories, and the p-value of the chi-squared test behind it.

    Parameters
    ----------
    a, b : int arrays [N]
        Categories by number.
    n_units : int or None
        Independent units behind the N rows, e.g. subjects with several images each; default N. Correction and test then count
        units, which is right for properties of the unit and cautious for others.

    Returns
    -------
    (V, p) : floats
        V from 0 (not at all) to 1 (one tells the other). (0, 1) where either is constant.

    Source
    ------
    Bergsma 2013, J. Korean Stat. Soc. 42, eq. 6-7.
    """
    from scipy.stats import chi2

    a, of_a = np.unique(np.asarray(a), return_inverse=True)
    b, of_b = np.unique(np.asarray(b), return_inverse=True)
    n, rows, columns = len(of_a), len(a), len(b)
    units = n if n_units is None else n_units
    if min(rows, columns) < 2 or units < 2:
        return 0.0, 1.0
    table = np.bincount(of_a * columns + of_b, minlength=rows * columns).reshape(rows, columns)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n
    phi2 = float(((table - expected) ** 2 / expected).sum()) / n
    freedom = (rows - 1) * (columns - 1)
    corrected = max(0.0, phi2 - freedom / (units - 1))
    least = min(size - (size - 1) ** 2 / (units - 1) for size in (rows, columns)) - 1
    v = float(np.sqrt(corrected / least)) if least > 0 else 0.0
    return min(v, 1.0), float(chi2.sf(phi2 * units, freedom))
