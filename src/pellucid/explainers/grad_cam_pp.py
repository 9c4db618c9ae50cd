"""Grad-CAM++."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pellucid.core.registry import part
from pellucid.explainers.reading import full_precision, read
from pellucid.explainers.targets import check_targets


@part(signed=True, taps=True)
def grad_cam_pp(model: nn.Module, images: Tensor, targets: Tensor, *, tap: str = "last_map") -> Tensor:
    """Weight the channels of one feature map by their positive gradients, a cell's counting the less the more its channel is active anyway.

    Meant for images that hold several objects of a class. Like all usual implementations this takes the class logit where the paper
    takes its exponential. pytorch-grad-cam adds 1e-6 to the denominator of alpha, which moves maps of networks with small gradients
    by some per cent (2 to 5 in the networks of our tests); here the denominator is the paper's, and alpha is 0 where that is 0.

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

    Returns
    -------
    float32 Tensor [N, h, w]
        In logits. Channel weights are never negative, so the map is negative only where activations are. A float64 network gives float64.

    Raises
    ------
    TapError
        `tap` is unknown or has no spatial grid.
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Chattopadhay et al. 2018 (arXiv 1710.11063), eq. 5 for the weights and eq. 19 for alpha.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> tuple(grad_cam_pp(resnet18, torch.rand(4, 3, 64, 96), torch.tensor([0, 1, 1, 0])).shape)
    (4, 2, 3)
    """
    reading = read(model, images, tap)
    gradient, activation = reading.gradient(check_targets(targets, reading.logits)), reading.activation
    # Eq. 19, g^2 / (2 g^2 + sum(A) g^3), with g^2 cancelled: in float32 the cube of a small gradient would be 0. Cells whose
    # gradient isn't positive get no weight, so nothing is lost where g itself is 0.
    denominator = 2 + gradient * activation.sum((2, 3), keepdim=True)
    alpha = torch.where(denominator == 0, 0, 1 / denominator)
    weights = (gradient.clamp_min(0) * alpha).sum((2, 3))  # [N, C]
    return full_precision(torch.einsum("nc,nchw->nhw", weights, activation))
