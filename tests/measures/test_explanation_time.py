"""What is timed, how ratios are paired, and when it ends; never how long anything takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pellucid.explainers.explain import explain
from pellucid.measures import explanation_time as et
from pellucid.testing import tiny_judged


@pytest.fixture
def slow_clock(monkeypatch):
    """Let every job take the seconds that it is given by (role, method): image number n takes n + 1 times as long."""

    def set_to(times: dict[tuple[str, str], float]):
        def in_turns(jobs, *, least, most, seconds):
            return {key: times[key] * np.arange(1, most + 1) for key in jobs}

        monkeypatch.setattr(et.timing, "in_turns", in_turns)

    return set_to


@pytest.fixture
def judged():
    """Return two networks with two methods each on six images."""
    whole = tiny_judged()
    kept = [e for e in whole.explanations if e.model in ("teacher", "student")]
    return replace(whole, explanations=kept)


def test_ratios_are_medians_over_the_same_images(judged, slow_clock, one):
    """Grad-CAM takes 2.5 times the average map, all layers 1.5 times; the teacher takes ten times the student's time: no spread, for it is paired."""
    times = {"average_feature_map": 0.02, "grad_cam": 0.05, "average_feature_maps": 0.03}
    slow_clock({(role, method): scale * t for role, scale in (("teacher", 10), ("student", 1)) for method, t in times.items()})
    rows = et.explanation_time(judged).measurements
    met = one(rows, "met", model="student", by="grad_cam")
    assert met.value == pytest.approx(0.05 * 3.5) and met.better == "lower"  # images take 1 to 6 times as long
    assert one(rows, "met_p50", model="student", by="grad_cam").value == pytest.approx(0.05 * 3.5)
    assert one(rows, "met_p95", model="student", by="grad_cam").value == pytest.approx(0.05 * 6)
    for role in ("teacher", "student"):
        assert one(rows, "met_ratio", model=role, by="grad_cam / average_feature_map").value == pytest.approx(2.5)
        assert one(rows, "met_ratio", model=role, by="average_feature_maps / average_feature_map").value == pytest.approx(1.5)
        assert one(rows, "met_ratio", model=role, by="average_feature_maps / grad_cam").value == pytest.approx(0.6)
    for method in times:
        row = one(rows, "met_ratio", model="teacher / student", by=method)
        assert (
            (row.value, row.low, row.high) == (pytest.approx(10), None, None)
            and row.better == "higher"
            and row.method.startswith("measured on 6 images")
        )
    assert "medians 1.75 s and 0.175 s" in one(rows, "met_ratio", model="teacher / student", by="grad_cam").reason
    assert {row.name for row in rows} == {"met", "met_p50", "met_p95", "met_ratio"} and len(rows) == 2 * 3 * 3 + 2 * (2 + 2) + 3


def test_interval_of_a_ratio_comes_from_paired_rounds(judged, monkeypatch, one):
    """Two networks equally fast but for noise of a tenth: the interval covers 1 and is no wider than the noise."""
    draws = np.random.default_rng(0)

    def in_turns(jobs, *, least, most, seconds):
        return {key: draws.uniform(0.9, 1.1, most) for key in jobs}

    monkeypatch.setattr(et.timing, "in_turns", in_turns)
    row = one(et.explanation_time(judged).measurements, "met_ratio", model="teacher / student", by="grad_cam")
    assert 0.8 < row.low <= row.value <= row.high < 1.25 and row.low < 1 < row.high
    assert row.n_images == 6


def test_rounds_are_bounded_in_number_and_time(judged, monkeypatch):
    """At least 5 and at most 20 rounds, none begun after two minutes; never more rounds than images."""
    asked = {}

    def in_turns(jobs, **limits):
        asked.update(limits)
        return {key: np.ones(limits["most"]) for key in jobs}

    monkeypatch.setattr(et.timing, "in_turns", in_turns)
    et.explanation_time(judged)
    assert asked == {"least": 5, "most": 6, "seconds": 120.0}


def test_a_map_as_large_as_the_image_comes_out_of_every_job(judged):
    """Enlarging counts: each job ends with maps at the image's size, all layers' too."""
    jobs, missing = et._jobs(judged, np.array([0, 3]))
    assert missing == [] and len(jobs) == 2 * 3
    for (_, method), job in jobs.items():
        made = job(1)
        layers = made if method == "average_feature_maps" else [made]
        assert [layer.shape for layer in layers] == [(1, 32, 32)] * len(layers)
        assert len(layers) == (2 if method == "average_feature_maps" else 1)


def test_settings_and_baselines_reach_the_method(judged):
    """The timed map is the explained one: same samples, seed and training images."""
    settings = {"gradient_shap": {"samples": 3, "seed": 5}}
    train = judged.images[1:4]
    maps = explain(dict(judged.networks), judged.images[judged.rows], methods=["gradient_shap"], settings=settings, baselines=train)
    jobs, _ = et._jobs(replace(judged, explanations=maps, baselines=train), np.array([0, 2]))
    student = next(e for e in maps if e.model == "student")
    np.testing.assert_allclose(jobs["student", "gradient_shap"](1), student.positive()[2:3], rtol=1e-4, atol=1e-7)


def test_methods_whose_baselines_are_not_there_are_undefined_in_words(judged, one):
    """Maps made elsewhere, measured without the training images: a reason, and the others are timed all the same."""
    shap = [replace(e, method="gradient_shap", settings={}) for e in judged.explanations if e.method == "grad_cam"]
    rows = et.explanation_time(replace(judged, explanations=[*judged.explanations, *shap])).measurements
    row = one(rows, "met", model="student", by="gradient_shap")
    assert row.value is None and "training images" in row.reason
    assert one(rows, "met", model="student", by="grad_cam").value > 0
    assert not [r for r in rows if r.name == "met_ratio" and "gradient_shap" in r.by]
