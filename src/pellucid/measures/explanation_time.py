"""How long does a map take, for a large network and for a small one?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pellucid.core import registry
from pellucid.core.records import Explanation, Measurement
from pellucid.core.registry import part
from pellucid.data.dataset import evenly_spaced
from pellucid.measures import maps as shapes
from pellucid.measures import timing
from pellucid.measures.judged import Judged, Judgement, measurement
from pellucid.stats.intervals import weighted_median

LEAST, MOST, SECONDS = 5, 20, 120.0  # rounds, one image each; and the time after which no new one begins
REFERENCES = ("average_feature_map", "grad_cam", "gradient_shap", "kernel_shap")  # which the others are set against
ALL_LAYERS = "average_feature_maps"
Jobs = dict[tuple[str, str], Callable[[int], object]]


@part()
def explanation_time(judged: Judged) -> Judgement:
    """Time the maps (MET): one image at batch 1 from forward pass to a map as large as the image, networks and methods in turns.

    At least 5 and at most 20 images, spread over those that were explained; after two minutes no new round begins. Loading a network,
    decoding and preparing images don't count.

    Parameters
    ----------
    judged : Judged

    Returns
    -------
    Judgement
        ``met`` per network and method: the mean in seconds; ``met_p50`` and ``met_p95``, its median and 95th percentile; `by`
        ``average_feature_maps`` is the map of every layer, from one forward pass. ``met_ratio``: medians over each other, of a method and
        each of ``average_feature_map``, ``grad_cam``, ``gradient_shap`` and ``kernel_shap`` for one network (`by` ``a / grad_cam``), and of teacher and student for one method (`model`
        ``teacher / student``); paired by image.
    """
    which = evenly_spaced(len(judged.rows), MOST)
    if len(which) == 0:
        return Judgement([])
    jobs, found = _jobs(judged, which)
    with timing.on_threads(judged.settings.threads):
        taken = timing.in_turns(jobs, least=min(LEAST, len(which)), most=len(which), seconds=SECONDS)
    return Judgement([*found, *(row for key, seconds in taken.items() for row in _met(judged, key, seconds)), *_ratios(taken)])


def _jobs(judged: Judged, which: np.ndarray) -> tuple[Jobs, list[Measurement]]:
    """Return what is timed under (role, method), and a row for each method that can't be."""
    from pellucid.data import views
    from pellucid.explainers.baselines import prepare
    from pellucid.models.taps import reference

    jobs: Jobs = {}
    missing = []
    for role in judged.timed_roles:
        explanations = [e for e in judged.explanations if e.model == role]
        if not explanations:
            continue
        network = judged.networks[role]
        images = views.to_input(judged.images[judged.rows[which]].pixels, network.spec).to(reference(network.model))
        for explanation in explanations:
            kind = registry.get("explainers", explanation.method).traits.get("baselines")
            if kind and judged.baselines is None:
                reason = "undefined: it compares with training images, and none are given"
                missing.append(Measurement("met", None, model=role, by=explanation.method, better="lower", reason=reason))
                continue
            others = [prepare(kind, explanation.method, network, judged.baselines)] if kind else []
            jobs[role, explanation.method] = _one_map(network.model, images, explanation, which, others)
        jobs[role, ALL_LAYERS] = _every_layer(network.model, images)
    return jobs, missing


def _one_map(model: Any, images: Any, explanation: Explanation, which: np.ndarray, others: list[Any]) -> Callable[[int], object]:
    import torch

    explainer = registry.get("explainers", explanation.method)
    targets = torch.from_numpy(explanation.targets[which]).to(images.device)

    def explain(number: int) -> object:
        one = slice(number, number + 1)
        raw = explainer(model, images[one], targets[one], *others, **explanation.settings)
        positive = raw.clamp_min(0) if explanation.signed else raw
        return shapes.to_size(positive.detach().cpu().numpy(), explanation.image_size, explanation.centres)

    return explain


def _every_layer(model: Any, images: Any) -> Callable[[int], object]:
    from pellucid.explainers.average_feature_map import average_feature_maps

    size = (images.shape[2], images.shape[3])

    def explain(number: int) -> object:
        layers = average_feature_maps(model, images[number : number + 1])
        return [shapes.to_size(raw.cpu().numpy(), size) for raw in layers.values()]

    return explain


def _met(judged: Judged, key: tuple[str, str], seconds: np.ndarray) -> list[Measurement]:
    threads = judged.settings.threads
    source = f"forward, backward and enlarging at batch 1, {threads} thread{'s' if threads > 1 else ''}, networks and methods in turns"
    facts: dict[str, Any] = {"unit": "images", "model": key[0], "by": key[1], "better": "lower", "source": source}
    statistics = {
        "met": lambda counts: counts @ seconds / counts.sum(1),
        "met_p50": lambda counts: weighted_median(counts, seconds),
        "met_p95": timing.quantile(seconds, 0.95),
    }
    found = {name: timing.over_repeats(statistic, len(seconds), unit="images") for name, statistic in statistics.items()}
    return [_measured(measurement(name, interval, **facts), len(seconds)) for name, interval in found.items()]


def _ratios(taken: dict[tuple[str, str], np.ndarray]) -> list[Measurement]:
    """Compare methods on one network, and teacher and student by one method."""
    found = []
    for role, method in taken:
        for reference in REFERENCES:
            if method != reference and (role, reference) in taken:
                a, b = taken[role, method], taken[role, reference]
                found.append(_ratio(a, b, model=role, by=f"{method} / {reference}", better="lower"))
        if role == "teacher" and ("student", method) in taken:
            a, b = taken["teacher", method], taken["student", method]
            found.append(_ratio(a, b, model="teacher / student", by=method, better="higher"))
    return found


def _ratio(a: np.ndarray, b: np.ndarray, **facts: Any) -> Measurement:
    found = timing.over_repeats(lambda counts: weighted_median(counts, a) / weighted_median(counts, b), len(a), unit="images")
    reason = f"medians {np.median(a):.3g} s and {np.median(b):.3g} s"
    row = measurement("met_ratio", found, unit="images", source="medians over the same images", reason=reason, **facts)
    return _measured(row, len(a))


def _measured(row: Measurement, n: int) -> Measurement:
    return replace(row, method=f"measured on {n} images; {row.method}".rstrip("; "))
