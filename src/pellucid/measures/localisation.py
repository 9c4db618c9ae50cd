"""Does a map lie on the finding? Judged where the data say where the finding is."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.core.records import Explanation, Measurement
from pellucid.core.registry import part
from pellucid.measures import maps as shapes
from pellucid.measures.compared import Pair, between_roles, compare
from pellucid.measures.judged import Judged, Judgement

TOLERANCE = 0.05
SOURCES = {
    "pointing_game": f"Zhang et al. 2018 (arXiv 1608.00507), tolerance {TOLERANCE:.0%} of the side",
    "relevance_mass": "Arras et al. 2022 (arXiv 2003.07258), relevance mass accuracy",
    "relevance_rank": "Arras et al. 2022 (arXiv 2003.07258), relevance rank accuracy",
    "iou": "intersection over union of the finding and as large a share of the map's top",
}


@part()
def localisation(judged: Judged) -> Judgement:
    """Judge whether maps lie on the finding, where masks or boxes say where it is.

    Only images whose mask isn't empty count. Class methods are read by their positive part, maps without a class are shifted to begin
    at 0; both bilinear at the masks' size. Dead maps are left out and counted.

    Parameters
    ----------
    judged : Judged

    Returns
    -------
    Judgement
        ``pointing_game``, ``relevance_mass``, ``relevance_rank`` and ``iou`` per network and method, over all images and in each class and group by who was right; the same of two maps that know nothing
        (`by` ``random_smooth`` and ``centre_prior``, `model` empty); ``mask_share``, the share of the image the mask covers, which is
        what a blind map's relevance mass and rank come to. ``..._difference`` between networks (`model` ``student - teacher``,
        ``student - base``) per method, and within a network between each method and the maps that know nothing (`by` ``grad_cam -
        random_smooth``), with Wilcoxon's test on unit means, corrected after Holm. Per image (NaN where not
        judged): ``pointing_game/METHOD/ROLE`` and so on.
    """
    masks = judged.images[judged.rows].masks
    has_mask: np.ndarray = np.zeros(len(judged.rows), bool) if masks is None else np.any(masks, axis=(1, 2))
    if masks is None or not has_mask.any():
        return Judgement(_undefined(judged, "undefined: no explained image has a mask"))
    reached = widened(masks)  # once for all networks and methods
    share = np.where(has_mask, masks.mean((1, 2)), np.nan)
    found = [judged.mean("mask_share", judged.on_all(share), better="neither", source="share of the image's pixels")]
    per_image = {}
    for explanation in judged.explanations:
        facts: dict[str, Any] = {"model": explanation.model, "by": explanation.method}
        if coarse := shapes.too_coarse(explanation.maps):
            found += [Measurement(name, None, unit=judged.unit, reason=coarse, source=source, **facts) for name, source in SOURCES.items()]
            continue
        usable = has_mask & ~explanation.dead
        values = _values(_at_mask_size(explanation, masks), masks, reached, usable)
        reason = _note(explanation, int((has_mask & explanation.dead).sum()))
        for name, of_images in values.items():
            per_image[f"{name}/{explanation.method}/{explanation.model}"] = judged.on_all(of_images)
            found += _rows(judged, name, judged.on_all(of_images), reason=reason, **facts)
    controls: dict[str, dict[str, np.ndarray]] = {}
    for name in shapes.CONTROLS:
        unseeing = shapes.control(name, judged.images.rows[judged.rows], masks.shape[1:])
        controls[name] = _values(unseeing, masks, reached, has_mask)
        for measure, of_images in controls[name].items():
            found += _rows(judged, measure, judged.on_all(of_images), by=name, reason="control: knows nothing of the image")
    for measure in SOURCES:
        keys = [(e.model, e.method) for e in judged.explanations if f"{measure}/{e.method}/{e.model}" in per_image]
        of_maps = {(role, method): per_image[f"{measure}/{method}/{role}"] for role, method in keys}
        found += between_roles(judged, measure, of_maps)
        for role in judged.roles:
            pairs = [
                Pair(values, judged.on_all(unseeing[measure]), {"model": role, "by": f"{method} - {name}"})
                for (of_role, method), values in of_maps.items()
                for name, unseeing in controls.items()
                if of_role == role
            ]
            found += compare(judged, f"{measure}_difference", pairs)
    return Judgement(found, per_image)


def pointing_game(maps: np.ndarray, masks: np.ndarray, *, tolerance: float = TOLERANCE) -> np.ndarray:
    """Say whether each map's largest value lies on the mask, or not farther from it than the tolerance.

    Parameters
    ----------
    maps : float array [N, H, W]
    masks : bool array [N, H, W]
        None of them empty.
    tolerance : float
        Distance allowed, as a share of the longer side.

    Returns
    -------
    float64 array [N]
        1 or 0; where several pixels share the largest value, the share of them that hit.

    Source
    ------
    Zhang et al. 2018 (arXiv 1608.00507), section 4.1: a fixed tolerance of 15 pixels there.
    """
    reached = widened(masks, tolerance=tolerance)
    peaks = maps == maps.max((1, 2), keepdims=True)
    return (peaks & reached).sum((1, 2)) / peaks.sum((1, 2))


def widened(masks: np.ndarray, *, tolerance: float = TOLERANCE) -> np.ndarray:
    """Return masks [N, H, W] with all pixels not farther away than the tolerance, a share of the longer side."""
    from scipy.ndimage import distance_transform_edt

    if tolerance == 0 or len(masks) == 0:
        return masks
    reach = tolerance * max(masks.shape[1:])
    return np.stack([distance_transform_edt(~mask) <= reach if mask.any() else mask for mask in masks])


def relevance_mass(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return which share of a map's evidence lies on the mask.

    Parameters
    ----------
    maps : float array [N, H, W]
        Nowhere negative, nowhere all 0.
    masks : bool array [N, H, W]

    Returns
    -------
    float64 array [N]
        0 to 1; a map that knows nothing comes to the mask's share of the image.

    Source
    ------
    Arras, Osman & Samek 2022 (arXiv 2003.07258), eq. 4.
    """
    maps = maps.astype(np.float64)
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2))


