"""From raw maps to pictures: one scale for a row, colour tables safe for the colour-blind, and a hatch where there is no signal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pellucid.core.records import SMALLEST_GRID, Explanation, even_centres
from pellucid.measures.maps import to_size

LARGEST_SIDE = 64  # the most that the page stores of a map


@dataclass(frozen=True)
class Scale:
    """The colour scale that all maps of a row share.

    Attributes
    ----------
    low, high : float
        Values at the two ends of the colour table, in multiples of a map's own mean |value|.
    signed : bool
        True: ``RdBu_r`` with 0 in the middle. False: ``cividis``.
    """

    low: float
    high: float
    signed: bool

    @property
    def table(self) -> str:
        """Return the name of the colour table."""
        return "RdBu_r" if self.signed else "cividis"


@lru_cache
def colours(table: str) -> np.ndarray:
    """Return a colour table as uint8 [256, 3]; only ``cividis`` and ``RdBu_r`` are used in reports."""
    import matplotlib

    return (matplotlib.colormaps[table](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def relative(single: np.ndarray) -> np.ndarray:
    """Return a map in multiples of its own mean |value|.

    Two networks' activations have no common unit, so their raw values can't share a scale; their *spread over the image* can: 1 is
    what each place would get if the weight lay evenly, and a map that says little stays pale. Nothing is stretched to its own range.

    Parameters
    ----------
    single : float array [h, w]
        Raw and finite.

    Returns
    -------
    float32 array [h, w]
    """
    mean = float(np.abs(single).mean())
    return (single / mean if mean > 0 else single).astype(np.float32)


def drawn_shape(explanation: Explanation) -> tuple[int, int]:
    """Return the grid on which a map is drawn: its own, or where its cells don't lie evenly one twice as fine, which blurs little."""
    height, width = explanation.maps.shape[1:]
    even = explanation.centres in (None, even_centres((height, width)))
    return (height, width) if even else (2 * height, 2 * width)


def drawn(explanation: Explanation, row: int, most: int = LARGEST_SIDE) -> np.ndarray | None:
    """Return one map as it is drawn, cut evenly: float [h, w] in multiples of its own mean, at most `most` cells a side; None if it is dead."""
    one = explanation.some(slice(row, row + 1))
    if one.dead[0]:
        return None
    single = one.maps if (finer := drawn_shape(one)) == one.maps.shape[1:] else to_size(one.maps, finer, one.centres)
    return relative(pooled(single[0], most))


def common_scale(maps: Sequence[np.ndarray], *, signed: bool) -> Scale:
    """Return the scale of a row of relative maps (float [h, w] each): up to the largest of them, 0 in the middle where signed.

    An empty row (all maps dead) gets a scale from 0 to 1.
    """
    peak = max((float(np.abs(m).max()) for m in maps), default=1.0) or 1.0
    if signed:
        return Scale(-peak, peak, signed=True)
    low = min((float(m.min()) for m in maps), default=0.0)
    return Scale(min(low, 0.0), peak, signed=False)


def levels(single: np.ndarray, scale: Scale) -> np.ndarray:
    """Return a relative map [h, w] as places in the colour table, uint8 [h, w]; sides above 64 are averaged down."""
    single = pooled(single)
    share = (single - scale.low) / (scale.high - scale.low)
    return np.clip(np.rint(share * 255), 0, 255).astype(np.uint8)


