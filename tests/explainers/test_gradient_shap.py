"""GradientShap: exact where it can be worked out, the same in any batch, and nobody else's draws, gradients or memory touched."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid.core.errors import ModelError, SettingError, TargetError
from pellucid.core.records import Explanation
from pellucid.explainers.gradient_shap import CHUNK, gradient_shap
from pellucid.models.build import build
from pellucid.testing import tiny_network


def images(n: int, channels: int = 3, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """Two logits that are weighted sums of a 2x2 image."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0, 2.0, -3.0, 0.0], [0.0, 1.0, 0.0, 1.0]])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))


class Square(nn.Module):
    """The first logit is the square of the only pixel; the second is 0."""

    def forward(self, images: Tensor) -> Tensor:
        value = images.flatten(1) ** 2
        return torch.cat([value, 0 * value], 1)


class Watched(nn.Module):
    """Counts what goes through the network it holds."""

    def __init__(self, inner: nn.Module, fail_at: int = -1) -> None:
        super().__init__()
        self.inner, self.sizes, self.fail_at = inner, [], fail_at

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(self.sizes) == self.fail_at:
            raise ZeroDivisionError("planted")
        return self.inner(images)


def test_linear_network_by_hand():
    """Weight times difference from the only baseline, for each pixel, whatever was drawn: no gap."""
    image, baseline = torch.tensor([[[[4.0, 1.0], [2.0, 5.0]]]]), torch.tensor([[[[1.0, 1.0], [0.0, 3.0]]]])
    maps = gradient_shap(Linear(), image.expand(2, -1, -1, -1), torch.tensor([0, 1]), baseline, samples=5)
    torch.testing.assert_close(maps, torch.tensor([[[3.0, 0.0], [-6.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]]))


def test_linear_network_with_many_baselines_comes_near_the_closed_form():
    """Weight times (x - mean of the baselines): the draws of 4,096 of 5 baselines leave some percent."""
    image, baselines = images(1, 1, 2, 2), images(5, 1, 2, 2, seed=1)
    maps = gradient_shap(Linear(), image, torch.tensor([0]), baselines, samples=4096)
    expected = torch.tensor([1.0, 2.0, -3.0, 0.0]) * (image[0].flatten() - baselines.flatten(1).mean(0))
    torch.testing.assert_close(maps.flatten(), expected, atol=0.05, rtol=0.0)


def test_map_adds_up_to_the_difference_but_for_the_draws():
    """x^2 from 1 to 3 is 8: two mean gradients of 2(1 + 2a) with a drawn evenly; more draws come nearer."""
    image, baseline = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 1.0)
    sums = [gradient_shap(Square(), image, torch.tensor([0]), baseline, samples=64, seed=seed).item() for seed in range(20)]
    assert len(set(sums)) == 20
    # 2 * 2 * (1 + 2a) has standard deviation 8 / sqrt(12) = 2.31, a mean of 64 of them 0.29, and a mean of 20 such 0.065.
    assert np.mean(sums) == pytest.approx(8, abs=0.26)
    assert np.std(sums) == pytest.approx(0.29, abs=0.15)


def test_channels_are_added():
    """A colour image's map is the sum of its channels' maps."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    image, baseline = images(1, 3, 2, 2), images(1, 3, 2, 2, seed=1)
    weights = network[1].weight[1].detach().reshape(3, 2, 2)
    expected = (weights * (image - baseline)[0]).sum(0)
    torch.testing.assert_close(gradient_shap(network, image, torch.tensor([1]), baseline)[0], expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(33, 47), (32, 24)])
def test_batch_equals_one_by_one_in_any_order(channels, size):
    """An image's draws follow from its pixels, not from its place: odd sizes, grey and colour, float64, two classes."""
    network = build("cnn5", n_classes=2, channels=channels, size=32, widths=[4, 6, 8]).double()
    batch, targets, baselines = images(3, channels, *size).double(), torch.tensor([0, 1, 1]), images(4, channels, *size, seed=1).double()
    together = gradient_shap(network, batch, targets, baselines, samples=40)
    order = torch.tensor([2, 0, 1])
    alone = torch.cat([gradient_shap(network, batch[i : i + 1], targets[i : i + 1], baselines, samples=40) for i in order])
    assert together.dtype == torch.float64 and together.shape == (3, *size)
    torch.testing.assert_close(together[order], alone, rtol=1e-9, atol=1e-12)


