"""Grad-CAM++ against a library's maps, numbers on paper, and its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.explainers.grad_cam_pp import grad_cam_pp
from pellucid.models.build import build


def plain(activation: np.ndarray, gradient: np.ndarray, eps: float = 0.0) -> np.ndarray:
    """Return the map [h, w] of one image, channel by channel, as eq. 5 and 19 say; `eps` is what pytorch-grad-cam adds."""
    total = np.zeros(activation.shape[1:])
    for a, g in zip(activation, gradient, strict=True):
        below = 2 * g**2 + a.sum() * g**3 + eps
        alpha = np.divide(g**2, below, out=np.zeros_like(g), where=(g != 0) & (below != 0))
        total += (alpha * np.maximum(g, 0)).sum() * a
    return total


def test_grad_cam_pp_equals_the_library_without_its_eps(cam_case):
    """To 1e-9 in float64. Not against torchcam, which never divides by the denominator."""
    maps = grad_cam_pp(cam_case.model, cam_case.images, cam_case.targets, tap=cam_case.tap)
    assert maps.dtype == torch.float64
    np.testing.assert_allclose(maps.numpy(), cam_case.maps["grad_cam_pp_eps0"], rtol=1e-9, atol=1e-12)


def test_the_plain_form_with_eps_is_the_library_s(cam_case, plain_parts):
    """So what sets our maps apart from the library's is the 1e-6 in the denominator and nothing else."""
    if "grad_cam_pp" in cam_case.maps:  # kept for the last map only
        for i in range(2):
            found = plain(*plain_parts(cam_case.model, cam_case.images[i], cam_case.tap, int(cam_case.targets[i])), eps=1e-6)
            np.testing.assert_allclose(found, cam_case.maps["grad_cam_pp"][i], rtol=1e-9, atol=1e-12)


def test_grad_cam_pp_by_hand(paper, image):
    """Gradients are (3, -1)/4 and (0, 1)/4 in each cell, x adds up to 8: weights 4 * 3/4 / (2 + 3/4 * 8) and 4 * 1/4 / (2 + 1/4 * 16)."""
    maps = grad_cam_pp(paper, image.expand(2, -1, -1, -1), torch.tensor([0, 1]))
    torch.testing.assert_close(maps, torch.stack([0.375 * image[0, 0], image[0, 0] / 3]))


def test_grad_cam_pp_is_0_where_its_denominator_is(paper):
    """2x adds up to -8 and its gradient is 1/4, so alpha would be 1/0."""
    image = torch.tensor([[-4.0, 0.0], [0.0, 0.0]])[None, None]
    assert torch.equal(grad_cam_pp(paper, image, torch.tensor([1])), torch.zeros(1, 2, 2))


def test_tiny_gradients_keep_their_map_in_float32(paper, image):
    """A head a billion times weaker: the cube of its gradient is 0 in float32, the map isn't."""
    paper.head.weight.data *= 1e-16
    maps = grad_cam_pp(paper, image, torch.tensor([0]))
    torch.testing.assert_close(maps[0], 1.5e-16 * image[0, 0], rtol=1e-5, atol=0)


def test_grad_cam_pp_equals_its_definition_one_by_one(plain_parts):
    """Odd and not square, float64."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images = torch.randn(3, 3, 37, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, 0, 1])
    maps = grad_cam_pp(model, images, targets, tap="layer3")
    for i in range(3):
        expected = plain(*plain_parts(model, images[i], "layer3", int(targets[i])))
        np.testing.assert_allclose(maps[i].numpy(), expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("last", [False, True])
def test_grad_cam_pp_of_a_batch_equals_one_by_one(timm_network, last):
    model, images, targets, first = timm_network
    tap = "last_map" if last else first
    together = grad_cam_pp(model, images, targets, tap=tap)
    alone = torch.cat([grad_cam_pp(model, images[i : i + 1], targets[i : i + 1], tap=tap) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))
