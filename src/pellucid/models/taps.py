"""Named places in any network, found by one dry run, and a forward pass that hands out what flows through them.

The dry run sends one zero image through the network and watches which module calls which, and what comes out. A **spatial tap**
is the output of a stage: a map [N, C, h, w], whether the network keeps it channels first, channels last (Swin) or as tokens (ViT;
class and other special tokens are left aside). ``last_map``, ``pooled`` and ``logits`` are other names every network answers to.

    denseblock3, layer2, stages.1     names of the network's own modules, without a leading "features." or the like
    stem                              what comes before the first stage, where it has no module of its own
    conv1                             a convolution written out by hand is tapped after the norm and activation that follow it

Any other module whose output is a map can be named too, e.g. ``layer1.0``.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pellucid.core.errors import ModelError, TapError, did_you_mean, nearest
from pellucid.core.records import SMALLEST_GRID

LAST_MAP, POOLED, LOGITS = "last_map", "pooled", "logits"
NO_WAY = "{}: the logits don't depend on {} in a way that can be differentiated."
_NO_GRID = "{} has no spatial grid, so it gives no map. Choose a spatial tap such as last_map."


@dataclass(frozen=True)
class Tap:
    """A named place in a network.

    Attributes
    ----------
    name : str
        What people call it, e.g. ``denseblock3``.
    module : str
        The module as ``named_modules`` spells it.
    shape : tuple of int
        (C, h, w) for the image of the dry run; (D, 1, 1) for ``pooled``.
    layout : str
        ``NCHW``, ``NHWC``, ``tokens`` or ``vector``: how the network itself keeps it.
    special : int
        Class and other special tokens before the grid.
    call : int
        Which call of the module, for one that is used several times.
    before : bool
        The module's input rather than its output (``pooled`` of networks that have no pooling module).
    """

    name: str
    module: str
    shape: tuple[int, int, int]
    layout: str = "NCHW"
    special: int = 0
    call: int = 0
    before: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Return (h, w)."""
        return self.shape[1:]


@dataclass(frozen=True)
class Taps:
    """All taps of one network for one image size.

    Attributes
    ----------
    spatial : list of Tap
        Stage outputs in the order in which they are computed.
    pooled : Tap
        The vector [N, D] after global pooling (the class token for a ViT that pools so).
    network : str
        The network's class, for messages.
    others : dict of str -> Tap
        Every other module that gives a map.
    """

    spatial: list[Tap]
    pooled: Tap
    network: str
    others: dict[str, Tap] = field(repr=False, default_factory=dict)

    @property
    def last_map(self) -> Tap:
        """Return the last map before pooling."""
        return self.spatial[-1]

    def find(self, name: str) -> Tap:
        """Return a tap by name; ``last_map``, ``pooled`` and modules that are no stage are names too.

        Raises
        ------
        TapError
            There is no such tap; the spatial taps are listed.
        """
        if name in (LAST_MAP, POOLED):
            return self.last_map if name == LAST_MAP else self.pooled
        for tap in self.spatial:
            if name in (tap.name, tap.module):
                return tap
        if name in self.others:
            return self.others[name]
        names = [tap.name for tap in self.spatial]
        choices = [*names, LAST_MAP, *self.others]
        raise TapError(
            f'{self.network} has no tap "{name}".{did_you_mean(name, choices)} Spatial taps: {", ".join(names)} (= last_map).',
            near=nearest(name, choices),
        )

    def choose(self, name: str = "auto", *, min_side: int = SMALLEST_GRID) -> Tap:
        """Return the tap at which maps should be read.

        Parameters
        ----------
        name : str
            ``auto``: the deepest tap whose grid is at least `min_side` x `min_side`, or the last map where there is none
            (:meth:`remark` says so). Else as :meth:`find`.
        min_side : int
            A map on a smaller grid says too little about where a network looks.

        Raises
        ------
        TapError
            There is no such tap, or it has no spatial grid.
        """
        if name != "auto":
            found = self.find(name)
            if found.layout == "vector":
                raise TapError(_NO_GRID.format(name))
            return found
        large = [tap for tap in self.spatial if min(tap.grid) >= min_side]
        return large[-1] if large else self.last_map

    def remark(self, tap: Tap, *, min_side: int = SMALLEST_GRID) -> str:
        """Return what a reader of maps from `tap` must know, or nothing."""
        if min(tap.grid) >= min_side:
            return ""
        return f"{tap.name} has a {tap.grid[0]}x{tap.grid[1]} grid; below {min_side}x{min_side} a map says little."


