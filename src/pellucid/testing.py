"""Contracts that every part must keep, ours or a stranger's: one list of checks for each kind.

Each check is a plain function that raises AssertionError with a sentence. In a test of your own package::

    from pellucid.testing import check_explainer
    def test_my_explainer():
        check_explainer(my_explainer)
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import registry
from pellucid.core.errors import PellucidError, TapError, TargetError
from pellucid.core.records import ImageSpec, Task

TOLERANCE = 1e-5  # share of the largest value by which a batch may differ from one by one in float32


# ---- explainers: function(model, images, targets, *, settings) -> maps [N, h, w]


def check_explainer(explainer: str | Callable[..., Tensor], **settings: Any) -> None:
    """Run all checks on an explainer, given by name or as the function itself.

    Parameters
    ----------
    explainer : str or function
    settings : its settings
        For one that takes long at its defaults.

    Raises
    ------
    AssertionError
        The first contract that is broken, in a sentence.
    """
    found = registry.get("explainers", explainer) if isinstance(explainer, str) else explainer

    @functools.wraps(found)
    def as_set(*args: Any, **given: Any) -> Tensor:
        return found(*args, **{**settings, **given})

    for check in EXPLAINER_CHECKS:
        check(as_set if settings else found)


def check_says_what_it_is(explainer: Any) -> None:
    """It is decorated with ``@part(signed=..., taps=..., baselines=..., attention=...)``, has a docstring, and all its settings have defaults."""
    traits = getattr(explainer, "traits", {})
    assert isinstance(traits.get("signed"), bool), f"{_name(explainer)}: decorate it with @part(signed=True) or @part(signed=False)."
    assert (explainer.__doc__ or "").strip(), f"{_name(explainer)}: has no docstring."
    settings = registry.options(explainer)
    assert not traits.get("taps") or "tap" in settings, f"{_name(explainer)}: says it reads taps but has no setting `tap`."
    assert traits.get("baselines") in (None, "each", "mean"), f'{_name(explainer)}: baselines can be "each" or "mean".'
    takes = "baselines" in inspect.signature(explainer).parameters
    assert takes == bool(traits.get("baselines")), f"{_name(explainer)}: its trait and its arguments disagree about baselines."
    for name, (_, default) in settings.items():
        assert default is not _NOTHING, f"{_name(explainer)}: setting {name} has no default."


def check_gives_a_map_for_each_image(explainer: Any) -> None:
    """Maps are finite floats [N, h, w], also for one image and for odd, non-square images."""
    model = _network_for(explainer)
    for n, height, width in ((3, 32, 32), (1, 32, 32), (2, 33, 47)):
        maps = _explained(explainer, model, _images(n, height, width), _targets(n))
        assert maps.ndim == 3 and len(maps) == n, f"{_name(explainer)}: gives {list(maps.shape)} for {n} images, not [N, h, w]."
        assert maps.is_floating_point() and torch.isfinite(maps).all(), f"{_name(explainer)}: gives values that aren't finite."
        assert not maps.requires_grad, f"{_name(explainer)}: gives maps that are still part of a graph; detach them."


def check_batch_equals_one_by_one(explainer: Any) -> None:
    """An image's map doesn't depend on the images beside it."""
    model, images, targets = _network_for(explainer), _images(4, 32, 40), _targets(4)
    together = _explained(explainer, model, images, targets)
    alone = torch.cat([_explained(explainer, model, images[i : i + 1], targets[i : i + 1]) for i in range(4)])
    error = (together - alone).abs().max() / alone.abs().max().clamp_min(1e-12)
    assert error <= TOLERANCE, f"{_name(explainer)}: a batch differs from one by one by {error:.1e} of the largest value."


def check_leaves_the_network_as_it_was(explainer: Any) -> None:
    """Mode of each module, statistics, gradients, frozen parameters, hooks, images and the random state are afterwards as before."""
    model, images, targets = _network_for(explainer), _images(2, 32, 32), _targets(2)
    with _unchanged(model, images, _name(explainer)):
        _explained(explainer, model, images, targets)


def check_leaves_the_network_as_it_was_after_an_error(explainer: Any) -> None:
    """An error inside the network's own forward pass leaves mode, statistics and hooks as before."""
    model, images, targets = _network_for(explainer), _images(2, 32, 32), _targets(2)
    _explained(explainer, model, images, targets)  # whatever is looked up once is known now

    def fail(module: nn.Module, args: tuple[Any, ...]) -> None:
        raise ZeroDivisionError("planted")

    handle = model.head.register_forward_pre_hook(fail)  # type: ignore[union-attr]
    try:
        with _unchanged(model, images, _name(explainer)), contextlib.suppress(ZeroDivisionError, PellucidError):
            _explained(explainer, model, images, targets)
            raise AssertionError(f"{_name(explainer)}: swallows an error of the network.")
    finally:
        handle.remove()


