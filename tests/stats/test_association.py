"""Cramér's V, bias-corrected."""

import numpy as np
import pytest
from scipy.stats import contingency

from pellucid.stats.association import cramers_v


def _rows(table):
    table = np.asarray(table)
    pairs = np.repeat(np.argwhere(np.ones_like(table)), table.reshape(-1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def test_value_by_hand():
    """Table 30 10 / 10 30: phi^2 = 0.25, less 1/79; the sides 2 - 1/79: V = sqrt(0.237342 / 0.987342)."""
    v, p = cramers_v(*_rows([[30, 10], [10, 30]]))
    assert v == pytest.approx(np.sqrt((0.25 - 1 / 79) / (1 - 1 / 79)))
    assert p == pytest.approx(7.744e-6, rel=1e-3)  # chi2 = 20, one degree of freedom


def test_agrees_with_scipy_where_the_correction_vanishes():
    """With very many rows the corrected V is scipy's plain one."""
    table = np.array([[9000, 4000, 2000], [1000, 6000, 8000]])
    plain = contingency.association(table, method="cramer")
    assert cramers_v(*_rows(table))[0] == pytest.approx(plain, abs=1e-4)


def test_correction_removes_what_many_levels_would_feign():
    """Twenty levels drawn at random for 60 rows: V is near 0, where the plain one is above 0.5."""
    random = np.random.default_rng(0)
    drawn = [(random.integers(0, 20, 60), random.integers(0, 2, 60)) for _ in range(50)]
    plain = [contingency.association(contingency.crosstab(*pair).count, method="cramer") for pair in drawn]
    assert np.mean(plain) > 0.5
    assert np.median([cramers_v(*pair)[0] for pair in drawn]) < 0.15


def test_rows_of_one_unit_count_as_one():
    """Ten copies of each row are no more evidence than one."""
    a, b = _rows([[6, 2], [2, 6]])
    once = cramers_v(a, b)
    assert cramers_v(np.repeat(a, 10), np.repeat(b, 10), n_units=16) == pytest.approx(once)
    assert cramers_v(np.repeat(a, 10), np.repeat(b, 10))[1] < once[1]


def test_constant_column_goes_with_nothing():
    """There is no association with what never changes."""
    assert cramers_v([1, 1, 1], [0, 1, 0]) == (0.0, 1.0)
