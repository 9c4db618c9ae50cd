"""A network with all that is needed to use it, and the one file it is kept in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import files
from pellucid.core.errors import ModelError, WeightsError
from pellucid.core.records import ImageSpec, Task
from pellucid.data.dataset import Subset
from pellucid.models.build import build
from pellucid.models.taps import ask, evaluating

CUSTOM = "custom"  # the architecture of a module the user made
FORMAT = 1


@dataclass
class Network:
    """A classifier, what it wants to see, and where it came from.

    Attributes
    ----------
    model : nn.Module
        Maps images to logits [N, K].
    spec : ImageSpec
        How images must be prepared for it.
    task : Task
        The classes behind the logits.
    architecture : str
        Name for :func:`~pellucid.models.build.build`, or ``custom`` for a module of the user's own.
    options : dict
        Settings it was built with.
    history : list of dict
        One per epoch of training.
    best_epoch : int
        The epoch whose weights these are, from 1; 0 where nothing was trained.
    precision : str
        Number format and memory layout it was trained in, e.g. ``fp32 channels_last``.
    provenance : str
        Where the weights came from, in one sentence.
    fingerprint : str
        What went into it.
    """

    model: nn.Module
    spec: ImageSpec
    task: Task
    architecture: str = CUSTOM
    options: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    precision: str = "fp32"
    provenance: str = ""
    fingerprint: str = ""

    def logits(self, images: Subset | Tensor, batch_size: int = 64) -> np.ndarray:
        """Return float32 [N, K], computed in eval mode; the network's mode is afterwards as before.

        Parameters
        ----------
        images : Subset or float Tensor [N, C, H, W]
            A subset is prepared as `spec` says; a tensor is taken as it is.
        batch_size : int
            Images per forward pass.

        Raises
        ------
        ModelError
            The images haven't the channels, or a size, that the network takes.
        """
        found = [np.zeros((0, self.task.n_classes), np.float32)]
        with evaluating(self.model), torch.inference_mode():
            for batch in self.inputs(images, batch_size):
                try:
                    logits = ask(self.model, batch)
                except (RuntimeError, ValueError, AssertionError) as error:
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    raise ModelError(f"{self.architecture} can't take images of {tuple(batch.shape[1:])}: {reason}") from error
                found.append(logits.float().cpu().numpy())
        return np.concatenate(found)

    def inputs(self, images: Subset | Tensor, batch_size: int = 64) -> Iterable[Tensor]:
        """Return batches [<= batch_size, C, H, W] as the network wants to see them."""
        if isinstance(images, Tensor):
            return images.split(batch_size) if len(images) else []
        from pellucid.data.views import batches

        return batches(images, self.spec, batch_size)

    def save(self, path: Path | str) -> None:
        """Write one .safetensors file: the tensors, and everything else as JSON in its header. Atomic."""
        from safetensors.torch import save

        # Tied weights share memory, which safetensors refuses; each name gets its own copy and loading ties them again.
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.model.state_dict().items()}
        header = _Header(FORMAT, **{name: getattr(self, name) for name in _kept()})
        content = save(tensors, {"pellucid": json.dumps(asdict(header), sort_keys=True)})
        files.write_bytes(path, content, kind="network")


def load(path: Path | str, *, model: nn.Module | None = None) -> Network:
    """Read a network that :meth:`Network.save` wrote.

    Parameters
    ----------
    path : Path or str
    model : nn.Module or None
        Takes up the weights, where the saved network was a module of your own (architecture ``custom``).

    Raises
    ------
    WeightsError
        The file is missing, broken or not one of ours; or `model` is needed, or doesn't fit.
    """
    path = Path(path)
    header, tensors = _read(path)
    spec, task = header.spec, header.task
    if model is None:
        if header.architecture == CUSTOM:
            raise WeightsError(f"{path}: holds the weights of a module of your own. Build the module and call load(path, model=module).")
        model = build(header.architecture, n_classes=task.n_classes, channels=spec.channels, size=spec.size, **header.options)
        model.to(next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32))
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: these weights don't fit {type(model).__name__}: {reason[:300]}") from error
    model.provenance = header.provenance  # type: ignore[assignment]
    return Network(model.eval(), **{name: getattr(header, name) for name in _kept()})


@dataclass
class _Header:
    """What of a :class:`Network` stands beside the tensors; read, it is checked by these types."""

    format: int
    spec: ImageSpec
    task: Task
    architecture: str
    options: dict[str, Any]
    history: list[dict[str, Any]]
    best_epoch: int
    precision: str
    provenance: str
    fingerprint: str


def _kept() -> list[str]:
    return [each.name for each in fields(_Header) if each.name != "format"]


def _read(path: Path) -> tuple[_Header, dict[str, Tensor]]:
    import pydantic
    from safetensors import safe_open

    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file.")
    try:
        with safe_open(path, framework="pt") as content:
            about = (content.metadata() or {}).get("pellucid")
            tensors = {name: content.get_tensor(name) for name in content.keys()} if about else {}  # noqa: SIM118 (it is no dict)
    except Exception as error:  # safetensors' own error, or an OSError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: can't be read ({reason}). It may have been cut off; make it anew.") from error
    if not about:
        raise WeightsError(f"{path}: no network saved by Pellucid. To start from these weights, set weights = PATH.")
    try:
        content = json.loads(about)
        if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
            raise WeightsError(f"{path}: written by a later version of Pellucid. Update to read it.")
        return pydantic.TypeAdapter(_Header).validate_python(content), tensors
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg'].lower()}"
    except ValueError:
        reason = "it is no JSON"
    raise WeightsError(f"{path}: what the file says of its network is damaged ({reason}). Make it anew.")
