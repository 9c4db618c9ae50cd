"""Pixels that were taken away, filled in from those around them: noisy linear imputation (ROAD)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

STRAIGHT, DIAGONAL = 1 / 6, 1 / 12  # weights of the eight neighbours, which add up to 1
AHEAD = ((0, 1, STRAIGHT), (1, -1, DIAGONAL), (1, 0, STRAIGHT), (1, 1, DIAGONAL))  # the four that come later in reading order
NARROW = 128  # a system with a band no wider than this is solved faster as a band than by nested dissection
_LEAF = 16


def impute(images: Tensor, kept: Tensor, *, noise: Tensor | None = None) -> Tensor:
    """Fill pixels that were taken away with the weighted mean of their neighbours, those that were taken away too among them.

    Every removed pixel is a sixth of each neighbour beside, above and below it and a twelfth of each diagonal one; at the border the
    weights that are left are scaled to add up to 1. That is one sparse linear system for each mask, symmetric and positive definite,
    factorised once for all channels, and for all images that share the mask.

    Parameters
    ----------
    images : float Tensor [N, C, H, W]
    kept : bool Tensor [N, H, W]
        True where a pixel stays; at least one of each image.
    noise : float Tensor or None
        Added to the removed pixels; anything that broadcasts to the images' shape. Without it they are so smooth that a network may
        read the mask off them.

    Returns
    -------
    float Tensor [N, C, H, W]
        On the images' device, of their type; solved in float64 on the CPU.

    Raises
    ------
    ValueError
        An image keeps no pixel, or there isn't one mask of its size for each.

    Source
    ------
    Rong et al. 2022 (arXiv 2202.00449), noisy linear imputation.

    Examples
    --------
    >>> image = torch.tensor([[[[0.0, 9.0, 2.0]]]])
    >>> impute(image, torch.tensor([[[True, False, True]]]))
    tensor([[[[0., 1., 2.]]]])
    """
    import torch

    if kept.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"masks of shape {list(kept.shape)} don't fit images of shape {list(images.shape)}.")
    masks = kept.bool().cpu().numpy()
    if not masks.any((1, 2)).all():
        raise ValueError("an image keeps no pixel, so there is nothing to fill it in from.")
    pixels = images.detach().double().cpu().numpy()
    alike: dict[bytes, list[int]] = {}
    for number, mask in enumerate(masks):
        alike.setdefault(mask.tobytes(), []).append(number)
    filled = pixels.copy()
    for numbers in alike.values():
        removed = ~masks[numbers[0]]
        if removed.any():
            filled[numbers] = _filled(pixels[numbers], removed)
    found = torch.from_numpy(filled).to(images)
    return found if noise is None else torch.where(kept.bool()[:, None], found, found + noise)


def _filled(images: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Return images [n, C, H, W] with the pixels of one mask [H, W] filled in."""
    channels = images.reshape(-1, *removed.shape)
    known = _around(channels * ~removed)[:, removed].T  # [removed, n * C]
    weight = _around(np.ones(removed.shape))[removed]  # below 1 at the border
    filled = channels.copy()
    filled[:, removed] = _solved(removed, weight, known).T
    return filled.reshape(images.shape)


def _around(maps: np.ndarray) -> np.ndarray:
    """Return the weighted sum of each pixel's eight neighbours, 0 beyond the border [..., H, W]."""
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(1, 1), (1, 1)])
    across = 2 * padded[..., 1:-1] + padded[..., :-2] + padded[..., 2:]
    return (2 * across[..., 1:-1, :] + across[..., :-2, :] + across[..., 2:, :] - 4 * maps) * DIAGONAL


def _solved(removed: np.ndarray, weight: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Solve ``weight * u - sum of removed neighbours' w u = known`` for the removed pixels, in reading order."""
    rows, columns, ahead = _neighbours(removed, np.cumsum(removed).reshape(removed.shape) - 1)
    width = int((columns - rows).max(initial=0))
    return (_by_band if width <= NARROW else _by_dissection)(removed, weight, known, (rows, columns, ahead), width)


def _neighbours(removed: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return number, neighbour's number and weight of each pair of removed pixels, once."""
    height, width = removed.shape
    first, second, weights = [], [], []
    for down, across, weight in AHEAD:
        here = np.s_[: height - down, max(0, -across) : width - max(0, across)]
        there = np.s_[down:, max(0, across) : width + min(0, across)]
        both = removed[here] & removed[there]
        first.append(number[here][both])
        second.append(number[there][both])
        weights.append(np.full(len(first[-1]), weight))
    return np.concatenate(first), np.concatenate(second), np.concatenate(weights)


def _by_band(
    removed: np.ndarray, weight: np.ndarray, known: np.ndarray, pairs: tuple[np.ndarray, np.ndarray, np.ndarray], width: int
) -> np.ndarray:
    """Solve by Cholesky's factors of a band, which is as wide as a row of the mask."""
    from scipy.linalg import solveh_banded

    rows, columns, ahead = pairs
    band = np.zeros((len(weight), width + 1))
    band[:, 0] = weight
    band[rows, columns - rows] = -ahead
    return solveh_banded(band.T, known, lower=True, overwrite_ab=True, overwrite_b=True, check_finite=False)


def _by_dissection(
    removed: np.ndarray, weight: np.ndarray, known: np.ndarray, pairs: tuple[np.ndarray, np.ndarray, np.ndarray], width: int
) -> np.ndarray:
    """Solve by sparse factors, in an order that halves the grid again and again and leaves what lies between to the end."""
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    rows, columns, ahead = pairs
    n = len(weight)
    order = np.argsort(_dissection(*removed.shape)[removed])
    place = np.empty(n, np.int32)
    place[order] = np.arange(n, dtype=np.int32)
    rows, columns, diagonal = place[rows], place[columns], np.arange(n, dtype=np.int32)
    values = np.concatenate([-ahead, -ahead, weight[order]])
    matrix = csc_matrix(
        (values, (np.concatenate([rows, columns, diagonal]), np.concatenate([columns, rows, diagonal]))), shape=(n, n)
    )  # fmt: skip
    factors = splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0, panel_size=2, options={"SymmetricMode": True, "Equil": False})
    solution = np.empty_like(known)
    solution[order] = factors.solve(np.ascontiguousarray(known[order]))
    return solution


@lru_cache(maxsize=4)
def _dissection(height: int, width: int) -> np.ndarray:
    """Return each pixel's place in the order of elimination, int64 [H, W]: nested dissection (George 1973)."""
    order = np.empty((height, width), np.int64)
    done = 0
    waiting: list[tuple[slice, slice, bool]] = [(slice(0, height), slice(0, width), False)]
    while waiting:
        down, across, whole = waiting.pop()
        tall, wide = down.stop - down.start, across.stop - across.start
        if whole or tall * wide <= _LEAF:
            order[down, across] = done + np.arange(tall * wide).reshape(tall, wide)
            done += tall * wide
        elif wide >= tall:
            middle = (across.start + across.stop) // 2
            waiting.append((down, slice(middle, middle + 1), True))
            waiting += [(down, slice(across.start, middle), False), (down, slice(middle + 1, across.stop), False)]
        else:
            middle = (down.start + down.stop) // 2
            waiting.append((slice(middle, middle + 1), across, True))
            waiting += [(slice(down.start, middle), across, False), (slice(middle + 1, down.stop), across, False)]
    return order
