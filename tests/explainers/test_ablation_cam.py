"""Ablation-CAM against a library's maps, numbers on paper, and its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.explainers import ablation_cam as ablation_room
from pellucid.explainers.ablation_cam import ablation_cam
from pellucid.explainers.explain import explain
from pellucid.models.build import build


def test_ablation_cam_equals_the_library(cam_case):
    """As printed it is pytorch-grad-cam's to 1e-6 (float32 there); signed, the same but for the sign of the logit."""
    expected, largest = cam_case.maps["ablation_cam"], np.abs(cam_case.maps["ablation_cam"]).max()
    printed = ablation_cam(cam_case.model, cam_case.images, cam_case.targets, tap=cam_case.tap, variant="printed")
    np.testing.assert_allclose(printed.numpy(), expected, rtol=0, atol=1e-6 * largest)
    signed = ablation_cam(cam_case.model, cam_case.images, cam_case.targets, tap=cam_case.tap)
    logits = cam_case.model.eval()(cam_case.images).detach()[[0, 1], cam_case.targets].numpy()
    np.testing.assert_allclose(signed.numpy(), expected * np.sign(logits)[:, None, None], rtol=0, atol=1e-6 * largest)


def test_ablation_cam_by_hand(paper, image):
    """Means are 2 and 4, logits 3*2 - 4 = 2 and 4. Without x they fall by 6 and 0, without 2x by -4 and 4: weights (3, -2) and (0, 1)."""
    maps = ablation_cam(paper, image.expand(2, -1, -1, -1), torch.tensor([0, 1]))
    torch.testing.assert_close(maps, torch.stack([3 * image[0, 0] - 4 * image[0, 0], 2 * image[0, 0]]))


def test_a_negative_logit_turns_only_the_printed_map(paper, image):
    """With -x logits are negative: channels x and 2x are still worth -3 and 2 of its size, as printed 3 and -2."""
    signed = ablation_cam(paper, -image, torch.tensor([0]))
    torch.testing.assert_close(signed, -image[0])
    torch.testing.assert_close(ablation_cam(paper, -image, torch.tensor([0]), variant="printed"), image[0])


def test_a_logit_of_0_gives_a_map_of_0(paper):
    """No division by it."""
    image = torch.tensor([[1.0, -1.0], [0.0, 0.0]])[None, None]
    assert torch.equal(ablation_cam(paper, image, torch.tensor([1])), torch.zeros(1, 2, 2))


def plain(model: nn.Module, image: torch.Tensor, module: str, target: int) -> np.ndarray:
    """Return the signed map of one image by one whole forward pass without each channel."""
    without = None
    kept = {}

    def switch(m, args, output):
        output = output.clone()
        if without is None:
            kept["map"] = output[0].numpy()
        else:
            output[:, without] = 0
        return output

    handle = model.get_submodule(module).register_forward_hook(switch)
    with torch.no_grad():
        whole = float(model.eval()(image[None])[0, target])
        falls = []
        for without in range(len(kept["map"])):  # noqa: B007 (read by the hook)
            falls.append(whole - float(model(image[None])[0, target]))
    handle.remove()
    return sum(fall / abs(whole) * a for fall, a in zip(falls, kept["map"], strict=True))


@pytest.mark.parametrize("tap", ["layer5", "layer3"])
def test_ablation_cam_equals_its_definition_one_by_one(tap):
    """In closed form behind a mean and a linear layer (layer5), by passes through the rest elsewhere; odd, not square, float64."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images = torch.randn(2, 3, 37, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, 0])
    maps = ablation_cam(model, images, targets, tap=tap)
    for i in range(2):
        np.testing.assert_allclose(maps[i].numpy(), plain(model, images[i], tap, int(targets[i])), rtol=1e-8, atol=1e-12)


def test_chunks_of_channels_make_no_difference(monkeypatch):
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images, targets = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1])
    whole = ablation_cam(model, images, targets, tap="layer2")
    monkeypatch.setattr(ablation_room, "CHUNK", 1)
    torch.testing.assert_close(ablation_cam(model, images, targets, tap="layer2"), whole, rtol=1e-10, atol=1e-12)


def test_classes_share_the_passes():
    """As many passes for three classes as for one, and the maps of each class are those it has alone."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    passes = []
    handle = model.register_forward_pre_hook(lambda module, args: passes.append(len(args[0])))
    one = explain(model, images, methods=["ablation_cam"], target=[0, 0], tap="layer3")
    once, before = len(passes), len(passes)
    every = explain(model, images, methods=["ablation_cam"], target=[[0, 1, 2]] * 2, tap="layer3")
    handle.remove()
    assert len(passes) - before <= once  # the first call also ran dry
    np.testing.assert_array_equal(every[0].maps, one[0].maps)
    alone = ablation_cam(model, images, torch.tensor([2, 2]), tap="layer3")
    np.testing.assert_allclose(every[2].maps, alone.numpy(), rtol=1e-6)


@pytest.mark.parametrize("last", [False, True])
def test_ablation_cam_of_a_batch_equals_one_by_one(timm_network, last):
    model, images, targets, first = timm_network
    tap, images = "last_map" if last else first, images[:2]
    together = ablation_cam(model, images, targets[:2], tap=tap)
    alone = torch.cat([ablation_cam(model, images[i : i + 1], targets[i : i + 1], tap=tap) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))
