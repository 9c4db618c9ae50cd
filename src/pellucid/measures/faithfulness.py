"""Does the network itself use what its map shows?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.records import Explanation, Measurement
from pellucid.core.registry import part
from pellucid.measures import maps as shapes
from pellucid.measures.compared import between_methods, between_roles
from pellucid.measures.judged import Judged, Judgement, measurement
from pellucid.stats.intervals import interval, weighted_median

if TYPE_CHECKING:
    from torch import Tensor, nn

TOP = 0.2
BLUR = 1 / 12  # sigma as a share of the side
COMPARED = ("mask_fidelity", "mask_fidelity_top20")
GAIN, BLIND = "mask_fidelity_gain", "random_smooth"
NAMES = ("mask_fidelity", "mask_fidelity_agreement", "mask_fidelity_area", "mask_fidelity_top20")
SOURCE = "1 - |p(x) - p(x')|, x' = map * x + (1 - map) * blur(x); blur sigma = side / 12"


@part()
def faithfulness(judged: Judged) -> Judgement:
    """Judge whether a network's output survives when only what its map shows is left sharp (mask-fidelity).

    Maps are scaled to 0-1 and enlarged to the input; where a map is 0 the image is blurred. The class is the one each map is for.
    Dead maps are left out and counted; grids below 6x6 aren't judged. Two maps that know nothing (`by` ``random_smooth``,
    ``centre_prior``) stand beside the methods on the same images.

    Parameters
    ----------
    judged : Judged

    Returns
    -------
    Judgement
        Per network and method, also in each class and group by who was right: ``mask_fidelity``; ``mask_fidelity_agreement``, the share of images whose predicted class stays;
        ``mask_fidelity_area``, the map's mean, for a map of ones has fidelity 1; ``mask_fidelity_top20``, with the top 20 % of pixels
        alone left sharp, at which methods of any breadth compare. ``mask_fidelity_gain``, over all images alone: what is left of that beyond a random map's on
        the same image: some networks bear blurring better than others, whatever the map, so networks compare by it alone. ``..._difference`` between methods (`by` ``a - b``) and between networks
        (`model` ``student - teacher``, ``student - base``), with Wilcoxon's test on unit means, corrected after Holm over the pairs of a
        network, or the methods of two. ``completeness_gap`` of methods with baselines: by what share a map's sum misses the difference it
        explains, median. Per image (NaN where not judged): ``mask_fidelity/METHOD/ROLE``, ``mask_fidelity_top20/METHOD/ROLE``,
        ``mask_fidelity_gain/METHOD/ROLE``.

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
            for name in COMPARED:
                per_image[f"{name}/{by}/{role}"] = of_measure[name]
        found += _rows(judged, role, explanations, values)
        for by in [by for by in values if by not in shapes.CONTROLS]:
            gain = values[by]["mask_fidelity_top20"] - values[BLIND]["mask_fidelity_top20"]
            per_image[f"{GAIN}/{by}/{role}"] = gain
            found.append(judged.mean(GAIN, gain, model=role, by=by, source=f"{SOURCE}; at 20 % area, beyond {BLIND}"))
        found += [
            row
            for name in COMPARED
            for row in between_methods(judged, role, name, {by: of_measure[name] for by, of_measure in values.items()})
        ]
        found += [_completeness(judged, explanation) for explanation in explanations if explanation.expected is not None]
    for name in (*COMPARED, GAIN):
        keys = [
            (role, method)
            for role in judged.roles
            for method in (*judged.methods, *shapes.CONTROLS)
            if f"{name}/{method}/{role}" in per_image
        ]
        found += between_roles(judged, name, {(role, method): per_image[f"{name}/{method}/{role}"] for role, method in keys})
    return Judgement(found, per_image)


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
        before = probabilities(model, images)
        return _compared(before, probabilities(model, keep(images, blur(images), maps)), targets)


def keep(images: Tensor, blurred: Tensor, maps: np.ndarray) -> Tensor:
    """Return images [N, C, H, W] left as they are where maps [N, H, W] are 1, and blurred where they are 0."""
    import torch

    kept = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None].to(images.device)
    return torch.lerp(blurred, images, kept)


def probabilities(model: nn.Module, images: Tensor) -> np.ndarray:
    """Return class probabilities, float64 [N, K], in the mode that the model is in."""
    import torch

    from pellucid.models.taps import ask

    with torch.no_grad():
        return ask(model, images).double().softmax(1).cpu().numpy()


