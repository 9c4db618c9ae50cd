"""A folder whose subfolders are the classes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pellucid.core.errors import SourceError, listing
from pellucid.core.registry import part
from pellucid.core.settings import DataSettings
from pellucid.data import table
from pellucid.data.dataset import Dataset
from pellucid.data.sources import manifest
from pellucid.data.split import SPELLINGS

_SIDES = {spelling: side for side, spellings in SPELLINGS.items() for spelling in spellings}
_NOT_IMAGES = {"thumbs.db", "desktop.ini", "__macosx"}


@part(folder=True)
def folder(path: Path, settings: DataSettings) -> Dataset:
    """Images in one folder per class, perhaps under train, val and test folders.

    A folder with a ``manifest.csv`` on top is read by that instead. Every file in a class folder (at any depth) is taken
    for an image, but for hidden ones: what can't be read is listed when it is decoded, not silently passed over.

    Parameters
    ----------
    path : Path
    settings : DataSettings

    Returns
    -------
    Dataset
        ``columns["split"]`` holds ``train``, ``val`` or ``test`` where the folders say so (also Training, Testing, ...).

    Raises
    ------
    SourceError
        No images, no class folders, or only one class.
    """
    if (path / "manifest.csv").is_file():
        return manifest.manifest(path / "manifest.csv", settings)
    rows = rows_of(_files(path), name=f"{path.name}/")
    return manifest.from_disk(rows, path, settings.model_copy(update={"path": "path"}), name=path.name, kind="folder")


def rows_of(paths: Iterable[str], *, name: str) -> list[table.Row]:
    """Return one row (path, label and, where the folders say so, split) for each file in a class folder.

    Parameters
    ----------
    paths : iterable of str
        Relative, with forward slashes.
    name : str
        What the source is called in messages.
    """
    steps = sorted((PurePosixPath(path).parts for path in paths if not _ignored(path)), key=lambda parts: "/".join(parts))
    if not steps:
        raise SourceError(f"{name}: holds no images.")
    inside = [parts for parts in steps if len(parts) > 1]
    if not inside:
        raise SourceError(f"{name}: holds {len(steps):,} files but no class folders. Put each class into a folder of its name, or write a manifest.csv (path, label).")  # fmt: skip
    depth = 0
    while _wraps(inside, depth):
        depth += 1
    deep = [parts for parts in inside if len(parts) > depth + 2]
    sides = {_SIDES[parts[depth].lower()] for parts in deep if parts[depth].lower() in _SIDES}
    others = sorted({parts[depth] for parts in inside if parts[depth].lower() not in _SIDES})
    if len(sides) > 1 and others:
        raise SourceError(f'{name}: holds split folders ({", ".join(sorted(sides))}) and others beside them: {listing(others)}. Move the others away, or write a manifest.csv (path, label, split).')  # fmt: skip
    if len(sides) > 1:
        inside = deep  # loose files beside the class folders are passed over here as they are on top
    if all(parts[depth].lower() in _SIDES and len(parts) > depth + 2 for parts in inside):
        return [{"path": "/".join(p), "label": p[depth + 1], "split": _SIDES[p[depth].lower()]} for p in inside]
    return [{"path": "/".join(p), "label": p[depth]} for p in inside]


def _wraps(paths: list[tuple[str, ...]], depth: int) -> bool:
    """Is there a single folder around everything at this depth, as archives often have?"""
    return len({parts[depth] for parts in paths}) == 1 and paths[0][depth].lower() not in _SIDES and all(len(p) > depth + 2 for p in paths)


def _files(root: Path) -> Iterable[str]:
    for folder_, inner, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder_)
        # A link to a folder that holds it would be followed for ever.
        inner[:] = [name for name in inner if not (here + os.sep).startswith(os.path.realpath(Path(folder_) / name) + os.sep)]
        for name in names:
            yield (Path(folder_) / name).relative_to(root).as_posix()


def _ignored(path: str) -> bool:
    return any(step.startswith(".") or step.lower() in _NOT_IMAGES for step in PurePosixPath(path).parts)
