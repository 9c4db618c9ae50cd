"""ROAD against the authors' imputation and thresholds, and on a network whose answer can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from explainers.conftest import OracleCnn, OracleResNet
from pellucid.core.errors import TargetError
from pellucid.measures.imputation import impute
from pellucid.measures.road import follow_removal, kept_pixels, road
from pellucid.testing import tiny_judged

NETWORKS = {"cnn": (OracleCnn, "x64x64"), "resnet": (OracleResNet, "x48x80")}


class Corner(nn.Module):
    """Its first logit is the mean of the upper left quarter, the other is 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = images.shape[-1] // 2
        value = 4 * images[:, :, :side, :side].mean((1, 2, 3))
        return torch.stack([value, torch.zeros_like(value)], 1)


def corner(n: int = 2, side: int = 16) -> tuple[torch.Tensor, np.ndarray]:
    """Return images bright in the upper left quarter, and maps that shine there."""
    images, maps = torch.zeros(n, 1, side, side), np.random.default_rng(0).random((n, side, side)) / 2
    images[:, :, : side // 2, : side // 2] = 2
    maps[:, : side // 2, : side // 2] += 1
    return images, maps


@pytest.mark.parametrize("order", ["morf", "lerf"])
@pytest.mark.parametrize("name", NETWORKS)
def test_road_equals_the_authors_code(oracle, name, order):
    """Both orders, two networks, five percentiles, no noise: to 1e-6, the reference's float32."""
    found, (network, size) = oracle("unicam_judges/curves.npz"), NETWORKS[name]
    model = network()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in oracle(f"unicam_cam/weights_{name}.npz").items()}, strict=False)
    images = torch.from_numpy(oracle("unicam_cam/images.npz")[size]).double()
    shares = 1 - found[f"{name}.road.{order}.percentiles"] / 100  # theirs is the share that stays
    curves = follow_removal(
        model.double(), images, found[f"{name}.map"], found[f"{name}.class"], order=order, shares=shares, noise=0.0
    )  # fmt: skip
    np.testing.assert_allclose(curves, found[f"{name}.road.{order}.prob"], atol=1e-6)


def test_road_from_its_definition():
    """Twin: remove, fill in, ask, one image and one share at a time; the noise is one field for all."""
    images, maps = corner()
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    curves = follow_removal(model, images, maps, np.array([1, 0]), shares=(0.25, 0.75), noise=0.5)
    other = follow_removal(model, images[1:], maps[1:], np.array([0]), shares=(0.75,), noise=0.5)
    assert curves[1, 1] == pytest.approx(other[0, 0], abs=1e-6)
    quiet = follow_removal(model, images, maps, np.array([1, 0]), shares=(0.25, 0.75), noise=0.0)
    for number, target in enumerate((1, 0)):
        for column, share in enumerate((0.25, 0.75)):
            kept = maps[number] < np.quantile(maps[number], 1 - share)
            filled = impute(images[number : number + 1], torch.from_numpy(kept)[None])
            assert quiet[number, column] == pytest.approx(float(model(filled).softmax(1)[0, target].detach()), abs=1e-6)
    assert not np.allclose(curves, quiet)


def test_the_answer_goes_with_what_the_map_shows():
    """With a quarter removed, the one that the network reads, its answer falls to a coin's; with all others removed it stays."""
    images, maps = corner()
    targets = np.zeros(2, np.int64)
    most, least = (follow_removal(Corner(), images, maps, targets, order=order, shares=(0.0, 0.25, 0.7)) for order in ("morf", "lerf"))
    assert most[:, 0] == pytest.approx(1 / (1 + np.exp(-8)))
    assert (most[:, 1] < 0.6).all()
    assert (least > 0.99).all()


def test_equal_values_are_removed_by_lot_and_never_too_many():
    """A flat map loses exactly the share, from all over the image, the same pixels for every image; one pixel always stays."""
    kept = kept_pixels(np.zeros((2, 40, 40)), [0.25, 1.0])
    assert kept.sum((2, 3)).tolist() == [[1200, 1], [1200, 1]]
    assert (kept[0] == kept[1]).all()
    quarters = kept[0, 0].reshape(2, 20, 2, 20).mean((1, 3))
    assert (abs(quarters - 0.75) < 0.1).all()  # not the first rows, as a stable sort would have it


def test_maps_that_are_not_finite_give_no_figure():
    images, maps = corner()
    maps[1, 3, 3] = np.nan
    curves = follow_removal(Corner(), images, maps, np.zeros(2, np.int64))
    assert np.isfinite(curves[0]).all() and np.isnan(curves[1]).all()


def test_unknown_classes_are_refused():
    images, maps = corner()
    for targets in (np.array([0, 2]), np.array([0])):
        with pytest.raises(TargetError):
            follow_removal(Corner(), images, maps, targets)


def test_road_measures_at_most_so_many_images_and_says_so(one):
    """Two of the six explained images, with their curve, their differences and the remark."""
    judged = tiny_judged()
    found = road(judged, images=2)
    whole = one(found.measurements, "road", model="student", by="grad_cam")
    assert whole.n_images == 2 and "2 of 6 explained images" in whole.reason
    morf, lerf = (found.per_image[f"road_{order}/grad_cam/student"] for order in ("morf", "lerf"))
    np.testing.assert_allclose(found.per_image["road/grad_cam/student"], lerf - morf)
    curve = [m for m in found.measurements if (m.name, m.model, m.by) == ("road_morf_curve", "student", "grad_cam")]
    assert [m.stratum for m in curve] == ["10 %", "30 %", "50 %", "70 %", "90 %"]
    assert np.mean([m.value for m in curve]) == pytest.approx(np.nanmean(morf))
    gap = one(found.measurements, "road_morf_difference", model="student - teacher", by="grad_cam")
    assert gap.better == "lower"
    assert gap.value == pytest.approx(np.nanmean(morf - found.per_image["road_morf/grad_cam/teacher"]))
