"""LayerCAM."""

from __future__ import annotations

from torch import Tensor, nn

from pellucid.core.registry import part
from pellucid.explainers.reading import full_precision, read
from pellucid.explainers.targets import check_targets


@part(signed=True, taps=True)
def layer_cam(model: nn.Module, images: Tensor, targets: Tensor, *, tap: str = "last_map") -> Tensor:
    """Multiply each cell of one feature map with the positive part of its own gradient; made for early layers with fine grids.

    Where activations are never negative (behind a ReLU) the map isn't either: what speaks against the class is left out, not shown.

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
        In logits. The paper's ReLU over the sum is left to whoever draws or measures. A float64 network gives float64.

    Raises
    ------
    TapError
        `tap` is unknown or has no spatial grid.
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Jiang et al. 2021 (IEEE TIP 30, doi 10.1109/TIP.2021.3089943): ``sum_k max(dz/dA_k, 0) * A_k``.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> tuple(layer_cam(resnet18, torch.rand(4, 3, 64, 96), torch.tensor([0, 1, 1, 0]), tap="layer2").shape)
    (4, 8, 12)
    """
    reading = read(model, images, tap)
    targets = check_targets(targets, reading.logits)
    return full_precision((reading.gradient(targets).clamp_min(0) * reading.activation).sum(1))