@dataclass(frozen=True)
class Outputs:
    """What one forward pass gave: ``logits`` [N, K] and ``outputs["tap"]`` [N, C, h, w] (``pooled``: [N, D])."""

    logits: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        return self.logits if name == LOGITS else self.maps[name]

    def spatial(self, name: str) -> Tensor:
        """Return a tap's map [N, C, h, w].

        Raises
        ------
        TapError
            It has no spatial grid (``pooled``, ``logits``).
        """
        if self[name].ndim != 4:
            raise TapError(_NO_GRID.format(name))
        return self[name]


def find_taps(model: nn.Module, *, size: int | tuple[int, int], channels: int) -> Taps:
    """Find the taps of a network by one dry run with a zero image; asked again, it remembers.

    Mode, statistics, gradients and hooks of the network are afterwards as before.

    Parameters
    ----------
    model : nn.Module
        Maps images [N, C, H, W] to logits [N, K].
    size : int or (int, int)
        Side, or height and width, of the image in pixels.
    channels : int
        Channels of the image.

    Raises
    ------
    ModelError
        The network can't take such images.
    TapError
        It has no spatial tap at all.

    Examples
    --------
    >>> taps = find_taps(timm.create_model("resnet18"), size=64, channels=3)
    >>> [(tap.name, tap.grid) for tap in taps.spatial]
    [('stem', (32, 32)), ('layer1', (16, 16)), ('layer2', (8, 8)), ('layer3', (4, 4)), ('layer4', (2, 2))]
    """
    height, width = (size, size) if isinstance(size, int) else size
    known = _KNOWN.setdefault(model, {})
    key = (height, width, channels, make_of(model))
    if key not in known:
        known[key] = _dry_run(model, height, width, channels)
    return known[key]


def ask(model: nn.Module, images: Tensor) -> Tensor:
    """Return a network's logits [N, K] of images [N, C, H, W], :func:`placed` as it takes them fastest, in the mode it is in.

    Raises
    ------
    ModelError
        It gives something else.
    """
    return _logits(model, model(placed(model, images)))


def _logits(model: nn.Module, output: Any) -> Tensor:
    """Return what a network gave, a ModelError where that is no logits [N, K]."""
    if not isinstance(output, Tensor) or output.ndim != 2 or not output.shape[1]:
        given = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f"{type(model).__name__} must map images [N, C, H, W] to logits [N, K]; it gives {given}.")
    return output


def placed(model: nn.Module, images: Tensor) -> Tensor:
    """Return images on a network's device, of its type, and in the memory layout in which it is fastest.

    On a processor most networks run 1.2 to 1.5 times as fast where a pixel's channels lie side by side (channels last). One that can't
    take images so, say because it flattens maps with ``view``, gets them as they are. The first time for each size this runs the network
    once on two zero images, so hooks that count or replace are set afterwards.

    Parameters
    ----------
    model : nn.Module
    images : float Tensor [N, C, H, W]
    """
    images = images.to(reference(model))
    if images.device.type == "cpu" and images.dtype == torch.float32 and images.ndim == 4 and _takes_channels_last(model, images):
        return images.contiguous(memory_format=torch.channels_last)
    return images