def check_works_frozen_and_without_gradients(explainer: Any) -> None:
    """Frozen parameters and ``torch.no_grad`` give the same maps."""
    model, images, targets = _network_for(explainer), _images(2, 32, 32), _targets(2)
    expected = _explained(explainer, model, images, targets)
    frozen = copy.deepcopy(model).requires_grad_(False)
    with torch.no_grad():
        found = _explained(explainer, frozen, images, targets)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7), f"{_name(explainer)}: gives other maps for a frozen network."


def check_explains_half_precision(explainer: Any) -> None:
    """A network in half precision, or one that autocast runs so, is explained too."""
    model, images, targets = _network_for(explainer), _images(2, 32, 32), _targets(2)
    expected = _explained(explainer, model, images, targets)
    half = _explained(explainer, copy.deepcopy(model).to(torch.bfloat16), images.to(torch.bfloat16), targets)
    with torch.autocast("cpu", torch.bfloat16):
        cast = _explained(explainer, model, images, targets)
    for maps in (half, cast):
        assert maps.shape == expected.shape and torch.isfinite(maps).all(), f"{_name(explainer)}: breaks in half precision."


def check_refuses_what_is_not_there(explainer: Any) -> None:
    """A class that the network hasn't is a TargetError (class methods), an unknown tap a TapError (methods that read taps)."""
    model, images = _network_for(explainer), _images(2, 32, 32)
    if explainer.traits["signed"]:
        for wrong in (torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0])):
            assert _raises(TargetError, _explained, explainer, model, images, wrong), (
                f"{_name(explainer)}: accepts targets {wrong.tolist()} of 3 classes."
            )
    if explainer.traits.get("taps"):
        assert _raises(TapError, _explained, explainer, model, images, _targets(2), tap="layer9"), (
            f"{_name(explainer)}: accepts an unknown tap."
        )


def check_explains_nothing_where_nothing_differs(explainer: Any) -> None:
    """An image that is itself the only baseline gets a map of zeros (methods with baselines)."""
    if explainer.traits.get("baselines"):
        model, images = _network_for(explainer), _images(1, 32, 32)
        maps = explainer(model, images, _targets(1), images.clone())
        assert bool((maps == 0).all()), f"{_name(explainer)}: explains an image that is its own baseline."


EXPLAINER_CHECKS: list[Callable[[Any], None]] = [
    check_says_what_it_is,
    check_gives_a_map_for_each_image,
    check_batch_equals_one_by_one,
    check_leaves_the_network_as_it_was,
    check_leaves_the_network_as_it_was_after_an_error,
    check_works_frozen_and_without_gradients,
    check_explains_half_precision,
    check_refuses_what_is_not_there,
    check_explains_nothing_where_nothing_differs,
]


# ---- models: function(*, n_classes, channels, size, settings) -> nn.Module


def check_model(model: str | Callable[..., nn.Module], *, size: int = 64) -> None:
    """Run all checks on a network, given by its name for ``build`` or as the function that makes it.

    Raises
    ------
    AssertionError
        The first contract that is broken, in a sentence.
    """
    for check in MODEL_CHECKS:
        check(model, size)


