"""Does the student look where the teacher looks, and more so than the same network without a teacher?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pellucid.core.numbers import with_interval
from pellucid.core.records import ROLES, TWIN, Explanation, Measurement
from pellucid.core.registry import part
from pellucid.core.rng import derive, uniform
from pellucid.data.dataset import evenly_spaced
from pellucid.measures import maps as shapes
from pellucid.measures.judged import Judged, Judgement, measurement
from pellucid.stats.intervals import interval, ratio_of_means

TOP = 0.2
AT_MOST = 200  # training images that the teacher's mean map is taken over
BATCH = 64  # ranks of maps on the image's own grid take several times their memory


@part()
def transfer(judged: Judged) -> Judgement:
    """Judge whether the student's maps lie where the teacher's do, beside the base, a twin and two anchors.

    Per image, for the same class, on the coarser of the two grids (the finer is averaged by area). Class methods are read by their
    positive part. Images where a map is dead or the two maps are for different classes are left out and counted; grids below 6x6
    aren't judged.

    Parameters
    ----------
    judged : Judged
        A network called ``twin`` is taken as a second teacher of another seed.

    Returns
    -------
    Judgement
        Per method and pair (``student ~ teacher``, ``base ~ teacher``, ``twin ~ teacher``, and the anchors ``shuffled ~ teacher``, the
        teacher's map of another subject's image of the class, and ``centre ~ teacher``, the teacher's mean map over training images):
        ``similarity`` (Spearman), ``similarity_top20`` (IoU of the top 20 %), ``similarity_cosine``. ``transferred``
        (``student - base``) is the paired difference of the Spearman similarities. Strata: classes, and who was right. With a twin:
        ``similarity_difference`` (``student - twin``, ``twin - base``) and ``transfer_gain``, transferred as a share of ``twin - base``:
        a ratio of means with one joint bootstrap, undefined unless the interval of ``twin - base`` lies wholly above 0. Per image (NaN
        where not judged): ``similarity/METHOD/student`` and so on.
    """
    found: list[Measurement] = []
    per_image: dict[str, np.ndarray] = {}
    for method in judged.methods:
        teacher = judged.explanation("teacher", method)
        others = {role: judged.explanation(role, method) for role in judged.roles if role != "teacher"}
        similarities = {}
        for role, explanation in others.items():
            if explanation is None:
                continue
            pair: dict[str, Any] = {"model": f"{role} ~ teacher", "by": method}
            grid = (0, 0) if teacher is None else _grid(teacher, _compared(others) if role == TWIN else [explanation])
            reason = "undefined: no teacher was explained" if teacher is None else shapes.too_coarse(np.empty((0, *grid)))
            if teacher is None or reason:
                found += [Measurement(name, None, unit=judged.unit, reason=reason, **pair) for name in MEASURES]
                continue
            values, note = _compare(explanation, teacher, grid)
            similarities[role] = judged.on_all(values["similarity"])
            per_image[f"similarity/{method}/{role}"] = similarities[role]
            for name, of_images in values.items():
                facts = {"reason": note, "source": SOURCES[name], **pair}
                everywhere = judged.on_all(of_images)
                found += judged.means(name, everywhere, **facts) if name == "similarity" else [judged.mean(name, everywhere, **facts)]
        if teacher is not None and not shapes.too_coarse(teacher.maps):
            found += _anchors(judged, teacher, _grid(teacher, _compared(others)))
        if "student" in others and "base" in others:
            found += _transferred(judged, similarities, method)
        if others.get(TWIN) is not None:
            found += _against_twin(judged, similarities, method)
    return Judgement(found, per_image)


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the rank correlation of each pair of maps; equal values share their mean rank.

    Parameters
    ----------
    a, b : float arrays [N, h, w]

    Returns
    -------
    float64 array [N]
        NaN where a map is constant.

    Source
    ------
    Spearman 1904.

    Examples
    --------
    >>> spearman(np.array([[[1.0, 2.0, 3.0]]]), np.array([[[10.0, 30.0, 20.0]]]))
    array([0.5])
    """
    from scipy.stats import rankdata

    ranks_a, ranks_b = (rankdata(maps.reshape(len(maps), math.prod(maps.shape[1:])), axis=1) for maps in (a, b))
    ranks_a, ranks_b = ranks_a - ranks_a.mean(1, keepdims=True), ranks_b - ranks_b.mean(1, keepdims=True)
    return _cosine(ranks_a, ranks_b)


def top20(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return intersection over union of the top 20 % of each pair of maps [N, h, w] -> [N]; 1/9 by chance."""
    kept_a, kept_b = shapes.top_share(a, TOP), shapes.top_share(b, TOP)
    return np.minimum(kept_a, kept_b).sum((1, 2)) / np.maximum(kept_a, kept_b).sum((1, 2))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of the angle between each pair of maps [N, h, w] -> [N]; NaN where one is 0."""
    return _cosine(a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64))


def alike(one: Explanation, other: Explanation) -> np.ndarray:
    """Return the rank correlation of two networks' maps of the same images, on the coarser of their grids, float64 [E].

    NaN where either map is dead or the two are for different classes.
    """
    return _compare(one, other, _grid(one, [other]))[0]["similarity"]


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "similarity": spearman,
    "similarity_top20": top20,
    "similarity_cosine": cosine,
}
SOURCES = {
    "similarity": "Spearman's rank correlation over cells, mean over images",
    "similarity_top20": "intersection over union of the top 20 % of cells; 0.11 by chance",
    "similarity_cosine": "cosine between maps",
}


