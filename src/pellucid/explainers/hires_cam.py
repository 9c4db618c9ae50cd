"""HiResCAM."""

from __future__ import annotations

from torch import Tensor, nn

from pellucid.core.registry import part
from pellucid.explainers.reading import full_precision, read
from pellucid.explainers.targets import check_targets


@part(signed=True, taps=True)
def hires_cam(model: nn.Module, images: Tensor, targets: Tensor, *, tap: str = "last_map") -> Tensor:
    """Multiply each cell of one feature map with its own gradient, so that a cell counts by what it does and not by its channel's average.

    Behind a global average pool and a linear layer all cells of a channel have the same gradient, and the map is Grad-CAM's.

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
        Signed, in logits. A float64 network gives float64.

    Raises
    ------
    TapError
        `tap` is unknown or has no spatial grid.
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Draelos & Carin 2020 (arXiv 2011.08891): ``sum_k dz/dA_k * A_k``.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> tuple(hires_cam(resnet18, torch.rand(4, 3, 64, 96), torch.tensor([0, 1, 1, 0]), tap="layer3").shape)
    (4, 4, 6)
    """
    reading = read(model, images, tap)
    targets = check_targets(targets, reading.logits)
    return full_precision((reading.gradient(targets) * reading.activation).sum(1))
