"""Where on the image the cells of a map look.

A 7x7 map is commonly drawn as if each cell saw its own seventh of the image. That is so only where every stride of the network is even-handed.
In a ResNet, whose strided kernels stand on the first of two pixels, all cells of the last map look half a cell up and left of there; behind
TensorFlow's padding, half a cell down and right. Maps that are drawn without regard to this lie beside what they show.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pellucid.core.errors import ModelError
from pellucid.core.records import Centres, even_centres
from pellucid.models.taps import Tap, evaluating, find_taps, make_of, reference, watch

_SEEN = 0.1  # of a cell: less can't be seen in a map and counts as even
_STRAIGHT = 0.01  # of a cell: centres that stand this far from equal steps are no centres
_WHOLE = 0.05  # of a pixel: nor are they where a step is this far from a whole number of pixels
_SHORT = 2  # cells: padding and its absence make a grid this much smaller or larger than its stride says


def find_centres(model: nn.Module, tap: str, *, size: tuple[int, int], channels: int) -> Centres | None:
    """Find where on the image the cells of a tap look, from the network's geometry alone; asked again, it remembers.

    A copy of the network is run once as a blank of itself: kernels weigh all alike, learnt factors are 1, maxima are means, norms and
    activations pass on what they get, tokens attend to themselves, what is gathered from the whole image adds nothing, and what is padded
    goes on as it began. On an image that holds each pixel's own place, every cell of every layer then holds the centre of its receptive
    field, at the border too.

    Parameters
    ----------
    model : nn.Module
        Mode, gradients and hooks are afterwards as before.
    tap : str
        A spatial tap.
    size : (int, int)
        Height and width of the image in pixels.
    channels : int
        Channels of the image.

    Returns
    -------
    Centres or None
        Where branches that meet again have other centres, the mean over all ways. Within a tenth of a cell of an even cut, that cut. None
        where it isn't known, as behind operations that no blank is known of.

    Raises
    ------
    TapError
        The tap is unknown.

    Examples
    --------
    >>> (down, step), across = find_centres(timm.create_model("resnet18"), "layer4", size=(224, 224), channels=3)
    >>> round(224 * down, 3), round(224 * step, 3)  # in pixels; cut evenly, the first cell would have its centre at 16
    (0.5, 32.0)
    """
    taps = find_taps(model, size=size, channels=channels)
    known, made = _KNOWN.setdefault(model, {}), (*size, channels, make_of(model), _hooked(model))
    found = taps.find(tap)
    if (made, found) not in known:
        stages = {each.name: each for each in (*taps.spatial, found)}  # one run tells of all
        places = _as_blank(model, stages, size, channels)
        known |= {(made, each): _in_steps(places[name], size) if name in places else None for name, each in stages.items()}
    return known[made, found]


def _as_blank(model: nn.Module, taps: dict[str, Tap], size: tuple[int, int], channels: int) -> dict[str, Tensor]:
    """Return float64 [4, h, w] of each tap: the centres down, across, up and back as shares of the image; without taps that can't be had so."""
    device = reference(model).device
    precise = torch.float64 if device.type in ("cpu", "cuda") else torch.float32  # other devices have no more
    down, across = ((torch.arange(side, device=device, dtype=precise) + 0.5) / side for side in size)
    # Nothing, one everywhere, the row's place, the column's place, and both counted from the other end.
    probes = torch.zeros(6, *size, device=device, dtype=precise)
    probes[1] = 1
    probes[2], probes[3] = down[:, None], across
    probes[4:] = 1 - probes[2:4]
    images = probes[:, None].repeat(1, channels, 1, 1)
    seen: dict[str, Tensor] = {}
    # Whatever error a network makes of such numbers, or of being copied: its maps can still be drawn as cut evenly.
    with contextlib.suppress(Exception), _twin(model, precise) as twin, watch(twin, taps, leaves=False) as maps, _Blank():
        seen = maps  # what was seen before an error is seen
        twin(images)
    found = {}
    for name, tap in taps.items():
        if name in seen and (len(seen[name]), *seen[name].shape[2:]) == (len(probes), *tap.grid):
            nothing, one, *places = seen[name].double().mean(1).cpu()  # what the network adds of its own, as positions, is in all of them
            found[name] = (torch.stack(places) - nothing) / (one - nothing)
    return found


