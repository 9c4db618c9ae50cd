"""The store: every image decoded once to a square of uint8, kept memory-mapped, and found again by what went into it."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np

from pellucid.core import files
from pellucid.core.errors import DataError, UnreadableError, listing
from pellucid.core.fingerprint import fingerprint
from pellucid.core.progress import track
from pellucid.core.settings import DataSettings
from pellucid.core.workspace import Workspace
from pellucid.data import images
from pellucid.data.dataset import Dataset

VERSION = 1  # raised by hand when the same files give other pixels
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Store:
    """Decoded images, row by row as in the dataset that came with them.

    Attributes
    ----------
    images : uint8 memory map [N, S, S, C]
    masks : uint8 memory map [N, S, S] of 0 and 1, or None
        All 0 where an image has no mask; None where no image of the dataset has one.
    """

    images: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Return the side S in pixels."""
        return int(self.images.shape[1])

    @property
    def channels(self) -> int:
        """Return 1 (grey) or 3 (RGB)."""
        return int(self.images.shape[3])


class _Square(NamedTuple):
    pixels: np.ndarray  # uint8 [S, S] or [S, S, 3]
    mask: np.ndarray | None  # bool [S, S]


def open_store(dataset: Dataset, settings: DataSettings, workspace: Workspace) -> tuple[Dataset, Store]:
    """Return the dataset's readable images with their stored pixels; they are decoded only the first time.

    Parameters
    ----------
    dataset : Dataset
    settings : DataSettings
        ``size``, ``fit``, ``channels``, ``window`` and ``on_error``.
    workspace : Workspace
        Holds the store, under the fingerprint of the dataset's content and these settings.

    Returns
    -------
    (Dataset, Store)
        Row i of both is the same image. Images left out stand in ``dataset.skipped``.

    Raises
    ------
    UnreadableError
        Images can't be decoded and ``on_error`` is ``stop``, or none can. ``.files`` holds all of them.
    DataError
        Grey and RGB images are mixed and ``channels`` is ``auto``.
    StorageError
        The disk is full or the workspace can't be written. Nothing is left behind.
    """
    key = key_of(dataset, settings)
    with workspace.lock("stores", key) as folder:
        found = _load(folder)
        if found is None:
            shutil.rmtree(folder, ignore_errors=True)  # a store that lost a file since it was written
            files.write_folder(folder, lambda aside: _fill(aside, dataset, settings), kind="store")
            found = _load(folder)
            assert found is not None, "a store just written can be read"
    store, facts = found
    if facts["skipped"]:
        if settings.on_error == "stop":
            raise _unreadable(dataset, facts["skipped"])
        dataset = replace(dataset.keep(np.array(facts["kept"])), skipped=facts["skipped"])
    return dataset, store


def key_of(dataset: Dataset, settings: DataSettings) -> str:
    """Return the fingerprint of all that decides the stored pixels."""
    window = list(settings.window) if settings.window else None
    return fingerprint("store", VERSION, dataset.content, dataset.ids, settings.size, settings.fit, settings.channels, window)


def _load(folder: Path) -> tuple[Store, dict[str, Any]] | None:
    """Open a store, or return None where there is none that is whole."""
    try:
        facts = files.read_json(folder / "store.json")
        images_ = np.load(folder / "images.npy", mmap_mode="r")
        masks = np.load(folder / "masks.npy", mmap_mode="r") if facts["masks"] else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, EOFError):
        return None
    n = len(facts["kept"])
    return (Store(images_, masks), facts) if len(images_) == n and (masks is None or len(masks) == n) else None


