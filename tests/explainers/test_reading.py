"""One forward pass for all methods and classes, its gradients exact, and changes of a map run through the rest of the network."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from pellucid.core.errors import TapError
from pellucid.explainers.average_feature_map import average_feature_map
from pellucid.explainers.explain import explain
from pellucid.explainers.grad_cam import grad_cam
from pellucid.explainers.reading import activation_at, look, once, read, sharing
from pellucid.models.cnn5 import cnn5


class Counted(nn.Module):
    """Counts its forward passes."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.passes = inner, 0

    def forward(self, images):
        self.passes += 1
        return self.inner(images)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return cnn5(n_classes=3, channels=1, size=32, preset="small").double()


@pytest.fixture
def images():
    return torch.rand(4, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_autograd(model, images, tap, targets):
    """Return the gradient at a tap by the plain way: a hook, and a backward pass through all that follows."""
    kept = {}
    handle = dict(model.named_modules())[tap].register_forward_hook(lambda m, i, o: kept.update(map=o))
    logits = model.eval()(images)
    handle.remove()
    return torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), kept["map"])[0]


@pytest.mark.parametrize(("tap", "closed"), [("layer5", True), ("layer3", False)])
def test_gradient_is_that_of_a_whole_backward_pass(small, images, tap, closed):
    """In closed form behind pooling and a linear layer, by the shortest backward pass elsewhere."""
    targets = torch.tensor([0, 2, 1, 1])
    reading = read(small, images, tap)
    assert (reading.weight is not None) == closed
    torch.testing.assert_close(reading.gradient(targets), by_autograd(small, images, tap, targets), rtol=1e-10, atol=1e-14)


def test_a_head_that_only_looks_linear_is_not_taken_for_one(images):
    """A square root behind the pooling: the last layer has the right shape, and its weight isn't the gradient."""

    class Rooted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
            self.head = nn.Linear(4, 3)

        def forward(self, images):
            return self.head((self.conv(images).mean((2, 3)) + 1).sqrt())

    model = Rooted().double()
    reading = read(model, images, "last_map")
    assert reading.weight is None
    targets = torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(reading.gradient(targets), by_autograd(model, images, "conv", targets), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("tap", ["layer5", "layer2"])
def test_changed_maps_give_the_logits_of_the_rest_of_the_network(small, images, tap):
    """Channels switched off one by one, against a hook that does the same in a pass of its own."""
    reading = read(small, images, tap)
    changed = reading.activation[1].repeat(3, 1, 1, 1)
    changed[torch.arange(3), torch.arange(3)] = 0
    expected = []
    for one in changed:
        handle = dict(small.named_modules())[tap].register_forward_hook(lambda m, i, o, one=one: one[None])
        expected.append(small.eval()(images[1:2])[0])
        handle.remove()
    torch.testing.assert_close(reading.logits_of(1, changed), torch.stack(expected).detach(), rtol=1e-10, atol=1e-12)


def test_changed_tokens_keep_their_image_s_class_token():
    """A ViT's class token isn't on the grid; unchanged maps of the second image give that image's own logits."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3).eval()
    images = torch.rand(2, 3, 32, 32)
    reading = read(vit, images, "last_map")
    again = reading.logits_of(1, reading.activation[1:2].repeat(2, 1, 1, 1))
    torch.testing.assert_close(again, reading.logits[1:2].repeat(2, 1), rtol=1e-4, atol=1e-5)


def test_methods_and_classes_share_one_pass(small, images):
    """Two methods on every class, with the network's own predictions: one forward pass for each batch of images (and one to find taps)."""
    model = Counted(small)
    maps = explain(model, images, methods=["grad_cam", "average_feature_map"], target="predicted", batch_size=2)
    assert model.passes == 2 + 1
    assert (maps[0].targets == small.eval()(images).argmax(1).numpy()).all()


def test_shared_maps_are_those_that_each_method_makes_alone(small, images):
    maps = explain(small, images, methods=["average_feature_map", "grad_cam"], target="all", tap="layer4")
    assert [(e.method, e.targets[0]) for e in maps] == [("average_feature_map", 0), ("grad_cam", 0), ("grad_cam", 1), ("grad_cam", 2)]
    torch.testing.assert_close(torch.from_numpy(maps[0].maps), average_feature_map(small, images, tap="layer4").float())
    for explanation in maps[1:]:
        alone = grad_cam(small, images, torch.from_numpy(explanation.targets), tap="layer4")
        torch.testing.assert_close(torch.from_numpy(explanation.maps), alone.float())


def test_nothing_is_shared_afterwards_or_with_other_images(small, images):
    model = Counted(small)
    with sharing():
        first = read(model, images, "last_map")
        assert read(model, images, "inner.layer5") is first  # another name of the same place
        assert read(model, images.clone(), "last_map") is not first
    assert read(model, images, "last_map") is not first


def test_an_error_inside_ends_the_sharing(small, images):
    with pytest.raises(TapError), sharing():
        read(small, images, "pooled")
    first = read(small, images, "last_map")
    assert read(small, images, "last_map") is not first


def test_what_is_made_once_is_made_once_for_each_network_image_and_tap(small, images):
    """Inside sharing; outside, every time."""
    made = []

    def make():
        made.append(1)
        return torch.zeros(1)

    once(small, images, "layer4", "thing", make)
    once(small, images, "layer4", "thing", make)
    assert len(made) == 2
    with sharing():
        first = once(small, images, "layer4", "thing", make)
        assert once(small, images, "layer4", "thing", make) is first and len(made) == 3
        once(small, images, "layer4", "another", make)
        once(small, images, "layer3", "thing", make)
        once(small, images.clone(), "layer4", "thing", make)
    assert len(made) == 6


def test_a_look_is_a_reading_without_gradients(small, images):
    """The same logits and activation, alone and inside sharing, also where gradients can't be had."""
    reading = read(small, images, "layer4")
    with torch.inference_mode():
        alone = look(small, images, "layer4")
    with sharing():
        shared = look(small, images, "layer4")
        assert activation_at(small, images, "layer4") is shared[1]
    for logits, activation in (alone, shared):
        torch.testing.assert_close(logits.clone(), reading.logits)
        torch.testing.assert_close(activation.clone(), reading.activation)
