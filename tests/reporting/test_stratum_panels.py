"""Similarity of maps in each class, and by who was right, as small panels on one axis."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

from pellucid.core.records import Measurement
from pellucid.reporting import page, sections


def rows() -> list[Measurement]:
    return [
        Measurement("similarity", value, value - 0.1, value + 0.1, n_images=20, n_units=9, unit="subjects", model=f"{role} ~ teacher", by="grad_cam", stratum=stratum)
        for stratum, first in (("ring", 0.8), ("both wrong", -0.3))
        for role, value in (("student", first), ("base", first - 0.2))
    ]  # fmt: skip


def test_each_class_and_group_has_a_panel_with_its_n(record):
    panels = sections.stratum_panels(replace(record, measurements=rows()))
    assert [p.title for p in panels] == ["ring", "both wrong"]
    assert all(p.meaning == "n = 20 images of 9 subjects." for p in panels)
    assert "base ~ teacher" in panels[0].chart and "0.80 [0.70, 0.90]" in panels[0].chart


def test_all_panels_have_one_axis(record):
    """From the lowest end of any interval to the highest: the same ticks at the same places."""
    axes = []
    for panel in sections.stratum_panels(replace(record, measurements=rows())):
        ticks = [text for text in ET.fromstring(panel.chart).iter("text") if text.get("class") == "tick"]
        axes.append([(text.text, text.get("x")) for text in ticks])
    assert axes[0] == axes[1] and len(axes[0]) >= 3


def test_the_page_shows_them_only_where_they_were_measured(record):
    """No heading without a picture."""
    without = replace(record, measurements=[m for m in record.measurements if m.name != "similarity"])
    assert "By class and by who was right" not in page.render(without)
    assert "By class and by who was right" in page.render(replace(record, measurements=[*without.measurements, *rows()]))
