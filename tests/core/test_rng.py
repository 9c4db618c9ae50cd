"""Random numbers by counter: golden, uniform, and independent of order and company."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core import rng

MASK = 2**64 - 1


def splitmix(state: int) -> int:
    """Return one SplitMix64 step in Python's own integers (Steele, Lea & Flood 2014, figure 16)."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def slow_uniform(seed: int, *counters: int) -> float:
    state = seed & MASK
    for counter in counters:
        state = splitmix(state ^ (((counter & MASK) * 0x9E3779B97F4A7C15) & MASK))
    return (state >> 11) / 2**53


def test_splitmix_follows_the_published_sequence():
    """Golden: the first outputs for seed 0 of Vigna's splitmix64.c (prng.di.unimi.it), as in java.util.SplittableRandom."""
    states = [(k * 0x9E3779B97F4A7C15) & MASK for k in range(3)]
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [splitmix(state) for state in states] == expected
    assert rng._splitmix(np.array(states, dtype=np.uint64)).tolist() == expected


def test_uniform_golden_values():
    """These numbers stand behind every split and view that was ever made: they must never change."""
    expected = ["0x1.8f2f879164c82p-2", "0x1.d8ef386d27f10p-1", "0x1.39d7d14da0a1bp-1", "0x1.4675b70f6ed68p-3"]
    assert [float(value).hex() for value in rng.uniform(7, np.arange(4))] == expected


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(-(2**63), 2**63), counters=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3))
def test_uniform_equals_its_slow_twin(seed, counters):
    """For any seed and counters, negative ones too, NumPy and plain integers agree to the bit."""
    assert float(rng.uniform(seed, *counters)) == slow_uniform(seed, *counters)


def test_uniform_is_the_same_in_any_order_and_company():
    """What an image draws doesn't depend on which others are drawn, nor when."""
    images, views = np.arange(50)[:, None], np.arange(8)
    table = rng.uniform(3, images, views)
    assert table.shape == (50, 8)
    shuffled = np.random.default_rng(0).permutation(50)
    assert np.array_equal(rng.uniform(3, shuffled[:, None], views), table[shuffled])
    assert rng.uniform(3, 17, 5) == table[17, 5]


def test_uniform_is_uniform_and_uncorrelated():
    """A million draws: each of 16 bins holds its share to 5 sigma, and neighbours, counters and seeds don't go together."""
    draws = rng.uniform(0, np.arange(1000)[:, None], np.arange(1000))
    assert 0 <= draws.min() < draws.max() < 1
    counts = np.histogram(draws, bins=16, range=(0, 1))[0]
    sigma = np.sqrt(1e6 / 16 * 15 / 16)
    assert np.abs(counts - 1e6 / 16).max() < 5 * sigma
    others = {
        "next image": draws[1:],
        "next view": draws[:, 1:],
        "swapped": draws.T,
        "next seed": rng.uniform(1, np.arange(1000)[:, None], np.arange(1000)),
    }
    for name, other in others.items():
        ours = draws[: other.shape[0], : other.shape[1]]
        off = ~np.eye(*ours.shape, dtype=bool) if name == "swapped" else np.ones(ours.shape, dtype=bool)
        assert abs(np.corrcoef(ours[off], other[off])[0, 1]) < 5 / np.sqrt(off.sum()), name


def test_derive_names_a_purpose():
    """Golden: printf '0/order 1' | sha256sum, its first eight bytes as a little-endian number, halved. Other purpose, other seed."""
    assert rng.derive(0, "order 1") == int.from_bytes(bytes.fromhex("3b6fed76d5b5d8a6"), "little") // 2
    seeds = {rng.derive(seed, purpose) for seed in range(20) for purpose in ("split", "order 1", "order 11")}
    assert len(seeds) == 60
    assert max(seeds) < 2**63


def test_generator_repeats_itself():
    """Two generators of one purpose draw the same, of another purpose something else."""
    one, same, other = (rng.generator(1, purpose).random(4).tolist() for purpose in ("a", "a", "b"))
    assert one == same
    assert one != other


@pytest.mark.parametrize("size", [(), (0,), (2, 0)])
def test_uniform_takes_scalars_and_nothing(size):
    """No counters at all give no numbers; a scalar gives one."""
    assert rng.uniform(0, np.zeros(size, np.int64)).shape == size
