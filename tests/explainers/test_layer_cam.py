"""LayerCAM against three libraries' maps, numbers on paper, and its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.explainers.layer_cam import layer_cam
from pellucid.models.build import build


def test_layer_cam_equals_the_libraries(cam_case):
    """pytorch-grad-cam and torchcam before ReLU and scaling, to 1e-9 in float64."""
    maps = layer_cam(cam_case.model, cam_case.images, cam_case.targets, tap=cam_case.tap)
    assert maps.dtype == torch.float64
    np.testing.assert_allclose(maps.numpy(), cam_case.maps["layer_cam"], rtol=1e-9, atol=1e-12)


def test_layer_cam_by_hand(cells, image):
    """Negative weights (-1 and -3) fall away: x counts 1, 2 - 2, 3 and 4 - 4 times."""
    maps = layer_cam(cells, image, torch.tensor([0]))
    torch.testing.assert_close(maps, torch.tensor([[[4.0, 0.0], [0.0, 0.0]]]))


def test_layer_cam_equals_its_definition_one_by_one(plain_parts):
    """Odd and not square, float64."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images = torch.randn(3, 3, 37, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, 0, 1])
    maps = layer_cam(model, images, targets, tap="layer2")
    for i in range(3):
        activation, gradient = plain_parts(model, images[i], "layer2", int(targets[i]))
        expected = sum(np.maximum(g, 0) * a for g, a in zip(gradient, activation, strict=True))
        np.testing.assert_allclose(maps[i].numpy(), expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("last", [False, True])
def test_layer_cam_of_a_batch_equals_one_by_one(timm_network, last):
    model, images, targets, first = timm_network
    tap = "last_map" if last else first
    together = layer_cam(model, images, targets, tap=tap)
    alone = torch.cat([layer_cam(model, images[i : i + 1], targets[i : i + 1], tap=tap) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))
