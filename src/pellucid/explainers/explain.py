"""Maps of many networks by many methods on the same images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import registry
from pellucid.core.errors import ModelError, SettingError, TargetError
from pellucid.core.progress import say, track
from pellucid.core.records import Explanation
from pellucid.data.dataset import Subset
from pellucid.explainers.average_feature_map import average_feature_maps
from pellucid.explainers.baselines import prepare
from pellucid.explainers.reading import full_precision, read, sharing
from pellucid.models.centres import find_centres
from pellucid.models.saved import Network
from pellucid.models.taps import ask, evaluating, find_taps, reference

METHODS = ("average_feature_map", "grad_cam")
Making = Callable[[], list[Explanation]]
PartOf = Callable[[str, Making], list[Explanation]]
_SLOWLY = 4  # images at once for methods that ask many times about each: their progress shows, and passes are full anyway
Networks = Network | nn.Module | Mapping[str, Network | nn.Module]


def explain(
    networks: Networks,
    images: Subset | Tensor,
    *,
    methods: Sequence[str] = METHODS,
    target: str | int | np.ndarray | Tensor | Sequence[int] = "predicted",
    tap: str = "auto",
    settings: Mapping[str, dict[str, Any]] | None = None,
    baselines: Subset | Tensor | None = None,
    batch_size: int = 32,
    part: PartOf = lambda name, work: work(),
) -> list[Explanation]:
    """Explain what networks see in the same images.

    Parameters
    ----------
    networks : Network, nn.Module, or dict of name -> either
    images : Subset or float Tensor [N, C, H, W]
        A subset is prepared for each network as its own spec says; a tensor goes to all networks as it is.
    methods : sequence of str
        See ``pellucid list explainers``.
    target : str, int, or int array [N] or [N, M]
        The class each map is for, one number for all images. ``predicted``: each network's own; ``teacher``: the prediction of the network of that name;
        ``label``: the true class; ``all``: every class; or one class per image, or M of them.
    tap : str
        Where maps are read. ``auto``: the deepest tap whose grid is at least 6x6.
    settings : dict of method -> dict
        Settings of single methods, which may name a `tap` of their own.
    baselines : Subset or float Tensor [B, C, H, W]
        The images with which some methods compare (SHAP): the training split. A subset is prepared for each network as its own spec
        says. Methods that take single images get at most 32 of them, evenly spaced; those that take the mean get that of all.
    batch_size : int
        Images per forward pass, at most; methods that ask many times about one image get a few at once. Maps don't depend on it.
    part : callable, optional
        ``part(name, work)`` is asked for the explanations of one network by one or several methods, which `work()` makes; who keeps
        them under that name loses no more than one part when stopped. Names and contents follow from the other arguments.

    Returns
    -------
    list of Explanation
        Network by network, in each all methods in the order asked for, and in each one explanation for each of M classes.
        Classes and predictions of a network share one forward pass for each tap, and so do methods that need few passes; `seconds`
        counts it for the method that came first.

    Raises
    ------
    SettingError
        An argument is of another type, a method or one of its settings is unknown, a package it needs isn't installed, or it needs baselines and none are given.
    TargetError
        A class to explain isn't there, or isn't known.
    TapError, ModelError
        A network has no such tap, or can't take the images.

    Examples
    --------
    >>> maps = explain(timm.create_model("resnet18"), torch.rand(4, 3, 224, 224), methods=["grad_cam"])
    >>> maps[0].maps.shape, maps[0].layer
    ((4, 7, 7), 'layer4')
    """
    _check_types(methods, tap, settings, batch_size)
    named = _named(networks, images)
    explainers = {method: registry.get("explainers", method) for method in methods}
    for explainer in explainers.values():
        registry.check_packages(explainer)
    options = _options(explainers, settings or {})
    # Prepared for all networks first: a mistake shows before any map is made.
    compared = {name: _compared(network, explainers, baselines) for name, network in named.items()}
    targets = _targets(named, images, target)
    found: dict[str, list[Explanation]] = {name: [] for name in named}
    by_teacher = isinstance(target, str) and target == "teacher"
    said: dict[str, np.ndarray] = {}  # the classes that a network's first maps are for
    for name in sorted(named, key=lambda name: not (by_teacher and name == "teacher")):  # whoever says the classes comes first
        by = "teacher" if by_teacher else name
        for number, group in enumerate(_together(explainers)):
            work = partial(
                _explain_one, name, named[name], images, targets if targets is not None else said.get(by), group, options, compared[name],
                tap, batch_size,
            )  # fmt: skip
            found[name] += part(f"{name}.{number}", work)
            said.setdefault(by, found[name][0].targets[:, None])
    order = list(explainers)
    return [explanation for name in named for explanation in sorted(found[name], key=lambda one: order.index(one.method))]


def explain_layers(networks: Networks, images: Subset | Tensor, *, batch_size: int = 32) -> list[Explanation]:
    """Return the average feature map of every layer of each network, from one forward pass.

    Parameters are those of :func:`explain`. There is no class in these maps; as targets they carry the network's predictions.
    """
    found = []
    named = _named(networks, images)
    for name, network in named.items():
        predicted = network.logits(images, batch_size).argmax(1)
        maps: dict[str, list[np.ndarray]] = {}
        seconds, size = 0.0, (0, 0)
        for batch in _batches(f"all layers of {name}", network, images, batch_size):
            size = (batch.shape[2], batch.shape[3])
            start = _now(batch)
            layers = average_feature_maps(network.model, batch)
            seconds += _now(batch) - start
            for layer, values in layers.items():
                maps.setdefault(layer, []).append(values.cpu().numpy())
        found += [
            Explanation(
                maps=np.concatenate(parts).astype(np.float32), targets=predicted, model=name, method="average_feature_map",
                layer=layer, image_size=size, signed=False, settings={"weights": "none"}, seconds=seconds / len(images),
                centres=find_centres(network.model, layer, size=size, channels=batch.shape[1]), ids=_ids(images),
            )
            for layer, parts in maps.items()
        ]  # fmt: skip
    return found


def _together(explainers: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the methods in groups: those that share a few passes, then each by itself that asks the network many times about one image."""
    quick = {method: explainer for method, explainer in explainers.items() if not explainer.traits.get("slow")}
    return ([quick] if quick else []) + [{method: explainer} for method, explainer in explainers.items() if method not in quick]


