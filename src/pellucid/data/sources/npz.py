"""Images and labels in one NumPy archive, also in the layout of MedMNIST."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from pellucid.core import fingerprint
from pellucid.core.errors import SourceError
from pellucid.core.registry import part
from pellucid.core.settings import DataSettings
from pellucid.data import table
from pellucid.data.dataset import Dataset

_SIDES = ("train", "val", "test")


@part(suffixes=(".npz",))
def npz(path: Path, settings: DataSettings) -> Dataset:
    """An .npz with images and labels, or with MedMNIST's train_images, train_labels, val_images and so on.

    Parameters
    ----------
    path : Path
        ``images`` [N, H, W], [N, H, W, 1] or [N, H, W, 3], uint8 (or uint16 grey); ``labels`` [N] or [N, 1], numbers or text.
        Further arrays of N numbers or texts become columns (``subject``, ``group``, ...); ``masks`` [N, H, W] are taken as masks.
    settings : DataSettings

    Returns
    -------
    Dataset
        ``columns["split"]`` holds train, val or test in the layout of MedMNIST.

    Raises
    ------
    SourceError
        Not an .npz, arrays missing, or of shapes and types that don't fit.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (TypeError, ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: not a readable .npz file ({error}).") from None
    parts = [(side, f"{side}_") for side in _SIDES if f"{side}_images" in arrays] or [("", "")]
    rows: list[table.Row] = []
    pixels: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    for side, prefix in parts:
        images, labels = _pair(arrays, prefix, path)
        columns = _columns(arrays, prefix, len(images)) if not prefix else {}
        for key in dict.fromkeys((settings.subject, settings.group)):
            if not prefix and key in arrays and key not in columns:
                raise SourceError(
                    f"{path}: {key} is {list(arrays[key].shape)} for {len(images):,} images. Needed: one value for each image."
                )
        findings = _masks(arrays[f"{prefix}masks"], images, path) if f"{prefix}masks" in arrays else None
        for i, label in enumerate(labels):
            name = f"{side or 'image'}_{i:06d}"
            pixels[name] = images[i]
            row = {"path": name, "label": label, **({"split": side} if side else {}), **{key: values[i] for key, values in columns.items()}}
            if findings is not None:
                masks[name] = findings[i]
                row["mask"] = name
            rows.append(row)
    return table.build(
        rows, settings.model_copy(update={"path": "path", "mask": "mask"}), name=path.stem, source={"kind": "npz", "path": str(path)},
        stamp=lambda name: fingerprint.of_array(pixels[name]) + (fingerprint.of_array(masks[name]) if name in masks else ""),
        read=lambda name: pixels[name], read_mask=masks.get,
    )  # fmt: skip


def _pair(arrays: dict[str, np.ndarray], prefix: str, path: Path) -> tuple[np.ndarray, list[str]]:
    missing = [f"{prefix}{name}" for name in ("images", "labels") if f"{prefix}{name}" not in arrays]
    if missing:
        raise SourceError(f"{path}: holds no {' and no '.join(missing)}. There are: {', '.join(arrays) or 'no arrays'}.")
    images, labels = arrays[f"{prefix}images"], arrays[f"{prefix}labels"]
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[-1] == 3
    if not (grey or colour) or 0 in images.shape[1:3] or images.dtype not in ((np.uint8, np.uint16) if grey else (np.uint8,)):
        raise SourceError(f"{path}: {prefix}images is {images.dtype} {list(images.shape)}. Needed: uint8 [N, H, W] or [N, H, W, 3], or uint16 [N, H, W].")  # fmt: skip
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(images),):
        raise SourceError(f"{path}: {prefix}labels is {list(labels.shape)} for {len(images):,} images. Needed: one label for each image.")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise SourceError(f"{path}: {prefix}labels holds {int((~np.isfinite(labels)).sum()):,} values that are no number. Each image needs a label.")  # fmt: skip
    return images, _texts(labels)


def _columns(arrays: dict[str, np.ndarray], prefix: str, n: int) -> dict[str, list[str]]:
    own = {f"{prefix}{name}" for name in ("images", "labels", "masks")}
    return {name: _texts(values) for name, values in arrays.items() if name not in own and values.shape == (n,)}


def _masks(masks: np.ndarray, images: np.ndarray, path: Path) -> np.ndarray:
    if masks.shape != images.shape[:3]:
        raise SourceError(f"{path}: masks is {list(masks.shape)} for images of {list(images.shape)}. Needed: one mask of the same height and width for each.")  # fmt: skip
    return masks > 0


def _texts(values: np.ndarray) -> list[str]:
    """Numbers as people write them: 3.0 is the label "3"."""
    return [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in values.tolist()]
