"""Metrics against numbers of other libraries, and their bootstrap form against physical resampling."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from pellucid.stats import classification as c

ORACLES = Path(__file__).parents[1] / "oracles" / "metrics"
EXPECTED = json.loads((ORACLES / "values.json").read_text())["expected"]
CASES = ("binary", "four", "imbalanced10", "absent10", "confident", "perfect")
METRICS = {
    "accuracy": c.accuracy,
    "balanced_accuracy": c.balanced_accuracy,
    "macro_f1_present_in_labels": c.macro_f1,
    "auc_ovr_macro": c.auc_ovr,
    "cross_entropy": c.cross_entropy,
    "ece15": c.ece,
}


def sensitivity_at_a_third(targets, logits, weights=None):
    """Sensitivity with the same threshold for every class."""
    return c.sensitivity(targets, logits, weights, thresholds=1 / 3)


WEIGHTED = (*METRICS.values(), sensitivity_at_a_third)


@pytest.fixture(params=CASES)
def case(request):
    """Arrays of one oracle file, and its expected values."""
    with np.load(ORACLES / f"{request.param}.npz") as arrays:
        return dict(arrays), EXPECTED[request.param]


@pytest.mark.parametrize("name", METRICS)
def test_metric_equals_the_oracle(case, name):
    """Each metric gives scikit-learn's, torch's or NumPy's value to 1e-12."""
    arrays, expected = case
    assert METRICS[name](arrays["labels"], arrays["logits"]) == pytest.approx(expected[name], abs=1e-12, rel=1e-12)


def test_agreement_and_kl_equal_the_oracle(case):
    """Comparisons of two networks give the oracle's values at both temperatures and in both orders."""
    arrays, expected = case
    a, b = arrays["logits"], arrays["logits_b"]
    assert c.agreement(a, b) == pytest.approx(expected["agreement"], abs=1e-12)
    for temperature in (1, 4):
        assert c.kl(a, b, temperature=temperature) == pytest.approx(expected[f"kl_a_b_T{temperature}"], abs=1e-12, rel=1e-12)
        assert c.kl(b, a, temperature=temperature) == pytest.approx(expected[f"kl_b_a_T{temperature}"], abs=1e-12, rel=1e-12)


def test_per_class_auc_equals_the_oracle(case):
    """The AUC of each class is the oracle's; a class without images has none."""
    arrays, expected = case
    got = [row["auc"] for row in c.per_class(arrays["labels"], arrays["logits"])]
    wanted = [np.nan if value is None else value for value in expected["auc_per_class"]]
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_ece_puts_confidences_on_edges_into_the_oracles_bins():
    """Confidences on bin edges and at 1.0 give the oracle's calibration error."""
    with np.load(ORACLES / "ece_edges.npz") as arrays:
        got = c.ece_of_probabilities(arrays["labels"], arrays["probs"])
    assert got == pytest.approx(EXPECTED["ece_edges"]["ece15"], abs=1e-12)


@st.composite
def _problems(draw):
    n, k = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Whole numbers make ties between scores; classes may be absent.
    logits = random.integers(-2, 3, (n, k)).astype(float)
    return random.integers(0, k, n), logits, random.integers(0, 4, (3, n)).astype(np.int32)


@pytest.mark.parametrize("metric", WEIGHTED, ids=lambda metric: metric.__name__)
@seed(1)
@settings(max_examples=60, deadline=None)
@given(problem=_problems())
def test_weighted_form_equals_physical_resampling(metric, problem):
    """Counts give what the plain metric gives on arrays in which each image is repeated so often."""
    targets, logits, weights = problem
    got = metric(targets, logits, weights)
    for value, counts in zip(got, weights, strict=True):
        rows = np.repeat(np.arange(len(targets)), counts)
        twin = metric(targets[rows], logits[rows]) if len(rows) else np.nan
        np.testing.assert_allclose(value, twin, atol=1e-12)


@seed(2)
@settings(max_examples=40, deadline=None)
@given(problem=_problems())
def test_weighted_comparisons_and_class_rows_equal_physical_resampling(problem):
    """Agreement, KL and the per-class table follow the counts too."""
    targets, logits, weights = problem
    other = logits[:, ::-1]
    table = c.per_class(targets, logits, weights)
    for b, counts in enumerate(weights):
        rows = np.repeat(np.arange(len(targets)), counts)
        if not len(rows):
            continue
        np.testing.assert_allclose(c.agreement(logits, other, weights)[b], c.agreement(logits[rows], other[rows]), atol=1e-12)
        np.testing.assert_allclose(c.kl(logits, other, weights)[b], c.kl(logits[rows], other[rows]), atol=1e-12)
        for weighted, twin in zip(table, c.per_class(targets[rows], logits[rows]), strict=True):
            for name in ("precision", "recall", "f1", "auc"):
                np.testing.assert_allclose(weighted[name][b], twin[name], atol=1e-12)


def test_auc_counts_ties_as_half():
    """One positive above, one level with the only negative: (1 + 1/2) / 2."""
    logits = np.array([[0.0, 2.0], [0.0, 1.0], [0.0, 1.0]])
    assert c.auc_ovr([1, 1, 0], logits) == pytest.approx(0.75)


def test_confusion_has_true_classes_in_rows():
    """An image of class 0 taken for class 2 stands in row 0, column 2."""
    assert c.confusion([0, 0, 1], [2, 0, 1], 3).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_sensitivity_at_specificity_by_hand():
    """Ten negatives and two positives; one alarm is allowed, which lets the lower positive in or not."""
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 0.95, 0.85])
    targets = np.array([0] * 10 + [1] * 2)
    logits = np.stack([np.zeros(12), scores], 1)
    # Class 1 at specificity 0.9: one alarm (1.0) may reach the threshold, so it lies just above 0.9 and 0.95 alone reaches it.
    # Class 0 (scores reversed): of two others none may, so those below 0.85 count: 8 of 10.
    thresholds = c.thresholds_at_specificity(targets, logits, 0.9)
    assert c.sensitivity(targets, logits, thresholds=thresholds) == pytest.approx((0.5 + 0.8) / 2)
    assert c.sensitivity(targets, logits, thresholds=thresholds, of_class=0) == pytest.approx(0.8)


def test_a_class_without_others_has_no_threshold():
    """Where every image is of one class nothing can be a false alarm: its sensitivity stays undefined."""
    logits = np.array([[1.0, 0.0], [2.0, 0.0]])
    thresholds = c.thresholds_at_specificity([0, 0], logits)
    assert np.isnan(thresholds[0])
    assert np.isnan(c.sensitivity([0, 0], logits, thresholds=thresholds))


def test_undefined_is_nan():
    """With one class only there is no AUC; no other number takes its place."""
    assert np.isnan(c.auc_ovr([0, 0], np.eye(2)))


def test_temperature_scale_finds_the_planted_temperature():
    """Labels drawn from softmax(z) and logits given as 3 z ask for a temperature near 3."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 3)) * 2
    targets = (c.softmax(logits).cumsum(1) > random.random((20_000, 1))).argmax(1)
    assert c.temperature_scale(3 * logits, targets) == pytest.approx(3.0, rel=0.05)


def test_temperature_scale_is_a_minimum():
    """No temperature nearby has a smaller cross-entropy."""
    with np.load(ORACLES / "four.npz") as arrays:
        logits, labels = arrays["logits"], arrays["labels"]
    best = c.temperature_scale(logits, labels)
    at_best = c.cross_entropy(labels, logits / best)
    assert at_best <= c.cross_entropy(labels, logits / (best * 1.01))
    assert at_best <= c.cross_entropy(labels, logits / (best * 0.99))
