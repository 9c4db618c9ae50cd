"""Timing several things fairly: in turns, on a stated number of threads, within a bounded time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from pellucid.stats.intervals import Interval, interval, resample

Key = TypeVar("Key", bound=Hashable)


@contextlib.contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Let torch compute on so many threads inside, and on as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_turns(jobs: Mapping[Key, Callable[[int], object]], *, least: int, most: int, seconds: float) -> dict[Key, np.ndarray]:
    """Time jobs round by round, each once per round, so that whatever slows the machine meanwhile slows all of them.

    Parameters
    ----------
    jobs : mapping to callables
        Called with the number of the round. One round before the first isn't counted (warm-up).
    least, most : int
        Rounds at least and at most.
    seconds : float
        After `least` rounds no new one begins once this time is up.

    Returns
    -------
    dict of key -> float64 array [rounds]
        Seconds of each call.
    """
    for job in jobs.values():
        job(0)
    taken: dict[Key, list[float]] = {key: [] for key in jobs}
    start = time.perf_counter()
    for number in range(most):
        if number >= least and time.perf_counter() - start > seconds:
            break
        # Each round begins with another job: coming after a large network (a cold cache) isn't always the same one's lot.
        keys = list(jobs)
        turn = number % len(keys) if keys else 0
        for key in keys[turn:] + keys[:turn]:
            before = time.perf_counter()
            jobs[key](number)
            taken[key].append(time.perf_counter() - before)
    return {key: np.array(values) for key, values in taken.items()}


def quantile(values: np.ndarray, share: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the statistic that takes counts [B, n] to the quantile of the values so counted [B].

    The quantile is the smallest value that at least `share` of all don't exceed (Hyndman & Fan 1996, definition 1).
    """
    order = np.argsort(values, kind="stable")

    def statistic(counts: np.ndarray) -> np.ndarray:
        below = np.cumsum(counts[:, order], axis=1)
        return values[order][(below >= share * below[:, -1:] - 1e-9).argmax(1)]

    return statistic


def over_repeats(statistic: Callable[[np.ndarray], np.ndarray], n: int, *, unit: str = "repeats") -> Interval:
    """Return a statistic of n repeated measurements with its bootstrap interval over the repeats."""
    weights = resample(np.zeros(n, np.int64), np.arange(n))
    return interval(statistic, weights, n_units=n, unit=unit, share=False)