def _compared(others: dict[str, Explanation | None]) -> list[Explanation]:
    """Return the maps whose grids decide where anchors and twin are compared: the student's and the base's, or whatever there is.

    On a coarser grid anything is more alike, so all that is compared with one another is compared on one grid.
    """
    there = {role: explanation for role, explanation in others.items() if explanation is not None}
    return [there[role] for role in ROLES if role in there] or list(there.values())


def _grid(teacher: Explanation, others: list[Explanation]) -> tuple[int, int]:
    """Return the coarsest grid of some maps."""
    height, width = (min(e.maps.shape[axis] for e in (teacher, *others)) for axis in (1, 2))
    return height, width


def _on_grid(explanation: Explanation, grid: tuple[int, int]) -> np.ndarray:
    return shapes.pool_by_area(shapes.readable(explanation), grid, explanation.centres)


def _compare(explanation: Explanation, teacher: Explanation, grid: tuple[int, int]) -> tuple[dict[str, np.ndarray], str]:
    """Return each similarity [E], NaN where there is none, and what was left out."""
    a, b = _on_grid(explanation, grid), _on_grid(teacher, grid)
    same = (explanation.targets == teacher.targets) if explanation.signed else np.ones(len(a), bool)
    dead = explanation.dead | teacher.dead
    values = {name: np.where(same & ~dead, _in_batches(measure, a, b), np.nan) for name, measure in MEASURES.items()}
    notes = [f"grid {a.shape[1]}x{a.shape[2]}"]
    if dead.any():
        notes.append(f"{int(dead.sum())} images left out: a dead map")
    if not same.all():
        notes.append(f"{int((~same).sum())} images left out: maps for different classes")
    return values, "; ".join(notes)