def pooled(single: np.ndarray, most: int = LARGEST_SIDE) -> np.ndarray:
    """Return a map [h, w] with at most `most` cells a side: means over blocks of cells, so what speaks for and against still weighs up."""
    step = -(-max(single.shape) // most)
    return _block_mean(single, step) if step > 1 else single


def paint(places: np.ndarray, table: str, side: int) -> np.ndarray:
    """Return uint8 RGB [side, side, 3]: values interpolated bilinearly first, coloured second (pixel centres at half, as in the page)."""
    return colours(table)[_enlarge(places, side)]


def map_png(places: np.ndarray, table: str, side: int = LARGEST_SIDE) -> bytes:
    """Return a palette PNG of a map's places in the colour table, interpolated bilinearly to `side` pixels."""
    from PIL import Image

    picture = Image.fromarray(_enlarge(places, side), mode="P")
    picture.putpalette(colours(table).tobytes())
    return _encoded(picture, "PNG", optimize=True)


def overlay(image: np.ndarray, places: np.ndarray, table: str, *, opacity: float = 0.6) -> np.ndarray:
    """Lay a coloured map over the grey version of an image.

    Parameters
    ----------
    image : uint8 array [S, S, C]
    places : uint8 array [h, w]
        From :func:`levels`.
    table : str
        ``cividis`` or ``RdBu_r``.
    opacity : float
        Of the map.

    Returns
    -------
    uint8 array [S, S, 3]
    """
    grey = image.astype(np.float32).mean(2, keepdims=True)
    return (grey * (1 - opacity) + paint(places, table, image.shape[0]) * opacity).round().astype(np.uint8)


def hatched(side: int) -> np.ndarray:
    """Return uint8 RGB [side, side, 3]: the hatch that stands for a dead map."""
    rows, columns = np.mgrid[:side, :side]
    stripe = (rows + columns) % 12 < 3
    return np.where(stripe[..., None], np.uint8(150), np.uint8(226)).repeat(3, 2)


def picture_png(image: np.ndarray, *, most: int = 128) -> bytes:
    """Return an image uint8 [S, S, C] as PNG, at most `most` pixels a side."""
    return _encoded(_picture(image, most), "PNG", optimize=True)


def picture_jpeg(image: np.ndarray, *, most: int = 96, quality: int = 82) -> bytes:
    """Return an image uint8 [S, S, C] as JPEG thumbnail, at most `most` pixels a side."""
    return _encoded(_picture(image, most), "JPEG", quality=quality)


def outline(mask: np.ndarray) -> str:
    """Return the border of a bool mask [S, S] as an SVG path in pixel units, "" for an empty mask."""
    padded = np.pad(mask.astype(np.int8), 1)
    across = np.diff(padded, axis=0)[:, 1:-1] != 0  # [S + 1, S] horizontal edges above each row
    down = np.diff(padded, axis=1)[1:-1] != 0  # [S, S + 1] vertical edges left of each column
    lines = [f"M{start} {y}h{length}" for y, start, length in _runs(across)]
    lines += [f"M{x} {start}v{length}" for x, start, length in _runs(down.T)]
    return "".join(lines)


def grid_text(shape: tuple[int, ...]) -> str:
    """Print a map's grid: ``6x6``."""
    return f"{shape[-2]}x{shape[-1]}"


def drawn_text(shape: tuple[int, ...], most: int = LARGEST_SIDE) -> str:
    """Print a map's own grid and, where the page keeps a coarser one, that too: ``224x224, drawn at 56x56``."""
    step = -(-max(shape[-2:]) // most)
    kept = tuple(-(-side // step) for side in shape[-2:])
    return grid_text(shape) + (f", drawn at {grid_text(kept)}" if step > 1 else "")


def too_small(shape: tuple[int, ...]) -> bool:
    """Return whether a grid is below 6x6."""
    return min(shape[-2:]) < SMALLEST_GRID


def _runs(rows: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (row, start, length) of every run of True in a bool array."""
    edges = np.diff(np.pad(rows.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (row, start), (_, end) = np.nonzero(edges > 0), np.nonzero(edges < 0)  # row by row, so they pair up
    return list(zip(row.tolist(), start.tolist(), (end - start).tolist(), strict=True))


def _block_mean(single: np.ndarray, step: int) -> np.ndarray:
    height, width = (-(-side // step) * step for side in single.shape)
    padded = np.pad(single, ((0, height - single.shape[0]), (0, width - single.shape[1])), mode="edge")
    return padded.reshape(height // step, step, width // step, step).mean((1, 3))


def _enlarge(places: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    smooth = Image.fromarray(places.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    return np.clip(np.rint(np.asarray(smooth)), 0, 255).astype(np.uint8)


def _picture(image: np.ndarray, most: int) -> object:
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((most, most), Image.Resampling.LANCZOS)
    return picture


def _encoded(picture: object, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)  # type: ignore[attr-defined]
    return stream.getvalue()