def _takes_channels_last(model: nn.Module, images: Tensor) -> bool:
    """Try it once for each size of image and make of the network, and remember. Two images: of one, views are legal that fail of more."""
    known = _CHANNELS_LAST.setdefault(model, {})
    key = (*images.shape[1:], make_of(model))
    if key not in known:
        with torch.inference_mode(False), torch.no_grad(), evaluating(model):
            tried = torch.zeros(2, *images.shape[1:], device=images.device, dtype=images.dtype)
            try:
                model(tried.contiguous(memory_format=torch.channels_last))
                known[key] = True
            except RuntimeError:
                known[key] = False
    return known[key]


def make_of(model: nn.Module) -> int:
    """Return a number that changes when modules are added, taken away or replaced by others, or their strides, kernels and padding changed."""
    made = [(name, type(module), vars(module)) for name, module in model.named_modules()]
    return hash(tuple((name, kind, *(repr(has[key]) for key in _GEOMETRY if key in has)) for name, kind, has in made))


def forward_with(model: nn.Module, images: Tensor, taps: Sequence[str] = (), *, gradients: bool = False) -> Outputs:
    """Run a network in eval mode and hand out what flows through some taps.

    Parameters
    ----------
    model : nn.Module
        Mode and hooks are afterwards as before, also when this raises.
    images : float Tensor [N, C, H, W]
        Moved to the network's device and type.
    taps : sequence of str
        Names of spatial taps, or ``pooled``.
    gradients : bool
        Logits carry gradients back to the taps, also with frozen parameters and under ``torch.no_grad``. What lies before
        the first tap is run without gradients. With no taps, gradients flow to `images` and the parameters.

    Returns
    -------
    Outputs
        Logits [N, K] and, by the names that were asked for, maps [N, C, h, w]. Without `gradients` all are detached.

    Raises
    ------
    TapError
        A tap is unknown.
    ModelError
        The network can't take these images, or `gradients` are asked for inside ``torch.inference_mode``.
    """
    if gradients:
        refuse_inference_mode(model)
    found = find_taps(model, size=(images.shape[2], images.shape[3]), channels=images.shape[1])
    named = {name: found.find(name) for name in taps if name != LOGITS}
    images = placed(model, images)
    with evaluating(model), torch.set_grad_enabled(gradients and not named), watch(model, named, leaves=gradients) as maps:
        logits = model(images)
    if gradients and named and not logits.requires_grad:
        raise TapError(NO_WAY.format(found.network, " or ".join(named)))
    return Outputs(logits, dict(maps))


