"""Accuracy and its differences, calibration, subjects, likeness to the teacher."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.measures.performance import performance, subject_scores
from pellucid.stats import classification


def logits_of(predicted: list[int], n_classes: int = 2, sure: float = 3.0) -> np.ndarray:
    return sure * np.eye(n_classes)[predicted]


def noisy(targets: np.ndarray, strength: float, seed: int, n_classes: int = 3) -> np.ndarray:
    return strength * np.eye(n_classes)[targets] + np.random.default_rng(seed).normal(size=(len(targets), n_classes))


def test_performance_numbers_by_hand(make_judged, one):
    """Six images, one of class 0 and one of class 1 taken for the other: 4 of 6, recalls 3/4 and 1/2."""
    judged = make_judged([0, 0, 0, 0, 1, 1], {"student": logits_of([0, 0, 0, 1, 1, 0])})
    found = performance(judged).measurements
    assert one(found, "accuracy", model="student").value == pytest.approx(4 / 6)
    assert one(found, "balanced_accuracy", model="student").value == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert one(found, "recall", model="student", stratum="none").value == pytest.approx(3 / 4)
    precision = one(found, "precision", model="student", stratum="solid")
    assert (precision.value, precision.n_images) == (pytest.approx(1 / 2), 2)


def test_performance_differences_are_paired(make_judged, one):
    """Two networks wrong on the very same images don't differ at all, though each one's own interval is wide."""
    targets = np.arange(30) % 3
    logits = noisy(targets, 1.0, 0)
    judged = make_judged(targets, {"teacher": 2 * logits, "base": logits, "student": noisy(targets, 1.0, 1)})
    found = performance(judged).measurements
    same = one(found, "balanced_accuracy_difference", model="base - teacher")
    own = one(found, "balanced_accuracy", model="base")
    other = one(found, "balanced_accuracy_difference", model="student - base")
    assert own.high - own.low > 0.1
    assert same.value == 0
    assert "exact" in same.method and "differ" in same.method
    assert other.low < other.value < other.high
    assert other.value == pytest.approx(one(found, "balanced_accuracy", model="student").value - own.value)


def test_performance_of_a_student_equal_to_its_teacher(make_judged, one):
    """Planted: agreement is 1 with an exact interval, KL is 0, every difference is 0."""
    targets = np.arange(24) % 3
    logits = noisy(targets, 2.0, 3)
    found = performance(make_judged(targets, {"teacher": logits, "base": noisy(targets, 1.0, 4), "student": logits})).measurements
    agreement = one(found, "agreement", model="student")
    assert (agreement.value, agreement.high) == (1.0, 1.0)
    assert agreement.low == pytest.approx(0.025 ** (1 / 24)) and agreement.method.startswith("exact")
    assert one(found, "kl_teacher", model="student").value == 0
    assert one(found, "kl_teacher", model="base").value > 0
    assert {m.value for m in found if m.model == "student - teacher" and m.name.endswith("_difference")} == {0.0}


def test_ece_scaled_uses_the_temperature_of_the_validation_images(make_judged, one):
    """Logits ten times too large: the fitted temperature undoes that, and the row says which it was."""
    targets = np.arange(300) % 3
    honest = noisy(targets, 1.0, 5)
    judged = make_judged(targets, {"student": 10 * honest}, val_logits={"student": 10 * honest}, val_targets=targets)
    found = performance(judged).measurements
    plain, scaled = (one(found, name, model="student") for name in ("ece", "ece_scaled"))
    temperature = classification.temperature_scale(10 * honest, targets)
    assert scaled.value == pytest.approx(classification.ece(targets, 10 * honest.astype(np.float32) / temperature))
    assert scaled.value < plain.value / 2
    assert f"{temperature:.3g}" in scaled.reason and "300 validation images" in scaled.reason


def test_ece_scaled_is_undefined_without_validation_images(make_judged, one):
    """Fitting the temperature on the test images would be cheating."""
    found = one(performance(make_judged([0, 1, 0, 1], {"student": logits_of([0, 1, 1, 1])})).measurements, "ece_scaled", model="student")
    assert found.value is None and "no validation images" in found.reason


@pytest.mark.filterwarnings("error")
def test_specificity_of_a_test_split_of_one_class_is_not_known(make_judged, one):
    """No image of another class is there that a threshold could leave out; that is said, and nothing warns."""
    logits, targets = noisy(np.arange(30) % 2, 1.0, 6, 2), np.arange(30) % 2
    judged = make_judged([0, 0, 0], {"student": logits_of([0, 0, 1])}, val_logits={"student": logits}, val_targets=targets)
    found = one(performance(judged).measurements, "sensitivity_at_specificity", model="student", stratum="none")
    assert "there is no image of another class" in found.reason


def test_a_class_without_images_is_undefined_by_name(make_judged, one):
    """Nothing is said of class 1, and the means over classes name it as left out."""
    found = performance(make_judged([0, 0, 2, 2], {"student": logits_of([0, 0, 2, 1], 3)})).measurements
    recall = one(found, "recall", model="student", stratum="solid")
    assert recall.value is None and recall.reason == "undefined: no image of class solid in test"
    assert "left out: solid" in one(found, "macro_f1", model="student").reason
    precision = one(found, "precision", model="student", stratum="solid")
    assert precision.value == 0  # one image was called solid, wrongly


def test_a_class_never_predicted_has_no_precision(make_judged, one):
    """Precision of a class that no image was given is a word, not 0."""
    precision = one(
        performance(make_judged([0, 0, 1, 1], {"student": logits_of([0, 0, 0, 0])})).measurements, "precision", model="student", stratum="solid"
    )  # fmt: skip
    assert precision.value is None and precision.reason == "undefined: no image is called solid"


def test_subject_scores_average_over_a_subjects_images():
    """Subject 7: two images lean to class 1 by 1, one leans to class 0 by 3: together class 0."""
    logits = np.array([[0.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 2.0]])
    right, first, single = subject_scores(logits, np.array([1, 1, 1, 1]), np.array([7, 7, 7, 9]))
    assert right.tolist() == [False, True] and first.tolist() == [0, 3] and single


def test_subject_accuracy_counts_subjects_once(make_judged, one):
    """One subject with five images and two with one each: 2 of 3 right, whatever the images' number."""
    subjects = ["a"] * 5 + ["b", "c"]
    found = performance(make_judged([0] * 5 + [1, 1], {"student": logits_of([0] * 5 + [1, 0])}, subjects=subjects)).measurements
    score = one(found, "subject_accuracy", model="student")
    assert score.value == pytest.approx(2 / 3)
    assert (score.n_images, score.n_units, score.unit) == (7, 3, "subjects")


