"""Does one network need what the other one's map shows?"""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.core.records import Explanation, Measurement
from pellucid.core.registry import part
from pellucid.measures import maps as shapes
from pellucid.measures.compared import Pair, compare
from pellucid.measures.faithfulness import TOP, blur, keep, probabilities
from pellucid.measures.judged import Judged, Judgement

PAIRS = (("teacher", "student"), ("student", "teacher"))  # whose answer is followed, and whose map says what is deleted
RANDOM = "random_smooth"
SOURCE = "p(x) - p(x'), x' = x with the map's top 20 % of pixels blurred; blur sigma = side / 12"


@part()
def cross_deletion(judged: Judged) -> Judgement:
    """Judge whether deleting what one network's map shows takes the other network's answer away.

    The top 20 % of the pixels of the student's map are blurred in the image and the teacher is asked again, and the other way round.
    Beside it stand deletion by the network's own map and by a map that knows nothing, on the same images. Similar maps can rest on
    different evidence; this asks the networks. Images where either map is dead, or the two maps are for different classes, are
    left out and counted; grids below 6x6 aren't judged.

    Parameters
    ----------
    judged : Judged

    Returns
    -------
    Judgement
        ``cross_deletion``, the mean drop of the class's probability, per method, also in each class and group by who was right: `model` ``teacher`` and ``student`` (by its own
        map), ``teacher by student`` (the teacher's drop when the student's map says what goes) and ``student by teacher``; with `by`
        ``random_smooth`` the drop by a map that knows nothing. ``cross_deletion_difference``, paired: the other's map minus the
        random one (above 0: it finds what this network needs) and minus the own one, with Wilcoxon's test on unit means, corrected
        after Holm over the two. Per image (NaN where not judged): ``cross_deletion/METHOD/teacher by student`` and so on.
    """
    found: list[Measurement] = []
    per_image: dict[str, np.ndarray] = {}
    for scored, other in PAIRS:
        pairs = _pairs(judged, scored, other)
        judgeable = {method: pair for method, pair in pairs.items() if not _coarse(pair)}
        drops = _drops(judged, scored, judgeable)
        for method, pair in pairs.items():
            crossed = f"{scored} by {other}"
            if method not in judgeable:
                found += [
                    Measurement("cross_deletion", None, unit=judged.unit, model=model, by=method, source=SOURCE, reason=_coarse(pair))
                    for model in (scored, crossed)
                ]
                continue
            own, by_other = drops[method]
            for model, values in ((scored, own), (crossed, by_other)):
                per_image[f"cross_deletion/{method}/{model}"] = values
                found += judged.means("cross_deletion", values, model=model, by=method, source=SOURCE, reason=_left_out(pair))
            compared = [
                Pair(by_other, against, {"model": f"{crossed} - {name}", "by": method})
                for name, against in (("random", drops[RANDOM][0]), (scored, own))
            ]
            found += compare(judged, "cross_deletion_difference", compared)
        if judgeable:
            control: dict[str, Any] = {"model": scored, "by": RANDOM, "source": SOURCE, "reason": "control: knows nothing of the image"}
            found.append(judged.mean("cross_deletion", drops[RANDOM][0], **control))
    return Judgement(found, per_image)


def _pairs(judged: Judged, scored: str, other: str) -> dict[str, tuple[Explanation, Explanation]]:
    """Return {method: the network's own maps, and the other's}."""
    found = {method: (judged.explanation(scored, method), judged.explanation(other, method)) for method in judged.methods}
    return {method: (own, others) for method, (own, others) in found.items() if own is not None and others is not None}


def _coarse(pair: tuple[Explanation, Explanation]) -> str:
    return next(filter(None, (shapes.too_coarse(explanation.maps) for explanation in pair)), "")


def _unusable(pair: tuple[Explanation, Explanation]) -> tuple[np.ndarray, np.ndarray]:
    """Return bool [E] each: where a map is dead, and where the maps are for different classes."""
    own, other = pair
    return own.dead | other.dead, (own.targets != other.targets) & own.signed


def _left_out(pair: tuple[Explanation, Explanation]) -> str:
    dead, apart = (int(images.sum()) for images in _unusable(pair))
    notes = [f"{dead} images left out: a dead map" if dead else "", f"{apart} images left out: maps for different classes" if apart else ""]
    return "; ".join(filter(None, notes))


def _drops(judged: Judged, scored: str, pairs: dict[str, tuple[Explanation, Explanation]]) -> dict[str, list[np.ndarray]]:
    """Return {method: drops by the own map and by the other's; RANDOM: drops by a random map}, float64 [N] each."""
    from pellucid.models.taps import evaluating

    if not pairs:
        return {}
    network = judged.networks[scored]
    model, size = network.model, (network.spec.size, network.spec.size)
    targets = next(iter(pairs.values()))[0].targets
    found = {by: [np.full(len(judged.rows), np.nan) for _ in range(1 if by == RANDOM else 2)] for by in (*pairs, RANDOM)}
    with evaluating(model):
        for batch, images in judged.inputs(scored, label="cross-deletion"):
            blurred, each = blur(images), np.arange(len(batch))
            before = probabilities(model, images)[each, targets[batch]]
            random = [shapes.control(RANDOM, judged.images.rows[judged.rows[batch]], size)]
            for by, maps in (
                (RANDOM, random),
                *((by, [shapes.to_size(shapes.readable(e, batch), size, e.centres) for e in pair]) for by, pair in pairs.items()),
            ):
                for values, of_map in zip(found[by], maps, strict=True):
                    after = probabilities(model, keep(images, blurred, 1 - shapes.top_share(of_map, TOP)))
                    values[batch] = before - after[each, targets[batch]]
    for method, pair in pairs.items():
        for values in found[method]:
            values[np.logical_or(*_unusable(pair))] = np.nan
    return {by: [judged.on_all(values) for values in of_maps] for by, of_maps in found.items()}
