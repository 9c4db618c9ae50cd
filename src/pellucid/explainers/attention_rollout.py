"""Attention rollout, plain and weighted by gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pellucid.core.errors import ModelError
from pellucid.core.registry import part
from pellucid.explainers.reading import full_precision
from pellucid.explainers.targets import check_targets
from pellucid.models.taps import Tap, Taps, attentions, find_taps, make_of, reference

CHUNK = 8  # images whose attention weights are held at once: 12 blocks x 12 heads x 197 x 197 are 22 MB an image
MOST_SPECIAL = 5  # class token and four registers


@part(signed=True, taps=False, attention=True, suits=lambda model, image, **_: _route(model, image))
def attention_rollout(model: nn.Module, images: Tensor, targets: Tensor, *, variant: Literal["plain", "gradient"] = "plain") -> Tensor:
    """Follow attention through all blocks: how much of each patch arrives at the tokens that the classifier reads.

    With ``A`` a block's weights averaged over heads, the ``plain`` rollout is the product over the blocks, the last one first, of
    ``A + I`` with rows scaled to one; ``I`` stands for the residual connection. It knows no class: targets are checked and make no
    difference. The ``gradient`` form takes ``I + mean over heads of ReLU(dz_c/dA * A)`` instead, unscaled as in its paper, and shows what
    speaks for class c.

    Of the product, the rows of those tokens are taken that the classifier reads, and averaged. Which they are is seen from where the last
    block's attention has a gradient: the class token in ViT and DeiT; class and distillation token in a distilled DeiT, which averages
    both tokens' logits when it predicts; every patch where the patches are averaged.

    Where tokens are merged between stages (Visformer), the rollout is over the blocks after the last merging: a product across
    stages isn't defined. What the earlier stages did doesn't show.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits [N, K]. Runs in eval mode and without fused attention; both, gradients and hooks are afterwards as before,
        also when this raises.
    images : float Tensor [N, C, H, W]
        Normalised as the model's ``ImageSpec`` says.
    targets : int64 Tensor [N]
        The class each map explains, in [0, K).
    variant : str
        ``plain``, or ``gradient``.

    Returns
    -------
    float32 Tensor [N, h, w]
        Never negative. ``plain``: shares, which add up to one with those of class and other special tokens. ``gradient``: in logits,
        without the identity's own share of a patch. A float64 network gives float64.

    Raises
    ------
    ModelError
        The network has no attention that can be read, attends only within windows (Swin) or by weights that are no shares
        (CaiT's talking heads); or gradients are needed inside ``torch.inference_mode``.
    TargetError
        A target lies outside [0, K), or there isn't one per image.

    Source
    ------
    Abnar & Zuidema 2020 (arXiv 2005.00928), eq. 1; ``gradient``: Chefer, Gur & Wolf 2021 (arXiv 2103.15679), eq. 5-6.

    Examples
    --------
    >>> deit = timm.create_model("deit_tiny_patch16_224", num_classes=2)
    >>> maps = attention_rollout(deit, torch.rand(2, 3, 224, 224), torch.tensor([0, 1]))
    >>> tuple(maps.shape)
    (2, 14, 14)
    """
    route = _route(model, images)
    targets = torch.as_tensor(targets)
    maps = []
    for start in range(0, len(images), CHUNK):
        outputs = attentions(model, images[start : start + CHUNK], gradients=variant == "gradient")
        if not start:
            targets = check_targets(targets, outputs.logits[:1].expand(len(images), -1))
        weights = [outputs[name] for name in route.blocks]
        if variant == "gradient":
            arrived = _by_gradient(weights, outputs.logits, targets[start : start + CHUNK], route.read)
        else:
            arrived = _plain(weights, route.read)
        maps.append(arrived[:, route.special :].unflatten(1, route.grid))
    found = torch.cat(maps)
    return full_precision(found)


def _plain(weights: list[Tensor], read: Tensor) -> Tensor:
    """Return what arrives of each token [N, T]."""
    row = read.to(weights[0]).expand(len(weights[0]), -1)
    for block in reversed(weights):
        mixing = block.mean(1)  # [N, T, T]
        total = mixing.sum(2) + 1
        # A row times (A + I), whose rows are scaled to one: the whole product would cost T times as much.
        row = row / total
        row = row + torch.einsum("nq,nqk->nk", row, mixing)
    return row


def _by_gradient(weights: list[Tensor], logits: Tensor, targets: Tensor, read: Tensor) -> Tensor:
    """Return what arrives of each token and speaks for the class [N, T]."""
    with torch.enable_grad():
        chosen = logits.gather(1, targets[:, None]).sum()
    gradients = torch.autograd.grad(chosen, weights)
    start = read.to(weights[0]).expand(len(logits), -1)
    # The identity's share is kept out of the sum: next to it, what little a block adds would lose its digits.
    gained = torch.zeros_like(start)
    for block, gradient in zip(reversed(weights), reversed(gradients), strict=True):
        mixing = (gradient * block.detach()).clamp_min(0).mean(1)  # [N, T, T]
        gained = gained + torch.einsum("nq,nqk->nk", start + gained, mixing)
    return gained


@dataclass(frozen=True)
class _Route:
    """How attention goes through one network for one image size."""

    blocks: list[str]
    grid: tuple[int, int]
    special: int
    read: Tensor  # [1, T]: each token's share in what the classifier reads


_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], _Route]] = WeakKeyDictionary()


def _route(model: nn.Module, images: Tensor) -> _Route:
    known = _KNOWN.setdefault(model, {})
    key = (*images.shape[1:], make_of(model))
    if key in known:
        return known[key]
    route = _find_route(model, images)
    if bool(route.read.any()):
        known[key] = route
        return route
    # A classifier of zeros, as some networks begin with, reads nothing yet: take all tokens alike, and ask again next time.
    return replace(route, read=torch.full_like(route.read, 1 / route.read.shape[1]))


def _find_route(model: nn.Module, images: Tensor) -> _Route:
    """Look at attention in one image of noise, which isn't the user's, so that an image's map doesn't depend on the others."""
    _, channels, height, width = images.shape
    taps = find_taps(model, size=(height, width), channels=channels)
    with torch.inference_mode(False):
        noise = torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0)).to(reference(model))
        outputs = attentions(model, noise, gradients=True)
        network, weights = taps.network, outputs.maps
        shares = {name: each.detach() for name, each in weights.items()}
        if any(len(each) > 1 for each in weights.values()):
            raise ModelError(
                f"{network} attends within windows or other parts of the image, over which a rollout isn't defined: what passes from one to "
                "the next (by shifting, merging, convolution) stands in no attention weight. Take grad_cam, integrated_gradients or occlusion."
            )
        blocks = _last_blocks(weights)
        if not blocks:
            raise ModelError(f"{network} has no block in which all tokens attend to all. Take grad_cam, integrated_gradients or occlusion.")
        if any(float((shares[name].sum(3) - 1).abs().max()) > 1e-3 or float(shares[name].min()) < 0 for name in blocks):
            raise ModelError(f"{network}: attention weights that don't add up to one can't be rolled out. Take grad_cam or occlusion.")
        n_tokens = weights[blocks[-1]].shape[3]
        # A fixed direction that isn't constant: two classes' equal and opposite gradients would cancel out.
        direction = torch.arange(1, outputs.logits.shape[1] + 1, device=noise.device, dtype=noise.dtype).cos()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad((outputs.logits * direction).sum(), weights[blocks[-1]])
    place = _place(taps, n_tokens)
    if place is None:
        raise ModelError(f"{network}: its {n_tokens} tokens don't fit a grid over {height}x{width} px images.")
    read = (gradient != 0).any(3).any(1)  # [1, T]
    return _Route(blocks, place.grid, n_tokens - place.grid[0] * place.grid[1], read / read.sum().clamp_min(1))


def _place(taps: Taps, n_tokens: int) -> Tap | None:
    """Return the tap on whose grid the tokens lie; where no module hands out tokens, a map with up to five cells less than there are tokens."""
    fitting = []
    for tap in [*reversed(taps.spatial), *taps.others.values()]:
        special = n_tokens - tap.grid[0] * tap.grid[1]
        if tap.special == special if tap.layout == "tokens" else 0 <= special <= MOST_SPECIAL:
            fitting.append((tap.layout != "tokens", special, tap))
    return min(fitting, key=lambda each: each[:2])[2] if fitting else None


def _last_blocks(weights: dict[str, Tensor]) -> list[str]:
    """Return the last blocks among which the number of tokens doesn't change."""
    square = [name for name, each in weights.items() if each.shape[2] == each.shape[3]]
    sizes = [weights[name].shape[3] for name in square]
    before = [number for number, size in enumerate(sizes) if size != sizes[-1]]
    return square[before[-1] + 1 if before else 0 :]
