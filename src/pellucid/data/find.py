"""Find a source by what the experiment file calls it, and open it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pellucid.core import registry
from pellucid.core.errors import SourceError, did_you_mean, listing
from pellucid.core.settings import DataSettings
from pellucid.data.dataset import Dataset


def find(settings: DataSettings, beside: Path | None = None) -> Dataset:
    """Open the images that ``settings.source`` names, and keep the rows that ``settings.where`` asks for.

    Parameters
    ----------
    settings : DataSettings
        Settings beyond its own go to the source (see ``pellucid list data``).
    beside : Path or None
        The experiment file or its folder; a relative source is looked for there first.

    Returns
    -------
    Dataset

    Raises
    ------
    SourceError
        There is no such source, or it is empty or malformed.
    SettingError
        A setting that the source doesn't know, or a ``where`` that can't be read.

    Examples
    --------
    >>> dataset = find(DataSettings(source="phantom", n_subjects=8, slices=2))
    >>> len(dataset), dataset.task.classes
    (16, ('none', 'solid', 'ring', 'diffuse'))
    """
    sources = {name: registry.get("data", name) for name in registry.describe("data")}
    generators = [name for name, source in sources.items() if source.traits.get("generator")]
    if settings.source in generators:
        path, source = Path(settings.source), sources[settings.source]
    else:
        path = locate(settings.source, beside, also=generators)
        source = _reader(path, sources)
    given = registry.check_options(source, settings.options, where="data", also=DataSettings.model_fields)
    return source(path, settings, **given)


def locate(name: str, beside: Path | None = None, *, also: Iterable[str] = ()) -> Path:
    """Return the file or folder of this name: beside the experiment file, in the current folder, or in ``PELLUCID_DATA``.

    ``PELLUCID_DATA`` holds folders as ``PATH`` does; a ``.zip`` may be left out. Names in `also` are offered for a typo too.

    Raises
    ------
    SourceError
        There is none; the message says where it was looked for and which names are near.
    """
    wanted = Path(name).expanduser()
    folders = [] if beside is None else [beside if beside.is_dir() else beside.parent]
    folders += [Path(), *data_folders()]
    for folder in folders:
        for candidate in (folder / wanted, folder / f"{wanted}.zip"):
            if candidate.exists():
                return candidate
    near = list(also) + [entry.name.removesuffix(".zip") for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    looked = list(dict.fromkeys(str(folder.resolve()) for folder in folders)) if not wanted.is_absolute() else [str(wanted.parent)]
    raise SourceError(f'data.source "{name}": there is no such folder or file.{did_you_mean(name, dict.fromkeys(near))} Looked in {listing(looked)}.')  # fmt: skip


def data_folders() -> list[Path]:
    """Return the folders that ``PELLUCID_DATA`` names, in its order."""
    return [Path(folder) for folder in os.environ.get("PELLUCID_DATA", "").split(os.pathsep) if folder]


def _reader(path: Path, sources: dict[str, Any]) -> Any:
    for source in sources.values():
        if source.traits.get("folder") if path.is_dir() else path.suffix.lower() in source.traits.get("suffixes", ()):
            return source
    suffixes = sorted(suffix for source in sources.values() for suffix in source.traits.get("suffixes", ()))
    raise SourceError(f"{path}: no source reads a file like this. A source is a folder, or a file ending in {', '.join(suffixes)}.")
