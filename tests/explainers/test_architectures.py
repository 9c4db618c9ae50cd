"""Every explainer that reads taps, unwired on every kind of network; attention rollout and occlusion on those they are for."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid.core import registry
from pellucid.core.errors import ModelError, TapError
from pellucid.explainers.explain import explain
from pellucid.models.build import build
from pellucid.models.taps import find_taps

# name: settings, side in pixels. Grids are at least 2x2.
NETWORKS = {
    "resnet18": ({}, 64), "resnet50": ({}, 64), "densenet121": ({}, 64), "vgg19_bn": ({"mlp_ratio": 0.01}, 32),
    "mobilenetv3_small_100": ({}, 64), "ghostnet_100": ({}, 64), "regnety_004": ({}, 64), "convnext_tiny": ({}, 64),
    "deit_base_patch16_224": ({}, 48), "deit_tiny_distilled_patch16_224": ({}, 48), "swin_s3_tiny_224": ({}, 64),
    "visformer_small": ({}, 64), "shufflenet_v2_x0_5": ({}, 64), "cnn5": ({}, 32), "own": ({}, 33),
}  # fmt: skip
FIXED = {"deit_base_patch16_224", "deit_tiny_distilled_patch16_224", "swin_s3_tiny_224", "visformer_small"}  # take images of one size alone
EXPLAINERS = [name for name in registry.describe("explainers") if registry.get("explainers", name).traits.get("taps")]


class Own(nn.Module):
    """As a user may write it: a residual by hand, functional activations and pooling, a norm that isn't batch norm, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.entry, self.body = nn.Conv2d(3, 8, 5, stride=2), nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.norm, self.widen = nn.GroupNorm(2, 8), nn.Conv2d(8, 12, 3, stride=2, bias=False)
        self.hidden, self.out = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.entry(images).relu_()
        for layer in self.body:
            maps = maps + nn.functional.relu(layer(maps))
        maps = nn.functional.silu(self.widen(self.norm(maps)))
        pooled = nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1)
        return self.out(nn.functional.leaky_relu(self.hidden(pooled)))


