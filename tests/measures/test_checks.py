"""Every registered measure keeps the contract, and the checks notice one that doesn't."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pellucid import testing
from pellucid.core import registry
from pellucid.core.records import Measurement
from pellucid.core.registry import part
from pellucid.measures.judged import Judgement


@pytest.mark.parametrize("check", testing.MEASURE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", registry.describe("measures"))
def test_measure_keeps_the_contract(name, check):
    """One test per measure and check."""
    check(registry.get("measures", name))


@part()
def good(judged):
    """A measure that keeps the contract."""
    n = len(judged.images)
    return Judgement([Measurement("n", float(n), n_images=n, method="counted")], {"one": np.ones(n)})


def broken(change):
    @part()
    def measure(judged):
        """A measure with one fault."""
        return change(judged, good(judged))

    return measure


def row(**facts):
    return lambda judged, found: Judgement([replace(found.measurements[0], **facts)])


def train_mode(judged, found):
    judged.networks["student"].model.eval()
    return found


FAULTS = {
    "doesn't say why": row(value=None),
    "half an interval": row(low=1.0),
    "lies outside": row(low=1.0, high=2.0),
    "rests on no image": row(n_images=0, method=""),
    "more than once": lambda judged, found: Judgement(found.measurements * 2),
    "has shape": lambda judged, found: Judgement([], {"short": np.ones(3)}),
    "holds": lambda judged, found: Judgement([], {"words": np.array(["a"] * len(judged.images))}),
    "changes the mode": train_mode,
    "the second time": lambda judged, found: Judgement([replace(found.measurements[0], value=float(np.random.default_rng().random()))]),
}


def test_a_measure_of_a_stranger_passes():
    """The checks ask nothing that isn't in the contract."""
    testing.check_measure(good)


@pytest.mark.parametrize("words", FAULTS)
def test_the_checks_notice_a_fault(words):
    """Each planted fault is named."""
    with pytest.raises(AssertionError, match=words):
        testing.check_measure(broken(FAULTS[words]))
