"""KernelShap on superpixels: against Shapley values from their definition, on games small enough to enumerate."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid.core.errors import SettingError, TargetError
from pellucid.core.records import Explanation
from pellucid.explainers.kernel_shap import CHUNK, kernel_shap, superpixels
from pellucid.models.build import build
from pellucid.testing import tiny_network


def images(n: int, channels: int = 3, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


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


class Means(nn.Module):
    """Two logits: a function of the brightness of the image's columns, and 0."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        value = self.function(images.mean((1, 2)))  # [n, W] -> [n]
        return torch.stack([value, 0 * value], 1)


def shapley(worth: Callable[[set[int]], float], n: int) -> np.ndarray:
    """Return Shapley values from the definition: every order of joining counts the same."""
    values = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            values[i] += weight * sum(worth({*chosen, i}) - worth(set(chosen)) for chosen in itertools.combinations(others, size))
    return values


def sums(maps: Tensor, pieces: Tensor) -> np.ndarray:
    """Return each superpixel's value: what its pixels carry together."""
    return np.bincount(pieces.flatten().numpy(), weights=maps.flatten().double().numpy())


def test_additive_network_by_hand():
    """A logit that is the sum of all pixels: a superpixel's value is its own sum beyond the baseline's, each pixel carries the mean."""
    image, baseline = images(1, 1, 12, 12), images(1, 1, 12, 12, seed=1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 2, bias=False))
    nn.init.ones_(network[1].weight)
    maps = kernel_shap(network, image, torch.tensor([1]), baseline, samples=100, segments=6)
    pieces = superpixels(image[0], 6)
    expected = np.bincount(pieces.flatten(), weights=(image - baseline).flatten().double())
    assert len(expected) >= 4
    np.testing.assert_allclose(sums(maps[0], pieces), expected, atol=1e-3 * np.abs(expected).max())
    areas = np.bincount(pieces.flatten())
    np.testing.assert_allclose(maps[0].numpy(), (expected / areas)[pieces], atol=1e-3 * np.abs(expected / areas).max())


def test_interacting_network_comes_near_all_coalitions():
    """Superpixels that work together and against each other, all 2^M coalitions enumerated: 4,000 draws come within 7 % of the largest."""
    image, baseline = images(1, 3, 12, 12), torch.zeros(1, 3, 12, 12)
    network = build("cnn5", n_classes=2, channels=3, size=12, widths=[6, 8, 10], seed=3).double().eval()
    image = 4 * (image.double() - 0.5)
    pieces = superpixels(image[0], 6)
    n = int(pieces.max()) + 1
    assert 4 <= n <= 9

    def worth(chosen: set[int]) -> float:
        there = torch.isin(pieces, torch.tensor(sorted(chosen)))
        with torch.no_grad():
            return network(torch.where(there, image, baseline.double()))[0, 1].item()

    expected = shapley(worth, n)
    alone = np.array([worth({i}) - worth(set()) for i in range(n)])
    assert np.abs(alone - expected).max() > 0.15 * np.abs(expected).max()  # they do interact, or the test would show nothing
    maps = kernel_shap(network, image, torch.tensor([1]), baseline, samples=4000, segments=6)
    np.testing.assert_allclose(sums(maps[0], pieces), expected, atol=0.07 * np.abs(expected).max())


def test_map_adds_up_to_the_difference():
    """Each superpixel is counted once: the sum over pixels is f(x) - f(mean baseline), grey and colour, square or not."""
    for channels, height, width in ((1, 20, 31), (3, 24, 24)):
        network = build("cnn5", n_classes=3, channels=channels, size=24, widths=[4, 6, 8]).eval()
        batch, baselines = images(2, channels, height, width), images(5, channels, height, width, seed=1)
        maps = kernel_shap(network, batch, torch.tensor([2, 0]), baselines, samples=100, segments=12)
        with torch.no_grad():
            logits, empty = network(batch), network(baselines.mean(0, keepdim=True))[0]
        expected = torch.stack([logits[0, 2] - empty[2], logits[1, 0] - empty[0]])
        torch.testing.assert_close(maps.sum((1, 2)), expected, rtol=2e-3, atol=1e-5)


def test_large_logits_cost_no_digits():
    """captum fits in float32; a constant of 10,000 on all logits changes no value by more than rounding of the logits themselves."""
    image, baseline = images(1, 1, 12, 12), torch.zeros(1, 1, 12, 12)
    found = [
        kernel_shap(Means(lambda columns, far=far: columns.sum(1) + far).double(), image.double(), torch.tensor([0]), baseline, samples=100, segments=6)
        for far in (0.0, 1e4)
    ]  # fmt: skip
    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=1e-4 * found[0].abs().max().item())


@pytest.mark.parametrize(("channels", "size"), [(1, (17, 23)), (3, (16, 16))])
def test_batch_equals_one_by_one_in_any_order(channels, size):
    """An image's draws follow from its pixels, not from its place."""
    network = build("cnn5", n_classes=2, channels=channels, size=16, widths=[4, 6, 8]).double()
    batch, targets, baseline = images(3, channels, *size).double(), torch.tensor([0, 1, 1]), images(1, channels, *size, seed=1).double()
    together = kernel_shap(network, batch, targets, baseline, samples=60, segments=8)
    order = torch.tensor([2, 0, 1])
    alone = torch.cat([kernel_shap(network, batch[i : i + 1], targets[i : i + 1], baseline, samples=60, segments=8) for i in order])
    assert together.dtype == torch.float64 and together.shape == (3, *size)
    torch.testing.assert_close(together[order], alone, rtol=1e-5, atol=1e-5 * alone.abs().max().item())