def run_from(model: nn.Module, image: Tensor, tap: str, maps: Tensor) -> Tensor:
    """Return the logits [M, K] a network gives where a tap holds these maps, whatever the image made of it.

    What lies before the tap is run on the one image only, so many changes of one map cost little more than the rest of the network.

    Parameters
    ----------
    model : nn.Module
        Runs in eval mode, without gradients.
    image : float Tensor [1, C, H, W]
        Gives special tokens, and whatever passes the tap by.
    tap : str
        A spatial tap.
    maps : float Tensor [M, C, h, w]

    Raises
    ------
    TapError
        The tap is unknown.
    """
    found = find_taps(model, size=(image.shape[2], image.shape[3]), channels=image.shape[1]).find(tap)
    image, calls = placed(model, image), 0

    def put(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 != found.call:
            return None
        like = output.expand(len(maps), *output.shape[1:])
        return _from_map(maps, like, found)

    with evaluating(model), torch.no_grad():
        handle = model.get_submodule(found.module).register_forward_hook(put)
        try:
            return model(image)
        finally:
            handle.remove()


def attentions(model: nn.Module, images: Tensor, *, gradients: bool = False) -> Outputs:
    """Run a network in eval mode and hand out the attention weights of all its blocks.

    Read are modules that pass their weights through a dropout called ``attn_drop`` (timm's transformers and most written after them)
    and ``nn.MultiheadAttention`` (torchvision's, PyTorch's own). A fused kernel never forms the weights, so fusion is switched off meanwhile.

    Parameters
    ----------
    model : nn.Module
        Mode, hooks and fusion are afterwards as before, also when this raises.
    images : float Tensor [N, C, H, W]
        Moved to the network's device and type.
    gradients : bool
        Logits carry gradients back to all weights, also with frozen parameters and under ``torch.no_grad``.

    Returns
    -------
    Outputs
        Logits [N, K] and, by the attention module's name and in the order computed, weights [N, heads, queries, keys] after the softmax.
        Where attention stays within windows they are [N * windows, heads, queries, keys], an image's windows side by side.

    Raises
    ------
    ModelError
        The network has no attention that can be read, or `gradients` are asked for inside ``torch.inference_mode``.

    Examples
    --------
    >>> outputs = attentions(timm.create_model("deit_tiny_patch16_224"), torch.rand(2, 3, 224, 224))
    >>> tuple(outputs["blocks.0.attn"].shape)
    (2, 3, 197, 197)
    """
    if gradients:
        refuse_inference_mode(model)
    images = images.to(reference(model))
    with evaluating(model), torch.no_grad(), _watch_attention(model, leaves=gradients) as weights:
        logits = model(images)
    if not weights:
        raise ModelError(
            f"{type(model).__name__} has no attention weights to read. Read are timm's attention modules, nn.MultiheadAttention, and any module "
            f"that passes its weights through a dropout called attn_drop. For other networks take a method such as grad_cam or occlusion."
        )
    return Outputs(logits, dict(weights))


_TURN = threading.RLock()


def _begin_anew() -> None:
    """Let a forked process begin with a free turn: the thread that held it isn't there."""
    global _TURN
    _TURN = threading.RLock()


os.register_at_fork(after_in_child=_begin_anew)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put a network into eval mode and give each module its own mode flag back at the end, also after an error.

    Threads take turns, whatever network they look at, for networks may share modules: each finds its modes and hooks, and not another's.
    """
    with _TURN:
        before = [(module, module.training) for module in model.modules()]
        try:
            for module, _ in before:
                module.training = False
            yield model
        finally:
            for module, training in before:
                module.training = training


def refuse_inference_mode(model: nn.Module) -> None:
    """Raise a ModelError inside ``torch.inference_mode``, where no gradient can be had, and for networks that were made there."""
    if reference(model).is_inference():
        raise ModelError(
            f"{type(model).__name__} was made inside torch.inference_mode(), so it has no gradients. copy.deepcopy(model) has."
        )
    if torch.is_inference_mode_enabled():
        raise ModelError("Gradients can't be had inside torch.inference_mode(). Leave it, or use torch.no_grad(), which does no harm here.")


def reference(model: nn.Module) -> Tensor:
    """Return a tensor whose device and type images must have to go into the network; a ModelError where it isn't made yet (lazy modules)."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if nn.parameter.is_lazy(tensor):
            raise ModelError(f"{type(model).__name__} has lazy modules whose weights aren't made yet. Call it once on some images.")
        if tensor.is_floating_point():
            return tensor.detach()
    return torch.zeros(())


# ---- the dry run


@dataclass(eq=False)
class _Call:
    """One call of a module in the dry run: who called whom, and what came out."""

    name: str
    module: nn.Module
    index: int
    children: list[_Call] = field(default_factory=list)
    entered: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    passed_on: bool = False  # gave out the very tensor that went in, as an identity does
    in_attention: bool = False
    tap: Tap | None = None
    label: str = ""  # the convolution that this activation belongs to
    within: str = ""  # the block that this call stands for

    @property
    def mixes(self) -> bool:
        """Say whether the module holds a convolution or linear layer; norms, scales and activations don't mix channels or places."""
        if any(isinstance(module, nn.Linear | nn.modules.conv._ConvNd) for module in self.module.modules()):
            return True
        return any(parameter.ndim >= 2 and parameter.shape[0] > 1 for parameter in self.module.parameters())

    @property
    def attends(self) -> bool:
        """Say whether this is an attention module, whose inner tensors are no maps of the image."""
        return "Attn" in type(self.module).__name__ or "Attention" in type(self.module).__name__

    @property
    def pools(self) -> bool:
        """Say whether this is a pooling module, ours or another library's."""
        return "Pool" in type(self.module).__name__

    def everything(self) -> Iterator[_Call]:
        """Yield all calls inside and then this one: the order in which they end."""
        for child in self.children:
            yield from child.everything()
        yield self


_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Taps]] = WeakKeyDictionary()
_CHANNELS_LAST: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], bool]] = WeakKeyDictionary()
_GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "output_size")
_REFUSALS = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ZeroDivisionError)  # how networks refuse an image


