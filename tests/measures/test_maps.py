"""What judges do to raw maps."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.measures import maps as shapes


def test_evidence_drops_what_speaks_against_the_class(explanation):
    """A class map's negative part is no evidence for the class."""
    found = shapes.evidence(explanation(np.array([[[-2.0, 1.0], [0.0, 3.0]]]), "student"))
    np.testing.assert_array_equal(found[0], [[0.0, 1.0], [0.0, 3.0]])


def test_evidence_of_a_map_without_class_begins_at_zero(explanation):
    """A mean over channels has no zero of its own."""
    found = shapes.evidence(explanation(np.array([[[-2.0, 1.0], [0.0, 3.0]]]), "student", signed=False))
    np.testing.assert_array_equal(found[0], [[0.0, 3.0], [2.0, 5.0]])


def test_to_unit_spans_zero_to_one_and_keeps_constant_maps_finite():
    """Min-max scaling map by map; a constant map becomes 0 instead of NaN."""
    found = shapes.to_unit(np.array([[[2.0, 4.0], [3.0, 6.0]], [[5.0, 5.0], [5.0, 5.0]]]))
    np.testing.assert_allclose(found, [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])


def test_to_size_interpolates_between_cell_centres():
    """Two cells on four pixels: centres at 0.5 and 2.5, so the pixels between are a quarter and three quarters of the way."""
    found = shapes.to_size(np.array([[[0.0, 1.0]]]), (1, 4))
    np.testing.assert_allclose(found[0, 0], [0.0, 0.25, 0.75, 1.0], atol=1e-7)


def test_to_size_places_cells_where_they_look():
    """Three cells whose centres lie at pixels 0, 2 and 4 of six (their middles at 0.5, 2.5 and 4.5), down and across."""
    centres = ((0.5 / 6, 2 / 6), (0.5 / 6, 2 / 6))
    one = np.array([[[0.0, 2.0, 4.0]] * 3])
    found = shapes.to_size(one, (6, 6), centres)
    np.testing.assert_allclose(found[0], [[0.0, 1.0, 2.0, 3.0, 4.0, 4.0]] * 6, atol=1e-6)
    np.testing.assert_allclose(shapes.to_size(one.transpose(0, 2, 1), (6, 6), centres)[0].T, found[0], atol=1e-6)


def test_centres_of_an_even_cut_change_nothing():
    """Said or not said, it is the same map, enlarged and pooled."""
    maps = np.random.default_rng(0).random((2, 6, 9))
    even = ((0.5 / 6, 1 / 6), (0.5 / 9, 1 / 9))
    np.testing.assert_allclose(shapes.to_size(maps, (20, 31), even), shapes.to_size(maps, (20, 31)), atol=1e-6)
    np.testing.assert_allclose(shapes.pool_by_area(maps, (3, 4), even), shapes.pool_by_area(maps, (3, 4)), atol=1e-12)


def test_pooling_places_cells_where_they_look():
    """Cells meet halfway between their centres; the outermost reach to the border, or as far as the image goes."""
    left = ((0.5, 1.0), (0.0, 0.5))  # of two cells, the first looks at the left border, the second at the middle
    np.testing.assert_allclose(shapes.pool_by_area(np.array([[[1.0, 3.0]]]), (1, 2), left), [[[2.0, 3.0]]])
    right = ((0.5, 1.0), (0.5, 0.5))
    np.testing.assert_allclose(shapes.pool_by_area(np.array([[[1.0, 3.0]]]), (1, 2), right), [[[1.0, 2.0]]])
    beyond = ((0.5, 1.0), (-1.0, 0.5))  # the first cell looks at nothing of the image
    np.testing.assert_allclose(shapes.pool_by_area(np.array([[[1.0, 3.0]]]), (1, 2), beyond), [[[3.0, 3.0]]])


def test_to_size_of_no_maps_is_empty():
    """No image to judge is no error."""
    assert shapes.to_size(np.zeros((0, 7, 7)), (16, 16)).shape == (0, 16, 16)


@pytest.mark.parametrize(("old", "new"), [((6, 9), (3, 3)), ((7, 8), (6, 6)), ((5, 5), (5, 5)), ((9, 7), (2, 7))])
def test_pool_by_area_equals_a_fine_grid_averaged_in_blocks(old, new):
    """Twin from the definition: repeat every cell until both grids divide it, then average blocks."""
    maps = np.random.default_rng(1).normal(size=(2, *old))
    fine = np.repeat(np.repeat(maps, new[0], axis=1), new[1], axis=2)
    slow = fine.reshape(2, new[0], old[0], new[1], old[1]).mean((2, 4))
    np.testing.assert_allclose(shapes.pool_by_area(maps, new), slow, atol=1e-12)


def test_top_share_keeps_the_largest_and_shares_ties():
    """Two of eight cells: the 9 for certain, each of the two 5s by half."""
    found = shapes.top_share(np.array([[[9.0, 5.0, 1.0, 0.0], [5.0, 2.0, 0.0, 0.0]]]), 0.25)
    np.testing.assert_allclose(found[0], [[1.0, 0.5, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]])


def test_top_share_always_adds_up_to_the_wanted_area():
    """Also where most of the map is 0, as after a ReLU, and with another share for each map."""
    maps = np.maximum(np.random.default_rng(2).normal(size=(5, 7, 9)) - 1.5, 0)
    share = np.array([0.01, 0.2, 0.5, 0.9, 1.0])
    np.testing.assert_allclose(shapes.top_share(maps, share).sum((1, 2)), np.maximum(1, np.rint(share * 63)))


def test_random_smooth_depends_on_the_image_alone():
    """Image 5 gets the same noise alone and among others, and another image gets other noise."""
    together, alone = shapes.random_smooth(np.array([3, 5]), (20, 20)), shapes.random_smooth(np.array([5]), (20, 20))
    np.testing.assert_array_equal(together[1], alone[0])
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_centre_prior_peaks_in_the_middle_and_falls_the_same_way_to_all_sides():
    """It is symmetric, so it can't prefer a side of the brain."""
    (prior,) = shapes.centre_prior(1, (15, 15))
    assert prior.argmax() == 7 * 15 + 7
    np.testing.assert_allclose(prior, prior[::-1])
    np.testing.assert_allclose(prior, prior.T)


def test_grids_below_six_are_too_coarse():
    """A 3x3 map says too little, and the reason says how small it is."""
    assert shapes.too_coarse(np.zeros((1, 3, 3))) == "not judged: grid 3x3"
    assert shapes.too_coarse(np.zeros((1, 6, 7))) == ""
