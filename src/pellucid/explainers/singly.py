"""Maps of methods that ask the network many times about one image: made image by image, so that none depends on its batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pellucid.explainers.reading import full_precision
from pellucid.explainers.targets import check_targets
from pellucid.models.taps import ask, evaluating


def image_by_image(model: nn.Module, images: Tensor, targets: Tensor, one: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return the maps [N, h, w] that `one` makes of each image [C, H, W] and its class, in full precision.

    Parameters
    ----------
    model : nn.Module
        In eval mode while `one` runs; its mode is afterwards as before, also when this raises.
    images : float Tensor [N, C, H, W]
        On the model's device and of its type.
    targets : int64 Tensor [N]
    one : callable

    Raises
    ------
    TargetError
        A target lies outside [0, K), or there isn't one per image.
    """
    with evaluating(model):
        with torch.no_grad():
            classes = check_targets(targets, ask(model, images[:1]).expand(len(images), -1))
        return full_precision(torch.stack([one(image, target) for image, target in zip(images, classes.tolist(), strict=True)]))
