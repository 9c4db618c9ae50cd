"""Differences between two networks on the same images."""

import math

import numpy as np
import pytest
from scipy import stats

from pellucid.stats import classification as c
from pellucid.stats.intervals import interval, resample
from pellucid.stats.paired import difference, holm, needed_units, wilcoxon_by_unit

RANDOM = np.random.default_rng(0)
TARGETS = RANDOM.integers(0, 2, 200)
BASE = np.stack([1 - TARGETS, TARGETS], 1) + RANDOM.normal(0, 1.2, (200, 2))
BETTER = BASE + 0.4 * np.stack([1 - TARGETS, TARGETS], 1)
WEIGHTS = resample(TARGETS, np.arange(200))


def _accuracy(logits):
    return lambda counts: c.accuracy(TARGETS, logits, counts)


def test_difference_is_paired():
    """Two networks that err on the same images differ more surely than their separate intervals say."""
    found = difference(_accuracy(BETTER), _accuracy(BASE), WEIGHTS, n_units=200, unit="images")
    alone = interval(_accuracy(BASE), WEIGHTS, n_units=200, unit="images")
    assert found.value == pytest.approx(c.accuracy(TARGETS, BETTER) - c.accuracy(TARGETS, BASE))
    assert found.low > 0
    assert found.high - found.low < alone.high - alone.low


def test_difference_changes_sign_with_the_order():
    """a - b is minus b - a, interval and all."""
    one = difference(_accuracy(BETTER), _accuracy(BASE), WEIGHTS, n_units=200, unit="images")
    other = difference(_accuracy(BASE), _accuracy(BETTER), WEIGHTS, n_units=200, unit="images")
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_difference_of_equal_networks_has_an_exact_bound():
    """No unit of 200 differs: at most 0.025^(1/200) from 1 could, on either side."""
    found = difference(_accuracy(BASE), _accuracy(BASE.copy()), WEIGHTS, n_units=200, unit="images")
    bound = 1 - 0.025 ** (1 / 200)
    assert (found.low, found.value, found.high) == pytest.approx((-bound, 0.0, bound))
    assert found.method == "exact, none of 200 images differs"


def test_difference_of_equal_cross_entropies_has_no_interval():
    """Cross-entropy isn't a share, so nothing exact stands in."""

    def statistic(counts):
        return c.cross_entropy(TARGETS, BASE, counts)

    found = difference(statistic, statistic, WEIGHTS, n_units=200, unit="images", share=False)
    assert (found.value, found.low) == (0.0, None)


def test_wilcoxon_works_on_subject_means():
    """p is scipy's on the subjects' mean differences, and repeating each image changes nothing."""
    a, b, units = RANDOM.normal(0.3, 1, 40), RANDOM.normal(0, 1, 40), np.repeat(np.arange(10), 4)
    expected = stats.wilcoxon((a - b).reshape(10, 4).mean(1)).pvalue
    assert wilcoxon_by_unit(a, b, units) == pytest.approx(expected)
    assert wilcoxon_by_unit(np.repeat(a, 3), np.repeat(b, 3), np.repeat(units, 3)) == pytest.approx(expected)


def test_wilcoxon_without_differences_or_with_one_unit():
    """Nothing differs: 1. One unit: no test."""
    assert wilcoxon_by_unit([1.0, 2.0], [1.0, 2.0], [0, 1]) == 1.0
    assert math.isnan(wilcoxon_by_unit([1.0, 2.0], [0.0, 0.0], [0, 0]))


def test_holm_by_hand():
    """Sorted p times 4, 3, 2, 1, never falling: Holm 1979."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_leaves_undefined_tests_out_of_the_count():
    """NaN stays NaN; the other p counts as the only one."""
    adjusted = holm([math.nan, 0.02])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == 0.02


def test_needed_units_grow_with_the_square():
    """Half the width needs four times the units."""
    assert needed_units(100, 0.04, 0.02) == 400
