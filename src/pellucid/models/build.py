"""One verb that makes every network: our own parts, any timm model, torchvision's ShuffleNetV2."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from pellucid.core import fingerprint, registry
from pellucid.core.errors import ModelError, SettingError, WeightsError, did_you_mean, listing, nearest
from pellucid.core.settings import section_fields

TORCHVISION = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0")  # timm has no ShuffleNet
SIZES = (16, 32, 48, 64, 96, 128, 160, 192, 224, 256)  # sizes offered where an image is too small
GIVEN = ("n_classes", "channels", "size")  # what the data say, never a user's setting


def build(
    name: str,
    *,
    n_classes: int,
    channels: int = 3,
    size: int = 224,
    pretrained: bool = False,
    weights: str = "",
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Make a network that maps images [N, channels, size, size] to logits [N, n_classes].

    The same seed gives the same initial weights, whatever was drawn before; the global random state is left alone.
    How the weights came about stands in one sentence in the network's attribute ``provenance``.

    Parameters
    ----------
    name : str
        One of our own (``cnn5``), any timm model, or ``shufflenet_v2_x0_5`` / ``shufflenet_v2_x1_0``.
    n_classes, channels, size : int
        Outputs; channels of the image (1 or 3); side of the image in pixels.
    pretrained : bool
        Start from the weights timm (or torchvision) offers for this name.
    weights : str
        Start from this file: .safetensors, .pth or .pt, also one that :class:`~pellucid.models.saved.Network` wrote. A head
        for another number of classes is left out; a first convolution for other channels is adapted as timm does.
    seed : int
        Seed of the initial weights.
    **options
        Settings of the network itself, e.g. ``widths`` of cnn5 or ``drop_path_rate`` of a timm model.

    Raises
    ------
    ModelError
        There is no such network (the nearest names are given), or it can't take images of this size.
    WeightsError
        The weights can't be had, can't be read, or don't fit.
    SettingError
        An option isn't one of this network's.

    Examples
    --------
    >>> student = build("cnn5", n_classes=4, channels=1, size=96, preset="small")
    >>> tuple(student(torch.zeros(2, 1, 96, 96)).shape)
    (2, 4)
    """
    if pretrained and weights:
        raise SettingError("pretrained = true and weights = PATH are both set. Leave one out.", setting="pretrained")
    make = _maker(name, n_classes=n_classes, channels=channels, pretrained=pretrained, seed=seed, options=options)
    model = make(size)
    reason = _refusal(model, size, channels)
    if reason:
        raise ModelError(_too_small(name, make, size, channels, reason))
    if weights:
        model.provenance = load_weights(model, weights)  # type: ignore[assignment]
    else:
        model.provenance = f"weights published for {name}" if pretrained else f"from scratch, seed {seed}"  # type: ignore[assignment]
    return model


def check_options(name: str, options: dict[str, Any], *, where: str = "model") -> None:
    """Refuse an unknown network or a wrong setting of one of ours, without building anything.

    Settings of timm models are known to timm alone and are checked when the network is built.

    Raises
    ------
    ModelError
        There is no such network.
    SettingError
        A setting is unknown or of the wrong type (all of them at once).
    """
    given = [option for option in GIVEN if option in options]
    if given:
        raise SettingError(f'[{where}]: "{given[0]}" follows from the data and can\'t be set here.', setting=given[0])
    if name in registry.describe("models"):
        registry.check_options(registry.get("models", name), options, where=where, also=section_fields("student"))
    elif name not in TORCHVISION:
        _check_timm_name(name)


