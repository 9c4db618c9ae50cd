"""Conditions keep rows, and classes get a stable order."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import SettingError, SourceError
from pellucid.data.table import classify, select

ROWS = [
    {"path": "a", "source": "odir", "age": "9", "core slices": "1"},
    {"path": "b", "source": "eyepacs", "age": "10", "core slices": "1.0"},
    {"path": "c", "source": "retina and more", "age": "", "core slices": "0"},
    {"path": "d", "source": "", "age": "40.5", "core slices": "0"},
]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("", "abcd"),
        ("source == odir", "a"),
        ("source != odir", "bcd"),
        ("source in odir, eyepacs", "ab"),
        ("source in [odir,eyepacs]", "ab"),
        ("core slices == 1", "ab"),
        ("age > 9", "bd"),
        ("age >= 9", "abd"),
        ("age < 10", "a"),
        ("age <= 1e1", "ab"),
        ("age > 9 and source == eyepacs", "b"),
        ('source == "retina and more"', "c"),
        ("source == 'retina and more' and age == \"\"", "c"),
        ("source != ", "abc"),
        ("age>9", "bd"),
        ("source==odir", "a"),
    ],
)
def test_where_keeps_the_rows_for_which_it_holds(where, kept):
    """Numbers are compared by value, a missing number fails every comparison by size."""
    assert "".join(row["path"] for row in select(ROWS, where)) == kept


@pytest.mark.parametrize(
    ("where", "message", "near"),
    [
        ("sorce == odir", r'there is no column "sorce"\. Did you mean "source"\? There are: path, source, age, core slices\.', ("source",)),
        ("source = odir", r'"source = odir" can\'t be read\. Write: column == value', ()),
        ("odir", r"can't be read", ()),
        ("age > old", r'"age > old" compares by size, but "old" is not a number\.', ()),
    ],
)
def test_conditions_that_cannot_be_read_are_told(where, message, near):
    """With the nearest names for a typo."""
    with pytest.raises(SettingError, match=message) as caught:
        select(ROWS, where)
    assert caught.value.near == near
    assert caught.value.setting == "data.where"


def test_classes_are_sorted_by_name_or_by_value():
    """Not by order of appearance; numbers as numbers only where all are."""
    assert classify(["b", "a", "b"], "xyz", name="t")[0].classes == ("a", "b")
    assert classify(["10", "9", "-1.5"], "xyz", name="t")[0].classes == ("-1.5", "9", "10")
    assert classify(["10", "9", "x"], "xyz", name="t")[0].classes == ("10", "9", "x")
    targets = classify(["b", "a", "b"], "xyz", name="t")[1]
    assert targets.tolist() == [1, 0, 1]
    assert targets.dtype == np.int64


def test_one_class_is_refused():
    """Nothing can be learned from it."""
    with pytest.raises(SourceError, match=r'^t: all 3 images are of one class \("a"\)'):
        classify(["a"] * 3, "xyz", name="t")