@pytest.mark.parametrize(
    ("targets", "subjects", "reason"),
    [([0, 1, 0, 1], None, "the data name no subjects"), ([0, 1, 0, 1], ["a", "a", "b", "c"], "some subjects have several classes")],
)
def test_subject_accuracy_is_undefined_with_a_reason(make_judged, one, targets, subjects, reason):
    """Without subjects, or where a subject has two classes, there is no such figure."""
    judged = make_judged(targets, {"student": logits_of([0, 1, 0, 1])}, subjects=subjects)
    found = one(performance(judged).measurements, "subject_accuracy", model="student")
    assert found.value is None and reason in found.reason


def test_intervals_resample_subjects(make_judged, one):
    """Twenty copies of an image say no more than one: the interval rests on subjects and is as wide as theirs."""
    predicted = [0, 1, 0, 1, 1, 0, 1, 1]
    targets = [0, 0, 0, 0, 1, 1, 1, 1]
    single = performance(make_judged(targets, {"student": logits_of(predicted)})).measurements
    copied = performance(
        make_judged(
            np.repeat(targets, 20), {"student": np.repeat(logits_of(predicted), 20, 0)}, subjects=[f"s{i // 20:02d}" for i in range(160)]
        )
    ).measurements
    a, b = (one(found, "accuracy", model="student") for found in (single, copied))
    assert (b.n_images, b.n_units, b.unit) == (160, 8, "subjects")
    assert (a.low, a.high) == (pytest.approx(b.low), pytest.approx(b.high))


def test_performance_per_image(make_judged):
    """What the case browser sorts by has one entry per test image."""
    judged = make_judged([0, 1, 1], {"teacher": logits_of([0, 1, 0]), "student": logits_of([0, 0, 0])})
    found = performance(judged).per_image
    assert found["correct_student"].tolist() == [True, False, False]
    assert found["agreement_student"].tolist() == [True, False, True]
    np.testing.assert_allclose(found["confidence_student"], 1 / (1 + np.exp(-3)), rtol=1e-6)
    assert "agreement_teacher" not in found


def test_performance_is_deterministic(make_judged):
    """Asked twice, the same numbers to the last bit."""
    targets = np.arange(18) % 3
    judged = make_judged(targets, {"teacher": noisy(targets, 2, 0), "student": noisy(targets, 1, 1)})
    assert performance(judged).measurements == performance(judged).measurements
