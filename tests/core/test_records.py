"""The records: which maps are dead, what is evidence, and that measurements survive JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from pellucid.core.records import Explanation, Measurement, Task

NAN, INF = float("nan"), float("inf")


def explanation(maps, *, signed=True):
    maps = np.asarray(maps, np.float32)
    return Explanation(maps, np.zeros(len(maps), np.int64), "student", "grad_cam", "conv4", (32, 32), signed=signed)


@pytest.mark.parametrize(
    ("values", "signed", "dead"),
    [
        ([[0, 1], [2, 3]], True, False),
        ([[-5, -1], [0, 3]], True, False),
        ([[-4, -3], [-2, -1]], True, True),
        ([[-4, -3], [-2, -1]], False, False),
        ([[0, 0], [0, 0]], True, True),
        ([[2, 2], [2, 2]], True, True),
        ([[2, 2], [2, 2]], False, True),
        ([[0, 1], [2, NAN]], True, True),
        ([[0, 1], [2, INF]], False, True),
        ([[0, 0], [0, 1e-20]], True, False),
        ([[1e6, 1e6], [1e6, 1e6 + 1]], True, False),
    ],
)
def test_a_dead_map_is_constant_broken_or_all_against(values, signed, dead):
    """Signed maps die without a positive part; tiny maps and small spreads live; NaN and infinity are dead."""
    assert explanation([values], signed=signed).dead.tolist() == [dead]


def test_dead_is_told_for_each_map_by_itself():
    """A broken map doesn't take its neighbours with it."""
    maps = [np.full((2, 2), NAN), np.eye(2), np.zeros((2, 2))]
    assert explanation(maps).dead.tolist() == [True, False, True]


def test_some_of_an_explanation_are_whole():
    """Whatever there is one of for each image goes with its image; what isn't there stays away."""
    made = replace(
        explanation(np.arange(12).reshape(3, 2, 2)), targets=np.arange(3), expected=np.arange(3.0), ids=np.array(["a", "b", "c"])
    )
    for which in (np.array([2, 0]), np.array([False, True, True]), slice(1)):
        found = made.some(which)
        assert found.fault == "" and found.doubtful is None
        for name in ("maps", "targets", "expected", "ids"):
            np.testing.assert_array_equal(getattr(found, name), getattr(made, name)[which])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"maps": np.zeros((1, 4), np.float32)}, r"maps float32 [1, 4] instead of float [N, h, w]"),
        ({"maps": np.zeros((1, 2, 2), int)}, "maps int64 [1, 2, 2] instead"),
        ({"targets": [0]}, "targets list for 1 maps"),
        ({"targets": np.zeros(2, int)}, "targets int64 [2] for 1 maps"),
        ({"expected": np.zeros((1, 1))}, "expected float64 [1, 1] for 1 maps"),
        ({"doubtful": np.zeros(1)}, "doubtful float64 [1] for 1 maps"),
        ({"ids": np.array([7])}, "ids int64 [1] for 1 maps"),
        ({"centres": ((0.1, 0.0), (0.1, 0.1))}, "centres "), ({"centres": ((0.1, 0.1),)}, "centres "), ({"centres": "ab"}, "centres "),
        ({"centres": ((0.1, 0.1), (-0.1, 0.2)), "ids": np.array(["a"]), "doubtful": np.zeros(1, bool)}, ""),
    ],
)  # fmt: skip
def test_what_cannot_be_in_an_explanation_is_said(changed, words):
    found = replace(explanation(np.zeros((1, 2, 2))), **changed).fault
    assert found.startswith(words) if words else found == ""


def test_no_maps_no_answers():
    """Zero images give an empty array, not an error."""
    assert explanation(np.zeros((0, 3, 3))).dead.shape == (0,)


def test_positive_keeps_the_raw_maps():
    """For class methods only what speaks for the class is evidence; the record itself isn't changed."""
    found = explanation([[[-1, 2], [0, -3]]])
    assert found.positive().tolist() == [[[0, 2], [0, 0]]]
    assert found.maps.tolist() == [[[-1, 2], [0, -3]]]
    assert explanation([[[-1, 2], [0, -3]]], signed=False).positive().tolist() == [[[-1, 2], [0, -3]]]


def test_measurements_survive_json_and_later_versions():
    """What is written comes back equal, and a key that this version doesn't know is passed over."""
    one = Measurement("accuracy", 0.912, 0.874, 0.941, 214, 31, "subjects", "student", method="bootstrap by subject, 2000")
    two = Measurement("auc", None, stratum="ring", reason="no image of class ring in test")
    content = json.loads(json.dumps([one.to_json(), {**two.to_json(), "later": 1}]))
    assert [Measurement.from_json(entry) for entry in content] == [one, two]


def test_records_are_frozen():
    """Nobody changes a figure after it was measured."""
    with pytest.raises(FrozenInstanceError):
        Measurement("accuracy", 0.9).value = 1.0
    assert Task("single", ("a", "b")).n_classes == 2


def test_gap_by_hand():
    """Sums 3, -6, 0.5 and NaN, of which 4, -4, 0.3 and 4 were expected: a quarter, a half; 0.3 is below a tenth of the median 4."""
    maps = np.array([[[1, 2]], [[-3, -3]], [[0.5, 0]], [[np.nan, 1]]], np.float32)
    found = replace(explanation(maps), expected=np.array([4.0, -4.0, 0.3, 4.0])).gap
    np.testing.assert_allclose(found, [0.25, 0.5, np.nan, np.nan])


@pytest.mark.parametrize("expected", [None, np.zeros(2), np.full(2, NAN)], ids=["no baselines", "nothing to explain", "broken network"])
def test_gap_is_undefined_where_there_is_nothing_to_divide_by(expected):
    """NaN and no warning, also where all images are their own baseline or the network gives no numbers."""
    assert np.isnan(replace(explanation(np.ones((2, 3, 3))), expected=expected).gap).all()
