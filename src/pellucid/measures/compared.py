"""Paired comparisons of values per image, each with an interval and a test, all tests of one family corrected together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np

from pellucid.core.records import Measurement
from pellucid.measures import maps as shapes
from pellucid.measures.judged import Judged
from pellucid.stats.paired import holm, wilcoxon_by_unit

Better = Literal["higher", "lower", "neither"]
ROLE_PAIRS = (("student", "teacher"), ("student", "base"))


@dataclass(frozen=True)
class Pair:
    """Two sets of values on the same images, float arrays [N] with NaN where an image has none; `facts` say what they are of."""

    a: np.ndarray
    b: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


def compare(judged: Judged, name: str, pairs: Sequence[Pair]) -> list[Measurement]:
    """Measure a - b of each pair on the images that have both.

    Parameters
    ----------
    judged : Judged
    name : str
        Of the measurement, e.g. ``mask_fidelity_difference``.
    pairs : sequence of Pair
        One family: Holm's correction is over all of them that can be tested.

    Returns
    -------
    list of Measurement
        Intervals over resampling units; the p-value of Wilcoxon's test on units' means stands in `reason`.
    """
    p_values = holm([wilcoxon_by_unit(pair.a, pair.b, judged.units) for pair in pairs])
    tested = int(np.isfinite(p_values).sum())
    found = []
    for pair, p in zip(pairs, p_values, strict=True):
        test = f"Wilcoxon on {judged.unit}, Holm over {tested}: p " + (f"= {p:.2g}" if p >= 0.001 else "< 0.001")
        reason = test if np.isfinite(p) else ""
        found.append(judged.mean(name, pair.a - pair.b, source="paired on the same images", reason=reason, **pair.facts))
    return found


def between_methods(
    judged: Judged, role: str, name: str, values: dict[str, np.ndarray], *, better: Better = "higher"
) -> list[Measurement]:  # fmt: skip
    """Compare each pair of methods of one network, and each method with each control, on the images that both have.

    Parameters
    ----------
    judged : Judged
    role, name : str
        The network, and the measure; the rows are called ``<name>_difference``, `by` ``a - b``.
    values : dict of method or control -> float array [N]
    better : str
        As of the measure.
    """
    pairs = [pair for pair in combinations(values, 2) if not set(pair) <= set(shapes.CONTROLS)]
    facts = {pair: {"model": role, "by": " - ".join(pair), "better": better} for pair in pairs}
    return compare(judged, f"{name}_difference", [Pair(values[a], values[b], facts[a, b]) for a, b in pairs])


def between_roles(
    judged: Judged, name: str, values: dict[tuple[str, str], np.ndarray], *, better: Better = "higher"
) -> list[Measurement]:  # fmt: skip
    """Compare the student with the teacher and with the base, method by method.

    Parameters
    ----------
    judged : Judged
    name : str
        The measure; the rows are called ``<name>_difference``.
    values : dict of (role, method) -> float array [N]
        What was measured of each image. A method that either network lacks is undefined, and says so. Controls, which are no method of
        the run, are compared too, as a family of their own.
    better : str
        As of the measure.
    """
    found: list[Measurement] = []
    for first, second in ROLE_PAIRS:
        if not {first, second} <= {explanation.model for explanation in judged.explanations}:
            continue
        pairs: dict[bool, list[Pair]] = {True: [], False: []}  # by whether it is a method of the run, or a control
        for method in dict.fromkeys([*judged.methods, *(by for _, by in values)]):
            facts: dict[str, Any] = {"model": f"{first} - {second}", "by": method, "better": better}
            lacking = [role for role in (first, second) if (role, method) not in values]
            if lacking:
                reason = f"undefined: {' and '.join(lacking)} not judged"
                found.append(Measurement(f"{name}_difference", None, unit=judged.unit, reason=reason, **facts))
            else:
                pairs[method in judged.methods].append(Pair(values[first, method], values[second, method], facts))
        found += [row for family in pairs.values() for row in compare(judged, f"{name}_difference", family)]
    return found
