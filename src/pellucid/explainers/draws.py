"""Random draws that belong to one image: the same in whatever batch it stands, and without touching anybody else's draws."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pellucid.core.rng import derive


def image_seed(image: Tensor, seed: int, purpose: str) -> int:
    """Return a seed that follows from an image's pixels, a seed and a purpose, and from nothing else.

    Two networks that see the same pixels get the same draws, so that their maps differ by the networks alone.

    Parameters
    ----------
    image : float Tensor [C, H, W]
    seed : int
    purpose : str
    """
    pixels = image.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return derive(seed, f"{purpose} {hashlib.sha256(pixels).hexdigest()}")


@contextlib.contextmanager
def drawing(seed: int, device: torch.device) -> Iterator[None]:
    """Let the global generators of torch and NumPy, which captum draws from, begin at `seed`; afterwards they go on as if nothing had been drawn."""
    before = np.random.get_state()  # noqa: NPY002 (captum draws from the global generator)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Not torch.manual_seed: it would seed every accelerator of the machine.
        torch.random.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
