"""All measures over real networks, as a run calls them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pellucid.core import registry
from pellucid.core.records import ImageSpec
from pellucid.core.settings import MeasureSettings
from pellucid.explainers.explain import explain
from pellucid.measures.judged import Judged
from pellucid.measures.verdict import judge
from pellucid.models.build import build
from pellucid.models.saved import Network

SPEC = ImageSpec(size=16, channels=1, mean=(0.5,), std=(0.25,))


def network(seed: int, task, widths: tuple[int, ...] = (4, 6, 8)) -> Network:
    options = {"widths": list(widths)}
    model = build("cnn5", n_classes=task.n_classes, channels=1, size=16, seed=seed, **options)
    return Network(model.eval(), SPEC, task, "cnn5", options)


@pytest.fixture
def judged(make_judged) -> Judged:
    """Untrained networks on twelve images of noise; the student has its teacher's weights, the base others."""
    targets = np.arange(12) % 2
    bare = make_judged(targets, {}, masks=np.pad(np.ones((12, 5, 5), np.uint8), ((0, 0), (2, 9), (2, 9))))
    task = bare.images.dataset.task
    networks = {"teacher": network(0, task), "base": network(1, task), "student": network(0, task)}
    logits = {role: one.logits(bare.images) for role, one in networks.items()}
    rows = np.arange(0, 12, 2)
    maps = explain(dict(networks), bare.images[rows], target="teacher")
    settings = MeasureSettings(resamples=200)
    return Judged(networks, bare.images, logits, logits, targets, maps, rows, settings, bare.weights)


@pytest.mark.parametrize("name", MeasureSettings().measures)
def test_a_measure_leaves_networks_as_they_were(judged, name):
    """Weights, gradients and each module's mode, after all that a measure does to a network."""
    for one in judged.networks.values():
        one.model.train()
        one.model.layer1.eval()
    before = {role: [p.clone() for p in one.model.state_dict().values()] for role, one in judged.networks.items()}
    registry.get("measures", name)(judged)
    for role, one in judged.networks.items():
        assert all(torch.equal(a, b) for a, b in zip(before[role], one.model.state_dict().values(), strict=True))
        assert one.model.training and one.model.layer2.training and not one.model.layer1.training
        assert all(p.grad is None and p.requires_grad for p in one.model.parameters())


def test_a_student_with_its_teachers_weights(judged, one):
    """Planted: same predictions, same maps, same cost; the base has neither."""
    rows = [m for name in judged.settings.measures for m in registry.get("measures", name)(judged).measurements]
    assert one(rows, "agreement", model="student").value == 1
    assert one(rows, "balanced_accuracy_difference", model="student - teacher").value == 0
    for method in ("grad_cam", "average_feature_map"):
        assert one(rows, "similarity", model="student ~ teacher", by=method).value == pytest.approx(1)
        assert one(rows, "transferred", by=method).value > 0
        assert one(rows, "mask_fidelity", model="student", by=method) .value == pytest.approx(
            one(rows, "mask_fidelity", model="teacher", by=method).value
        )  # fmt: skip
    # 9 * c_in * c_out * side^2: 1 -> 4 at 16 px, then pooled once, 4 -> 6 and 6 -> 8 at 8 px; the head 8 -> 2.
    assert one(rows, "multiply_adds", model="student").value == 36 * 256 + (216 + 432) * 64 + 16
    assert one(rows, "parameters", model="base").value == 36 + 216 + 432 + 2 * (4 + 6 + 8) + 18
    assert one(rows, "peak_memory", model="student").value == one(rows, "peak_memory", model="teacher").value
    assert one(rows, "file_size", model="student").value == one(rows, "file_size", model="teacher").value
    questions = judge(rows, {}, settings=judged.settings)
    assert questions[0].answer == "not judged"  # no difference at all, but an untrained teacher only guesses


def test_faithfulness_rows_have_controls_and_tests(judged, one):
    """Each network has both methods, both controls, areas, and the paired differences with Holm's correction."""
    rows = registry.get("measures", "faithfulness")(judged).measurements
    for by in ("grad_cam", "average_feature_map", "random_smooth", "centre_prior"):
        fidelity = one(rows, "mask_fidelity", model="student", by=by)
        area = one(rows, "mask_fidelity_area", model="student", by=by)
        assert 0 <= fidelity.low <= fidelity.value <= fidelity.high <= 1
        assert 0 < area.value < 1 and area.better == "neither"
    difference = one(rows, "mask_fidelity_top20_difference", model="student", by="average_feature_map - grad_cam")
    assert "Wilcoxon on images, Holm over 5" in difference.reason
    a, b = (one(rows, "mask_fidelity_top20", model="student", by=by).value for by in ("average_feature_map", "grad_cam"))
    assert difference.n_images < 6 or difference.value == pytest.approx(a - b)


def test_faithfulness_equals_the_pure_function(judged, one):
    """The measure in batches, at the network's own size, is the function on one image after another."""
    from pellucid.data.views import to_input
    from pellucid.measures import maps as shapes
    from pellucid.measures.faithfulness import faithfulness, mask_fidelity

    found = faithfulness(judged)
    explanation = judged.explanation("student", "average_feature_map")
    images = to_input(judged.images[judged.rows].pixels, SPEC)
    maps = shapes.to_size(shapes.to_unit(shapes.evidence(explanation)), (16, 16))
    model = judged.networks["student"].model
    values = [mask_fidelity(model, images[i : i + 1], maps[i : i + 1], explanation.targets[i : i + 1])[0][0] for i in range(6)]
    np.testing.assert_allclose(found.per_image["mask_fidelity/average_feature_map/student"][judged.rows], values, atol=1e-6)
    row = one(found.measurements, "mask_fidelity", model="student", by="average_feature_map")
    assert row.value == pytest.approx(np.mean(values), abs=1e-6)
    assert "on 100% of images" in row.reason