def _compared(before: np.ndarray, after: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    each = np.arange(len(targets))
    fidelity = 1 - np.abs(before[each, targets] - after[each, targets])
    return fidelity, (before.argmax(1) == after.argmax(1)).astype(np.float64)


def _fidelities(judged: Judged, role: str, explanations: list[Explanation]) -> dict[str, dict[str, np.ndarray]]:
    """Return {method or control: {measure: float64 [N]}}, NaN where an image isn't judged."""
    from pellucid.models.taps import evaluating

    network = judged.networks[role]
    model, size = network.model, (network.spec.size, network.spec.size)
    judgeable = [e for e in explanations if not shapes.too_coarse(e.maps)]
    names = [*(e.method for e in judgeable), *shapes.CONTROLS]
    found = {by: {name: np.full(len(judged.rows), np.nan) for name in NAMES} for by in names}
    with evaluating(model):
        for batch, images in judged.inputs(role, label="faithfulness"):
            blurred, before = blur(images), probabilities(model, images)
            for by, maps, targets, dead in candidates(judgeable, explanations[0], batch, judged.images.rows[judged.rows[batch]], size):
                after = probabilities(model, keep(images, blurred, maps))
                top = probabilities(model, keep(images, blurred, shapes.top_share(maps, TOP)))
                fidelity, agreement = _compared(before, after, targets)
                results = (fidelity, agreement, maps.mean((1, 2)), _compared(before, top, targets)[0])
                for name, values in zip(NAMES, results, strict=True):
                    found[by][name][batch] = np.where(dead, np.nan, values)
    return {by: {name: judged.on_all(values) for name, values in of_measure.items()} for by, of_measure in found.items()}


def candidates(
    judgeable: list[Explanation], first: Explanation, batch: np.ndarray, rows: np.ndarray, size: tuple[int, int]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield name, maps in 0-1 at input size, targets and which maps are dead: of each method, then of each control."""
    for explanation in judgeable:
        some = explanation.some(batch)  # maps on the image's own grid are many: no copy of them all at once
        enlarged = shapes.to_size(shapes.to_unit(shapes.readable(some)), size, explanation.centres)
        yield explanation.method, enlarged, explanation.targets[batch], some.dead
    for name in shapes.CONTROLS:
        maps = shapes.to_unit(shapes.control(name, rows, size))
        yield name, maps, first.targets[batch], np.zeros(len(batch), bool)


def _rows(judged: Judged, role: str, explanations: list[Explanation], values: dict[str, dict[str, np.ndarray]]) -> list[Measurement]:
    found = []
    notes = {e.method: note_on(judged, e) for e in explanations} | dict.fromkeys(shapes.CONTROLS, "control: knows nothing of the image")
    for by, note in notes.items():
        for name in NAMES:
            facts: dict[str, Any] = {
                "model": role, "by": by, "source": SOURCE, "reason": note,
                "better": "neither" if name == "mask_fidelity_area" else "higher",
            }  # fmt: skip
            if by not in values:
                found.append(Measurement(name, None, unit=judged.unit, **facts))
                continue
            found += judged.means(name, values[by][name], share=name == "mask_fidelity_agreement", **facts)
    return found


def note_on(judged: Judged, explanation: Explanation, which: np.ndarray | None = None) -> str:
    """Say what to know of maps that are judged by asking the network again; `which` are the positions in ``judged.rows`` looked at."""
    if coarse := shapes.too_coarse(explanation.maps):
        return coarse
    which = np.arange(len(judged.rows)) if which is None else which
    own = (judged.logits[explanation.model][judged.rows[which]].argmax(1) == explanation.targets[which]).mean()
    dead = int(explanation.dead[which].sum())
    said = f"of the class each map is for (the network's own prediction on {own:.0%} of images)" + (
        f"; {dead} dead maps left out" if dead else ""
    )
    return said + shapes.doubt(explanation, which)


def _completeness(judged: Judged, explanation: Explanation) -> Measurement:
    """Measure by how much maps miss what they should add up to."""
    gap = judged.on_all(explanation.gap)
    kept = np.isfinite(gap)
    found = interval(
        lambda counts: weighted_median(counts, gap[kept]) if kept.any() else np.full(len(counts), np.nan), judged.weights[:, kept],
        n_units=judged.units_of(kept), unit=judged.unit, share=False,
    )  # fmt: skip
    left_out = len(judged.rows) - int(kept.sum())
    nothing = " or the map holds no number" if not np.isfinite(explanation.maps).all() else ""
    reason = (
        f"median over images; {left_out} of {len(judged.rows)} left out: the difference to explain is below a tenth of its median{nothing}"
    )
    return measurement(
        "completeness_gap", found, unit=judged.unit, model=explanation.model, by=explanation.method, better="lower",
        source="|sum of the map - (f(x) - E f(baseline))| / |f(x) - E f(baseline)|", reason=reason,
    )  # fmt: skip
