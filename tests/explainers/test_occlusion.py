"""Occlusion against captum's map, numbers on paper, a loop, and images that windows don't divide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.explainers.explain import explain
from pellucid.explainers.occlusion import occlusion
from pellucid.testing import tiny_network


@pytest.mark.parametrize(("name", "size"), [("cnn", "x64x64"), ("resnet", "x48x80")])
def test_occlusion_equals_captum(oracle, oracle_network, name, size):
    """Windows of 8 px that move by 4: captum's value for each pixel is this map's for its cell, to 1e-7 of the largest (captum's is float32)."""
    found = oracle(f"unicam_cam/captum_{name}.npz")
    images = torch.from_numpy(oracle("unicam_cam/images.npz")[size]).double()
    maps = occlusion(oracle_network(name), images, torch.from_numpy(found[f"{size}.pred.classes"]), window=8, stride=4)
    expected = found[f"{size}.occlusion_w8_s4"]
    np.testing.assert_allclose(maps.numpy(), expected, atol=1e-7 * np.abs(expected).max())


class Sum(nn.Module):
    """Logits: the sum of all pixels, and its negative."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.sum((1, 2, 3))
        return torch.stack([total, -total], 1)


def test_occlusion_by_hand():
    """Windows of one cell give each cell's own sum, positive where it speaks for the class; windows of two are averaged."""
    row = torch.tensor([1.0, 2.0, 4.0, 0.0]).expand(1, 1, 4, 4)
    single = occlusion(Sum(), row.expand(2, -1, -1, -1), torch.tensor([0, 1]), window=1, stride=1)
    torch.testing.assert_close(single[0, 0], torch.tensor([1.0, 2.0, 4.0, 0.0]))
    torch.testing.assert_close(single[1], -single[0])
    double = occlusion(Sum(), row, torch.tensor([0]), window=0.5, stride=0.25)
    # Two rows of 1+2, 2+4 and 4+0: the first cell lies under one window, the second under two.
    torch.testing.assert_close(double[0, 2], torch.tensor([6.0, 9.0, 10.0, 8.0]))


@pytest.mark.parametrize(("height", "width", "window", "stride"), [(33, 47, 0.2, 0.1), (20, 31, 7, 3), (16, 16, 0.3, 0.3), (9, 5, 4, 1)])
def test_occlusion_equals_a_loop(height, width, window, stride):
    """Each window by itself, added up cell by cell, with cells of unequal size."""
    model = tiny_network().eval().double()
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = occlusion(model, image, torch.tensor([2]), window=window, stride=stride)
    h, w = maps.shape[1:]
    step = stride * min(height, width) if stride < 1 else stride
    cells = round((window * min(height, width) if window < 1 else window) / step)
    assert (h, w) == (round(height / step), round(width / step))
    rows, columns = np.linspace(0, height, h + 1).round().astype(int), np.linspace(0, width, w + 1).round().astype(int)
    total, count = np.zeros((h, w)), np.zeros((h, w))
    with torch.no_grad():
        whole = float(model(image)[0, 2])
        for i in range(h - cells + 1):
            for j in range(w - cells + 1):
                covered = image.clone()
                covered[:, :, rows[i] : rows[i + cells], columns[j] : columns[j + cells]] = 0
                total[i : i + cells, j : j + cells] += whole - float(model(covered)[0, 2])
                count[i : i + cells, j : j + cells] += 1
    np.testing.assert_allclose(maps[0].numpy(), total / count, rtol=1e-9, atol=1e-12)


def test_what_is_of_the_mean_colour_already_is_exactly_zero():
    """Windows that change nothing give 0, not the rounding of a forward pass of another size."""
    image = torch.zeros(1, 3, 40, 40)
    image[:, :, 30:, 30:] = torch.randn(3, 10, 10)
    maps = occlusion(tiny_network(), image, torch.tensor([0]))
    assert not maps[0, :6].any() and maps[0, 9, 9] != 0


@pytest.mark.parametrize(("window", "stride"), [(0.0, 0.1), (0.2, 0.0), (0.1, 0.2), (4, 8)])
def test_windows_that_leave_gaps_are_refused(window, stride):
    with pytest.raises(SettingError, match="stride no longer than the window"):
        occlusion(tiny_network(), torch.zeros(1, 3, 16, 16), torch.tensor([0]), window=window, stride=stride)


@pytest.mark.parametrize("window", [16, 100_000])
def test_a_window_over_all_of_the_image_is_refused_before_any_map_is_made(window):
    with pytest.raises(SettingError, match="leaves nothing of an image of 16x16 px"):
        explain(tiny_network(), torch.zeros(1, 3, 16, 16), methods=["occlusion"], settings={"occlusion": {"window": window, "stride": 2}})


def test_occlusion_works_inside_inference_mode():
    model, image = tiny_network(), torch.randn(1, 3, 20, 20)
    expected = occlusion(model, image, torch.tensor([1]))
    with torch.inference_mode():
        torch.testing.assert_close(occlusion(model, image, torch.tensor([1])), expected)
