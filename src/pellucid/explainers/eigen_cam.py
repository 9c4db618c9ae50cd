"""Eigen-CAM."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pellucid.core.registry import part
from pellucid.explainers.reading import activation_at, once

NEARLY = 0.05  # second singular value within 5 % of the first


def ambiguous(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    tap: str = "last_map",
    variant: Literal["uncentred", "centred"] = "uncentred",
) -> Tensor:
    """Say for which images Eigen-CAM's map is one of many: the second singular value lies within 5 % of the first.

    Parameters and errors are those of :func:`eigen_cam`.

    Returns
    -------
    bool Tensor [N]
        True also where there is no activity at all, or where it isn't finite.
    """
    values = once(
        model, images, tap, _spectrum(variant), lambda: torch.linalg.eigvalsh(_gram(_cells(activation_at(model, images, tap), variant)))
    )
    values, finite = values.clamp_min(0).sqrt(), torch.isfinite(activation_at(model, images, tap)).flatten(1).all(1)
    second = values[:, -2] if values.shape[1] > 1 else torch.zeros_like(values[:, -1])
    return (second >= (1 - NEARLY) * values[:, -1]) | ~finite


def _spectrum(variant: str) -> str:
    return f"eigen_cam {variant}"


@part(signed=False, taps=True, doubtful=ambiguous)
def eigen_cam(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    tap: str = "last_map",
    variant: Literal["uncentred", "centred"] = "uncentred",
) -> Tensor:
    """Project one feature map on its first principal direction: what most of its activity has in common, without class or gradient.

    With the cells of a map as rows and the channels as columns of a matrix A, the map is ``A v``, v the first right singular vector. A
    singular vector has no sign of its own; this one's is such that the map correlates with the mean of the channels. Where the second
    singular value is nearly as large as the first, the direction is an arbitrary one of many and the map with it; such maps are counted beside what is measured of them.

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
    variant : str
        ``uncentred``: the paper's. ``centred``: each channel's mean over the cells is taken off first, as pytorch-grad-cam does.

    Returns
    -------
    float32 Tensor [N, h, w]
        In the units of the activations; 0 where there is no activity. A float64 network gives float64.

    Raises
    ------
    TapError
        `tap` is unknown or has no spatial grid.

    Source
    ------
    Muhammad & Yeasin 2020 (arXiv 2008.00299): ``A v``. The sign is ours.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> tuple(eigen_cam(resnet18, torch.rand(4, 3, 64, 96), tap="layer3").shape)
    (4, 4, 6)
    """
    activation = activation_at(model, images, tap)
    cells = _cells(activation, variant)
    finite = torch.isfinite(cells).all(2).all(1)
    values, vectors = torch.linalg.eigh(_gram(cells))
    once(model, images, tap, _spectrum(variant), lambda: values)  # for `ambiguous`
    leading = vectors[:, :, -1:]
    left = cells.shape[1] <= cells.shape[2]  # which singular vector was found
    maps = (leading * values[:, -1:, None].clamp_min(0).sqrt() if left else cells @ leading)[:, :, 0]
    maps = torch.where(finite[:, None], maps * _sign(maps, activation.double().mean(1).flatten(1)), torch.nan)
    return maps.unflatten(1, activation.shape[2:]).to(torch.float64 if activation.dtype == torch.float64 else torch.float32)


def _cells(activation: Tensor, variant: str) -> Tensor:
    """Return float64 [N, cells, channels]."""
    cells = activation.double().flatten(2).transpose(1, 2)
    return cells - cells.mean(1, keepdim=True) if variant == "centred" else cells


def _gram(cells: Tensor) -> Tensor:
    """Return the products of cells or of channels, whichever are fewer; their eigenvalues are the squared singular values.

    Far quicker than singular values of the matrix itself, and in float64 the first is as good. Where something isn't finite, zeros.
    """
    gram = cells @ cells.mT if cells.shape[1] <= cells.shape[2] else cells.mT @ cells
    return torch.where(torch.isfinite(gram).all(2, keepdim=True).all(1, keepdim=True), gram, 0)


def _sign(maps: Tensor, mean: Tensor) -> Tensor:
    """Return [N, 1]: the sign of each map's correlation with the mean of the channels, or of their product where either is constant."""
    spread, mean_spread = maps - maps.mean(1, keepdim=True), mean - mean.mean(1, keepdim=True)
    together = (spread * mean_spread).sum(1, keepdim=True)
    rounding = 1e-12 * maps.norm(dim=1, keepdim=True) * mean.norm(dim=1, keepdim=True)
    together = torch.where(together.abs() > rounding, together, (maps * mean).sum(1, keepdim=True))
    return torch.where(together < 0, -1.0, 1.0)
