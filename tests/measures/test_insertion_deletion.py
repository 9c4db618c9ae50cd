"""Insertion and deletion against RISE's own code, and on networks whose curves can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from explainers.conftest import OracleCnn, OracleResNet
from pellucid.core.errors import SettingError
from pellucid.core.records import Explanation
from pellucid.measures.insertion_deletion import area, follow, insertion_deletion, uncovered
from pellucid.testing import tiny_judged

NETWORKS = {"cnn": (OracleCnn, "x64x64"), "resnet": (OracleResNet, "x48x80")}


class Mean(nn.Module):
    """Its probability of class 0 is the mean of the image, so curves can be worked out."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((1, 2, 3)).clamp(1e-9, 1 - 1e-9)
        return torch.stack([mean.log(), (1 - mean).log()], 1)


@pytest.mark.parametrize("other", ["zero", "mean", "blur"])
@pytest.mark.parametrize("name", NETWORKS)
def test_curves_equal_rise(oracle, name, other):
    """Both curves and their areas, step by step of as many pixels as theirs, two networks, three baselines: to 1e-8."""
    found, (network, size) = oracle("unicam_judges/curves.npz"), NETWORKS[name]
    model = network()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in oracle(f"unicam_cam/weights_{name}.npz").items()}, strict=False)
    images = torch.from_numpy(oracle("unicam_cam/images.npz")[size]).double()
    others = {
        "zero": torch.zeros_like(images),
        "mean": images.mean((2, 3), keepdim=True).expand_as(images),
        "blur": torch.from_numpy(found[f"{name}.blurred"]).double(),  # their blur, not ours
    }[other]
    maps, classes, step = found[f"{name}.map"], found[f"{name}.class"], int(found[f"{name}.step"])
    steps = found[f"{name}.ins.zero.curve"].shape[1]
    shares = np.minimum(step * np.arange(steps), maps[0].size) / maps[0].size
    for kind, shown, hidden in (("ins", images, others), ("del", others, images)):
        curves = uncovered(model.double(), shown, hidden, maps, classes, shares)
        np.testing.assert_allclose(curves, found[f"{name}.{kind}.{other}.curve"], atol=1e-8)
        np.testing.assert_allclose(area(curves), found[f"{name}.{kind}.{other}.auc"], atol=1e-8)


def test_curves_from_their_definition():
    """Twin: pixels put in and taken out one by one in the map's order."""
    torch.manual_seed(0)
    model, images, maps = nn.Sequential(nn.Flatten(), nn.Linear(30, 3)), torch.randn(2, 1, 5, 6), np.random.default_rng(0).random((2, 5, 6))
    curves = follow(model, images, maps, np.array([2, 0]), steps=30, baseline="zero")
    for number, target in enumerate((2, 0)):
        put, taken = torch.zeros(1, 1, 30), images[number].reshape(1, 1, 30).clone()
        for step, pixel in enumerate([None, *np.argsort(-maps[number].ravel())]):
            if pixel is not None:
                put[0, 0, pixel], taken[0, 0, pixel] = images[number].ravel()[pixel], 0
            assert curves.insertion[number, step] == pytest.approx(float(model(put).softmax(1)[0, target].detach()), abs=1e-6)
            assert curves.deletion[number, step] == pytest.approx(float(model(taken).softmax(1)[0, target].detach()), abs=1e-6)


def test_curves_on_paper():
    """A white image put in over black in a flat map's order: the mean rises in a line, whatever the order of pixels, area one half."""
    curves = follow(Mean(), torch.ones(1, 1, 4, 4), np.zeros((1, 4, 4)), np.array([0]), steps=4, baseline="zero")
    np.testing.assert_allclose(curves.insertion, [[0, 0.25, 0.5, 0.75, 1]], atol=1e-6)
    np.testing.assert_allclose(curves.deletion, [[1, 0.75, 0.5, 0.25, 0]], atol=1e-6)
    assert curves.insertion_auc == pytest.approx([0.5]) and curves.deletion_auc == pytest.approx([0.5])


