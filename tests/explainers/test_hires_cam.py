"""HiResCAM against a library's maps, numbers on paper, and its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.core.errors import ModelError
from pellucid.explainers.grad_cam import grad_cam
from pellucid.explainers.hires_cam import hires_cam
from pellucid.models.build import build


def test_hires_cam_equals_the_library(cam_case):
    """pytorch-grad-cam before ReLU and scaling, to 1e-9 in float64."""
    maps = hires_cam(cam_case.model, cam_case.images, cam_case.targets, tap=cam_case.tap)
    assert maps.dtype == torch.float64
    np.testing.assert_allclose(maps.numpy(), cam_case.maps["hires_cam"], rtol=1e-9, atol=1e-12)


def test_hires_cam_by_hand(cells, image):
    """Cells are weighed 1, 2, 3, 4 for x and -1, 2, -3, 4 for -x, so x counts 2, 0, 6, 0 times."""
    maps = hires_cam(cells, image, torch.tensor([0]))
    torch.testing.assert_close(maps, torch.tensor([[[8.0, 0.0], [0.0, 0.0]]]))


def test_hires_cam_adds_up_to_a_linear_head_s_logit(cells, image):
    """Without a bias all cells add up to the logit: HiResCAM's own promise."""
    torch.testing.assert_close(hires_cam(cells, image, torch.tensor([0])).sum(), cells(image)[0, 0].detach())


def test_hires_cam_equals_its_definition_one_by_one(plain_parts):
    """Odd and not square, float64."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images = torch.randn(3, 3, 37, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, 0, 1])
    maps = hires_cam(model, images, targets, tap="layer3")
    for i in range(3):
        activation, gradient = plain_parts(model, images[i], "layer3", int(targets[i]))
        expected = sum(g * a for g, a in zip(gradient, activation, strict=True))
        np.testing.assert_allclose(maps[i].numpy(), expected, rtol=1e-9, atol=1e-13)


def test_hires_cam_is_grad_cam_behind_a_mean_and_a_linear_layer():
    model, images, targets = build("cnn5", n_classes=3, size=32, preset="small"), torch.randn(2, 3, 32, 32), torch.tensor([0, 2])
    torch.testing.assert_close(hires_cam(model, images, targets), grad_cam(model, images, targets))


@pytest.mark.parametrize("last", [False, True])
def test_hires_cam_of_a_batch_equals_one_by_one(timm_network, last):
    model, images, targets, first = timm_network
    tap = "last_map" if last else first
    together = hires_cam(model, images, targets, tap=tap)
    alone = torch.cat([hires_cam(model, images[i : i + 1], targets[i : i + 1], tap=tap) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


def test_hires_cam_refuses_inference_mode(cells, image):
    with torch.inference_mode(), pytest.raises(ModelError, match=r"no_grad"):
        hires_cam(cells, image, torch.tensor([0]))
