"""Score-CAM in three forms against two libraries and the author's code, numbers on paper, its own definition, and its promises on cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.core.errors import SettingError
from pellucid.explainers import score_cam as score_room
from pellucid.explainers.explain import explain
from pellucid.explainers.score_cam import score_cam
from pellucid.models.build import build


def test_score_cam_equals_the_library(cam_case):
    """The paper's form against pytorch-grad-cam (float32 there) before ReLU and scaling, to 1e-6 of the largest value."""
    maps = score_cam(cam_case.model, cam_case.images, cam_case.targets, tap=cam_case.tap)
    expected = cam_case.maps["score_cam"]
    assert maps.dtype == torch.float64
    np.testing.assert_allclose(maps.numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_scaling_first_equals_torchcam(cam_case, plain_parts):
    """Its weights on the activations, to 1e-7 of the largest value (it scales with a small number in the denominator)."""
    maps = score_cam(cam_case.model, cam_case.images, cam_case.targets, tap=cam_case.tap, variant="scale_first")
    weights = cam_case.maps["score_cam_scale_first_weights"]
    activations = [plain_parts(cam_case.model, image, cam_case.tap, 0)[0] for image in cam_case.images]
    expected = np.stack([np.tensordot(w, a, 1) for w, a in zip(weights, activations, strict=True)])
    np.testing.assert_allclose(maps.numpy(), expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_the_author_s_form_equals_the_author_s_code(cam_case):
    """After upsampling, ReLU and scaling, as that code does it (float32 there), to 1e-5."""
    if cam_case.which == "pred":  # that code always explains the predicted class
        maps = score_cam(cam_case.model, cam_case.images, cam_case.targets, tap=cam_case.tap, variant="author")
        shown = nn.functional.interpolate(maps[:, None], cam_case.images.shape[2:], mode="bilinear", align_corners=False)[:, 0].relu()
        low, high = shown.amin((1, 2), keepdim=True), shown.amax((1, 2), keepdim=True)
        np.testing.assert_allclose(((shown - low) / (high - low)).numpy(), cam_case.maps["score_cam_author"], rtol=0, atol=1e-5)


class Masks(nn.Module):
    """Channels x, -x and 5 on the image itself; logits are the image's mean and 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(1, 3, 1)
        self.head = nn.Linear(3, 2, bias=False)
        self.layer1.weight.data = torch.tensor([1.0, -1.0, 0.0]).reshape(3, 1, 1, 1)
        self.layer1.bias.data = torch.tensor([0.0, 0.0, 5.0])
        self.head.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    def forward(self, images):
        return self.head(self.layer1(images).mean((2, 3)))


def test_score_cam_by_hand(image):
    """x as a mask is (0.6, 0; 0.4, 1), so the mean is 14.4 / 4 = 3.6; -x is (0.4, 1; 0.6, 0), mean -1.6; a constant counts like no image, 0."""
    a, b, c = (math.exp(z) / (math.exp(3.6) + math.exp(-1.6) + math.exp(0)) for z in (3.6, -1.6, 0))
    torch.testing.assert_close(score_cam(Masks(), image, torch.tensor([0])), (a - b) * image[0] + 5 * c)


def test_the_author_s_form_by_hand(image):
    """Weights are probabilities against a logit of 0, and the constant channel is left out."""
    a, b = (1 / (1 + math.exp(-z)) for z in (3.6, -1.6))
    torch.testing.assert_close(score_cam(Masks(), image, torch.tensor([0]), variant="author"), (a - b) * image[0])


def plain(model: nn.Module, image: torch.Tensor, activation: np.ndarray, target: int, variant: str) -> np.ndarray:
    """Return one image's map, one channel and one forward pass after the other."""

    def scaled(m):
        return (m - m.min()) / (m.max() - m.min())

    def resized(m):
        return nn.functional.interpolate(m[None, None], image.shape[1:], mode="bilinear", align_corners=variant == "paper")[0, 0]

    answers = []
    for channel in torch.from_numpy(activation):
        flat = float(channel.max()) == float(channel.min())
        mask = torch.zeros(image.shape[1:]) if flat else resized(scaled(channel)) if variant == "scale_first" else scaled(resized(channel))
        with torch.no_grad():
            logits = model.eval()((image * mask)[None])[0].numpy()
        probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        answers.append((0.0 if flat else probability[target]) if variant == "author" else logits[target])
    weights = np.array(answers)
    if variant != "author":
        weights = np.exp(weights - weights.max()) / np.exp(weights - weights.max()).sum()
    return np.tensordot(weights, activation, 1)


@pytest.mark.parametrize("variant", ["paper", "scale_first", "author"])
def test_score_cam_equals_its_definition_one_by_one(plain_parts, variant):
    """With a dead channel among the others; odd and not square, float64."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images = torch.randn(2, 3, 37, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, 0])
    norm = [module for module in model.layer3.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    with torch.no_grad():
        norm.weight[3], norm.bias[3] = 0, -1
    maps = score_cam(model, images, targets, tap="layer3", variant=variant)
    for i in range(2):
        activation, _ = plain_parts(model, images[i], "layer3", 0)
        assert not activation[3].any()
        np.testing.assert_allclose(maps[i].numpy(), plain(model, images[i], activation, int(targets[i]), variant), rtol=1e-9, atol=1e-12)


class Counted(nn.Module):
    """Notes how many images each forward pass has."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.passes = inner, []

    def forward(self, images):
        self.passes.append(len(images))
        return self.inner(images)


def test_masked_passes_are_shared_by_classes_and_images(monkeypatch):
    """Three classes of two images: one pass for each live channel of each image, in chunks that two images share."""
    model = Counted(build("cnn5", n_classes=3, size=32, preset="small").double())
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    explain(model, images, methods=["grad_cam"], tap="inner.layer2")  # runs dry
    channels = model.inner.layer2(model.inner.layer1(images)).shape[1]
    model.passes.clear()
    monkeypatch.setattr(score_room, "CHUNK", 7 * 32 * 32)
    maps = explain(model, images, methods=["score_cam"], target=[[0, 1, 2]] * 2, tap="inner.layer2")
    assert model.passes[:2] == [2, 1] and max(model.passes) == 7
    assert sum(model.passes[2:]) <= 2 * channels and len(model.passes) - 2 == math.ceil(sum(model.passes[2:]) / 7)
    monkeypatch.undo()
    for number in range(3):
        alone = score_cam(model, images, torch.tensor([number, number]), tap="inner.layer2")
        np.testing.assert_allclose(maps[number].maps, alone.numpy(), rtol=1e-6)


def test_variants_do_not_share_what_differs():
    """Asked for in one call, each form keeps its own masks."""
    from pellucid.explainers.reading import sharing

    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images, targets = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 2])
    alone = [score_cam(model, images, targets, tap="layer3", variant=v) for v in ("paper", "scale_first", "author")]
    with sharing():
        shared = [score_cam(model, images, targets, tap="layer3", variant=v) for v in ("paper", "scale_first", "author")]
    for one, other in zip(alone, shared, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_rounding_in_a_constant_channel_makes_no_mask(image):
    """5 and the next float32 below it differ by noise; scaled to [0, 1] that would be a mask of full strength."""
    model = Masks()
    model.layer1.weight.data[2] = 1e-8
    assert model.layer1(image)[0, 2].unique().numel() >= 1
    torch.testing.assert_close(score_cam(model, image, torch.tensor([0])), score_cam(Masks(), image, torch.tensor([0])))


def test_score_cam_needs_no_gradients(image):
    with torch.inference_mode():
        maps = score_cam(Masks(), image, torch.tensor([0]))
    torch.testing.assert_close(maps.clone(), score_cam(Masks(), image, torch.tensor([0])))


def test_an_image_without_signal_gives_a_constant_map_and_no_nan(image):
    """All channels constant: nothing to weigh."""
    maps = score_cam(Masks(), torch.zeros_like(image), torch.tensor([0]))
    torch.testing.assert_close(maps, torch.full((1, 2, 2), 5 / 3))
    assert not score_cam(Masks(), torch.zeros_like(image), torch.tensor([0]), variant="author").any()


def test_score_cam_of_a_batch_equals_one_by_one(timm_network):
    model, images, targets, first = timm_network
    images, targets = images[:2], targets[:2]
    together = score_cam(model, images, targets, tap=first)
    alone = torch.cat([score_cam(model, images[i : i + 1], targets[i : i + 1], tap=first) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


def test_few_channels_weigh_those_that_vary_most_and_no_other(plain_parts):
    """By hand from the whole method's masked logits: a softmax over the chosen channels alone."""
    model = build("cnn5", n_classes=3, size=32, preset="small").double()
    images, targets = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.tensor([2, 0])
    maps = score_cam(model, images, targets, tap="layer3", channels=4)
    for i in range(2):
        activation, _ = plain_parts(model, images[i], "layer3", 0)
        most = activation.var((1, 2)).argsort()[-4:]
        expected = plain(model, images[i], activation[most], int(targets[i]), "paper")
        np.testing.assert_allclose(maps[i].numpy(), expected, rtol=1e-9, atol=1e-12)
    every = score_cam(model, images, targets, tap="layer3")
    torch.testing.assert_close(score_cam(model, images, targets, tap="layer3", channels=10_000), every)
    with pytest.raises(SettingError, match=r"channels = -1 must be at least 0"):
        score_cam(model, images, targets, channels=-1)


@pytest.mark.parametrize("sure", [1, 1000])
def test_bf16_stays_within_a_hundredth_of_the_largest_value(sure):
    """On a network of common depth, also where it is as sure of its answers as trained ones; a float64 network stays exact."""
    model, images, targets = build("resnet18", n_classes=3, size=64).eval(), torch.rand(2, 3, 64, 64), torch.tensor([2, 0])
    with torch.no_grad():
        model.fc.weight.mul_(sure)
    exact = score_cam(model, images, targets, tap="layer2")
    near = score_cam(model, images, targets, tap="layer2", precision="bf16")
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert (near - exact).abs().max() <= 0.01 * exact.abs().max()
    model, images = model.double(), images.double()
    kwargs = {"tap": "layer2", "channels": 8}
    assert torch.equal(score_cam(model, images, targets, precision="bf16", **kwargs), score_cam(model, images, targets, **kwargs))
