"""A sweep's figures: each setting over its seeds and folds, and which of them validation prefers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core import files, numbers
from pellucid.core.errors import RunError
from pellucid.core.records import ROLES, Measurement, SweepRow
from pellucid.core.settings import in_words
from pellucid.scale.plan import Cell
from pellucid.stats import classification
from pellucid.stats.intervals import Interval, interval, mean_interval, resample

PREDICTION: dict[str, Callable[..., Any]] = {
    "balanced_accuracy": classification.balanced_accuracy, "accuracy": classification.accuracy, "macro_f1": classification.macro_f1,
    "auc": classification.auc_ovr, "cross_entropy": classification.cross_entropy,
}  # fmt: skip
LOWER_IS_BETTER = ("cross_entropy",)
DIFFERENCES = (("student", "base"), ("student", "teacher"), ("base", "teacher"))
FOLDS = "data.fold"  # repeats of this axis are parts of one whole, pooled; all others are averaged


@dataclass(frozen=True)
class Outputs:
    """What the networks of one run said of one side of its split: ids and units (text [n]), targets (int64 [n]), logits by role."""

    ids: np.ndarray
    units: np.ndarray
    targets: np.ndarray
    logits: dict[str, np.ndarray]


def settings_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return the runs grouped by setting: those of one group differ in seed or fold only."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(in_words(cell.setting), []).append(cell)
    return list(groups.values())


class Pool:
    """Predictions of several runs of one setting, and the resamples that all figures on them share.

    Folds are put together before a figure is taken; the figures of several seeds are averaged. A unit that is drawn counts in all
    runs at once, so differences are paired and seeds share their units' luck.

    Parameters
    ----------
    runs : sequence of Outputs
    repeats : sequence of dict
        Seed and fold of each run.
    split, unit : str
        For the measurements.
    resamples : int
    models : sequence of str
        Keys of the runs' logits; those that a run lacks are left out.
    pairs : sequence of (str, str)
        Of which models to take differences.
    """

    def __init__(
        self, runs: Sequence[Outputs], repeats: Sequence[dict[str, Any]], *, split: str, unit: str, resamples: int,
        models: Sequence[str] = ROLES, pairs: Sequence[tuple[str, str]] = DIFFERENCES,
    ) -> None:  # fmt: skip
        self.ids, self.units, self.targets = (np.concatenate([getattr(run, name) for run in runs]) for name in ("ids", "units", "targets"))
        self.roles = [role for role in models if all(role in run.logits for run in runs)]
        self.logits = {role: np.concatenate([run.logits[role] for run in runs]) for role in self.roles}
        self.weights = resample(self.targets, self.units, resamples=resamples)
        self.parts = _parts([len(run.ids) for run in runs], repeats)
        self.split, self.unit, self.pairs = split, unit, pairs

    def predictions(self) -> list[Measurement]:
        """Measure each role, and each difference between roles."""
        models: list[tuple[str, ...]] = [(role,) for role in self.roles]
        models += [pair for pair in self.pairs if set(pair) <= set(self.roles)]
        return [self._prediction(name, model) for name in PREDICTION for model in models]

    def mean(self, first: Measurement, values: np.ndarray, each: list[str]) -> Measurement:
        """Measure the mean of values per image (NaN where there is none), named as the measurement of one of the runs is."""
        found = mean_interval(values, self.weights, units=self.units, unit=self.unit)
        found = replace(found, n_images=len(np.unique(self.ids[np.isfinite(values)])))
        made = self._measurement(first.name, found, model=first.model, better=first.better, by=first.by, each=each)
        return replace(made, source=first.source)

    def _prediction(self, name: str, model: tuple[str, ...]) -> Measurement:
        metric, lower = PREDICTION[name], name in LOWER_IS_BETTER

        def of_part(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
            first, *second = (metric(self.targets[rows], self.logits[role][rows], counts[:, rows]) for role in model)
            return first - second[0] if second else first

        def statistic(counts: np.ndarray) -> np.ndarray:
            return np.mean([of_part(rows, counts) for rows in self.parts.values()], axis=0)

        n_units, n_images = len(np.unique(self.units)), len(np.unique(self.ids))
        found = interval(statistic, self.weights, n_units=n_units, unit=self.unit, n_images=n_images, share=len(model) == 1 and not lower)
        once = np.ones((1, len(self.targets)), np.int32)
        sign = "+" if len(model) == 2 else ""
        each = [f"{part}: {of_part(rows, once)[0]:{sign}.3f}" for part, rows in self.parts.items()]
        own_name = name if len(model) == 1 else f"{name}_difference"
        return self._measurement(own_name, found, model=" - ".join(model), better="lower" if lower else "higher", each=each)

    def _measurement(self, name: str, found: Interval, *, model: str, better: Any, each: list[str], by: str = "") -> Measurement:
        reason = "; ".join(filter(None, [found.reason, *(each if len(each) > 1 else [])]))
        return Measurement(
            name, found.value, found.low, found.high, n_images=found.n_images, n_units=found.n_units, unit=self.unit, model=model,
            split=self.split, method=found.method, better=better, by=by, reason=reason,
        )  # fmt: skip


def reported(folders: Sequence[Path], repeats: Sequence[dict[str, Any]], *, unit: str, resamples: int) -> list[Measurement]:
    """Measure a setting on the test split, from its runs' folders.

    One run's figures are taken as they stand. Of several, predictions are pooled and values per image averaged. What has neither (times,
    sizes) is averaged as it stands, its interval's ends too: a mean never varies more than its parts do on average, so that is too wide at worst.
    """
    own = [[Measurement.from_json(m) for m in files.read_json(folder / "measurements.json")["measurements"]] for folder in folders]
    own = [[m for m in measurements if m.stratum == "all"] for measurements in own]
    if len(folders) == 1:
        return own[0]
    runs = [read_outputs(folder / "predictions.npz", "test") for folder in folders]
    pool = Pool(runs, repeats, split="test", unit=unit, resamples=resamples)
    made = pool.predictions()
    there = {(m.name, m.model) for m in made}
    per_image = [dict(np.load(folder / "judgements.npz")) for folder in folders]
    for first in own[0]:
        if (first.name, first.model) in there:
            continue
        same = [next((m for m in one if (m.name, m.model, m.by) == (first.name, first.model, first.by)), None) for one in own]
        each = [f"{in_words(repeat)}: {_said(m)}" for repeat, m in zip(repeats, same, strict=True)]
        of_images = [found for values in per_image if (found := _of_images(values, first)) is not None]
        if len(of_images) == len(own):
            made.append(pool.mean(first, np.concatenate(of_images), each))
        else:
            made.append(_mean_of_runs(first, same, repeats, each))
    return made


def read_outputs(path: Path, split: str) -> Outputs:
    """Read one side of a run's predictions, or a network's validation logits."""
    with np.load(path, allow_pickle=False) as content:
        prefix = f"{split}.logits."
        logits = {name.removeprefix(prefix): content[name] for name in content.files if name.startswith(prefix)}
        return Outputs(content[f"{split}.ids"], content[f"{split}.units"], content[f"{split}.targets"], logits)


def choice(rows: Sequence[SweepRow], measure: str) -> tuple[int, str]:
    """Return which row validation prefers, and why in words.

    A row without the figure is never chosen; among equals the first stands.

    Raises
    ------
    RunError
        No row has the figure.
    """
    found = [row.find(measure, "student") for row in rows]
    judged = [i for i, m in enumerate(found) if m is not None and m.value is not None]
    name = measure.replace("_", " ")
    if not judged:
        reason = next((m.reason for m in found if m is not None), "not measured")
        raise RunError(
            f"no setting has a figure for {name} on validation ({reason}). Set sweep.choose to another measure, or enlarge data.val_share."
        )
    sign = -1 if measure in LOWER_IS_BETTER else 1
    best = max(judged, key=lambda i: (sign * found[i].value, -i))  # type: ignore[union-attr, operator]
    if len(rows) == 1:
        return best, "there is one setting only"
    chosen = found[best]
    assert chosen is not None and chosen.value is not None
    if len({found[i].value for i in judged}) == 1:  # type: ignore[union-attr]
        return best, f"all settings have the same {name} on validation, {numbers.full(chosen)}, and it is the first"
    text = f"its student has the {'lowest' if sign < 0 else 'highest'} {name} on validation, {numbers.full(chosen)}"
    within = [i for i in judged if i != best and _inside(found[i], chosen)]
    if within:
        text += f"; {len(within)} of the other {len(rows) - 1} settings lie inside this interval, so the choice among them may be luck"
    return best, text


def _mean_of_runs(
    first: Measurement, same: Sequence[Measurement | None], repeats: Sequence[dict[str, Any]], each: Sequence[str]
) -> Measurement:
    """Return the mean of a figure over runs, with the mean of its interval's ends; undefined where it is undefined in any run."""
    there = [m for m in same if m is not None and m.value is not None]
    if len(there) < len(same):
        lacking = next((m for m in same if m is not None and m.value is None), None)
        reason = numbers.undefined(lacking) if lacking is not None and not there else f"undefined: not in every run ({'; '.join(each)})"
        return replace(first, value=None, low=None, high=None, method="", reason=reason)
    ends = [(m.low, m.high) for m in there if m.low is not None and m.high is not None]
    low, high = np.mean(ends, axis=0).tolist() if len(ends) == len(there) else (None, None)
    method = f"mean of {len(there)} runs" + (f" and of their intervals' ends; {first.method}" if low is not None else "")
    value = float(np.mean([m.value for m in there]))
    # Folds are parts of one whole, so their images add up; other repeats look at the same images again.
    parts = _parts([1] * len(there), repeats).values()
    n_images, n_units = (max(sum(getattr(there[i], n) for i in part) for part in parts) for n in ("n_images", "n_units"))
    return replace(first, value=value, low=low, high=high, n_images=n_images, n_units=n_units, method=method, reason="; ".join(each))


