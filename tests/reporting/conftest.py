"""A made-up run that looks like a real one: phantom-like slices, maps on small grids, figures with intervals, names that need escaping."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pellucid.core.records import (
    Cases,
    Explanation,
    ImageSpec,
    Measurement,
    NetworkRecord,
    RunRecord,
    StageRecord,
    SweepRecord,
    SweepRow,
    Task,
    Verdict,
)

CLASSES = ("none", "solid", "ring", "diffuse")
SIDE = 96


def _slices(rng: np.random.Generator, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return brain-like images [N, S, S, 1] and lesion masks [N, S, S]."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    images, masks = [], []
    for target in targets:
        wide, tall = rng.uniform(0.30, 0.36), rng.uniform(0.38, 0.43)
        inside = (x / wide) ** 2 + (y / tall) ** 2
        folds = np.sin(28 * np.hypot(x, y * 0.8) + 3 * np.sin(7 * np.arctan2(y, x) + rng.uniform(0, 6)))
        brain = np.where(inside < 1, 95 + 18 * folds, 0) + np.where((inside > 0.93) & (inside < 1.12), 120, 0)
        cx, cy, r = rng.uniform(-0.17, 0.17), rng.uniform(-0.2, 0.2), rng.uniform(0.05, 0.1)
        away = np.hypot(x - cx, y - cy) / r
        mask = (away < 1) & (target > 0)
        lesion = {0: 0 * away, 1: 90.0 * (away < 1), 2: 110.0 * ((away < 1) & (away > 0.6)), 3: 60 * np.exp(-(away**2))}[int(target)]
        images.append(np.clip(brain + lesion + rng.normal(0, 7, brain.shape), 0, 255))
        masks.append(mask)
    return np.asarray(images, np.uint8)[..., None], np.asarray(masks)


def _maps(rng: np.random.Generator, masks: np.ndarray, side: int, *, sharp: float, signed: bool, strength: float) -> np.ndarray:
    """Return maps [N, side, side] that look at the lesion as much as `sharp` says."""
    block = SIDE // side
    share = masks[:, : block * side, : block * side].reshape(len(masks), side, block, side, block).mean((2, 4))
    glow = share + 0.35 * np.roll(share, 1, 1) + 0.35 * np.roll(share, -1, 2)
    noise = rng.normal(0, 1, glow.shape)
    noise = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)) / 3
    made = sharp * glow + (1 - sharp) * 0.35 * noise
    return (strength * (made if signed else np.abs(made) + 0.1)).astype(np.float32)


def _logits(rng: np.random.Generator, targets: np.ndarray, skill: float, n_classes: int) -> np.ndarray:
    logits = rng.normal(0, 1.1, (len(targets), n_classes))
    logits[np.arange(len(targets)), targets] += skill
    return logits.astype(np.float32)


def _spread(name: str, values: dict[str, float], half: float, **more: Any) -> list[Measurement]:
    basis = {"n_images": 118, "n_units": 31, "unit": "subjects", "method": "bootstrap by subject, 2000", "source": "scikit-learn"}
    return [Measurement(name, v, v - half * 1.1, v + half * 0.9, model=model, **(basis | more)) for model, v in values.items()]


def _measurements(classes: tuple[str, ...], methods: tuple[str, ...]) -> list[Measurement]:
    found: list[Measurement] = []
    networks = ("teacher", "base", "student")
    for name, three, half in (
        ("balanced_accuracy", (0.921, 0.884, 0.909), 0.034), ("accuracy", (0.924, 0.889, 0.912), 0.033), ("macro_f1", (0.920, 0.881, 0.907), 0.036),
        ("auc", (0.987, 0.971, 0.981), 0.011), ("cross_entropy", (0.241, 0.372, 0.284), 0.08), ("ece", (0.031, 0.062, 0.038), 0.02),
    ):  # fmt: skip
        better = "lower" if name in ("cross_entropy", "ece") else "higher"
        found += _spread(name, dict(zip(networks, three, strict=True)), half, better=better)
        t, b, s = three
        gaps = {"student - teacher": s - t, "student - base": s - b, "base - teacher": b - t}
        found += _spread(f"{name}_difference", gaps, half * 0.8, better=better)
    found += _spread("agreement", {"base": 0.871, "student": 0.915}, 0.03) + _spread(
        "kl_teacher", {"base": 0.21, "student": 0.09}, 0.04, better="lower"
    )
    for number, stratum in enumerate(classes):
        for name in ("recall", "precision", "f1", "auc"):
            if number == 3 and name == "auc":
                found += [
                    Measurement("auc", None, model=m, stratum=stratum, reason=f"no image of class {stratum} in test") for m in networks
                ]
                continue
            values = {m: 0.95 - 0.02 * number - 0.03 * k for k, m in enumerate(networks)}
            found += _spread(name, values, 0.05, stratum=stratum, n_images=30, n_units=9)
    for method in methods:
        found += _spread("similarity", {"student ~ teacher": 0.61, "base ~ teacher": 0.43}, 0.05, by=method)
        found += _spread("similarity", {"student ~ teacher": 0.66, "base ~ teacher": 0.47}, 0.05, by=method, stratum="both right")
        found += _spread("transferred", {"student - base": 0.18}, 0.06, by=method)
        for name, three, half in (("pointing_game", (0.83, 0.6, 0.74), 0.08), ("relevance_mass", (0.31, 0.17, 0.24), 0.04), ("iou", (0.34, 0.19, 0.27), 0.05),
                                  ("mask_fidelity", (0.91, 0.86, 0.9), 0.03), ("mask_fidelity_area", (0.31, 0.42, 0.35), 0.03),
                                  ("mask_fidelity_top20", (0.8, 0.71, 0.78), 0.05), ("mask_fidelity_agreement", (0.92, 0.84, 0.9), 0.04),
                                  ("met", (0.031, 0.0042, 0.0041), 0.001), ("met_p50", (0.03, 0.004, 0.004), 0.001),
                                  ("met_p95", (0.04, 0.005, 0.005), 0.002)):  # fmt: skip
            found += _spread(name, dict(zip(networks, three, strict=True)), half, by=method)
        for control in ("random_smooth", "centre_prior"):
            if method == methods[0]:
                for name, three in (
                    ("mask_fidelity", (0.7, 0.72, 0.71)),
                    ("mask_fidelity_area", (0.5, 0.5, 0.5)),
                    ("mask_fidelity_top20", (0.62, 0.64, 0.63)),
                ):
                    found += _spread(name, dict(zip(networks, three, strict=True)), 0.04, by=control)
        for number, stratum in enumerate(classes):
            for name, value in (("mask_fidelity", 0.9), ("mask_fidelity_area", 0.33)):
                found += _spread(
                    name, dict.fromkeys(networks, value - 0.02 * number), 0.06, by=method, stratum=stratum, n_images=30, n_units=9
                )
    found += _spread("mask_share", {"": 0.022}, 0.004)
    costs = (("parameters", (6_957_956, 334_212, 334_212)), ("multiply_adds", (5.31e8, 2.4e7, 2.4e7)), ("file_size", (28_100_000, 1_345_000, 1_345_000)),
             ("latency_p50", (28.1, 3.12, 3.11)), ("latency_p95", (31.4, 3.6, 3.58)), ("throughput", (48.0, 810.0, 812.0)), ("peak_memory", (9.1e7, 1.1e7, 1.1e7)))  # fmt: skip
    for name, three in costs:
        timed = name.startswith(("latency", "throughput"))
        method = "measured 200 times, 1 thread" if timed else "counted"
        better = "higher" if name == "throughput" else "lower"
        found += [Measurement(name, float(v), model=m, method=method, better=better) for m, v in zip(networks, three, strict=True)]  # type: ignore[arg-type]
    return found


# By method: student minus teacher in fidelity, and teacher over student in time, each with an interval that decides or doesn't.
EASIER = {"average_feature_map": ((0.002, -0.021, 0.025), (7.4, 7.1, 7.8)), "grad_cam": ((-0.041, -0.066, -0.018), (7.6, 7.2, 8.0)),
          "gradient_shap": ((0.052, 0.024, 0.081), (9.1, 8.8, 9.5)), "kernel_shap": ((None, None, None), (8.8, 8.6, 9.1))}  # fmt: skip
SECONDS = {"gradient_shap": (1.31, 0.144, 0.145), "kernel_shap": (14.2, 1.62, 1.61)}


def _comparisons(methods: tuple[str, ...]) -> list[Measurement]:
    """Return what "Is the student easier to explain?" rests on."""
    found: list[Measurement] = []
    of_maps = {
        "n_images": 118,
        "n_units": 31,
        "unit": "subjects",
        "method": "bootstrap by subject, 2000",
        "source": "paired on the same images",
    }
    timed = {"n_images": 20, "n_units": 20, "unit": "images", "method": "measured on 20 images; bootstrap by image, 2000"}
    for method in methods:
        (value, low, high), (times, least, most) = EASIER[method]
        why = "not judged: every map of the student is dead" if value is None else "Wilcoxon on subjects, Holm over 4: p = 0.013"
        found.append(
            Measurement("mask_fidelity_gain_difference", value, low, high, model="student - teacher", by=method, reason=why, **of_maps)
        )
        found.append(Measurement("met_ratio", times, least, most, model="teacher / student", by=method, **timed))
        for name in ("pointing_game_difference", "iou_difference"):
            found.append(Measurement(name, 0.01, -0.04, 0.06, model="student - teacher", by=method, **of_maps))
    for method, three in SECONDS.items():
        if method in methods:
            for k, (model, seconds) in enumerate(zip(("teacher", "base", "student"), three, strict=True)):
                share = 1000 * seconds / (31 if model == "teacher" else 4.2)
                for name, times in (("met", 1.0), ("met_p50", 1.0), ("met_p95", 1.2)):
                    value = times * seconds
                    found.append(Measurement(name, value, 0.97 * value, 1.04 * value, model=model, by=method, better="lower", **timed))
                against = {"average_feature_map": share, "grad_cam": share}
                against |= {other: seconds / SECONDS[other][k] for other in SECONDS if other != method and other in methods}
                for other, times in against.items():
                    found.append(
                        Measurement("met_ratio", times, 0.95 * times, 1.05 * times, model=model, by=f"{method} / {other}", **timed)
                    )
                found.append(
                    Measurement(
                        "completeness_gap",
                        0.021,
                        0.015,
                        0.034,
                        model=model,
                        by=method,
                        better="lower",
                        reason="too small to say on 7 of 118 images",
                        **of_maps,
                    )
                )
    return found


def _with_comparisons(classes: tuple[str, ...], methods: tuple[str, ...]) -> list[Measurement]:
    compared = _comparisons(methods)
    known = {(m.name, m.by, m.model) for m in compared}
    return [m for m in _measurements(classes, methods) if m.stratum != "all" or (m.name, m.by, m.model) not in known] + compared


VERDICTS = [
    Verdict("Is it as right?", "not distinguishable", "open", "-0.012 [-0.039, +0.015]", ("student 0.909, base 0.884", "about 190 subjects would be needed"),
            "Yes if the lower end of the paired 95 % interval of student minus teacher balanced accuracy lies above -0.02.", "accuracy"),
    Verdict("Does it look where the teacher looks?", "yes, more than by itself", "good", "transferred +0.18 [+0.11, +0.23]", ("kept? not judged: no twin",),
            "Yes if the 95 % interval of transferred (student's similarity to the teacher minus the base's) lies above 0.", "maps"),
    Verdict("Is it small and fast?", "21x smaller, 9.0x faster", "good", "0.334 M parameters, 3.11 ms", ("teacher 6.96 M, 28.1 ms",),
            "Parameters and median latency for one image, against the teacher's.", "cost"),
    Verdict("Is the data sound?", "2 warnings", "open", "0 subjects in training and test", ("near-duplicates 2, associations: scanner",),
            "Sound if no subject, group or copy of an image stands on both sides of the split.", "data"),
]  # fmt: skip


def make_record(
    *,
    n: int = 118,
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
    leak: bool = False,
    grids: tuple[int, int] = (6, 8),
    colour: bool = False,
    shap: bool = False,
) -> RunRecord:
    """Return a run on `n` test images; `grids` are the sides of the teacher's and the small networks' maps, `shap` adds two full-grid methods."""
    methods = ("average_feature_map", "grad_cam", *(("gradient_shap", "kernel_shap") if shap else ()))
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(classes), n)
    images, masks = _slices(rng, np.minimum(targets, 3))
    if colour:
        images = np.concatenate([images, images // 2, images // 3], axis=3)
    logits = {
        "teacher": _logits(rng, targets, 4.2, len(classes)),
        "base": _logits(rng, targets, 2.7, len(classes)),
        "student": _logits(rng, targets, 3.6, len(classes)),
    }
    sharp = {"teacher": 0.85, "base": 0.4, "student": 0.65}
    explanations = []
    for method, signed in (("average_feature_map", False), ("grad_cam", True)):
        for role in logits:
            side = grids[0] if role == "teacher" else grids[1]
            maps = _maps(rng, masks, side, sharp=sharp[role], signed=signed, strength=3.0 if role == "teacher" else 0.4)
            if signed and role == "base":
                maps[::17] = 0.0
            layer = "denseblock3" if role == "teacher" else "conv4"
            explanations.append(Explanation(maps, logits["teacher"].argmax(1), role, method, layer, (SIDE, SIDE), signed=signed))
    for method in methods[2:]:
        for role in logits:
            maps = _maps(rng, masks, SIDE if method == "gradient_shap" else 12, sharp=sharp[role], signed=True, strength=0.01)
            maps = np.ascontiguousarray(maps.repeat(SIDE // maps.shape[1], 1).repeat(SIDE // maps.shape[2], 2))
            if method == "kernel_shap" and role == "student":
                maps[3::9] = 0.0
            explanations.append(Explanation(maps, logits["teacher"].argmax(1), role, method, "", (SIDE, SIDE), signed=True))
    small = min(grids) < 6
    similarity = {
        (role, m): np.full(n, np.nan) if small else np.clip(rng.normal(mean, 0.17, n), -0.3, 0.97)
        for role, mean in (("student", 0.6), ("base", 0.4))
        for m in methods
    }
    similarity["student", "grad_cam"][5] = np.nan
    similarity["base", "grad_cam"][::17] = np.nan
    rows = list(range(0, min(n, 60), 3))
    panel = [
        Explanation(np.abs(_maps(rng, masks[rows], side, sharp=0.5, signed=False, strength=1.0)), targets[rows], "student", "average_feature_map", f"conv{k + 1}", (SIDE, SIDE), signed=False)
        for k, side in enumerate((96, 48, 24, 12, 6))
    ]  # fmt: skip
    ids = [f"test/{classes[t]}/s{i // 4:03d}_slice{i % 4}.png" for i, t in enumerate(targets)]
    ids[0] = 'ümlaut & <b>"quotes"</b>.png'
    cases = Cases(ids, images, masks, targets, [f"s{i // 4:03d}" for i in range(n)], logits, explanations, similarity, panel, rows)

    def network(role: str, architecture: str, channels: int) -> NetworkRecord:
        spec = ImageSpec(SIDE, channels, (0.21,) * channels, (0.2,) * channels)
        epochs = 25 if role == "teacher" else 60
        history = [
            {"epoch": e, "seconds": 1.2, "lr": 1e-3 * (1 - e / epochs), "train.total": 1.3 * np.exp(-e / 12) + 0.05, "train.ce": 0.9 * np.exp(-e / 12), "train.kl": 0.4 * np.exp(-e / 9),
             "val.cross_entropy": 1.1 * np.exp(-e / 10) + 0.3 + 0.002 * e, "val.balanced_accuracy": 0.9 - 0.6 * np.exp(-e / 8)}
            for e in range(1, epochs + 1)
        ]  # fmt: skip
        return NetworkRecord(
            role,
            architecture,
            {"preset": "paper"} if architecture == "cnn5" else {},
            spec,
            f"{role[0]}3fa9c01b7d2",
            history,
            epochs - 4,
            "fp32",
            f"trained as {role}",
        )

    channels = images.shape[-1]
    networks = {
        "teacher": network("teacher", "densenet121", channels),
        "base": network("base", "cnn5", channels),
        "student": network("student", "cnn5", channels),
    }
    findings = [
        {
            "level": "warning",
            "text": "2 pairs of test and training images are near-duplicates (correlation at least 0.98).",
            "evidence": "duplicates",
        },
        {
            "level": "warning",
            "text": 'The column "scanner" goes with the class (Cramér\'s V 0.41): it can serve as a shortcut.',
            "evidence": "associations",
        },
        {"level": "note", "text": "The rarest class has 26 test images.", "evidence": "counts"},
    ]
    if leak:
        findings.insert(0, {"level": "leak", "text": "12 subjects have images in training and test.", "evidence": "crossing"})
    pairs = [
        {
            "a": ids[k],
            "b": f"train/{classes[0]}/x{k}.png",
            "r": 0.991 - 0.004 * k,
            "transform": "flip" if k else "none",
            "splits": ["test", "train"],
            "labels": [classes[0], classes[k]],
            "across": True,
        }
        for k in range(2)
    ]
    counts = {split: {c: int(share * 100) + 7 * k for k, c in enumerate(classes)} for split, share in (("train", 1.4), ("val", 0.3))}
    counts["test"] = {c: int((targets == k).sum()) for k, c in enumerate(classes)}
    audit = {
        "counts": counts, "unit": "subjects", "n_units": {"train": 141, "val": 30, "test": 31},
        "crossing": [{"column": "subject", "units": 12 if leak else 0, "examples": ["s001", "s004"] if leak else [], "images": 48 if leak else 0}],
        "duplicates": {"exact": {"pairs": 0, "across_splits": 0}, "near": {"pairs": 5, "across_splits": 2, "cut": 0.98, "across_labels": 1}, "shown": pairs,
                       "blind_to": "Copies that were cropped or shifted by more than a few pixels aren't found."},
        "associations": [{"column": "scanner", "kind": "category", "cramers_v": 0.412, "n": 730, "levels": 3}, {"column": "age & sex", "kind": "number", "cramers_v": 0.081, "n": 690, "levels": 4}],
        "left_out": {"pid": "every image has its own value"}, "findings": findings, "split": "held out by subject, stratified by class, seed 0",
    }  # fmt: skip
    settings = {
        "data": {"source": "phantom", "split": "subject", "size": SIDE, "mean": None, "views": 8, "view_parts": ["crop", "flip"]},
        "teacher": {"model": "densenet121", "epochs": 25, "lr": 1e-3}, "student": {"model": "cnn5", "epochs": 60},
        "distill": {"loss": "logit_kd", "alpha": 0.4, "temperature": 10.0}, "explain": {"methods": ["average_feature_map", "grad_cam"], "target": "teacher"},
        "measure": {"margin": 0.02, "resamples": 2000}, "run": {"seed": 0, "title": ""},
    }  # fmt: skip
    data = {"counts": counts, "units": audit["n_units"], "unit": "subjects", "split": audit["split"], "source": "phantom, 96 px, seed 0", "n_images": 730,
            "skipped": ["bad/ends early.png"], "size": SIDE, "channels": channels, "mean": [0.21] * channels, "std": [0.2] * channels}  # fmt: skip
    return RunRecord(
        title="phantom", created="2026-11-25 22:40", command="pellucid run phantom.toml distill.alpha=0.4", task=Task("single", classes), settings=settings, data=data,
        contact={c: images[targets == k][:8] for k, c in enumerate(classes)}, audit=audit, duplicates=[(p, images[k], images[k + 1]) for k, p in enumerate(pairs)],
        networks=networks, targets=cases.targets, logits=cases.logits, cases=cases, measurements=_with_comparisons(classes, methods), verdicts=VERDICTS,
        stages=[StageRecord("data", "d41d8cd98f00", 3.2, False), StageRecord("teacher", "9e107d9d372b", 812.0, True), StageRecord("base", "e4d909c290d0", 190.4, False), StageRecord("student", "c3fcd3d76192", 201.7, False), StageRecord("explain", "ab56b4d92b40", 9.1, False)],
        versions={"pellucid": "0.1.0", "python": "3.11.9", "torch": "2.14.1", "machine": "2 cores, Linux"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def record() -> RunRecord:
    """A run with 118 test images: more than the page shows as plain pictures."""
    return make_record()


@pytest.fixture(scope="session")
def transparent() -> RunRecord:
    """A run with SHAP beside the other methods, at the images' full grid."""
    return make_record(n=64, shap=True)


