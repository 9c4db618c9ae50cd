"""Grad-CAM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pellucid.core.registry import part
from pellucid.explainers.reading import full_precision, read
from pellucid.explainers.targets import check_targets


@part(signed=True, taps=True)
def grad_cam(model: nn.Module, images: Tensor, targets: Tensor, *, tap: str = "last_map") -> Tensor:
    """Weight the channels of one feature map by how strongly each moves a class logit.

    The map comes back small and signed. ReLU (the paper's eq. 2) and scaling are left to
    whoever draws or measures it, so that maps of two networks stay comparable.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode; mode, gradients and hooks are
        afterwards as before, also when this raises.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says; any H and W the model takes.
    targets : int64 Tensor [N]
        The class each map explains, in [0, K).
    tap : str
        A spatial tap of the model (see ``Taps``).

    Returns
    -------
    float32 Tensor [N, h, w]
        In logits: adding up all pixels gives ``sum_k w_k sum_ij A_kij``. A float64 network gives float64.

    Raises
    ------
    TapError
        `tap` is unknown (the nearest names are given) or has no spatial grid.
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Selvaraju et al. 2017 (arXiv 1610.02391), eq. 1-2.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> maps = grad_cam(resnet18, torch.rand(4, 3, 64, 96), torch.tensor([0, 1, 1, 0]))
    >>> tuple(maps.shape)
    (4, 2, 3)
    """
    reading = read(model, images, tap)
    targets = check_targets(targets, reading.logits)
    return full_precision(torch.einsum("nc,nchw->nhw", reading.gradient(targets).mean((2, 3)), reading.activation))
