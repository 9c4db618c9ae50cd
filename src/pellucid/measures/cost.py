"""What a network costs to keep and to run."""

from __future__ import annotations

import contextlib
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.records import Measurement
from pellucid.core.registry import part
from pellucid.measures import timing
from pellucid.measures.judged import Judged, Judgement, measurement

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pellucid.models.saved import Network

BATCH = 32


@part()
def cost(judged: Judged) -> Judgement:
    """Judge size and speed: parameters, multiply-adds, file size, latency, throughput and memory of each network.

    Networks are timed in turns in one run, in float32 on ``settings.threads`` threads, on random images at each network's own size.

    Parameters
    ----------
    judged : Judged

    Returns
    -------
    Judgement
        Per network: ``parameters``, ``multiply_adds`` (for one image), ``file_size`` (bytes), ``latency_p50`` and ``latency_p95``
        (milliseconds at batch 1), ``throughput`` (images per second at batch 32), ``peak_memory`` (bytes that one forward of 32 images
        holds beyond weights and input).
    """
    found = []
    for role in judged.timed_roles:
        network = judged.networks[role]
        size, channels = network.spec.size, network.spec.channels
        found += [
            _counted("parameters", parameters(network.model), role, "counted", source="weights and biases; buffers not counted"),
            _counted(
                "multiply_adds", multiply_adds(network.model, size=size, channels=channels), role,
                f"counted at {size} px, {channels} channels", source="torch FlopCounterMode / 2, fused attention off",
            ),
            _counted("file_size", file_size(network), role, "counted", source="bytes of the safetensors file"),
            _counted(
                "peak_memory", peak_memory(network.model, _random_images(network, BATCH)), role,
                f"counted over one forward of {BATCH} images: largest sum of tensors alive at once; not what kernels use inside",
                source="beyond weights and input",
            ),
        ]  # fmt: skip
    return Judgement(found + _times(judged))


def parameters(model: nn.Module) -> int:
    """Return the number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, *, size: int, channels: int) -> int:
    """Return the multiply-adds of one image's forward pass: convolutions, linear layers and attention products.

    Parameters
    ----------
    model : nn.Module
        Counted in eval mode; its mode is as before afterwards.
    size, channels : int
        Of the input.

    Notes
    -----
    Bias, normalisation, activation and pooling aren't counted. Papers and Keras often print twice this number as FLOPs.

    Examples
    --------
    >>> multiply_adds(torch.nn.Conv2d(3, 8, 3, padding=1), size=10, channels=3)
    21600
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from pellucid.models.taps import evaluating, reference

    image = torch.zeros(1, channels, size, size).to(reference(model))
    counter = FlopCounterMode(display=False)
    # On CPU the counter sees no work in fused attention; the plain form does the same products one by one.
    with torch.no_grad(), evaluating(model), sdpa_kernel(SDPBackend.MATH), counter:
        model(image)
    return counter.get_total_flops() // 2


def file_size(network: Network) -> int:
    """Return the bytes of the file that `network.save` writes, without the training history (it holds times, which differ by run)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        replace(network, history=[]).save(path)
        return path.stat().st_size


def latencies(models: Mapping[str, tuple[nn.Module, Tensor]], *, least: int, most: int, seconds: float) -> dict[str, np.ndarray]:
    """Return the seconds of each forward pass, the models taken in turns, {name: float64 [repeats]}.

    Parameters
    ----------
    models : {name: (model in eval mode, images)}
    least, most, seconds
        See :func:`pellucid.measures.timing.in_turns`.
    """
    import torch

    def forward(model: nn.Module, images: Tensor) -> Any:
        return lambda number: model(images).cpu()  # waits for the result where the network runs on another device

    with torch.inference_mode():
        return timing.in_turns({name: forward(*pair) for name, pair in models.items()}, least=least, most=most, seconds=seconds)


def peak_memory(model: nn.Module, images: Tensor) -> int:
    """Return the largest number of bytes that tensors made in one forward pass hold at once.

    Every tensor an operation returns is counted from then until nothing refers to its storage. The weights, the input, and what a
    kernel allocates and frees inside one operation aren't counted, so the figure is the same on every machine.

    Parameters
    ----------
    model : nn.Module
    images : float Tensor [N, C, H, W]
    """
    import torch

    from pellucid.models.taps import evaluating

    with torch.no_grad(), evaluating(model):
        known = [images, *model.parameters(), *model.buffers()]
        with _live_bytes(known) as live:
            model(images)
    return live.peak


def _live_bytes(known: list[Tensor]) -> Any:
    """Return a dispatch mode that follows how many bytes of new tensors are alive; `known` ones aren't new."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    class LiveBytes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self.seen = {tensor.untyped_storage()._cdata for tensor in known}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            for tensor in tree_iter(made):
                if isinstance(tensor, Tensor):
                    self.see(tensor)
            return made

        def see(self, tensor: Tensor) -> None:
            storage = tensor.untyped_storage()
            address, size = storage._cdata, storage.nbytes()
            if address in self.seen:
                return
            self.seen.add(address)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, address, size)

        def forget(self, address: int, size: int) -> None:
            self.seen.discard(address)
            self.now -= size

    return LiveBytes()


def _times(judged: Judged) -> list[Measurement]:
    from pellucid.models.taps import evaluating

    threads = judged.settings.threads
    networks = judged.networks
    with timing.on_threads(threads), contextlib.ExitStack() as stack:
        for network in networks.values():
            stack.enter_context(evaluating(network.model))
        single = {role: (networks[role].model, _random_images(networks[role], 1)) for role in judged.timed_roles}
        batched = {role: (networks[role].model, _random_images(networks[role], BATCH)) for role in judged.timed_roles}
        one = latencies(single, least=30, most=200, seconds=10.0)
        many = latencies(batched, least=3, most=20, seconds=10.0)
    found = []
    for role in judged.timed_roles:
        conditions = f"float32, {threads} thread{'s' if threads > 1 else ''}, {networks[role].spec.size} px, networks in turns"
        for name, share in (("latency_p50", 0.5), ("latency_p95", 0.95)):
            milliseconds = 1000 * one[role]
            found.append(_timed(name, timing.quantile(milliseconds, share), len(milliseconds), role, "lower", f"batch 1, {conditions}"))
        rate = timing.quantile(BATCH / many[role], 0.5)
        found.append(_timed("throughput", rate, len(many[role]), role, "higher", f"batch {BATCH}, median, {conditions}"))
    return found


def _timed(name: str, statistic: Any, repeats: int, role: str, better: Any, conditions: str) -> Measurement:
    found = timing.over_repeats(statistic, repeats)
    made = measurement(name, found, unit="repeats", model=role, better=better, source=conditions)
    return replace(made, method=f"measured {repeats} times; {found.method}".rstrip("; "))


def _counted(name: str, value: int, role: str, method: str, *, source: str) -> Measurement:
    return Measurement(name, float(value), model=role, method=method, better="lower", source=source)


def _random_images(network: Network, n: int) -> Tensor:
    """Return float32 [n, C, size, size]: zeros would let denormal numbers and empty activations flatter or hurt a network."""
    import torch

    from pellucid.models.taps import reference

    spec = network.spec
    noise = torch.randn(n, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
    return noise.to(reference(network.model))
