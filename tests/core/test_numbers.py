"""Numbers are printed as STYLE says: with interval and n, no more decimals than earned, and a word where undefined."""

from __future__ import annotations

import pytest

from pellucid.core import numbers
from pellucid.core.records import Measurement


def test_full_prints_interval_and_units():
    """A figure stands with its interval and with what it rests on."""
    m = Measurement("accuracy", 0.9123, 0.8741, 0.9412, n_images=214, n_units=31, unit="subjects")
    assert numbers.full(m) == "0.912 [0.874, 0.941], n = 214 images of 31 subjects"


def test_differences_carry_their_sign():
    """A difference is signed at all three places."""
    m = Measurement("accuracy_difference", 0.021, -0.004, 0.046, model="student - base")
    assert numbers.with_interval(m) == "+0.021 [-0.004, +0.046]"


@pytest.mark.parametrize(
    ("low", "high", "places"), [(0.874, 0.941, 3), (0.8, 0.92, 2), (0.1, 1.6, 1), (10, 45, 0), (0.9990, 0.9998, 4), (0.5, 0.5, 3)]
)
def test_decimals_show_two_figures_of_the_width(low, high, places):
    """Decimals follow the interval's width, and stay within what can be read."""
    assert numbers.decimals([Measurement("x", low, low, high)]) == places


def test_decimals_are_equal_within_a_column():
    """The widest interval of a column decides for all its figures."""
    assert numbers.decimals([Measurement("x", 0.5, 0.49, 0.51), Measurement("x", 0.5, 0.3, 0.7)]) == 2


@pytest.mark.parametrize(
    ("reason", "printed"),
    [("no image of class ring in test", "undefined: no image of class ring in test"), ("not judged: grid 3x3", "not judged: grid 3x3"),
     ("undefined: no masks", "undefined: no masks"), ("", "undefined: no reason was recorded")],
)  # fmt: skip
def test_undefined_is_a_word_with_its_reason(reason, printed):
    """Neither 0 nor NaN stands for what is undefined."""
    assert numbers.with_interval(Measurement("auc", None, reason=reason)) == printed
    assert numbers.with_interval(Measurement("auc", float("nan"), reason=reason)) == printed


def test_rounded_zero_has_no_sign():
    """A difference that rounds to nothing isn't called negative."""
    assert numbers.figure(-0.0001, 3, signed=True) == "0.000"


@pytest.mark.parametrize(
    ("printed", "expected"),
    [(numbers.ratio(6.95, 0.334), "21x"), (numbers.ratio(32, 10), "3.2x"), (numbers.ratio(1, 2), "0.50x"), (numbers.ratio(1, 459), "0.0022x"), (numbers.with_interval(Measurement("met_ratio", 7.4, 7.1, 7.8)), "7.40x [7.10, 7.80]"), (numbers.number_of_bytes(1_345_000), "1.34 MB"),
     (numbers.large_count(334_212), "0.334 M"), (numbers.large_count(5.31e8), "531 M"), (numbers.large_count(2.8e9), "2.80 G"), (numbers.duration(812), "13 min 32 s"),
     (numbers.duration(7509), "2 h 05 min"), (numbers.duration(0.0041), "4.10 ms"), (numbers.duration(0), "0 s"), (numbers.duration(8), "8 s"), (numbers.duration(0.42), "0.4 s"), (numbers.duration(59.96), "1 min 00 s"), (numbers.plural(1, "subjects"), "1 subject"), (numbers.plural(1204, "images"), "1,204 images")],
)  # fmt: skip
def test_quantities_are_printed_for_people(printed, expected):
    """Ratios, sizes, counts and times come in the unit a person would choose."""
    assert printed == expected
