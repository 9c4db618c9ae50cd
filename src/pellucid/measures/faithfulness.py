"""Does the network itself use what its map shows? And how long does the map take?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core import progress, registry
from pellucid.core.records import Explanation, Measurement
from pellucid.core.registry import part
from pellucid.measures import maps as shapes
from pellucid.measures import timing
from pellucid.measures.judged import Judged, Judgement, measurement
from pellucid.stats.paired import holm, wilcoxon_by_unit

if TYPE_CHECKING:
    from torch import Tensor, nn

TOP = 0.2
BLUR = 1 / 12  # sigma as a share of the side
TIMED_IMAGES = 20
NAMES = ("mask_fidelity", "mask_fidelity_agreement", "mask_fidelity_area", "mask_fidelity_top20")
SOURCE = "1 - |p(x) - p(x')|, x' = map * x + (1 - map) * blur(x); blur sigma = side / 12"


@part()
def faithfulness(judged: Judged) -> Judgement:
    """Judge whether a network's output survives when only what its map shows is left sharp (mask-fidelity), and time the maps (MET).

    Maps are scaled to 0-1 and enlarged to the input; where a map is 0 the image is blurred. The class is the one each map is for.
    Dead maps are left out and counted; grids below 6x6 aren't judged. Two maps that know nothing (`by` ``random_smooth``,
    ``centre_prior``) stand beside the methods on the same images.

    Parameters
    ----------
    judged : Judged

    Returns
    -------
    Judgement
        Per network, method and class: ``mask_fidelity``; ``mask_fidelity_agreement``, the share of images whose predicted class stays;
        ``mask_fidelity_area``, the map's mean, for a map of ones has fidelity 1; ``mask_fidelity_top20``, with the top 20 % of pixels
        alone left sharp, at which methods of any breadth compare. ``..._difference`` between methods (`by` ``a - b``), with Wilcoxon's
        test on unit means, corrected after Holm over the pairs of a network. ``met``: seconds for one image at batch 1, forward,
        backward and enlarging. Per image (NaN where not judged): ``mask_fidelity/METHOD/ROLE``, ``mask_fidelity_top20/METHOD/ROLE``.

    Source
    ------
    Mask-fidelity is ours: arXiv 2502.15959 reports a fidelity and doesn't define it.
    """
    found: list[Measurement] = []
    per_image: dict[str, np.ndarray] = {}
    for role in judged.roles:
        explanations = [e for e in judged.explanations if e.model == role]
        if not explanations:
            continue
        values = _fidelities(judged, role, explanations)
        for by, of_measure in values.items():
            for name in ("mask_fidelity", "mask_fidelity_top20"):
                per_image[f"{name}/{by}/{role}"] = of_measure[name]
        found += _rows(judged, role, explanations, values)
        found += [row for name in ("mask_fidelity", "mask_fidelity_top20") for row in _differences(judged, role, name, values)]
    return Judgement(found + _times(judged), per_image)


def blur(images: Tensor, *, sigma: float | None = None) -> Tensor:
    """Return images smoothed by a Gaussian, so that coarse brightness stays and detail goes.

    Parameters
    ----------
    images : float Tensor [N, C, H, W]
    sigma : float or None
        In pixels; default: a twelfth of the longer side. Edges are mirrored.
    """
    import torch
    from torch.nn import functional

    height, width = images.shape[-2:]
    sigma = max(height, width) * BLUR if sigma is None else sigma
    reach = min(round(3 * sigma), height - 1, width - 1)
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    padded = functional.pad(images, [reach] * 4, mode="reflect")
    down = functional.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return functional.conv2d(down, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def mask_fidelity(model: nn.Module, images: Tensor, maps: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say how little a class probability moves when images are blurred where maps are low.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]; runs in eval mode, its mode is as before afterwards.
    images : float Tensor [N, C, H, W]
    maps : float array [N, H, W]
        Between 0 (blurred) and 1 (left as it is).
    targets : int64 array [N]
        The class whose probability is followed.

    Returns
    -------
    fidelity : float64 array [N]
        ``1 - |p(x) - p(x')|``, 0 to 1.
    agreement : float64 array [N]
        1 where the predicted class stays the same.
    """
    from pellucid.models.taps import evaluating

    with evaluating(model):
        before = _probabilities(model, images)
        return _compared(before, _probabilities(model, _keep(images, blur(images), maps)), targets)


