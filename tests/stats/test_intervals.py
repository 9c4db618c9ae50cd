"""The bootstrap draws units, keeps classes, and gives way to exact intervals at the bounds."""

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from pellucid.stats import classification as c
from pellucid.stats.intervals import clopper_pearson, interval, mean_interval, ratio_of_means, resample, weighted_median

TARGETS = np.array([0, 0, 0, 1, 1, 1, 1, 1])
UNITS = np.array([0, 0, 1, 2, 2, 2, 3, 4])


@seed(3)
@settings(max_examples=50, deadline=None)
@given(units=st.lists(st.integers(0, 8), min_size=1, max_size=40), number=st.integers(0, 10))
def test_resample_draws_whole_units_and_keeps_the_number_per_class(units, number):
    """Images of one unit are drawn equally often, and each class keeps its number of units."""
    units = np.array(units)
    targets = units % 3
    weights = resample(targets, units, resamples=20, seed=number)
    for unit in np.unique(units):
        assert (weights[:, units == unit] == weights[:, units == unit][:, :1]).all()
    firsts = np.unique(units, return_index=True)[1]
    for kind in np.unique(targets):
        of_class = firsts[targets[firsts] == kind]
        assert (weights[:, of_class].sum(1) == len(of_class)).all()


def test_resample_is_a_function_of_its_seed():
    """Same seed, same draws; another seed, others."""
    assert (resample(TARGETS, UNITS, seed=1) == resample(TARGETS, UNITS, seed=1)).all()
    assert (resample(TARGETS, UNITS, seed=1) != resample(TARGETS, UNITS, seed=2)).any()


def test_interval_by_subject_is_wider_than_by_image_when_images_of_a_subject_agree():
    """Ten images of one subject that stand or fall together count as one."""
    units = np.repeat(np.arange(20), 10)
    right = np.repeat(np.arange(20) % 2, 10)
    targets, logits = np.zeros(200, int), np.stack([right, 1 - right], 1).astype(float)
    by_subject = interval(lambda w: c.accuracy(targets, logits, w), resample(targets, units), n_units=20, unit="subjects")
    by_image = interval(lambda w: c.accuracy(targets, logits, w), resample(targets, np.arange(200)), n_units=200, unit="images")
    assert by_subject.value == by_image.value == 0.5
    assert by_subject.high - by_subject.low > 2.5 * (by_image.high - by_image.low)
    assert by_subject.method == "bootstrap by subject, 2000"


def test_bootstrap_interval_covers_the_truth_about_95_times_in_100():
    """Over 200 data sets with a true mean of 0 the interval holds it in 90 to 99 %."""
    random = np.random.default_rng(0)
    weights = resample(np.zeros(60, int), np.arange(60), resamples=500)
    found = [mean_interval(random.normal(size=60), weights, units=np.arange(60), unit="images") for _ in range(200)]
    assert 0.90 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.99


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.6915, 1.0), (0.0, 0.0, 0.3085)])
def test_share_at_its_bound_has_an_exact_interval_on_units(value, low, high):
    """Ten subjects all right: [0.025^(1/10), 1], however many images they have."""
    units = np.repeat(np.arange(10), 3)
    found = mean_interval(np.full(30, value), resample(np.zeros(30, int), units), units=units, unit="subjects", share=True)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert (found.method, found.n_units, found.n_images) == ("exact, 10 subjects", 10, 30)


def test_single_unit_has_a_value_but_no_interval():
    """One subject says nothing about other subjects."""
    found = mean_interval([0.2, 0.4], resample([0, 0], [7, 7]), units=[7, 7], unit="subjects")
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high, found.reason) == (None, None, "no interval: 1 subject only")


def test_undefined_statistic_has_no_value():
    """Only NaN: no value, and a reason."""
    found = mean_interval([np.nan, np.nan], resample([0, 1], [0, 1]), units=[0, 1], unit="images")
    assert (found.value, found.n_images) == (None, 0)
    assert found.reason == "undefined for these images"


def test_mean_interval_counts_only_images_with_a_value():
    """NaN images leave the mean, n_images and n_units."""
    values = np.array([1.0, 3.0, np.nan, 5.0])
    found = mean_interval(values, resample([0, 0, 0, 0], [0, 0, 1, 2]), units=[0, 0, 1, 2], unit="subjects")
    assert (found.value, found.n_images, found.n_units) == (3.0, 3, 2)
    assert 1.0 <= found.low <= 3.0 <= found.high <= 5.0


def test_statistic_without_spread_is_not_given_a_zero_width_interval():
    """A class with a single subject can't vary; [0.5, 0.5] would look certain."""
    weights = resample([0, 0, 1, 1], [0, 0, 1, 1])
    found = mean_interval([0.0, 1.0, np.nan, np.nan], weights, units=[0, 1, 2, 3], unit="images")
    assert (found.value, found.low) == (0.5, None)
    assert "don't differ" in found.reason


def test_clopper_pearson_equals_the_published_table():
    """7 of 10: 0.3475 to 0.9333 (Clopper & Pearson 1934)."""
    assert clopper_pearson(7, 10) == pytest.approx((0.34755, 0.93326), abs=1e-5)


@pytest.mark.parametrize("n", [1, 6, 31])
def test_weighted_median_equals_the_median_of_repeated_values(n):
    """Twin: repeat each value as often as it was drawn, then take NumPy's median; no draws have none."""
    draws = np.random.default_rng(n)
    values, counts = draws.normal(size=n).round(1), draws.integers(0, 4, (60, n)) + np.eye(60, n, dtype=int)
    counts = np.concatenate([counts[counts.sum(1) > 0], np.zeros((1, n), int)])
    found = weighted_median(counts, values)
    np.testing.assert_allclose(found[:-1], [np.median(np.repeat(values, row)) for row in counts[:-1]])
    assert np.isnan(found[-1])


def test_ratio_of_means_divides_means_not_values():
    """(1 + 1 + 4) / (2 + 2 + 1) when the first image counts twice; where nothing is below the line there is no ratio."""
    over, under = np.array([1.0, 4.0]), np.array([2.0, 1.0])
    found = ratio_of_means(np.array([[2, 1], [0, 1]], np.int32), over, under)
    np.testing.assert_allclose(found, [6 / 5, 4])
    assert np.isnan(ratio_of_means(np.ones((1, 2), np.int32), over, np.array([1.0, -1.0])))[0]
