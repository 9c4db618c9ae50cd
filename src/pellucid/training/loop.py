"""The one training loop, for teachers, bases and students alike.

It trains an :class:`Objective` on views of the training split, looks at validation after each epoch, keeps the best and the last
state, and continues exactly where it was stopped: every draw is a function of seed and epoch, so a resumed training equals one
that never stopped (bit for bit at the same number of threads).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import files, rng
from pellucid.core.errors import DivergedError
from pellucid.core.numbers import duration
from pellucid.core.progress import say, track
from pellucid.core.records import ImageSpec
from pellucid.core.settings import NetworkSettings
from pellucid.data.dataset import Subset
from pellucid.data.views import Batch, Views, batches, epoch
from pellucid.stats import classification
from pellucid.training import checkpoint
from pellucid.training.objective import Objective
from pellucid.training.optim import learning_rate, optimizer
from pellucid.training.precision import Precision, device


@dataclass(frozen=True)
class Fitted:
    """What training leaves: one dict per epoch, the best epoch (from 1), and both states of the student."""

    history: list[dict[str, float]]
    best_epoch: int
    best: dict[str, Tensor]
    last: dict[str, Tensor]


def fit(
    objective: Objective,
    train: Subset,
    val: Subset,
    specs: Sequence[ImageSpec],
    settings: NetworkSettings,
    *,
    views: Views,
    n_views: int | None,
    seed: int,
    precision: Precision,
    folder: Path,
    label: str,
) -> Fitted:
    """Train an objective's student.

    Parameters
    ----------
    objective : Objective
        Holds the student, already initialised.
    train, val : Subset
        Validation chooses the best epoch: highest balanced accuracy, ties by lower cross-entropy.
    specs : sequence of ImageSpec
        What each batch is rendered for; the first is the student's.
    settings : NetworkSettings
    views : Views
    n_views : int or None
        Epoch e sees view ``e % n_views``; None: a new view each epoch.
    seed : int
        Of order and dropout.
    precision : Precision
    folder : Path
        Where the checkpoint is kept; one that lies there is continued.
    label : str
        What the progress line calls it, e.g. ``teacher densenet121``.

    Raises
    ------
    DivergedError
        The loss is NaN or infinite. The state after the last good epoch stays in `folder`.
    StorageError
        The disk is full.
    """
    precision.place(objective)
    optimiser = optimizer(objective, settings)
    history: list[dict[str, float]] = []
    best_epoch = 0
    state = checkpoint.load(folder / "last.pt")
    if state is not None:
        objective.load_state_dict(state["objective"])
        optimiser.load_state_dict(state["optimizer"])
        history, best_epoch = state["history"], state["best_epoch"]

    for number in range(len(history), settings.epochs):
        if _should_stop(history, best_epoch, settings):
            break
        start = time.perf_counter()
        view = number if n_views is None else number % n_views
        order = epoch_order(train.targets, seed, number, settings.sampler)
        steps = math.ceil(len(order) / settings.batch_size)
        sums: dict[str, float] = {}
        objective.train()
        with _reproducible(rng.derive(seed, f"epoch {number}")):
            stream = epoch(train, specs, views, view=view, order=order, batch_size=settings.batch_size)
            shown = track(stream, f"{label}, epoch {number + 1}/{settings.epochs}", total=steps, each=settings.batch_size)
            for step, batch in enumerate(shown):
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(number + step / steps, settings)
                parts = _step(objective, optimiser, batch, precision, settings.clip)
                _check_finite(parts, label, number, f"step {step + 1}", folder, settings)
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + value * len(batch.positions)
        logits = predict(objective.student, val, specs[0], precision)
        # The epoch's last step may have spoilt the weights without any loss having seen it.
        _check_finite({"validation logits": float(np.abs(logits).max())}, label, number, "after its last step", folder, settings)
        row = {
            "epoch": number + 1,
            **{f"train.{name}": value / len(order) for name, value in sums.items()},
            "val.cross_entropy": float(classification.cross_entropy(val.targets, logits)),
            "val.balanced_accuracy": float(classification.balanced_accuracy(val.targets, logits)),
            "lr": learning_rate(number, settings),
            "seconds": time.perf_counter() - start,
        }
        history.append(row)
        if best_epoch == 0 or _rank(row) > _rank(history[best_epoch - 1]):
            best_epoch = number + 1
            checkpoint.save(folder / "best.pt", {"student": objective.student.state_dict()}, kind="best")
        checkpoint.save(
            folder / "last.pt",
            {"objective": objective.state_dict(), "optimizer": optimiser.state_dict(), "history": history, "best_epoch": best_epoch},
        )
        _report(label, history, best_epoch, settings.epochs)
        files.crash_point("epoch")
    last = {name: value.cpu().contiguous() for name, value in objective.student.state_dict().items()}
    kept = checkpoint.load(folder / "best.pt")
    return Fitted(history, best_epoch, last if kept is None else kept["student"], last)


def predict(model: nn.Module, images: Subset, spec: ImageSpec, precision: Precision, batch_size: int = 64) -> np.ndarray:
    """Return float32 logits [n, K] in eval mode, in the precision of training."""
    model.eval()
    with torch.inference_mode(), precision.autocast():
        outputs = [model(precision.place(batch)).float().cpu() for batch in batches(images, spec, batch_size)]
    return torch.cat(outputs).numpy()


def epoch_order(targets: np.ndarray, seed: int, number: int, sampler: str) -> np.ndarray:
    """Return the positions of one epoch's images in the order in which they come, int64 [n].

    ``shuffle`` takes each image once; ``balanced`` draws with replacement, each class equally often.
    """
    draws = rng.generator(seed, f"order {number}")
    if sampler == "shuffle":
        return draws.permutation(len(targets))
    classes = targets.argmax(1) if targets.ndim == 2 else targets
    share = 1.0 / np.bincount(classes)[classes]
    return draws.choice(len(targets), size=len(targets), p=share / share.sum())


def _step(objective: Objective, optimiser: torch.optim.Optimizer, batch: Batch, precision: Precision, clip: float) -> dict[str, float]:
    """Take one step and return the loss parts and their total as numbers."""
    batch = replace(batch, inputs=[precision.place(images) for images in batch.inputs], targets=batch.targets.to(device()))
    with precision.autocast():
        parts = objective(batch)
    total = objective.total(parts)
    values = {**{name: part.item() for name, part in parts.items()}, "total": total.item()}
    if math.isfinite(values["total"]):  # a step along a NaN would spoil the last good state
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        if clip:
            nn.utils.clip_grad_norm_(objective.parameters(), clip)
        optimiser.step()
    return values


def _check_finite(parts: dict[str, float], label: str, number: int, when: str, folder: Path, settings: NetworkSettings) -> None:
    broken = [name for name, value in parts.items() if not math.isfinite(value)]
    if broken:
        kept = f"The state after epoch {number} is kept in {folder}." if number else "No epoch was finished."
        raise DivergedError(
            f"{label}: the loss ({', '.join(broken)}) became {parts[broken[0]]} in epoch {number + 1}, {when}. "
            f'{kept} Lower lr (now {settings.lr:g}), or set precision = "fp32".'
        )


def _rank(row: dict[str, float]) -> tuple[float, float]:
    return row["val.balanced_accuracy"], -row["val.cross_entropy"]


def _should_stop(history: list[dict[str, float]], best_epoch: int, settings: NetworkSettings) -> bool:
    return settings.patience > 0 and len(history) - best_epoch >= settings.patience


def _report(label: str, history: list[dict[str, float]], best_epoch: int, epochs: int) -> None:
    row = history[-1]
    rest = np.median([entry["seconds"] for entry in history]) * (epochs - len(history))
    say(
        f"{label}, epoch {len(history)}/{epochs}: loss {row['train.total']:.3f}, validation balanced accuracy "
        f"{row['val.balanced_accuracy']:.3f} (best {history[best_epoch - 1]['val.balanced_accuracy']:.3f} in epoch {best_epoch}), "
        f"{duration(round(rest))} left"
    )


@contextlib.contextmanager
def _reproducible(seed: int) -> Iterator[Any]:
    """Seed torch's own draws (dropout) for one epoch and ask for deterministic kernels; the caller's state comes back."""
    before, only_warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=only_warns)
