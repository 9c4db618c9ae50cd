"""FEM against numbers on paper and its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.core.errors import SettingError
from pellucid.explainers.fem import fem
from pellucid.models.build import build


def spike() -> torch.Tensor:
    """Return 3x3 pixels, a 9 among zeros: mean 1, standard deviation sqrt(8)."""
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 2] = 9
    return image


def test_fem_by_hand(paper):
    """9 exceeds 1 + 2 sqrt(8): channels x and 2x are on at the spike and count by their means, 1 and 2."""
    torch.testing.assert_close(fem(paper, spike()), spike()[0] / 3)


def test_fem_of_a_higher_threshold_is_nowhere_on(paper):
    """9 doesn't exceed 1 + 3 sqrt(8)."""
    assert not fem(paper, spike(), k=3.0).any()


def test_a_constant_channel_is_nowhere_on(paper):
    """It equals its own threshold and doesn't exceed it."""
    assert not fem(paper, torch.full((1, 1, 3, 3), 5.0)).any()


@pytest.mark.parametrize("k", [2.0, 0.5])
def test_fem_equals_its_definition_one_by_one(plain_parts, k):
    """Odd and not square, float64."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images = torch.randn(3, 3, 37, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps = fem(model, images, tap="layer3", k=k)
    for i in range(3):
        activation, _ = plain_parts(model, images[i], "layer3", 0)
        expected = sum(a.mean() * (a > a.mean() + k * a.std()) for a in activation)
        np.testing.assert_allclose(maps[i].numpy(), expected, rtol=1e-9, atol=1e-13)
    assert maps.any()


@pytest.mark.parametrize("k", [-1.0, 1e308])
def test_thresholds_that_say_nothing_are_refused(paper, k):
    with pytest.raises(SettingError, match="must be from 0 to 100 standard deviations"):
        fem(paper, torch.zeros(1, 3, 16, 16), k=k)


def test_fem_needs_no_gradients(paper):
    with torch.inference_mode():
        maps = fem(paper, spike())
    torch.testing.assert_close(maps.clone(), spike()[0] / 3)


def test_fem_of_a_batch_equals_one_by_one(timm_network):
    model, images, _, first = timm_network
    together = fem(model, images, tap=first)
    alone = torch.cat([fem(model, images[i : i + 1], tap=first) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))
