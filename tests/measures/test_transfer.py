"""Whether the student looks where the teacher looks."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.measures import transfer as t

RNG = np.random.default_rng(0)


def test_spearman_equals_scipy_map_by_map():
    """Twin: scipy's spearmanr on each pair, with ties as after a ReLU."""
    from scipy.stats import spearmanr

    a, b = np.maximum(RNG.normal(size=(2, 5, 6, 7)), 0)
    expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(t.spearman(a, b), expected, atol=1e-12)


def test_spearman_sees_order_alone():
    """Any rising change of the values keeps it; a constant map has none."""
    a, b = RNG.normal(size=(2, 3, 6, 6))
    np.testing.assert_allclose(t.spearman(np.exp(a), 3 * b + 7), t.spearman(a, b))
    np.testing.assert_allclose(t.spearman(a, a), 1)
    assert np.isnan(t.spearman(a, np.ones_like(a))).all()


def test_top20_and_cosine_by_hand():
    """Ten cells: the top two of each map share one, 1 of 3. Cosine of (3, 4) and (4, 3): 24 of 25."""
    a, b = np.zeros((2, 1, 2, 5))
    a[0, 0, :2], b[0, 0, 1:3] = [2, 3], [3, 2]
    assert t.top20(a, b)[0] == pytest.approx(1 / 3)
    assert t.cosine(np.array([[[3.0, 4.0]]]), np.array([[[4.0, 3.0]]]))[0] == pytest.approx(24 / 25)
    assert np.isnan(t.cosine(np.zeros((1, 2, 2)), np.ones((1, 2, 2))))[0]


def planted(explanation, n: int = 24, *, targets: np.ndarray | None = None):
    """Return maps of a student that copies its teacher on a finer grid, and of a base that looks anywhere."""
    rng = np.random.default_rng(1)
    teacher = rng.random((n, 7, 7))
    fine = np.repeat(np.repeat(teacher, 2, 1), 2, 2)
    facts = {} if targets is None else {"targets": targets}
    return [
        explanation(teacher, "teacher", **facts),
        explanation(rng.random((n, 14, 14)), "base", **facts),
        explanation(fine, "student", **facts),
    ]


def judged_of(make_judged, explanations, **given):
    n = len(explanations[0].maps)
    targets = np.arange(n) % 2
    logits = np.eye(2)[targets]
    return make_judged(targets, {e.model: logits for e in explanations}, explanations=explanations, **given)


def test_a_student_that_copies_its_teachers_maps_is_found_out(make_judged, explanation, one):
    """Planted: similarity 1 on the coarser grid, transferred far above 0, per-image values for the browser."""
    found = t.transfer(judged_of(make_judged, planted(explanation)))
    student = one(found.measurements, "similarity", model="student ~ teacher", by="grad_cam")
    base = one(found.measurements, "similarity", model="base ~ teacher")
    gain = one(found.measurements, "transferred", model="student - base", by="grad_cam")
    assert student.value == pytest.approx(1) and student.reason.endswith("grid 7x7")
    assert abs(base.value) < 0.15 and base.low < base.value < base.high
    assert gain.low > 0.7 and gain.value == pytest.approx(student.value - base.value, abs=1e-6)
    np.testing.assert_allclose(found.per_image["similarity/grad_cam/student"], 1, atol=1e-6)
    assert found.per_image["similarity/grad_cam/base"].shape == (24,)


def test_transferred_is_paired(make_judged, explanation, one):
    """Base and student of the same maps: nothing was transferred, to the last image."""
    maps = planted(explanation)
    judged = judged_of(make_judged, [maps[0], explanation(maps[1].maps, "base"), explanation(maps[1].maps, "student")])
    assert one(t.transfer(judged).measurements, "transferred").value == 0


def test_dead_maps_and_other_classes_are_left_out_by_count(make_judged, explanation, one):
    """Two dead maps and one map for another class: 21 of 24 images are compared, and the row says so."""
    maps = planted(explanation)
    student = maps[2].maps.copy()
    student[:2] = -1
    other = np.zeros(24, np.int64)
    other[5] = 1
    judged = judged_of(make_judged, [maps[0], maps[1], explanation(student, "student", targets=other)])
    found = t.transfer(judged)
    row = one(found.measurements, "similarity", model="student ~ teacher")
    assert row.n_images == 21
    assert "2 images left out: a dead map" in row.reason and "1 images left out: maps for different classes" in row.reason
    assert np.isnan(found.per_image["similarity/grad_cam/student"][[0, 1, 5]]).all()
    assert one(found.measurements, "transferred").n_images == 21


def test_explained_rows_are_put_back_in_their_place(make_judged, explanation):
    """Only every third image is explained; the values stand at those images, NaN elsewhere."""
    targets = np.arange(12) % 2
    rows = np.array([0, 3, 6, 9])
    maps = [explanation(e.maps, e.model) for e in planted(explanation, 4)]
    judged = make_judged(targets, {e.model: np.eye(2)[targets] for e in maps}, explanations=maps, rows=rows)
    values = t.transfer(judged).per_image["similarity/grad_cam/student"]
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(values)), rows)