def load_weights(model: nn.Module, path: str | Path) -> str:
    """Copy the weights of a file into a network and say in one sentence what was done.

    Parameters
    ----------
    model : nn.Module
    path : str or Path
        .safetensors, or .pth / .pt (tensors only; the dict may lie inside ``state_dict`` or ``model``; ``module.`` is stripped).

    Returns
    -------
    str
        E.g. ``weights of lite0.safetensors (1b2c...); head left out (1000 classes there, 4 here)``.

    Raises
    ------
    WeightsError
        The file is missing or unreadable, or other tensors than head and first convolution don't fit: all of them listed.
    """
    path = Path(path)
    found = {name.removeprefix("module."): tensor for name, tensor in read_tensors(path).items()}
    wanted = model.state_dict()
    remarks = [_adapt_first_convolution(model, found, wanted), _leave_out_head(model, found, wanted)]
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    head = _head_names(model)
    missing = [name for name in wanted if name not in found and name not in optional and not name.startswith(head)]
    unknown = [name for name in found if name not in wanted]
    other = [f"{n} {list(found[n].shape)} for {list(wanted[n].shape)}" for n in wanted if n in found and found[n].shape != wanted[n].shape]
    problems = [
        f"{what}: {listing(names)}"
        for what, names in (("missing", missing), ("not in this network", unknown), ("other shape", other))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{path}: these weights don't fit {type(model).__name__}; {'; '.join(problems)}. Choose the network they are of."
        )
    model.load_state_dict(found, strict=False)
    return "; ".join([f"weights of {path.name} ({fingerprint.of_file(path)})", *filter(None, remarks)])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a .safetensors, .pth or .pt file.

    Raises
    ------
    WeightsError
        There is no such file, or it can't be read, or it holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file. Give the path of a .safetensors, .pth or .pt file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own errors, and a foreign file can raise nearly any
        raise WeightsError(
            f"{path}: can't be read as weights ({_first_line(error)}). Give a .safetensors file, or a .pth of tensors only."
        ) from error
    for inside in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(inside), dict):
            content = content[inside]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise WeightsError(f"{path}: holds no named tensors. Save model.state_dict() with torch.save.")
    return tensors


def _maker(name: str, *, n_classes: int, channels: int, pretrained: bool, seed: int, options: dict[str, Any]) -> Callable[[int], nn.Module]:
    """Return a function of the image's side that makes the network."""
    check_options(name, options)
    if name in registry.describe("models"):
        if pretrained:
            raise WeightsError(f"{name} has no published weights. Set pretrained = false, or weights = PATH.")
        thing = registry.get("models", name)
        checked = registry.check_options(thing, options, where=name)
        return lambda size: _seeded(seed, lambda: thing(n_classes=n_classes, channels=channels, size=size, **checked))
    if name in TORCHVISION:
        return lambda size: _seeded(seed, lambda: _torchvision(name, n_classes, channels, pretrained, options))
    return lambda size: _seeded(seed, lambda: _timm(name, n_classes, channels, size, pretrained, options))


def _check_timm_name(name: str) -> None:
    import timm

    if not timm.is_model(name):
        names = [*registry.describe("models"), *TORCHVISION, *timm.list_models()]
        raise ModelError(
            f'There is no network "{name}".{did_you_mean(name, names)} It can be {", ".join(registry.describe("models"))}, any timm model, '
            f"or {' or '.join(TORCHVISION)}.",
            near=nearest(name, names),
        )


def _seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    # torch.manual_seed would also seed the GPUs, which fork_rng(devices=[]) doesn't put back.
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return make()


