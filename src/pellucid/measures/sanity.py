"""Does a map depend on what the network has learnt?"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.records import Explanation, Measurement
from pellucid.core.registry import part
from pellucid.core.rng import derive
from pellucid.core.settings import Count
from pellucid.data.dataset import evenly_spaced
from pellucid.measures import maps as shapes
from pellucid.measures.judged import Judged, Judgement
from pellucid.measures.transfer import BATCH, spearman

if TYPE_CHECKING:
    from torch import nn

    from pellucid.models.saved import Network

MOST_STEPS = 8
DROPPED = 0.5  # where a map of random weights is surely less like the original than this, it depends on the weights
SOURCE = "Adebayo et al. 2018 (arXiv 1810.03292), cascading randomisation; Spearman's rank correlation of |map|"


@part()
def sanity(judged: Judged, *, images: Count = 50) -> Judgement:
    """Judge whether maps change when what the network has learnt is taken away, layer by layer from the logits down.

    A copy of each network gets random weights in its last layer, then in ever more layers below, in at most 8 steps; after each, the
    same method explains the same class of the same images. A map that stays as it was doesn't show what the network has learnt.
    Grids below 6x6 aren't judged. A map read below the layers that are random can't change yet.

    Parameters
    ----------
    judged : Judged
    images : int
        At most so many of the explained images, evenly spaced: each is explained up to 8 times by each method and network.

    Returns
    -------
    Judgement
        Per network and method: ``randomisation``, the rank correlation of the absolute maps with the original's once all layers are
        random, and (`stratum` ``step 1: NAME`` and so on) after each step, NAME being the lowest part that is random by then;
        ``randomisation_area``, the mean over the cascade from 1 as trained, by the trapezoid rule. Both should be low; the remark
        says whether the interval of the last step lies below 0.5. Per image (NaN where not judged): ``randomisation/METHOD/ROLE``.

    Source
    ------
    Adebayo et al. 2018 (arXiv 1810.03292), section 3.1. Random weights are drawn as the layer draws them when it is made, or with the
    mean and spread of the trained ones where it has no such way.

    Notes
    -----
    It isn't among the measures of a run unless asked for: it takes up to 8 times as long as explaining those images did.
    """
    found: list[Measurement] = []
    per_image: dict[str, np.ndarray] = {}
    some = evenly_spaced(len(judged.rows), images)
    for role in judged.roles:
        originals = [e for method in judged.methods if (e := judged.explanation(role, method)) is not None]
        for explanation in [e for e in originals if shapes.too_coarse(e.maps)]:
            found += [
                Measurement(name, None, unit=judged.unit, model=role, by=explanation.method, source=SOURCE, reason=shapes.too_coarse(explanation.maps))
                for name in ("randomisation", "randomisation_area")
            ]  # fmt: skip
        originals = [e.some(some) for e in originals if not shapes.too_coarse(e.maps)]
        for method, steps in _cascade(judged, role, originals, some).items():
            likeness = {step: _on_all(judged, some, values) for step, values in steps.items()}
            found += _rows(judged, role, method, likeness)
            per_image[f"randomisation/{method}/{role}"] = list(likeness.values())[-1]
    return Judgement(found, per_image)


def randomised(model: nn.Module, *, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Yield one copy of a network with ever more random weights, from the logits down to the input.

    Parameters
    ----------
    model : nn.Module
        Stays as it is.
    seed : int

    Yields
    ------
    (name, nn.Module)
        The name of the lowest part that is random by now, and the copy, which is the same object at each step. The last layer
        comes first, by itself; the others follow in at most seven groups, in the reverse of the order in which the network
        registers them, which in common networks is that of the forward pass.

    Examples
    --------
    >>> [name for name, _ in randomised(timm.create_model("resnet18"))][:3]
    ['fc', 'layer4', 'layer3']
    """
    changed = copy.deepcopy(model)
    numbers = itertools.count()
    for group in _groups(changed):
        for module in (module for _, modules in group for module in modules):
            _draw_anew(module, derive(seed, f"randomisation {next(numbers)}"))
        yield group[-1][0], changed


