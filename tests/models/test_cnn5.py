"""cnn5: its parameter counts, multiply-adds, pools and taps, as worked out on paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.core.errors import SettingError
from pellucid.models.cnn5 import cnn5
from pellucid.models.taps import find_taps


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, size: int, channels: int = 3) -> int:
    """Count by shapes seen in one forward pass: a second route to the printed figures."""
    total = 0

    def count(module, args, output):
        nonlocal total
        inputs = module.weight[0].numel()  # of one output value
        total += output.numel() * inputs

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, channels, size, size))
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize(("n_classes", "expected", "expected_small"), [(4, 332_500, 99_148), (3, 332_235, 99_019), (2, 331_970, 98_890)])
def test_presets_have_the_stated_parameters(n_classes, expected, expected_small):
    assert parameters(cnn5(n_classes=n_classes, channels=3, size=224)) == expected
    assert parameters(cnn5(n_classes=n_classes, channels=3, size=224, preset="small")) == expected_small


@pytest.mark.parametrize(
    ("settings", "size", "expected"),
    [
        ({}, 224, 232_679_712),
        ({"preset": "small"}, 224, 68_641_280),
        ({"preset": "small"}, 128, 22_413_824),
        ({"preset": "small"}, 64, 9_142_784),
        ({"depth": 5}, 224, 252_888_064),
        ({"depth": 7, "preset": "small"}, 224, 83_091_968),
    ],
)
def test_multiply_adds_are_as_stated(settings, size, expected):
    """Pools stand where the table has them, or the count would differ."""
    assert multiply_adds(cnn5(n_classes=4, channels=3, size=size, **settings), size) == expected


@pytest.mark.parametrize(
    ("depth", "wide", "narrow", "side"),
    [
        (3, 23_956, 6_220, 56),
        (4, 98_196, 24_908, 28),
        (5, 394_132, 99_148, 14),
        (6, 984_468, 246_860, 7),
        (7, 1_574_804, 394_572, 7),
        (8, 2_165_140, 542_284, 7),
    ],
)
def test_depth_doubles_widths_up_to_a_cap(depth, wide, narrow, side):
    """Widths double from 16 up to 256 (from 8 up to 128 for the small preset); maps never get smaller than 7x7."""
    assert parameters(cnn5(n_classes=4, channels=3, size=224, depth=depth)) == wide
    small = cnn5(n_classes=4, channels=3, size=224, depth=depth, preset="small")
    assert parameters(small) == narrow
    assert find_taps(small, size=224, channels=3).last_map.grid == (side, side)


def test_taps_are_the_relu_outputs_before_the_pools():
    """Every layer is a tap, after ReLU and before its pool: the sides are 224, 112, 56, 28, 14."""
    model = cnn5(n_classes=4, channels=3, size=224, preset="small")
    taps = find_taps(model, size=224, channels=3)
    assert [tap.name for tap in taps.spatial] == ["layer1", "layer2", "layer3", "layer4", "layer5"]
    assert [tap.shape for tap in taps.spatial] == [(8, 224, 224), (16, 112, 112), (32, 56, 56), (64, 28, 28), (128, 14, 14)]
    assert taps.pooled.shape == (128, 1, 1)


def test_layers_of_equal_side_are_taps_of_their_own():
    """Eight layers on a small image share sides, and are eight taps all the same."""
    taps = find_taps(cnn5(n_classes=2, channels=1, size=32, depth=8, preset="small"), size=32, channels=1)
    assert [tap.grid[0] for tap in taps.spatial] == [32, 16, 8, 8, 8, 8, 8, 8]


@pytest.mark.parametrize(
    ("settings", "setting"),
    [({"widths": [8, 8, 8], "depth": 3}, "depth"), ({"depth": 2}, "depth"), ({"depth": 9}, "depth"), ({"widths": [8, 8]}, "widths"),
     ({"widths": [8, 0, 8]}, "widths"), ({"widths": []}, "widths")],
)  # fmt: skip
def test_contradicting_settings_are_refused(settings, setting):
    with pytest.raises(SettingError) as caught:
        cnn5(n_classes=2, channels=1, size=32, **settings)
    assert caught.value.setting == setting
