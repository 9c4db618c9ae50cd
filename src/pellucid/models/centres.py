"""Where on the image the cells of a map look.

A 7x7 map is commonly drawn as if each cell saw its own seventh of the image. That is so only where every stride of the network is even-handed.
In a ResNet, whose strided kernels stand on the first of two pixels, all cells of the last map look half a cell up and left of there; behind
TensorFlow's padding, half a cell down and right. Maps that are drawn without regard to this lie beside what they show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pellucid.core.records import Centres
from pellucid.models.taps import evaluating, find_taps, make_of, reference, watch

_SEEN = 0.1  # of a cell: less can't be seen in a map and counts as even
_STRAIGHT = 0.01  # of a cell: centres that stand this far from equal steps are no centres
_WHOLE = 0.05  # of a pixel: nor are they where a step is this far from a whole number of pixels


def find_centres(model: nn.Module, tap: str, *, size: tuple[int, int], channels: int) -> Centres | None:
    """Find where on the image the cells of a tap look, from the network's geometry alone; asked again, it remembers.

    The network is run once as a blank of itself: kernels weigh all alike, maxima are means, norms and activations pass on what they get,
    tokens attend to themselves, and what is padded goes on as it began. On an image that holds each pixel's own place, every cell of every
    layer then holds the centre of its receptive field, at the border too.

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
        None where cells lie evenly (within a tenth of a cell), and where the blank tells nothing, as of operations that no blank is known
        of. Where branches that meet again have other centres, the mean over all ways.

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
    found = find_taps(model, size=size, channels=channels).find(tap)
    known = _KNOWN.setdefault(model, {})
    key = (*size, channels, make_of(model), found.module, found.call)
    if key not in known:
        places = _as_blank(model, tap, size, channels)
        known[key] = None if places is None else _in_steps(places, size)
    return known[key]


def _as_blank(model: nn.Module, tap: str, size: tuple[int, int], channels: int) -> tuple[Tensor, Tensor] | None:
    """Return the centres down and across [h, w] as shares of the image, None where the network can't be run as a blank."""
    taps = {tap: find_taps(model, size=size, channels=channels).find(tap)}
    down, across = ((torch.arange(side) + 0.5) / side for side in size)
    probes = torch.zeros(4, *size, dtype=torch.float32)  # nothing, one everywhere, the row's place, the column's place
    probes[1:] = torch.stack([torch.ones(size), down[:, None].expand(size), across[None].expand(size)])
    images = probes[:, None].expand(-1, channels, -1, -1).to(reference(model).device)
    exactly = torch.autocast(images.device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), exactly, evaluating(model), watch(model, taps, leaves=False) as maps:
        try:
            with _Blank():
                model(images)
        except Exception:  # whatever a network makes of such numbers: its maps can still be drawn as cut evenly
            return None
    nothing, one, *places = maps[tap].double().mean(1).cpu()  # what the network adds of its own, as positions, is in all four
    return (places[0] - nothing) / (one - nothing), (places[1] - nothing) / (one - nothing)


def _in_steps(places: tuple[Tensor, Tensor], size: tuple[int, int]) -> Centres | None:
    """Return first centres and steps, None where the cells lie evenly or don't stand in equal steps of whole pixels."""
    centres, even = [], True
    for axis, (place, side) in enumerate(zip(places, size, strict=True)):
        cells = place.shape[axis]
        lines = place.movedim(axis, 0)
        first, pixels = float(lines[0].mean()), float((lines[-1] - lines[0]).mean()) / (cells - 1) * side
        if not 0.5 < pixels * cells / side < 2 or abs(pixels - round(pixels)) > _WHOLE:
            return None  # less where every cell sees the whole image, as by attention of another form; nor is NaN between
        step, numbers = round(pixels) / side, torch.arange(cells)[:, None]
        if not bool(((first + step * numbers - lines).abs() <= _STRAIGHT / cells).all()):
            return None
        even &= bool(((first + step * numbers - (numbers + 0.5) / cells).abs() <= _SEEN / cells).all())
        centres.append((first, step))
    return None if even else (centres[0], centres[1])


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
    return func(input, _alike(weight, input), None, stride, 0, dilation, groups)


def _averaged(
    func: Callable[..., Tensor], input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, *args: Any, **kwargs: Any,
) -> Tensor:  # fmt: skip
    del args, kwargs  # indices of maxima, or how an average counts its padding
    across, _, down, _ = _around(padding)
    over = [0, 0]  # pixels that the last window would reach beyond the image
    if ceil_mode:
        there = [side + 2 * pad for side, pad in zip(input.shape[2:], (down, across), strict=True)]
        steps = zip(there, _pair(kernel_size), _pair(stride or kernel_size), strict=True)
        over = [(-(side - kernel) % step) for side, kernel, step in steps]
    widened = _widened(input, (across, across + over[1], down, down + over[0]))
    return functional.avg_pool2d(widened, kernel_size, stride, 0, ceil_mode, False)


def _average(
    func: Callable[..., Tensor], input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    *args: Any, **kwargs: Any,
) -> Tensor:  # fmt: skip
    return _averaged(func, input, kernel_size, stride, padding, 1, ceil_mode)


def _padded(func: Callable[..., Tensor], input: Tensor, pad: Sequence[int], *args: Any, **kwargs: Any) -> Tensor:
    wanted = input.ndim == 4 and len(pad) == 4 and min(pad) >= 0
    return _widened(input, tuple(pad)) if wanted else func(input, pad, *args, **kwargs)


def _mixed(func: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return func(input, _alike(weight, input), None)


def _passed_on(func: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return input


def _open(func: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return torch.ones_like(input)


def _to_itself(func: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if input.shape[-1] != input.shape[-2:][0]:
        return func(input, *args, **kwargs)
    return torch.eye(input.shape[-1], dtype=input.dtype, device=input.device).expand_as(input)


def _own_value(func: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    return (value, None) if func.__name__ == "multi_head_attention_forward" else value


def _alike(weight: Tensor, like: Tensor) -> Tensor:
    """Return weights of this shape that take the mean."""
    return torch.full_like(weight, 1 / weight[0].numel(), dtype=like.dtype)


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
    "conv2d": _convolved, "linear": _mixed, "max_pool2d": _averaged, "avg_pool2d": _average, "pad": _padded,
    "softmax": _to_itself, "scaled_dot_product_attention": _own_value, "multi_head_attention_forward": _own_value,
    **dict.fromkeys(("sigmoid", "sigmoid_", "hardsigmoid"), _open),
    **dict.fromkeys(
        (
            "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "relu", "relu_", "relu6", "hardtanh", "clamp", "clamp_min",
            "silu", "gelu", "hardswish", "leaky_relu", "elu", "selu", "celu", "mish", "prelu", "rrelu", "softplus", "tanh",
        ),
        _passed_on,
    ),
}  # fmt: skip
_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Centres | None]] = WeakKeyDictionary()
