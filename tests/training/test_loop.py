"""The training loop: resume equals never having stopped; validation chooses; NaN stops it with the last good state kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.core.errors import DivergedError
from pellucid.core.settings import NetworkSettings
from pellucid.training import checkpoint, loop
from pellucid.training.loop import epoch_order, fit
from pellucid.training.objective import HardLoss, Supervised
from pellucid.training.optim import learning_rate
from pellucid.training.precision import Precision


class Stopped(Exception):
    """Planted to stop a training."""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.LazyLinear(4))


def train(data, folder, *, epochs=3, stop_after=None, monkeypatch=None, poison=None, **settings):
    asked = NetworkSettings(epochs=epochs, batch_size=16, **settings)
    model = network()
    model(torch.zeros(2, 1, 32, 32))
    objective = Supervised(model, HardLoss(data.task, data.train.targets))
    if poison is not None:
        objective.hard_loss = poison(objective.hard_loss)
    if stop_after is not None:
        real = checkpoint.save

        def save(path, state, **kind):
            real(path, state, **kind)
            if path.name == "last.pt" and len(state["history"]) == stop_after:
                raise Stopped

        monkeypatch.setattr(checkpoint, "save", save)
    return fit(objective, data.train, data.val, [data.spec()], asked, views=data.views, n_views=2, seed=5,
               precision=Precision(False, False), folder=folder, label="test network")  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_training_equals_one_that_never_stopped(phantom, tmp_path, monkeypatch, optimizer):
    """Weights (dropout and batch norm included) and the whole history agree to the bit, but for time."""
    whole = train(phantom, tmp_path / "whole", optimizer=optimizer)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        train(phantom, tmp_path / "stopped", stop_after=2, monkeypatch=patch, optimizer=optimizer)
    resumed = train(phantom, tmp_path / "stopped", optimizer=optimizer)
    assert all(torch.equal(whole.last[name], resumed.last[name]) for name in whole.last)
    assert all(torch.equal(whole.best[name], resumed.best[name]) for name in whole.best)
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.history] for run in (whole, resumed)]
    assert timeless[0] == timeless[1]


def test_the_best_epoch_is_the_one_validation_ranks_highest(phantom, tmp_path):
    """Best means highest balanced accuracy on validation, ties by lower cross-entropy."""
    fitted = train(phantom, tmp_path, epochs=4)
    ranks = [(row["val.balanced_accuracy"], -row["val.cross_entropy"]) for row in fitted.history]
    assert fitted.best_epoch == 1 + ranks.index(max(ranks))


def test_a_nan_loss_stops_and_keeps_the_last_good_state(phantom, tmp_path):
    """The message says which part, where, and what to do; the state after the epoch before can be read and is finite."""
    steps = iter(range(1000))

    def poison(hard_loss):
        def poisoned(logits, targets):
            return hard_loss(logits, targets) * (float("nan") if next(steps) == 5 else 1.0)

        return poisoned

    epoch, step = divmod(5, math.ceil(len(phantom.train) / 16))
    where = rf"test network: the loss \(ce, total\) became nan in epoch {epoch + 1}, step {step + 1}\. .*kept in"
    with pytest.raises(DivergedError, match=where):
        train(phantom, tmp_path, poison=poison)
    state = checkpoint.load(tmp_path / "last.pt")
    assert len(state["history"]) == epoch == 1
    assert all(torch.isfinite(value.float()).all() for value in state["objective"].values())


def test_weights_spoilt_by_an_epochs_last_step_are_not_kept(phantom, tmp_path, monkeypatch):
    """No loss sees the last step's weights; validation does, and the state before stays."""
    real = loop.predict
    logits = iter([1.0, float("nan")])
    monkeypatch.setattr(loop, "predict", lambda *asked: real(*asked) * next(logits))
    with pytest.raises(
        DivergedError, match=r"the loss \(validation logits\) became nan in epoch 2, after its last step\. .*after epoch 1 is kept"
    ):
        train(phantom, tmp_path)
    assert len(checkpoint.load(tmp_path / "last.pt")["history"]) == 1


def test_early_stopping_ends_after_epochs_without_a_better_validation(phantom, tmp_path, monkeypatch):
    """Where validation never changes the first epoch stays best, and patience ends the training."""
    monkeypatch.setattr(loop, "predict", lambda model, images, *rest: np.zeros((len(images), 4), np.float32))
    fitted = train(phantom, tmp_path, epochs=10, patience=2)
    assert fitted.best_epoch == 1
    assert len(fitted.history) == 3


def test_balanced_sampler_draws_classes_equally_often():
    """A class of a tenth of the images is drawn as often as the other."""
    targets = np.repeat([0, 1], [900, 100])
    drawn = targets[epoch_order(targets, seed=0, number=0, sampler="balanced")]
    assert 0.45 < drawn.mean() < 0.55


def test_shuffle_takes_each_image_once_and_differs_between_epochs():
    """An epoch is a permutation; the next epoch another one."""
    targets = np.zeros(50, np.int64)
    one, two = (epoch_order(targets, seed=0, number=number, sampler="shuffle") for number in (0, 1))
    assert sorted(one) == list(range(50))
    assert list(one) != list(two)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("cosine", [0.0, 0.5, 1.0, 0.5, 0.0]), ("constant", [0.0, 0.5, 1.0, 1.0, 1.0]), ("steps", [0.0, 0.5, 1.0, 1.0, 0.01])],
)
def test_learning_rate_follows_its_schedule(schedule, expected):
    """Warm-up over two of ten epochs, then the schedule; worked out by hand at epochs 0, 1, 2, 6 and 10."""
    settings = NetworkSettings(epochs=10, warmup_epochs=2, lr=1.0, schedule=schedule)
    assert [learning_rate(at, settings) for at in (0, 1, 2, 6, 10)] == pytest.approx(expected)


def test_balanced_class_weights_make_each_class_count_the_same():
    """Four images against one: weights 5/8 and 5/2."""
    from pellucid.core.records import Task

    hard_loss = HardLoss(Task("single", ("a", "b")), np.array([0, 0, 0, 0, 1]), class_weights="balanced")
    assert hard_loss.class_weights.tolist() == pytest.approx([0.625, 2.5])


def test_a_damaged_checkpoint_is_named(tmp_path):
    """A file that was cut or overwritten by something else is refused with its path, not read."""
    from pellucid.core.errors import RunError

    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match=r"last\.pt: this checkpoint is damaged"):
        checkpoint.load(tmp_path / "last.pt")