def check_maps_images_to_logits(model: Any, size: int) -> None:
    """Grey and colour images [N, C, H, W] give finite logits [N, K]."""
    for channels, n_classes in ((1, 2), (3, 5)):
        network = _make(model, n_classes, channels, size).eval()
        logits = network(_images(2, size, size, channels))
        assert logits.shape == (2, n_classes), f"{_name(model)}: gives {list(logits.shape)} for 2 images and {n_classes} classes."
        assert torch.isfinite(logits).all(), f"{_name(model)}: gives logits that aren't finite."


def check_seed_decides_the_weights(model: Any, size: int) -> None:
    """The same random state gives the same weights; a network built by name leaves the global random state alone."""
    before = torch.random.get_rng_state()
    first, second = (_make(model, 3, 3, size).state_dict() for _ in range(2))
    if isinstance(model, str):
        assert torch.equal(before, torch.random.get_rng_state()), f"{_name(model)}: building draws from the global random state."
    assert all(torch.equal(first[name], second[name]) for name in first), f"{_name(model)}: the same seed gives other weights."


def check_has_taps(model: Any, size: int) -> None:
    """Spatial taps are found, and gradients of the logits reach the last map."""
    from pellucid.models.taps import find_taps, forward_with

    network = _make(model, 3, 3, size)
    taps = find_taps(network, size=size, channels=3)
    outputs = forward_with(network, _images(2, size, size), ["last_map", "pooled"], gradients=True)
    assert outputs["last_map"].shape == (2, *taps.last_map.shape), f"{_name(model)}: last_map has another shape than the dry run said."
    with torch.enable_grad():
        chosen = (outputs.logits * torch.tensor([1.0, -0.5, 0.25])).sum()
    (gradient,) = torch.autograd.grad(chosen, outputs["last_map"])
    assert gradient.abs().max() > 0, f"{_name(model)}: no gradient reaches the last map, {taps.last_map.name}."


def check_model_batch_equals_one_by_one(model: Any, size: int) -> None:
    """In eval mode an image's logits don't depend on the images beside it."""
    network, images = _make(model, 3, 3, size).eval(), _images(3, size, size)
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(images[i : i + 1]) for i in range(3)])
    error = (together - alone).abs().max() / alone.abs().max().clamp_min(1e-6)
    assert error <= 1e-4, f"{_name(model)}: a batch differs from one by one by {error:.1e} of the largest logit."


def check_every_parameter_learns(model: Any, size: int) -> None:
    """In training a gradient reaches every parameter."""
    network = _make(model, 3, 3, size).train()
    network(_images(4, size, size)).pow(2).sum().backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert not idle, f"{_name(model)}: no gradient reaches {', '.join(idle[:5])}."


def check_survives_saving(model: Any, size: int) -> None:
    """Saved and loaded again, it gives the very same logits."""
    from pellucid.models.saved import CUSTOM, Network, load

    module = _make(model, 3, 3, size)
    spec, task = ImageSpec(size, 3, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)), Task("single", ("a", "b", "c"))
    network = Network(module, spec, task, architecture=model if isinstance(model, str) else CUSTOM)
    images = _images(2, size, size)
    with tempfile.TemporaryDirectory() as folder:
        network.save(Path(folder) / "network.safetensors")
        again = load(Path(folder) / "network.safetensors", model=None if isinstance(model, str) else _make(model, 3, 3, size))
    assert (network.logits(images) == again.logits(images)).all(), f"{_name(model)}: gives other logits after saving and loading."


MODEL_CHECKS: list[Callable[[Any, int], None]] = [
    check_maps_images_to_logits,
    check_seed_decides_the_weights,
    check_model_batch_equals_one_by_one,
    check_has_taps,
    check_every_parameter_learns,
    check_survives_saving,
]


# ---- losses: class(hard_loss, *, settings) with .weights and __call__(student, teacher, targets) -> {part: scalar}


def check_loss(loss: str | Callable[..., Any]) -> None:
    """Run all checks on a loss, given by name or as the class itself, at its default settings.

    Raises
    ------
    AssertionError
        The first contract that is broken, in a sentence.
    """
    found = registry.get("losses", loss) if isinstance(loss, str) else loss
    for check in LOSS_CHECKS:
        check(found)


