"""Where and in which number format a network trains fastest on this machine: tried once, then remembered."""

from __future__ import annotations

import contextlib
import copy
import platform
import statistics
import time
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from pellucid.core import files
from pellucid.core.fingerprint import fingerprint
from pellucid.core.records import ImageSpec
from pellucid.core.workspace import Workspace

REPEATS = 3
Thing = TypeVar("Thing", nn.Module, torch.Tensor)


def device() -> torch.device:
    """Return the first GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Precision:
    """A number format and memory layout; `name` is what goes into fingerprints: ``fp32``, ``bf16 channels_last``, ..."""

    bf16: bool
    channels_last: bool

    @property
    def name(self) -> str:
        """Return the format in words."""
        return ("bf16" if self.bf16 else "fp32") + (" channels_last" if self.channels_last else "")

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context in which forward passes run."""
        return torch.autocast(device().type, dtype=torch.bfloat16, enabled=self.bf16)

    def place(self, thing: Thing) -> Thing:
        """Return a network or a batch of images on the device and in the layout."""
        thing = thing.to(device())
        return thing.to(memory_format=torch.channels_last) if self.channels_last else thing


CANDIDATES = (Precision(False, False), Precision(False, True), Precision(True, True))
NAMES = {candidate.name: candidate for candidate in CANDIDATES}


def choose(
    model: nn.Module, architecture: str, spec: ImageSpec, batch_size: int, asked: str, workspace: Workspace
) -> tuple[Precision, float]:
    """Return the fastest format for one training step, timed once per machine and network and kept in the workspace.

    Parameters
    ----------
    model : nn.Module
        Tried on a copy; not changed.
    architecture : str
        Name of the network, part of the choice's key.
    spec : ImageSpec
    batch_size : int
    asked : str
        ``auto`` tries all candidates; ``fp32`` and ``bf16`` only those.
    workspace : Workspace

    Returns
    -------
    (Precision, seconds per step; 0 where only one format was asked for)
    """
    candidates = [c for c in CANDIDATES if c.name.startswith(asked) or (asked == "auto" and (not c.bf16 or _has_bf16()))]
    if len(candidates) == 1:
        return candidates[0], 0.0
    machine = [platform.machine(), torch.backends.cpu.get_cpu_capability(), device().type, torch.__version__]
    threads = str(torch.get_num_threads())
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    key = fingerprint("precision", architecture, n_parameters, spec.size, spec.channels, batch_size, asked, machine)
    with workspace.lock("choices", key) as folder:
        path = folder.with_suffix(".json")
        found = files.unless_damaged(lambda: files.read_json(path))
        if not isinstance(found, dict) or found.get("fastest") not in NAMES:
            seconds = {candidate.name: _step_seconds(model, spec, batch_size, candidate) for candidate in candidates}
            fastest = min(seconds, key=lambda name: seconds[name])
            found = {"architecture": architecture, "size": spec.size, "seconds_per_step": {threads: seconds}, "fastest": fastest}
            files.write_json(path, found)
        elif threads not in found["seconds_per_step"]:
            # What is fastest stays as it was chosen, or the same network would be another in a sweep, whose processes have one thread.
            fastest = found["fastest"]
            found["seconds_per_step"][threads] = {fastest: _step_seconds(model, spec, batch_size, NAMES[fastest])}
            files.write_json(path, found)
    return NAMES[found["fastest"]], found["seconds_per_step"][threads][found["fastest"]]


def _step_seconds(model: nn.Module, spec: ImageSpec, batch_size: int, candidate: Precision) -> float:
    """Return the median time of forward and backward on random images; infinite where the format doesn't work."""
    copied = candidate.place(copy.deepcopy(model)).train()
    with torch.random.fork_rng(devices=[]):
        images = candidate.place(torch.randn(batch_size, spec.channels, spec.size, spec.size))
    times = []
    try:
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            with candidate.autocast():
                loss = copied(images).float().square().mean()
            loss.backward()
            if device().type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    except (RuntimeError, NotImplementedError):
        return 1e9  # this format isn't implemented for one of the network's operations; JSON has no infinity
    return statistics.median(times[1:])


def _has_bf16() -> bool:
    """Return whether bf16 can pay here; without AVX-512 a processor emulates it some ten times slower than fp32."""
    return device().type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
