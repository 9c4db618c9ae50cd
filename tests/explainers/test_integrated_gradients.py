"""Integrated gradients against captum's own maps, numbers on paper, its sum, and its promises about memory and the user's network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid.core.errors import ModelError, SettingError
from pellucid.explainers.explain import explain
from pellucid.explainers.integrated_gradients import CHUNK, integrated_gradients
from pellucid.testing import tiny_network


@pytest.mark.parametrize(("name", "size"), [("cnn", "x64x64"), ("resnet", "x48x80")])
def test_integrated_gradients_equals_captum(oracle, oracle_network, name, size):
    """Baseline 0, 50 nodes of Gauss and Legendre, summed over colours: to 1e-7 of the largest (captum's weights are float32)."""
    found = oracle(f"unicam_cam/captum_{name}.npz")
    images = torch.from_numpy(oracle("unicam_cam/images.npz")[size]).double()
    maps = integrated_gradients(oracle_network(name), images, torch.from_numpy(found[f"{size}.pred.classes"]))
    expected = found[f"{size}.ig_gausslegendre50"]
    assert maps.dtype == torch.float64
    np.testing.assert_allclose(maps.numpy(), expected, atol=1e-7 * np.abs(expected).max())


class Power(nn.Module):
    """Logits: the product of both pixels, and the fifth power of the first."""

    def forward(self, images: Tensor) -> Tensor:
        first, second = images.flatten(1).unbind(1)
        return torch.stack([first * second, first**5], 1)


def test_integrated_gradients_by_hand():
    """On the straight way from 0 a product is shared half and half, a power falls to its own pixel; three nodes are exact to degree five."""
    image = torch.tensor([2.0, -3.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    maps = integrated_gradients(Power(), image.expand(2, -1, -1, -1), torch.tensor([0, 1]), steps=3)
    torch.testing.assert_close(maps[:, 0].double(), torch.tensor([[-3.0, -3.0], [32.0, 0.0]], dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_gap_is_what_the_steps_miss():
    """`expected` is the class logit beyond that of an image of zeros. Two nodes take t^4 for 7/36 on [0, 1], not 1/5: a gap of 1/36."""
    image = torch.tensor([2.0, -3.0]).reshape(1, 1, 1, 2)
    for steps, gap in ((2, 1 / 36), (3, 0.0)):
        settings = {"integrated_gradients": {"steps": steps}}
        found = explain(Power(), image, methods=["integrated_gradients"], settings=settings, target=[1])[0]
        assert found.expected.tolist() == [32.0]
        assert found.gap[0] == pytest.approx(gap, abs=1e-6)


def test_an_image_of_the_mean_colour_gets_nothing():
    assert not integrated_gradients(tiny_network(), torch.zeros(1, 3, 16, 16), torch.tensor([0])).any()


class Watched(nn.Module):
    """Notes how many images it is given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.sizes = tiny_network(), []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return self.inner(images)


@pytest.mark.parametrize("steps", [1, 50, 130])
def test_memory_does_not_grow_with_steps(steps):
    """The network never sees more than 32 images at once."""
    network = Watched()
    integrated_gradients(network, torch.randn(2, 3, 16, 16), torch.tensor([0, 1]), steps=steps)
    assert max(network.sizes) <= CHUNK and sum(network.sizes) == 2 * steps + 3  # one for the classes, two for the layout


def test_what_cannot_be_meant_is_one_line(monkeypatch):
    images, targets = torch.zeros(1, 3, 16, 16), torch.tensor([0])
    with pytest.raises(SettingError, match="steps = 0 must be at least 1"):
        integrated_gradients(tiny_network(), images, targets, steps=0)
    with torch.inference_mode(), pytest.raises(ModelError, match="inference_mode"):
        integrated_gradients(tiny_network(), images, targets)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"integrated_gradients needs captum.*pip install 'pellucid\[shap\]'"):
        integrated_gradients(tiny_network(), images, targets)
