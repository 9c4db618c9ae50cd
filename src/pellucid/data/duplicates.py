"""Pairs of images that show the same picture: byte for byte as stored, or nearly, also when flipped or turned by right angles.

Near duplicates are those whose grey values at 64 px correlate by at least a cut, in the best of the eight flips and turns. A perceptual
hash finds them without comparing all: the lowest cosine frequencies, as in pHash, but kept as numbers instead of bits, because
then Cauchy-Schwarz bounds the correlation from above and no pair is missed. A flip only changes signs of the frequencies and a turn
swaps their axes, so one transform of each image serves all eight.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.core.progress import track

SIDE = 64  # pixels at which pairs are compared
_LOW = 16  # lowest cosine frequencies per axis in the hash
_BLOCK = 256  # rows compared at once
_DENSE = 0.02  # share of candidates above which one matrix product is cheaper than pair by pair
_GATHER = 2048  # pairs confirmed at once
_KEPT = 200_000  # pairs listed at most, best first; the others are only counted
# How the second image has to be changed to look like the first: (swap axes, flip rows, flip columns).
TRANSFORMS = {
    "as is": (False, False, False),
    "mirrored": (False, False, True),
    "upside down": (False, True, False),
    "turned by 180": (False, True, True),
    "transposed": (True, False, False),
    "turned left": (True, True, False),
    "turned right": (True, False, True),
    "transposed and turned by 180": (True, True, True),
}


@dataclass(frozen=True)
class Pairs:
    """Pairs of images (a < b) with their correlation in the best of the eight flips and turns.

    Attributes
    ----------
    a, b : int64 arrays [P]
        Rows of the store.
    r : float32 array [P]
        Correlation at 64 px, descending.
    transform : int64 array [P]
        Which of TRANSFORMS makes b look like a.
    n : int
        How many pairs there are; more than P where only the best are listed.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    r: NDArray[np.float32]
    transform: NDArray[np.int64]
    n: int