@contextlib.contextmanager
def _twin(model: nn.Module, precise: torch.dtype) -> Iterator[nn.Module]:
    """Give a copy of a network whose parameters are all 1, in eval mode: what a run leaves behind in it is lost with it, and takes no draws.

    A factor that is learnt, as of a branch that starts at zero, then says nothing; and parameters take no memory.
    """
    ones = {
        id(p): nn.Parameter(torch.ones((), dtype=precise, device=p.device).expand(p.shape), requires_grad=False) for p in model.parameters()
    }
    if _hooked(model):  # whether a hook listens or changes what passes, and whose it is in a copy, nobody can see
        raise ModelError(f"{type(model).__name__} has hooks.")
    # What a pass left behind with its graph can't be copied; its numbers can.
    left = {id(t): t.detach() for module in model.modules() for t in vars(module).values() if isinstance(t, Tensor) and not t.is_leaf}
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(reference(model).device.type, enabled=False):
        with evaluating(model):
            twin = copy.deepcopy(model, {**ones, **left})
        if not {id(p) for p in twin.parameters()} <= {id(one) for one in ones.values()} or _belongings(twin) & _belongings(model):
            raise ModelError(f"{type(model).__name__} gives itself away when it is copied.")
        twin.to(precise)
        with torch.random.fork_rng(devices):
            yield twin


def _hooked(model: nn.Module) -> bool:
    """Say whether something else than its modules' own ``forward`` has a hand in a network's pass."""
    return any(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) for module in model.modules())


def _belongings(model: nn.Module) -> set[int]:
    """Return who the modules and buffers are."""
    return {id(thing) for thing in (*model.modules(), *model.buffers())}


def _in_steps(places: Tensor, size: tuple[int, int]) -> Centres | None:
    """Return first centres and steps, None where what came out can't be centres."""
    centres, grid = [], places.shape[1:]
    for axis, (side, cells) in enumerate(zip(size, grid, strict=True)):
        lines = places[axis].movedim(axis, 0)  # [cells along the axis, cells across it]
        first, last = float(lines[0].mean()), float(lines[-1].mean())
        pixels = (last - first) / (cells - 1) * side
        # Counted from the other end, a centre is as far from there. What takes a maximum, or multiplies places, says something else.
        straight = (places[axis] + places[axis + 2] - 1).abs() <= _STRAIGHT / cells
        if not bool(straight.all()) or pixels < 0.5 or abs(pixels - round(pixels)) > _WHOLE:
            return None
        # A step is the product of all strides. It comes out smaller where each cell sees the whole image, as behind layers that mix all tokens.
        step, numbers = round(pixels) / side, torch.arange(cells, device="cpu", dtype=places.dtype)[:, None]
        if abs(1 / step - cells) > min(_SHORT, 0.75 * cells) or not -step / 2 <= first <= last <= 1 + step / 2:
            return None
        if not bool(((first + step * numbers - lines).abs() <= _STRAIGHT / cells).all()):
            return None
        centres.append((first, step))
    even = even_centres((grid[0], grid[1]))
    near = all(
        abs(first + step * cell - (start + pace * cell)) <= _SEEN / cells
        for (first, step), (start, pace), cells in zip(centres, even, grid, strict=True)
        for cell in (0, cells - 1)
    )
    return even if near else (centres[0], centres[1])