def _keep(images: Tensor, blurred: Tensor, maps: np.ndarray) -> Tensor:
    import torch

    kept = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None].to(images.device)
    return torch.lerp(blurred, images, kept)


def _probabilities(model: nn.Module, images: Tensor) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(images).double().softmax(1).cpu().numpy()


def _compared(before: np.ndarray, after: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    each = np.arange(len(targets))
    fidelity = 1 - np.abs(before[each, targets] - after[each, targets])
    return fidelity, (before.argmax(1) == after.argmax(1)).astype(np.float64)


def _fidelities(judged: Judged, role: str, explanations: list[Explanation]) -> dict[str, dict[str, np.ndarray]]:
    """Return {method or control: {measure: float64 [N]}}, NaN where an image isn't judged."""
    from pellucid.data import views
    from pellucid.models.taps import evaluating, reference

    network = judged.networks[role]
    model, size = network.model, (network.spec.size, network.spec.size)
    judgeable = [e for e in explanations if not shapes.too_coarse(e.maps)]
    names = [*(e.method for e in judgeable), *shapes.CONTROLS]
    found = {by: {name: np.full(len(judged.rows), np.nan) for name in NAMES} for by in names}
    with evaluating(model):
        for batch in progress.track(_batches(len(judged.rows), 32), f"faithfulness, {role}", total=-(-len(judged.rows) // 32), each=32):
            subset = judged.images[judged.rows[batch]]
            images = views.to_input(subset.pixels, network.spec).to(reference(model))
            blurred, before = blur(images), _probabilities(model, images)
            for by, maps, targets, dead in _candidates(judgeable, explanations[0], batch, subset.rows, size):
                after = _probabilities(model, _keep(images, blurred, maps))
                top = _probabilities(model, _keep(images, blurred, shapes.top_share(maps, TOP)))
                fidelity, agreement = _compared(before, after, targets)
                results = (fidelity, agreement, maps.mean((1, 2)), _compared(before, top, targets)[0])
                for name, values in zip(NAMES, results, strict=True):
                    found[by][name][batch] = np.where(dead, np.nan, values)
    return {by: {name: judged.on_all(values) for name, values in of_measure.items()} for by, of_measure in found.items()}


def _batches(n: int, size: int) -> Iterator[np.ndarray]:
    for start in range(0, n, size):
        yield np.arange(start, min(start + size, n))


def _candidates(
    judgeable: list[Explanation], first: Explanation, batch: np.ndarray, rows: np.ndarray, size: tuple[int, int]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield name, maps in 0-1 at input size, targets and which maps are dead: of each method, then of each control."""
    for explanation in judgeable:
        evidence = np.nan_to_num(shapes.evidence(explanation)[batch])
        yield explanation.method, shapes.to_size(shapes.to_unit(evidence), size), explanation.targets[batch], explanation.dead[batch]
    for name in shapes.CONTROLS:
        maps = shapes.to_unit(shapes.control(name, rows, size))
        yield name, maps, first.targets[batch], np.zeros(len(batch), bool)


def _rows(judged: Judged, role: str, explanations: list[Explanation], values: dict[str, dict[str, np.ndarray]]) -> list[Measurement]:
    found = []
    notes = {e.method: _note(judged, e) for e in explanations} | dict.fromkeys(shapes.CONTROLS, "control: knows nothing of the image")
    for by, note in notes.items():
        for name in NAMES:
            facts: dict[str, Any] = {
                "model": role, "by": by, "source": SOURCE, "reason": note,
                "better": "neither" if name == "mask_fidelity_area" else "higher",
            }  # fmt: skip
            if by not in values:
                found.append(Measurement(name, None, unit=judged.unit, **facts))
                continue
            of_images, share = values[by][name], name == "mask_fidelity_agreement"
            found.append(judged.mean(name, of_images, share=share, **facts))
            for k, stratum in enumerate(judged.classes):
                if np.isfinite(of_images[judged.targets == k]).any():
                    among = judged.targets == k
                    found.append(judged.mean(name, of_images, among=among, share=share, stratum=stratum, **facts))
    return found


def _note(judged: Judged, explanation: Explanation) -> str:
    if coarse := shapes.too_coarse(explanation.maps):
        return coarse
    own = (judged.logits[explanation.model][judged.rows].argmax(1) == explanation.targets).mean()
    dead = int(explanation.dead.sum())
    return f"of the class each map is for (the network's own prediction on {own:.0%} of images)" + (
        f"; {dead} dead maps left out" if dead else ""
    )


def _differences(judged: Judged, role: str, name: str, values: dict[str, dict[str, np.ndarray]]) -> list[Measurement]:
    """Compare each pair of methods, and each method with each control, on the images that both have."""
    pairs = [pair for pair in combinations(values, 2) if not set(pair) <= set(shapes.CONTROLS)]
    p_values = holm([wilcoxon_by_unit(values[a][name], values[b][name], judged.units) for a, b in pairs])
    found = []
    for (a, b), p in zip(pairs, p_values, strict=True):
        test = f"Wilcoxon on {judged.unit}, Holm over {len(pairs)}: p " + (f"= {p:.2g}" if p >= 0.001 else "< 0.001")
        found.append(
            judged.mean(
                f"{name}_difference", values[a][name] - values[b][name], model=role, by=f"{a} - {b}",
                source="paired on the same images", reason=test if np.isfinite(p) else "",
            )
        )  # fmt: skip
    return found


def _times(judged: Judged) -> list[Measurement]:
    """Measure MET: every network and method in turns on the same few images, each alone."""
    from pellucid.data import views
    from pellucid.models.taps import reference

    which = np.unique(np.linspace(0, len(judged.rows) - 1, min(TIMED_IMAGES, len(judged.rows))).astype(int))
    if len(which) == 0:
        return []
    jobs: dict[tuple[str, str], Callable[[int], object]] = {}
    for explanation in judged.explanations:
        network = judged.networks[explanation.model]
        images = views.to_input(judged.images[judged.rows[which]].pixels, network.spec).to(reference(network.model))
        jobs[explanation.model, explanation.method] = _job(network.model, images, explanation, which)
    with timing.on_threads(judged.settings.threads):
        taken = timing.in_turns(jobs, least=len(which), most=len(which), seconds=0.0)
    return [_met(judged, key, taken) for key in jobs]


def _job(model: nn.Module, images: Tensor, explanation: Explanation, which: np.ndarray) -> Callable[[int], object]:
    import torch

    explainer = registry.get("explainers", explanation.method)
    targets = torch.from_numpy(explanation.targets[which]).to(images.device)

    def explain(number: int) -> object:
        raw = explainer(model, images[number : number + 1], targets[number : number + 1], **explanation.settings)
        positive = raw.clamp_min(0) if explanation.signed else raw
        return shapes.to_size(positive.detach().cpu().numpy(), explanation.image_size)

    return explain


def _met(judged: Judged, key: tuple[str, str], taken: dict[tuple[str, str], np.ndarray]) -> Measurement:
    role, method = key
    seconds = taken[key]
    found = timing.over_repeats(lambda counts: counts @ seconds / counts.sum(1), len(seconds), unit="images")
    notes = [f"median {np.median(seconds):.3g} s, p95 {np.quantile(seconds, 0.95):.3g} s"]
    reference = taken.get((role, "grad_cam"))
    if reference is not None and method != "grad_cam":
        notes.append(f"{np.median(seconds) / np.median(reference):.2f}x grad_cam")
    threads = judged.settings.threads
    source = f"forward, backward and enlarging at batch 1, {threads} thread{'s' if threads > 1 else ''}, networks and methods in turns"
    met = measurement("met", found, unit="images", model=role, by=method, better="lower", source=source, reason="; ".join(notes))
    return replace(met, method=f"measured on {len(seconds)} images; {found.method}".rstrip("; "))
