"""KernelShap on superpixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.core.registry import check_packages, part
from pellucid.explainers.baselines import fitting
from pellucid.explainers.draws import drawing, image_seed
from pellucid.explainers.reading import full_precision
from pellucid.explainers.singly import image_by_image
from pellucid.models.taps import ask

CHUNK = 32  # images per forward pass


def check_numbers(*, samples: int, segments: int, **_: Any) -> None:
    """Refuse numbers that can't be, before anything is trained for them."""
    if segments < 1:
        raise SettingError(f"kernel_shap: segments = {segments} must be at least 1.", setting="segments")
    if samples < segments + 2:
        raise SettingError(
            f"kernel_shap: samples = {samples} can't decide {segments} segments. Take some 20 times as many.", setting="samples"
        )


@part(signed=True, slow=True, taps=False, baselines="mean", packages=("captum", "skimage"), extra="shap", check=check_numbers)
def kernel_shap(
    model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, *, samples: int = 1000, segments: int = 50, seed: int = 0
) -> Tensor:
    """Share the difference between an image's class logit and that of the mean training image out over superpixels, by Shapley values.

    The network is only asked for logits: of images in which some superpixels are the image's and the others the mean training image's.
    Each pixel carries its superpixel's value over the superpixel's area, so a map adds up to the superpixels' sum.

    That sum is ``f(x) - f(baseline)`` to about 1e-4: captum fits in float32 and gives the empty and the full image, both among the
    `samples`, a weight of 1e6, which also costs digits in the values (1e-4 of the largest; ``f(baseline)`` is taken off before the fit,
    or large logits would cost more). What matters more is that the coalitions are drawn: without noise where superpixels add up, otherwise
    single values err by a tenth of the largest or so with 1,000 samples (two seeds' maps of a trained network correlate by 0.8). So a small
    gap doesn't say that the map is right.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode and without gradients; mode and the global random states are afterwards as before,
        also when this raises.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says.
    targets : int64 Tensor [N]
        The class each map explains, in [0, K).
    baselines : float Tensor [B, C, H, W]
        Training images, prepared as `images` are. Their mean stands where a superpixel is taken out.
    samples : int
        Evaluations of the network for one image, at least two more than `segments`.
    segments : int
        About how many superpixels an image is cut into. An image of few pixels may get more, a textured one fewer.
    seed : int
        The draws of an image follow from it and the image's pixels alone.

    Returns
    -------
    float32 Tensor [N, H, W]
        In logits per pixel. A float64 network gives float64 (of float32 precision). NaN where the image or the logits aren't finite.

    Raises
    ------
    SettingError
        captum or scikit-image isn't installed, or `samples` is too small for so many segments.
    TargetError
        A target lies outside [0, K), or there isn't one per image.
    ModelError
        The baselines have another shape than the images.

    Source
    ------
    Lundberg & Lee 2017 (arXiv 1705.07874), theorem 2, by captum's KernelShap; superpixels by SLIC (Achanta et al. 2012) in its zero
    parameter form.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> maps = kernel_shap(resnet18, torch.rand(1, 3, 32, 48), torch.tensor([1]), torch.rand(8, 3, 32, 48), samples=100, segments=12)
    >>> tuple(maps.shape)
    (1, 32, 48)
    """
    check_packages(kernel_shap)
    check_numbers(samples=samples, segments=segments)
    images, baselines = fitting(baselines, images, model)
    baseline = baselines.mean(0, dtype=torch.float64).to(images)
    with torch.no_grad():
        return image_by_image(model, images, targets, lambda image, target: _one(model, image, target, baseline, samples, segments, seed))


def superpixels(image: Tensor, segments: int) -> Tensor:
    """Cut an image into about so many connected pieces of similar colour.

    Parameters
    ----------
    image : float Tensor [C, H, W]
        Any range; stretched to [0, 1] first. Other than three channels are averaged to grey.
    segments : int

    Returns
    -------
    int64 Tensor [H, W]
        On the image's device; pieces are numbered from 0 without a gap.
    """
    from skimage.segmentation import slic

    pixels = image.detach().cpu().double()
    pixels = (pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)).permute(1, 2, 0)
    low, high = pixels.min(), pixels.max()
    shown = ((pixels - low) / (high - low).clamp_min(1e-12)).numpy()
    # The ordinary form weighs colour against place by one number for all images; a noisy image then falls to crumbs, which are
    # joined into a single piece. The zero parameter form sets that weight for each piece from its own colours.
    pieces = slic(shown, n_segments=segments, slic_zero=True, start_label=0, channel_axis=-1)
    # captum takes a number that is left out for a piece without pixels.
    return torch.from_numpy(np.unique(pieces, return_inverse=True)[1].reshape(pieces.shape)).to(image.device)


def _one(model: nn.Module, image: Tensor, target: int, baseline: Tensor, samples: int, segments: int, seed: int) -> Tensor:
    """Return the map [H, W] of one image."""
    if torch.equal(image, baseline):  # rounding in a forward pass of another size would look like a map
        return torch.zeros_like(image[0])
    if not torch.isfinite(image).all():
        return torch.full_like(image[0], torch.nan)
    pieces = superpixels(image, segments)
    empty = ask(model, baseline[None])[0, target]

    def worth(coalitions: Tensor) -> Tensor:
        """Return the logit [n] of images with only the pieces of each coalition [n, M], beyond that of the baseline."""
        there = coalitions.to(image.device)[:, pieces] > 0  # [n, H, W]
        logits = ask(model, torch.where(there[:, None], image, baseline))[:, target] - empty
        if not torch.isfinite(logits).all():
            raise FloatingPointError
        return logits.cpu()

    try:
        values = _shapley(worth, int(pieces.max()) + 1, samples, image_seed(image, seed, "kernel_shap")).to(full_precision(image))
    except FloatingPointError:
        return torch.full_like(image[0], torch.nan)
    areas = torch.bincount(pieces.flatten())
    return (values / areas)[pieces]


def _shapley(worth: Callable[[Tensor], Tensor], n_pieces: int, samples: int, seed: int) -> Tensor:
    """Return the Shapley values [M] of a game, as far as so many evaluations tell."""
    from captum.attr import KernelShap

    everything = torch.ones(1, n_pieces)
    if n_pieces == 1:  # captum divides by zero
        return worth(everything)
    # captum's input is the coalition, not the image: it would put images together one by one, which takes longer than a small network.
    with drawing(seed, torch.device("cpu")):
        found = KernelShap(worth).attribute(
            everything, baselines=torch.zeros(1, n_pieces), n_samples=samples, perturbations_per_eval=CHUNK, return_input_shape=False
        )
    return found[0]
