"""Which columns of the manifest go with the class: shortcuts a network could take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.data.dataset import Dataset
from pellucid.data.split import SPELLINGS
from pellucid.stats.association import cramers_v

BINS = 5  # bins of equal count for numbers
FEW = 10  # numbers with at most so many different values are taken as categories
_SIDES = {spelling for spellings in SPELLINGS.values() for spelling in spellings}


def associations(dataset: Dataset) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return how strongly each column goes with the class, and which columns were left out and why.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    found : list of dict, strongest first
        ``column``, ``kind`` (``category`` or ``number``), ``cramers_v``, ``p``, ``n`` (images), ``levels`` (missing counts as one, since
        what is missing can give a class away), and ``relation``: ``""``, ``names the class`` (one to one), ``follows from the
        class`` (a coarser label: these two are no shortcuts) or ``tells the class`` (a finer label, or a perfect shortcut).
    left_out : dict of column -> reason

    Notes
    -----
    Bias correction and p-value count resampling units (subjects where known), not images.
    """
    target = _class_numbers(dataset)
    units = np.unique(dataset.resampling_units, return_inverse=True)[1]
    found, left_out = [], {}
    for column, values in dataset.columns.items():
        why = _unfit(values, units)
        if why:
            left_out[column] = why
            continue
        kind, levels = _levels(values)
        v, p = cramers_v(levels, target, n_units=len(np.unique(units)))
        relation = _relation(values, target) if kind == "category" else ""
        found.append({
            "column": column, "kind": kind, "cramers_v": round(v, 4), "p": p, "n": len(values), "levels": len(np.unique(levels)),
            "relation": relation,
        })  # fmt: skip
    return sorted(found, key=lambda row: (-row["cramers_v"], row["column"])), left_out


def _class_numbers(dataset: Dataset) -> NDArray[np.int64]:
    """Return one number for each image's class, or set of classes."""
    if dataset.targets.ndim == 1:
        return dataset.targets
    return np.unique(dataset.targets, axis=0, return_inverse=True)[1].reshape(-1)


def _unfit(values: Sequence[str], units: NDArray[np.int64]) -> str:
    """Return why a column says nothing about the class, or ""."""
    present = [value for value in values if value]
    distinct = set(values)
    if len(distinct) < 2:
        return "the same everywhere" if present else "empty"
    if {value.strip().lower() for value in present} <= _SIDES:
        return "a split"
    n_units = len({unit for value, unit in zip(values, units, strict=True) if value})
    n_levels = len(set(present))
    # Measured numbers may all differ; names and whole numbers that do are file names and ids.
    if n_levels > FEW and not (_numbers(present) and any("." in value for value in present)):
        if n_levels == len(present):
            return "as many values as images"
        if 2 * n_levels > n_units and not _numbers(present):
            return f"{n_levels:,} values for {n_units:,} units: it names them"
    return ""


def _levels(values: Sequence[str]) -> tuple[str, NDArray[np.int64]]:
    """Return the kind of a column and a category [N] for each value; 0 is missing."""
    present = np.array([bool(value) for value in values])
    numbers = _numbers([value for value in values if value])
    levels = np.zeros(len(values), dtype=np.int64)
    if numbers is None or len(set(numbers)) <= FEW:
        levels[present] = 1 + np.unique([value for value in values if value], return_inverse=True)[1]
        return "category", levels
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
    levels[present] = 1 + np.searchsorted(edges, numbers, side="right")
    return "number", levels


def _numbers(values: Sequence[str]) -> list[float] | None:
    """Return the values as finite numbers, or None where one isn't."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _relation(values: Sequence[str], target: NDArray[np.int64]) -> str:
    pairs = set(zip(target.tolist(), values, strict=True))
    one_value = len(pairs) == len({kind for kind, _ in pairs})  # each class has one value
    one_class = len(pairs) == len({value for _, value in pairs})  # each value has one class
    if one_value:
        return "names the class" if one_class else "follows from the class"
    return "tells the class" if one_class else ""
