"""Score-CAM."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pellucid.core.errors import SettingError
from pellucid.core.registry import part
from pellucid.explainers.reading import full_precision, look, once
from pellucid.explainers.targets import check_targets
from pellucid.models.taps import forward_with, reference

CHUNK = 4 * 224 * 224  # pixels of masked images that go through the network at once; more is slower on a processor
ON_GPU = 8  # times as many
HEAVY = 0.002  # of the map: a channel that makes up more is worth a pass in float32
Variant = Literal["paper", "scale_first", "author"]


def check_numbers(*, channels: int = 0, **_: object) -> None:
    """Refuse a number that can't be, before anything is trained for it."""
    if channels < 0:
        raise SettingError(f"score_cam: channels = {channels} must be at least 0 (all of them).", setting="channels")


@part(signed=True, slow=True, taps=True, check=check_numbers)
def score_cam(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    tap: str = "last_map",
    variant: Variant = "paper",
    channels: int = 0,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Tensor:
    """Weight the channels of one feature map by the class logit of the image seen through each of them, without gradients.

    Every channel, stretched to the image's size and to [0, 1], is laid over the image as a mask, and the network is asked again: one forward
    pass for each channel of each image, which serves all classes. Passes run on 4 images of 224x224 pixels at once, or as many smaller ones,
    on a GPU on 32, so memory doesn't grow with channels or images. A constant channel makes no mask; it counts like the image that is 0 everywhere.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode; mode, gradients and hooks are afterwards as before, also when this raises.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says.
    targets : int64 Tensor [N]
        The class each map explains, in [0, K).
    tap : str
        A spatial tap of the model (see ``Taps``). The fewer channels, the quicker.
    variant : str
        ``paper``: bilinear upsampling (corners aligned, as in pytorch-grad-cam), then scaling; weights are the softmax over channels of the
        logits. ``scale_first``: scaling, then upsampling (corners not aligned), as in torchcam. ``author``: as in the author's code,
        weights are the class's probabilities, with no softmax over channels, and constant channels have none.
    channels : int
        An approximation, "Faster Score-CAM": only so many channels, those whose values vary most over the map; the others weigh nothing.
        0: all. How near it comes stands in results/explainers.md.
    precision : str
        ``bf16``: the passes of the masked images run in bfloat16, the map is summed in float32. Channels that by this make up more than
        0.2 % of the map each are asked about again in float32: among a few that weigh most, the softmax makes much of little errors.
        Quicker where the processor or GPU multiplies bfloat16 matrices (AMX, tensor cores), not elsewhere. A float64 network has none.

    Returns
    -------
    float32 Tensor [N, h, w]
        In units of the activations. Weights are never negative, so the map is negative only where activations are. A float64 network
        gives float64.

    Raises
    ------
    TapError
        `tap` is unknown or has no spatial grid.
    TargetError
        A target lies outside [0, K), or there isn't one per image.
    SettingError
        `channels` is below 0.

    Source
    ------
    Wang et al. 2020 (arXiv 1910.01279), definitions 2-3 and algorithm 1. The logit of the image that is 0 everywhere, which the paper takes
    off, is the same for all channels and changes no softmax. The author's code: github.com/haofanwang/Score-CAM. Channels that vary most:
    github.com/tabayashi0117/Score-CAM.

    Examples
    --------
    >>> resnet18 = timm.create_model("resnet18", num_classes=2)
    >>> tuple(score_cam(resnet18, torch.rand(2, 3, 64, 96), torch.tensor([0, 1]), tap="layer1").shape)
    (2, 16, 24)
    """
    check_numbers(channels=channels)
    logits, activation = look(model, images, tap)
    targets = check_targets(targets, logits)
    used = _used(activation, channels)
    # [N, C, K]: asked once, whatever the classes
    what = f"score_cam {variant} {channels} {precision}"
    answers = once(model, images, tap, what, lambda: masked_logits(model, images, activation, used, variant=variant, precision=precision))
    weights = _weights(answers, targets, activation, used, variant)
    if precision == "bf16":
        parts = weights * activation.abs().amax((2, 3))
        heavy = used & (parts > HEAVY * parts.sum(1, keepdim=True))
        again = masked_logits(model, images, activation, heavy, variant=variant)
        weights = _weights(torch.where(heavy[:, :, None], again, answers), targets, activation, used, variant)
    return full_precision(torch.einsum("nc,nchw->nhw", weights, activation))


def _weights(answers: Tensor, targets: Tensor, activation: Tensor, used: Tensor, variant: Variant) -> Tensor:
    """Return how much each channel weighs [N, C], from the logits [N, C, K] of the images seen through them."""
    own = targets[:, None, None].expand(-1, answers.shape[1], 1)
    if variant == "author":
        return answers.softmax(2).gather(2, own)[:, :, 0].masked_fill(_constant(activation) | ~used, 0).to(activation)
    return answers.gather(2, own)[:, :, 0].masked_fill(~used, -torch.inf).softmax(1).to(activation)


def masked_logits(
    model: nn.Module, images: Tensor, activation: Tensor, used: Tensor, *, variant: Variant = "paper", precision: str = "fp32"
) -> Tensor:
    """Return the logits [N, C, K] of each image seen through each channel of its activation [N, C, h, w].

    Those of an empty image stand for a constant channel and for one that isn't `used` (bool [N, C]).
    """
    images = images.to(reference(model))
    halved = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16" and images.dtype == torch.float32)
    empty = forward_with(model, torch.zeros_like(images[:1])).logits.to(images)  # never halved: often most channels are constant
    answers = empty.repeat(*activation.shape[:2], 1)
    pairs = (used & ~_constant(activation)).nonzero()  # [M, 2]: image, channel
    at_once = max(1, CHUNK * (ON_GPU if images.is_cuda else 1) // images[0, 0].numel())
    for number, channel in (pair.unbind(1) for pair in pairs.split(at_once)):
        masks = masks_of(activation[number, channel], (images.shape[2], images.shape[3]), variant=variant)
        with halved:
            answers[number, channel] = forward_with(model, images[number] * masks[:, None]).logits.to(images)
    return answers


def _used(activation: Tensor, channels: int) -> Tensor:
    """Say which channels are asked about, bool [N, C]: the `channels` that vary most, or all where it is 0."""
    if not 0 < channels < activation.shape[1]:
        return torch.ones(activation.shape[:2], dtype=torch.bool, device=activation.device)
    most = activation.flatten(2).var(2, correction=0).topk(channels, 1).indices
    return torch.zeros(activation.shape[:2], dtype=torch.bool, device=activation.device).scatter(1, most, value=True)


def masks_of(channels: Tensor, size: tuple[int, int], *, variant: Variant = "paper") -> Tensor:
    """Return channels [M, h, w], none of them constant, as masks [M, H, W] in [0, 1]."""
    if variant == "scale_first":
        return _resized(_scaled(channels), size, aligned=False)
    return _scaled(_resized(channels, size, aligned=variant == "paper"))


def _resized(maps: Tensor, size: tuple[int, int], *, aligned: bool) -> Tensor:
    return nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=aligned)[:, 0]


def _scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


def _constant(activation: Tensor) -> Tensor:
    """Say which channels are constant, [N, C]; a spread of a few units in the last place is rounding, and would be scaled up to a mask."""
    low, high = activation.amin((2, 3)), activation.amax((2, 3))
    return high - low <= 8 * torch.finfo(activation.dtype).eps * torch.maximum(high.abs(), low.abs())