def test_faithfulness_compares_the_student_with_teacher_and_base(judged, one):
    """The student has its teacher's weights: no difference at all to it, and to the base the difference of the two rows."""
    rows = registry.get("measures", "faithfulness")(judged).measurements
    for name in ("mask_fidelity_difference", "mask_fidelity_top20_difference"):
        for by in ("grad_cam", "average_feature_map"):
            same = one(rows, name, model="student - teacher", by=by)
            assert same.value == 0 and same.better == "higher"
            assert "Wilcoxon on images, Holm over 2: p = 1" in same.reason
        control = one(rows, name, model="student - base", by="random_smooth")
        assert control.value is not None and "Holm over 2" in control.reason  # the two controls are a family of their own
    student, base = (one(rows, "mask_fidelity", model=role, by="average_feature_map") for role in ("student", "base"))
    assert student.n_images == base.n_images == 6  # no map of either is dead
    other = one(rows, "mask_fidelity_difference", model="student - base", by="average_feature_map")
    assert other.value == pytest.approx(student.value - base.value) and other.low < other.high


def test_fidelity_beyond_a_random_map_takes_out_how_well_a_network_bears_blurring(judged, one):
    """Per image the map's fidelity at 20 % less the random map's; between networks the difference of that."""
    found = registry.get("measures", "faithfulness")(judged)
    for role in ("student", "base"):
        row = one(found.measurements, "mask_fidelity_gain", model=role, by="grad_cam")
        plain, blind = (found.per_image[f"mask_fidelity_top20/{by}/{role}"] for by in ("grad_cam", "random_smooth"))
        assert row.value == pytest.approx(np.nanmean(plain - blind))
    gains = [found.per_image[f"mask_fidelity_gain/grad_cam/{role}"] for role in ("student", "base")]
    gap = one(found.measurements, "mask_fidelity_gain_difference", model="student - base", by="grad_cam")
    assert gap.value == pytest.approx(np.nanmean(gains[0] - gains[1]))


def test_completeness_gap_is_the_median_and_says_what_it_leaves_out(judged, one):
    """Sums miss 10, 20, 30, 40 and 50 % of what is expected; where 0.01 is expected there is nothing to divide by."""
    from pellucid.measures.faithfulness import faithfulness

    maps = np.ones((6, 16, 16), np.float32)
    expected = np.array([256 / 0.9, 256 / 0.8, 256 / 0.7, 256 / 0.6, 256 / 0.5, 0.01])
    shap = replace(judged.explanation("student", "grad_cam"), maps=maps, method="kernel_shap", layer="", expected=expected)
    row = one(faithfulness(replace(judged, explanations=[shap])).measurements, "completeness_gap")
    assert row.value == pytest.approx(0.3) and 0.1 <= row.low <= row.value <= row.high <= 0.5001
    assert (row.model, row.by, row.better, row.n_images) == ("student", "kernel_shap", "lower", 5)
    assert "1 of 6 left out" in row.reason


def test_maps_on_the_images_own_grid_are_judged_like_any_other(judged, one):
    """SHAP beside Grad-CAM: transfer on the coarser of two grids, controls, tests over the pairs, and no gap for methods without baselines."""
    maps = explain(
        dict(judged.networks), judged.images[judged.rows], methods=["grad_cam", "gradient_shap", "kernel_shap"], target="teacher",
        settings={"gradient_shap": {"samples": 4}, "kernel_shap": {"samples": 40, "segments": 12}}, baselines=judged.images[6:],
    )  # fmt: skip
    assert [e.maps.shape for e in maps[:3]] == [(6, 8, 8), (6, 16, 16), (6, 16, 16)]
    changed = replace(judged, explanations=maps, baselines=judged.images[6:])
    rows = [row for name in changed.settings.measures for row in registry.get("measures", name)(changed).measurements]
    for by in ("gradient_shap", "kernel_shap"):
        assert one(rows, "similarity", model="student ~ teacher", by=by).value == pytest.approx(1)
        assert "grid 16x16" in one(rows, "similarity", model="base ~ teacher", by=by).reason
        assert one(rows, "relevance_mass_difference", model="student - teacher", by=by).value == pytest.approx(0, abs=1e-6)
        assert one(rows, "completeness_gap", model="student", by=by).value >= 0
        assert one(rows, "met", model="base", by=by).value > 0
    assert one(rows, "completeness_gap", model="teacher", by="kernel_shap").value < 0.01  # captum holds it to the sum
    test = one(rows, "mask_fidelity_top20_difference", model="student", by="gradient_shap - kernel_shap")
    assert "Holm over 9" in test.reason  # three pairs of methods, three methods against two controls
    assert not [row for row in rows if row.name == "completeness_gap" and row.by == "grad_cam"]


def test_times_are_marked_as_measured(judged):
    """Whoever compares two runs can tell times, which differ, from everything else, which doesn't."""
    timed = {"latency_p50", "latency_p95", "throughput", "met", "met_p50", "met_p95", "met_ratio"}
    for name in ("cost", "faithfulness", "explanation_time"):
        for row in registry.get("measures", name)(judged).measurements:
            assert row.method.startswith("measured") == (row.name in timed)


@pytest.mark.parametrize("name", ["performance", "transfer", "faithfulness", "localisation"])
def test_measures_are_deterministic(judged, name):
    """Asked twice, the same but for times."""
    measure = registry.get("measures", name)
    first, second = (measure(judged).measurements for _ in range(2))
    assert first == second
