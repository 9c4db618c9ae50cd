"""Short names for what went into a result, so that the same input finds the same output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that change when any part does.

    Parts are plain values: numbers, strings, lists, dicts (key order doesn't matter), None. Floats go in
    by their shortest exact form, so 0.1 is 0.1 on every machine.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_bytes(chunks: Iterable[bytes]) -> str:
    """Return the fingerprint of a byte stream."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()[:16]


def of_file(path: Path | str) -> str:
    """Return the fingerprint of a file's content (never of its date or name)."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def of_array(array: np.ndarray) -> str:
    """Return the fingerprint of an array's values, type and shape."""
    array = np.ascontiguousarray(array)
    return of_bytes([str((array.dtype.str, array.shape)).encode(), array.tobytes()])


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"a fingerprint can't be taken of {type(value).__name__}")