def _dry_run(model: nn.Module, height: int, width: int, channels: int) -> Taps:
    like = reference(model)
    with torch.inference_mode(False), torch.no_grad():
        image = torch.zeros(1, channels, height, width, device=like.device, dtype=like.dtype)
        root = _trace(model, image)
        calls = list(root.everything())[:-1]
        for call in calls:
            call.tap = _as_tap(call, getattr(model, "num_prefix_tokens", None), height, width)
        stages = _stages(root)
        if not stages:
            raise TapError(f"{type(model).__name__} gives no map of more than one cell for {height}x{width} px images. Use larger ones.")
        pooled = _pooled(calls, after=stages[-1])
        while pooled is None and len(stages) > 1:  # what comes behind the classifier, as another one for each place (VOLO), is no stage
            stages.pop()
            pooled = _pooled(calls, after=stages[-1])
        if pooled is None:
            raise TapError("The network has neither a pooling module nor a linear layer behind its last map, so nothing to call pooled.")
        if _tap(stages[-1]).layout == "tokens":
            stages = _with_gradient(model, image, stages, pooled)
    spatial = _named(stages)
    others = {call.name: call.tap for call in reversed(calls) if call.tap is not None}
    return Taps(spatial, pooled, type(model).__name__, others)


def _trace(model: nn.Module, image: Tensor) -> _Call:
    """Run the network once and return the tree of module calls."""
    compiled = hasattr(model, "_orig_mod") or any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
    if compiled or isinstance(model, torch.jit.ScriptModule):
        raise ModelError(f"{type(model).__name__} is compiled, so nobody can look into it. Give the module that it was made from.")
    names = {module: name for name, module in model.named_modules() if module is not model}
    root = _Call("", model, 0)
    stack, counts, handles = [root], dict.fromkeys(names, 0), []

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        inside = stack[-1].in_attention or stack[-1].attends
        call = _Call(names[module], module, counts[module], entered=_shape(args[0]) if args else (), in_attention=inside)
        counts[module] += 1
        stack[-1].children.append(call)
        stack.append(call)

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = stack.pop()
        call.shape = _shape(output)
        call.passed_on = bool(args) and output is args[0] and not getattr(module, "inplace", False)

    with evaluating(model):
        try:
            for module in names:
                handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
            output = model(image)
        except _REFUSALS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{type(model).__name__} can't take images of {tuple(image.shape[1:])} (channels, height, width): {reason}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
    root.shape = _shape(_logits(model, output))
    return root


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _tap(call: _Call) -> Tap:
    assert call.tap is not None
    return call.tap


def _as_tap(call: _Call, special: int | None, height: int, width: int) -> Tap | None:
    """Return a call's output as a tap if it is a map of the image, else None."""
    if len(call.shape) == 4 and call.shape[0] == 1 and not call.in_attention:
        _, first, second, third = call.shape
        # Swin keeps channels last. Whichever pair of axes has the image's proportions is the grid.
        ahead, behind = _misfit(second, third, height, width), _misfit(first, second, height, width)
        shape, layout = ((first, second, third), "NCHW") if ahead <= behind else ((third, first, second), "NHWC")
        if min(ahead, behind) <= 1.0 and min(shape[1:]) > 1:
            return Tap(call.name, call.name, shape, layout, call=call.index)
    if len(call.shape) == 3 and call.shape[0] == 1:
        _, tokens, depth = call.shape
        count, grid = _token_grid(tokens, special, height, width)
        if min(grid) > 1:
            return Tap(call.name, call.name, (depth, *grid), "tokens", special=count, call=call.index)
    return None


