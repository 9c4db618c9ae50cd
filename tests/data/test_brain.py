"""A drawn head has its parts where a head has them, at any size."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.data import brain


def drawn(subject=0, size=96, height=0.3):
    return brain.draw(brain.anatomy(0, subject), brain.grid(0, subject, size), height)


@pytest.mark.parametrize("subject", range(6))
def test_the_head_lies_inside_the_picture(subject):
    """Air at every border, so that no view cuts a head by drawing it too large."""
    slice_ = drawn(subject)
    border = np.concatenate([slice_.image[0], slice_.image[-1], slice_.image[:, 0], slice_.image[:, -1]])
    assert np.abs(border).max() < 1e-9
    assert 0.3 < (slice_.depth > 0).mean() < 0.6


def test_tissues_have_their_order_of_brightness():
    """As in T1: fluid darkest, then grey, then white matter; fat under the skin bright, bone dark."""
    for subject in range(4):
        slice_ = drawn(subject, size=192)
        fluid = np.median(slice_.image[(slice_.from_fluid < -0.012) & (slice_.depth > 0.03)])
        cortex = np.median(
            slice_.image[(slice_.from_fluid > 0.012) & (slice_.from_fluid < 0.03) & (slice_.depth < 0.15) & (slice_.depth > 0.03)]
        )
        white = np.median(slice_.image[slice_.from_fluid > 0.09])
        bone = np.median(slice_.image[(slice_.depth < -0.02) & (slice_.depth > -0.03)])
        fat = np.median(slice_.image[(slice_.depth < -0.012 - 0.060) & (slice_.image > 0.5)])
        assert bone < fluid + 0.1
        assert fluid < cortex < white < fat


def test_the_same_head_at_another_size():
    """Drawn at 192 and averaged down, it is the one drawn at 96, but for edges."""
    large = drawn(size=192).image.reshape(96, 2, 96, 2).mean((1, 3))
    assert np.corrcoef(large.ravel(), drawn(size=96).image.ravel())[0, 1] > 0.98


def test_noise_is_that_of_a_magnitude_image():
    """Air is dark but never quite black, never negative, and uneven from seed to seed."""
    head, air = brain.anatomy(0, 0), np.zeros((64, 64))
    one, again, other = (brain.scan(head, air, seed).astype(float) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.mean() / 255 == pytest.approx(head.noise * np.sqrt(np.pi / 2), rel=0.05)  # mean of a Rayleigh distribution