class _Plain:
    """A module on its own, which takes tensors as they are."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def inputs(self, images: Tensor, batch_size: int) -> Sequence[Tensor]:
        return images.split(batch_size)

    def logits(self, images: Tensor, batch_size: int) -> np.ndarray:
        with evaluating(self.model), torch.inference_mode():
            return np.concatenate([ask(self.model, batch).float().cpu().numpy() for batch in images.split(batch_size)])


def _check_types(methods: Any, tap: Any, settings: Any, batch_size: Any) -> None:
    """Refuse arguments of another type than :func:`explain` says."""
    listed = isinstance(methods, Sequence) and not isinstance(methods, str)
    if not listed or not methods or not all(isinstance(method, str) for method in methods):
        raise SettingError(f'methods must be a list of names, e.g. ["grad_cam"]; given is {methods!r}.', setting="methods")
    if not isinstance(tap, str):
        raise SettingError(f'tap must be a name, e.g. "auto"; given is {tap!r}.', setting="tap")
    if settings is not None and not isinstance(settings, Mapping):
        raise SettingError(f'settings must be a dict, e.g. {{"grad_cam": {{"tap": "layer3"}}}}; given is {settings!r}.', setting="settings")
    if type(batch_size) is not int or batch_size < 1:
        raise SettingError(f"batch_size must be a number of images from 1 on; given is {batch_size!r}.", setting="batch_size")


def _named(networks: Networks, images: Subset | Tensor) -> dict[str, Any]:
    """Return every network under its name, with the same two methods whether it is a Network or a module."""
    if not isinstance(images, Subset) and (not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point()):
        kind, shape = (getattr(images, name, "") for name in ("dtype", "shape"))
        given = f"{type(images).__name__} {kind} {list(shape)}" if shape else type(images).__name__
        raise ModelError(f"images must be a Subset or a float tensor [N, C, H, W], normalised as the network expects; given is {given}.")
    if not len(images):
        raise ModelError("there are no images to explain.")
    if not isinstance(networks, Mapping):
        networks = {networks.architecture if isinstance(networks, Network) else type(networks).__name__: networks}
    if not networks or not all(isinstance(network, Network | nn.Module) for network in networks.values()):
        kinds = ", ".join(f"{name}: {type(network).__name__}" for name, network in networks.items())
        raise ModelError(f"networks must be a Network, an nn.Module, or a dict of name -> either; given is {{{kinds}}}.")
    bare = [name for name, network in networks.items() if not isinstance(network, Network)]
    if bare and not isinstance(images, Tensor):
        raise ModelError(f"{bare[0]} is a plain module and doesn't say how images must be prepared. Give a Network, or images as a tensor.")
    return {name: network if isinstance(network, Network) else _Plain(network) for name, network in networks.items()}


def _options(explainers: dict[str, Any], settings: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return every setting of every method, those not given at their defaults."""
    given = registry.check_tables("explainers", explainers, settings, where="explain")
    return {
        method: {name: default for name, (_, default) in registry.options(explainer).items() if name != "tap"} | given[method]
        for method, explainer in explainers.items()
    }