def _groups(model: nn.Module) -> list[list[tuple[str, list[nn.Module]]]]:
    """Return the parts of a network from the top, the last layer alone first, the others in at most seven groups.

    A part is a child that holds at most half of all layers, or one of such a child of a larger one.
    """
    layers = [module for module in model.modules() if _own(module)]
    parts = _parts("", model, most=len(layers) / 2)
    last = parts.pop()
    *rest, top = last[1]  # a head of several layers begins with the one that gives the logits
    below = [(last[0], rest)] if rest else []
    ordered = [*below, *reversed(parts)]
    # What a larger part holds of its own, such as a position embedding, is used first, so it goes last.
    named = {id(module) for _, modules in (*parts, last) for module in modules}
    if ordered and (over := [module for module in layers if id(module) not in named]):
        ordered[-1] = (ordered[-1][0], [*ordered[-1][1], *over])
    ends = np.unique(np.linspace(0, len(ordered), min(MOST_STEPS - 1, len(ordered)) + 1).round().astype(int))
    return [[(last[0], [top])], *(ordered[start:end] for start, end in itertools.pairwise(ends))]


def _parts(name: str, module: nn.Module, *, most: float) -> list[tuple[str, list[nn.Module]]]:
    layers = [inner for inner in module.modules() if _own(inner)]
    children = [(f"{name}.{child}".lstrip("."), inner) for child, inner in module.named_children()]
    if len(layers) <= max(most, 1) or not children:
        return [(name, layers)] if layers else []
    return [found for child, inner in children for found in _parts(child, inner, most=most)]


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _draw_anew(module: nn.Module, seed: int) -> None:
    """Draw a module's own weights anew, as it does when it is made, or with their own mean and spread; no random state changes."""
    import torch

    device = _own(module)[0].device
    resets = getattr(module, "reset_parameters", None) if not list(module.children()) else None
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.random.default_generator.manual_seed(seed)
        if resets is not None:
            module.to("cpu")  # drawn there, so that every device gets the same
            resets()
            module.to(device)
            return
        for parameter in _own(module):
            drawn = torch.randn(parameter.shape, dtype=torch.float64) * parameter.double().std(correction=0).cpu()
            parameter.copy_(drawn + parameter.double().mean().cpu())


def _cascade(judged: Judged, role: str, originals: list[Explanation], some: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Return {method: {step: likeness to the original map, float64 [n]}}; NaN where a map is constant or not finite."""
    from pellucid.explainers.explain import explain

    found: dict[str, dict[str, np.ndarray]] = {explanation.method: {} for explanation in originals}
    if not originals:
        return found
    network: Network = judged.networks[role]
    images = judged.images[judged.rows[some]]
    for number, (name, model) in enumerate(randomised(network.model), 1):
        made = explain(
            {role: replace(network, model=model)}, images, methods=[e.method for e in originals], target=originals[0].targets,
            settings={e.method: e.settings for e in originals}, baselines=judged.baselines,
        )  # fmt: skip
        for original, explanation in zip(originals, made, strict=True):
            found[original.method][f"step {number}: {name}"] = _likeness(original, explanation)
    return found


def _likeness(original: Explanation, explanation: Explanation) -> np.ndarray:
    """Return the rank correlation of each image's absolute maps [n]; NaN where either is constant or holds NaN."""
    a, b = (replace(e, maps=np.abs(e.maps), signed=False) for e in (original, explanation))
    usable = ~(a.dead | b.dead)
    values = np.full(len(usable), np.nan)
    for batch in np.array_split(np.flatnonzero(usable), -(-max(usable.sum(), 1) // BATCH)):
        values[batch] = spearman(a.maps[batch], b.maps[batch])
    return values


def _rows(judged: Judged, role: str, method: str, likeness: dict[str, np.ndarray]) -> list[Measurement]:
    facts: dict[str, Any] = {"model": role, "by": method, "better": "lower", "source": SOURCE}
    *_, last = likeness.values()
    found = [judged.mean("randomisation", values, stratum=step, **facts) for step, values in likeness.items()]
    whole = judged.mean("randomisation", last, **facts)
    curve = np.stack([np.ones(len(last)), *likeness.values()])  # [steps + 1, N]
    area = ((curve[1:] + curve[:-1]) / 2).mean(0)
    constant = int(np.isfinite(area).sum())
    note = f"mean over {len(likeness)} steps, from 1 as trained, of the images that have a map at each ({constant})"
    return [replace(whole, reason="; ".join(filter(None, (whole.reason, _remark(whole))))), *found, judged.mean("randomisation_area", area, reason=note, **facts)]  # fmt: skip


def _remark(last: Measurement) -> str:
    if last.value is None:
        return ""
    if last.high is not None and last.high < DROPPED:
        return f"drops, surely below {DROPPED:g} with all layers random: the map depends on what was learnt"
    return f"does not surely drop below {DROPPED:g} with all layers random: the map may show the image rather than what was learnt"


def _on_all(judged: Judged, some: np.ndarray, values: np.ndarray) -> np.ndarray:
    explained = np.full(len(judged.rows), np.nan)
    explained[some] = values
    return judged.on_all(explained)
