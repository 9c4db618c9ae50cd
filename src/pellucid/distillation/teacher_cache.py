"""The teacher's logits, computed once for each (image, view) and shared by every student of that teacher."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pellucid.core import files
from pellucid.core.fingerprint import fingerprint, of_bytes
from pellucid.core.progress import track
from pellucid.core.records import ImageSpec
from pellucid.core.workspace import Workspace
from pellucid.data.dataset import Subset
from pellucid.data.views import Views, normalise
from pellucid.models.saved import Network
from pellucid.training.precision import Precision

VERSION = 2
BATCH = 64


def teacher_logits(
    teacher: Network, train: Subset, views: Views, n_views: int, precision: Precision, workspace: Workspace, *, key: str
) -> np.ndarray:
    """Return the teacher's logits on every view of every training image.

    Parameters
    ----------
    teacher : Network
        Runs in eval mode; unchanged.
    train : Subset
    views : Views
    n_views : int
    precision : Precision
        Number format of the forward passes, part of the key.
    workspace : Workspace
        Keeps one file per view, so that a stopped computation goes on and more views reuse those there are.
    key : str
        Fingerprint of the data: pixels, rows of the training split, views (``Data.key``).

    Returns
    -------
    float32 array [n_views, n, K]
        ``result[v, i]`` belongs to position i of `train` in view v.
    """
    # A network that wasn't trained here has no fingerprint; its weights then tell it from another.
    entry = fingerprint("teacher_logits", VERSION, teacher.fingerprint or checksum(teacher.model), key, precision.name)
    with workspace.lock("caches", entry) as folder:
        files.remove_leftovers(folder)
        paths = [folder / f"view-{view:03d}.npy" for view in range(n_views)]
        missing = [view for view, path in enumerate(paths) if not path.exists()]
        blocks = -(-len(train) // BATCH)
        jobs = [(view, block) for view in missing for block in range(blocks)]
        model = precision.place(copy.deepcopy(teacher.model)).eval()  # the teacher itself stays as and where it is
        parts: list[np.ndarray] = []
        for view, block in track(jobs, "teacher logits on training views", each=BATCH):
            parts.append(_block(model, teacher.spec, train[block * BATCH : (block + 1) * BATCH], views, view, precision))
            if block == blocks - 1:
                _write(paths[view], np.concatenate(parts))
                parts.clear()
        return np.stack([np.load(path) for path in paths])


def _block(model: nn.Module, spec: ImageSpec, images: Subset, views: Views, view: int, precision: Precision) -> np.ndarray:
    drawn = normalise(views.draw(images.pixels, images.rows, view), spec)
    with torch.inference_mode(), precision.autocast():
        return model(precision.place(drawn)).float().cpu().numpy()


def _write(path: Path, logits: np.ndarray) -> None:
    with files.atomic(path, kind="cache") as stream:
        np.save(stream, logits)


def checksum(model: nn.Module) -> str:
    """Return a checksum of all of a network's tensors, to show that distilling didn't change the teacher."""
    return of_bytes(
        name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, tensor in sorted(model.state_dict().items())
    )