def test_equal_values_change_together():
    """Half the map is one value: putting in a quarter shows that half at half strength, so turning the image round changes nothing."""
    images = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    maps = np.zeros((1, 6, 6))
    maps[:, :3] = 1
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 2))
    whole = uncovered(model, images, torch.zeros_like(images), maps, np.array([0]), np.array([0.25]))
    by_hand = model(images * torch.from_numpy(0.5 * maps)[:, None].float()).softmax(1)[0, 0]
    assert whole[0, 0] == pytest.approx(float(by_hand.detach()), abs=1e-6)
    model[2].weight.data[:] = model[2].weight.data[:, [0, 0, 2, 2]]  # doesn't tell left from right
    one, other = (follow(model, turned, maps, np.array([0])).insertion for turned in (images, images.flip(3)))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_map_on_what_the_network_uses_is_better_both_ways():
    """The network reads one pixel: shown first, the answer comes at once; taken first, it goes at once."""
    images = torch.zeros(1, 1, 8, 8)
    images[0, 0, 2, 2] = 64 * 0.9
    right, wrong = np.random.default_rng(0).random((2, 1, 8, 8)) / 2
    right[0, 2, 2], wrong[0, 2, 2] = 1, -1
    on, off = (follow(Mean(), images, maps, np.array([0]), steps=64, baseline="zero") for maps in (right, wrong))
    assert on.insertion_auc[0] > 0.85 > 0.1 > off.insertion_auc[0]
    assert on.deletion_auc[0] < 0.1 < 0.85 < off.deletion_auc[0]


def test_an_image_does_not_depend_on_those_beside_it():
    """Batches hold steps of several images; blur and mean are each image's own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 10 * 7, 2)).train()
    images, maps = torch.randn(5, 3, 12, 9), np.random.default_rng(0).random((5, 12, 9))
    targets = np.array([0, 1, 0, 1, 1])
    for baseline in ("blur", "mean"):
        together = follow(model, images, maps, targets, baseline=baseline)
        alone = [follow(model, images[i : i + 1], maps[i : i + 1], targets[i : i + 1], baseline=baseline) for i in range(5)]
        np.testing.assert_allclose(together.deletion, np.concatenate([curves.deletion for curves in alone]), atol=1e-6)
    assert model.training and model[1].training and int(model[1].num_batches_tracked) == 0


def test_an_unknown_baseline_is_refused():
    with pytest.raises(SettingError, match="There are: blur, mean, zero"):
        follow(Mean(), torch.ones(1, 1, 4, 4), np.zeros((1, 4, 4)), np.array([0]), baseline="noise")


def test_the_measure_gives_areas_curves_and_what_was_left_out(one):
    """The area is the mean curve's; a dead map is left out and counted; coarse grids aren't judged."""
    judged = tiny_judged()
    grad_cam = next(e for e in judged.explanations if (e.model, e.method) == ("student", "grad_cam"))
    grad_cam.maps[0] = 0
    coarse = Explanation(np.ones((6, 3, 3), np.float32), grad_cam.targets, "student", "coarse", "late", (32, 32))
    judged.explanations.append(coarse)
    found = insertion_deletion(judged, steps=4)
    whole = one(found.measurements, "insertion_auc", model="student", by="grad_cam")
    assert whole.n_images == 5 and "1 dead maps left out" in whole.reason
    curve = [m for m in found.measurements if (m.name, m.model, m.by) == ("insertion_curve", "student", "grad_cam")]
    assert [m.stratum for m in curve] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    assert area(np.array([[m.value for m in curve]]))[0] == pytest.approx(whole.value)
    assert np.isfinite(found.per_image["deletion_auc_mean/random_smooth/base"]).sum() == 6
    assert one(found.measurements, "deletion_auc", model="student", by="coarse").reason == "not judged: grid 3x3"
    assert one(found.measurements, "deletion_auc_difference", model="student - teacher", by="grad_cam").better == "lower"
