"""Whether maps lie on the finding, on masks small enough to count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pellucid.measures import localisation as l10n
from pellucid.measures import maps as shapes
from pellucid.testing import tiny_judged

# A finding in the upper left corner of a 4x4 image.
MASK = np.zeros((1, 4, 4), bool)
MASK[0, :2, :2] = True
MAP = np.array([[[4.0, 2.0, 0.0, 0.0], [1.0, 1.0, 3.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])


def test_relevance_mass_by_hand():
    """8 of 12 lie on the finding."""
    assert l10n.relevance_mass(MAP, MASK)[0] == pytest.approx(8 / 12)


def test_iou_by_hand():
    """The top four pixels are 4, 3, 2 and one third of each of the three 1s: 2 + 2/3 on the finding, of 4 + 4 - (2 + 2/3)."""
    common = 2 + 2 / 3
    assert l10n.iou(MAP, MASK)[0] == pytest.approx(common / (8 - common))


def test_relevance_rank_by_hand():
    """Of the four pixels of the finding the top four hold 4, 2 and two thirds of a 1, 2 + 2/3; one strong pixel elsewhere costs one place."""
    assert l10n.relevance_rank(MAP, MASK)[0] == pytest.approx((2 + 2 / 3) / 4)
    strong = MASK * np.array([[[4.0, 3.0, 0, 0], [2.0, 1.0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])
    strong[0, 3, 3] = 1000
    assert l10n.relevance_rank(strong, MASK)[0] == 0.75 and l10n.relevance_mass(strong, MASK)[0] < 0.01


def test_iou_follows_from_relevance_rank():
    """Image by image iou = rank / (2 - rank), on masks of any size and maps with ties."""
    rng = np.random.default_rng(3)
    maps, masks = np.maximum(rng.normal(size=(20, 9, 12)), 0), rng.random((20, 9, 12)) > rng.random((20, 1, 1))
    masks[:, 0, 0] = True
    rank = l10n.relevance_rank(maps, masks)
    np.testing.assert_allclose(l10n.iou(maps, masks), rank / (2 - rank))


def test_pointing_game_hits_and_misses_by_the_distance_allowed():
    """The peak lies one pixel off the finding: a hit with a tolerance of a quarter of the side, a miss without any."""
    peak = np.zeros((1, 4, 4))
    peak[0, 0, 2] = 1
    assert l10n.pointing_game(peak, MASK, tolerance=0.0)[0] == 0
    assert l10n.pointing_game(peak, MASK, tolerance=0.25)[0] == 1
    assert l10n.pointing_game(MAP, MASK, tolerance=0.0)[0] == 1


def test_pointing_game_shares_a_tied_peak():
    """A peak of two pixels, one on the finding: half a hit, whichever comes first in memory."""
    peak = np.zeros((1, 4, 4))
    peak[0, 0, 1:3] = 1
    assert l10n.pointing_game(peak, MASK, tolerance=0.0)[0] == 0.5
    assert l10n.pointing_game(peak[:, :, ::-1], MASK[:, :, ::-1], tolerance=0.0)[0] == 0.5


@pytest.mark.parametrize("measure", [l10n.pointing_game, l10n.relevance_mass, l10n.relevance_rank, l10n.iou])
def test_a_map_that_is_the_mask_scores_one(measure):
    """The best map there is; and its complement scores nothing where masks leave no tolerance."""
    assert measure(MASK.astype(float), MASK)[0] == 1
    far = np.zeros((1, 40, 40), bool)
    far[0, :4, :4] = True
    other = np.zeros((1, 40, 40))
    other[0, 30:, 30:] = 1
    assert measure(other, far)[0] == 0


@pytest.mark.parametrize("measure", [l10n.pointing_game, l10n.relevance_mass, l10n.relevance_rank, l10n.iou])
def test_measures_ignore_scale_and_follow_flips(measure):
    """Twice the map is the same map; mirrored with its mask it scores the same."""
    rng = np.random.default_rng(0)
    maps, masks = rng.random((6, 9, 12)), rng.random((6, 9, 12)) > 0.8
    np.testing.assert_allclose(measure(2 * maps, masks), measure(maps, masks))
    np.testing.assert_allclose(measure(maps[:, ::-1, ::-1], masks[:, ::-1, ::-1]), measure(maps, masks))


def test_a_blind_map_has_the_masks_share_as_relevance_mass():
    """A constant map's mass on the finding is the finding's area, and its top pixels are spread evenly."""
    constant = np.ones((1, 4, 4))
    assert l10n.relevance_mass(constant, MASK)[0] == pytest.approx(4 / 16)
    assert l10n.iou(constant, MASK)[0] == pytest.approx(1 / 7)  # one of four expected: 1 / (4 + 4 - 1)


def masks_of(n: int) -> np.ndarray:
    masks = np.zeros((n, 16, 16), np.uint8)
    masks[:, 2:6, 2:6] = 1
    return masks


def test_localisation_leaves_out_images_without_mask_and_dead_maps(make_judged, explanation, one):
    """Four images: one without finding, one with a dead map; two count, and the row says what it left out."""
    masks = masks_of(4)
    masks[3] = 0
    maps = np.zeros((4, 8, 8))
    maps[:, 1:3, 1:3] = 1
    maps[0] = 0
    logits = np.eye(2)[[0, 1, 0, 1]]
    judged = make_judged([0, 1, 0, 1], {"student": logits}, masks=masks, explanations=[explanation(maps, "student")])
    found = l10n.localisation(judged)
    row = one(found.measurements, "pointing_game", model="student", by="grad_cam")
    assert (row.value, row.n_images) == (1.0, 2)
    assert "1 dead maps left out" in row.reason
    assert row.method.startswith("exact")
    share = one(found.measurements, "mask_share")
    assert (share.value, share.n_images, share.model) == (pytest.approx(16 / 256), 3, "")
    np.testing.assert_array_equal(np.isnan(found.per_image["iou/grad_cam/student"]), [True, False, False, True])


def test_localisation_reads_the_positive_part_of_class_maps(make_judged, explanation, one):
    """Strong evidence against the class outside the finding doesn't count as looking there."""
    maps = np.zeros((2, 8, 8))
    maps[:, 1:3, 1:3] = 1
    maps[:, 6:, 6:] = -5
    judged = make_judged([0, 1], {"student": np.eye(2)}, masks=masks_of(2), explanations=[explanation(maps, "student")])
    mass = one(l10n.localisation(judged).measurements, "relevance_mass", model="student")
    maps[:, 6:, 6:] = 0
    same = make_judged([0, 1], {"student": np.eye(2)}, masks=masks_of(2), explanations=[explanation(maps, "student")])
    assert mass.value == pytest.approx(one(l10n.localisation(same).measurements, "relevance_mass", model="student").value, abs=0.02)
    assert mass.value > 0.7