def exact_copies(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return a number [N] for each image, the same for images whose stored pixels are the same.

    Parameters
    ----------
    images : uint8 array [N, S, S, C]
    """
    numbers: dict[bytes, int] = {}
    digests = (hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest() for image in images)
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], dtype=np.int64)


def near_copies(images: NDArray[np.uint8], copies: NDArray[np.int64], *, floor: float) -> Pairs:
    """Return all pairs, exact copies aside, that correlate by at least `floor` in one of the eight flips and turns.

    Parameters
    ----------
    images : uint8 array [N, S, S, C]
    copies : int64 array [N]
        From :func:`exact_copies`.
    floor : float
        Lowest correlation of interest, in (0, 1).

    Notes
    -----
    Memory is about 10 kB per image and a few blocks of 256 rows. Images of one grey value are like nothing.
    """
    pictures = _Pictures(images)
    found: list[tuple[NDArray[Any], ...]] = []
    total = 0
    for start in track(range(0, len(images), _BLOCK), "comparing images", each=_BLOCK):
        stop = min(start + _BLOCK, len(images))
        best, how = pictures.compare(start, stop, floor)
        later = np.arange(start, len(images))[None, :] > np.arange(start, stop)[:, None]
        same = copies[start:stop, None] == copies[None, start:]
        row, column = np.nonzero(later & ~same & (best >= floor))
        total += len(row)
        found.append((row + start, column + start, best[row, column], how[row, column].astype(np.int64)))
        if sum(len(part[0]) for part in found) > 2 * _KEPT:
            found = [_best(found)]
    a, b, r, transform = _best(found)
    return Pairs(a, b, r, transform, total)


class _Pictures:
    """Grey pictures of mean 0, so that products are correlations up to scale, with their hash and how much it leaves out."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        from scipy.fft import dctn

        # Kept as int16 over the full range: half the memory of float32, as fast to turn into it, and exact to 0.0001.
        self.values = np.zeros((len(images), SIDE, SIDE), dtype=np.int16)
        self.scale = np.zeros(len(images), dtype=np.float32)
        self.low = np.zeros((len(images), _LOW, _LOW), dtype=np.float32)
        for start in range(0, len(images), _BLOCK):
            rows = slice(start, start + _BLOCK)
            grey = np.stack([_grey(image) for image in images[rows]]).astype(np.float32)
            grey -= grey.mean((1, 2), keepdims=True)
            largest = np.abs(grey).max((1, 2))
            self.values[rows] = np.rint(grey * np.where(largest > 0, 32767 / np.maximum(largest, 1e-6), 0)[:, None, None])
            length = np.linalg.norm(self.numbers(rows), axis=(1, 2))
            self.scale[rows] = np.where(length > 0, 1 / np.maximum(length, 1), 0)
            unit = self.numbers(rows) * self.scale[rows, None, None]
            self.low[rows] = dctn(unit, axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW]
        self.rest = np.sqrt(np.maximum(0, 1 - np.square(self.low).sum((1, 2)))) * (self.scale > 0)  # [N]

    def __len__(self) -> int:
        return len(self.values)

    def numbers(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Return pictures [n, 64, 64] of mean 0; times `scale` their length is 1."""
        return self.values[rows].astype(np.float32)

    def compare(self, start: int, stop: int, floor: float) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return the best correlation of rows start to stop with all rows from start on, and its transform (-1 below floor)."""
        shape = (stop - start, len(self) - start)
        best, how = np.full(shape, -1, dtype=np.float32), np.full(shape, -1, dtype=np.int8)
        own = self.low[start:stop].reshape(stop - start, -1)
        needed = floor - 1e-5 - self.rest[start:stop, None] * self.rest[None, start:]
        for number, change in enumerate(TRANSFORMS.values()):
            bound = own @ _change_frequencies(self.low[start:], change).reshape(shape[1], -1).T
            row, column = np.divmod(np.flatnonzero(bound >= needed), shape[1])
            if not len(row):
                continue
            dense = len(row) > _DENSE * bound.size
            r = self._all(start, stop, change)[row, column] if dense else self._some(row + start, column + start, change)
            better = r > best[row, column]
            row, column = row[better], column[better]
            best[row, column], how[row, column] = r[better], number
        return best, how

    def _all(self, start: int, stop: int, change: tuple[bool, bool, bool]) -> NDArray[np.float32]:
        # The change is undone on the few rows of this side instead of being made on all of the other.
        own = np.ascontiguousarray(_change(self.numbers(slice(start, stop)), _inverse(change))).reshape(stop - start, -1)
        blocks = (self.numbers(slice(first, first + _BLOCK)) for first in range(start, len(self), _BLOCK))
        r = np.concatenate([own @ block.reshape(len(block), -1).T for block in blocks], axis=1)
        return r * self.scale[start:stop, None] * self.scale[None, start:]

    def _some(self, a: NDArray[np.int64], b: NDArray[np.int64], change: tuple[bool, bool, bool]) -> NDArray[np.float32]:
        r = np.zeros(len(a), dtype=np.float32)
        for first in range(0, len(a), _GATHER):
            part = slice(first, first + _GATHER)
            r[part] = np.einsum("nhw,nhw->n", self.numbers(a[part]), _change(self.numbers(b[part]), change))
        return r * self.scale[a] * self.scale[b]


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image [S, S, C] as grey [64, 64], without aliasing: fine texture that doesn't fit would differ from copy to copy."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0]) if image.shape[2] == 1 else Image.fromarray(image).convert("L")
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _change(pictures: NDArray[np.float32], change: tuple[bool, bool, bool]) -> NDArray[np.float32]:
    swap, rows, columns = change
    pictures = pictures.swapaxes(1, 2) if swap else pictures
    return pictures[:, :: -1 if rows else 1, :: -1 if columns else 1]


def _inverse(change: tuple[bool, bool, bool]) -> tuple[bool, bool, bool]:
    """Return the change that undoes one: only quarter turns are not their own inverse."""
    swap, rows, columns = change
    return (swap, columns, rows) if swap else change


def _change_frequencies(low: NDArray[np.float32], change: tuple[bool, bool, bool]) -> NDArray[np.float32]:
    """Return the frequencies of the changed pictures: mirrored cosines of odd order change sign."""
    swap, rows, columns = change
    odd = np.where(np.arange(low.shape[1]) % 2, -1, 1).astype(np.float32)
    low = low.swapaxes(1, 2) if swap else low
    low = low * odd[None, :, None] if rows else low
    return low * odd[None, None, :] if columns else low


def _best(found: list[tuple[NDArray[Any], ...]]) -> tuple[NDArray[Any], ...]:
    """Join lists of pairs, the best first, and drop what is beyond the limit."""
    if not found:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, np.zeros(0, dtype=np.float32), empty
    a, b, r, transform = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((b, a, -r))[:_KEPT]
    return a[order], b[order], r[order], transform[order]
