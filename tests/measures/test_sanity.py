"""Whether maps change when a network's weights are taken away."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.core.records import ImageSpec
from pellucid.explainers.explain import explain
from pellucid.measures import sanity as s
from pellucid.models.saved import Network

SPEC = ImageSpec(size=16, channels=1, mean=(0.5,), std=(0.25,))


class Planted(nn.Module):
    """One channel passes the image on and decides for class 0; another is the image's mean and decides for class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0, 1, 1] = 1.0
            self.conv.weight[1, 0] = 1 / 9
            self.head.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(images).mean((2, 3)))


def judged_of(make_judged, model: nn.Module, n: int = 8, methods=("grad_cam",)):
    targets = np.arange(n) % 2
    bare = make_judged(targets, {})
    network = Network(model, SPEC, bare.images.dataset.task)
    maps = explain({"student": network}, bare.images, methods=methods)
    return make_judged(targets, {"student": np.eye(2)[targets]}, networks={"student": network}, explanations=maps)


def test_a_map_that_is_the_image_itself_is_found_out(make_judged, one, monkeypatch):
    """Planted: an explainer that shows the image whatever the weights stays at 1 through the cascade, and the remark says so."""
    from pellucid.explainers import grad_cam as module

    def image_itself(model, images, targets, *, tap="last_map"):
        return images[:, 0].float()

    image_itself.traits = module.grad_cam.traits
    image_itself.__module__ = module.__name__
    monkeypatch.setattr(module, "grad_cam", image_itself)
    found = s.sanity(judged_of(make_judged, Planted())).measurements
    last = one(found, "randomisation", model="student")
    assert last.value == pytest.approx(1) and last.reason.endswith("rather than what was learnt")
    assert one(found, "randomisation_area").value == pytest.approx(1)


def test_a_cascade_equals_one_worked_out_step_by_step(make_judged, one):
    """Twin: copies of the network with the head, then the convolution, drawn anew; scipy's rank correlation of |map|, image by image."""
    from scipy.stats import spearmanr

    judged = judged_of(make_judged, Planted())
    found = s.sanity(judged)
    original = np.abs(judged.explanations[0].maps)
    expected = []
    for _, model in s.randomised(judged.networks["student"].model):
        network = replace(judged.networks["student"], model=copy.deepcopy(model))
        maps = np.abs(explain({"student": network}, judged.images, methods=["grad_cam"], target=judged.explanations[0].targets)[0].maps)
        expected.append([spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(original, maps, strict=True)])
    for step, name, values in zip((1, 2), ("head", "conv"), expected, strict=True):
        assert one(found.measurements, "randomisation", stratum=f"step {step}: {name}").value == pytest.approx(np.mean(values), abs=1e-6)
    np.testing.assert_allclose(found.per_image["randomisation/grad_cam/student"], expected[-1], atol=1e-6)
    first, last = np.mean(expected, axis=1)
    assert one(found.measurements, "randomisation_area").value == pytest.approx((1 + 2 * first + last) / 4, abs=1e-6)


class Learnt(nn.Module):
    """Five channels, each a pattern of places that was learnt, with a little of the image in it."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Pattern()
        self.head = nn.Linear(5, 2, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.places(images).mean((2, 3)))


class Pattern(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Parameter(torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.where[None] + 0.01 * images


def test_a_map_of_what_was_learnt_drops_to_about_nothing(make_judged, one):
    """Planted: the maps are the learnt places; with others in their stead nothing of the order is left, and the remark says so."""
    found = s.sanity(judged_of(make_judged, Learnt())).measurements
    last = one(found, "randomisation", model="student")
    assert abs(last.value) < 0.25 and last.high < 0.5
    assert "drops, surely below 0.5" in last.reason
    assert last.value < one(found, "randomisation_area").value < 1 and last.better == "lower"


def test_the_last_layer_comes_first_and_everything_is_random_in_the_end():
    """Each step leaves the parts below as they were; the network itself, its mode and the random state stay as they are."""
    from pellucid.models.build import build

    model = build("cnn5", n_classes=3, channels=1, size=32).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    names = []
    for name, changed in s.randomised(model):
        names.append(name)
        same = {key for key, tensor in changed.state_dict().items() if torch.equal(tensor, before[key])}
        weights = {key for key in before if key.endswith("weight") and before[key].ndim > 1}
        assert {key.split(".")[0] for key in weights - same} == set(names)
    assert names == ["head", "layer5", "layer4", "layer3", "layer2", "layer1"]
    assert model.training and torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_randomised_is_the_same_each_time_and_draws_each_layer_apart():
    """Two layers of one shape get different weights; another call gets the same."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    *_, (_, one) = s.randomised(model)
    *_, (_, other) = s.randomised(model)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one[0].weight, one[1].weight)


def test_parameters_outside_of_layers_keep_their_mean_and_spread():
    """A position embedding has no way to be drawn anew: it is drawn with its own mean and spread, at the last step."""

    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(3 + 0.5 * torch.randn(2000, generator=torch.Generator().manual_seed(0)))
            self.one, self.two, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    model = Embedded()
    steps = [(name, changed.place.detach().clone()) for name, changed in s.randomised(model)]
    assert [name for name, _ in steps] == ["head", "two", "one"]
    assert torch.equal(steps[1][1], model.place) and not torch.equal(steps[2][1], model.place)
    assert float(steps[2][1].mean()) == pytest.approx(3, abs=0.05) and float(steps[2][1].std()) == pytest.approx(0.5, abs=0.05)


def test_a_network_of_many_layers_is_taken_in_eight_steps():
    """Twenty layers and a head: the head, then seven groups, the lowest part of each named."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(21)))
    assert [name for name, _ in s.randomised(model)] == ["20", "17", "14", "11", "9", "6", "3", "0"]


def test_small_grids_are_not_judged_and_few_images_are_taken(make_judged, one):
    """A 3x3 grid says so; of eight images three are explained, spread over all."""
    judged = judged_of(make_judged, Planted())
    coarse = replace(judged, explanations=[replace(judged.explanations[0], maps=np.ones((8, 3, 3), np.float32))])
    row = one(s.sanity(coarse).measurements, "randomisation", model="student")
    assert row.value is None and row.reason == "not judged: grid 3x3"
    found = s.sanity(judged, images=3)
    assert np.flatnonzero(np.isfinite(found.per_image["randomisation/grad_cam/student"])).tolist() == [0, 4, 7]