def _misfit(rows: int, columns: int, height: int, width: int) -> float:
    """Return by how many cells a grid differs from the image's proportions (strides round up or down)."""
    stride = math.sqrt(height * width / max(rows * columns, 1))
    return max(abs(rows - height / stride), abs(columns - width / stride)) if stride >= 0.99 else math.inf


def _token_grid(tokens: int, special: int | None, height: int, width: int) -> tuple[int, tuple[int, int]]:
    """Return (number of special tokens, grid) of a token sequence; the grid is (0, 0) where none fits."""
    fits = []
    for count in (0, 1, 2, 4, 5) if special is None else {special, 0}:
        cells = tokens - count
        rows = round(math.sqrt(cells * height / width)) if cells > 0 else 0
        if rows and cells % rows == 0 and (misfit := _misfit(rows, cells // rows, height, width)) <= 1.0:
            fits.append((misfit, count, (rows, cells // rows)))
    return min(fits)[1:] if fits else (0, (0, 0))


def _stages(root: _Call) -> list[_Call]:
    """Return the calls whose outputs are the spatial taps."""
    stages = _walk(root)
    while len(stages) == 1 and (inner := _walk(stages[0])):  # e.g. all layers in one nn.Sequential
        stages = inner
    return stages


def _walk(parent: _Call) -> list[_Call]:
    stages: list[_Call] = []
    layer_open = False  # the last stage is a bare layer: the norm and activation behind it belong to it
    for call in parent.children:
        if call.passed_on or "Dropout" in type(call.module).__name__:
            continue
        if _is_sequence(call):
            stages += _walk(call)
            layer_open = False
        elif call.tap is None or call.pools:
            layer_open = False
        elif call.mixes:
            stages.append(call)
            layer_open = not any(child.mixes for child in call.children)
        elif stages and call.tap.shape == _tap(stages[-1]).shape:
            if layer_open:
                call.label = stages[-1].label or stages[-1].name
                stages[-1] = call
            else:
                stages.append(call)
            layer_open = True
    return stages


def _is_sequence(call: _Call) -> bool:
    """Say whether a module is a row of stages (to be looked into) rather than one stage."""
    if not call.mixes or call.attends:
        return False
    inner = [child for child in call.children if child.tap is not None]
    rows = [child for child in call.children if _is_sequence(child)]
    if call.tap is None:
        return bool(inner or rows)  # a whole network inside another one
    alike = [type(child.module) for child in inner if child.mixes and child.children]
    blocks = call.tap.layout == "tokens" and (len(alike) > len(set(alike)) or bool(rows))
    return blocks or len({_tap(child).grid for child in inner}) >= 3


def _pooled(calls: list[_Call], *, after: _Call) -> Tap | None:
    """Return the vector after global pooling: the last pooling module's output, or what goes into the classifier; None where neither is."""
    later = calls[calls.index(after) + 1 :]
    for call in reversed(later):
        if call.pools and _length(call.shape):
            return Tap(POOLED, call.name, (_length(call.shape), 1, 1), "vector", call=call.index)
    for call in reversed(later):
        if call.mixes and not call.children and _length(call.entered):
            return Tap(POOLED, call.name, (_length(call.entered), 1, 1), "vector", call=call.index, before=True)
    return None


def _length(shape: tuple[int, ...]) -> int:
    """Return D if the shape is that of one vector, [1, D] or [1, D, 1, 1], else 0."""
    return shape[1] if len(shape) in (2, 4) and math.prod(shape) == shape[1] else 0


def _with_gradient(model: nn.Module, image: Tensor, stages: list[_Call], pooled: Tap) -> list[_Call]:
    """Leave out stages that the network doesn't read its tokens from.

    Where the class token alone is pooled, the patch tokens behind the last attention lead nowhere (the gradient there is
    exactly 0). The last place inside that block from which they still do, its first norm, takes their place.
    """
    inner = [child for stage in stages for child in stage.children if child.tap is not None and _tap(child).grid == _tap(stage).grid]
    candidates = [*stages, *inner]
    taps = {str(index): _tap(call) for index, call in enumerate(candidates)} | {POOLED: pooled}
    with torch.enable_grad(), evaluating(model), watch(model, taps, leaves=True) as maps:
        model(image)
        # A fixed direction that isn't constant: the sum of a layer norm's outputs has no gradient at all.
        direction = torch.arange(1, maps[POOLED].shape[1] + 1, device=image.device, dtype=image.dtype).cos()
        reached = [maps[str(index)] for index in range(len(candidates))]
        gradients = torch.autograd.grad((maps[POOLED] * direction).sum(), reached, allow_unused=True)
    alive = {id(call) for call, gradient in zip(candidates, gradients, strict=True) if gradient is not None and bool(gradient.any())}
    kept = [stage for stage in stages if id(stage) in alive]
    dropped = [stage for stage in stages if id(stage) not in alive]
    if not kept or not dropped:
        return stages
    for last in [child for child in dropped[0].children if id(child) in alive][-1:]:
        last.within = dropped[0].name
        kept.append(last)
    return kept


def _named(stages: list[_Call]) -> list[Tap]:
    """Give the stages short, unique names."""
    taps = [_tap(stage) for stage in stages]
    modules = [tap.module for tap in taps]
    names = [_stage_name(stage, shared=modules.count(stage.name) > 1) for stage in stages]
    if not stages[0].mixes and any(stage.children for stage in stages[1:]) and "stem" not in names:
        names[0] = "stem"
    names = [name if names.count(name) == 1 else module for name, module in zip(names, modules, strict=True)]
    names = [name if names.count(name) == 1 else f"{name}@{tap.call + 1}" for name, tap in zip(names, taps, strict=True)]
    return [replace(tap, name=name) for tap, name in zip(taps, names, strict=True)]


def _stage_name(stage: _Call, *, shared: bool) -> str:
    if stage.within:
        return _short(stage.within) + stage.name.removeprefix(stage.within)
    return _short(stage.label if shared and stage.label else stage.name)


def _short(module: str) -> str:
    """Drop leading containers, but keep what a number needs to be understood: features.denseblock3, but stages.2."""
    parts = module.split(".")
    while len(parts) > 1 and not parts[1].isdigit():
        parts = parts[1:]
    return ".".join(parts)


# ---- reading while the network runs


@contextlib.contextmanager
def watch(model: nn.Module, taps: dict[str, Tap], *, leaves: bool) -> Iterator[dict[str, Tensor]]:
    """Keep tap outputs as maps [N, C, h, w] of the forward passes run inside.

    The network goes on with a copy made from the kept map: an activation in place can't spoil it, and gradients reach it
    whatever the layout. With `leaves`, gradients start at the first tap that is passed.
    """
    maps: dict[str, Tensor] = {}
    calls: dict[nn.Module, int] = {}
    handles = [model.register_forward_pre_hook(lambda module, args: calls.clear())]

    def keep(names: list[str], value: Tensor) -> Tensor:
        tap = taps[names[0]]
        kept = _to_map(value, tap)
        if leaves:
            torch.set_grad_enabled(True)  # undone by whoever switched gradients off around the pass
            kept = kept if kept.requires_grad else kept.detach().requires_grad_()
        maps.update(dict.fromkeys(names, kept))
        return _from_map(kept, value, tap)

    def names_for(module: nn.Module) -> list[str]:
        return [name for name in watched[module] if taps[name].call == calls.get(module, 0)]

    def before(module: nn.Module, args: tuple[Any, ...]) -> Any:
        names = [name for name in names_for(module) if taps[name].before]
        return (keep(names, args[0]), *args[1:]) if names else None

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        names = [name for name in names_for(module) if not taps[name].before]
        calls[module] = calls.get(module, 0) + 1
        return keep(names, output) if names else None

    watched: dict[nn.Module, list[str]] = {}
    for name, tap in taps.items():
        watched.setdefault(model.get_submodule(tap.module), []).append(name)
    try:
        for module in watched:
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def _to_map(value: Tensor, tap: Tap) -> Tensor:
    """Return a module's output as [N, C, h, w], or as [N, D] for a vector."""
    if tap.layout == "NHWC":
        return value.permute(0, 3, 1, 2)
    if tap.layout == "tokens":
        return value[:, tap.special :].transpose(1, 2).unflatten(2, tap.grid)
    return value.flatten(1) if tap.layout == "vector" else value


def _from_map(kept: Tensor, value: Tensor, tap: Tap) -> Tensor:
    """Return the module's output made again from the map, as a copy."""
    if tap.layout == "NHWC":
        return kept.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    if tap.layout == "tokens":
        return torch.cat([value[:, : tap.special], kept.flatten(2).transpose(1, 2)], 1)
    return kept.reshape(value.shape).clone() if tap.layout == "vector" else kept.clone()


@contextlib.contextmanager
def _watch_attention(model: nn.Module, *, leaves: bool) -> Iterator[dict[str, Tensor]]:
    """Keep the attention weights of the forward passes run inside, by module. With `leaves`, gradients start at the first of them."""
    kept: dict[str, Tensor] = {}
    places: dict[str, set[int]] = {}  # how many places of the image each module was given, channels first or last
    handles = [model.register_forward_pre_hook(lambda module, args: kept.clear())]
    fused = [(module, module.fused_attn) for module in model.modules() if isinstance(getattr(module, "fused_attn", None), bool)]

    def keep(name: str, weights: Tensor) -> Tensor:
        if leaves:
            torch.set_grad_enabled(True)  # undone by whoever switched gradients off around the pass
            weights = weights if weights.requires_grad else weights.detach().requires_grad_()
        again = sum(key.partition("@")[0] == name for key in kept)  # a module that several blocks share
        kept[f"{name}@{again + 1}" if again else name] = weights
        return weights

    def enter(name: str) -> Any:
        def count(module: nn.Module, args: tuple[Any, ...]) -> None:
            shape = _shape(args[0]) if args else ()
            places[name] = {shape[1]} if len(shape) == 3 else {math.prod(shape[2:]), math.prod(shape[1:3])}

        return count

    def dropped(name: str) -> Any:
        def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            # What attends over channels (XCiT) or within a neighbourhood (VOLO) has weights of another shape.
            return keep(name, output) if output.ndim == 4 and output.shape[2] in places[name] else None

        return after

    def multihead(name: str) -> Any:
        def after(module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            found = inspect.signature(module.forward).bind(*args, **kwargs).arguments
            _, weights = module.forward(**{**found, "need_weights": True, "average_attn_weights": False})
            if weights is None or weights.ndim != 4 or module.bias_k is not None or module.add_zero_attn or not module._qkv_same_embed_dim:
                return None
            weights = keep(name, weights)
            # The module makes its output from the weights inside; made once more here, it depends on those that are handed out.
            values = found["value"] if module.batch_first else found["value"].transpose(0, 1)  # [N, keys, D]
            bias = None if module.in_proj_bias is None else module.in_proj_bias.chunk(3)[2]
            values = nn.functional.linear(values, module.in_proj_weight.chunk(3)[2], bias).unflatten(2, (module.num_heads, -1))
            mixed = module.out_proj(torch.einsum("nhqk,nkhd->nqhd", weights, values).flatten(2))
            return (mixed if module.batch_first else mixed.transpose(0, 1), output[1])

        return after

    try:
        for module, _ in fused:
            module.fused_attn = False  # type: ignore[assignment]
        for name, module in model.named_modules():
            if isinstance(module, nn.MultiheadAttention):
                handles.append(module.register_forward_hook(multihead(name), with_kwargs=True))
            elif name.rpartition(".")[2] == "attn_drop":
                above = name.rpartition(".")[0]
                handles.append(model.get_submodule(above).register_forward_pre_hook(enter(above)))
                handles.append(module.register_forward_hook(dropped(above)))
        yield kept
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in fused:
            module.fused_attn = flag
