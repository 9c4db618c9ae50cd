"""Does the answer go when what the map shows is taken out, and stay when all else is?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from pellucid.core.records import Measurement
from pellucid.core.registry import part
from pellucid.core.rng import derive, generator, uniform
from pellucid.core.settings import Count
from pellucid.data.dataset import evenly_spaced
from pellucid.measures import perturbed
from pellucid.measures.compared import Better
from pellucid.measures.imputation import impute
from pellucid.measures.judged import Judged, Judgement

if TYPE_CHECKING:
    from torch import Tensor, nn

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
NOISE = 0.01
SOURCE = "Rong et al. 2022 (arXiv 2202.00449), noisy linear imputation"
SOURCES = {
    "road": f"{SOURCE}; least minus most relevant first",
    "road_morf": f"{SOURCE}, most relevant first",
    "road_lerf": f"{SOURCE}, least relevant first",
}
BETTER: dict[str, Better] = {"road": "higher", "road_morf": "lower", "road_lerf": "higher"}
CURVES = {"road_morf_curve": "road_morf", "road_lerf_curve": "road_lerf"}


@part()
def road(judged: Judged, *, images: Count = 100) -> Judgement:
    """Judge whether the class goes when the hottest pixels are removed, and stays when the coldest are (ROAD).

    10, 30, 50, 70 and 90 % of the pixels are taken away and filled in from those that stay (:func:`~pellucid.measures.imputation.impute`),
    most relevant first and least relevant first; followed is the probability of the class each map is for. Dead maps are left out and
    counted; grids below 6x6 aren't judged. Two maps that know nothing stand beside the methods on the same images.

    Parameters
    ----------
    judged : Judged
    images : int
        At most so many of the explained images, evenly spaced: each costs ten forward passes per network and map.

    Returns
    -------
    Judgement
        Per network and method, also in each class and group by who was right: ``road_morf`` and ``road_lerf``, the probability with the most and the least relevant pixels
        removed, mean over the five shares; ``road``, the second minus the first, about 0 for a map that knows nothing.
        ``..._difference`` between methods and between networks, as for ``faithfulness``. ``road_morf_curve`` and ``road_lerf_curve``: the
        probability at each share removed (`stratum` ``10 %`` and so on). Per image (NaN where not judged): ``road/METHOD/ROLE`` and so on.

    Source
    ------
    Rong et al. 2022 (arXiv 2202.00449). The paper follows accuracy; we follow the class's probability, which needs fewer images.
    """
    which = evenly_spaced(len(judged.rows), images)
    note = f"mean over {len(SHARES)} shares removed, noise {NOISE:g}"
    found: list[Measurement] = []
    asked = {role: perturbed.by_map(judged, role, which, _both_orders, label="ROAD") for role in judged.roles}
    for role, values in asked.items():
        found += perturbed.rows(judged, role, values, which, better=BETTER, sources=SOURCES, note=note)
        found += perturbed.curve_rows(judged, role, values, CURVES, SHARES, better=BETTER, sources=SOURCES)
    found += perturbed.differences(judged, asked, better=BETTER)
    return Judgement(found, perturbed.per_image(asked, BETTER))


def follow_removal(
    model: nn.Module,
    images: Tensor,
    maps: np.ndarray,
    targets: np.ndarray,
    *,
    order: Literal["morf", "lerf"] = "morf",
    shares: Sequence[float] = SHARES,
    noise: float = NOISE,
    seed: int = 0,
) -> np.ndarray:
    """Say how sure a network stays of a class while ever more pixels are removed in a map's order and filled in from the rest.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]; runs in eval mode, its mode is as before afterwards.
    images : float Tensor [N, C, H, W]
    maps : float array [N, H, W]
        Signed or not: only the order of their values counts. Among equal values the order is drawn by lot, the same for every image, so
        that the area is always what `shares` say and nothing depends on the order in which pixels are stored.
    targets : int64 array [N]
        The class whose probability is followed.
    order : str
        ``morf``: the most relevant pixels go first; ``lerf``: the least relevant.
    shares : sequence of float
        Shares of the pixels to remove, 0 to below 1; rounded to whole pixels, of which at least one stays.
    noise : float
        Standard deviation, in units of the images, of what is added to filled pixels; one field of noise for all images and shares.
    seed : int
        Of noise and lots.

    Returns
    -------
    float64 array [N, len(shares)]
        NaN where a map holds values that aren't finite.

    Raises
    ------
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Rong et al. 2022 (arXiv 2202.00449), most and least relevant first.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> maps, targets = np.random.default_rng(0).random((4, 32, 32)), np.array([0, 1, 1, 0])
    >>> probabilities = follow_removal(resnet18, torch.rand(4, 3, 32, 32), maps, targets, order="lerf")
    >>> probabilities.shape
    (4, 5)
    """
    import torch

    kept = kept_pixels(maps if order == "morf" else -maps, shares, seed=seed)  # [N, S, H, W]
    drawn = generator(seed, "ROAD noise").standard_normal(images.shape[1:])
    field = torch.from_numpy(noise * drawn).to(images) if noise else None

    def changed(image: np.ndarray, share: np.ndarray) -> Tensor:
        return impute(images[image], torch.from_numpy(kept[image, share]).to(images.device), noise=field)

    found = perturbed.probability_of(model, changed, targets, len(shares), of=images)
    found[~np.isfinite(maps).all((1, 2))] = np.nan
    return found


def kept_pixels(maps: np.ndarray, shares: Sequence[float], *, seed: int = 0) -> np.ndarray:
    """Return which pixels stay when so large a share of the highest is removed, bool [N, S, H, W]; equal values go by lot.

    Examples
    --------
    >>> kept_pixels(np.array([[[0.1, 0.9, 0.5, 0.2]]]), [0.25, 0.5])[0, :, 0]
    array([[ True, False,  True,  True],
           [ True, False, False,  True]])
    """
    n, height, width = maps.shape
    cells = height * width
    lots = uniform(derive(seed, "ROAD ties"), np.arange(height)[:, None], np.arange(width)).ravel()
    flat = maps.reshape(n, cells)
    place = np.empty((n, cells), np.int64)
    for number, values in enumerate(flat):
        place[number, np.lexsort((lots, -values))] = np.arange(cells)
    gone = np.minimum(np.rint(np.asarray(shares) * cells), cells - 1).astype(np.int64)
    return (place[:, None] >= gone[:, None]).reshape(n, len(gone), height, width)


def _both_orders(model: nn.Module, images: Tensor, maps: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    morf, lerf = (follow_removal(model, images, maps, targets, order=order) for order in ("morf", "lerf"))
    return {
        "road": (lerf - morf).mean(1), "road_morf": morf.mean(1), "road_lerf": lerf.mean(1), "road_morf_curve": morf, "road_lerf_curve": lerf
    }  # fmt: skip
