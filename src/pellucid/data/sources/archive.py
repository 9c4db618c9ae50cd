"""A zip file, read in place."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from pellucid.core.errors import SourceError, listing
from pellucid.core.registry import part
from pellucid.core.settings import DataSettings
from pellucid.data import images, table
from pellucid.data.dataset import Dataset
from pellucid.data.sources import folder, manifest


@part(suffixes=(".zip",))
def archive(path: Path, settings: DataSettings) -> Dataset:
    """A zip with a manifest.csv inside, or with class folders, read without unpacking.

    The content's fingerprint is taken from the checksums that a zip holds of its files, so that opening a large archive is quick.

    Parameters
    ----------
    path : Path
    settings : DataSettings

    Raises
    ------
    SourceError
        Not a zip, a damaged one, or one with neither manifest nor class folders; else as for a manifest.
    """
    try:
        zipped = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise SourceError(f"{path}: not a zip file, or one that ends early.") from None
    members = {info.filename: info for info in zipped.infolist() if not info.is_dir()}
    tables = sorted((name for name in members if PurePosixPath(name).name == "manifest.csv"), key=lambda name: name.count("/"))
    if len(tables) > 1 and tables[0].count("/") == tables[1].count("/"):
        raise SourceError(f"{path}: holds several manifests ({listing(tables)}). Keep one, or put one on top.")
    if tables:
        rows = manifest.parse(_content(zipped, tables[0], path), settings, name=f"{path.name}/{tables[0]}")
        root = PurePosixPath(tables[0]).parent
    else:
        rows = folder.rows_of(members, name=path.name)
        root, settings = PurePosixPath(), settings.model_copy(update={"path": "path"})

    def stamp(name: str) -> str | None:
        info = members.get(_inside(root, name))
        return None if info is None else f"{info.CRC:08x} {info.file_size}"

    def read(name: str) -> np.ndarray:
        try:
            return images.decode(zipped.read(members[_inside(root, name)]))
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError):
            raise ValueError("damaged or encrypted in the archive") from None

    return table.build(rows, settings, name=path.stem, source={"kind": "archive", "path": str(path)}, stamp=stamp, read=read)


def _content(zipped: zipfile.ZipFile, member: str, path: Path) -> bytes:
    try:
        return zipped.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError):
        raise SourceError(f"{path}: {member} can't be read from the archive; it is damaged or encrypted.") from None


def _inside(root: PurePosixPath, name: str) -> str:
    steps: list[str] = []
    for step in (root / name).parts:
        if step != ".." or not steps:
            steps.append(step)
        else:
            steps.pop()
    return "/".join(steps)
