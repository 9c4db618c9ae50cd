"""Lesions look like their kind and lie in the brain."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.data import brain, lesion


def added(kind, seed=0, offset=0.0, size=128):
    head, at = brain.anatomy(0, 0), brain.grid(0, 0, size)
    plain = brain.draw(head, at, 0.8)
    image, covered = lesion.add(lesion.choose(kind, head, seed, offset), plain, at)
    return plain, image, covered


@pytest.mark.parametrize("kind", lesion.KINDS)
def test_lesions_lie_in_the_brain(kind):
    """Wherever the seed puts them, skull and skin are not covered."""
    for seed in range(12):
        plain, _, covered = added(kind, seed)
        assert covered.max() > 0.99
        assert not (covered > 0.5)[plain.depth < 0].any()


def test_the_three_kinds_look_as_they_are_called():
    """Solid: bright throughout. Ring: bright border, dark core. Diffuse: dark, with a border that fades."""
    for seed in range(6):
        _, solid, covered = added("solid", seed)
        assert np.median(solid[covered > 0.99]) > 0.7
        _, ring, covered = added("ring", seed)
        y, x = np.argwhere(covered > 0.99).mean(0).round().astype(int)
        assert ring[y, x] < 0.4
        assert np.quantile(ring[covered > 0.5], 0.9) > 0.7
        plain, diffuse, covered = added("diffuse", seed)
        assert (diffuse - plain.image)[(covered > 0.9) & (plain.from_fluid > 0.06)].mean() < -0.1
        assert ((covered > 0.1) & (covered < 0.9)).sum() > 2 * ((added("solid", seed)[2] > 0.1) & (added("solid", seed)[2] < 0.9)).sum()


def test_a_cut_nearer_to_the_end_is_smaller():
    """A ball cut at 0.8 of its radius shows 0.36 of its area, when all of it lies in the brain."""
    for seed in range(4):
        middle, end = added("solid", seed, 0.0)[2].sum(), added("solid", seed, 0.8)[2].sum()
        assert 0.25 < end / middle < 0.6
