"""The first experiment file: written from what the data look like, with every setting explained."""

from __future__ import annotations

import contextlib
import json
import textwrap
from pathlib import Path
from typing import Any

from pellucid.core import files, registry
from pellucid.core.errors import SettingError, SplitError
from pellucid.core.settings import Settings, parse
from pellucid.core.workspace import Workspace
from pellucid.data.load import Data, load

WIDTH = 110
PARTS = {"student": ("models", "model"), "distill": ("losses", "loss")}  # which part a section names, and by which setting
SIDES = (64, 96, 128, 160, 192, 224)


def write_starter(source: str, path: Path, *, workspace: Workspace | None = None) -> Data:
    """Look at the data and write an experiment file for them.

    Parameters
    ----------
    source : str
        As ``data.source``.
    path : Path
        The file to write; one that exists is not touched.
    workspace : Workspace, optional

    Returns
    -------
    Data
        Split by subject (or group), decoded small; its audit holds what was seen.

    Raises
    ------
    SettingError
        The file exists already.
    SourceError, UnreadableError, SplitError
        The data can't be used as they are.
    """
    if path.exists():
        raise SettingError(f"{path}: is there already. Give another name with --to, or delete it.")
    data = load(source, size=SIDES[0], workspace=workspace)
    suggested = {"source": source, "size": _size(data), "channels": "grey" if data.channels == 1 else "rgb"}
    if "split" in data.dataset.columns:
        with contextlib.suppress(SplitError):  # the column is something else; the split by subject stands
            data = load(source, size=SIDES[0], split="column:split", allow_leak=True, workspace=workspace)
            suggested["split"] = "column:split"
    files.write_text(path, render(parse({"data": suggested}), seen=_seen(data)), kind="experiment")
    return data


def render(settings: Settings, *, seen: list[str]) -> str:
    """Return an experiment file with all settings, each explained by the line above it."""
    # A class folder's name may hold a line break or worse, which would end the comment.
    lines = [f"# {''.join(c if c.isprintable() else ' ' for c in line)}".rstrip() for line in seen] + [""]
    for section, field in Settings.model_fields.items():
        values = getattr(settings, section)
        lines += [f"# {(type(values).__doc__ or field.description or '').splitlines()[0]}", f"[{section}]"]
        for name, setting in type(values).model_fields.items():
            lines += [f"# {line}" for line in textwrap.wrap(setting.description or "", WIDTH)]
            lines.append(_line(name, getattr(values, name)))
        lines += [*_part_lines(section, values), ""]
    return "\n".join(lines)


def _line(name: str, value: Any) -> str:
    if value is None:
        return f"# {name} ="
    return f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}"


def _part_lines(section: str, values: Any) -> list[str]:
    """Return the settings of the part that a section names, at their defaults and commented out."""
    kind, key = PARTS.get(section, ("", ""))
    name = getattr(values, key, "")
    if not kind or name not in registry.describe(kind):
        return []
    own = {
        setting: default
        for setting, (_, default) in registry.options(registry.get(kind, name)).items()
        if setting not in ("n_classes", "channels", "size")
    }
    return [
        f"# Settings of {name} (see `pellucid list {kind}`):",
        *(f"# {_line(setting, default).removeprefix('# ')}" for setting, default in own.items()),
    ]


def _size(data: Data) -> int:
    """Suggest the store size nearest to the median side of a few images, from below."""
    step = max(1, len(data.dataset) // 20)
    sides = sorted(min(data.dataset.read(i).shape[:2]) for i in range(0, len(data.dataset), step))
    return max([side for side in SIDES if side <= sides[len(sides) // 2]], default=SIDES[0])


def _seen(data: Data) -> list[str]:
    counts = {name: int((data.dataset.targets == k).sum()) for k, name in enumerate(data.classes)}
    lines = [
        f"{data.name}: {len(data.dataset):,} images, {len(data.classes)} classes ({', '.join(f'{n} {c:,}' for n, c in counts.items())}).",
        "`pellucid run` on this file trains teacher, base and student, explains and measures them, and writes report.html.",
        "Any setting can also be given on the command line: pellucid run FILE distill.alpha=0.7",
    ]
    return lines + ["", "What was seen:"] + [f"- {finding['text']}" for finding in data.audit["findings"]]
