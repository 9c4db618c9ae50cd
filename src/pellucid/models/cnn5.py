"""The shallow student: a few plain convolution layers, each readable as a picture."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.core.registry import part

PRESETS = {"paper": (16, 32, 64, 104, 264), "small": (8, 16, 32, 64, 128)}
SMALLEST_POOLED_SIDE = 7  # a map below about 6x6 says too little about where a network looks


class Cnn5(nn.Module):
    """Convolution layers ``layer1``, ``layer2``, ... (3x3 convolution, batch norm, ReLU), global average pool, linear head.

    Parameters
    ----------
    widths : sequence of int
        Channels of each layer.
    n_classes, channels : int
        Outputs, and channels of the image.
    size : int
        Side of the image in pixels. A 2x2 max pool stands between two layers as long as the pooled side stays >= 7.
    """

    def __init__(self, widths: tuple[int, ...], *, n_classes: int, channels: int, size: int) -> None:
        super().__init__()
        side = size
        self.steps = ["layer1"]  # what `forward` runs, in order
        for index, (before, after) in enumerate(pairwise((channels, *widths)), 1):
            layer = nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            if index > 1:
                if side // 2 >= SMALLEST_POOLED_SIDE:
                    side //= 2
                    self.add_module(f"pool{index - 1}", nn.MaxPool2d(2))
                    self.steps.append(f"pool{index - 1}")
                self.steps.append(f"layer{index}")
            self.add_module(f"layer{index}", layer)
        self.head = nn.Linear(widths[-1], n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of images [N, C, H, W]."""
        maps = images
        for step in self.steps:
            maps = self.get_submodule(step)(maps)
        return self.head(maps.mean((2, 3)))


@part()
def cnn5(
    *,
    n_classes: int,
    channels: int,
    size: int,
    preset: Literal["paper", "small"] = "paper",
    widths: list[int] | None = None,
    depth: int | None = None,
) -> nn.Module:
    """Shallow student of three to eight convolution layers, five by default.

    Parameters
    ----------
    n_classes, channels, size : int
        Outputs; channels and side (px) of the image.
    preset : str
        ``paper``: widths 16 32 64 104 264, whose multiply-adds at 224 px come nearest to the paper's 232.70M.
        ``small``: widths 8 16 32 64 128.
    widths : list of int or None
        Channels of each layer, in place of the preset's.
    depth : int or None
        Number of layers, in place of five: widths then double from the preset's first (16, or 8) up to 256 (or 128).

    Returns
    -------
    nn.Module
        Maps images [N, C, H, W] to logits [N, K].

    Raises
    ------
    SettingError
        Both `widths` and `depth` are given, or there would be fewer than 3 or more than 8 layers.

    Source
    ------
    arXiv 2502.15959 (five layers, max pooling, a map from each). The paper gives no widths; these are ours.

    Examples
    --------
    >>> sum(p.numel() for p in cnn5(n_classes=4, channels=3, size=224).parameters())
    332500
    """
    if widths is not None and depth is not None:
        raise SettingError("cnn5: widths and depth are both set. Leave one out: the number of widths is the depth.", setting="depth")
    count = len(widths) if widths is not None else depth if depth is not None else 5
    if not 3 <= count <= 8:
        raise SettingError(f"cnn5: {count} layers. It can have 3 to 8.", setting="depth" if widths is None else "widths")
    if widths is not None and min(widths) < 1:
        raise SettingError(f"cnn5: widths = {widths}. Each layer needs at least one channel.", setting="widths")
    if depth is not None:
        first, cap = (16, 256) if preset == "paper" else (8, 128)
        widths = [min(first * 2**index, cap) for index in range(depth)]
    return Cnn5(tuple(widths or PRESETS[preset]), n_classes=n_classes, channels=channels, size=size)