def _in_batches(measure: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([measure(a[start : start + BATCH], b[start : start + BATCH]) for start in range(0, max(len(a), 1), BATCH)])


def _transferred(judged: Judged, similarities: dict[str, np.ndarray], method: str) -> list[Measurement]:
    facts: dict[str, Any] = {
        "model": "student - base",
        "by": method,
        "source": "similarity to the teacher's maps, student's minus base's, per image",
    }
    if "student" not in similarities or "base" not in similarities:
        reason = "undefined: the similarity of student or base to the teacher is"
        return [Measurement("transferred", None, unit=judged.unit, reason=reason, **facts)]
    gain = similarities["student"].astype(np.float64) - similarities["base"]
    return judged.means("transferred", gain, **facts)


def _against_twin(judged: Judged, similarities: dict[str, np.ndarray], method: str) -> list[Measurement]:
    """Measure the student against a second teacher, and what share of the way from base to twin it has gone."""
    found = []
    for first, second in (("student", TWIN), (TWIN, "base")):
        facts: dict[str, Any] = {
            "model": f"{first} - {second}",
            "by": method,
            "source": "similarity to the teacher's maps, paired by image",
        }
        if not {first, second} <= set(similarities):
            lacking = " and ".join(role for role in (first, second) if role not in similarities)
            reason = f"undefined: the similarity of {lacking} to the teacher is"
            found.append(Measurement("similarity_difference", None, unit=judged.unit, reason=reason, **facts))
            continue
        found.append(judged.mean("similarity_difference", similarities[first] - similarities[second], **facts))
    return [*found, _gain(judged, similarities, method)]


def _gain(judged: Judged, similarities: dict[str, np.ndarray], method: str) -> Measurement:
    facts: dict[str, Any] = {
        "model": "student", "by": method, "unit": judged.unit,
        "source": "(sim(student, teacher) - sim(base, teacher)) / (sim(twin, teacher) - sim(base, teacher)), ratio of means",
    }  # fmt: skip
    lacking = [role for role in ("student", "base", TWIN) if role not in similarities]
    if lacking:
        return Measurement("transfer_gain", None, reason=f"undefined: the similarity of {' and '.join(lacking)} to the teacher is", **facts)
    student, base, twin = (similarities[role] for role in ("student", "base", TWIN))
    judgeable = np.isfinite(student + base + twin)
    room = judged.mean("similarity_difference", np.where(judgeable, twin - base, np.nan), model="twin - base")
    if room.low is None or room.low <= 0:
        said = "no image has all three similarities" if room.value is None else f"twin - base is {with_interval(room)}, not surely above 0"
        return Measurement("transfer_gain", None, reason=f"undefined: {said}, so there is no way to go a share of", **facts)
    over, under = (student - base)[judgeable], (twin - base)[judgeable]
    ratio = interval(
        lambda counts: ratio_of_means(counts, over, under), judged.weights[:, judgeable], n_units=judged.units_of(judgeable),
        unit=judged.unit, share=False,
    )  # fmt: skip
    return measurement("transfer_gain", ratio, reason="1: as like the teacher as a second teacher is; 0: no more than the base", **facts)


def _anchors(judged: Judged, teacher: Explanation, grid: tuple[int, int]) -> list[Measurement]:
    """Measure how alike maps are that have nothing to do with each other: what a similarity has to be compared with."""
    maps = _on_grid(teacher, grid)
    units = judged.units[judged.rows]
    alive = ~teacher.dead
    partner = _partners(teacher.targets, units, alive, judged.images.rows[judged.rows])
    anchors = {
        "shuffled": (maps[partner], alive & (partner >= 0), "the teacher's map of another subject's image explained for the same class"),
        "centre": _centre(judged, teacher, maps, units, alive),
    }
    found = []
    for anchor, (other, usable, note) in anchors.items():
        for name, measure in MEASURES.items():
            values = np.where(usable, _in_batches(measure, other, maps), np.nan)
            facts: dict[str, Any] = {"model": f"{anchor} ~ teacher", "by": teacher.method, "better": "neither"}
            found.append(judged.mean(name, judged.on_all(values), reason=f"anchor: {note}", source=SOURCES[name], **facts))
    return found


def _centre(
    judged: Judged, teacher: Explanation, maps: np.ndarray, units: np.ndarray, alive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the teacher's mean map for each image [E, h, w], which images can be compared with it, and what it is the mean of."""
    if judged.baselines is None or not len(judged.baselines):
        note = "the teacher's mean map over the explained images of other subjects, for there are no training images"
        return _means_of_others(maps, units, alive), alive, note
    from pellucid.explainers.explain import explain

    train, method = judged.baselines, teacher.method
    count = min(AT_MOST, len(train), len(maps))  # never more work than the teacher's maps to be judged were
    chosen = evenly_spaced(len(train), count)
    made = explain(
        {"teacher": judged.networks["teacher"]}, train[chosen], methods=[method], settings={method: teacher.settings}, baselines=train
    )[0]  # fmt: skip
    mean = _on_grid(made.some(~made.dead), (maps.shape[1], maps.shape[2])).sum(0)
    note = f"the teacher's mean map over {int((~made.dead).sum())} training images, each for the class it predicts"
    return np.broadcast_to(mean, maps.shape), alive, note


def _partners(classes: np.ndarray, units: np.ndarray, alive: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Draw for each image another unit's image of the same class, int64 [E]; -1 where there is none."""
    numbers = uniform(derive(0, "transfer partners"), np.asarray(rows))
    partner = np.full(len(classes), -1, dtype=np.int64)
    for i, number in enumerate(numbers):
        candidates = np.flatnonzero((classes == classes[i]) & (units != units[i]) & alive)
        if len(candidates):
            partner[i] = candidates[int(number * len(candidates))]
    return partner


def _means_of_others(maps: np.ndarray, units: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Return for each image the mean map over the images of all other units [E, h, w]; 0 where there is none."""
    _, of_image = np.unique(units, return_inverse=True)
    totals = np.zeros((of_image.max(initial=0) + 1, *maps.shape[1:]))
    np.add.at(totals, of_image[alive], maps[alive])
    counts = np.bincount(of_image[alive], minlength=len(totals))
    others = np.maximum(counts.sum() - counts, 1)[of_image]
    return (totals.sum(0) - totals[of_image]) / others[:, None, None]


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    length = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), length, out=np.full(len(a), np.nan), where=length > 0)
