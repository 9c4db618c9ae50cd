"""logit_kd against the published implementations (tests/oracles/kd) and against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.core.errors import SettingError
from pellucid.core.records import Task
from pellucid.distillation.losses.logit_kd import LogitKD, soft_kl
from pellucid.training.objective import HardLoss

TASK = Task("single", tuple("abcde"))


def leaf(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("case", ["plain", "large", "two", "same"])
@pytest.mark.parametrize("temperature", [1, 4, 6, 10])
def test_soft_kl_equals_mdistiller_in_value_and_gradient(oracle, case, temperature):
    """The part `kl` is mdistiller's KD loss, to 1e-10 relative in float64."""
    found = oracle("kd/logit_kd.npz")
    student, teacher = leaf(found[f"{case}.student"]), torch.tensor(found[f"{case}.teacher"])
    loss = soft_kl(student, teacher, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(float(found[f"{case}.T{temperature}.loss"]), rel=1e-10, abs=1e-14)
    np.testing.assert_allclose(student.grad.numpy(), found[f"{case}.T{temperature}.grad"], rtol=1e-10, atol=1e-14)
    without = soft_kl(student, teacher, temperature, t_squared=False)
    assert without.item() == pytest.approx(float(found[f"{case}.T{temperature}.loss_no_t2"]), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("alpha", [0.4, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("temperature", [1, 4, 5, 10, 15])
@pytest.mark.parametrize("t_squared", [True, False])
def test_logit_kd_equals_torchdistill_over_the_papers_grid(oracle, alpha, temperature, t_squared):
    """The weighted sum of the parts is torchdistill's KDLoss, value and gradient."""
    found = oracle("kd/ce_kl.npz")
    ending = "" if t_squared else "_no_t2"
    loss = LogitKD(HardLoss(TASK, found["target"]), alpha=alpha, temperature=temperature, t_squared=t_squared)
    student = leaf(found["student"])
    parts = loss(student, torch.tensor(found["teacher"]), torch.tensor(found["target"]))
    total = sum(loss.weights[name] * part for name, part in parts.items())
    total.backward()
    assert total.item() == pytest.approx(float(found[f"alpha{alpha}.T{temperature}.loss{ending}"]), rel=1e-10)
    np.testing.assert_allclose(student.grad.numpy(), found[f"alpha{alpha}.T{temperature}.grad{ending}"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"alpha": 1.5}, "alpha = 1.5"), ({"temperature": 0.0}, "temperature = 0.0"), ({"temperature": float("inf")}, "temperature = inf")],
)
def test_logit_kd_refuses_settings_out_of_range(settings, named):
    """The message names the setting and the value that was got."""
    with pytest.raises(SettingError, match=named):
        LogitKD(HardLoss(TASK, np.arange(5)), **settings)


def test_logit_kd_refuses_several_labels_per_image():
    """A softmax over labels that don't exclude one another would mean nothing."""
    with pytest.raises(SettingError, match="one class per image"):
        LogitKD(HardLoss(Task("multi", ("a", "b")), np.eye(2)))
