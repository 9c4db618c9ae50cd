"""The objective of a student that learns from a teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.data.views import Batch
from pellucid.training.objective import Objective


class Distilled(Objective):
    """A student, its teacher's cached logits, and the loss between them.

    Parameters
    ----------
    student : nn.Module
    loss : a part of ``losses``
        ``loss(student_logits, teacher_logits, targets) -> {part: scalar}`` with ``loss.weights``.
    teacher_logits : float32 array [views, n, K]
        As :func:`pellucid.distillation.teacher_cache.teacher_logits` gives them: a constant, never a module of this objective.
    """

    def __init__(self, student: nn.Module, loss: Any, teacher_logits: np.ndarray) -> None:
        super().__init__(student, loss.weights)
        self.loss = loss
        self.teacher_logits = teacher_logits

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss's parts for one batch, seen by both networks in the same view."""
        logits = self.student(batch.inputs[0]).float()
        teacher = torch.from_numpy(self.teacher_logits[batch.view, batch.positions]).to(logits.device)
        return self.loss(logits, teacher, batch.targets)
