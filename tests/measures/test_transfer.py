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
