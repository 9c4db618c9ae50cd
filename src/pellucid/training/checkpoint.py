"""The state of an unfinished training: written after each epoch, whole or not at all."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from pellucid.core import files
from pellucid.core.errors import RunError


def save(path: Path, state: dict[str, Any], *, kind: str = "checkpoint") -> None:
    """Write tensors and plain values to `path`, atomically.

    Raises
    ------
    StorageError
        The disk is full; the state before stays as it was.
    """
    # Through memory: torch's own zip writer turns a full disk into a RuntimeError without an errno.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files.write_bytes(path, buffer.getvalue(), kind=kind)


def load(path: Path) -> dict[str, Any] | None:
    """Return what :func:`save` wrote, or None where there is nothing.

    Raises
    ------
    RunError
        The file was changed by something else and can't be read.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise RunError(f"{path}: this checkpoint is damaged ({type(error).__name__}). Delete it to train from the start.") from None