def test_localisation_has_controls_that_know_nothing(make_judged, explanation, one):
    """A random map's relevance mass comes to about the mask's share; the centre prior's differs from it where findings lie aside."""
    n = 40
    judged = make_judged(
        np.arange(n) % 2, {"student": np.eye(2)[np.arange(n) % 2]}, masks=masks_of(n),
        explanations=[explanation(np.random.default_rng(0).random((n, 8, 8)), "student")],
    )  # fmt: skip
    found = l10n.localisation(judged).measurements
    assert one(found, "relevance_mass", by="random_smooth").value == pytest.approx(16 / 256, abs=0.02)
    assert one(found, "pointing_game", by="centre_prior").value == 0


@pytest.mark.parametrize(
    ("masks", "side", "reason"),
    [(None, 8, "undefined: no explained image has a mask"), (np.zeros((2, 16, 16), np.uint8), 8, "undefined: no explained image has a mask"),
     (masks_of(2), 3, "not judged: grid 3x3")],
)  # fmt: skip
def test_localisation_says_why_it_is_undefined(make_judged, explanation, one, masks, side, reason):
    """No masks, only empty masks, or a grid too small: a reason, never a number."""
    maps = np.random.default_rng(0).random((2, side, side))
    judged = make_judged([0, 1], {"student": np.eye(2)}, masks=masks, explanations=[explanation(maps, "student")])
    row = one(l10n.localisation(judged).measurements, "iou", model="student")
    assert row.value is None and row.reason == reason