def relevance_rank(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return which share of a map's top pixels, as many as the mask has, lies on the mask.

    Unlike the mass it asks for the order of the pixels alone, so a single strong one doesn't decide it. Image by image it rises with
    `iou`, which counts what both miss as well: iou = rank / (2 - rank).

    Parameters
    ----------
    maps : float array [N, H, W]
    masks : bool array [N, H, W]
        None of them empty.

    Returns
    -------
    float64 array [N]
        0 to 1; a map that knows nothing comes to the mask's share of the image. Equal values at the cut count in parts (see
        :func:`pellucid.measures.maps.top_share`).

    Source
    ------
    Arras, Osman & Samek 2022 (arXiv 2003.07258), relevance rank accuracy.
    """
    kept = shapes.top_share(maps, masks.mean((1, 2)))
    return (kept * masks).sum((1, 2)) / masks.sum((1, 2))


def iou(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return intersection over union of each mask and the map's top pixels, as many as the mask has.

    At equal area no threshold has to be chosen, and a map gains nothing by being broad.

    Parameters
    ----------
    maps : float array [N, H, W]
    masks : bool array [N, H, W]

    Returns
    -------
    float64 array [N]
        Equal values at the cut count in parts (see :func:`pellucid.measures.maps.top_share`).
    """
    kept = shapes.top_share(maps, masks.mean((1, 2)))
    common = (kept * masks).sum((1, 2))
    return common / (kept.sum((1, 2)) + masks.sum((1, 2)) - common)


def _at_mask_size(explanation: Explanation, masks: np.ndarray) -> np.ndarray:
    return shapes.to_size(shapes.readable(explanation), masks.shape[1:], explanation.centres)


def _values(maps: np.ndarray, masks: np.ndarray, reached: np.ndarray, usable: np.ndarray) -> dict[str, np.ndarray]:
    """Return each measure's value for the usable images, NaN for the others, [E] each."""
    of_usable = {
        "pointing_game": pointing_game(maps[usable], reached[usable], tolerance=0.0),
        "relevance_mass": relevance_mass(maps[usable], masks[usable]),
        "relevance_rank": relevance_rank(maps[usable], masks[usable]),
        "iou": iou(maps[usable], masks[usable]),
    }
    found = {name: np.full(len(maps), np.nan) for name in of_usable}
    for name, values in of_usable.items():
        found[name][usable] = values
    return found


def _rows(judged: Judged, name: str, values: np.ndarray, **facts: Any) -> list[Measurement]:
    return judged.means(name, values, source=SOURCES[name], share=name == "pointing_game", **facts)


def _note(explanation: Explanation, dead: int) -> str:
    read = "positive part" if explanation.signed else "shifted to begin at 0"
    return (
        f"{read}; bilinear from {explanation.maps.shape[1]}x{explanation.maps.shape[2]}"
        + (f"; {dead} dead maps left out" if dead else "")
        + shapes.doubt(explanation)
    )


def _undefined(judged: Judged, reason: str) -> list[Measurement]:
    return [
        Measurement(name, None, unit=judged.unit, model=explanation.model, by=explanation.method, source=source, reason=reason)
        for explanation in judged.explanations
        for name, source in SOURCES.items()
    ]