@pytest.fixture(scope="session")
def nasty() -> RunRecord:
    """A run whose names hold markup, quotes, umlauts and a closing script tag."""
    made = make_record(n=30, classes=("a<b", 'say "x"', "</script><script>alert(1)</script>", "Größe & Maß"), leak=True)
    return replace(made, title="<img src=x onerror=alert(1)> & Söhne", command='pellucid run "my <file>.toml"')


@pytest.fixture(scope="session")
def build():
    """The builder itself, for runs with other grids, sizes or findings."""
    return make_record


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium; without one the test is skipped, but on CI it fails."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("PELLUCID_CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        message = "There is no Chromium on PATH; set PELLUCID_CHROMIUM to one to run the browser tests."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return path


def _figure(name, value, model, *, split="val", by="", half=0.04):
    signed = name.endswith("_difference")
    return Measurement(
        name, value, value - half, value + half, n_images=120, n_units=30, unit="subjects", model=model, split=split, by=by,
        method="bootstrap by subject, 2000", better="neither" if signed else "higher",
    )  # fmt: skip


def _setting(alpha, temperature, value, *, test=False):
    found = [_figure("balanced_accuracy", v, m) for m, v in (("teacher", 0.9), ("base", 0.8), ("student", value))]
    found += [_figure("balanced_accuracy_difference", value - v, f"student - {m}") for m, v in (("base", 0.8), ("teacher", 0.9))]
    if test:
        found += [
            _figure("balanced_accuracy", value - 0.02, "student", split="test"),
            _figure("met", 0.5, "student", split="test", by="grad_cam"),
        ]
        found += [_figure("balanced_accuracy_difference", value - 0.92, "student - teacher", split="test")]
    link = f"runs/alpha={alpha:g},temperature={temperature}/report.html" if test else ""
    return SweepRow({"distill.alpha": alpha, "distill.temperature": temperature}, found, [("seed 0", link), ("seed 1", link)], 61.0)


@pytest.fixture(scope="session")
def swept():
    """Return a sweep over alpha and temperature with two seeds, whose last setting was chosen and reported."""
    rows = [_setting(a, t, 0.8 + 0.01 * k, test=k == 5) for k, (a, t) in enumerate((a, t) for a in (0.4, 0.7) for t in (5, 10, 15))]
    return SweepRecord(
        title="Tumours <& more>", created="2026-01-01", command="pellucid sweep x.toml",
        axes={"distill.alpha": [0.4, 0.7], "distill.temperature": [5, 10, 15], "run.seed": [0, 1]}, repeats=["run.seed"],
        choose="balanced_accuracy", rows=rows, chosen=5, why="its student has the highest balanced accuracy on validation", failed=[],
        settings={"run": {"seed": 0}}, versions={"pellucid": "1"},
    )  # fmt: skip
