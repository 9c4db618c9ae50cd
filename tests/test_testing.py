"""The contracts hold for every registered part, and catch parts that break them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.core import registry
from pellucid.core.registry import part
from pellucid.explainers.average_feature_map import average_feature_map
from pellucid.models.taps import find_taps, forward_with
from pellucid.testing import check_explainer, check_loss, check_model


@pytest.mark.parametrize("name", registry.describe("explainers"))
def test_every_explainer_keeps_its_contract(name):
    check_explainer(name, **({"samples": 100} if name == "kernel_shap" else {}))


@pytest.mark.parametrize("name", registry.describe("models"))
def test_every_model_of_ours_keeps_its_contract(name):
    check_model(name, size=32)


@pytest.mark.parametrize("name", ["lcnet_035", "shufflenet_v2_x0_5"])
def test_models_of_other_libraries_keep_it_too(name):
    check_model(name, size=64)


@part(signed=False, taps=True)
def leaves_eval_mode(model, images, targets=None, *, tap: str = "last_map"):
    """Switch to eval mode for good."""
    model.eval()
    return average_feature_map(model, images, tap=tap)


@part(signed=False, taps=True)
def leaves_a_hook(model, images, targets=None, *, tap: str = "last_map"):
    """Forget a hook."""
    model.layer1.register_forward_hook(lambda *args: None)
    return average_feature_map(model, images, tap=tap)


@part(signed=False, taps=True)
def scales_by_the_batch(model, images, targets=None, *, tap: str = "last_map"):
    """Scale by the batch's maximum."""
    maps = average_feature_map(model, images, tap=tap)
    return maps / maps.max()


@part(signed=True, taps=True)
def fills_gradients(model, images, targets, *, tap: str = "last_map"):
    """Call backward."""
    with torch.enable_grad():
        outputs = forward_with(model, images, gradients=True)
        outputs.logits.gather(1, targets[:, None]).sum().backward()
    return average_feature_map(model, images, tap=tap)


@part(signed=True, taps=True)
def accepts_any_class(model, images, targets, *, tap: str = "last_map"):
    """Ignore the class."""
    return average_feature_map(model, images, tap=tap)


@part(signed=False, taps=True)
def swallows_errors(model, images, targets=None, *, tap: str = "last_map"):
    """Return zeros where anything fails."""
    try:
        return average_feature_map(model, images, tap=tap)
    except Exception:
        return torch.zeros(len(images), *find_taps(model, size=images.shape[2:], channels=3).last_map.grid)


@part(signed=False, taps=True, baselines="each")
def says_it_compares(model, images, targets=None, *, tap: str = "last_map"):
    """Take no baselines after all."""


@part(signed=False, baselines="each")
def ignores_its_baselines(model, images, targets, baselines):
    """Show what there would be anyway."""
    return average_feature_map(model, images)


def undecorated(model, images, targets):
    """Say nothing of itself."""


@pytest.mark.parametrize(
    ("explainer", "words"),
    [
        (leaves_eval_mode, "changes the mode"), (leaves_a_hook, "changes hooks"), (scales_by_the_batch, "one by one"),
        (fills_gradients, "changes gradients"), (accepts_any_class, "accepts targets"), (swallows_errors, "swallows|unknown tap"),
        (undecorated, "decorate it"), (says_it_compares, "disagree about baselines"),
        (ignores_its_baselines, "its own baseline"),
    ],
)  # fmt: skip
def test_broken_explainers_are_caught_in_a_sentence(explainer, words):
    with pytest.raises(AssertionError, match=words):
        check_explainer(explainer)


class Idle(nn.Module):
    """Holds a layer that nothing goes through."""

    def __init__(self, n_classes: int, channels: int) -> None:
        super().__init__()
        self.layer1, self.unused = nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, n_classes)

    def forward(self, images):
        return self.head(self.layer1(images).relu().mean((2, 3)))


class AcrossImages(nn.Module):
    """Subtracts the batch's mean, also in eval mode."""

    def __init__(self, n_classes: int, channels: int) -> None:
        super().__init__()
        self.layer1, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4, n_classes)

    def forward(self, images):
        features = self.layer1(images).relu().mean((2, 3))
        return self.head(features - features.mean(0))


@pytest.mark.parametrize(("kind", "words"), [(Idle, "no gradient reaches unused"), (AcrossImages, "one by one")])
def test_broken_models_are_caught_in_a_sentence(kind, words):
    with pytest.raises(AssertionError, match=words):
        check_model(lambda *, n_classes, channels, size: kind(n_classes, channels), size=16)


@pytest.mark.parametrize("name", sorted(registry.describe("losses")))
def test_every_loss_keeps_its_contract(name):
    """All checks pass on each loss of ours."""
    check_loss(name)


class _Planted:
    """A loss of one part, to be broken."""

    def __init__(self, hard_loss):
        self.weights = {"planted": 1.0}

    def __call__(self, student, teacher, targets):
        return {"planted": self.part(student, teacher, targets)}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (lambda s, t, y: (s - t).square().mean(1), "no finite scalar"),
        (lambda s, t, y: ((s > t).double()).mean() + 0 * s.sum(), "sends no gradient"),
        (lambda s, t, y: (s[0] - t[0]).square().mean(), "depends on the order"),
        (lambda s, t, y: -(s.softmax(1).log() * t.softmax(1)).sum(1).mean(), "for extreme logits"),
    ],
    ids=["not a scalar", "hard step", "first image only", "underflow"],
)
def test_broken_losses_are_caught_in_a_sentence(part, words):
    """Each planted fault is named."""
    broken = type("broken", (_Planted,), {"part": staticmethod(part)})
    with pytest.raises(AssertionError, match=words):
        check_loss(broken)
