"""Charts put figures where they belong, and say in words what they show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest

from pellucid.reporting.figures import charts


def _parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def test_dots_keep_the_order_of_values():
    """A larger figure lies further right, its dot inside its interval."""
    rows = [charts.Dot("teacher", "teacher", 0.9, 0.8, 0.95, "0.90"), charts.Dot("student", "student", 0.7, 0.6, 0.75, "0.70")]
    drawn = _parsed(charts.dots(rows, title="Accuracy"))
    square, disc = drawn.find(".//rect"), drawn.find(".//circle")
    bars = [e for e in drawn.iter("line") if "interval" in e.get("class", "")]
    assert float(disc.get("cx")) < float(square.get("x"))
    assert float(bars[1].get("x1")) < float(disc.get("cx")) < float(bars[1].get("x2"))


def test_dots_reference_lines_are_always_inside():
    """The line of no difference is drawn even where all figures lie on one side of it."""
    drawn = _parsed(charts.dots([charts.Dot("student - base", "student", 0.2, 0.19, 0.21, "+0.20")], title="t", lines=[(0.0, "")]))
    line = next(e for e in drawn.iter("line") if e.get("class") == "reference")
    axis = next(e for e in drawn.iter("line") if e.get("class") == "axis")
    assert float(axis.get("x1")) <= float(line.get("x1")) <= float(axis.get("x2"))


def test_dots_say_what_they_show():
    """The alternative text holds every row's figure, undefined ones too."""
    spoken = _parsed(charts.dots([charts.Dot("base", "base", None, None, None, "undefined")], title="AUC")).get("aria-label")
    assert spoken == "AUC. base: undefined"


def test_every_role_has_its_own_marker():
    """Roles are told apart in grey print too."""
    assert len({re.sub(r"r-\w+", "", charts.marker(role)) for role in ("teacher", "base", "student", "other")}) == 4


def test_confusion_shades_by_row_and_prints_counts():
    """A row's share decides the shade; the count stands in the cell."""
    drawn = _parsed(charts.confusion(np.array([[9, 1], [0, 4]]), ["a<b", "c"], title="student", role="student"))
    cells = list(drawn.iter("rect"))
    assert [float(c.get("fill-opacity")) for c in cells] == pytest.approx([0.905, 0.145, 0.05, 1.0], abs=0.006)
    assert [t.text for t in drawn.iter("text") if (t.text or "").isdigit()] == ["9", "1", "0", "4"]
    assert "13 of 14" in drawn.get("aria-label")


def test_calibration_leaves_empty_bins_empty():
    """A bin without images has no point; confidence 1.0 belongs to the last bin."""
    drawn = _parsed(charts.calibration(np.array([0.95, 1.0, 0.55]), np.array([True, True, False]), title="t", role="base"))
    said = [t.text for t in drawn.iter("title")]
    assert len(said) == 2
    assert said[1].startswith("2 images, stated 0.97") or said[1].startswith("2 images, stated 0.98")


def test_histograms_count_what_is_not_judged():
    """Values left out are said to be left out."""
    text = "".join(
        _parsed(charts.histograms([("student ~ teacher", "student", np.array([0.5, np.nan, 0.7]))], title="t", x_label="x")).itertext()
    )
    assert "n = 2, 1 not judged" in text and "median 0.60" in text


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [-3.0, 1e6], [1e-7, 2e-7], [0.871, 0.9]])
def test_axes_hold_their_values_and_at_least_two_ticks(values):
    """Whatever the figures, the axis reaches around them and can be read."""
    low, high, ticks = charts._axis(values, wanted=3)
    assert low < min(values) and max(values) < high
    assert 2 <= len(ticks) <= 6 and all(low <= tick <= high for tick in ticks)


def test_logarithmic_dots_stand_at_equal_steps():
    """1, 10 and 100 lie equally far apart, with ticks that don't run into each other."""
    rows = [charts.Dot(str(v), "student", v, v, v, "") for v in (1.0, 10.0, 100.0, 1e6)]
    drawn = _parsed(charts.dots(rows, title="t", logarithmic=True))
    first, second, third, last = (float(c.get("cx")) for c in drawn.iter("circle"))
    assert second - first == pytest.approx(third - second, abs=0.11)
    assert last - third == pytest.approx(4 * (second - first), abs=0.3)
    ticks = [t for t in drawn.iter("text") if t.get("class") == "tick"]
    assert len(ticks) >= 2 and all(float(b.get("x")) - float(a.get("x")) > 40 for a, b in pairwise(ticks))


@pytest.mark.parametrize("values", [[3.0], [3.0, 15000.0], [0.002, 0.004], [2.0, 90.0], [1.0, 1e9]])
def test_logarithmic_axis_has_two_ticks_around_its_values(values):
    """However close or far the figures, the axis holds them and can be read."""
    low, high, ticks = charts._decades(values, room=120)
    assert low < min(values) and max(values) < high and len(ticks) >= 2


def test_curves_survive_a_single_epoch_and_gaps():
    """One epoch, or a value that isn't finite, still gives a picture."""
    svg = charts.curves(
        [charts.Series("a", "base", [1], [0.5], 1.0), charts.Series("b", "student", [1, 2], [0.4, float("nan")])],
        title="t",
        x_label="epoch",
    )
    assert "nan" not in svg
    assert _parsed(svg).find(".//circle") is not None


def test_curves_draw_intervals_as_bands_and_break_long_legends():
    """The band lies around its line, the axis holds it whole, and no entry of the legend runs over the edge."""
    label = "A method with rather a long name"
    series = [
        charts.Series(f"{label} {k}", f"line{k}", [0.0, 50.0, 100.0], [0.1, 0.5, 0.6], band=[(0.0, 0.2), None, (0.4, 0.9)])
        for k in range(3)
    ]
    drawn = _parsed(charts.curves(series, title="Insertion", x_label="%"))
    band = next(e for e in drawn.iter("polygon"))
    corners = [tuple(map(float, point.split(","))) for point in band.get("points").split()]
    line = [tuple(map(float, p.split(","))) for p in next(e for e in drawn.iter("polyline")).get("points").split()]
    assert "r-line0" in band.get("class") and len(corners) == 4
    assert corners[3][1] > line[0][1] > corners[0][1]  # downwards: the lower end, the line, the upper end
    assert all(34 + 36 <= y <= float(drawn.get("height")) - 34 for _, y in corners)
    entries = [e for e in drawn.iter("text") if (e.text or "").startswith(label)]
    assert [float(e.get("y")) for e in entries] == [16, 34, 52]
    assert all(float(e.get("x")) + charts.text_width(e.text) <= charts.WIDTH for e in entries)
