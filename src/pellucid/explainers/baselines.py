"""What an image is compared with: training images, prepared for the network that is explained.

A method says by its trait what it needs: ``baselines="each"`` a number of training images, ``baselines="mean"`` their mean.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import ModelError, SettingError
from pellucid.data.dataset import Subset, evenly_spaced
from pellucid.models.saved import Network
from pellucid.models.taps import reference

AT_MOST = 32  # training images that a method with baselines="each" is given
CHUNK = 64


def prepare(kind: str, method: str, network: Any, baselines: Subset | Tensor | None) -> Tensor:
    """Return the baselines of one method for one network.

    Parameters
    ----------
    kind : str
        ``each``: at most 32 of the images, evenly spaced in their order. ``mean``: the mean of all of them.
    method : str
        For the message.
    network : Network or plain module with ``inputs``
        A subset is prepared as its spec says; a tensor is taken as it is.
    baselines : Subset or float Tensor [B, C, H, W]

    Returns
    -------
    float Tensor [<= 32, C, H, W] or [1, C, H, W]
        On the network's device and of its type.

    Raises
    ------
    SettingError
        None are given.
    ModelError
        They are neither, or a subset is given for a plain module, which doesn't say how to prepare it.
    """
    if not isinstance(baselines, Subset | Tensor | None) or (isinstance(baselines, Tensor) and not baselines.is_floating_point()):
        given = f"{type(baselines).__name__} {getattr(baselines, 'dtype', '')}".rstrip()
        raise ModelError(f"baselines must be a Subset or a float tensor, prepared as the images are, not {given}.")
    if baselines is None or not len(baselines):
        raise SettingError(f"{method} compares with training images, and none are given. Call explain(..., baselines=data.train).")
    if isinstance(baselines, Subset) and not isinstance(network, Network):
        raise ModelError("a plain module doesn't say how baselines must be prepared. Give a Network, or baselines as a tensor.")
    if kind == "each":
        return torch.cat(list(network.inputs(baselines[evenly_spaced(len(baselines), AT_MOST)], CHUNK))).to(reference(network.model))
    total = sum(batch.sum(0, keepdim=True, dtype=torch.float64) for batch in network.inputs(baselines, CHUNK))
    return (total / len(baselines)).to(reference(network.model))


def fitting(baselines: Tensor, images: Tensor, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return images and baselines as the network takes them, if they are of one size.

    Raises
    ------
    ModelError
        There is no baseline, it is no tensor, or it has another shape than the images.
    """
    if not isinstance(baselines, Tensor):
        raise ModelError(f"baselines must be a tensor, not {type(baselines).__name__}.")
    if baselines.ndim != 4 or not len(baselines) or baselines.shape[1:] != images.shape[1:]:
        raise ModelError(
            f"baselines must be images like those to explain, [B, {', '.join(map(str, images.shape[1:]))}] with B at least 1; "
            f"they are {list(baselines.shape)}."
        )
    like = reference(model)
    return images.detach().to(like), baselines.detach().to(like)