def _fill(folder: Path, dataset: Dataset, settings: DataSettings) -> None:
    """Decode all images into `folder`, in order, holding only a few at a time."""
    skipped: dict[str, str] = {}
    kept: list[int] = []
    grey: list[str] = []
    colour: list[str] = []
    with_masks = dataset.read_mask is not None or any(box is not None for box in dataset.boxes)
    workers = min(4, os.cpu_count() or 1)

    def square(i: int) -> _Square | str:
        try:
            return _square(dataset, i, settings)
        except ValueError as error:
            return str(error)

    with (
        ThreadPoolExecutor(workers) as pool,
        (folder / "images.npy").open("wb") as images_,
        (folder / "masks.npy").open("wb") as masks,
    ):
        shape: tuple[int, ...] = ()
        results = track(_ahead(pool, square, range(len(dataset)), 4 * workers), "decoding images", total=len(dataset))
        for i, result in enumerate(results):
            if isinstance(result, str):
                skipped[dataset.ids[i]] = result
                continue
            (grey if result.pixels.ndim == 2 else colour).append(dataset.ids[i])
            pixels = result.pixels[:, :, None] if result.pixels.ndim == 2 else result.pixels
            if not shape:
                shape = pixels.shape
                _write_header(images_, (len(dataset), *shape))
                _write_header(masks, (len(dataset), *shape[:2]))
            if pixels.shape == shape:
                images_.write(pixels.tobytes())
                masks.write(np.zeros(shape[:2], np.uint8).tobytes() if result.mask is None else result.mask.astype(np.uint8).tobytes())
            kept.append(i)
        if skipped and (settings.on_error == "stop" or not kept):
            raise _unreadable(dataset, skipped)
        if grey and colour:
            raise _mixed(grey, colour)
        _finish(images_, (len(kept), *shape))
        _finish(masks, (len(kept), *shape[:2]))
    if not with_masks:
        (folder / "masks.npy").unlink()
    facts = {"version": VERSION, "source": dataset.source, "kept": kept, "skipped": skipped, "masks": with_masks}
    files.write_json(folder / "store.json", facts)


def _square(dataset: Dataset, i: int, settings: DataSettings) -> _Square:
    array = dataset.read(i)
    mask = dataset.read_mask(i) if dataset.read_mask is not None else None
    if mask is not None:
        if mask.shape != array.shape[:2]:
            raise ValueError(f"mask is {mask.shape[1]}x{mask.shape[0]}, image {array.shape[1]}x{array.shape[0]} pixels")
        mask = images.fit_mask(mask, settings.size, settings.fit)
    elif dataset.boxes and (box := dataset.boxes[i]) is not None:
        mask = images.fit_box(box, array.shape, settings.size, settings.fit)
    pixels = images.fit(array, settings.size, settings.fit, settings.window)
    if settings.channels != "auto":
        pixels = images.to_grey(pixels) if settings.channels == "grey" else images.to_rgb(pixels)
    return _Square(pixels, mask)


def _ahead(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Iterator[Result]:
    """Map in order with at most `depth` results waiting; the pool's own map would hold all of them."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_header(stream: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _finish(stream: IO[bytes], shape: tuple[int, ...]) -> None:
    """Put the number of images that were really kept into the header, and all of it on disk."""
    stream.seek(0)
    _write_header(stream, shape)  # NumPy pads headers so that the first axis can grow or shrink in place
    stream.flush()
    os.fsync(stream.fileno())


def _unreadable(dataset: Dataset, reasons: dict[str, str]) -> UnreadableError:
    shown = [f"{name}: {reason}" for name, reason in list(reasons.items())[:5]]
    more = len(reasons) - len(shown)
    which = "; ".join(shown) + (f"; and {more:,} more" if more else "")
    if len(reasons) == len(dataset):
        return UnreadableError(f"{dataset.name}: none of {len(dataset):,} images can be read ({which}).", files=reasons)
    return UnreadableError(
        f'{dataset.name}: {len(reasons):,} of {len(dataset):,} images can\'t be read ({which}). Mend or remove them, or set data.on_error = "skip".',
        files=reasons,
    )


def _mixed(grey: list[str], colour: list[str]) -> DataError:
    few = min((grey, colour), key=len)
    counts = [
        f"{len(names):,} {kind}" + (f" ({listing(names, show=3)})" if names is few else "")
        for names, kind in ((grey, "grey"), (colour, "RGB"))
    ]
    return DataError(f'data.channels: {" and ".join(counts)} images are mixed. Set data.channels = "grey" or "rgb".')
