"""One forward pass, read by as many methods and classes as there are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cached_property

import torch
from torch import Tensor, nn

from pellucid.core.errors import TapError
from pellucid.models.taps import LOGITS, NO_WAY, find_taps, forward_with, run_from

_shared: ContextVar[dict[tuple[int, int, str], Reading] | None] = ContextVar("shared", default=None)
_SAME = 1e-4  # of the largest logit: float32 sums in another order


class Reading:
    """What a network makes of images at one tap, and how its logits depend on that.

    Parameters
    ----------
    model : nn.Module
        Runs in eval mode; mode, gradients and hooks are afterwards as before.
    images : float Tensor [N, C, H, W]
    tap : str
        A spatial tap.

    Attributes
    ----------
    logits : Tensor [N, K]
    activation : Tensor [N, C, h, w]
        Both without gradients.
    """

    def __init__(self, model: nn.Module, images: Tensor, tap: str) -> None:
        outputs = forward_with(model, images, taps=[tap], gradients=True)
        self._leaf, self._outcome = outputs.spatial(tap), outputs.logits
        self.model, self.images, self.tap = model, images, tap
        self.logits, self.activation = self._outcome.detach(), self._leaf.detach()
        self._made: dict[str, Tensor] = {}
        self._last: tuple[Tensor, Tensor] | None = None  # classes, and the gradient for them

    def gradient(self, targets: Tensor) -> Tensor:
        """Return the gradient of each image's target logit with respect to its activation, [N, C, h, w].

        Behind a global average pool and a linear layer it is the layer's weight over the number of cells. Else it is propagated from
        the logits back to the tap and no further: in eval mode images don't influence each other, so one pass serves the batch.
        """
        if self.weight is not None:
            cells = self.activation.shape[2] * self.activation.shape[3]
            return (self.weight[targets] / cells)[:, :, None, None].expand_as(self.activation)
        if self._last is None or not torch.equal(self._last[0], targets):  # methods that are asked in turn mostly want the same classes
            with torch.enable_grad():
                chosen = self._outcome.gather(1, targets[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, self._leaf, retain_graph=True, allow_unused=True)
            if gradient is None:  # as where what follows is quantised
                raise TapError(NO_WAY.format(type(self.model).__name__, self.tap))
            self._last = targets.clone(), gradient
        return self._last[1]

    def logits_of(self, index: int, activations: Tensor) -> Tensor:
        """Return the logits [M, K] that image `index` would have with these activations [M, C, h, w] at the tap."""
        if self.weight is not None:
            shift = activations.mean((2, 3)) - self.activation[index].mean((1, 2))
            return self.logits[index] + shift @ self.weight.T
        return run_from(self.model, self.images[index : index + 1], self.tap, activations)

    def once(self, what: str, make: Callable[[], Tensor]) -> Tensor:
        """Return what `make` gives, made the first time that `what` is asked for and kept with this reading."""
        if what not in self._made:
            self._made[what] = make()
        return self._made[what]

    @cached_property
    def weight(self) -> Tensor | None:
        """Return the weights [K, C] of a linear layer that reads the mean of the tap over its cells, None where the head is another.

        That it is one is seen from this very pass: pooled and logits must come out as such a head makes them.
        """
        last = [module for module in self.model.modules() if isinstance(module, nn.Linear)][-1:]
        if not last or last[0].weight.shape != (self.logits.shape[1], self.activation.shape[1]):
            return None
        layer, pooled = last[0], self.activation.mean((2, 3))
        made = nn.functional.linear(pooled, layer.weight, layer.bias).detach()
        scale = self.logits.abs().max().clamp_min(torch.finfo(made.dtype).tiny)
        return layer.weight.detach() if (made - self.logits).abs().max() <= _SAME * scale else None


def read(model: nn.Module, images: Tensor, tap: str) -> Reading:
    """Return a reading; inside :func:`sharing`, the one that another method has made already.

    Raises
    ------
    TapError
        The tap is unknown, has no spatial grid, or the logits don't depend on it.
    ModelError
        The network can't take these images, or this is called inside ``torch.inference_mode``.
    """
    shared = _shared.get()
    if shared is None:
        return Reading(model, images, tap)
    asked = place = (id(model), id(images), tap)  # the readings hold both, so no other object can take their place
    if asked not in shared:
        if tap != LOGITS:  # two names of one place are one reading
            place = (*asked[:2], find_taps(model, size=(images.shape[2], images.shape[3]), channels=images.shape[1]).find(tap).name)
        shared[asked] = shared[place] = shared.get(place) or Reading(model, images, place[2])
    return shared[asked]


def look(model: nn.Module, images: Tensor, tap: str) -> tuple[Tensor, Tensor]:
    """Return logits [N, K] and a tap's activation [N, C, h, w] without gradients, for methods that need none; errors as of :func:`read`."""
    if _shared.get() is not None:
        reading = read(model, images, tap)
        return reading.logits, reading.activation
    outputs = forward_with(model, images, taps=[tap])
    return outputs.logits, outputs.spatial(tap)


def activation_at(model: nn.Module, images: Tensor, tap: str) -> Tensor:
    """Return a tap's activation [N, C, h, w] as :func:`look` does."""
    return look(model, images, tap)[1]


def once(model: nn.Module, images: Tensor, tap: str, what: str, make: Callable[[], Tensor]) -> Tensor:
    """Return what `make` gives; inside :func:`sharing` it is made once for the same network, images and tap, whatever class asks for it.

    Parameters
    ----------
    what : str
        Names the thing, with all settings it depends on. What is kept should be small.
    make : function
    """
    return make() if _shared.get() is None else read(model, images, tap).once(what, make)


def full_precision(maps: Tensor) -> Tensor:
    """Return maps in float32, or in float64 where the network computes so: what every explainer gives, whatever half precision it saw."""
    return maps if maps.dtype == torch.float64 else maps.float()


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Let methods called inside on the same network and images share one forward pass for each tap."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)
