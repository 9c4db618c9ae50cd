"""What a layer responds to, class or no class: the mean of its channels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.core.registry import part
from pellucid.explainers.reading import activation_at, full_precision
from pellucid.models.taps import find_taps, forward_with


@part(signed=False, taps=True)
def average_feature_map(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    tap: str = "last_map",
    weights: Literal["none", "activation"] = "none",
) -> Tensor:
    """Average the channels of one feature map, without any gradient.

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
    weights : str
        ``none``: every channel counts the same. ``activation``: in proportion to its mean absolute value in the image, summing to one.

    Returns
    -------
    float32 Tensor [N, h, w]
        Raw: in the units of the activations. A float64 network gives float64.

    Raises
    ------
    SettingError
        `weights` is another word.
    TapError
        `tap` is unknown or has no spatial grid.

    Source
    ------
    arXiv 2502.15959: ``A(i, j) = mean_k F_k(i, j)``. Weights by activation are a variant of ours.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> tuple(average_feature_map(resnet18, torch.rand(4, 3, 64, 96), tap="layer2").shape)
    (4, 8, 12)
    """
    return _average(activation_at(model, images, tap), weights)


def average_feature_maps(model: nn.Module, images: Tensor, *, weights: Literal["none", "activation"] = "none") -> dict[str, Tensor]:
    """Return the average feature map [N, h, w] of every spatial tap, in order, from one forward pass.

    Parameters and errors are those of :func:`average_feature_map`.
    """
    names = [tap.name for tap in find_taps(model, size=(images.shape[2], images.shape[3]), channels=images.shape[1]).spatial]
    outputs = forward_with(model, images, taps=names)
    return {name: _average(outputs[name], weights) for name in names}


def _average(features: Tensor, weights: str) -> Tensor:
    if weights not in ("none", "activation"):
        raise SettingError(f'average_feature_map: weights = "{weights}" must be "none" or "activation".', setting="weights")
    features = full_precision(features)  # [N, C, h, w]
    if weights == "none":
        return features.mean(1)
    strength = features.abs().mean((2, 3))  # [N, C]
    # A layer that is silent everywhere keeps its all-zero map instead of becoming NaN.
    share = strength / strength.sum(1, keepdim=True).clamp_min(torch.finfo(strength.dtype).tiny)
    return torch.einsum("nc,nchw->nhw", share, features)
