"""Integrated gradients."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.core.registry import check_packages, part
from pellucid.explainers.singly import image_by_image
from pellucid.models.taps import ask, reference, refuse_inference_mode

CHUNK = 32  # steps whose graph is held at once


def check_numbers(*, steps: int, **_: Any) -> None:
    """Refuse a number that can't be, before anything is trained for it."""
    if steps < 1:
        raise SettingError(f"integrated_gradients: steps = {steps} must be at least 1.", setting="steps")


@part(signed=True, slow=True, taps=False, complete=True, packages=("captum",), extra="shap", check=check_numbers)
def integrated_gradients(model: nn.Module, images: Tensor, targets: Tensor, *, steps: int = 50) -> Tensor:
    """Share the difference between an image's class logit and that of the mean colour out over the pixels, by gradients on the way.

    The way begins at an image of zeros. As images come normalised, that is one of the mean colour everywhere: the image of which the
    network knows least, and the same for two networks that are normalised alike. (A black image, as in the paper, would be one extreme of a
    scan's range, and what is black could never be relevant.) Pixels that have just the mean colour get exactly 0.

    A map adds up to ``f(x) - f(0)``, but for the steps: `Explanation.gap` says for each image by how much it misses. Networks that bend
    sharply along the way need more of them.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode; mode and gradients are afterwards as before, also when this raises.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says.
    targets : int64 Tensor [N]
        The class each map explains, in [0, K).
    steps : int
        Points on the way, at the nodes of Gauss and Legendre. Taken in chunks of 32, so that memory doesn't grow with them.

    Returns
    -------
    float32 Tensor [N, H, W]
        In logits, summed over colour channels. A float64 network gives float64 (with captum's float32 weights of the steps).

    Raises
    ------
    SettingError
        captum isn't installed, or `steps` is below 1.
    TargetError
        A target lies outside [0, K), or there isn't one per image.
    ModelError
        This is called inside ``torch.inference_mode``.

    Source
    ------
    Sundararajan, Taly & Yan 2017 (arXiv 1703.01365), eq. 1, by captum's IntegratedGradients.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> maps = integrated_gradients(resnet18, torch.rand(2, 3, 64, 96), torch.tensor([0, 1]))
    >>> tuple(maps.shape)
    (2, 64, 96)
    """
    check_packages(integrated_gradients)
    check_numbers(steps=steps)
    refuse_inference_mode(model)
    images = images.detach().to(reference(model))
    return image_by_image(model, images, targets, lambda image, target: _one(model, image, target, steps))


def _one(model: nn.Module, image: Tensor, target: int, steps: int) -> Tensor:
    """Return the map [H, W] of one image."""
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(lambda batch: ask(model, batch)[:, target])
    # All steps of one image at a time: what else is in the batch then can't change how they are put into chunks.
    found = method.attribute(image[None], n_steps=steps, method="gausslegendre", internal_batch_size=CHUNK)  # [1, C, H, W]
    return found.detach()[0].sum(0)
