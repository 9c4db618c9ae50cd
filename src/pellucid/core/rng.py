"""Random numbers by counter: a pure function of what they are for, the same in any order and any process."""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def derive(seed: int, purpose: str) -> int:
    """Return a seed (63 bits) for one purpose, so that a new stage changes no other's draws."""
    digest = hashlib.sha256(f"{int(seed)}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def uniform(seed: int, *counters: np.ndarray | int) -> np.ndarray:
    """Return float64 numbers in [0, 1), one for each combination of counters.

    Parameters
    ----------
    seed : int
        Any integer; use :func:`derive` to name the purpose.
    counters : int or integer arrays
        Broadcast against each other; the result has the broadcast shape.

    Notes
    -----
    One SplitMix64 round per counter (Steele, Lea & Flood 2014), which is enough for augmentation
    and shuffling; nothing here is for cryptography.
    """
    arrays = np.broadcast_arrays(*[np.asarray(counter, dtype=np.int64) for counter in counters])
    state = np.full(arrays[0].shape, np.uint64(seed & 0xFFFFFFFFFFFFFFFF))
    with np.errstate(over="ignore"):
        for counter in arrays:
            state = _splitmix(state ^ (counter.astype(np.uint64) * _GOLDEN))
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return a NumPy generator for one purpose."""
    return np.random.Generator(np.random.PCG64(derive(seed, purpose)))


def _splitmix(state: np.ndarray) -> np.ndarray:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _MIX1
    state = (state ^ (state >> np.uint64(27))) * _MIX2
    return state ^ (state >> np.uint64(31))
