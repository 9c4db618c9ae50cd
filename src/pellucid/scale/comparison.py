"""Two runs side by side, on the same test images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core import files
from pellucid.core.errors import RunError
from pellucid.core.records import Measurement
from pellucid.measures.transfer import alike
from pellucid.running.folder import RunFolder, open_run
from pellucid.scale.summary import Outputs, Pool, read_outputs

A, B, DIFFERENCE = "A", "B", "B - A"


def compare(a: Path | str, b: Path | str, *, role: str = "student") -> list[Measurement]:
    """Compare one network of two runs, image by image.

    Parameters
    ----------
    a, b : Path or str
        Run folders that have been measured, on the same test images.
    role : str
        ``student``, ``base``, ``teacher``, or another network of both runs.

    Returns
    -------
    list of Measurement
        `model` is ``A``, ``B`` or ``B - A``: prediction, then every value per image that both runs have (fidelity, localisation, ...) by
        explainer; and ``similarity`` of their maps (`model` ``A ~ B``), Spearman's rank correlation for the same class.

    Raises
    ------
    RunError
        A folder holds no measured run, the runs were judged by versions that judge differently, they have other test images or classes, or
        no network of that role.
    """
    first, second = open_run(a), open_run(b)
    one, other = _outputs(first, role), _outputs(second, role)
    order = _order(one, other, first, second)
    both = replace(one, logits={A: one.logits[role], B: other.logits[role][order]})
    unit = _unit(first, second)
    pool = Pool([both], [{}], split="test", unit=unit, resamples=first.settings.measure.resamples, models=(A, B), pairs=((B, A),))
    found = pool.predictions()
    left, right = (_whole(run, "judgements.npz", _arrays) for run in (first, second))
    for key in [key for key in left if key in right and key.endswith(f"/{role}")]:
        name, by, _ = key.split("/")
        values = {A: left[key], B: right[key][order], DIFFERENCE: right[key][order] - left[key]}
        found += [
            pool.mean(Measurement(name if model != DIFFERENCE else f"{name}_difference", None, model=model, by=by), of_images, [])
            for model, of_images in values.items()
        ]
    return found + _alike(pool, first, second, role, order)


def _outputs(run: RunFolder, role: str) -> Outputs:
    found = files.unless_damaged(lambda: read_outputs(run.path / "predictions.npz", "test"))
    if found is None or not all((run.path / name).exists() for name in ("judgements.npz", "measurements.json")):
        raise RunError(f"{run.path}: was not measured yet. `pellucid measure {run.path}` does it.")
    if role not in found.logits:
        raise RunError(f"{run.path}: has no network called {role}, only {', '.join(found.logits)}.")
    return found


def _whole(run: RunFolder, name: str, read: Callable[[Path], Any]) -> Any:
    """Return what `read` finds in a file of a run, which is there."""
    found = files.unless_damaged(lambda: read(run.path / name))
    if found is None:
        raise RunError(f"{run.path}: {name} is damaged. `pellucid measure {run.path}` makes it anew.")
    return found


def _unit(first: RunFolder, second: RunFolder) -> str:
    """Return what both runs resample, once it is sure that they were judged alike."""
    (unit, judged), (_, judged_other) = (
        _whole(
            run,
            "measurements.json",
            _unit_and_versions,
        )
        for run in (first, second)
    )
    if judged != judged_other:
        raise RunError(
            f"{first.path} and {second.path}: were judged by versions of Pellucid that judge differently. "
            "`pellucid measure` on each judges it anew, where that is needed."
        )
    return unit


def _unit_and_versions(path: Path) -> tuple[str, Any]:
    content = files.read_json(path)
    unit = content["unit"] if "unit" in content else content["measurements"][0]["unit"]  # before version 8 it stood there alone
    return unit, content.get("stage_versions")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as content:
        return dict(content)


def _order(one: Outputs, other: Outputs, first: RunFolder, second: RunFolder) -> np.ndarray:
    """Return where the first run's images stand in the second."""
    place = {name: i for i, name in enumerate(other.ids.tolist())}
    common = sum(name in place for name in one.ids.tolist())
    if common < len(one.ids) or len(one.ids) != len(other.ids):
        raise RunError(
            f"{first.path} and {second.path}: {common:,} of their {len(one.ids):,} and {len(other.ids):,} test images are the same. "
            "Runs can be compared image by image only on one test split."
        )
    order = np.array([place[name] for name in one.ids.tolist()])
    if not np.array_equal(one.targets, other.targets[order]) or _classes(first) != _classes(second):
        raise RunError(f"{first.path} and {second.path}: the same images have other classes. Runs of two tasks can't be compared.")
    return order


def _classes(run: RunFolder) -> list[str]:
    with np.load(run.path / "predictions.npz") as content:
        return content["classes"].tolist()


def _alike(pool: Pool, first: RunFolder, second: RunFolder, role: str, order: np.ndarray) -> list[Measurement]:
    """Return how alike both networks' maps are, by each method that both runs used."""
    left, right = (files.unless_damaged(partial(run.read_maps, len(order), len(_classes(first)))) for run in (first, second))
    if left is None or right is None:
        lacking = " and ".join(str(run.path) for run, maps in ((first, left), (second, right)) if maps is None)
        return [
            Measurement("similarity", None, unit=pool.unit, model="A ~ B", reason=f"undefined: the maps of {lacking} are gone or damaged")
        ]
    (maps_a, _, facts_a), (maps_b, _, facts_b) = left, right
    place = {int(row): i for i, row in enumerate(facts_b["rows"])}
    rows = [(i, int(row)) for i, row in enumerate(facts_a["rows"]) if int(order[row]) in place]
    found = []
    for one in [e for e in maps_a if e.model == role]:
        other = next((e for e in maps_b if (e.model, e.method) == (role, one.method)), None)
        if other is not None and rows:
            in_a, in_b = np.array([i for i, _ in rows]), np.array([place[int(order[row])] for _, row in rows])
            values = np.full(len(pool.ids), np.nan)
            values[[row for _, row in rows]] = alike(one.some(in_a), other.some(in_b))
            found.append(pool.mean(Measurement("similarity", None, model="A ~ B", by=one.method), values, []))
    if not found:
        used = [", ".join(e.method for e in maps if e.model == role) or "none" for maps in (maps_a, maps_b)]
        reason = f"undefined: no method explained the same images in both runs (A: {used[0]}; B: {used[1]})"
        return [Measurement("similarity", None, unit=pool.unit, model="A ~ B", reason=reason)]
    return found
