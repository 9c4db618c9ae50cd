"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math

import torch
from torch import nn

from pellucid.core.settings import NetworkSettings

STEPS_AT, STEP_FACTOR = (0.6, 0.85), 0.1


def optimizer(modules: nn.Module, settings: NetworkSettings) -> torch.optim.Optimizer:
    """Return the optimizer of all trainable parameters; biases and norms get no weight decay."""
    trainable = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.lr)


def learning_rate(progress: float, settings: NetworkSettings) -> float:
    """Return the learning rate at a point of training, given in epochs (a fraction inside an epoch).

    Linear warm-up from 0, then cosine to 0 (Loshchilov & Hutter 2017), or a tenth after 60 % and 85 %, or constant.
    """
    warmup = min(settings.warmup_epochs, settings.epochs / 2)
    if progress < warmup:
        return settings.lr * progress / warmup
    if settings.schedule == "constant":
        return settings.lr
    done = (progress - warmup) / max(settings.epochs - warmup, 1e-9)
    if settings.schedule == "steps":
        return settings.lr * STEP_FACTOR ** sum(done >= at for at in STEPS_AT)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