def _targets(named: dict[str, Any], images: Subset | Tensor, target: Any) -> np.ndarray | None:
    """Return int64 [N, M], the same for all networks; None where a network's own predictions are meant, which its maps' pass will give."""
    if not isinstance(target, str):
        given = np.asarray(target.cpu() if isinstance(target, Tensor) else target)
        if given.ndim == 0 and given.dtype.kind in "iu":
            given = np.full(len(images), given)
        if given.shape[:1] != (len(images),) or given.ndim not in (1, 2) or not given.size or given.dtype.kind not in "iu":
            raise TargetError(
                f"target must hold one class number (or several) for each of the {len(images)} images; it is {given.dtype} {list(given.shape)}."
            )
        return given.reshape(len(images), -1).astype(np.int64)
    if target == "teacher" and "teacher" not in named:
        raise TargetError(f'target = "teacher", but no network of that name is given, only {", ".join(named)}. Use target = "predicted".')
    if target in ("teacher", "predicted"):
        return None
    if target == "label":
        return _labels(images)[:, None]
    if target == "all":
        each = {name: network.logits(images[:1], 1).shape[1] for name, network in named.items()}
        n_classes = next(iter(each.values()))
        if set(each.values()) != {n_classes}:
            raise TargetError(f'target = "all", but the networks have other numbers of classes: {each}. Explain them one by one.')
        return np.tile(np.arange(n_classes), (len(images), 1))
    raise TargetError(f'target = "{target}" can be predicted, teacher, label, all, or one class per image.')


def _labels(images: Subset | Tensor) -> np.ndarray:
    if isinstance(images, Tensor):
        raise TargetError('target = "label" needs images with labels. Give a Subset, or the classes as an array.')
    if images.targets.ndim != 1:
        raise TargetError('target = "label" names no single class where images have several. Give one class per image.')
    return images.targets


def _compared(network: Any, explainers: dict[str, Any], baselines: Subset | Tensor | None) -> dict[str, Tensor]:
    """Return the baselines of each method that takes any."""
    kinds = {method: explainer.traits.get("baselines") for method, explainer in explainers.items()}
    return {method: prepare(kind, method, network, baselines) for method, kind in kinds.items() if kind}


def _beyond(network: Any, images: Subset | Tensor, baselines: Tensor, batch_size: int) -> np.ndarray:
    """Return float64 [N, K]: the logits of each image beyond the baselines' mean."""
    return network.logits(images, batch_size).astype(np.float64) - network.logits(baselines, batch_size).astype(np.float64).mean(0)


