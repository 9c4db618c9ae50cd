"""How soon does the answer come when the image appears in the map's order, and how soon does it go?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pellucid.core.errors import SettingError
from pellucid.core.records import Measurement
from pellucid.core.registry import part
from pellucid.core.settings import Count
from pellucid.data.dataset import evenly_spaced
from pellucid.measures import maps as shapes
from pellucid.measures import perturbed
from pellucid.measures.compared import Better
from pellucid.measures.faithfulness import blur
from pellucid.measures.judged import Judged, Judgement

if TYPE_CHECKING:
    from torch import Tensor, nn

BASELINES = {"": "blur", "_mean": "mean"}  # ending of a measure's name: what stands where the image doesn't
WHERE = {"blur": "the image blurred by a twelfth of its side", "mean": "the image's mean colour"}
SOURCES = {
    f"{kind}_auc{ending}": f"Petsiuk et al. 2018 (arXiv 1806.07421), {kind}; elsewhere {WHERE[baseline]}"
    for ending, baseline in BASELINES.items()
    for kind in ("insertion", "deletion")
}
BETTER: dict[str, Better] = {name: "higher" if name.startswith("insertion") else "lower" for name in SOURCES}
CURVES = {"insertion_curve": "insertion_auc", "deletion_curve": "deletion_auc"}


@dataclass(frozen=True)
class Curves:
    """How the probability of a class moves with the share of pixels that was changed.

    Attributes
    ----------
    shares : float64 array [S]
        From 0 to 1: of the pixels that stand there (insertion) or are gone (deletion).
    insertion, deletion : float64 array [N, S]
        Probability of the class at each share; the one starts where the other ends.
    """

    shares: np.ndarray
    insertion: np.ndarray
    deletion: np.ndarray

    @property
    def insertion_auc(self) -> np.ndarray:
        """Return the area under each insertion curve [N], 0 to 1; higher is better."""
        return area(self.insertion)

    @property
    def deletion_auc(self) -> np.ndarray:
        """Return the area under each deletion curve [N], 0 to 1; lower is better."""
        return area(self.deletion)


@part()
def insertion_deletion(judged: Judged, *, images: Count = 100, steps: Count = 20) -> Judgement:
    """Judge how soon the class appears as pixels are put in, hottest first, and how soon it goes as they are taken out (RISE).

    Where the image doesn't stand, a blurred copy does, or its mean colour. Followed is the probability of the class each map is for.
    Dead maps are left out and counted; grids below 6x6 aren't judged. Two maps that know nothing stand beside the methods on the same
    images.

    Parameters
    ----------
    judged : Judged
    images : int
        At most so many of the explained images, evenly spaced: each costs ``4 * steps`` forward passes per network and map.
    steps : int
        Number of equal shares in which pixels change.

    Returns
    -------
    Judgement
        Per network and method, also in each class and group by who was right: ``insertion_auc`` and ``deletion_auc``, the areas under the two curves with the blurred copy, and
        ``insertion_auc_mean``, ``deletion_auc_mean`` with the mean colour. ``..._difference`` between methods and between networks, as for
        ``faithfulness``. ``insertion_curve`` and ``deletion_curve``: the mean probability at each share with the blurred copy
        (`stratum` ``0 %`` to ``100 %``). Per image (NaN where not judged): ``insertion_auc/METHOD/ROLE`` and so on.

    Source
    ------
    Petsiuk, Das & Saenko 2018 (arXiv 1806.07421), deletion and insertion.
    """
    which = evenly_spaced(len(judged.rows), images)
    found: list[Measurement] = []
    shares = np.linspace(0, 1, steps + 1)

    def ask(model: nn.Module, some: Tensor, maps: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {}
        for ending, baseline in BASELINES.items():
            curves = follow(model, some, maps, targets, steps=steps, baseline=baseline)  # type: ignore[arg-type]
            values |= {f"insertion_auc{ending}": curves.insertion_auc, f"deletion_auc{ending}": curves.deletion_auc}
            if not ending:
                values |= {"insertion_curve": curves.insertion, "deletion_curve": curves.deletion}
        return values

    asked = {role: perturbed.by_map(judged, role, which, ask, label="insertion and deletion") for role in judged.roles}
    facts: dict[str, Any] = {"better": BETTER, "sources": SOURCES}
    for role, values in asked.items():
        found += perturbed.rows(judged, role, values, which, note=f"{steps} steps", **facts)
        found += perturbed.curve_rows(judged, role, values, CURVES, shares, **facts)
    found += perturbed.differences(judged, asked, better=BETTER)
    return Judgement(found, perturbed.per_image(asked, BETTER))


def follow(
    model: nn.Module,
    images: Tensor,
    maps: np.ndarray,
    targets: np.ndarray,
    *,
    steps: int = 20,
    baseline: Literal["blur", "mean", "zero"] = "blur",
) -> Curves:
    """Return the insertion and the deletion curve of each image.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]; runs in eval mode, its mode is as before afterwards.
    images : float Tensor [N, C, H, W]
    maps : float array [N, H, W]
        Signed or not: only the order of their values counts. Equal values change together, each by the part of them that the share
        still has room for, so that the area is always right and nothing depends on the order of pixels.
    targets : int64 array [N]
        The class whose probability is followed.
    steps : int
    baseline : str
        What stands where the image doesn't: ``blur``, the image blurred; ``mean``, its own mean in each channel; ``zero``, the value 0,
        which for normalised images is the mean colour of the training split.

    Returns
    -------
    Curves
        NaN where a map holds values that aren't finite.

    Raises
    ------
    SettingError
        There is no such baseline.
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Petsiuk, Das & Saenko 2018 (arXiv 1806.07421), deletion and insertion.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> maps, targets = np.random.default_rng(0).random((4, 32, 32)), np.array([0, 1, 1, 0])
    >>> curves = follow(resnet18, torch.rand(4, 3, 32, 32), maps, targets, steps=10)
    >>> curves.insertion.shape, curves.insertion_auc.shape
    ((4, 11), (4,))
    """
    shares = np.linspace(0, 1, steps + 1)
    others = _baseline(images, baseline)
    insertion = uncovered(model, images, others, maps, targets, shares)
    between = uncovered(model, others, images, maps, targets, shares[1:-1])
    return Curves(shares, insertion, np.concatenate([insertion[:, -1:], between, insertion[:, :1]], axis=1))


def uncovered(
    model: nn.Module, images: Tensor, others: Tensor, maps: np.ndarray, targets: np.ndarray, shares: np.ndarray
) -> np.ndarray:  # fmt: skip
    """Say how sure a network is of a class when a map's top share shows the image and the rest shows another.

    Parameters
    ----------
    model : nn.Module
    images, others : float Tensor [N, C, H, W]
        What stands in the map's top share, and what stands elsewhere.
    maps : float array [N, H, W]
    targets : int64 array [N]
    shares : float array [S]
        0 to 1; rounded to whole pixels.

    Returns
    -------
    float64 array [N, S]
    """
    import torch

    cells = maps.shape[1] * maps.shape[2]
    above, equal = (torch.from_numpy(counts)[:, None].to(images) for counts in shapes.standing(maps))
    wanted = torch.from_numpy(np.rint(np.asarray(shares) * cells)).to(images)

    def changed(image: np.ndarray, share: np.ndarray) -> Tensor:
        shown = ((wanted[share][:, None, None, None] - above[image]) / equal[image]).clamp(0, 1)
        return torch.lerp(others[image], images[image], shown)

    found = perturbed.probability_of(model, changed, targets, len(wanted), of=images)
    found[~np.isfinite(maps).all((1, 2))] = np.nan
    return found


def area(curves: np.ndarray) -> np.ndarray:
    """Return the area under curves [N, S] over a width of 1, by the trapezoid rule at equal distances [N].

    Examples
    --------
    >>> area(np.array([[0.0, 0.5, 1.0]]))
    array([0.5])
    """
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2


def _baseline(images: Tensor, name: str) -> Tensor:
    if name == "blur":
        return blur(images)
    if name == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if name == "zero":
        return images.new_zeros(images.shape)
    raise SettingError(f'"{name}" is no baseline of insertion and deletion. There are: blur, mean, zero.', setting="baseline")
