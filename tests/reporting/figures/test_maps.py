"""Maps are drawn on one scale, centred where signed, and never smoothed into something they don't say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pellucid.reporting.figures import maps


def test_relative_spread_is_the_same_for_any_unit():
    """A map in another unit is drawn the same, and an even one is 1 everywhere."""
    single = np.array([[1.0, 2.0], [3.0, 6.0]])
    np.testing.assert_allclose(maps.relative(single), [[1 / 3, 2 / 3], [1.0, 2.0]], rtol=1e-6)
    np.testing.assert_allclose(maps.relative(single * 40), maps.relative(single), rtol=1e-6)


def test_signed_scale_puts_zero_in_the_middle():
    """Red and blue mean for and against, so 0 is the neutral colour whatever the extremes."""
    scale = maps.common_scale([np.array([[-1.0, 4.0]]), np.array([[-2.0, 0.0]])], signed=True)
    assert (scale.low, scale.high, scale.table) == (-4.0, 4.0, "RdBu_r")
    assert maps.levels(np.array([[-4.0, 0.0, 4.0]]), scale).tolist() == [[0, 128, 255]]
    assert np.ptp(maps.colours("RdBu_r")[128]) < 12


def test_unsigned_scale_begins_at_zero():
    """A map far from 0 isn't stretched to its own range."""
    scale = maps.common_scale([np.array([[0.8, 1.2]])], signed=False)
    assert (scale.low, scale.high, scale.table) == (0.0, 1.2, "cividis")


def test_a_row_shares_one_scale():
    """The same value has the same colour in every map of a row."""
    peaked, even = np.array([[0.0, 4.0]]), np.array([[1.0, 1.0]])
    scale = maps.common_scale([peaked, even], signed=False)
    assert maps.levels(peaked, scale)[0, 1] == 255
    assert maps.levels(even, scale).tolist() == [[64, 64]]


def test_large_maps_are_averaged_down():
    """The page keeps at most 64 places a side, as means and not as samples."""
    single = np.zeros((96, 96))
    single[::2] = 2.0
    kept = maps.levels(single, maps.Scale(0.0, 2.0, signed=False))
    assert kept.shape == (48, 48)
    assert set(kept.ravel().tolist()) == {128}


def test_map_png_interpolates_values_before_colours():
    """Between two cells lies the colour of the value between them, with the cells' own colours at their centres."""
    picture = Image.open(io.BytesIO(maps.map_png(np.array([[0, 200]], np.uint8), "cividis", side=8)))
    row = np.asarray(picture)[0]
    assert row[0] == 0 and row[-1] == 200 and (np.diff(row.astype(int)) >= 0).all()
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB"))[0], maps.colours("cividis")[row])


def test_outline_surrounds_the_mask():
    """Every border edge of the mask is drawn once: a block of 2 rows and 3 columns has 3 + 3 + 2 + 2 of them."""
    mask = np.zeros((8, 8), bool)
    mask[2:4, 3:6] = True
    assert maps.outline(mask) == "M3 2h3M3 4h3M3 2v2M6 2v2"
    assert maps.outline(np.zeros((4, 4), bool)) == ""


def test_overlay_is_grey_below_the_map():
    """At opacity 0 only the grey image is left, at 1 only the map."""
    image = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    places = np.full((6, 6), 90, np.uint8)
    assert np.ptp(maps.overlay(image, places, "cividis", opacity=0.0), axis=2).max() == 0
    assert (maps.overlay(image, places, "cividis", opacity=1.0) == maps.colours("cividis")[90]).all()


def test_hatch_is_no_colour_of_a_map():
    """A dead map looks like nothing that a colour table can make: grey stripes."""
    hatch = maps.hatched(48)
    assert hatch.shape == (48, 48, 3)
    assert len(np.unique(hatch.reshape(-1, 3), axis=0)) == 2


@pytest.mark.parametrize(("shape", "small"), [((3, 3), True), ((10, 6, 6), False), ((10, 5, 7), True)])
def test_too_small_grids_are_named(shape, small):
    """Below 6x6 a map isn't judged."""
    assert maps.too_small(shape) is small
