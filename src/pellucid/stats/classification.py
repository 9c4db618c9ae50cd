"""Plain prediction metrics on arrays, each also over bootstrap counts.

Every metric takes `targets` (int64 [N]), `logits` (float [N, K]) and optional `weights` (counts [B, N]: how often each image
was drawn). Without weights it returns a float, with them float64 [B]: the value each resampled set of images would give.
What can't be computed (no image of a class, say) is NaN here; whoever reports it says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# Resamples worked on at once: bounds the memory at about 16 MiB per array for 8,000 images.
_CHUNK = 256


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Return probabilities, float64 [N, K].

    Parameters
    ----------
    logits : float array [N, K]
    temperature : float
        Divides the logits first.
    """
    return np.exp(log_softmax(logits, temperature))


def log_softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Return log-probabilities, float64 [N, K]; finite also where a probability underflows to 0."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))


def accuracy(targets: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Return the share of images whose highest logit is the true class.

    Parameters
    ----------
    targets : int64 array [N]
    logits : float array [N, K]
    weights : counts [B, N] or None

    Returns
    -------
    float, or float64 array [B] with weights
    """
    right = np.argmax(logits, 1) == np.asarray(targets)
    return _mean(right, weights)


def balanced_accuracy(targets: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Return the mean recall over the classes present in the labels.

    Parameters and result as for :func:`accuracy`. A resample that lacks a class averages over the others.
    """
    targets, logits = np.asarray(targets), np.asarray(logits)

    def statistic(counts: Floats) -> Floats:
        true_positive, positive, _ = _class_counts(targets, logits, counts)
        return _mean_of_defined(_ratio(true_positive, positive))

    return _over(statistic, weights, len(targets))


def macro_f1(targets: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Return the mean F1 over the classes present in the labels.

    Parameters and result as for :func:`accuracy`. A class that is predicted but has no image is left out of the mean
    (scikit-learn would average in a 0); its false positives still cost the other classes their recall.
    """
    targets, logits = np.asarray(targets), np.asarray(logits)

    def statistic(counts: Floats) -> Floats:
        true_positive, positive, predicted = _class_counts(targets, logits, counts)
        f1 = _ratio(2 * true_positive, positive + predicted)
        return _mean_of_defined(np.where(positive > 0, f1, np.nan))

    return _over(statistic, weights, len(targets))


def auc_ovr(targets: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Return the area under the ROC curve, one class against the rest, averaged over the classes.

    Parameters and result as for :func:`accuracy`. The scores are softmax probabilities; ties count half (Mann-Whitney).
    Classes without positives or without negatives are left out of the mean.
    """
    targets, probabilities = np.asarray(targets), softmax(logits)
    curves = [_TiedScores(probabilities[:, k], targets == k) for k in range(probabilities.shape[1])]
    return _over(lambda counts: _mean_of_defined(np.stack([curve.auc(counts) for curve in curves], 1)), weights, len(targets))


def thresholds_at_specificity(targets: ArrayLike, logits: ArrayLike, specificity: float = 0.9) -> Floats:
    """Return for each class the lowest score that at most ``1 - specificity`` of the other classes' images reach.

    Parameters
    ----------
    targets : int64 array [N]
    logits : float array [N, K]
        Scores are softmax probabilities. Take validation images, so that the test chooses nothing.
    specificity : float
        Share of the other classes' images that must stay below, in (0, 1).

    Returns
    -------
    float64 array [K]
        NaN for a class without images of other classes.
    """
    targets, probabilities = np.asarray(targets), softmax(logits)
    found = np.full(probabilities.shape[1], np.nan)
    for k in range(len(found)):
        others = np.sort(probabilities[targets != k, k])[::-1]
        allowed = int((1 - specificity) * len(others) + 1e-9)  # a hair's breadth forgives the rounding of 1 - specificity
        if len(others):
            found[k] = np.nextafter(others[allowed], np.inf)
    return found


def sensitivity(
    targets: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None, *, thresholds: ArrayLike, of_class: int | None = None
) -> Any:
    """Return the share of a class's images whose score reaches its threshold, averaged over the classes.

    Parameters and result as for :func:`accuracy`; `thresholds` [K] are those of :func:`thresholds_at_specificity`, `of_class`
    asks for one class alone. A class without images, or without a threshold, is left out of the mean.
    """
    targets, probabilities = np.asarray(targets), softmax(logits)
    reached = probabilities >= np.asarray(thresholds)
    classes = range(probabilities.shape[1]) if of_class is None else [of_class]

    def statistic(counts: Floats) -> Floats:
        shares = []
        for k in classes:
            known = np.isfinite(np.broadcast_to(thresholds, probabilities.shape[1])[k])
            of_k = (targets == k).astype(np.float64) * (1.0 if known else 0.0)
            shares.append(_ratio(counts @ (of_k * reached[:, k]), counts @ of_k))
        return _mean_of_defined(np.stack(shares, 1))

    return _over(statistic, weights, len(targets))


def cross_entropy(targets: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Return the mean negative log-probability of the true class (natural log).

    Parameters and result as for :func:`accuracy`.
    """
    targets = np.asarray(targets)
    return _mean(-log_softmax(logits)[np.arange(len(targets)), targets], weights)


def ece(targets: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None, *, bins: int = 15) -> Any:
    """Return the expected calibration error of the top class.

    Parameters and result as for :func:`accuracy`.

    Notes
    -----
    Equal-width bins [low, high); the last one is closed, so that confidence 1.0 belongs to it (Guo et al. 2017, eq. 5).
    """
    return ece_of_probabilities(targets, softmax(logits), weights, bins=bins)


def ece_of_probabilities(targets: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, *, bins: int = 15) -> Any:
    """Return the expected calibration error of given probabilities [N, K]; see :func:`ece`."""
    targets, probabilities = np.asarray(targets), np.asarray(probabilities, dtype=np.float64)
    confidence = probabilities.max(1)
    gap = (probabilities.argmax(1) == targets) - confidence
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    per_bin = np.zeros((len(targets), bins))
    per_bin[np.arange(len(targets)), which] = gap
    return _over(lambda counts: _ratio(np.abs(counts @ per_bin).sum(1), counts.sum(1)), weights, len(targets))


def agreement(logits_a: ArrayLike, logits_b: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Return the share of images for which two networks name the same class.

    Parameters
    ----------
    logits_a, logits_b : float arrays [N, K]
    weights : counts [B, N] or None

    Returns
    -------
    float, or float64 array [B] with weights
    """
    return _mean(np.argmax(logits_a, 1) == np.argmax(logits_b, 1), weights)


def kl(logits_t: ArrayLike, logits_s: ArrayLike, weights: ArrayLike | None = None, *, temperature: float = 1.0) -> Any:
    """Return the mean KL(p_t || p_s) in nats, without the factor T^2.

    Parameters and result as for :func:`agreement`. Works on log-softmax, so it stays finite where a probability underflows.
    """
    log_t, log_s = log_softmax(logits_t, temperature), log_softmax(logits_s, temperature)
    return _mean((np.exp(log_t) * (log_t - log_s)).sum(1), weights)


def confusion(targets: ArrayLike, predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Return how many images of each true class (row) were given each class (column), int64 [K, K].

    Parameters
    ----------
    targets, predicted : int64 arrays [N]
    n_classes : int
    """
    pairs = np.asarray(targets, dtype=np.int64) * n_classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def per_class(targets: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and AUC (class against the rest) of each class, and its number of images.

    Parameters as for :func:`accuracy`.

    Returns
    -------
    list of K dicts
        ``precision``, ``recall``, ``f1``, ``auc``: float (float64 [B] with weights), NaN where undefined; ``n``: int.
    """
    targets, logits = np.asarray(targets), np.asarray(logits)
    probabilities = softmax(logits)
    everything = np.ones((1, len(targets))) if weights is None else np.asarray(weights)
    parts = [_class_counts(targets, logits, chunk) for chunk in _chunks(everything)]
    true_positive, positive, predicted = (np.concatenate(part) for part in zip(*parts, strict=True))  # [B, K]
    figures = {
        "precision": _ratio(true_positive, predicted),
        "recall": _ratio(true_positive, positive),
        # Undefined without images of the class, as in `macro_f1`.
        "f1": np.where(positive > 0, _ratio(2 * true_positive, positive + predicted), np.nan),
    }

    def of_class(k: int) -> dict[str, Any]:
        own = {name: float(values[0, k]) if weights is None else values[:, k] for name, values in figures.items()}
        curve = _TiedScores(probabilities[:, k], targets == k)
        return {**own, "auc": _over(curve.auc, weights, len(targets)), "n": int((targets == k).sum())}

    return [of_class(k) for k in range(logits.shape[1])]


def temperature_scale(val_logits: ArrayLike, val_targets: ArrayLike) -> float:
    """Return the temperature that makes the validation cross-entropy smallest.

    Parameters
    ----------
    val_logits : float array [N, K]
    val_targets : int64 array [N]

    Returns
    -------
    float
        Between 0.01 and 100; divide logits by it. The bounds are reached only by a network that is never or always right.

    Source
    ------
    Guo et al. 2017 (arXiv 1706.04599), section 4.2.
    """
    from scipy.optimize import minimize_scalar

    logits = np.asarray(val_logits, dtype=np.float64)
    # In 1/T the cross-entropy is convex; its logarithm only makes the search even over scales.
    found = minimize_scalar(
        lambda log_t: cross_entropy(val_targets, logits / np.exp(log_t)), bounds=(np.log(0.01), np.log(100)), method="bounded",
        options={"xatol": 1e-6},
    )  # fmt: skip
    return float(np.exp(found.x))


class _TiedScores:
    """One class against the rest: images sorted by score once, images of equal score kept together."""

    def __init__(self, scores: Floats, positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(scores, kind="stable")
        ordered = scores[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # first image of each distinct score
        self.positive = positive[self.order]

    def _mass(self, counts: Floats) -> tuple[Floats, Floats]:
        """Return how many positives and negatives each distinct score has, two arrays [B, scores], ascending."""
        ordered = counts[:, self.order]
        positives = np.add.reduceat(ordered * self.positive, self.starts, axis=1)
        return positives, np.add.reduceat(ordered, self.starts, axis=1) - positives

    def auc(self, counts: Floats) -> Floats:
        positives, negatives = self._mass(counts)
        below = np.cumsum(negatives, 1) - negatives
        won = (positives * (below + 0.5 * negatives)).sum(1)
        return _ratio(won, positives.sum(1) * negatives.sum(1))


def _class_counts(targets: NDArray[Any], logits: NDArray[Any], counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Return true positives, positives and predicted, each [B, K]."""
    classes = np.arange(logits.shape[1])
    is_target = targets[:, None] == classes
    is_predicted = np.argmax(logits, 1)[:, None] == classes
    return counts @ (is_target & is_predicted), counts @ is_target, counts @ is_predicted


def _mean(values: NDArray[Any], weights: ArrayLike | None) -> Any:
    values = np.asarray(values, dtype=np.float64)
    return _over(lambda counts: _ratio(counts @ values, counts.sum(1)), weights, len(values))


def _over(statistic: Callable[[Floats], Floats], weights: ArrayLike | None, n: int) -> Any:
    """Evaluate a statistic of counts [b, N] -> [b] on all images once, or on the resamples in chunks."""
    if weights is None:
        return float(statistic(np.ones((1, n)))[0])
    return np.concatenate([statistic(chunk) for chunk in _chunks(np.asarray(weights))])


def _chunks(weights: NDArray[Any]) -> Iterator[Floats]:
    for start in range(0, len(weights), _CHUNK):
        yield weights[start : start + _CHUNK].astype(np.float64)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, with NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def _mean_of_defined(values: Floats) -> Floats:
    """Return the mean over classes [B, K] -> [B] of those that aren't NaN."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0).sum(1), defined.sum(1).astype(np.float64))
