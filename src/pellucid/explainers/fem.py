"""FEM, the feature explanation method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.core.registry import part
from pellucid.explainers.reading import activation_at, full_precision


def check_numbers(*, k: float, **_: Any) -> None:
    """Refuse a number that can't be, before anything is trained for it."""
    if not 0 <= k < 100:
        raise SettingError(f"fem: k = {k:g} must be from 0 to 100 standard deviations; 2 is usual.", setting="k")


@part(signed=False, taps=True, check=check_numbers)
def fem(model: nn.Module, images: Tensor, targets: Tensor | None = None, *, tap: str = "last_map", k: float = 2.0) -> Tensor:
    """Count where channels are unusually active for themselves, a channel counting by its mean.

    A channel is on where it exceeds its own mean by more than `k` standard deviations; the map is the sum of these binary maps, each times
    its channel's mean. A constant channel is on nowhere. In a grid of m cells no value lies more than ``sqrt(m - 1)`` standard deviations
    above the mean, so with k = 2 a map of 2x2 cells is always 0.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode; its mode and hooks are afterwards as before.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says.
    targets : ignored
        The map is the same for every class.
    tap : str
        A spatial tap of the model (see ``Taps``).
    k : float
        Standard deviations (of the channel's cells in this image, divided by their number) above the mean.

    Returns
    -------
    float32 Tensor [N, h, w]
        In the units of the activations. A float64 network gives float64.

    Raises
    ------
    SettingError
        `k` is negative, or so large that no channel is ever on.
    TapError
        `tap` is unknown or has no spatial grid.

    Source
    ------
    Fuad et al. 2020 (IPTA, doi 10.1109/IPTA50016.2020.9286629), for images. pytorch-grad-cam's form of that name is another: it
    weights the activations themselves by the share of cells that are on.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> tuple(fem(resnet18, torch.rand(4, 3, 64, 96), tap="layer2").shape)
    (4, 8, 12)
    """
    check_numbers(k=k)
    features = activation_at(model, images, tap)
    features = full_precision(features)  # [N, C, h, w]
    deviation, mean = torch.std_mean(features, (2, 3), correction=0, keepdim=True)
    on = features > mean + k * deviation
    return (on * mean).sum(1)