def test_anchors_say_what_unrelated_maps_come_to(make_judged, explanation, one):
    """Teacher maps of pure noise: another image's map is unlike; where all are alike, both anchors are 1."""
    found = t.transfer(judged_of(make_judged, planted(explanation))).measurements
    assert abs(one(found, "similarity", model="shuffled ~ teacher").value) < 0.2
    same = np.repeat(np.random.default_rng(2).random((1, 7, 7)), 6, 0)
    alike = judged_of(make_judged, [explanation(same, "teacher"), explanation(same, "student")])
    found = t.transfer(alike).measurements
    for anchor in ("shuffled", "centre"):
        assert one(found, "similarity", model=f"{anchor} ~ teacher").value == pytest.approx(1)


def test_anchors_never_use_the_subjects_own_images(make_judged, explanation, one):
    """Two subjects with opposite maps: a partner or mean from one's own images would be alike, the other's is opposite."""
    ramp = np.arange(49.0).reshape(7, 7)
    maps = np.stack([ramp, ramp, 48 - ramp, 48 - ramp])
    judged = make_judged(
        [0, 0, 0, 0], {"teacher": np.eye(2)[[0, 0, 0, 0]]}, subjects=["a", "a", "b", "b"], explanations=[explanation(maps, "teacher")]
    )  # fmt: skip
    found = t.transfer(judged).measurements
    assert one(found, "similarity", model="shuffled ~ teacher").value == pytest.approx(-1)
    assert one(found, "similarity", model="centre ~ teacher").value == pytest.approx(-1)


def test_anchors_lie_on_the_grid_that_networks_are_compared_on(make_judged, explanation, one):
    """A teacher finer than its student: the anchor is the similarity of its pooled maps, as the student's is."""
    rng = np.random.default_rng(4)
    fine = rng.random((8, 14, 14))
    pooled = fine.reshape(8, 7, 2, 7, 2).mean((2, 4))
    small = explanation(rng.random((8, 7, 7)), "student")
    found, expected = (t.transfer(judged_of(make_judged, [explanation(maps, "teacher"), small])).measurements for maps in (fine, pooled))
    for anchor in ("shuffled", "centre", "student"):
        rows = [one(rows, "similarity", model=f"{anchor} ~ teacher") for rows in (found, expected)]
        assert rows[0].value == pytest.approx(rows[1].value, abs=1e-6)


def test_small_grids_are_not_judged(make_judged, explanation, one):
    """A 3x3 map says too little, whichever of the two has it; transferred is then undefined too."""
    rng = np.random.default_rng(3)
    maps = [explanation(rng.random((8, side, side)), role) for role, side in (("teacher", 3), ("base", 14), ("student", 14))]
    found = t.transfer(judged_of(make_judged, maps)).measurements
    row = one(found, "similarity", model="student ~ teacher")
    assert row.value is None and row.reason == "not judged: grid 3x3"
    assert one(found, "transferred").value is None


def test_without_a_teacher_nothing_is_compared(make_judged, explanation, one):
    """The reason is a word."""
    found = t.transfer(judged_of(make_judged, [explanation(RNG.random((4, 7, 7)), "student")])).measurements
    row = one(found, "similarity", model="student ~ teacher")
    assert row.value is None and row.reason == "undefined: no teacher was explained"


def test_strata_split_by_who_was_right(make_judged, explanation, one):
    """Similarity is given apart for images both get right and those only the teacher does."""
    maps = planted(explanation, 6)
    targets = np.arange(6) % 2
    right = np.eye(2)[targets]
    wrong = right.copy()
    wrong[4:] = 1 - right[4:]
    judged = make_judged(targets, {"teacher": right, "base": right, "student": wrong}, explanations=maps)
    found = t.transfer(judged).measurements
    counts = {m.stratum: m.n_images for m in found if m.name == "similarity" and m.model == "student ~ teacher"}
    assert counts == {"all": 6, "none": 3, "solid": 3, "both right": 4, "only teacher right": 2}


def with_twin(explanation, *, share: float, n: int = 40, noise: float = 0.05):
    """Return maps of a base that looks anywhere, a twin that copies the teacher, and a student that mixes the two."""
    rng = np.random.default_rng(5)
    teacher, base = rng.random((2, n, 7, 7))
    blurred = teacher + noise * rng.random((n, 7, 7))
    maps = {"teacher": teacher, "base": base, "student": share * blurred + (1 - share) * base, "twin": blurred}
    return [explanation(maps[role], role) for role in maps]


def test_transfer_gain_is_one_where_the_student_is_as_like_as_the_twin(make_judged, explanation, one):
    """Student and twin have the same maps: gain 1, and no difference between them; without the teacher's maps' own noise too."""
    found = t.transfer(judged_of(make_judged, with_twin(explanation, share=1.0))).measurements
    gain = one(found, "transfer_gain", model="student", by="grad_cam")
    assert gain.value == pytest.approx(1) and gain.n_images == 40
    assert one(found, "similarity_difference", model="student - twin").value == 0
    rng = np.random.default_rng(1)
    same, base = rng.random((2, 20, 7, 7))
    maps = [explanation(same, "teacher"), explanation(base, "base"), explanation(same, "student"), explanation(same, "twin")]
    found = t.transfer(judged_of(make_judged, maps)).measurements
    assert one(found, "similarity", model="student ~ teacher").value == pytest.approx(1)
    likeness = one(found, "similarity", model="base ~ teacher").value
    assert one(found, "transferred").value == pytest.approx(1 - likeness)
    assert one(found, "transfer_gain").value == pytest.approx(1)


