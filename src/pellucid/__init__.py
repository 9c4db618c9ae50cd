"""Pellucid: distil a small image classifier from a large one, and prove what survived.

The public names are imported when first used, so that ``import pellucid`` costs nothing and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load": "pellucid.data.load:load",
    "train": "pellucid.running.stages:train",
    "distill": "pellucid.running.stages:distill",
    "explain": "pellucid.explainers.explain:explain",
    "measure": "pellucid.running.stages:measure",
    "report": "pellucid.running.stages:report",
    "draw": "pellucid.reporting.figures.sheet:draw",
    "run": "pellucid.running.experiment:run",
    "sweep": "pellucid.scale.sweep:sweep",
    "compare": "pellucid.scale.comparison:compare",
    "build": "pellucid.models.build:build",
    "load_network": "pellucid.models.saved:load",
    "Network": "pellucid.models.saved:Network",
    "PellucidError": "pellucid.core.errors:PellucidError",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
