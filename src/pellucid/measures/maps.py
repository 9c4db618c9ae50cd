"""What judges do to raw maps before they measure: evidence, size, shares of area, and maps that know nothing.

All functions take and give NumPy arrays [N, h, w] and treat every map by itself, so the result for one map
doesn't depend on the others beside it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pellucid.core.records import SMALLEST_GRID, even_centres
from pellucid.core.rng import derive, uniform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pellucid.core.records import Centres, Explanation

CONTROLS = ("random_smooth", "centre_prior")


def too_coarse(maps: np.ndarray) -> str:
    """Return ``not judged: grid 3x3`` where the maps' grid is below 6x6, else an empty text."""
    height, width = maps.shape[1:]
    return f"not judged: grid {height}x{width}" if min(height, width) < SMALLEST_GRID else ""


def evidence(explanation: Explanation) -> np.ndarray:
    """Return maps that are nowhere negative, as a share of evidence must be.

    Class methods give their positive part. A map without a class has no zero of its own (a feature's mean may be anything), so each
    is shifted to begin at 0.

    Returns
    -------
    float64 array [N, h, w]
        NaN where the raw map is.
    """
    maps = explanation.positive().astype(np.float64)
    return maps if explanation.signed else maps - maps.min((1, 2), keepdims=True)