def test_transfer_gain_is_a_ratio_of_means_with_one_joint_bootstrap(make_judged, explanation, one):
    """Twin: the two means over all images, and over each resample, divided by hand; a mean of ratios would be another figure."""
    judged = judged_of(make_judged, with_twin(explanation, share=0.5))
    found = t.transfer(judged)
    gain = one(found.measurements, "transfer_gain")
    student, base, twin = (found.per_image[f"similarity/grad_cam/{role}"] for role in ("student", "base", "twin"))
    assert gain.value == pytest.approx((student - base).mean() / (twin - base).mean())
    assert abs(gain.value - ((student - base) / (twin - base)).mean()) > 1e-3
    ratios = [np.average(student - base, weights=counts) / np.average(twin - base, weights=counts) for counts in judged.weights]
    assert (gain.low, gain.high) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])))
    assert 0.2 < gain.low < gain.value < gain.high < 1
    room = one(found.measurements, "similarity_difference", model="twin - base")
    assert room.value == pytest.approx((twin - base).mean()) and room.low > 0


def test_transfer_gain_is_undefined_where_a_twin_is_no_nearer_than_the_base(make_judged, explanation, one):
    """A twin as unlike the teacher as the base is leaves nothing to divide by; the row says so, with the figure."""
    rng = np.random.default_rng(6)
    maps = [explanation(rng.random((30, 7, 7)), role) for role in ("teacher", "base", "student", "twin")]
    row = one(t.transfer(judged_of(make_judged, maps)).measurements, "transfer_gain")
    assert row.value is None and row.reason.startswith("undefined: twin - base is ") and "not surely above 0" in row.reason
    small = [explanation(rng.random((30, 3, 3)), role) for role in ("teacher", "base", "student", "twin")]
    found = t.transfer(judged_of(make_judged, small)).measurements
    assert one(found, "transfer_gain").reason == "undefined: the similarity of student and base and twin to the teacher is"
    assert not [
        m for m in t.transfer(judged_of(make_judged, maps[:3])).measurements if m.name in ("transfer_gain", "similarity_difference")
    ]


def test_the_twin_is_compared_on_the_grid_of_the_student(make_judged, explanation, one):
    """A teacher at 14x14 beside a student at 7x7: on its own fine grid the twin would be less alike than it has to be."""
    rng = np.random.default_rng(7)
    teacher, twin = rng.random((2, 10, 14, 14))
    pooled = [fine.reshape(10, 7, 2, 7, 2).mean((2, 4)) for fine in (teacher, twin)]
    maps = [
        explanation(teacher, "teacher"),
        *(explanation(rng.random((10, 7, 7)), role) for role in ("base", "student")),
        explanation(twin, "twin"),
    ]
    row = one(t.transfer(judged_of(make_judged, maps)).measurements, "similarity", model="twin ~ teacher")
    assert row.value == pytest.approx(t.spearman(*pooled).mean()) and row.reason == "grid 7x7"


def test_the_centre_is_the_teachers_mean_map_over_training_images(make_judged, explanation, one):
    """Twin: Grad-CAM of the teacher on every training image for its own answer, positive parts added up, one correlation per test image."""
    from dataclasses import replace

    from pellucid.core.records import ImageSpec
    from pellucid.explainers.explain import explain
    from pellucid.models.build import build
    from pellucid.models.saved import Network

    spec = ImageSpec(size=16, channels=1, mean=(0.5,), std=(0.25,))
    bare = make_judged(np.arange(6) % 2, {})
    teacher = Network(build("cnn5", n_classes=2, channels=1, size=16, widths=[4, 6, 8]).eval(), spec, bare.images.dataset.task)
    train = make_judged(np.arange(9) % 2, {}).images
    maps = explain({"teacher": teacher}, bare.images, methods=["grad_cam"])
    judged = replace(bare, networks={"teacher": teacher}, explanations=maps, baselines=train)
    row = one(t.transfer(judged).measurements, "similarity", model="centre ~ teacher")
    chosen = train[np.array([0, 2, 3, 5, 6, 8])]  # as many as were explained, evenly spaced
    of_training = explain({"teacher": teacher}, chosen, methods=["grad_cam"])[0]
    alive = ~of_training.dead
    mean = np.maximum(of_training.maps, 0).astype(np.float64)[alive].mean(0)
    tested = np.maximum(maps[0].maps, 0)[~maps[0].dead]
    assert row.value == pytest.approx(t.spearman(np.broadcast_to(mean, tested.shape), tested).mean())
    assert f"over {alive.sum()} training images" in row.reason