def check_loss_parts_have_weights(loss: Any) -> None:
    """Its parts are finite scalars, and each has a weight of that name."""
    made, student, teacher, targets = _loss_inputs(loss)
    parts = made(student, teacher, targets)
    assert set(parts) == set(made.weights), f"{_name(loss)}: has parts {sorted(parts)} and weights {sorted(made.weights)}."
    for name, value in parts.items():
        assert value.ndim == 0 and bool(torch.isfinite(value)), f"{_name(loss)}: part {name} is no finite scalar."


def check_loss_moves_the_student_alone(loss: Any) -> None:
    """Each part with a weight above zero sends a finite, somewhere non-zero gradient to the student, and none to the teacher."""
    made, student, teacher, targets = _loss_inputs(loss)
    student.requires_grad_()
    teacher.requires_grad_()
    for name, value in made(student, teacher.detach(), targets).items():
        if made.weights[name] > 0:
            (gradient,) = torch.autograd.grad(value, student, retain_graph=True, allow_unused=True)
            assert gradient is not None and bool(gradient.abs().sum() > 0), f"{_name(loss)}: part {name} sends no gradient to the student."
            assert bool(torch.isfinite(gradient).all()), f"{_name(loss)}: part {name} sends a gradient that is not finite."


def check_loss_does_not_depend_on_order(loss: Any) -> None:
    """The same images in another order give the same parts."""
    made, student, teacher, targets = _loss_inputs(loss)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one, other = made(student, teacher, targets), made(student[order], teacher[order], targets[order])
    for name in one:
        assert torch.allclose(one[name], other[name]), f"{_name(loss)}: part {name} depends on the order of the images."


def check_loss_is_finite_for_extreme_logits(loss: Any) -> None:
    """Logits of +-1,000 give finite parts: a probability that underflows must not become infinite."""
    made, student, teacher, targets = _loss_inputs(loss)
    for name, value in made(1000 * student.sign(), -1000 * teacher.sign(), targets).items():
        assert bool(torch.isfinite(value)), f"{_name(loss)}: part {name} is {float(value)} for extreme logits."


LOSS_CHECKS: list[Callable[[Any], None]] = [
    check_loss_parts_have_weights,
    check_loss_moves_the_student_alone,
    check_loss_does_not_depend_on_order,
    check_loss_is_finite_for_extreme_logits,
]


def _loss_inputs(loss: Any) -> tuple[Any, Tensor, Tensor, Tensor]:
    """Return the loss at its defaults, and float64 logits of six images and four classes with their targets."""
    from pellucid.training.objective import HardLoss

    targets = torch.tensor([0, 1, 2, 3, 1, 0])
    draws = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, generator=draws, dtype=torch.float64) for _ in range(2))
    return loss(HardLoss(Task("single", tuple("abcd")), targets.numpy())), student, teacher, targets


# ---- what the checks look at


class _Tiny(nn.Module):
    """Two stages with batch norm, an activation in place and dropout; 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.layer2 = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.layer2(self.layer1(images)).mean((2, 3))))


def tiny_network(kind: type[_Tiny] = _Tiny) -> nn.Module:
    """Return the network that explainers are checked on: always the same, in training mode but for one module."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        model = kind()
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    model.train()
    model.layer1.eval()  # a module with a flag of its own must get just that one back
    return model