def _explain_one(
    name: str,
    network: Any,
    images: Subset | Tensor,
    targets: np.ndarray | None,
    explainers: dict[str, Any],
    options: dict[str, dict[str, Any]],
    compared: dict[str, Tensor],
    tap: str,
    batch_size: int,
) -> list[Explanation]:
    chosen: dict[str, dict[str, Any]] = {}  # per method: its settings with the tap that was chosen
    classes: list[np.ndarray] = []
    maps: dict[tuple[str, int], list[np.ndarray]] = {}
    doubts: dict[tuple[str, int], list[np.ndarray]] = {}
    seconds = dict.fromkeys(explainers, 0.0)
    size, start = (0, 0), 0
    at_once = min(batch_size, _SLOWLY) if any(explainer.traits.get("slow") for explainer in explainers.values()) else batch_size
    label = f"maps of {name}" if len(explainers) > 1 else f"{next(iter(explainers))} of {name}"
    for batch in _batches(label, network, images, at_once):
        if not chosen:
            size = (batch.shape[2], batch.shape[3])
            chosen = _with_taps(name, network.model, batch, explainers, options, tap)
        with sharing():
            here = _predicted(network.model, batch, chosen) if targets is None else targets[start : start + len(batch)]
            start += len(batch)
            classes.append(here)
            for number in range(here.shape[1]):  # class by class: its gradient serves all methods
                which = torch.from_numpy(here[:, number]).to(batch.device)
                for method, explainer in explainers.items():
                    if number and not explainer.traits["signed"]:
                        continue  # the same map for every class
                    others = [compared[method]] if method in compared else []
                    before = _now(batch)
                    found = explainer(network.model, batch, which, *others, **chosen[method])
                    seconds[method] += _now(batch) - before
                    maps.setdefault((method, number), []).append(full_precision(found.detach()).cpu().numpy())
                    if "doubtful" in explainer.traits:
                        doubtful = explainer.traits["doubtful"](network.model, batch, which, **chosen[method])
                        doubts.setdefault((method, number), []).append(doubtful.cpu().numpy())
    each = np.concatenate(classes).astype(np.int64)
    mean_colour = batch.new_zeros(1, *batch.shape[1:])  # the baseline of methods that take none and yet add up
    against = {method: mean_colour for method, explainer in explainers.items() if explainer.traits.get("complete")} | compared
    beyond = {method: _beyond(network, images, baselines, batch_size) for method, baselines in against.items()}
    return [
        Explanation(
            maps=np.concatenate(parts).astype(np.float32), targets=each[:, number], model=name, method=method,
            layer=chosen[method].get("tap", ""), image_size=size, signed=explainers[method].traits["signed"],
            variant=str(chosen[method].get("variant", "")), settings=chosen[method], seconds=seconds[method] / len(images),
            expected=beyond[method][np.arange(len(each)), each[:, number]] if method in beyond else None,
            doubtful=np.concatenate(doubts[method, number]) if (method, number) in doubts else None,
            centres=find_centres(network.model, chosen[method]["tap"], size=size, channels=batch.shape[1]) if "tap" in chosen[method] else None,
            ids=_ids(images),
        )
        for method in explainers
        for number in range(each.shape[1])
        if (parts := maps.get((method, number)))
    ]  # fmt: skip


def _ids(images: Subset | Tensor) -> np.ndarray | None:
    return np.array(images.ids, dtype=str) if isinstance(images, Subset) else None


def _predicted(model: nn.Module, batch: Tensor, chosen: dict[str, dict[str, Any]]) -> np.ndarray:
    """Return a network's own classes [N, 1], from the pass that its maps are read from where there is one."""
    taps = [settings["tap"] for settings in chosen.values() if "tap" in settings]
    if taps:
        return read(model, batch, taps[0]).logits.argmax(1)[:, None].cpu().numpy()
    with evaluating(model), torch.no_grad():
        return ask(model, batch).argmax(1)[:, None].cpu().numpy()


def check_network(model: nn.Module, methods: Sequence[str], image: Tensor, *, tap: str, settings: Mapping[str, dict[str, Any]]) -> None:
    """Refuse methods that a network can't be explained by, before it is trained or any map is made.

    Parameters are those of :func:`explain`, for one image [1, C, H, W] of whatever content.

    Raises
    ------
    SettingError, TapError, ModelError
    """
    explainers = {method: registry.get("explainers", method) for method in methods}
    _with_taps("", model, image, explainers, _options(explainers, settings), tap)


def _with_taps(
    name: str, model: nn.Module, batch: Tensor, explainers: dict[str, Any], options: dict[str, dict[str, Any]], tap: str
) -> dict[str, dict[str, Any]]:
    chosen = {}
    remarks = set()
    for method, explainer in explainers.items():
        chosen[method] = dict(options[method])
        if "suits" in explainer.traits:
            explainer.traits["suits"](model, batch[:1], **options[method])
        if explainer.traits.get("taps"):  # a network without any map can still be explained by methods that read none
            taps = find_taps(model, size=(batch.shape[2], batch.shape[3]), channels=batch.shape[1])
            place = taps.choose(options[method].get("tap", tap))
            chosen[method]["tap"] = place.name
            remarks.add(taps.remark(place))
    for remark in sorted(remarks - {""}) if name else []:
        say(f"{name}: {remark}")
    return chosen


def _batches(label: str, network: Any, images: Subset | Tensor, batch_size: int) -> Iterator[Tensor]:
    """Yield the network's input on its own device and of its own type."""
    like = reference(network.model)
    batches = network.inputs(images, batch_size)
    for batch in track(batches, label, total=math.ceil(len(images) / batch_size), each=min(batch_size, len(images))):
        yield batch.to(like)


def _now(batch: Tensor) -> float:
    """Return the time at which all work given to the device so far is done."""
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
    return time.perf_counter()
