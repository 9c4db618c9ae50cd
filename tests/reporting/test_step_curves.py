"""Insertion, deletion and ROAD as curves: one panel per network, one line per method."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

from pellucid.core.records import Measurement, RunRecord
from pellucid.reporting import page, sections, words


def with_curves(record: RunRecord, *, methods: tuple[str, ...] = ("grad_cam", "random_smooth")) -> RunRecord:
    """Return the record with insertion and deletion curves of teacher, base and student."""
    facts: dict[str, Any] = {"n_images": 100, "n_units": 31, "unit": "subjects", "method": "bootstrap by subject, 2000"}
    rows = [
        Measurement(name, value, value - 0.05, value + 0.04, model=model, by=by, stratum=f"{share} %", **facts)
        for name, start, end in (("insertion_curve", 0.2, 0.9), ("deletion_curve", 0.9, 0.2))
        for model in ("teacher", "base", "student")
        for number, by in enumerate(methods)
        for share in range(0, 101, 5)
        for value in [start + (end - start) * (share / 100) ** (0.4 + 0.6 * number)]
    ]
    return replace(record, measurements=[*record.measurements, *rows])


def test_teacher_and_student_have_a_panel_for_each_curve(record):
    """Titles name curve and network; the sentence beside it tells what to hope for and on how many images it rests."""
    panels = sections.step_curves(with_curves(record))
    assert [p.title for p in panels] == ["Insertion: teacher", "Insertion: student", "Deletion: teacher", "Deletion: student"]
    assert panels[0].meaning == words.measure_meaning("insertion_curve") + " n = 100 images of 31 subjects."


def test_each_method_is_a_line_with_its_band(record):
    """A method has a colour of its own, a control that of the controls; insertion rises, deletion falls."""
    insertion, _, deletion, _ = (ET.fromstring(p.chart) for p in sections.step_curves(with_curves(record)))
    for drawn, rises in ((insertion, True), (deletion, False)):
        lines = list(drawn.iter("polyline"))
        assert [line.get("class").split()[1] for line in lines] == ["r-line0", "r-other"]
        ends = [float(line.get("points").split()[end].split(",")[1]) for line in lines for end in (0, -1)]
        assert (ends[0] > ends[1]) is rises and (ends[2] > ends[3]) is rises  # downwards on the page
        assert len(list(drawn.iter("polygon"))) == 2
        assert [t.text for t in drawn.iter("text")][-2:] == [words.method_name(m) for m in ("grad_cam", "random_smooth")]


def test_the_page_has_the_section_only_where_curves_were_measured(record):
    """No heading without a picture; single points are in no table of the page, but in measurements.csv."""
    title = "How soon does the answer come"
    assert title not in page.render(record)
    shown = page.render(with_curves(record))
    assert title in shown and "Insertion: student" in shown and "<td>35 %</td>" not in shown


def test_undefined_points_are_left_out(record):
    """A network of which nothing could be judged has no panel."""
    rows = [Measurement("insertion_curve", None, model="student", by="grad_cam", stratum="0 %", reason="undefined: no image has a value")]
    assert sections.step_curves(replace(record, measurements=rows)) == []
