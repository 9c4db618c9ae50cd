"""How right each network is, how well it knows it, and how closely it follows the teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pellucid.core.records import Measurement, stratum_of
from pellucid.core.registry import part
from pellucid.measures.judged import Judged, Judgement, measurement
from pellucid.stats import classification
from pellucid.stats.intervals import interval
from pellucid.stats.paired import difference

COMPARED = (("student", "teacher"), ("student", "base"), ("base", "teacher"))


@dataclass(frozen=True)
class _Figure:
    """One prediction measure: its function of (targets, logits, weights) and how to read it."""

    compute: Callable[..., Any]
    better: Literal["higher", "lower"]
    share: bool
    source: str


FIGURES = {
    "accuracy": _Figure(classification.accuracy, "higher", True, ""),
    "balanced_accuracy": _Figure(classification.balanced_accuracy, "higher", True, "mean recall over the classes present"),
    "macro_f1": _Figure(classification.macro_f1, "higher", True, "mean F1 over the classes present in the labels"),
    "auc": _Figure(classification.auc_ovr, "higher", True, "one class against the rest, mean over classes; Hand & Till 2001"),
    "cross_entropy": _Figure(classification.cross_entropy, "lower", False, "nats"),
}
ECE_SOURCE = "15 equal-width bins; Guo et al. 2017 (arXiv 1706.04599)"


class _Drawn:
    """A statistic worked out once, on all images and in every resample, and then looked up by intervals and differences."""

    def __init__(self, value: float, resampled: np.ndarray) -> None:
        self.value, self.resampled = value, resampled

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        return np.array([self.value]) if len(counts) == 1 else self.resampled


@part()
def performance(judged: Judged) -> Judgement:
    """Judge predictions: accuracy, F1, AUC, calibration, agreement with the teacher, and the differences between networks.

    Parameters
    ----------
    judged : Judged

    Returns
    -------
    Judgement
        Per network: ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``auc``, ``cross_entropy``, ``ece``, ``ece_scaled``,
        ``sensitivity_at_specificity``, ``subject_accuracy``; per class (as stratum) ``recall``, ``precision``, ``f1``, ``auc`` and
        ``sensitivity_at_specificity``; for base and student ``agreement`` and ``kl_teacher``. Per pair: ``..._difference``.
        Per image: ``correct_ROLE``, ``confidence_ROLE``, ``cross_entropy_ROLE``, ``agreement_ROLE``, ``kl_teacher_ROLE``.

    Source
    ------
    The formulas stand in :mod:`pellucid.stats.classification`, the intervals in :mod:`pellucid.stats.intervals`.
    """
    drawn = {(name, role): _draw(figure.compute, judged, role) for name, figure in FIGURES.items() for role in judged.roles}
    found: list[Measurement] = []
    for role in judged.roles:
        found += [_figure(judged, name, role, drawn[name, role]) for name in FIGURES]
        found += [*_calibration(judged, role), *_per_class(judged, role), _subject_accuracy(judged, role)]
    for role in judged.roles:
        if role != "teacher" and "teacher" in judged.networks:
            found += _like_the_teacher(judged, role)
    for a, b in COMPARED:
        if a in judged.networks and b in judged.networks:
            found += [_difference(judged, name, (a, b), drawn[name, a], drawn[name, b]) for name in FIGURES]
    return Judgement(found, _per_image(judged))


def subject_scores(logits: np.ndarray, targets: np.ndarray, subjects: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Decide once per subject: the highest mean logit over its images.

    Parameters
    ----------
    logits : float array [N, K]
    targets : int64 array [N]
    subjects : int array [N]
        Number of each image's subject, 0 to U - 1.

    Returns
    -------
    right : bool array [U]
    first : int64 array [U]
        One image of each subject.
    single : bool
        Whether every subject has one class only; otherwise a subject isn't right or wrong.
    """
    _, first, of_image = np.unique(subjects, return_index=True, return_inverse=True)
    # Log-probabilities are logits less one number for each image, so their mean would decide the same.
    total = np.zeros((len(first), logits.shape[1]))
    np.add.at(total, of_image, logits.astype(np.float64))
    return total.argmax(1) == targets[first], first, bool((targets == targets[first][of_image]).all())


