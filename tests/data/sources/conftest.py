"""Small image files for the tests of sources."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Return a function that makes a small grey PNG, unlike that of any other seed."""

    def make(seed: int = 0, size: int = 12) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)).save(stream, "PNG")
        return stream.getvalue()

    return make


@pytest.fixture
def class_folder(tmp_path, png):
    """Return a folder, with a space and an umlaut in its name, of two classes with three images each."""
    root = tmp_path / "my scäns"
    for number in range(6):
        path = root / ("cat" if number < 3 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return root