def test_seed_decides_the_draws():
    """The same seed gives the same map whatever was drawn before; another seed another."""
    arguments = (tiny_network(), images(1), torch.tensor([1]), images(4, seed=1))
    first = gradient_shap(*arguments)
    torch.rand(3)
    assert torch.equal(first, gradient_shap(*arguments))
    assert not torch.equal(first, gradient_shap(*arguments, seed=1))


@pytest.mark.parametrize("samples", [1, 32, 70])
def test_memory_does_not_grow_with_samples(samples):
    """The network never sees more than 32 images at once, and as many as there are samples in all."""
    network = Watched(tiny_network())
    gradient_shap(network, images(2), torch.tensor([0, 1]), images(40, seed=1), samples=samples)
    assert max(network.sizes) == max(min(samples, CHUNK), 2)
    assert sum(network.sizes) == 2 * samples + 3  # and one image to see how many classes there are, two to see which layout it takes


def test_users_state_survives_an_error_between_the_draws():
    """The network fails in its second chunk: modes, hooks, gradients and all three global generators are as before."""
    network = Watched(tiny_network(), fail_at=3)
    network.inner.layer1[0].weight.grad = torch.ones_like(network.inner.layer1[0].weight)
    modes = [module.training for module in network.modules()]
    torch.manual_seed(7), np.random.seed(7), random.seed(7)  # noqa: NPY002
    expected = torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(7), np.random.seed(7), random.seed(7)  # noqa: NPY002
    given = images(1)
    with pytest.raises(ZeroDivisionError, match="planted"):
        gradient_shap(network, given, torch.tensor([0]), images(4, seed=1))
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected  # noqa: NPY002
    assert [module.training for module in network.modules()] == modes
    assert (network.inner.layer1[0].weight.grad == 1).all() and network.inner.head.weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert not given.requires_grad


def test_image_equal_to_all_baselines_is_dead_not_broken():
    """Nothing differs, so nothing is explained: zeros, and flagged as dead."""
    image = images(1)
    maps = gradient_shap(tiny_network(), image, torch.tensor([0]), image.repeat(3, 1, 1, 1))
    assert (maps == 0).all()
    assert Explanation(maps.numpy(), np.zeros(1, int), "student", "gradient_shap", "", (16, 16)).dead.all()


@pytest.mark.parametrize(
    ("baselines", "settings", "error", "words"),
    [
        (images(2, 3, 16, 15), {}, ModelError, r"baselines must be images.*\[2, 3, 16, 15\]"), (images(2)[0], {}, ModelError, "baselines"),
        (images(0), {}, ModelError, "at least 1"), (images(2), {"samples": 0}, SettingError, "samples = 0"),
        (None, {}, ModelError, "must be a tensor, not NoneType"), (images(2).numpy(), {}, ModelError, "must be a tensor, not ndarray"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line(baselines, settings, error, words):
    with pytest.raises(error, match=words):
        gradient_shap(tiny_network(), images(1), torch.tensor([0]), baselines, **settings)


def test_class_that_is_not_there_and_inference_mode_are_refused():
    with pytest.raises(TargetError, match="no class 3"):
        gradient_shap(tiny_network(), images(1), torch.tensor([3]), images(2))
    with torch.inference_mode(), pytest.raises(ModelError, match="inference_mode"):
        gradient_shap(tiny_network(), images(1), torch.tensor([0]), images(2))


def test_missing_package_names_the_command(monkeypatch):
    """Without the extra: the command that installs it, before anything is computed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"gradient_shap needs captum.*pip install 'pellucid\[shap\]'"):
        gradient_shap(tiny_network(), images(1), torch.tensor([0]), images(2))