def _draw(compute: Callable[..., Any], judged: Judged, role: str) -> _Drawn:
    logits = judged.logits[role]
    return _Drawn(compute(judged.targets, logits), compute(judged.targets, logits, judged.weights))


def _figure(judged: Judged, name: str, role: str, statistic: _Drawn) -> Measurement:
    figure = FIGURES[name]
    return _over_all(
        judged, name, role, statistic, share=figure.share, better=figure.better, source=figure.source, reason=_absent(judged, name)
    )


def _over_all(judged: Judged, name: str, role: str, statistic: Callable[..., Any], *, share: bool, **facts: Any) -> Measurement:
    n_units = judged.units_of(np.ones(len(judged.targets), dtype=bool))
    found = interval(statistic, judged.weights, n_units=n_units, unit=judged.unit, share=share)
    return measurement(name, found, unit=judged.unit, model=role, **facts)


def _difference(judged: Judged, name: str, pair: tuple[str, str], a: _Drawn, b: _Drawn) -> Measurement:
    figure = FIGURES[name]
    n_units = judged.units_of(np.ones(len(judged.targets), dtype=bool))
    found = difference(a, b, judged.weights, n_units=n_units, unit=judged.unit, share=figure.share)
    return measurement(
        f"{name}_difference", found, unit=judged.unit, model=" - ".join(pair), better=figure.better, source="paired on the same images"
    )


