"""Timing in turns; never how long something takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.measures import timing


def test_jobs_take_turns_and_none_is_always_first():
    """Three rounds of two jobs, after one round of warm-up that isn't counted."""
    calls = []
    jobs = {name: (lambda number, name=name: calls.append((name, number))) for name in "ab"}
    taken = timing.in_turns(jobs, least=3, most=3, seconds=0.0)
    assert calls == [("a", 0), ("b", 0), ("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert {name: len(values) for name, values in taken.items()} == {"a": 3, "b": 3}


def test_rounds_stop_when_the_time_is_up_but_not_before_the_least():
    """With no time at all, the least number of rounds is still done."""
    assert len(timing.in_turns({"a": lambda number: None}, least=4, most=1000, seconds=0.0)["a"]) == 4


def test_threads_are_restored_after_an_error():
    """A user's number of threads survives a failing measurement."""
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="planted"), timing.on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError("planted")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_quantile_over_counts_equals_the_quantile_of_the_repeated_values(share):
    """Twin: repeat each value as often as it was drawn, then take NumPy's inverted_cdf."""
    rng = np.random.default_rng(0)
    values, counts = rng.random(31), rng.multinomial(31, np.full(31, 1 / 31), size=50)
    expected = [np.quantile(np.repeat(values, row), share, method="inverted_cdf") for row in counts]
    np.testing.assert_allclose(timing.quantile(values, share)(counts), expected)
