"""The average feature map: exactly its definition, for every layer from one forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.core.errors import SettingError, TapError
from pellucid.explainers.average_feature_map import average_feature_map, average_feature_maps
from pellucid.models.build import build


def definition(model: nn.Module, images: torch.Tensor, layer: str, weights: str) -> torch.Tensor:
    """Slow twin: pixel by pixel, channel by channel, one image at a time."""
    kept = {}
    handle = model.get_submodule(layer).register_forward_hook(lambda m, a, out: kept.__setitem__("F", out.detach().clone()))
    maps = []
    for image in images:
        model(image[None])
        features = kept["F"][0]
        channels, height, width = features.shape
        strength = [float(features[k].abs().mean()) for k in range(channels)]
        share = [1 / channels if weights == "none" else strength[k] / sum(strength) for k in range(channels)]
        maps.append([[sum(share[k] * float(features[k, i, j]) for k in range(channels)) for j in range(width)] for i in range(height)])
    handle.remove()
    return torch.tensor(maps, dtype=torch.float64)


@pytest.mark.parametrize("weights", ["none", "activation"])
@pytest.mark.parametrize(("name", "layer", "shape"), [("cnn5", "layer3", (2, 3, 17, 14)), ("resnet10t", "layer2", (1, 3, 40, 56))])
def test_average_feature_map_equals_its_definition(name, layer, shape, weights):
    """In float64 to 1e-12, on odd and non-square images; negative features of a residual network too."""
    model = build(name, n_classes=2, size=32, **({"widths": [4, 5, 6]} if name == "cnn5" else {})).double().eval()
    images = torch.randn(shape, dtype=torch.float64)
    maps = average_feature_map(model, images, tap=layer, weights=weights)
    torch.testing.assert_close(maps, definition(model, images, layer, weights), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("explain", [average_feature_map, average_feature_maps])
def test_weights_of_another_name_are_refused(explain):
    model = build("cnn5", n_classes=2, size=32, widths=[4, 5, 6]).eval()
    with pytest.raises(SettingError, match='weights = "None" must be "none" or "activation"'):
        explain(model, torch.randn(1, 3, 16, 16), weights="None")


def test_average_feature_map_by_hand():
    """Channels x and 2x: the mean is 1.5x; weighted 1/3 and 2/3 by their size it is 5/3 x."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    model[0].weight.data = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
    image = torch.tensor([[3.0, -6.0], [0.0, 9.0]])[None, None]
    torch.testing.assert_close(average_feature_map(model, image), 1.5 * image[0])
    torch.testing.assert_close(average_feature_map(model, image, weights="activation"), 5 / 3 * image[0])


def test_silent_layer_gives_zero_and_not_nan():
    model = build("cnn5", n_classes=2, size=32).eval()
    nn.init.zeros_(model.layer2[1].weight)
    maps = average_feature_map(model, torch.randn(2, 3, 32, 32), tap="layer2", weights="activation")
    assert not maps.any() and torch.isfinite(maps).all()


def test_all_layers_come_from_one_forward_pass():
    """The dict holds every spatial tap in order, each equal to the single map, after one pass (the dry run aside)."""
    model, images = build("cnn5", n_classes=2, size=32), torch.randn(3, 3, 32, 32)
    single = {name: average_feature_map(model, images, tap=name) for name in ("layer1", "layer2", "layer3", "layer4", "layer5")}
    passes = []
    handle = model.register_forward_hook(lambda *args: passes.append(1))
    maps = average_feature_maps(model, images)
    handle.remove()
    assert len(passes) == 1
    assert list(maps) == list(single)
    assert all(torch.equal(maps[name], single[name]) for name in single)


@pytest.mark.parametrize("name", ["lcnet_035", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_batch_equals_one_by_one_in_every_layer(name):
    """CNN, tokens and channels last, to 1e-5 of the largest value."""
    settings = {"deit_tiny_patch16_224": {"depth": 2}, "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1)}}.get(name, {})
    model, images = build(name, n_classes=2, size=64, **settings), torch.randn(3, 3, 64, 64)
    together = average_feature_maps(model, images)
    for i in range(3):
        for layer, alone in average_feature_maps(model, images[i : i + 1]).items():
            # Channels behind an untrained layer norm cancel exactly, so its map is rounding noise around 0.
            assert (together[layer][i] - alone[0]).abs().max() <= 1e-5 * alone.abs().max().clamp_min(0.01)


@pytest.mark.parametrize("tap", ["pooled", "logits"])
def test_vectors_have_no_grid_and_are_no_map(tap):
    with pytest.raises(TapError, match="no spatial grid"):
        average_feature_map(build("cnn5", n_classes=2, size=32), torch.zeros(1, 3, 32, 32), tap=tap)