def readable(explanation: Explanation, which: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the evidence of some of the maps, NaN as 0, float64 [n, h, w]; only those are copied, for maps as large as images are many."""
    return np.nan_to_num(evidence(explanation.some(which)))


def to_unit(maps: np.ndarray) -> np.ndarray:
    """Return each map scaled so that its smallest value is 0 and its largest 1 (min-max); constant maps become 0."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    spread = np.where(high > low, high - low, 1.0)
    return (maps - low) / spread


def to_size(maps: np.ndarray, size: tuple[int, int], centres: Centres | None = None) -> np.ndarray:
    """Return maps at (H, W), bilinear between cell centres; averaged over the covered area where that is smaller.

    Parameters
    ----------
    maps : float array [N, h, w]
    size : (H, W)
    centres : Centres or None
        Where the cells look (:attr:`~pellucid.core.records.Explanation.centres`); None where the map is cut evenly.

    Returns
    -------
    float32 array [N, H, W]
        Beyond the outermost centres the outermost cells go on.
    """
    import torch
    from torch.nn.functional import interpolate

    if centres not in (None, even_centres(maps.shape[1:])):
        for axis, new in enumerate(size):
            maps = _between(maps, axis + 1, new, *centres[axis])
        return maps.astype(np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    if min(tensor.shape) == 0:
        return np.zeros((len(maps), *size), np.float32)
    return interpolate(tensor, size=size, mode="bilinear", align_corners=False, antialias=True)[:, 0].numpy()


def pool_by_area(maps: np.ndarray, grid: tuple[int, int], centres: Centres | None = None) -> np.ndarray:
    """Return maps on a grid that is cut evenly; every cell is the mean over the area it covers, parts of cells counted as parts.

    Parameters
    ----------
    maps : float array [N, h, w]
    grid : (H, W)
        No finer than the maps.
    centres : Centres or None
        As of :func:`to_size`: cells meet halfway between their centres.

    Examples
    --------
    >>> pool_by_area(np.array([[[0.0, 3.0, 6.0]]]), (1, 2))
    array([[[1., 5.]]])
    """
    places: Sequence[tuple[float, float] | None] = centres or (None, None)
    down, across = (_overlap(old, new, at) for old, new, at in zip(maps.shape[1:], grid, places, strict=True))
    return np.einsum("ah,nhw,bw->nab", down, maps.astype(np.float64), across, optimize=True)


def top_share(maps: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """Return how far each cell belongs to the map's top `share` of cells: 1, 0, or a part where ties straddle the cut.

    A rectified map is 0 over much of its area, so the cut often falls among equal values. Then all of them belong by the same part,
    which makes the result independent of the order of pixels, and the memberships still add up to the wanted area.

    Parameters
    ----------
    maps : float array [N, h, w]
    share : float or float array [N]
        Share of the cells to keep, 0 to 1; rounded to whole cells, but never to none.

    Returns
    -------
    float64 array [N, h, w]
        Adds up to ``max(1, round(share * h * w))`` for each map.
    """
    cells = math.prod(maps.shape[1:])
    flat = maps.reshape(len(maps), cells)  # not -1: there may be no maps at all
    wanted = np.maximum(1, np.rint(np.broadcast_to(share, len(maps)) * cells)).astype(np.int64)
    cut = np.take_along_axis(np.sort(flat, axis=1), (cells - wanted)[:, None], axis=1)
    above, equal = flat > cut, flat == cut
    part = (wanted - above.sum(1)) / np.maximum(equal.sum(1), 1)
    return (above + equal * part[:, None]).reshape(maps.shape)


def standing(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many cells of its map lie above each cell, and how many are equal to it, itself among them.

    For any wanted number of cells, ``clip((wanted - above) / equal, 0, 1)`` is how far each belongs to the map's top, as in
    :func:`top_share`: sorted once for all of them.

    Returns
    -------
    above, equal : int64 arrays [N, h, w]

    Examples
    --------
    >>> standing(np.array([[[0.5, 2.0, 0.5]]]))
    (array([[[1, 0, 1]]]), array([[[2, 1, 2]]]))
    """
    above, equal = np.empty((2, *maps.shape), np.int64)
    for number, one in enumerate(maps):
        _, place, counts = np.unique(one.ravel(), return_inverse=True, return_counts=True)
        above[number] = (one.size - np.cumsum(counts))[place].reshape(one.shape)
        equal[number] = counts[place].reshape(one.shape)
    return above, equal


def centre_prior(n: int, size: tuple[int, int]) -> np.ndarray:
    """Return n times the map of someone who always looks at the middle: a Gaussian, sigma a quarter of the side [n, H, W]."""
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in size)
    one = np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * 0.25**2))
    return np.repeat(one[None], n, axis=0)


def random_smooth(rows: np.ndarray, size: tuple[int, int], *, seed: int = 0, grid: int = 7) -> np.ndarray:
    """Return maps of noise as smooth as a class map usually is: uniform values on a 7x7 grid, bilinear.

    Parameters
    ----------
    rows : int array [N]
        The images' numbers. Image 17 gets the same noise whichever images stand beside it.
    size : (H, W)
    seed, grid : int

    Returns
    -------
    float32 array [N, H, W]
    """
    cells = np.arange(grid)
    noise = uniform(derive(seed, "random smooth map"), np.asarray(rows)[:, None, None], cells[:, None], cells)
    return to_size(noise, size)


def control(name: str, rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the maps [N, H, W] of one of `CONTROLS`, which know nothing of the image."""
    return random_smooth(rows, size) if name == "random_smooth" else centre_prior(len(rows), size)


def _overlap(old: int, new: int, centres: tuple[float, float] | None) -> np.ndarray:
    """Return float64 [new, old]: the share of each new cell that each old cell covers; rows add up to 1."""
    first, step = centres or (0.5 / old, 1 / old)
    edges_old, edges_new = first + (np.arange(old + 1) - 0.5) * step, np.arange(new + 1) / new
    edges_old[[0, -1]] = min(edges_old[0], 0.0), max(edges_old[-1], 1.0)  # the outermost cells reach to the image's border
    low = np.maximum(edges_new[:-1, None], edges_old[None, :-1])
    high = np.minimum(edges_new[1:, None], edges_old[None, 1:])
    return np.maximum(high - low, 0.0) * new


def _between(maps: np.ndarray, axis: int, new: int, first: float, step: float) -> np.ndarray:
    """Return maps with `new` cells along an axis, cut evenly, each linear between the two old ones whose centres it lies between."""
    place = np.clip(((np.arange(new) + 0.5) / new - first) / step, 0, maps.shape[axis] - 1)
    low = np.floor(place).astype(int)
    high, share = np.ceil(place).astype(int), (place - low).reshape([-1 if other == axis else 1 for other in range(3)])
    return np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share


def doubt(explanation: Explanation, which: np.ndarray | None = None) -> str:
    """Say how many maps that aren't dead are one of many their method could have given, "" where none is; `which` are positions looked at."""
    if explanation.doubtful is None:
        return ""
    doubtful = (explanation.doubtful & ~explanation.dead)[slice(None) if which is None else which]
    return f"; {int(doubtful.sum())} of {len(doubtful)} maps doubtful: another direction is nearly as strong" if doubtful.any() else ""
