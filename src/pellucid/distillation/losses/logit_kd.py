"""Distillation of softened logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pellucid.core.errors import SettingError
from pellucid.core.registry import part
from pellucid.training.objective import HardLoss


def soft_kl(student: Tensor, teacher: Tensor, temperature: float, *, t_squared: bool = True) -> Tensor:
    """Return ``T^2 * KL(p_t(T) || p_s(T))``, mean over images.

    Parameters
    ----------
    student, teacher : float Tensor [n, K]
        Logits of the same images in the same view.
    temperature : float
        T > 0; both logits are divided by it.
    t_squared : bool
        False leaves the factor T^2 out; the gradient then shrinks with the temperature.

    Returns
    -------
    scalar Tensor, in nats

    Source
    ------
    Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), section 2.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
    >>> float(soft_kl(logits, logits, temperature=4.0))
    0.0
    """
    log_student = F.log_softmax(student / temperature, 1)
    log_teacher = F.log_softmax(teacher / temperature, 1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2 if t_squared else divergence


@part()
class LogitKD:
    """Cross-entropy with the labels and KL divergence from the teacher's softened logits.

    ``alpha * CE(y, z_s) + (1 - alpha) * T^2 * KL(p_t(T) || p_s(T))``; known as ``ce_kl`` in arXiv 2508.15251 (eq. 1).

    Parameters
    ----------
    hard_loss : HardLoss
        The cross-entropy with the labels.
    alpha : float
        Weight of the labels, in [0, 1].
    temperature : float
        T > 0.
    t_squared : bool
        False is the form without the factor T^2.

    Raises
    ------
    SettingError
        `alpha` or `temperature` out of range, or a multi-label task.

    Source
    ------
    Hinton, Vinyals & Dean 2015 (arXiv 1503.02531).
    """

    def __init__(self, hard_loss: HardLoss, *, alpha: float = 0.4, temperature: float = 10.0, t_squared: bool = True) -> None:
        if not 0 <= alpha <= 1:
            raise SettingError(f"[distill] alpha = {alpha}: must lie between 0 and 1.", setting="alpha")
        if not 0 < temperature < float("inf"):
            raise SettingError(f"[distill] temperature = {temperature}: must be above 0 and finite.", setting="temperature")
        if hard_loss.multi:
            raise SettingError('[distill] loss = "logit_kd" is for one class per image; this task has several labels.', setting="loss")
        self.hard_loss = hard_loss
        self.temperature = temperature
        self.t_squared = t_squared
        self.weights = {"ce": alpha, "kl": 1 - alpha}

    def __call__(self, student: Tensor, teacher: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the unweighted parts ``ce`` and ``kl`` of float logits [n, K] and int64 targets [n]."""
        return {
            "ce": self.hard_loss(student, targets),
            "kl": soft_kl(student, teacher, self.temperature, t_squared=self.t_squared),
        }