def test_student_and_teacher_are_compared_on_the_same_images(make_judged, explanation, one):
    """The teacher points at the finding in all but image 5, the student in none but images 4 and 5; image 0's map is dead: two fewer hits of five."""
    on, off = np.zeros((2, 6, 8, 8))
    on[:, 1:3, 1:3], off[:, 6:, 6:] = 1, 1
    teacher, student = on.copy(), off.copy()
    teacher[5], student[4:], student[0] = off[5], on[4:], 0
    explanations = [explanation(maps, role) for role, maps in (("teacher", teacher), ("base", teacher), ("student", student))]
    logits = dict.fromkeys(("teacher", "base", "student"), np.eye(2)[[0, 1] * 3])
    found = l10n.localisation(make_judged([0, 1] * 3, logits, masks=masks_of(6), explanations=explanations)).measurements
    row = one(found, "pointing_game_difference", model="student - teacher", by="grad_cam")
    assert row.value == pytest.approx((1 - 3) / 5)  # image 4: both right; 5: the student alone; 1, 2 and 3: the teacher alone
    assert (row.n_images, row.better) == (5, "higher") and row.low <= row.value <= row.high
    assert "Wilcoxon on images, Holm over 1: p = " in row.reason
    assert one(found, "iou_difference", model="student - base", by="grad_cam").n_images == 5


def test_networks_too_coarse_to_judge_are_not_compared(make_judged, explanation, one):
    """A teacher whose maps are 3x3: the difference is undefined and says whose fault it is."""
    maps = np.random.default_rng(0).random((2, 8, 8))
    explanations = [explanation(maps[:, :3, :3], "teacher"), explanation(maps, "student")]
    logits = dict.fromkeys(("teacher", "student"), np.eye(2))
    found = l10n.localisation(make_judged([0, 1], logits, masks=masks_of(2), explanations=explanations)).measurements
    row = one(found, "relevance_mass_difference", model="student - teacher", by="grad_cam")
    assert row.value is None and row.reason == "undefined: teacher not judged"
    assert not [m for m in found if m.model == "student - base"]


def test_a_map_on_the_finding_beats_maps_that_know_nothing():
    """Within each network, method against control, paired on the images with a mask: the mean difference, by hand from the values per image."""
    judged = tiny_judged()
    masks = judged.images[judged.rows].masks
    found = [replace(e, maps=masks[:, ::4, ::4].astype(np.float32)) for e in judged.explanations]
    judged = replace(judged, explanations=found)
    judgement = l10n.localisation(judged)
    per_image = judgement.per_image["pointing_game/grad_cam/teacher"][judged.rows]
    rows = {m.by: m for m in judgement.measurements if m.name == "pointing_game_difference" and m.model == "teacher"}
    assert set(rows) == {f"{method} - {control}" for method in judged.methods for control in shapes.CONTROLS}
    has_mask = masks.any((1, 2))
    for control in shapes.CONTROLS:
        blind = shapes.control(control, judged.images.rows[judged.rows], masks.shape[1:])
        missed = per_image[has_mask] - l10n.pointing_game(blind[has_mask], masks[has_mask])
        assert rows[f"grad_cam - {control}"].value == pytest.approx(missed.mean())
        assert rows[f"grad_cam - {control}"].n_images == has_mask.sum() and "Holm over" in rows[f"grad_cam - {control}"].reason
