"""Figures of a setting over its seeds and folds, against the plain form; and what validation chooses."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core import files
from pellucid.core.errors import RunError
from pellucid.core.records import Measurement, SweepRow
from pellucid.scale import summary
from pellucid.scale.summary import Outputs, Pool, choice, reported
from pellucid.stats.classification import balanced_accuracy


def outputs(seed, *, n=60, first=0, roles=("teacher", "base", "student")):
    """Return logits that are right more often than not; 3 images of each unit."""
    draws = np.random.default_rng(seed)
    targets = np.repeat(np.arange(n // 3) % 2, 3)
    logits = {role: draws.normal(size=(n, 2)) + 1.5 * np.eye(2)[targets] for role in roles}
    ids = np.arange(first, first + n).astype(str)
    return Outputs(ids, np.repeat(np.arange(first, first + n // 3).astype(str), 3), targets, logits)


def figures(runs, repeats):
    pool = Pool(runs, repeats, split="val", unit="subjects", resamples=200)
    return {(m.name, m.model): m for m in pool.predictions()}


def test_one_run_is_measured_as_it_is():
    run = outputs(0)
    found = figures([run], [{}])["balanced_accuracy", "student"]
    assert found.value == pytest.approx(balanced_accuracy(run.targets, run.logits["student"]), abs=1e-12)
    assert (found.n_images, found.n_units, found.split, found.reason) == (60, 20, "val", "")
    assert found.low < found.value < found.high


def test_seeds_are_averaged_on_the_same_images():
    """The figure is the mean of the seeds' figures, n doesn't grow with seeds, and each seed's figure is named."""
    runs = [outputs(0), outputs(1)]
    each = [balanced_accuracy(run.targets, run.logits["student"]) for run in runs]
    found = figures(runs, [{"run.seed": 0}, {"run.seed": 1}])["balanced_accuracy", "student"]
    assert found.value == pytest.approx(np.mean(each), abs=1e-12)
    assert (found.n_images, found.n_units) == (60, 20)
    assert found.reason == f"seed 0: {each[0]:.3f}; seed 1: {each[1]:.3f}"


def test_folds_are_put_together_before_a_figure_is_taken():
    runs = [outputs(0, n=30), outputs(1, n=60, first=100)]
    targets = np.concatenate([run.targets for run in runs])
    logits = np.concatenate([run.logits["student"] for run in runs])
    found = figures(runs, [{"data.fold": 0}, {"data.fold": 1}])["balanced_accuracy", "student"]
    assert found.value == pytest.approx(balanced_accuracy(targets, logits), abs=1e-12)
    assert (found.n_images, found.n_units) == (90, 30)


def test_differences_are_paired_over_all_runs():
    """A network against its own copy differs nowhere, in no resample."""
    run = outputs(0)
    run.logits["base"] = run.logits["student"]
    found = figures([run, run], [{"run.seed": 0}, {"run.seed": 1}])["balanced_accuracy_difference", "student - base"]
    assert found.value == 0.0 and found.low is None
    assert "the resamples don't differ" in found.reason


def test_several_reported_runs_average_values_per_image_and_times(tmp_path):
    """Per image where there are values per image, also for what is a difference of two; else the plain mean, of an interval's ends too.

    What is undefined in a run is undefined with a reason, and each run's figure bears its own name.
    """
    folders = [tmp_path / name for name in ("a", "b")]
    for number, folder in enumerate(folders):
        run = outputs(number)
        about = {"test.ids": run.ids, "test.units": run.units, "test.targets": run.targets}
        files.write_npz(folder / "predictions.npz", about | {f"test.logits.{role}": z for role, z in run.logits.items()})
        values = {
            f"mask_fidelity/grad_cam/{role}": np.full(60, 0.5 + 0.1 * k + 0.2 * number) for k, role in enumerate(("teacher", "student"))
        }
        files.write_npz(folder / "judgements.npz", values)
        rows = [
            Measurement("mask_fidelity", 0.0, model="student", by="grad_cam"),
            Measurement("mask_fidelity_difference", 0.0, model="student - teacher", by="grad_cam"),
            Measurement("met", 1.0 + number, model="student", by="grad_cam"),
            Measurement("met_ratio", 4.0 + 2 * number, 3.0 + number, 5.0 + 4 * number, model="teacher / student", by="grad_cam"),
            Measurement(
                "iou", None if number == 0 else 0.5, model="student", by="grad_cam", reason="undefined: no mask" if number == 0 else ""
            ),
            Measurement("iou", None, model="base", by="grad_cam", reason="not judged: grid 3x3"),
            Measurement("recall", 0.0, model="student", stratum="a class"),
        ]
        files.write_json(folder / "measurements.json", {"measurements": [row.to_json() for row in rows]})
    found = {(m.name, m.model): m for m in reported(folders, [{"run.seed": 0}, {"run.seed": 1}], unit="subjects", resamples=100)}
    assert found["mask_fidelity", "student"].value == pytest.approx(0.7)
    assert found["mask_fidelity", "student"].n_images == 60
    assert found["mask_fidelity_difference", "student - teacher"].value == pytest.approx(0.1)
    assert (found["met", "student"].value, found["met", "student"].method) == (1.5, "mean of 2 runs")
    ratio = found["met_ratio", "teacher / student"]
    assert (ratio.value, ratio.low, ratio.high) == (5.0, 3.5, 7.0) and ratio.reason == "seed 0: 4; seed 1: 6"
    assert (found["iou", "student"].value, found["iou", "student"].reason) == (
        None,
        "undefined: not in every run (seed 0: undefined: no mask; seed 1: 0.5)",
    )
    assert (found["iou", "base"].value, found["iou", "base"].reason) == (None, "not judged: grid 3x3")
    assert ("recall", "student") not in found
    assert found["accuracy", "student"].split == "test"


def test_images_of_folds_add_up_and_those_of_seeds_do_not():
    """Two seeds over two folds of 30 and 40 images: each image counts once."""
    same = [Measurement("met", 1.0, model="student", n_images=n, n_units=n - 10) for n in (30, 40, 30, 40)]
    repeats = [{"run.seed": seed, "data.fold": fold} for seed in (0, 1) for fold in (0, 1)]
    found = summary._mean_of_runs(same[0], same, repeats, [])
    assert (found.n_images, found.n_units, found.value) == (70, 50, 1.0)


def row(value, low=None, high=None, name="balanced_accuracy"):
    return SweepRow({"distill.alpha": value}, [Measurement(name, value, low, high, model="student", split="val")], [], 0.0)


def test_validation_chooses_the_best_and_says_who_is_as_good():
    index, why = choice([row(0.7), row(0.9, 0.75, 0.95), row(0.8)], "balanced_accuracy")
    assert index == 1
    assert "highest balanced accuracy" in why and "1 of the other 2 settings" in why


def test_a_loss_is_chosen_where_it_is_lowest():
    rows = [row(0.7, name="cross_entropy"), row(0.2, name="cross_entropy")]
    assert choice(rows, "cross_entropy")[0] == 1


def test_among_equals_the_first_stands_and_it_is_said():
    index, why = choice([row(0.5), row(0.5)], "balanced_accuracy")
    assert index == 0 and "all settings have the same" in why


def test_a_figure_that_no_setting_has_chooses_nothing():
    """A validation split without one of the classes has no AUC: the message says so and what to set."""
    rows = [SweepRow({}, [Measurement("auc", None, model="student", split="val", reason="one class only")], [], 0.0)] * 2
    with pytest.raises(RunError, match=r"no setting has a figure for auc on validation \(one class only\).*sweep.choose"):
        choice(rows, "auc")
