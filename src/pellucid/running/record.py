"""Gather a run's results into the one record that the report draws, and keep them as files."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pellucid.core import files
from pellucid.core.records import Cases, Explanation, Measurement, NetworkRecord, RunRecord, StageRecord
from pellucid.data.dataset import Subset
from pellucid.data.load import Data
from pellucid.measures.judged import Judged, Judgement, Scores
from pellucid.measures.verdict import judge as reach_verdicts
from pellucid.models.saved import Network

CONTACT, THUMBNAIL = 8, 64
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow", "pellucid")
_MEASUREMENTS = ".measurements"  # beside the values per image, of which none is called so
OPTIONAL = ("captum", "scikit-image")  # of an extra
VERSIONS = {"explain": 4, "measure": 8}  # of stages: raise by hand when a stage's results change


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    there = [name for name in OPTIONAL if any(metadata.distributions(name=name))]
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in (*LIBRARIES, *there)}}


def networks(found: Mapping[str, Network]) -> dict[str, NetworkRecord]:
    """Return what the report says of each network."""
    return {
        role: NetworkRecord(
            role, network.architecture, network.options, network.spec, network.fingerprint, network.history,
            network.best_epoch, network.precision, network.provenance,
        )
        for role, network in found.items()
    }  # fmt: skip


def cases(scores: Scores, explanations: list[Explanation], panel: list[Explanation], panel_rows: np.ndarray) -> Cases:
    """Return the explained test images with all that the case browser shows."""
    judged = scores.judged
    rows, shown = judged.rows, judged.images[judged.rows]
    place = {int(row): i for i, row in enumerate(rows)}
    return Cases(
        ids=shown.ids,
        images=shown.pixels,
        masks=shown.masks,
        targets=shown.targets,
        subjects=shown.subjects,
        logits={role: logits[rows] for role, logits in judged.logits.items()},
        explanations=explanations,
        similarity={
            (role, method): scores.per_image[f"similarity/{method}/{role}"][rows]
            for method in judged.methods
            for role in judged.roles
            if f"similarity/{method}/{role}" in scores.per_image
        },
        panel=panel,
        panel_rows=[place[int(row)] for row in panel_rows],
    )


def data_facts(data: Data) -> dict[str, Any]:
    """Return counts, units and normalisation as the report shows them."""
    counts = {
        side.split: {name: int((side.targets == k).sum()) for k, name in enumerate(data.classes)}
        for side in (data.train, data.val, data.test)
    }
    return {
        "counts": counts,
        "units": {side.split: len(np.unique(side.units)) for side in (data.train, data.val, data.test)},
        "unit": data.dataset.unit_name,
        "split": data.split.how,
        "source": data.dataset.source,
        "n_images": len(data.dataset),
        "skipped": [f"{name}: {reason}" for name, reason in data.dataset.skipped.items()],
        "size": data.settings.size,
        "channels": data.channels,
        "mean": list(data.mean),
        "std": list(data.std),
        "content": data.dataset.content,
    }


def contact_sheet(data: Data) -> dict[str, np.ndarray]:
    """Return a few training thumbnails of each class, uint8 [n, s, s, C]."""
    train = data.train
    sheet = {}
    for k, name in enumerate(data.classes):
        where = np.flatnonzero(train.targets == k)
        chosen = where[np.linspace(0, len(where) - 1, min(CONTACT, len(where))).astype(int)]
        sheet[name] = np.stack([thumbnail(image) for image in train[chosen].pixels])
    return sheet


def duplicate_pictures(data: Data) -> list[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """Return the pairs that the audit shows, each with its two pictures."""
    place = {name: row for row, name in enumerate(data.dataset.ids)}
    shown = data.audit.get("duplicates", {}).get("shown", [])
    return [(pair, *(thumbnail(np.asarray(data.store.images[place[pair[side]]])) for side in "ab")) for pair in shown]


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return uint8 [s, s, C] with s at most 64, made from uint8 [S, S, C]."""
    if image.shape[0] <= THUMBNAIL:
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(THUMBNAIL, THUMBNAIL, image.shape[2])