def test_seed_decides_the_draws():
    """The same seed gives the same map whatever was drawn before; another seed another."""
    arguments = (tiny_network(), images(1), torch.tensor([1]), images(1, seed=1))
    first = kernel_shap(*arguments, samples=60, segments=20)
    torch.rand(3)
    assert torch.equal(first, kernel_shap(*arguments, samples=60, segments=20))
    assert not torch.equal(first, kernel_shap(*arguments, samples=60, segments=20, seed=1))


@pytest.mark.parametrize("samples", [30, 120])
def test_memory_does_not_grow_with_samples(samples):
    """The network never sees more than 32 images at once; an image takes its samples, and one more for the baseline."""
    network = Watched(tiny_network())
    kernel_shap(network, images(2), torch.tensor([0, 1]), images(1, seed=1), samples=samples, segments=10)
    assert max(network.sizes) == min(samples, CHUNK)
    assert sum(network.sizes) == 2 * (samples + 1) + 3  # one for the classes, two for the layout


def test_users_state_survives_an_error_between_the_draws():
    """The network fails in its second chunk: modes, gradients and all three global generators are as before."""
    network = Watched(tiny_network(), fail_at=4)
    modes = [module.training for module in network.modules()]
    torch.manual_seed(7), np.random.seed(7), random.seed(7)  # noqa: NPY002
    expected = torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(7), np.random.seed(7), random.seed(7)  # noqa: NPY002
    with pytest.raises(ZeroDivisionError, match="planted"):
        kernel_shap(network, images(1), torch.tensor([0]), images(1, seed=1), samples=200, segments=10)
    assert len(network.sizes) == 4
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected  # noqa: NPY002
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_image_equal_to_the_baseline_is_dead_not_broken():
    """Nothing differs, so nothing is explained: zeros, flagged as dead; the image beside it has its map."""
    batch = images(2)
    maps = kernel_shap(tiny_network(), batch, torch.tensor([0, 0]), batch[1:], samples=60, segments=10)
    assert Explanation(maps.numpy(), np.zeros(2, int), "student", "kernel_shap", "", (16, 16)).dead.tolist() == [False, True]
    assert (maps[1] == 0).all()


def test_network_that_breaks_gives_nan_not_an_error():
    """A NaN weight: the map isn't a number, which is flagged, and the run goes on."""
    network = tiny_network()
    with torch.no_grad():
        network.head.weight[0, 0] = torch.nan
    maps = kernel_shap(network, images(1), torch.tensor([0]), images(1, seed=1), samples=60, segments=10)
    assert maps.isnan().all()


def test_image_that_is_no_number_gives_nan_beside_the_others():
    """One pixel of the first image is NaN, which no segmentation takes: its map is NaN, the second image's is what it is alone."""
    both, baseline = images(2), images(1, seed=1)
    both[0, 0, 3, 4] = torch.nan
    maps = kernel_shap(tiny_network(), both, torch.tensor([0, 0]), baseline, samples=60, segments=10)
    assert maps[0].isnan().all()
    assert torch.equal(maps[1:], kernel_shap(tiny_network(), both[1:], torch.tensor([0]), baseline, samples=60, segments=10))


def test_one_superpixel_takes_it_all():
    """One piece carries the whole difference, over its area (captum alone divides by zero there)."""
    network, image, baseline = tiny_network(), images(1), images(1, seed=1)
    maps = kernel_shap(network, image, torch.tensor([0]), baseline, samples=10, segments=1)
    assert superpixels(image[0], 1).max() == 0
    with torch.no_grad():
        difference = (network.eval()(image) - network(baseline))[0, 0]
    torch.testing.assert_close(maps[0], (difference / 256).expand(16, 16))


@pytest.mark.parametrize(("channels", "size"), [(1, (96, 96)), (3, (96, 96)), (3, (61, 97)), (2, (64, 64))])
def test_superpixels_are_about_as_many_as_asked_for_even_in_noise(channels, size):
    """Numbered without a gap, none larger than a tenth; the ordinary form of SLIC makes a single piece of colour noise."""
    pieces = superpixels(images(1, channels, *size)[0] * 5 - 3, 50)
    counts = torch.bincount(pieces.flatten())
    assert pieces.shape == size and 40 <= len(counts) <= 60
    assert counts.min() > 0 and counts.max() < 0.1 * pieces.numel()


def test_superpixels_follow_edges():
    """Two flat halves whose border no square grid meets: no piece lies on both sides."""
    image = torch.zeros(1, 40, 40)
    image[:, :, 17:] = 1
    pieces = superpixels(image, 16)
    assert not set(pieces[:, :17].flatten().tolist()) & set(pieces[:, 17:].flatten().tolist())


@pytest.mark.parametrize(("settings", "words"), [({"samples": 51}, "can't decide 50 segments"), ({"segments": 0}, "at least 1")])
def test_settings_that_cannot_be_meant_are_one_line(settings, words):
    with pytest.raises(SettingError, match=words):
        kernel_shap(tiny_network(), images(1), torch.tensor([0]), images(1), **settings)


def test_class_that_is_not_there_is_refused():
    with pytest.raises(TargetError, match="no class 3"):
        kernel_shap(tiny_network(), images(1), torch.tensor([3]), images(1))
