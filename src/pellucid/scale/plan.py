"""What a sweep consists of: its runs, and the jobs they need, each network once however many runs share it."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core import files
from pellucid.core.errors import SettingError
from pellucid.core.settings import Settings, in_words, parse, short_names, value_text, varied
from pellucid.running.experiment import Experiment

# Axes that repeat a setting instead of changing it: their figures are averaged or pooled, and none of them is ever chosen.
REPEATS = ("run.seed", "teacher.seed", "student.seed", "data.split_seed", "data.view_seed", "data.fold", "data.repeat")
LONGEST_NAME = 100  # bytes in a folder's name


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes
    ----------
    name : str
        Names its folder.
    values : dict of dotted setting -> value
    settings : Settings
    beside : Path
        Where a bare source name is looked for first.
    out : Path
        Its run folder.
    """

    name: str
    values: dict[str, Any]
    settings: Settings
    beside: Path
    out: Path

    def experiment(self) -> Experiment:
        """Return the run, nothing of it computed."""
        return Experiment(self.settings, beside=self.beside, out=self.out)

    def outputs_path(self, key: str) -> Path:
        """Return where a network's validation logits are kept, for all runs of the sweep."""
        return self.out.parents[1] / "validation" / f"{key}.npz"

    def outputs(self, key: str) -> tuple[np.ndarray, float] | None:
        """Return a network's validation logits [n, K] and its seconds of training, or None where they aren't there whole."""

        def read() -> tuple[np.ndarray, float]:
            with np.load(self.outputs_path(key), allow_pickle=False) as content:
                return content["logits"], float(content["seconds"])

        return files.unless_damaged(read)

    @property
    def setting(self) -> dict[str, Any]:
        """Return the values that change the setting."""
        return {key: value for key, value in self.values.items() if key not in REPEATS}

    @property
    def repeat(self) -> dict[str, Any]:
        """Return the values that repeat a setting: seeds and folds."""
        return {key: value for key, value in self.values.items() if key in REPEATS}


@dataclass(frozen=True)
class Job:
    """One piece of work for one process.

    Attributes
    ----------
    key : str
        Jobs of one key are the same work. A network's key is its fingerprint.
    role : str
        ``teacher``, ``base`` or ``student``; ``report`` for all that comes after training.
    cell : Cell
        A run that needs it.
    needs : tuple of str
        Keys of the jobs that come before.
    seconds : float
        About how long it takes, as far as a trial of one training step can tell; 0 where it can't, or where it is done.
    done : bool
        Its result is there already.
    """

    key: str
    role: str
    cell: Cell
    needs: tuple[str, ...] = ()
    seconds: float = 0.0
    done: bool = False


def cells(content: dict[str, Any], axes: Mapping[str, Sequence[Any]], *, file: Path, out: Path) -> list[Cell]:
    """Return every combination of the axes' values as a run.

    Raises
    ------
    SettingError
        A value isn't allowed there.
    """
    found = []
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        name = _folder_name(values)
        settings = parse(varied(content, values), where=f"{file.name} with {in_words(values)}:")
        found.append(Cell(name, values, settings, file.parent, out / "runs" / name))
    twice = [name for name, count in Counter(cell.name for cell in found).items() if count > 1]
    if twice:
        raise SettingError(f"{file.name} [sweep]: different values have the same name on disk: {', '.join(sorted(twice))}.")
    return found


def training_jobs(experiments: Mapping[str, Experiment], runs: Sequence[Cell]) -> list[Job]:
    """Return one job for each network that the runs need, teachers first, so that no student waits longer than it must.

    Raises
    ------
    SettingError
        A seed or fold changes nothing: its runs would count several times what is there once.
    """
    jobs: dict[str, Job] = {}
    seen: dict[tuple[str, ...], Cell] = {}
    for cell in runs:
        experiment = experiments[cell.name]
        keys = experiment.keys
        _refuse_idle_repeat(seen.setdefault((in_words(cell.setting), *keys.values()), cell), cell)
        for role in ("teacher", "base", "student"):
            if keys[role] not in jobs:
                needs = (keys["teacher"],) if role == "student" else ()
                trained = experiment.is_trained(role)
                seconds = 0.0 if trained else seconds_of(experiment, role)
                jobs[keys[role]] = Job(keys[role], role, cell, needs, seconds, trained and cell.outputs(keys[role]) is not None)
        del experiment.plans  # they hold two networks for each run, and have said what they had to
    order = ("teacher", "base", "student")
    return sorted(jobs.values(), key=lambda job: order.index(job.role))


def seconds_of(experiment: Experiment, role: str) -> float:
    """Return about how many seconds a network's training steps take."""
    planned = experiment.plans["teacher" if role == "teacher" else "student"]
    steps = planned.settings.epochs * math.ceil(len(experiment.data.train) / planned.settings.batch_size)
    return steps * planned.seconds_per_step


def _refuse_idle_repeat(first: Cell, cell: Cell) -> None:
    if first is not cell:
        raise SettingError(
            f"[sweep]: {in_words(first.repeat)} and {in_words(cell.repeat)} are the same networks on the same split, so they repeat nothing. "
            'Leave one out; data.fold and data.repeat need data.split = "kfold".'
        )


def _folder_name(values: Mapping[str, Any]) -> str:
    plain = ",".join(f"{short}={value_text(values[key])}" for key, short in short_names(values).items())
    safe = re.sub(r"[^\w=,.+-]", "-", plain)
    if safe == plain and len(safe.encode()) <= LONGEST_NAME:
        return safe
    short = safe.encode()[: LONGEST_NAME - 9].decode(errors="ignore")
    return f"{short}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"
