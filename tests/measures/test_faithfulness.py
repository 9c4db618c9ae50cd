"""Mask-fidelity on networks whose answer can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from pellucid.measures import faithfulness as f


class Corner(nn.Module):
    """Its one logit is the mean of the upper left quarter, the other is 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = images.shape[-1] // 2
        value = 20 * images[:, :, :side, :side].mean((1, 2, 3))
        return torch.stack([value, torch.zeros_like(value)], 1)


def bright_corner(n: int = 3, side: int = 24) -> torch.Tensor:
    """Return images that are 0 but for a small bright spot inside the upper left quarter, with noise in the rest."""
    images = torch.zeros(n, 1, side, side)
    images[:, :, 5:7, 5:7] = 4
    images[:, :, side // 2 :, :] = torch.randn(n, 1, side // 2, side, generator=torch.Generator().manual_seed(0))
    return images


def test_blur_is_scipys_gaussian():
    """Twin: scipy's filter of the same width, edges mirrored without repeating the edge pixel."""
    image = np.random.default_rng(0).normal(size=(20, 32))
    expected = gaussian_filter(image, 32 / 12, mode="mirror", radius=8)
    np.testing.assert_allclose(f.blur(torch.tensor(image)[None, None])[0, 0].numpy(), expected, atol=1e-10)


def test_blur_keeps_a_constant_image():
    """Blurring takes detail away, not brightness, up to the edge."""
    images = torch.full((2, 3, 9, 9), 0.7)
    torch.testing.assert_close(f.blur(images), images)


def test_a_map_of_ones_keeps_everything():
    """Fidelity 1 to the last bit, which is why the area stands beside it."""
    images = bright_corner()
    fidelity, agreement = f.mask_fidelity(Corner(), images, np.ones((3, 24, 24)), np.zeros(3, np.int64))
    assert (fidelity == 1).all() and (agreement == 1).all()


def test_mask_fidelity_from_its_definition():
    """Twin: x' written out, probabilities by hand."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12 * 12, 3))
    images, maps = torch.randn(4, 1, 12, 12), np.random.default_rng(0).random((4, 12, 12)).astype(np.float32)
    targets = np.array([0, 1, 2, 1])
    kept = torch.from_numpy(maps)[:, None]
    before = model(images).softmax(1)
    after = model(kept * images + (1 - kept) * f.blur(images)).softmax(1)
    fidelity, agreement = f.mask_fidelity(model, images, maps, targets)
    each = np.arange(4)
    np.testing.assert_allclose(fidelity, 1 - (before - after).abs().detach().numpy()[each, targets], atol=1e-6)
    np.testing.assert_array_equal(agreement, (before.argmax(1) == after.argmax(1)).numpy())


def test_a_map_on_what_the_network_uses_is_more_faithful():
    """The network reads the upper left quarter alone: a map there keeps its answer, a map of the same area elsewhere doesn't."""
    images = bright_corner()
    images[:, :, :12, :12] = torch.tensor([4.0, -4.0]).repeat(6).view(1, 1, 1, 12)
    images[:, :, :12, 12:] = -4
    here, there = np.zeros((2, 3, 24, 24))
    here[:, :12, :12] = 1
    there[:, 12:, 12:] = 1
    targets = np.zeros(3, np.int64)
    on, off = (f.mask_fidelity(Corner(), images, maps, targets)[0] for maps in (here, there))
    assert (on == 1).all()
    assert (off < 0.95).all()


def test_mask_fidelity_restores_the_mode_after_an_error():
    """A planted error inside; each module's own mode is back."""

    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("planted")

    model = nn.Sequential(nn.BatchNorm2d(1), Broken()).train()
    with pytest.raises(RuntimeError, match="planted"):
        f.mask_fidelity(model, torch.zeros(1, 1, 8, 8), np.ones((1, 8, 8)), np.zeros(1, np.int64))
    assert model.training and model[0].training
