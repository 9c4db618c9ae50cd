"""The panel of layers: every image, every layer, every method, on scales that are stated."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from pellucid.reporting.cases import CaseBook
from pellucid.reporting.figures import maps
from pellucid.reporting.figures.layers import ON_PAGE, caption, columns, layers_figure

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn(transparent):
    return ET.fromstring(layers_figure(CaseBook(transparent)))


def test_layers_come_in_order_then_the_methods(transparent):
    """From the first layer to the last, then each method's map of the student."""
    shown = columns(CaseBook(transparent))
    assert [e.layer for e in shown[:5]] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    # average_feature_map of conv4 is a layer of the panel already
    assert [e.method for e in shown[5:]] == ["grad_cam", "gradient_shap", "kernel_shap"]
    assert {e.model for e in shown} == {"student"}


def test_a_method_that_is_no_layer_of_the_panel_is_kept(transparent):
    """Average maps with other weights aren't those of the panel."""
    cases = transparent.cases
    weighted = [replace(e, settings={"weights": "activation"}) if e.method == "average_feature_map" else e for e in cases.explanations]
    shown = columns(CaseBook(replace(transparent, cases=replace(cases, explanations=weighted))))
    assert [e.method for e in shown[5:]] == ["average_feature_map", "grad_cam", "gradient_shap", "kernel_shap"]


def test_every_image_has_its_row_and_every_map_its_place(drawn, transparent):
    """20 rows of one image and eight maps; heads say name and grid."""
    texts = [t.text for t in drawn.iter(f"{SVG}text")]
    assert [t for t in texts if t.startswith("Case")] == [f"Case {row:04d}" for row in transparent.cases.panel_rows]
    assert [t for t in texts if t.startswith("conv")] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert [t for t in texts if re.fullmatch(r"\d+x\d+", t)] == ["96x96", "48x48", "24x24", "12x12", "6x6", "8x8", "96x96", "96x96"]
    placed = [
        g for g in drawn.iter(f"{SVG}g") if (g.get("transform") or "").endswith(" 0)") and not g.get("transform").startswith("translate(0 ")
    ]
    assert len(placed) == 20 * 9


def test_dead_maps_are_hatched_and_have_no_scale(drawn, transparent):
    """As many hatched fields as dead maps of the student."""
    student = next(e for e in transparent.cases.explanations if (e.model, e.method) == ("student", "kernel_shap"))
    dead = int(student.dead[transparent.cases.panel_rows].sum())
    texts = [t.text for t in drawn.iter(f"{SVG}text")]
    assert texts.count("no signal") == dead > 0
    assert len([t for t in texts if t.startswith("±") and t != "± below"]) == 20 * 3 - dead


def test_the_stated_scale_is_the_largest_map_of_the_row(drawn, transparent):
    """Layers share a scale up to the highest of them, in multiples of each map's mean; methods for a class have their own."""
    book = CaseBook(transparent)
    peak = max(float(maps.drawn(e, 0, book.side).max()) for e in transparent.cases.panel)
    own = float(np.abs(maps.drawn(book.by_key["student", "grad_cam"], transparent.cases.panel_rows[0], book.side)).max())
    texts = [t.text for t in drawn.iter(f"{SVG}text")]
    assert next(t for t in texts if " to " in t) == f"0 to {peak:.1f}"
    assert next(t for t in texts if t.startswith("±") and t != "± below") == f"±{own:.1f}"


def test_the_file_stands_alone_and_the_page_has_its_own_colours(transparent):
    """The file needs no style sheet, the page's form takes the reader's light or dark."""
    book = CaseBook(transparent)
    alone, inside = layers_figure(book), layers_figure(book, ON_PAGE)
    assert "var(" not in alone and 'fill="#ffffff"' in alone
    assert "var(--ink)" in inside and 'fill="#ffffff"' not in inside
    assert not re.findall(r'href="(?!data:|#)', alone)
    ids = re.findall(r'id="([^"]+)"', alone)
    assert len(set(ids)) == len(ids) and set(re.findall(r'href="#([^"]+)"', alone)) <= set(ids)


def test_masks_are_outlined_on_image_and_maps(transparent):
    """The outline lies on the image and on every map with signal; without masks there is none, and the caption doesn't speak of it."""
    bare = CaseBook(replace(transparent, cases=replace(transparent.cases, masks=None)))
    assert "-mask" in layers_figure(CaseBook(transparent)) and "Outlines" in caption(CaseBook(transparent))
    assert "-mask" not in layers_figure(bare) and "Outlines" not in caption(bare)


def test_names_with_markup_stay_names(nasty):
    """Class names can't become markup."""
    ET.fromstring(layers_figure(CaseBook(nasty)))


def test_no_panel_no_figure(transparent):
    """A run without a panel has no empty figure."""
    assert layers_figure(CaseBook(replace(transparent, cases=replace(transparent.cases, panel=[], panel_rows=[])))) == ""


def test_colour_images_are_shown_in_colour_and_mapped_over_grey(build):
    """The first picture of a row is the image as it is; under the maps it is grey."""
    figure = layers_figure(CaseBook(build(n=8, colour=True)))
    assert figure.count('href="#layers-0"') == 6  # five layers and Grad-CAM, not the image itself