def _said(m: Measurement | None) -> str:
    return "not measured" if m is None else numbers.undefined(m) if m.value is None else f"{m.value:.3g}"


def _of_images(values: Mapping[str, np.ndarray], figure: Measurement) -> np.ndarray | None:
    """Return the values per image whose mean a figure is, or None where it is no such mean."""
    name, by, model = figure.name, figure.by, figure.model
    if name == "transferred":
        name, model = "similarity_difference", "student - base"
    if not name.endswith("_difference"):
        return values.get(f"{name}/{by}/{model}")
    plain = name.removesuffix("_difference")
    one, other = (f"{plain}/{b}/{m}" for b, m in zip(_two(by), _two(model), strict=True))
    return values[one] - values[other] if one in values and other in values else None


def _two(name: str) -> tuple[str, str]:
    """Return both sides of ``a - b``; a name by itself is both."""
    one, _, other = name.partition(" - ")
    return one, other or one


def _inside(other: Measurement | None, chosen: Measurement) -> bool:
    if other is None or other.value is None or chosen.low is None or chosen.high is None:
        return False
    return chosen.low <= other.value <= chosen.high


def _parts(lengths: Sequence[int], repeats: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return which rows of all runs, one after another, belong to each repetition; folds of one repetition stand together."""
    parts: dict[str, list[np.ndarray]] = {}
    for repeat, (start, end) in zip(repeats, pairwise(np.cumsum([0, *lengths])), strict=True):
        name = in_words({key: value for key, value in repeat.items() if key != FOLDS}) or "all"
        parts.setdefault(name, []).append(np.arange(start, end))
    return {name: np.concatenate(rows) for name, rows in parts.items()}
