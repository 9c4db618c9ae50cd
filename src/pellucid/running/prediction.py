"""Prediction on files, along the same path as evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pellucid.core.errors import RunError, SettingError, SourceError, UnreadableError, listing
from pellucid.core.progress import track
from pellucid.core.records import ImageSpec
from pellucid.data.images import decode, fit, to_grey, to_rgb
from pellucid.data.views import to_input
from pellucid.models.saved import Network, load
from pellucid.stats.classification import softmax

BATCH = 32


def predict_files(model: Path, paths: list[Path], *, on_error: str = "stop") -> list[list[str]]:
    """Classify image files.

    Parameters
    ----------
    model : Path
        A run folder, or a network that Pellucid saved.
    paths : list of Path
        Files, and folders (searched for images, in the order of their names).
    on_error : str
        ``stop`` at images that can't be read, or ``skip`` them (their line says why).

    Returns
    -------
    list of rows: a header, then file, class, probability, and the probability of each class.

    Raises
    ------
    RunError, WeightsError, SourceError, UnreadableError
        As the messages say.
    """
    if on_error not in ("stop", "skip"):
        raise SettingError(f'--on-error "{on_error}": stop or skip.', setting="on_error")
    network = load(_student_of(model) if model.is_dir() else model)
    files = _files(paths)
    pixels, broken = [], {}
    for path in files:
        try:
            pixels.append(_stored(path, network.spec))
        except (ValueError, OSError) as error:
            broken[str(path)] = str(error)
    if broken and (on_error == "stop" or not pixels):
        shown = listing([f"{path}: {reason}" for path, reason in broken.items()])
        raise UnreadableError(
            f"{len(broken)} of {len(files)} images can't be read ({shown}). Mend or leave them out, or use --on-error skip.", files=broken
        )
    probabilities = softmax(np.concatenate(list(_logits(network, pixels))))
    answers = iter(probabilities)
    rows = [["file", "class", "probability", *network.task.classes]]
    for path in files:
        if str(path) in broken:
            rows.append([str(path), f"unreadable: {broken[str(path)]}", "", *[""] * network.task.n_classes])
        else:
            answer = next(answers)
            rows.append([str(path), network.task.classes[answer.argmax()], f"{answer.max():.4f}", *(f"{p:.4f}" for p in answer)])
    return rows


def _student_of(run: Path) -> Path:
    path = run / "student.safetensors"
    if not path.is_file():
        raise RunError(f"{run}: holds no student yet. `pellucid distill {run}` makes it, or goes on with it.")
    return path


def _files(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    absent = [str(path) for path in paths if not path.exists()]
    if absent:
        raise SourceError(f"no such file or folder: {listing(absent)}.")
    for path in paths:
        found += (
            sorted(entry for entry in path.rglob("*") if entry.is_file() and not entry.name.startswith(".")) if path.is_dir() else [path]
        )
    if not found:
        raise SourceError(f"{listing([str(path) for path in paths])}: holds no files.")
    return found


def _stored(path: Path, spec: ImageSpec) -> np.ndarray:
    """Decode a file just as the store does, uint8 [S, S, channels]."""
    image = fit(decode(path.read_bytes()), spec.stored_size or spec.size, spec.fit, spec.window)
    return to_rgb(image) if spec.channels == 3 else to_grey(image)[..., None]


def _logits(network: Network, pixels: list[np.ndarray]) -> Iterator[np.ndarray]:
    starts = range(0, len(pixels), BATCH)
    for start in track(starts, "prediction", each=BATCH):
        yield network.logits(to_input(np.stack(pixels[start : start + BATCH]), network.spec))
