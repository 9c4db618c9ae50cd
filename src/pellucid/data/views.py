"""Views: the one path from stored pixels to what a network sees, in training, evaluation and prediction.

A view of an image is a pure function of (view seed, view number, image number): the same crop, flip and jitter in any order, any
batch and any process. Whole batches are warped at store size, then resized with antialiasing to each network's own size, so that
teacher and student always see the same view of the same image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.core.records import ImageSpec
from pellucid.core.rng import derive, uniform
from pellucid.data.dataset import Subset

LARGEST_ZOOM, LARGEST_TURN, LARGEST_SHIFT = 0.15, 10.0, 0.06  # share, degrees, share of the side
LARGEST_BRIGHTNESS, LARGEST_CONTRAST = 0.1, 0.2


@dataclass(frozen=True)
class Views:
    """How training images are varied.

    Attributes
    ----------
    seed : int
        Seed of all draws.
    parts : tuple of str
        Any of ``crop`` (zoom, small turn and shift), ``flip`` (left-right), ``jitter`` (brightness, contrast).
    """

    seed: int = 0
    parts: tuple[str, ...] = ("crop", "flip", "jitter")

    def draw(self, pixels: np.ndarray | Tensor, rows: np.ndarray, view: int) -> Tensor:
        """Return one view of each image.

        Parameters
        ----------
        pixels : uint8 [n, S, S, C]
            Stored pixels.
        rows : int64 array [n]
            The images' rows in the store: what the draws depend on, together with seed and view.
        view : int
            Number of the view, from 0.

        Returns
        -------
        float32 Tensor [n, C, S, S] in [0, 1]
        """
        images = as_float(pixels)
        numbers = uniform(derive(self.seed, "views"), rows[:, None], view, np.arange(7)[None, :])  # [n, 7]
        if "crop" in self.parts or "flip" in self.parts:
            grid = F.affine_grid(torch.from_numpy(self._affine(numbers)), list(images.shape), align_corners=False)
            # Bicubic, because bilinear blurs: a network would train on soft images and be tested on sharp ones. (Storing larger
            # than the networks' size keeps views sharper still.)
            images = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)
        if "jitter" in self.parts:
            signed = torch.from_numpy(2 * numbers[:, 5:7] - 1).float()[:, :, None, None, None]
            mean = images.mean((1, 2, 3), keepdim=True)
            images = (images - mean) * (1 + LARGEST_CONTRAST * signed[:, 0]) + mean * (1 + LARGEST_BRIGHTNESS * signed[:, 1])
            images = images.clamp(0, 1)
        return images

    def _affine(self, numbers: np.ndarray) -> np.ndarray:
        """Return float32 [n, 2, 3]: where each output pixel is read in the input."""
        signed = 2 * numbers - 1
        crop = float("crop" in self.parts)
        scale = 1 + crop * LARGEST_ZOOM * signed[:, 0]
        angle = crop * np.deg2rad(LARGEST_TURN) * signed[:, 1]
        shift = crop * 2 * LARGEST_SHIFT * signed[:, 2:4]
        flip = np.where((numbers[:, 4] < 0.5) & ("flip" in self.parts), -1.0, 1.0)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        rows = [np.stack([cos * flip, -sin, shift[:, 0]], 1), np.stack([sin * flip, cos, shift[:, 1]], 1)]
        return np.stack(rows, 1).astype(np.float32)


def as_float(pixels: np.ndarray | Tensor) -> Tensor:
    """Return stored pixels, uint8 [n, S, S, C], as float32 [n, C, S, S] in [0, 1]."""
    if not isinstance(pixels, Tensor):
        pixels = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
    return pixels.permute(0, 3, 1, 2).float().div(255)


def normalise(images: Tensor, spec: ImageSpec) -> Tensor:
    """Resize float32 [n, C, S, S] in [0, 1] to what one network wants to see.

    Returns
    -------
    float32 Tensor [n, spec.channels, spec.size, spec.size]
        Antialiased, minus mean, over std (the training split's, or each image's own).
    """
    if images.shape[1] != spec.channels:
        images = images.expand(-1, spec.channels, -1, -1) if images.shape[1] == 1 else images.mean(1, keepdim=True)
    if images.shape[-2:] != (spec.size, spec.size):
        images = F.interpolate(images, (spec.size, spec.size), mode=spec.interpolation, align_corners=False, antialias=True)
    if spec.normalise == "image":
        std, mean = torch.std_mean(images, (1, 2, 3), keepdim=True, correction=0)
        return (images - mean) / std.clamp_min(1e-3)  # an all-black image stays black instead of becoming noise
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (spec.mean, spec.std))
    return (images - mean) / std


def to_input(pixels: np.ndarray | Tensor, spec: ImageSpec) -> Tensor:
    """Return stored pixels, uint8 [n, S, S, C], as one network's input, unvaried: the path of evaluation and prediction."""
    return normalise(as_float(pixels), spec)


def batches(subset: Subset, spec: ImageSpec, batch_size: int = 64) -> Iterator[Tensor]:
    """Yield a subset's images in order as input of one network, float32 [<= batch_size, C, size, size]."""
    for start in range(0, len(subset), batch_size):
        yield to_input(subset[start : start + batch_size].pixels, spec)


@dataclass(frozen=True)
class Batch:
    """One training step's images: the same view, once for each network's spec.

    Attributes
    ----------
    inputs : list of float32 Tensor [n, C, size, size]
        In the order of the specs asked for.
    targets : int64 Tensor [n]
    positions : int64 array [n]
        Where in the training subset each image stands.
    view : int
        Number of the view.
    """

    inputs: list[Tensor]
    targets: Tensor
    positions: np.ndarray
    view: int


def epoch(subset: Subset, specs: Sequence[ImageSpec], views: Views, *, view: int, order: np.ndarray, batch_size: int) -> Iterator[Batch]:
    """Yield one epoch of training batches.

    Parameters
    ----------
    subset : Subset
        The training split.
    specs : sequence of ImageSpec
        The networks that will see each batch.
    views : Views
    view : int
        Number of the view all images of this epoch are seen in.
    order : int64 array
        Positions in the subset, in the order in which they come.
    batch_size : int
        The last batch may be smaller; a last batch of one joins the one before, since batch norm can't train on one image.
    """
    edges = list(range(0, len(order), batch_size))
    if len(edges) > 1 and len(order) - edges[-1] == 1:
        edges.pop()
    for start, stop in zip(edges, [*edges[1:], len(order)], strict=True):
        positions = order[start:stop]
        chosen = subset[positions]
        images = views.draw(chosen.pixels, chosen.rows, view)
        yield Batch([normalise(images, spec) for spec in specs], torch.from_numpy(chosen.targets), positions, view)
