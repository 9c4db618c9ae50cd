"""A table that names the images, their classes, and what else is known of them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from pellucid.core import fingerprint
from pellucid.core.errors import SourceError, listing
from pellucid.core.registry import part
from pellucid.core.settings import DataSettings
from pellucid.data import images, table
from pellucid.data.dataset import Dataset


@part(suffixes=(".csv", ".tsv"))
def manifest(path: Path, settings: DataSettings) -> Dataset:
    """A CSV file with a path and a label per image, and optionally subject, group, split, mask, box and other columns.

    Parameters
    ----------
    path : Path
        The .csv file (UTF-8; comma, semicolon or tab). Paths in it are relative to it.
    settings : DataSettings
        Which column is what.

    Raises
    ------
    SourceError
        The file is no table, columns are missing, rows are ragged or double, or files are absent. All of a kind at once.
    """
    return from_disk(
        parse(path.read_bytes(), settings, name=path.name), path.parent, settings, name=_name(path), kind="manifest", file=path
    )


def from_disk(rows: list[table.Row], root: Path, settings: DataSettings, *, name: str, kind: str, file: Path | None = None) -> Dataset:
    """Make a dataset of rows whose paths are relative to the folder `root`."""

    def stamp(path: str) -> str | None:
        try:
            return fingerprint.of_file(root / path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise SourceError(f"{root / path}: can't be opened ({error.strerror}).") from None

    def read(path: str) -> np.ndarray:
        try:
            content = (root / path).read_bytes()
        except OSError as error:
            raise ValueError(f"can't be opened: {error.strerror}") from None
        return images.decode(content)

    return table.build(rows, settings, name=name, source={"kind": kind, "path": str(file or root)}, stamp=stamp, read=read)


def parse(content: bytes, settings: DataSettings, *, name: str) -> list[table.Row]:
    """Return the rows of a CSV table as text.

    Raises
    ------
    SourceError
        Not UTF-8, empty, a column named twice, a row without a path, or rows with too many or too few values (all listed).
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{name}: not UTF-8 text (byte {error.start:,}). Save it as CSV in UTF-8.") from None
    header = text.split("\n", 1)[0]
    try:
        table_ = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count)))
    except csv.Error as error:
        raise SourceError(f"{name}: not a readable CSV table ({error}).") from None
    if not table_ or not any(cell.strip() for cell in table_[0]):
        raise SourceError(f"{name}: is empty. A manifest needs a header with at least a path and a label column.")
    columns = [cell.strip() for cell in table_[0]]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise SourceError(f"{name}: columns named twice: {listing(twice)}.")
    numbered = [(line, row) for line, row in enumerate(table_[1:], 2) if any(cell.strip() for cell in row)]
    ragged = [f"row {line}: {len(row)}" for line, row in numbered if len(row) != len(columns)]
    if ragged:
        raise SourceError(f"{name}: rows that don't have {len(columns)} values as the header has: {listing(ragged)}.")
    rows = [dict(zip(columns, (cell.strip() for cell in row), strict=True)) for _, row in numbered]
    bare = [str(line) for (line, _), row in zip(numbered, rows, strict=True) if not row.get(settings.path, "-")]
    if bare:
        raise SourceError(f"{name}: rows without a path: {listing(bare)}.")
    if not rows:
        raise SourceError(f"{name}: holds a header but no rows.")
    return rows


def _name(path: Path) -> str:
    return path.parent.name if path.stem == "manifest" and path.parent.name else path.stem