@cache
def network(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network with random weights in training mode, and two images.

    Its batch norms know what comes, or activations would explode; its layer norms weigh channels unequally, or the mean of the channels
    behind one would be 0 but for rounding.
    """
    settings, side = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        model = Own() if name == "own" else build(name, n_classes=3, size=side, **settings)
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = 1.0
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
        if norms:
            with torch.no_grad():
                model.train()(torch.randn(6, 3, side, side))
        return model.requires_grad_(False).train(), torch.randn(2, 3, side, side)


@pytest.fixture(scope="module", autouse=True)
def forget():
    """Give back the memory of all networks at the end."""
    yield
    network.cache_clear()


def state(model: nn.Module) -> list[object]:
    """Return mode, hooks and fusion of every module."""
    return [
        (module.training, len(module._forward_hooks), len(module._forward_pre_hooks), getattr(module, "fused_attn", None))
        for module in model.modules()
    ]


def check_maps(name: str, explainer: str, **settings: object) -> Tensor:
    """Assert that maps are finite, say something, equal those made one by one, and leave the network alone; return them."""
    model, images = network(name)
    targets, method = torch.tensor([2, 0]), registry.get("explainers", explainer)

    def both_ways(model: nn.Module, images: Tensor) -> tuple[Tensor, float]:
        together = method(model, images, targets, **settings)
        alone = torch.cat([method(model, images[i : i + 1], targets[i : i + 1], **settings) for i in range(2)])
        return together, float((together - alone).abs().max() / together.abs().max())

    before = state(model)
    maps, error = both_ways(model, images)
    assert state(model) == before
    assert torch.isfinite(maps).all() and (maps != 0).any()
    if error > 1e-5:
        # A max pool or ReLU behind the tap (VGG) may take another cell when float32 adds up in another order, and the gradient jumps.
        error = both_ways(copy.deepcopy(model).double(), images.double())[1] * 1e4
    assert error <= 1e-5, "a batch differs from one by one by more than 1e-5 of the largest value, and by 1e-9 in float64"
    return maps


def all_maps(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
    """Return the maps of every explainer that reads taps, at the last map; Score-CAM asks about 8 channels."""
    taps = find_taps(model, size=(images.shape[2], images.shape[3]), channels=3)
    # Of the four cells of a 2x2 grid none can lie two standard deviations above their mean, as FEM asks.
    settings = {"fem": {"tap": taps.choose(min_side=3).name}, "score_cam": {"channels": 8}}
    found = explain(model, images, methods=EXPLAINERS, target=targets, tap="last_map", settings=settings)
    for explanation in found:
        assert explanation.maps.shape[1:] == taps.find(explanation.layer).grid
    return {explanation.method: explanation.maps for explanation in found}


def apart(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Return for each explainer by how much a batch differs from one by one, as a share of the largest value."""
    targets = torch.tensor([2, 0])
    together = all_maps(model, images, targets)
    alone = [all_maps(model, images[i : i + 1], targets[i : i + 1]) for i in range(2)]
    assert all(np.isfinite(maps).all() and maps.any() for maps in together.values())
    return {
        method: float(np.abs(maps - np.concatenate([one[method] for one in alone])).max() / np.abs(maps).max())
        for method, maps in together.items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_every_explainer_on_every_network(name):
    """Nothing but the network's name is needed: finite maps on the tap's grid, the same in a batch and one by one, the network left alone.

    Where float32 is not enough (a max pool behind the tap takes another cell when it adds up in another order, and the gradient jumps; an
    ablated logit lies near the whole one), float64 has to be.
    """
    model, images = network(name)
    before = state(model)
    errors = apart(model, images)
    assert state(model) == before
    if rough := [method for method, error in errors.items() if error > 1e-5]:
        exact = apart(copy.deepcopy(model).double(), images.double())
        assert all(errors[method] <= 1e-2 and exact[method] <= 1e-6 for method in rough), (rough, errors, exact)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_explainer_in_float64_and_on_images_that_are_not_square(name):
    """Wider than high where the network takes that, and odd: what is left between a batch and one by one is rounding of the kept float32."""
    model, images = network(name)
    if name not in FIXED:
        images = torch.cat([images, images[..., : images.shape[3] // 2 + 1]], 3)
    for method, error in apart(copy.deepcopy(model).double(), images.double()).items():
        assert error <= 1e-6, method


@pytest.mark.parametrize("name", NETWORKS)
def test_a_tap_that_is_not_there_names_those_that_are(name):
    """For every network: the error lists all spatial taps, and the first and the last of them give maps."""
    model, images = network(name)
    grad_cam, targets = registry.get("explainers", "grad_cam"), torch.tensor([2, 0])
    with pytest.raises(TapError, match='no tap "layr2"') as caught:
        grad_cam(model, images, targets, tap="layr2")
    taps = find_taps(model, size=images.shape[2], channels=3).spatial
    assert f"Spatial taps: {', '.join(tap.name for tap in taps)} (= last_map)." in str(caught.value)
    assert grad_cam(model, images, targets, tap=taps[0].name).shape == (2, *taps[0].grid)
    assert len(taps) >= 3


@pytest.mark.parametrize("variant", ["plain", "gradient"])
@pytest.mark.parametrize("name", ["deit_base_patch16_224", "deit_tiny_distilled_patch16_224", "visformer_small"])
def test_attention_rollout_on_transformers(name, variant):
    check_maps(name, "attention_rollout", variant=variant)


@pytest.mark.parametrize("name", ["swin_s3_tiny_224", "resnet18"])
def test_attention_rollout_says_what_to_take_instead(name):
    model, images = network(name)
    before = state(model)
    with pytest.raises(ModelError, match=r"[tT]ake .*grad_cam"):
        registry.get("explainers", "attention_rollout")(model, images, torch.tensor([2, 0]))
    assert state(model) == before


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "shufflenet_v2_x0_5", "own"])
@pytest.mark.parametrize(
    ("explainer", "settings"), [("occlusion", {"window": 0.5, "stride": 0.25}), ("integrated_gradients", {"steps": 4})]
)
def test_explainers_without_taps_need_nothing_of_a_network(name, explainer, settings):
    check_maps(name, explainer, **settings)