class _Blank(TorchFunctionMode):
    """Runs networks inside without what they have learnt, so that only their geometry is left, and all of it linear."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        instead = _INSTEAD.get(getattr(func, "__name__", ""))
        return instead(func, *args, **(kwargs or {})) if instead else func(*args, **(kwargs or {}))


def _convolved(
    func: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    if padding == "same":
        reach = [d * (side - 1) for d, side in zip(_pair(dilation), weight.shape[2:], strict=True)]
        input = _widened(input, (reach[1] // 2, reach[1] - reach[1] // 2, reach[0] // 2, reach[0] - reach[0] // 2))
    elif padding != "valid":
        input = _widened(input, _around(padding))
    seen = _mean_of_windows(input.unflatten(1, (groups, -1)).mean(2), weight.shape[2:], stride, dilation)
    return seen.repeat_interleave(len(weight) // groups, 1)


def _pooled(
    func: Callable[..., Any], input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    kernel, stride, pad, dilation = _pair(kernel_size), _pair(stride or kernel_size), _pair(padding), _pair(dilation)
    over = [0, 0]  # pixels that the last window reaches beyond the padded image
    for axis, side in enumerate(input.shape[2:]):
        reach, there = dilation[axis] * (kernel[axis] - 1) + 1, side + 2 * pad[axis]
        windows = (there - reach + (stride[axis] - 1 if ceil_mode else 0)) // stride[axis] + 1
        windows -= int(ceil_mode and (windows - 1) * stride[axis] >= side + pad[axis])  # one that begins beyond the image isn't there
        over[axis] = max((windows - 1) * stride[axis] + reach - there, 0)
    means = _mean_of_windows(_widened(input, (pad[1], pad[1] + over[1], pad[0], pad[0] + over[0])), kernel, stride, dilation)
    return _whereabouts(means, input)


def _average(
    func: Callable[..., Tensor], input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    *args: Any, **kwargs: Any,
) -> Any:  # fmt: skip
    return _pooled(func, input, kernel_size, stride, padding, 1, ceil_mode)


def _with_indices(func: Callable[..., Any], input: Tensor, *args: Any, **kwargs: Any) -> Any:
    return _pooled(func, input, *args, **kwargs), func(input, *args, **kwargs)[1]


def _adapted(func: Callable[..., Tensor], input: Tensor, output_size: Any, *args: Any, **kwargs: Any) -> Tensor:
    return _whereabouts(functional.adaptive_avg_pool2d(input, output_size), input)


def _from_everywhere(func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    return torch.zeros_like(func(*args, **kwargs))  # what is gathered from the whole image, or all channels, tells no cell its place


def _whereabouts(means: Tensor, images: Tensor) -> Tensor:
    """Return means over windows, or zeros where one window is the whole image."""
    return means if means.shape[2:].numel() > 1 or images.shape[2:].numel() == 1 else torch.zeros_like(means)


def _mean_of_windows(images: Tensor, kernel: Sequence[int], stride: Any, dilation: Any) -> Tensor:
    """Return the mean over each window of each channel, [N, C, h, w]."""
    if max(_pair(dilation)) == 1:
        return functional.avg_pool2d(images, tuple(kernel), stride)
    box = torch.full((1, 1, *kernel), 1 / (kernel[0] * kernel[1]), dtype=images.dtype, device=images.device)
    return functional.conv2d(images.flatten(0, 1)[:, None], box, None, stride, 0, dilation)[:, 0].unflatten(0, images.shape[:2])


def _padded(func: Callable[..., Tensor], input: Tensor, pad: Sequence[int], *args: Any, **kwargs: Any) -> Tensor:
    wanted = input.ndim == 4 and len(pad) == 4 and min(pad) >= 0
    return _widened(input, tuple(pad)) if wanted else func(input, pad, *args, **kwargs)


def _mixed(func: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return input.mean(-1, keepdim=True).repeat_interleave(len(weight), -1)


def _passed_on(func: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return input


def _open(func: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return torch.ones_like(input)


def _shared_out(func: Callable[..., Tensor], input: Tensor, dim: int, *args: Any, **kwargs: Any) -> Tensor:
    if dim % input.ndim != input.ndim - 1:  # between branches, not places
        return torch.full_like(input, 1 / input.shape[dim])
    if input.shape[-1] != input.shape[-2:][0]:
        return torch.zeros_like(input)
    return torch.eye(input.shape[-1], dtype=input.dtype, device=input.device).expand_as(input)


def _own_value(func: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    if func.__name__ == "multi_head_attention_forward":  # [tokens, N, depth]
        return (value if len(query) == len(value) else torch.zeros_like(query)), None
    if query.shape[-2] != value.shape[-2]:  # fewer keys than queries: from everywhere
        return value.new_zeros(*query.shape[:-1], value.shape[-1])
    return value.expand(*query.shape[:-1], value.shape[-1])


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _around(padding: Any) -> tuple[int, int, int, int]:
    down, across = _pair(padding)
    return across, across, down, down


def _widened(images: Tensor, pad: tuple[int, ...]) -> Tensor:
    """Return images [N, C, H, W] with (left, right, top, bottom) more pixels, which go on in the steps that the image ends with."""
    for axis, (before, after) in ((3, pad[:2]), (2, pad[2:])):
        first, last = images.narrow(axis, 0, 1), images.narrow(axis, -1, 1)
        several = images.shape[axis] > 1
        step = images.narrow(axis, 1, 1) - first if several else torch.zeros_like(first)
        ahead = [first - step * k for k in range(before, 0, -1)]
        images = torch.cat([*ahead, images, *(last + step * k for k in range(1, after + 1))], axis)
    return images


_INSTEAD: dict[str, Callable[..., Any]] = {
    "conv2d": _convolved, "linear": _mixed, "pad": _padded,
    "max_pool2d": _pooled, "max_pool2d_with_indices": _with_indices, "avg_pool2d": _average,
    "adaptive_avg_pool2d": _adapted, "adaptive_max_pool2d": _adapted,
    "softmax": _shared_out, "scaled_dot_product_attention": _own_value, "multi_head_attention_forward": _own_value,
    **dict.fromkeys(("sigmoid", "sigmoid_", "hardsigmoid"), _open),
    **dict.fromkeys(("mean", "norm", "linalg_vector_norm"), _from_everywhere),
    **dict.fromkeys(
        (
            "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "relu", "relu_", "relu6", "hardtanh", "clamp", "clamp_min",
            "silu", "gelu", "hardswish", "leaky_relu", "elu", "selu", "celu", "mish", "prelu", "rrelu", "softplus", "tanh",
        ),
        _passed_on,
    ),
}  # fmt: skip
_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Centres | None]] = WeakKeyDictionary()
