"""Whole runs in processes of their own, forked from one that has imported everything, so that each costs a second and not ten.

Used by the tests of kills and of the command line, and by ``make soak``.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# The smallest experiment that has all stages: 40 generated images of 20 subjects, nets of a hundred thousand parameters.
TINY = """
[data]
n_subjects = 20
slices = 2
size = 32
views = 2
val_share = 0.2
test_share = 0.2
[teacher]
model = "cnn5"
preset = "small"
epochs = 2
batch_size = 16
[student]
model = "cnn5"
preset = "small"
epochs = 3
batch_size = 16
[explain]
images = 8
[measure]
measures = ["performance", "transfer", "faithfulness", "localisation", "explanation_time"]
resamples = 100
"""
CHILD = """
import os, sys
os.chdir({folder!r})
os.environ.update({environment!r})
sys.stdout = open("out.txt", "w")
sys.stderr = open("err.txt", "w")
from pellucid.cli import main
main({arguments!r})
"""
# Measured by a clock, or by what else the process holds in memory; everything else must be equal to the bit.
BY_THE_CLOCK = {"met", "met_p50", "met_p95", "met_ratio", "latency_p50", "latency_p95", "throughput", "peak_memory"}


@dataclass
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str
    seconds: float


def pellucid_in(folder: Path, *arguments: str, kill_after: float | None = None, **environment: str) -> Outcome:
    """Run the command line in a folder, e.g. ``pellucid_in(folder, "run", "x.toml", PELLUCID_CRASH="stage:1")``.

    After `kill_after` seconds it gets SIGKILL, if it still runs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["timm", "scipy.stats", "sklearn.metrics", "pellucid.running.experiment"])
    settled = {"OMP_NUM_THREADS": "1", "PELLUCID_WORKSPACE": str(folder / "ws"), **environment}
    code = CHILD.format(folder=str(folder), environment=settled, arguments=list(arguments))
    # exec is a function that any process knows; one of this file couldn't be found by the child.
    process = context.Process(target=exec, args=(code, {"__name__": "child"}))
    start = time.monotonic()
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    printed = [(folder / name).read_text() if (folder / name).exists() else "" for name in ("out.txt", "err.txt")]
    return Outcome(process.exitcode, *printed, time.monotonic() - start)


@dataclass
class Finished:
    """What a run left that must not depend on how often it was stopped."""

    weights: dict[str, np.ndarray]
    measurements: list[dict]
    maps: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]


def finished(run: Path) -> Finished:
    """Read a run folder."""
    from safetensors.numpy import load_file

    measurements = json.loads((run / "measurements.json").read_text())["measurements"]
    with np.load(run / "maps.npz") as content:
        maps = {name: content[name] for name in content.files if not name.endswith(".about")}
    with np.load(run / "predictions.npz") as content:
        logits = dict(content)
    return Finished(load_file(run / "student.safetensors"), [m for m in measurements if m["name"] not in BY_THE_CLOCK], maps, logits)


def differences(one: Finished, other: Finished) -> list[str]:
    """Return what isn't equal: weights, maps and logits to the bit, and every measurement but those of a clock."""
    found = []
    for kind in ("weights", "maps", "logits"):
        ours, theirs = getattr(one, kind), getattr(other, kind)
        for name in sorted(ours | theirs):
            if name not in ours or name not in theirs or not _equal(ours[name], theirs[name]):
                found.append(f"{kind} {name}")
    if one.measurements != other.measurements:
        pairs = zip(one.measurements, other.measurements, strict=False)
        found += [f"measurement {ours} is {theirs}" for ours, theirs in pairs if ours != theirs] or ["measurements"]
    return found


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