def assemble(
    *,
    title: str,
    command: str,
    settings: dict[str, Any],
    data: Data | None,
    scores: Scores,
    explanations: list[Explanation],
    panel: list[Explanation],
    panel_rows: np.ndarray,
    audit: dict[str, Any],
    stages: list[StageRecord],
    versions: dict[str, str],
) -> RunRecord:
    """Return the whole record of a run, or (without `data`) of networks measured by hand."""
    return RunRecord(
        title=title,
        created=time.strftime("%Y-%m-%d"),
        command=command,
        task=scores.judged.images.dataset.task,
        settings=settings,
        data={} if data is None else data_facts(data),
        contact={} if data is None else contact_sheet(data),
        audit=audit,
        duplicates=[] if data is None else duplicate_pictures(data),
        networks=networks(scores.judged.networks),
        targets=scores.judged.targets,
        logits=scores.judged.logits,
        cases=cases(scores, explanations, panel, panel_rows),
        measurements=scores.measurements,
        verdicts=scores.verdicts,
        stages=stages,
        versions=versions,
    )


def write_scores(folder: Path, scores: Scores) -> None:
    """Keep measurements and the values per image."""
    files.write_npz(folder / "judgements.npz", scores.per_image, kind="judgements")
    content = {
        "interval": "95 %",
        "stage_versions": VERSIONS,
        "unit": scores.judged.unit,
        "measurements": [measurement.to_json() for measurement in scores.measurements],
        "verdicts": [asdict(verdict) for verdict in scores.verdicts],
    }
    files.write_json(folder / "measurements.json", content, kind="measurements")


def read_scores(folder: Path, judged: Judged, audit: dict[str, Any]) -> Scores:
    """Return what :func:`write_scores` kept; verdicts are reached anew, by the rules of this version."""
    measurements = [Measurement.from_json(entry) for entry in files.read_json(folder / "measurements.json")["measurements"]]
    with np.load(folder / "judgements.npz", allow_pickle=False) as content:
        per_image = dict(content)
    return Scores(measurements, reach_verdicts(measurements, audit, settings=judged.settings), per_image, judged, audit)


def write_judgement(path: Path, judgement: Judgement) -> None:
    """Keep what one measure says."""
    measurements = np.array(json.dumps([measurement.to_json() for measurement in judgement.measurements]))
    files.write_npz(path, {**judgement.per_image, _MEASUREMENTS: measurements}, kind="part")


def read_judgement(path: Path, n_images: int) -> Judgement:
    """Return what :func:`write_judgement` kept of so many test images; a ValueError where it can't be."""
    with np.load(path, allow_pickle=False) as content:
        arrays = dict(content)
    measurements = [Measurement.from_json(entry) for entry in json.loads(str(arrays.pop(_MEASUREMENTS)))]
    if any(values.shape[:1] != (n_images,) for values in arrays.values()):
        raise ValueError(f"{path}: not one value for each image")
    return Judgement(measurements, arrays)


def write_predictions(folder: Path, test: Subset, val: Subset, logits: dict[str, np.ndarray], val_logits: dict[str, np.ndarray]) -> None:
    """Keep every network's logits with ids, targets and subjects: what comparing and pooling runs needs."""
    arrays: dict[str, Any] = {"classes": np.array(test.classes)}
    for side, outputs in ((test, logits), (val, val_logits)):
        arrays |= {f"{side.split}.ids": np.array(side.ids), f"{side.split}.targets": side.targets}
        arrays[f"{side.split}.units"] = side.unit_names
        arrays |= {f"{side.split}.logits.{role}": values.astype(np.float32) for role, values in outputs.items()}
    files.write_npz(folder / "predictions.npz", arrays, kind="predictions")
