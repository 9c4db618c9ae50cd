"""From rows of text (path, label, subject, ...) to a dataset. Every source ends here, so all of them check the same things."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pellucid.core.errors import SettingError, SourceError, did_you_mean, listing, nearest
from pellucid.core.fingerprint import fingerprint
from pellucid.core.records import Task
from pellucid.core.settings import DataSettings
from pellucid.data import images
from pellucid.data.dataset import Dataset

Row = dict[str, str]
Box = tuple[float, float, float, float]
_CONDITION = re.compile(r"^\s*(?P<column>.+?)\s*(?P<sign>==|!=|>=|<=|>|<|\sin\s)\s*(?P<value>.*?)\s*$")
_AND = re.compile(r"""\s+and\s+(?=(?:[^"']|"[^"]*"|'[^']*')*$)""")


def build(
    rows: list[Row],
    settings: DataSettings,
    *,
    name: str,
    source: dict[str, Any],
    stamp: Callable[[str], str | None],
    read: Callable[[str], np.ndarray],
    read_mask: Callable[[str], np.ndarray | None] | None = None,
) -> Dataset:
    """Check the rows and make a dataset of those that ``settings.where`` keeps.

    Parameters
    ----------
    rows : list of dict
        One per image, all with the same columns, all values text.
    settings : DataSettings
        Says which column is what. A column set by name must be there; the default names of optional ones may be absent.
    name : str
        What the source is called in messages.
    source : dict
        Provenance, as in :class:`Dataset`.
    stamp : callable
        Fingerprint of a file's content by its path, or None where there is no such file.
    read : callable
        Pixels by path; raises ValueError with a short reason.
    read_mask : callable or None
        Mask by the text in the mask column; None: a column of mask paths is read with `read`.

    Raises
    ------
    SourceError
        No rows, missing columns, duplicate paths, absent files, empty labels, fewer than two classes, malformed boxes.
        All of a kind at once.
    SettingError
        ``settings.where`` is malformed or names an unknown column.
    """
    if not rows:
        raise SourceError(f"{name}: holds no images.")
    columns = list(rows[0])
    _check_columns(columns, settings, name)
    rows = select(rows, settings.where)
    if not rows:
        raise SourceError(f'{name}: data.where = "{settings.where}" keeps none of the images.')
    ids = [row[settings.path] for row in rows]
    _check_paths(ids, name)
    _check_text([text for row in rows for text in row.values()], name)
    labels = [row[settings.label].strip() for row in rows]
    task, targets = classify(labels, ids, name=name, column=settings.label)
    masks, boxes = [row.get(settings.mask, "").strip() for row in rows], _boxes(rows, settings, name)
    stamps = _stamps([*ids, *(mask for mask in masks if mask and read_mask is None)], stamp, name)
    subjects, groups = ([row.get(column, "").strip() for row in rows] for column in (settings.subject, settings.group))
    known = {settings.path, settings.label, settings.subject, settings.group, settings.mask, settings.box}
    find_mask = read_mask or (lambda path: read(path) if path else None)
    return Dataset(
        name=name,
        task=task,
        ids=ids,
        targets=targets,
        read=lambda i: read(ids[i]),
        read_mask=(lambda i: _as_mask(find_mask(masks[i]))) if any(masks) else None,
        subjects=subjects,
        groups=groups,
        columns={column: [row[column] for row in rows] for column in columns if column not in known},
        boxes=boxes,
        source=source,
        content=fingerprint(list(zip(ids, labels, subjects, masks, strict=True)), boxes, stamps),
    )


def classify(labels: Sequence[str], ids: Sequence[str], *, name: str, column: str = "label") -> tuple[Task, np.ndarray]:
    """Return the classes in a stable order (by name; numbers by value) and each label's place among them, int64 [N].

    Raises
    ------
    SourceError
        A label is empty (all of them listed), or there are fewer than two classes.
    """
    empty = [path for path, label in zip(ids, labels, strict=True) if not label]
    if empty:
        raise SourceError(f'{name}: {_count(len(empty), "image")} without a value in column "{column}" ({listing(empty)}). Fill it in, or leave them out with data.where.')  # fmt: skip
    names = sorted(set(labels), key=_by_value if all(_number(label) is not None for label in set(labels)) else None)
    if len(names) < 2:
        raise SourceError(f'{name}: all {_count(len(labels), "image")} are of one class ("{names[0]}"). At least two classes are needed.')
    place = {label: number for number, label in enumerate(names)}
    return Task("single", tuple(names)), np.array([place[label] for label in labels], dtype=np.int64)


def select(rows: list[Row], where: str) -> list[Row]:
    """Return the rows for which a condition holds.

    Parameters
    ----------
    rows : list of dict
    where : str
        ``column sign value``, several joined by ``and``. Signs: ``==``, ``!=``, ``>``, ``<``, ``>=``, ``<=``, and
        ``in a, b``. Numbers are compared by value; a row without a number fails ``>`` and its like. "" keeps all.

    Raises
    ------
    SettingError
        The condition can't be read, or names an unknown column (nearest names are offered).
    """
    if not where.strip() or not rows:
        return rows
    for condition in _AND.split(where):
        holds = _parse(condition, list(rows[0]))
        rows = [row for row in rows if holds(row)]
        if not rows:
            break
    return rows


def _parse(condition: str, columns: list[str]) -> Callable[[Row], bool]:
    match = _CONDITION.match(condition)
    if match is None:
        raise SettingError(f'data.where: "{condition}" can\'t be read. Write: column == value (or !=, >, <, >=, <=, in a, b), joined by "and".', setting="data.where")  # fmt: skip
    column, sign, value = _bare(match["column"]), match["sign"].strip(), match["value"]
    if column not in columns:
        raise SettingError(f'data.where: there is no column "{column}".{did_you_mean(column, columns)} There are: {", ".join(columns)}.', setting="data.where", near=nearest(column, columns))  # fmt: skip
    if sign == "in":
        choices = [_bare(choice.strip()) for choice in value.strip("[]()").split(",")]
        return lambda row: any(_same(row[column], choice) for choice in choices)
    value = _bare(value)
    if sign in ("==", "!="):
        return lambda row: _same(row[column], value) == (sign == "==")
    limit = _number(value)
    if limit is None:
        raise SettingError(f'data.where: "{condition.strip()}" compares by size, but "{value}" is not a number.', setting="data.where")
    return lambda row: _compare(_number(row[column]), sign, limit)


def _compare(value: float | None, sign: str, limit: float) -> bool:
    if value is None:
        return False
    return {">": value > limit, "<": value < limit, ">=": value >= limit, "<=": value <= limit}[sign]


def _same(text: str, value: str) -> bool:
    if text.strip() == value:
        return True
    first, second = _number(text), _number(value)
    return first is not None and first == second


def _bare(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _by_value(label: str) -> tuple[float, str]:
    return float(label), label


def _check_columns(columns: list[str], settings: DataSettings, name: str) -> None:
    """Required columns must be there, and optional ones that the user named; all that are missing come in one message."""
    optional = ("subject", "group", "mask", "box")
    wanted = {"path": settings.path, "label": settings.label}
    wanted |= {key: getattr(settings, key) for key in optional if getattr(settings, key) != DataSettings.model_fields[key].default}
    missing = {key: column for key, column in wanted.items() if column not in columns}
    if not missing:
        return
    parts = [f'no column "{column}" (data.{key}).{did_you_mean(column, columns)}' for key, column in missing.items()]
    raise SourceError(f"{name}: {' '.join(parts)} There are: {', '.join(columns)}. Name the right ones in [data].")


def _check_paths(ids: list[str], name: str) -> None:
    counts = Counter(posixpath.normpath(path) for path in ids)
    twice = [f"{path} ({count} times)" for path, count in counts.items() if count > 1]
    if twice:
        raise SourceError(f"{name}: {_count(len(twice), 'path')} in several rows: {listing(twice)}. Keep one row for each image.")


def _check_text(texts: list[str], name: str) -> None:
    """Names of files and folders may be any bytes; what isn't text can be neither fingerprinted nor shown."""
    odd = [text.encode("utf-8", "backslashreplace").decode() for text in texts if not _is_text(text)]
    if odd:
        odd = list(dict.fromkeys(odd))
        raise SourceError(f"{name}: {_count(len(odd), 'name')} not UTF-8 text: {listing(odd)}. Rename them.")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stamps(paths: list[str], stamp: Callable[[str], str | None], name: str) -> list[str]:
    stamps = [stamp(path) for path in paths]
    absent = [path for path, found in zip(paths, stamps, strict=True) if found is None]
    if absent:
        raise SourceError(f"{name}: {_count(len(absent), 'file')} not there: {listing(absent)}. Paths are read relative to the manifest.")
    return [found for found in stamps if found is not None]


def _boxes(rows: list[Row], settings: DataSettings, name: str) -> list[Box | None]:
    texts = [row.get(settings.box, "").strip() for row in rows]
    if not any(texts):
        return []
    boxes = [_box(text) if text else None for text in texts]
    bad = [f'"{text}"' for text, box in zip(texts, boxes, strict=True) if text and box is None]
    if bad:
        raise SourceError(f"{name}: {_count(len(bad), 'box', 'boxes')} can't be read: {listing(bad)}. Write 'x0 y0 x1 y1' in pixels, x0 < x1 and y0 < y1.")  # fmt: skip
    return boxes


def _box(text: str) -> Box | None:
    numbers = [_number(part) for part in re.split(r"[\s,;]+", text.strip("[]()"))]
    if len(numbers) != 4 or any(number is None for number in numbers):
        return None
    x0, y0, x1, y1 = (float(number) for number in numbers if number is not None)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _as_mask(pixels: np.ndarray | None) -> np.ndarray | None:
    if pixels is None or pixels.dtype == bool:
        return pixels
    grey = pixels if pixels.ndim == 2 else images.to_grey(pixels)
    # White is the finding. JPEG masks ring around the edge, so half of the brightest value is the border; 1 of {0, 1} is white too.
    return grey > int(grey.max()) // 2 if grey.any() else np.zeros(grey.shape, dtype=bool)


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"
