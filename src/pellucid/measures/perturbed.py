"""What judges share that change images in a map's order and ask the network again at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.records import Measurement
from pellucid.measures import maps as shapes
from pellucid.measures.compared import Better, between_methods, between_roles
from pellucid.measures.faithfulness import candidates, note_on
from pellucid.measures.judged import Judged

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 64  # changed images in one forward pass
IMAGES = 16  # that are held ready at once
Values = dict[str, dict[str, np.ndarray]]  # by method or control, by name: float64 [N] or [N, S]
Ask = Callable[["nn.Module", "Tensor", np.ndarray, np.ndarray], dict[str, np.ndarray]]


def probability_of(
    model: nn.Module, changed: Callable[[np.ndarray, np.ndarray], Tensor], targets: np.ndarray, n_steps: int, *, of: Tensor
) -> np.ndarray:
    """Return the probability of each image's class at each step, float64 [N, S].

    Parameters
    ----------
    model : nn.Module
        Runs in eval mode, its mode is as before afterwards.
    changed : callable
        Numbers of images [b] and of steps [b] -> what the network is asked about, float Tensor [b, C, H, W].
    targets : int64 array [N]
    n_steps : int
        S.
    of : Tensor [N, ...]
        The images themselves, for their number and device.

    Raises
    ------
    TargetError
        A target lies outside [0, K), or there isn't one per image.
    """
    import torch

    from pellucid.core.errors import TargetError
    from pellucid.explainers.targets import check_targets
    from pellucid.models.taps import ask, evaluating

    classes = torch.as_tensor(targets, device=of.device)
    if classes.shape != of.shape[:1]:
        raise TargetError(f"targets must name one class per image: shape [{len(of)}], not {list(classes.shape)}.")
    found = np.empty(len(of) * n_steps)
    with evaluating(model), torch.no_grad():
        for start in range(0, len(found), BATCH):
            image, step = np.divmod(np.arange(start, min(start + BATCH, len(found))), n_steps)
            logits = ask(model, changed(image, step))
            chosen = check_targets(classes[image], logits)
            found[start : start + BATCH] = logits.double().softmax(1).gather(1, chosen[:, None])[:, 0].cpu().numpy()
    return found.reshape(len(of), n_steps)


def by_map(judged: Judged, role: str, which: np.ndarray, ask: Ask, *, label: str) -> Values:
    """Ask one network about some of the explained images, changed by each method's maps and by those of the controls.

    Parameters
    ----------
    judged : Judged
    role : str
    which : int array [m]
        Positions in ``judged.rows``.
    ask : callable
        ``ask(model, images, maps, targets)``, maps float [n, H, W] at input size -> {name: float64 [n] or [n, S]}.
    label : str
        What the progress line says.

    Returns
    -------
    dict of str -> dict of str -> float64 array [N] or [N, S]
        By method or control, then by name; NaN where an image isn't judged.
    """
    explanations = [e for e in judged.explanations if e.model == role]
    judgeable = [e for e in explanations if not shapes.too_coarse(e.maps)]
    if not explanations or len(which) == 0:
        return {}
    network = judged.networks[role]
    size = (network.spec.size, network.spec.size)
    found: Values = {by: {} for by in (*(e.method for e in judgeable), *shapes.CONTROLS)}
    for batch, images in judged.inputs(role, label=label, which=which, each=IMAGES):
        for by, maps, targets, dead in candidates(judgeable, explanations[0], batch, judged.images.rows[judged.rows[batch]], size):
            for name, values in ask(network.model, images, maps, targets).items():
                of_all = found[by].setdefault(name, np.full((len(judged.images), *values.shape[1:]), np.nan))
                of_all[judged.rows[batch[~dead]]] = values[~dead]
    return found


def rows(
    judged: Judged, role: str, values: Values, which: np.ndarray, *, better: Mapping[str, Better], sources: Mapping[str, str], note: str
) -> list[Measurement]:
    """Measure the mean of each name of `better` over images and in each stratum, by method and control, and compare the methods."""
    notes = {e.method: note_on(judged, e, which) for e in judged.explanations if e.model == role}
    if not notes:
        return []
    found = []
    for by, own in (notes | dict.fromkeys(shapes.CONTROLS, "control: knows nothing of the image")).items():
        for name, direction in better.items():
            of_maps = "" if len(which) == len(judged.rows) else f"{len(which)} of {len(judged.rows)} explained images"
            coarse = by not in values and by in notes
            reason = own if coarse else "; ".join(filter(None, (own, note, of_maps)))
            facts: dict[str, Any] = {"model": role, "by": by, "source": sources[name], "better": direction, "reason": reason}
            if by not in values:
                found.append(Measurement(name, None, unit=judged.unit, **facts))
                continue
            found += judged.means(name, values[by][name], **facts)
    for name, direction in better.items():
        found += between_methods(judged, role, name, {by: of_name[name] for by, of_name in values.items()}, better=direction)
    return found


def curve_rows(
    judged: Judged, role: str, values: Values, curves: Mapping[str, str], shares: Sequence[float] | np.ndarray,
    *, better: Mapping[str, Better], sources: Mapping[str, str],
) -> list[Measurement]:  # fmt: skip
    """Measure the mean at each share of a curve: one row each, its share of the pixels as `stratum`.

    `curves` maps each curve's name to the measure that sums it up, whose source and direction it has.
    """
    return [
        judged.mean(
            curve, of_maps[curve][:, number], model=role, by=by, stratum=f"{100 * share:.4g} %",
            better=better[name], source=sources[name],
        )
        for by, of_maps in values.items()
        for curve, name in curves.items()
        for number, share in enumerate(shares)
    ]  # fmt: skip


def differences(judged: Judged, asked: Mapping[str, Values], *, better: Mapping[str, Better]) -> list[Measurement]:
    """Compare the student with the teacher and with the base in each measure, method by method."""
    found = []
    for name, direction in better.items():
        of_name = {(role, by): of_maps[name] for role, values in asked.items() for by, of_maps in values.items()}
        found += between_roles(judged, name, of_name, better=direction)
    return found


def per_image(asked: Mapping[str, Values], names: Mapping[str, Better]) -> dict[str, np.ndarray]:
    """Return what each measure says of each image under ``name/METHOD/ROLE``."""
    return {f"{name}/{by}/{role}": of_maps[name] for role, values in asked.items() for by, of_maps in values.items() for name in names}