class _TinyAttending(_Tiny):
    """Two attention blocks and a class token more, for explainers that read attention; takes any image size too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1.append(nn.MaxPool2d(2))
        self.class_token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention1, self.attention2 = (nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.layer2(self.layer1(images)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], 1)
        for attention in (self.attention1, self.attention2):
            tokens = tokens + attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(self.dropout(tokens[:, 0]))


def _network_for(explainer: Any) -> nn.Module:
    """Return the network that this explainer is checked on."""
    return tiny_network(_TinyAttending if explainer.traits.get("attention") else _Tiny)


_NOTHING = inspect.Parameter.empty


def _name(thing: Any) -> str:
    return thing if isinstance(thing, str) else getattr(thing, "__name__", type(thing).__name__)


def _make(model: Any, n_classes: int, channels: int, size: int) -> nn.Module:
    from pellucid.models.build import build

    if isinstance(model, str):
        return build(model, n_classes=n_classes, channels=channels, size=size, seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(3)
        return model(n_classes=n_classes, channels=channels, size=size)


def _explained(explainer: Any, model: nn.Module, images: Tensor, targets: Tensor, **settings: Any) -> Tensor:
    """Call an explainer, with baselines if it takes any."""
    takes = explainer.traits.get("baselines")
    channels, height, width = images.shape[1:]
    baselines = [_images(5, height, width, channels)[: 1 if takes == "mean" else 5]] if takes else []
    return explainer(model, images, targets, *baselines, **settings)


def _images(n: int, height: int, width: int, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(n + height))


def _targets(n: int) -> Tensor:
    return torch.arange(n) % 3


def _raises(kind: type[Exception], function: Any, *args: Any, **settings: Any) -> bool:
    try:
        function(*args, **settings)
    except kind:
        return True
    except Exception:
        return False
    return False


def _state(model: nn.Module, images: Tensor) -> dict[str, Any]:
    """Return all that an explainer might change, as plain values to be compared."""
    return {
        "the mode of its modules": [module.training for module in model.modules()],
        "hooks": [(len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)) for module in model.modules()],
        "weights or statistics": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "gradients": [None if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()],
        "which parameters are frozen": [parameter.requires_grad for parameter in model.parameters()],
        "the images": (images.clone(), images.requires_grad),
        "whether gradients are on": torch.is_grad_enabled(),
        "the random state of torch": torch.random.get_rng_state(),
        "the random state of NumPy": [np.random.get_state()[1].tolist(), np.random.get_state()[2]],  # type: ignore[index]  # noqa: NPY002
    }


@contextlib.contextmanager
def _unchanged(model: nn.Module, images: Tensor, name: str) -> Iterator[None]:
    before = _state(model, images)
    yield
    after = _state(model, images)
    changed = [what for what in before if not _same(before[what], after[what])]
    assert not changed, f"{name}: changes {', '.join(changed)}."


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


# ---- measures: function(judged, *, settings) -> Judgement


def check_measure(measure: str | Callable[..., Any]) -> None:
    """Run all checks on a measure, given by name or as the function itself.

    Raises
    ------
    AssertionError
        The first contract that is broken, in a sentence.
    """
    found = registry.get("measures", measure) if isinstance(measure, str) else measure
    for check in MEASURE_CHECKS:
        check(found)


def check_measure_says_what_it_is(measure: Any) -> None:
    """It is decorated with ``@part()``, has a docstring, and all its settings have defaults."""
    assert hasattr(measure, "traits"), f"{_name(measure)}: decorate it with @part()."
    assert (measure.__doc__ or "").strip(), f"{_name(measure)}: has no docstring."
    for name, (_, default) in registry.options(measure).items():
        assert default is not _NOTHING, f"{_name(measure)}: setting {name} has no default."


def check_measurements_are_complete(measure: Any) -> None:
    """A figure has an n and lies in its interval, an interval says how it was made, what is undefined says why, all of it as JSON."""
    import json

    from pellucid.core.records import Measurement

    judged = tiny_judged()
    for row in measure(judged).measurements:
        label = f"{_name(measure)}: {row.name} of {row.model or 'the data'}, {row.stratum}"
        if row.value is None:
            assert row.reason and row.low is None and row.high is None, f"{label}: is undefined and doesn't say why."
        else:
            assert row.n_images or row.method, f"{label}: rests on no image, and says not how it was counted."
        assert (row.low is None) == (row.high is None), f"{label}: has half an interval."
        if row.value is not None and row.low is not None and row.high is not None:
            assert row.low <= row.value <= row.high, f"{label}: {row.value} lies outside [{row.low}, {row.high}]."
            assert row.method, f"{label}: says not how its interval was made."
        assert Measurement.from_json(json.loads(json.dumps(row.to_json(), allow_nan=False))) == row, f"{label}: doesn't survive as JSON."


def check_measurements_are_told_apart(measure: Any) -> None:
    """No two rows have the same name, networks, method and stratum."""
    keys = [(row.name, row.model, row.by, row.split, row.stratum) for row in measure(tiny_judged()).measurements]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"{_name(measure)}: gives {sorted(twice)[0]} more than once."


def check_values_per_image_fit_the_images(measure: Any) -> None:
    """Each array has one plain number for each test image, explained or not."""
    judged = tiny_judged()
    for name, values in measure(judged).per_image.items():
        assert values.shape == (len(judged.images),), f"{_name(measure)}: {name} has shape {values.shape} for {len(judged.images)} images."
        assert values.dtype.kind in "bif", f"{_name(measure)}: {name} holds {values.dtype}, not numbers."


def check_measure_leaves_networks_as_they_were(measure: Any) -> None:
    """Mode of each module, statistics, gradients, hooks and the random state are afterwards as before."""
    judged = tiny_judged()
    with contextlib.ExitStack() as stack:
        for network in judged.networks.values():
            stack.enter_context(_unchanged(network.model, torch.zeros(1), _name(measure)))
        measure(judged)


def check_measure_is_deterministic(measure: Any) -> None:
    """Asked twice it says the same, but for times, whose `method` begins with "measured"."""
    judged = tiny_judged()
    first, second = ([row for row in measure(judged).measurements if not row.method.startswith("measured")] for _ in range(2))
    assert first == second, f"{_name(measure)}: gives other values the second time."


def check_measure_does_without(measure: Any) -> None:
    """One network alone, without maps, masks, subjects and validation images: words or figures, no error."""
    for row in measure(tiny_judged(bare=True)).measurements:
        assert row.value is not None or row.reason, f"{_name(measure)}: {row.name} is undefined and doesn't say why."


MEASURE_CHECKS: list[Callable[[Any], None]] = [
    check_measure_says_what_it_is,
    check_measurements_are_complete,
    check_measurements_are_told_apart,
    check_values_per_image_fit_the_images,
    check_measure_leaves_networks_as_they_were,
    check_measure_is_deterministic,
    check_measure_does_without,
]


def tiny_judged(*, bare: bool = False, classes: tuple[str, str, str] = ("a", "b", "c")) -> Any:
    """Return what measures are checked on: twelve images of six subjects and three classes, half of them with a mask, three untrained networks.

    With `bare` one network alone, without maps, masks, subjects and validation images.
    """
    from pellucid.core.settings import MeasureSettings
    from pellucid.data.dataset import Dataset, Subset
    from pellucid.data.store import Store
    from pellucid.explainers.explain import explain
    from pellucid.measures.judged import Judged
    from pellucid.models.saved import Network
    from pellucid.stats.intervals import resample

    targets = np.repeat(np.arange(6) % 3, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((12, 32, 32), np.uint8)
    masks[:6, 4:12, 8:20] = 1
    task = Task("single", classes)
    subjects = [] if bare else [f"subject {i // 2}" for i in range(12)]
    dataset = Dataset("tiny", task, [str(i) for i in range(12)], targets, read=lambda i: pixels[i], content="tiny", subjects=subjects)
    images = Subset(dataset, Store(pixels, None if bare else masks), np.arange(12), "test")
    spec = ImageSpec(32, 3, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    networks = {role: Network(tiny_network(), spec, task) for role in (["student"] if bare else ["teacher", "base", "student"])}
    for number, network in enumerate(networks.values()):
        with torch.no_grad():
            network.model.head.weight.add_(0.3 * number * _images(3, 1, 8, 1)[:, 0, 0])  # type: ignore[union-attr, operator]
    logits = {role: network.logits(images) for role, network in networks.items()}
    rows = np.arange(0, 12, 2)
    settings = MeasureSettings(resamples=100)
    return Judged(
        networks=networks,
        images=images,
        logits=logits,
        val_logits={} if bare else logits,
        val_targets=np.empty(0, np.int64) if bare else targets,
        explanations=[] if bare else explain(dict(networks), images[rows]),
        rows=rows[:0] if bare else rows,
        settings=settings,
        weights=resample(targets, images.units, resamples=settings.resamples),
    )
