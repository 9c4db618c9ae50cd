"""What the loop trains: an objective holds the network and says what is wrong with it, part by part."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.core.records import Task
from pellucid.data.views import Batch


class Objective(nn.Module, ABC):
    """A network to train, with named loss parts and their weights.

    Attributes
    ----------
    student : nn.Module
        The network whose parameters are trained (a teacher, too, is the student of its labels).
    weights : dict of str -> float
        Weight of each part in the total.
    """

    def __init__(self, student: nn.Module, weights: dict[str, float]) -> None:
        super().__init__()
        self.student = student
        self.weights = weights

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {part: scalar} for one batch; the keys are those of `weights`."""

    def total(self, parts: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the parts."""
        return torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()


class HardLoss:
    """Cross-entropy with the labels; for multi-label tasks binary cross-entropy, mean over labels.

    Parameters
    ----------
    task : Task
    targets : int64 array [N] or 0/1 array [N, K]
        Targets of the training split, for class weights.
    label_smoothing : float
        Share of the target spread over all classes (Szegedy 2016).
    class_weights : str
        ``none``, or ``balanced``: weights inverse to the class's frequency, mean 1 over the images.
    """

    def __init__(self, task: Task, targets: np.ndarray, *, label_smoothing: float = 0.0, class_weights: str = "none") -> None:
        self.multi = task.kind == "multi"
        self.label_smoothing = label_smoothing
        self.class_weights: Tensor | None = None
        if class_weights == "balanced":
            counts = targets.sum(0) if self.multi else np.bincount(targets, minlength=task.n_classes)
            self.class_weights = torch.tensor(len(targets) / (task.n_classes * np.maximum(counts, 1)), dtype=torch.float32)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the scalar loss of float logits [n, K]."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        if self.multi:
            smooth = targets.float() * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
            return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights)
        return F.cross_entropy(logits, targets, weight=weights, label_smoothing=self.label_smoothing)


class Supervised(Objective):
    """Training from labels alone: how a teacher and a base are made."""

    def __init__(self, student: nn.Module, hard_loss: HardLoss) -> None:
        super().__init__(student, {"ce": 1.0})
        self.hard_loss = hard_loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``{"ce": scalar}``."""
        return {"ce": self.hard_loss(self.student(batch.inputs[0]).float(), batch.targets)}
