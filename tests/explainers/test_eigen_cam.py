"""Eigen-CAM against a library's maps, numbers on paper, and singular value decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.explainers.eigen_cam import ambiguous, eigen_cam
from pellucid.explainers.explain import explain
from pellucid.measures import maps as shapes
from pellucid.models.build import build


@pytest.mark.parametrize(("variant", "stored"), [("uncentred", "eigen_cam_uncentred_signfixed"), ("centred", "eigen_cam_signfixed")])
def test_eigen_cam_equals_the_library(cam_case, variant, stored):
    """Its centred form, and the paper's, both with the sign that correlates with the mean of the channels: to 1e-9 in float64."""
    if cam_case.which == "pred":  # the same map for every class
        maps = eigen_cam(cam_case.model, cam_case.images, tap=cam_case.tap, variant=variant)
        assert maps.dtype == torch.float64
        np.testing.assert_allclose(maps.numpy(), cam_case.maps[stored], rtol=1e-9, atol=1e-12)


def test_eigen_cam_by_hand(paper, image):
    """Channels x and 2x are x times (1, 2): the direction is (1, 2)/sqrt(5), and the map sqrt(5) x."""
    images = torch.cat([image, -image])
    torch.testing.assert_close(eigen_cam(paper, images), math.sqrt(5) * images[:, 0])
    torch.testing.assert_close(
        eigen_cam(paper, images, variant="centred"), math.sqrt(5) * (images - images.mean((2, 3), keepdim=True))[:, 0]
    )


@pytest.mark.parametrize(("shape", "tap"), [((37, 50), "layer2"), ((37, 50), "layer5"), ((20, 24), "layer5")])
@pytest.mark.parametrize("variant", ["uncentred", "centred"])
def test_eigen_cam_equals_a_plain_decomposition(plain_parts, shape, tap, variant):
    """More cells than channels and fewer, odd and not square, against NumPy's singular values, float64."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images = torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps = eigen_cam(model, images, tap=tap, variant=variant)
    for i in range(2):
        activation, _ = plain_parts(model, images[i], tap, 0)
        a = activation.reshape(len(activation), -1).T
        a = a - a.mean(0) if variant == "centred" else a
        _, _, right = np.linalg.svd(a, full_matrices=False)
        expected = (a @ right[0]).reshape(activation.shape[1:])
        expected *= np.sign(np.corrcoef(expected.ravel(), activation.mean(0).ravel())[0, 1])
        np.testing.assert_allclose(maps[i].numpy(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


class Apart(nn.Module):
    """Two channels, the positive and the negative part of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU())
        self.head = nn.Linear(2, 2)
        self.layer1[0].weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)

    def forward(self, images):
        return self.head(self.layer1(images).mean((2, 3)))


def test_maps_of_two_equal_directions_are_called_ambiguous():
    """Singular values are the channels' norms: 3 and 3, 100 and 94, 100 and 96, and 0 and 0."""
    images = torch.tensor([[3.0, -3.0], [100.0, -94.0], [100.0, -96.0], [0.0, 0.0]]).reshape(4, 1, 1, 2).repeat(1, 1, 2, 1)
    assert ambiguous(Apart(), images).tolist() == [True, False, True, True]


def test_a_dead_map_is_0_and_a_broken_one_stays_broken_alone(image):
    """An image that is 0 everywhere has no direction; NaN in one image is NaN in its map and in no other."""
    images = torch.cat([image, torch.zeros_like(image), torch.full_like(image, torch.nan)])
    maps = eigen_cam(Apart(), images)
    torch.testing.assert_close(maps[:1], eigen_cam(Apart(), image))
    assert not maps[1].any() and maps[2].isnan().all()
    assert ambiguous(Apart(), images).tolist() == [False, True, True]


def test_eigen_cam_needs_no_gradients(paper, image):
    with torch.inference_mode():
        maps = eigen_cam(paper, image)
    torch.testing.assert_close(maps.clone(), math.sqrt(5) * image[0])


@pytest.mark.parametrize("variant", ["uncentred", "centred"])
def test_eigen_cam_of_a_batch_equals_one_by_one(timm_network, variant):
    model, images, _, first = timm_network
    together = eigen_cam(model, images, tap=first, variant=variant)
    alone = torch.cat([eigen_cam(model, images[i : i + 1], tap=first, variant=variant) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


def test_doubtful_maps_are_counted_beside_what_is_measured_of_them():
    """Explaining marks them, with and without another method that shares the pass; dead maps are counted as dead alone."""
    images = torch.tensor([[3.0, -3.0], [100.0, -94.0], [100.0, -96.0], [0.0, 0.0]]).reshape(4, 1, 1, 2).repeat(1, 1, 2, 1)
    for methods in (["eigen_cam"], ["grad_cam", "eigen_cam"]):
        *_, found = explain(Apart(), images, methods=methods, target=[0] * 4)
        assert found.doubtful.tolist() == [True, False, True, True] and found.dead.tolist() == [False, False, False, True]
    assert shapes.doubt(found) == "; 2 of 4 maps doubtful: another direction is nearly as strong"
    assert shapes.doubt(found, np.array([1, 3])) == ""
    assert shapes.doubt(explain(Apart(), images, methods=["grad_cam"], target=[0] * 4)[0]) == ""