def _timm(name: str, n_classes: int, channels: int, size: int, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    import timm

    about = timm.get_pretrained_cfg(name)
    sized = {"img_size": size, **options} if about is not None and about.fixed_input_size else options  # transformers mostly
    with _published_weights(name, pretrained), _known_settings(name):
        return timm.create_model(name, pretrained=pretrained, num_classes=n_classes, in_chans=channels, **sized)


def _torchvision(name: str, n_classes: int, channels: int, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    import torchvision

    make = getattr(torchvision.models, name)
    with _known_settings(name):
        model = make(num_classes=n_classes, **options)
    if pretrained:
        with _published_weights(name, True):
            published = make(weights="DEFAULT").state_dict()
        published = {key: value for key, value in published.items() if not key.startswith("fc.")}
        model.load_state_dict(published, strict=False)
    if channels != 3:
        old = model.conv1[0]
        model.conv1[0] = nn.Conv2d(channels, old.out_channels, 3, stride=2, padding=1, bias=False)
        if pretrained:
            model.conv1[0].weight.data = _other_channels(old.weight.data, channels)
    return model


@contextlib.contextmanager
def _known_settings(name: str) -> Iterator[None]:
    """Turn "unexpected keyword argument" into a message about the setting."""
    try:
        yield
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not unknown:
            raise
        near = section_fields("student")
        raise SettingError(
            f'"{unknown[1]}" is no setting of {name}.{did_you_mean(unknown[1], near)}', setting=unknown[1], near=nearest(unknown[1], near)
        ) from None


@contextlib.contextmanager
def _published_weights(name: str, pretrained: bool) -> Iterator[None]:
    """Turn every way in which a download fails into one line; don't let the hub retry for a minute where there is no network."""
    if not pretrained:
        yield
        return
    from huggingface_hub import constants

    before, offline = constants.HF_HUB_OFFLINE, not _reachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = before or offline  # cached weights are still found
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = f"no connection to {urlsplit(constants.ENDPOINT).hostname}" if offline else _first_line(error)
        raise WeightsError(
            f"{name}: its published weights can't be had ({reason}). Set weights = PATH to a file, or pretrained = false."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(address: str) -> bool:
    """Say whether a host's name can be resolved; behind a proxy that is the proxy's business."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlsplit(address).hostname, 443)
    except OSError:
        return False
    return True


def _refusal(model: nn.Module, size: int, channels: int) -> str:
    """Return why the network can't take such images, or nothing."""
    from pellucid.models.taps import evaluating, reference

    like = reference(model)
    try:
        with evaluating(model), torch.no_grad():
            model(torch.zeros(1, channels, size, size, device=like.device, dtype=like.dtype))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ZeroDivisionError) as error:
        return _first_line(error)
    return ""


def _too_small(name: str, make: Callable[[int], nn.Module], size: int, channels: int, reason: str) -> str:
    """Return the message for a size the network can't take, with the nearest one above that it can."""
    for larger in (candidate for candidate in SIZES if candidate > size):
        try:
            fits = not _refusal(make(larger), larger, channels)
        except (RuntimeError, ValueError, AssertionError):
            fits = False
        if fits:
            return f"{name} can't take {size} px images ({reason}). Set data.size (or teacher.size) to {larger} or more."
    return f"{name} can't take {size} px images ({reason}). Set data.size (or teacher.size) to a size it is made for."


def _leave_out_head(model: nn.Module, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    head = [name for name in wanted if name.startswith(_head_names(model))]
    other = [name for name in head if name in found and found[name].shape != wanted[name].shape]
    if not other:
        return "" if not head or all(name in found for name in head) else "head not in the file, so from scratch"
    there, here = len(found[other[0]]), len(wanted[other[0]])
    for name in head:
        found.pop(name, None)
    return f"head left out ({there} classes there, {here} here)"


def _head_names(model: nn.Module) -> tuple[str, ...]:
    """Return how the names of the classifier's tensors begin."""
    named = (getattr(model, "default_cfg", None) or {}).get("classifier")
    if named is None:
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        named = linear[-1:] or ["\0"]  # a name no tensor has
    return tuple(f"{name}." for name in ([named] if isinstance(named, str) else named))


def _adapt_first_convolution(model: nn.Module, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    first = next((f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), "")
    if first not in found or found[first].ndim != 4 or found[first].shape == wanted[first].shape:
        return ""
    there, here = found[first].shape[1], wanted[first].shape[1]
    if (there, here) not in ((3, 1), (1, 3)):
        return ""
    found[first] = _other_channels(found[first], here)
    return f"first convolution adapted from {there} to {here} channels"


def _other_channels(weight: Tensor, channels: int) -> Tensor:
    """Return a first convolution that gives for a grey image what it gave for the same image in three equal channels."""
    total = (weight.float() if weight.itemsize < 4 else weight).sum(1, keepdim=True)  # files often hold float16
    return total.repeat(1, channels, 1, 1) / channels


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
