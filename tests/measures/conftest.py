"""A few made-up images with subjects and masks, and what measures look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pellucid.core.records import Explanation, Task
from pellucid.core.settings import MeasureSettings
from pellucid.data.dataset import Dataset, Subset
from pellucid.data.store import Store
from pellucid.measures.judged import Judged
from pellucid.stats.intervals import resample

SIDE = 16


def subset(targets: np.ndarray, *, subjects: list[str] | None = None, masks: np.ndarray | None = None) -> Subset:
    """Return grey 16x16 images of noise."""
    n = len(targets)
    pixels = np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 1), dtype=np.uint8)
    classes = ("none", "solid", "ring")[: max(2, int(targets.max()) + 1)]
    dataset = Dataset(
        "made", Task("single", classes), [f"image{i}" for i in range(n)], targets, read=lambda i: pixels[i, :, :, 0],
        content="made", subjects=subjects or [],
    )  # fmt: skip
    return Subset(dataset, Store(pixels, masks), np.arange(n), "test")


def explanation(maps: np.ndarray, model: str, **facts: Any) -> Explanation:
    """Return Grad-CAM maps for class 0, unless said otherwise."""
    given: dict[str, Any] = {
        "targets": np.zeros(len(maps), np.int64), "method": "grad_cam", "layer": "last_map", "image_size": (SIDE, SIDE), **facts
    }  # fmt: skip
    return Explanation(maps.astype(np.float32), model=model, **given)


@pytest.fixture
def make_judged() -> Callable[..., Judged]:
    """Return a function that puts a `Judged` together from targets, logits and what else a test needs."""

    def make(targets: list[int] | np.ndarray, logits: dict[str, np.ndarray], **given: Any) -> Judged:
        targets = np.asarray(targets, dtype=np.int64)
        images = subset(targets, subjects=given.get("subjects"), masks=given.get("masks"))
        settings = MeasureSettings(resamples=200)
        return Judged(
            networks=given.get("networks", dict.fromkeys(logits)),
            images=images,
            logits={role: np.asarray(values, np.float32) for role, values in logits.items()},
            val_logits=given.get("val_logits", {}),
            val_targets=given.get("val_targets", np.empty(0, np.int64)),
            explanations=given.get("explanations", []),
            rows=np.asarray(given.get("rows", np.arange(len(targets)))),
            settings=settings,
            weights=resample(targets, images.units, resamples=settings.resamples),
        )

    return make


def one(measurements: list[Any], name: str, **facts: str) -> Any:
    """Return the only measurement of this name with these facts, over all images unless a stratum is given."""
    wanted = {"name": name, "stratum": "all", **facts}
    found = [m for m in measurements if all(getattr(m, key) == value for key, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} of {wanted}"
    return found[0]


@pytest.fixture(name="one")
def _one() -> Callable[..., Any]:
    return one


@pytest.fixture(name="explanation")
def _explanation() -> Callable[..., Explanation]:
    return explanation
