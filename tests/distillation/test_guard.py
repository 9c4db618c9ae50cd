"""The gradient guard refuses loss parts that teach nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.core.errors import GuardError
from pellucid.data.views import Batch
from pellucid.distillation import guard
from pellucid.training.objective import Objective


class Parts(Objective):
    """Two parts: a good one, and one to be planted."""

    def __init__(self, second, weight=1.0):
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2)), {"ce": 1.0, "second": weight})
        self.second = second

    def forward(self, batch):
        logits = self.student(batch.inputs[0])
        return {"ce": logits.square().mean(), "second": self.second(logits)}


def batches(count=2):
    draws = torch.Generator().manual_seed(0)
    return [Batch([torch.randn(3, 1, 2, 2, generator=draws)], torch.zeros(3, dtype=torch.int64), np.arange(3), 0) for _ in range(count)]


@pytest.mark.parametrize(
    "second",
    [lambda z: (z > 0).float().mean(), lambda z: z.detach().sum(), lambda z: (z * 0).sum()],
    ids=["hard step", "detached", "zero"],
)
def test_guard_refuses_a_part_without_gradient(second):
    """A hard step, a detached output and a constant all send nothing into the student."""
    with pytest.raises(GuardError, match='"second" sends no gradient') as caught:
        guard.check(Parts(second), batches(), loss="planted")
    assert caught.value.part == "second"


def test_guard_refuses_a_gradient_that_is_not_finite():
    """A part whose derivative is infinite would spoil the student at the first step."""
    with pytest.raises(GuardError, match=r"nan|inf"):
        guard.check(Parts(lambda z: ((z - z.detach()) ** 0.5).sum()), batches(), loss="planted")


def test_guard_lets_a_weight_of_zero_pass_and_leaves_the_student_alone():
    """A part with weight 0 may be anything; batch-norm statistics and weights stay as they were."""
    objective = Parts(lambda z: z.detach().sum(), weight=0.0)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    norms = guard.check(objective, batches(), loss="planted")
    assert set(norms) == {"ce"}
    assert norms["ce"] > 0
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())