def _calibration(judged: Judged, role: str) -> list[Measurement]:
    logits, targets = judged.logits[role], judged.targets

    def ece(scale: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda counts: classification.ece(targets, logits / scale, counts)

    plain = _over_all(judged, "ece", role, ece(1.0), share=False, better="lower", source=ECE_SOURCE)
    if len(judged.val_targets) == 0 or role not in judged.val_logits:
        return [plain, Measurement("ece_scaled", None, model=role, better="lower", reason="undefined: no validation images to fit on")]
    temperature = classification.temperature_scale(judged.val_logits[role], judged.val_targets)
    reason = f"temperature {temperature:.3g}, fitted on {len(judged.val_targets):,} validation images"
    scaled = _over_all(judged, "ece_scaled", role, ece(temperature), share=False, better="lower", source=ECE_SOURCE, reason=reason)
    return [plain, scaled]


def _per_class(judged: Judged, role: str) -> list[Measurement]:
    targets, logits, weights = judged.targets, judged.logits[role], judged.weights
    on_all, resampled = classification.per_class(targets, logits), classification.per_class(targets, logits, weights)
    everyone = np.ones(len(targets), dtype=bool)
    found = []
    for k, name in enumerate(judged.classes):
        rests_on = {"recall": targets == k, "precision": logits.argmax(1) == k, "f1": everyone, "auc": everyone}
        for figure, images in rests_on.items():
            statistic = _Drawn(on_all[k][figure], resampled[k][figure])
            found.append(_of_class(judged, figure, role, name, statistic, images))
    return found + _sensitivity(judged, role)


def _of_class(
    judged: Judged, name: str, role: str, label: str, statistic: _Drawn, images: np.ndarray, *, reason: str = "", source: str = ""
) -> Measurement:
    found = interval(
        statistic, judged.weights, n_units=judged.units_of(images), unit=judged.unit, n_images=int(images.sum()), share=True
    )  # fmt: skip
    if found.value is None:
        reason = f"undefined: no image is called {label}" if name == "precision" else f"undefined: {_without(judged, label)} in test"
    return measurement(name, found, unit=judged.unit, model=role, stratum=stratum_of(label), reason=reason, source=source)


def _sensitivity(judged: Judged, role: str) -> list[Measurement]:
    """Measure the mean over classes, and each class against the rest; validation images set the thresholds."""
    name, specificity = "sensitivity_at_specificity", judged.settings.specificity
    if len(judged.val_targets) == 0 or role not in judged.val_logits:
        return [Measurement(name, None, model=role, unit=judged.unit, reason="undefined: no validation images to set the threshold")]
    thresholds = classification.thresholds_at_specificity(judged.val_targets, judged.val_logits[role], specificity)

    def compute(of_class: int | None) -> tuple[_Drawn, dict[str, Any]]:
        def statistic(*weights: np.ndarray) -> Any:
            return classification.sensitivity(judged.targets, judged.logits[role], *weights, thresholds=thresholds, of_class=of_class)

        classes = [k for k in (range(len(judged.classes)) if of_class is None else [of_class]) if (judged.targets != k).any()]
        reached = [float(np.mean(classification.softmax(judged.logits[role])[judged.targets != k, k] < thresholds[k])) for k in classes]
        left = f"it leaves {np.mean(reached):.2f}" if reached else "there is no image of another class"
        reason = f"threshold at specificity {specificity:g} on validation; on test {left}"
        return _Drawn(statistic(), statistic(judged.weights)), {"reason": reason, "source": "one class against the rest"}

    drawn, facts = compute(None)
    found = [_over_all(judged, name, role, drawn, share=True, **facts)]
    for k, label in enumerate(judged.classes):
        drawn, facts = compute(k)
        found.append(_of_class(judged, name, role, label, drawn, judged.targets == k, **facts))
    return found


def _subject_accuracy(judged: Judged, role: str) -> Measurement:
    facts: dict[str, Any] = {"model": role, "source": "highest mean logit over a subject's images"}
    if judged.unit != "subjects":
        return Measurement("subject_accuracy", None, reason="undefined: the data name no subjects", **facts)
    right, first, single = subject_scores(judged.logits[role], judged.targets, judged.units)
    if not single:
        return Measurement("subject_accuracy", None, unit="subjects", reason="undefined: some subjects have several classes", **facts)

    def statistic(counts: np.ndarray) -> np.ndarray:
        of_subject = counts[:, first]
        return of_subject @ right / of_subject.sum(1)

    found = interval(statistic, judged.weights, n_units=len(first), unit=judged.unit, share=True)
    return measurement("subject_accuracy", found, unit=judged.unit, **facts)


def _like_the_teacher(judged: Judged, role: str) -> list[Measurement]:
    teacher, other = judged.logits["teacher"], judged.logits[role]
    return [
        _over_all(judged, "agreement", role, lambda counts: classification.agreement(teacher, other, counts), share=True,
                  source="share of images on which both name the same class"),
        _over_all(judged, "kl_teacher", role, lambda counts: classification.kl(teacher, other, counts), share=False, better="lower",
                  source="KL(teacher || network) at temperature 1, nats"),
    ]  # fmt: skip


def _per_image(judged: Judged) -> dict[str, np.ndarray]:
    """Return what can be said of single images, each array [N]."""
    found = {}
    targets = judged.targets
    for role in judged.roles:
        log_p = classification.log_softmax(judged.logits[role])
        found[f"correct_{role}"] = log_p.argmax(1) == targets
        found[f"confidence_{role}"] = np.exp(log_p.max(1)).astype(np.float32)
        found[f"cross_entropy_{role}"] = -log_p[np.arange(len(targets)), targets].astype(np.float32)
        if role != "teacher" and "teacher" in judged.networks:
            log_t = classification.log_softmax(judged.logits["teacher"])
            found[f"agreement_{role}"] = log_t.argmax(1) == log_p.argmax(1)
            found[f"kl_teacher_{role}"] = (np.exp(log_t) * (log_t - log_p)).sum(1).astype(np.float32)
    return found


def _absent(judged: Judged, name: str) -> str:
    """Name the classes that a mean over classes had to leave out."""
    if name not in ("balanced_accuracy", "macro_f1", "auc"):
        return ""
    counts = np.bincount(judged.targets, minlength=len(judged.classes))
    missing = [label for label, n in zip(judged.classes, counts, strict=True) if n == 0 or (name == "auc" and n == len(judged.targets))]
    return f"left out: {', '.join(missing)} ({'all or ' if name == 'auc' else ''}no images in test)" if missing else ""


def _without(judged: Judged, label: str) -> str:
    only = bool((judged.targets == judged.classes.index(label)).all())
    return f"no image of another class than {label}" if only else f"no image of class {label}"
