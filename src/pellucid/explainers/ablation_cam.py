"""Ablation-CAM."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pellucid.core.registry import part
from pellucid.explainers.reading import Reading, full_precision, read
from pellucid.explainers.targets import check_targets
from pellucid.models.taps import forward_with

CHUNK = 2**22  # activations changed at once, 16 MB in float32


@part(signed=True, slow=True, taps=True)
def ablation_cam(
    model: nn.Module, images: Tensor, targets: Tensor, *, tap: str = "last_map", variant: Literal["signed", "printed"] = "signed"
) -> Tensor:
    """Weight the channels of one feature map by how much the class logit falls when a channel is set to zero, without gradients.

    One pass through the rest of the network for each channel, shared by all classes; channels that are zero anyway need none. Behind a
    global average pool and a linear layer the fall is known without any pass, and the map is Grad-CAM's over the logit, each channel
    weighted once more by its own mean.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode; mode, gradients and hooks are afterwards as before, also when this raises.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says.
    targets : int64 Tensor [N]
        The class each map explains, in [0, K).
    tap : str
        A spatial tap of the model (see ``Taps``).
    variant : str
        ``signed``: falls are divided by the logit's absolute value, so that positive always speaks for the class. ``printed``: by the
        logit itself as the paper prints it, which turns the map of a class with a negative logit into its opposite.

    Returns
    -------
    float32 Tensor [N, h, w]
        In units of the activations; 0 where the logit is exactly 0. A float64 network gives float64.

    Raises
    ------
    TapError
        `tap` is unknown or has no spatial grid.
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Desai & Ramaswamy 2020 (WACV, doi 10.1109/WACV45572.2020.9093360): weights ``(z - z_k) / z``. pytorch-grad-cam puts -1e7 and not 0 in a channel's
    place where no activation is exactly 0.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> tuple(ablation_cam(resnet18, torch.rand(2, 3, 64, 96), torch.tensor([0, 1]), tap="layer3").shape)
    (2, 4, 6)
    """
    reading = read(model, images, tap)
    targets = check_targets(targets, reading.logits)
    falls = reading.once("ablation_cam", lambda: _falls(reading))  # [N, C, K]
    fall = falls.gather(2, targets[:, None, None].expand(-1, falls.shape[1], 1))[:, :, 0]
    logit = reading.logits.gather(1, targets[:, None])  # [N, 1]
    by = logit if variant == "printed" else logit.abs()
    return full_precision(torch.einsum("nc,nchw->nhw", torch.where(by == 0, 0, fall / by), reading.activation))


def _falls(reading: Reading) -> Tensor:
    """Return by how much each logit falls without each channel, [N, C, K]."""
    activation = reading.activation
    if reading.weight is not None:
        return activation.mean((2, 3))[:, :, None] * reading.weight.T
    falls = reading.logits.new_zeros(*activation.shape[:2], reading.logits.shape[1])
    at_once = max(1, CHUNK // activation[0].numel())
    for number in range(len(activation)):
        # The image by itself: a fall is a small difference of logits, in which the rounding of a pass of another size would show.
        alone = forward_with(reading.model, reading.images[number : number + 1], taps=[reading.tap])
        for channels in alone[reading.tap][0].flatten(1).any(1).nonzero()[:, 0].split(at_once):
            changed = alone[reading.tap].repeat(len(channels), 1, 1, 1)
            changed[torch.arange(len(channels)), channels] = 0
            falls[number, channels] = alone.logits - reading.logits_of(number, changed)
    return falls
