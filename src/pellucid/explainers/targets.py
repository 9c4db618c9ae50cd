"""The classes that maps are for."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.core.errors import TargetError


def check_targets(targets: Tensor, logits: Tensor) -> Tensor:
    """Return the classes to explain on the logits' device, if there is one for each image and the network has it.

    Parameters
    ----------
    targets : integer Tensor [N]
    logits : float Tensor [N, K]

    Returns
    -------
    int64 Tensor [N]

    Raises
    ------
    TargetError
        There isn't one per image, or one lies outside [0, K).
    """
    targets = torch.as_tensor(targets, device=logits.device)
    if targets.dtype.is_floating_point or targets.dtype.is_complex or targets.dtype == torch.bool:
        raise TargetError(f"targets must be whole numbers, one class per image; they are {targets.dtype}.")
    if targets.shape != logits.shape[:1]:
        raise TargetError(f"targets must name one class per image: shape [{len(logits)}], not {list(targets.shape)}.")
    wrong = targets[(targets < 0) | (targets >= logits.shape[1])]
    if len(wrong):
        raise TargetError(f"there is no class {int(wrong[0])}: the network has {logits.shape[1]}, numbered from 0.")
    return targets.long()
