"""The run folder: complete settings, one record per stage, and the results that belong to this run alone.

settings.toml       every setting, also those left at their default
stages/NAME.json    the stage's key, time, and where its output lies
log.jsonl           what happened when
predictions.npz     logits, targets, ids, subjects of validation and test
maps.npz            the explanations
parts/              what a stopped run had of a stage that isn't done; gone when it is
judgements.npz      what the measures say of each image
measurements.json   every figure with interval and n
student.safetensors the distilled network, ready for `pellucid predict`
report.html         the report;  report/data/*.csv, tables.tex, measurements.csv beside it
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from pellucid.core import files
from pellucid.core.errors import RunError, SettingError
from pellucid.core.records import ARRAYS, Explanation, StageRecord
from pellucid.core.settings import Settings, parse

Part = TypeVar("Part")
_PLACES = {"out", "workspace", "title"}  # where a run lies doesn't make it another run


class RunFolder:
    """One run on disk.

    Parameters
    ----------
    path : Path
    settings : Settings
        Must be those of the run that lies there, if one does.

    Raises
    ------
    RunError
        The folder holds another experiment, or something that is no run.
    StorageError
        It can't be written.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, settings
        self._lock: IO[str] | None = None
        self._refuse_foreign()

    def create(self) -> None:
        """Make the folder, hold the only right to write it, and clear what a kill left half-written.

        Raises
        ------
        RunError
            Another process is running this experiment now.
        """
        import tomli_w

        if self._lock is not None:
            return
        self._lock = files.hold(self.path / ".lock")
        if self._lock is None:
            raise RunError(f"{self.path}: another process is running this experiment. Wait for it, or choose another run.out.")
        self._refuse_foreign()  # once more, now that nobody else writes
        for folder in (self.path, *(entry for entry in self.path.rglob("*") if entry.is_dir())):
            files.remove_leftovers(folder)
        if not (self.path / "settings.toml").exists():
            files.write_text(self.path / "settings.toml", tomli_w.dumps(plain(self.settings)), kind="settings")
            self.log("begin", command=command())

    def release(self) -> None:
        """Give the right to write back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _refuse_foreign(self) -> None:
        kept = self.path / "settings.toml"
        if kept.exists():
            _refuse_another(self.path, _completed(_toml(kept)), plain(self.settings))
        elif (self.path.exists() and not self.path.is_dir()) or (
            self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir())
        ):
            raise RunError(f"{self.path}: is there already and holds no run. Choose another run.out, or empty it.")

    def stage(self, name: str) -> StageRecord | None:
        """Return the record of a finished stage, or None."""
        path = self.path / "stages" / f"{name}.json"
        fields = StageRecord.__dataclass_fields__
        return files.unless_damaged(lambda: StageRecord(**{k: value for k, value in files.read_json(path).items() if k in fields}))

    def finish(self, stage: StageRecord) -> None:
        """Record that a stage is done; only then does what it wrote count."""
        files.write_json(self.path / "stages" / f"{stage.name}.json", asdict(stage), kind="stage")
        self.log(stage.name, seconds=round(stage.seconds, 3), cached=stage.cached)
        files.crash_point("parts")
        self.drop_parts(stage.name)

    def drop_parts(self, stage: str) -> None:
        """Remove what was kept of a stage before it was done."""
        for parts in self.path.glob(f"parts/{stage}-*"):
            shutil.rmtree(parts, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.path / "parts").rmdir()

    def part(
        self, stage: str, key: str, name: str, work: Callable[[], Part], *, read: Callable[[str], Part], write: Callable[[str, Part], None]
    ) -> tuple[Part, float]:
        """Return a part of a stage that takes long: what a stopped run left of it, or what `work` makes, kept until the stage is done.

        `read` and `write` get the file's name in the folder. With it come the seconds that the part took before this start, 0 if it is new.
        """
        file, clock = (f"parts/{stage}-{key}/{name}.{kind}" for kind in ("npz", "json"))
        found = files.unless_damaged(lambda: (read(file), float(files.read_json(self.path / clock)["seconds"])))
        if found is not None:
            return found
        start = time.perf_counter()
        made = work()
        write(file, made)
        files.write_json(self.path / clock, {"seconds": time.perf_counter() - start}, kind="part")
        return made, 0.0

    def log(self, event: str, **facts: Any) -> None:
        """Add one line to the log."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "event": event, **facts}, ensure_ascii=False)
        with files.storage_errors(self.path / "log.jsonl"), (self.path / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def command(self) -> str:
        """Return the command that began this run; where the log is gone, the one that goes on with it now."""
        log = self.path / "log.jsonl"
        first = log.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if log.exists() else "{}"
        try:
            return json.loads(first or "{}").get("command", command())
        except json.JSONDecodeError:
            return command()

    def write_maps(
        self, explanations: list[Explanation], panel: list[Explanation], facts: dict[str, np.ndarray], *, name: str = "maps.npz"
    ) -> None:
        """Keep maps, the panel's maps of all layers, and which images they are of (`rows`, `panel_rows`)."""
        arrays = dict(facts)
        for group, found in (("map", explanations), ("panel", panel)):
            for i, explanation in enumerate(found):
                own = {name: getattr(explanation, name) for name in ARRAYS}
                about = {key: value for key, value in vars(explanation).items() if key not in ARRAYS}
                arrays |= {f"{group}.{i}.{name}": values for name, values in own.items() if values is not None}
                arrays[f"{group}.{i}.about"] = np.array(json.dumps(about))
        files.write_npz(self.path / name, arrays, kind="maps" if name == "maps.npz" else "part")

    def read_maps(
        self, n_images: int, n_classes: int, *, name: str = "maps.npz"
    ) -> tuple[list[Explanation], list[Explanation], dict[str, np.ndarray]]:
        """Return what :meth:`write_maps` kept of so many test images and classes; a ValueError where something is missing or can't be."""
        with np.load(self.path / name, allow_pickle=False) as content:
            arrays = dict(content)
        groups: dict[str, list[Explanation]] = {"map": [], "panel": []}
        for name in [name for name in arrays if name.endswith(".about")]:
            about = json.loads(str(arrays.pop(name)))
            stem = name.removesuffix(".about")
            about["image_size"] = tuple(about["image_size"])
            if about.get("centres") is not None:
                about["centres"] = tuple(map(tuple, about["centres"]))
            found = Explanation(**{name: arrays.pop(f"{stem}.{name}", None) for name in ARRAYS}, **about)
            if found.fault or ((found.targets < 0) | (found.targets >= n_classes)).any():
                raise ValueError(f"{stem}: {found.fault or 'targets beyond the classes'}")
            groups[stem.split(".")[0]].append(found)
        for group, name in (("map", "rows"), ("panel", "panel_rows")):
            rows = arrays.setdefault(name, np.empty(0, np.int64))
            if not are_rows(rows, n_images):
                raise ValueError(f"{name}: no numbers of images")
            if any(len(found.maps) != len(rows) for found in groups[group]):
                raise ValueError(f"{name}: not one for each map")
        return groups["map"], groups["panel"], arrays


def are_rows(rows: np.ndarray, n_images: int) -> bool:
    """Say whether these are numbers of images [E], each there and none twice."""
    return (
        rows.ndim == 1 and rows.dtype.kind in "iu" and len(np.unique(rows)) == len(rows) and bool(((rows >= 0) & (rows < n_images)).all())
    )


def plain(settings: Settings) -> dict[str, Any]:
    """Return settings as TOML can hold them (which has no null: what is None is left out)."""

    def tidy(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tidy(inner) for key, inner in value.items() if inner is not None}
        return list(value) if isinstance(value, tuple) else value

    return tidy(settings.model_dump())


def command() -> str:
    """Return the command that started this process, without the folder of the program."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def open_run(path: Path | str) -> RunFolder:
    """Open the run that lies in a folder.

    Raises
    ------
    RunError
        There is none.
    """
    path = Path(path)
    if not (path / "settings.toml").is_file():
        raise RunError(f"{path}: holds no run (no settings.toml). `pellucid run EXPERIMENT.toml` makes one.")
    return RunFolder(path, parse(_toml(path / "settings.toml"), where=f"{path}/settings.toml"))


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not readable ({error}). Delete the run folder, or choose another run.out.") from None


def _completed(content: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings with those that its version didn't know at their defaults, which is what it ran with."""
    try:
        return plain(parse(content))
    except SettingError:  # a file that was written into is compared as it stands
        return content


def _refuse_another(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Refuse a folder whose run differs in any setting but its places; the first differences are named."""

    def flat(settings: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for section, values in settings.items():
            values = values if isinstance(values, dict) else {"": values}  # a file that was written into
            found |= {f"{section}.{key}": value for key, value in values.items() if section != "run" or key not in _PLACES}
        return found

    old, new = flat(there), flat(here)
    differing = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    if differing:
        shown = ", ".join(f"{key} = {old.get(key, 'unset')!r} there and {new.get(key, 'unset')!r} here" for key in differing[:3])
        more = f", and {len(differing) - 3} more settings" if len(differing) > 3 else ""
        raise RunError(f"{path}: holds another experiment ({shown}{more}). Choose another run.out, or delete it.")
