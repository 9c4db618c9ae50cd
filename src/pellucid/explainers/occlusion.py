"""Occlusion by a sliding window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.core.registry import part
from pellucid.explainers.singly import image_by_image
from pellucid.models.taps import ask, reference

CHUNK = 32  # covered images per forward pass


def check_numbers(*, window: float, stride: float, **_: Any) -> None:
    """Refuse numbers that can't be, before anything is trained for them."""
    if not 0 < stride <= window:
        problem = f"occlusion: window = {window:g} and stride = {stride:g} must be above 0, and the stride no longer than the window."
        raise SettingError(problem, setting="stride")


def check_fit(model: nn.Module, image: Tensor, *, window: float, stride: float) -> None:
    """Refuse a window that covers the whole image wherever it stands (every cell would have the same value), or is larger still."""
    height, width = image.shape[2:]
    rows, columns, covering = _cells(height, width, window, stride)
    if window > min(height, width) or covering >= max(len(rows), len(columns)) - 1:
        raise SettingError(f"occlusion: a window of {window:g} leaves nothing of an image of {height}x{width} px.", setting="window")


@part(signed=True, slow=True, taps=False, check=check_numbers, suits=check_fit)
def occlusion(model: nn.Module, images: Tensor, targets: Tensor, *, window: float = 0.2, stride: float = 0.1) -> Tensor:
    """Cover a square of the image with the mean colour, move it along, and see by how much the class logit drops.

    The image is cut into cells, as many as strides fit into its height and width, and the window is a square of whole cells. A cell's value
    is the mean drop over all windows that cover it. So the map lies on the image cell by cell, without a margin.

    The network is only asked for logits, so any network can be explained; but windows of 2x2 cells on a 10x10 grid are 81 forward passes
    an image. Something larger than the window that says the same in several places isn't seen: each window leaves enough of it.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode and without gradients; mode is afterwards as before, also when this raises.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says, so that 0 is the mean colour.
    targets : int64 Tensor [N]
        The class each map explains, in [0, K).
    window, stride : float
        Side of the window and how far it moves: below 1 as shares of the image's shorter side, from 1 on in pixels. The stride is
        rounded so that whole cells fill the image, the window so that it is made of whole cells (one at least).

    Returns
    -------
    float32 Tensor [N, h, w]
        In logits: positive where covering lowers the class. h and w are the numbers of cells. A float64 network gives float64.

    Raises
    ------
    SettingError
        `window` or `stride` isn't above 0, or the stride is longer than the window (some pixels would never be covered).
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Zeiler & Fergus 2014 (arXiv 1311.2901), section 4.2. Where strides fill the image, the same as captum's Occlusion.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> maps = occlusion(resnet18, torch.rand(2, 3, 64, 96), torch.tensor([0, 1]))
    >>> tuple(maps.shape)
    (2, 10, 15)
    """
    check_numbers(window=window, stride=stride)
    images = images.detach().to(reference(model))
    height, width = images.shape[2:]
    rows, columns, covering = _cells(height, width, window, stride)
    row_windows, column_windows = (_windows(edges, covering).to(images.device) for edges in (rows, columns))
    with torch.no_grad():
        drops = image_by_image(model, images, targets, lambda image, target: _one(model, image, target, row_windows, column_windows))
    with torch.autocast(drops.device.type, enabled=False):
        return _spread(drops, covering)


def _cells(height: int, width: int, window: float, stride: float) -> tuple[Tensor, Tensor, int]:
    """Return the edges of the cells in pixels, of rows [h + 1] and columns [w + 1], and how many cells a window has a side."""
    shorter = min(height, width)
    step = max(stride * shorter if stride < 1 else stride, 1.0)
    counts = [max(round(side / step), 1) for side in (height, width)]
    rows, columns = (torch.linspace(0, side, count + 1).round().long() for side, count in zip((height, width), counts, strict=True))
    covering = max(round((window * shorter if window < 1 else window) / step), 1)
    return rows, columns, min(covering, *counts)


def _windows(edges: Tensor, covering: int) -> Tensor:
    """Return bool [windows, pixels]: which pixels each window covers along one side."""
    pixels = torch.arange(int(edges[-1]))
    first, behind = edges[:-covering, None], edges[covering:, None]
    return (pixels >= first) & (pixels < behind)


def _one(model: nn.Module, image: Tensor, target: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Return by how much each window lowers the logit of one image [window rows, window columns]."""
    whole = ask(model, image[None])[0, target]
    says_something = (image != 0).any(0)
    found = []
    for chosen in torch.arange(len(rows) * len(columns), device=image.device).split(CHUNK):
        covered = rows[chosen // len(columns), :, None] & columns[chosen % len(columns), None]  # [n, H, W]
        drop = whole - ask(model, image.masked_fill(covered[:, None], 0.0))[:, target]
        # Under a window of mean colour nothing changes; rounding in a pass of another size would say otherwise.
        found.append(drop.where((covered & says_something).flatten(1).any(1), 0.0))
    return torch.cat(found).reshape(len(rows), len(columns))


def _spread(drops: Tensor, covering: int) -> Tensor:
    """Return for each cell the mean [N, h, w] over the windows that cover it."""
    kernel = drops.new_ones(1, 1, covering, covering)
    total = nn.functional.conv_transpose2d(drops[:, None], kernel)
    return (total / nn.functional.conv_transpose2d(torch.ones_like(drops[:1, None]), kernel))[:, 0]
