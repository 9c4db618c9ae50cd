"""GradientShap: expected gradients between training images and the image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.core.registry import check_packages, part
from pellucid.explainers.baselines import fitting
from pellucid.explainers.draws import drawing, image_seed
from pellucid.explainers.reading import full_precision
from pellucid.explainers.singly import image_by_image
from pellucid.models.taps import ask, refuse_inference_mode

CHUNK = 32  # captum holds all samples of a call at once, with their graph


def check_numbers(*, samples: int, **_: Any) -> None:
    """Refuse a number that can't be, before anything is trained for it."""
    if samples < 1:
        raise SettingError(f"gradient_shap: samples = {samples} must be at least 1.", setting="samples")


@part(signed=True, slow=True, taps=False, baselines="each", packages=("captum",), extra="shap", check=check_numbers)
def gradient_shap(model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, *, samples: int = 64, seed: int = 0) -> Tensor:
    """Share the difference between an image's class logit and that of training images out over the pixels, by gradients in between.

    A map adds up to ``f(x) - mean f(baselines)``, but for the draws: with 64 samples the sum of a trained network's map is off by a tenth
    or so, which `Explanation.gap` says for each image. For a linear network a single baseline leaves no gap at all.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode; mode, gradients and the global random states are afterwards as before,
        also when this raises.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says.
    targets : int64 Tensor [N]
        The class each map explains, in [0, K).
    baselines : float Tensor [B, C, H, W]
        Training images, prepared as `images` are.
    samples : int
        Draws of a baseline and of a point on the way from it to the image. Taken in chunks of 32, so that memory doesn't grow with them.
    seed : int
        The draws of an image follow from it and the image's pixels alone.

    Returns
    -------
    float32 Tensor [N, H, W]
        In logits, summed over colour channels. A float64 network gives float64.

    Raises
    ------
    SettingError
        captum isn't installed, or `samples` is below 1.
    TargetError
        A target lies outside [0, K), or there isn't one per image.
    ModelError
        The baselines have another shape than the images, or this is called inside ``torch.inference_mode``.

    Source
    ------
    Lundberg & Lee 2017 (arXiv 1705.07874) and Erion et al. 2021 (arXiv 1906.10670, expected gradients), by captum's GradientShap
    without noise.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> maps = gradient_shap(resnet18, torch.rand(2, 3, 64, 96), torch.tensor([0, 1]), torch.rand(8, 3, 64, 96))
    >>> tuple(maps.shape)
    (2, 64, 96)
    """
    check_packages(gradient_shap)
    check_numbers(samples=samples)
    refuse_inference_mode(model)
    images, baselines = fitting(baselines, images, model)
    return image_by_image(model, images, targets, lambda image, target: _one(model, image, target, baselines, samples, seed))


def _one(model: nn.Module, image: Tensor, target: int, baselines: Tensor, samples: int, seed: int) -> Tensor:
    """Return the map [H, W] of one image."""
    from captum.attr import GradientShap

    method = GradientShap(lambda batch: ask(model, batch)[:, target])
    total = torch.zeros_like(full_precision(image[0]))
    with drawing(image_seed(image, seed, "gradient_shap"), image.device):
        for start in range(0, samples, CHUNK):
            count = min(CHUNK, samples - start)
            mean = method.attribute(image[None], baselines=baselines, n_samples=count, stdevs=0.0)  # [1, C, H, W]
            total += count * mean.detach()[0].sum(0)
    return total / samples
