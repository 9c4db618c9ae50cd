"""The gradient guard: before training, each part of the loss must be seen to move the student."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch

from pellucid.core.errors import GuardError
from pellucid.data.views import Batch
from pellucid.training.objective import Objective


def check(objective: Objective, batches: Iterable[Batch], *, loss: str) -> dict[str, float]:
    """Refuse a loss whose parts don't send a finite, somewhere non-zero gradient into the student.

    A part that is printed in a paper but has no gradient (a hard step, a detached map) otherwise trains for hours and teaches nothing.

    Parameters
    ----------
    objective : Objective
        Tried on a copy in train mode; not changed.
    batches : iterable of Batch
        A few dry batches; a part passes if any of them moves the student and all are finite.
    loss : str
        Name of the loss, for the message.

    Returns
    -------
    dict of part -> float
        Largest gradient norm of each part with a weight above zero.

    Raises
    ------
    GuardError
        Names the part and the reason.
    """
    tried = copy.deepcopy(objective).train()
    parameters = [parameter for parameter in tried.student.parameters() if parameter.requires_grad]
    largest = {name: 0.0 for name, weight in tried.weights.items() if weight > 0}
    for batch in batches:
        parts = tried(batch)
        for name in largest:
            largest[name] = max(largest[name], _norm(parts[name], parameters, loss, name))
    for name, norm in largest.items():
        if norm == 0:
            raise GuardError(
                f'loss {loss}: part "{name}" sends no gradient to the student. Set its weight to 0, or use another variant.', part=name
            )
    return largest


def _norm(value: torch.Tensor, parameters: list[torch.nn.Parameter], loss: str, name: str) -> float:
    if not value.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    norm = float(sum((gradient.float().square().sum() for gradient in gradients if gradient is not None), torch.zeros(())).sqrt())
    if not norm < float("inf"):
        raise GuardError(
            f'loss {loss}: part "{name}" sends a gradient that is {norm} to the student. Lower its scale, or check its inputs.', part=name
        )
    return norm
