"""Grad-CAM against three libraries' maps, numbers on paper, its own definition, and its promises about the user's network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.core.errors import TapError, TargetError
from pellucid.explainers.grad_cam import grad_cam
from pellucid.models.build import build
from pellucid.models.taps import find_taps


@pytest.mark.parametrize("which", ["pred", "next"])
@pytest.mark.parametrize("size", ["x64x64", "x48x80"])
@pytest.mark.parametrize(("name", "tap"), [("cnn", "relu3"), ("cnn", "relu2"), ("resnet", "layer3"), ("resnet", "layer1")])
def test_grad_cam_equals_three_libraries(oracle, oracle_network, name, tap, size, which):
    """Signed and small, two networks, two taps, two classes in one batch: to 1e-9 in float64."""
    found = oracle(f"unicam_cam/grad_cam_{name}.npz")
    model = oracle_network(name).train()
    images = torch.from_numpy(oracle("unicam_cam/images.npz")[size]).double()
    maps = grad_cam(model, images, torch.from_numpy(found[f"{size}.{which}.classes"]), tap=tap)
    assert maps.dtype == torch.float64
    np.testing.assert_allclose(maps.numpy(), found[f"{size}.{tap}.{which}.grad_cam"], rtol=1e-9, atol=1e-12)


def test_grad_cam_in_float32_is_close_to_the_oracle(oracle, oracle_network):
    found = oracle("unicam_cam/grad_cam_resnet.npz")
    model, images = oracle_network("resnet").float(), torch.from_numpy(oracle("unicam_cam/images.npz")["x64x64"])
    maps = grad_cam(model, images, torch.from_numpy(found["x64x64.pred.classes"]), tap="layer3")
    expected = found["x64x64.layer3.pred.grad_cam"]
    assert maps.dtype == torch.float32
    np.testing.assert_allclose(maps.numpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_grad_cam_by_hand(paper, image):
    """dz/dA is the head's weight over 4 pixels, so the maps are (3x - 2x)/4 and 2x/4; negative values stay."""
    maps = grad_cam(paper, image.expand(2, -1, -1, -1), torch.tensor([0, 1]))
    torch.testing.assert_close(maps, torch.tensor([[[1.0, -2.0], [0.0, 3.0]], [[2.0, -4.0], [0.0, 6.0]]]))


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_100", "deit_tiny_patch16_224", "shufflenet_v2_x0_5", "cnn5"])
def test_grad_cam_equals_its_definition_one_by_one(name):
    """A batch gives what backward() from each single logit gives, on CNNs and on tokens."""
    settings = {"depth": 2} if name.startswith("deit") else {}
    model = build(name, n_classes=3, size=64, **settings)
    images, targets = torch.randn(3, 3, 64, 64), torch.tensor([2, 0, 1])
    maps = grad_cam(model.train(), images, targets)
    assert model.training
    model.eval()
    tap = find_taps(model, size=64, channels=3).last_map
    kept = {}

    def keep(module, args, output):
        output.retain_grad()
        kept["map"] = output

    handle = model.get_submodule(tap.module).register_forward_hook(keep)
    for i in range(3):
        model(images[i : i + 1])[0, targets[i]].backward()
        activation, gradient = kept["map"].detach(), kept["map"].grad
        if tap.layout == "tokens":
            activation, gradient = (t[:, 1:].transpose(1, 2).unflatten(2, tap.grid) for t in (activation, gradient))
        expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1)[0]
        torch.testing.assert_close(maps[i], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    handle.remove()


def test_grad_cam_of_the_sum_of_pixels_is_in_logits():
    """Behind a mean and a linear head, all pixels add up to the logit without its bias, which is what the docstring promises."""
    model = build("cnn5", n_classes=3, size=32).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    maps = grad_cam(model, images, torch.tensor([1, 2]))
    with torch.no_grad():
        logits = model.eval()(images)[[0, 1], [1, 2]] - model.head.bias[[1, 2]]
    torch.testing.assert_close(maps.sum((1, 2)), logits)


def test_grad_cam_keeps_gradients_the_user_has_gathered():
    """Neither zeroed nor added to."""
    model, images = build("cnn5", n_classes=2, size=32), torch.randn(2, 3, 32, 32, requires_grad=True)
    model(images).sum().backward()
    before = [parameter.grad.clone() for parameter in model.parameters()], images.grad.clone()
    grad_cam(model, images, torch.tensor([0, 1]))
    assert all(torch.equal(parameter.grad, kept) for parameter, kept in zip(model.parameters(), before[0], strict=True))
    assert torch.equal(images.grad, before[1])


def test_grad_cam_restores_train_mode_after_error():
    model = build("cnn5", n_classes=2, size=32).train()
    with pytest.raises(TargetError):
        grad_cam(model, torch.zeros(1, 3, 32, 32), torch.tensor([5]))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_grad_cam_names_the_taps_there_are():
    with pytest.raises(TapError, match="layer1, layer2, layer3, layer4, layer5"):
        grad_cam(build("cnn5", n_classes=2, size=32), torch.zeros(1, 3, 32, 32), torch.tensor([0]), tap="layer6")


@pytest.mark.parametrize("tap", ["pooled", "logits"])
def test_grad_cam_refuses_taps_without_a_grid(tap):
    with pytest.raises(TapError, match="no spatial grid"):
        grad_cam(build("cnn5", n_classes=2, size=32), torch.zeros(1, 3, 32, 32), torch.tensor([0]), tap=tap)


def test_grad_cam_takes_grey_images():
    assert grad_cam(build("cnn5", n_classes=2, channels=1, size=32), torch.rand(2, 1, 32, 32), torch.tensor([0, 1])).shape == (2, 8, 8)
