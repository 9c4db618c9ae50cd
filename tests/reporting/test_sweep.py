"""The page in front of a sweep: the choice first, then every setting as a table, a grid and plots."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import pytest

from pellucid.core.records import Measurement, SweepRecord, SweepRow
from pellucid.reporting import sweep


def figure(name, value, model, *, split="val", by="", half=0.04):
    signed = name.endswith("_difference")
    return Measurement(
        name, value, value - half, value + half, n_images=120, n_units=30, unit="subjects", model=model, split=split, by=by,
        method="bootstrap by subject, 2000", better="neither" if signed else "higher",
    )  # fmt: skip


def row(alpha, temperature, value, *, test=False):
    found = [figure("balanced_accuracy", v, m) for m, v in (("teacher", 0.9), ("base", 0.8), ("student", value))]
    found += [figure("balanced_accuracy_difference", value - v, f"student - {m}") for m, v in (("base", 0.8), ("teacher", 0.9))]
    if test:
        found += [
            figure("balanced_accuracy", value - 0.02, "student", split="test"),
            figure("met", 0.5, "student", split="test", by="grad_cam"),
        ]
        found += [figure("balanced_accuracy_difference", value - 0.92, "student - teacher", split="test")]
    link = f"runs/alpha={alpha:g},temperature={temperature}/report.html" if test else ""
    return SweepRow({"distill.alpha": alpha, "distill.temperature": temperature}, found, [("seed 0", link), ("seed 1", link)], 61.0)


@pytest.fixture
def record():
    rows = [row(a, t, 0.8 + 0.01 * k, test=k == 5) for k, (a, t) in enumerate((a, t) for a in (0.4, 0.7) for t in (5, 10, 15))]
    return SweepRecord(
        title="Tumours <& more>", created="2026-01-01", command="pellucid sweep x.toml",
        axes={"distill.alpha": [0.4, 0.7], "distill.temperature": [5, 10, 15], "run.seed": [0, 1]}, repeats=["run.seed"],
        choose="balanced_accuracy", rows=rows, chosen=5, why="its student has the highest balanced accuracy on validation", failed=[],
        settings={"run": {"seed": 0}}, versions={"pellucid": "1"},
    )  # fmt: skip


def test_the_choice_stands_first_with_its_figures(record):
    page = sweep.render(record, sweep.all_tables(record))
    first = page[: page.index('id="settings"')]
    assert "alpha 0.7, temperature 15" in first and "Because its student has the highest" in first
    assert "0.830 [0.790, 0.870], n = 120 images of 30 subjects" in first  # on test
    assert "-0.070 [-0.110, -0.030]" in first  # against the teacher
    assert "Tumours &lt;&amp; more&gt;" in first


def test_every_setting_is_a_row_and_the_chosen_one_is_marked(record):
    table = sweep.settings_table(record)
    assert table.columns[:6] == ("alpha", "temperature", "chosen", "student", "base", "teacher")
    assert [line[:4] for line in table.rows][-1] == ("0.7", "15", "yes", "0.850 [0.810, 0.890]")
    assert [line[2] for line in table.rows].count("yes") == 1
    assert "seeds averaged" in table.caption and "n = 120 images of 30 subjects" in table.caption


def test_two_settings_are_printed_as_the_papers_grid(record):
    table = sweep.grid_table(record)
    assert table.columns == ("alpha", "temperature 5", "temperature 10", "temperature 15")
    assert table.rows[1] == ("0.7", "0.830 [0.790, 0.870]", "0.840 [0.800, 0.880]", "0.850 [0.810, 0.890]")
    one_axis = replace(record, axes={"distill.temperature": [5, 10, 15]})
    assert sweep.grid_table(one_axis) is None


def test_a_plot_has_a_line_for_each_other_setting_and_levels_for_what_stays_the_same(record):
    """Temperature has the most values, so it is the axis; teacher and base don't depend on it and are bands."""
    first = sweep.panels(record)[0].chart
    assert "student, alpha 0.4" in first and "student, alpha 0.7" in first
    assert len(re.findall(r'class="band r-(?:teacher|base)"', first)) == 2
    assert first.count('class="dot r-student"') == 6 + 2  # six settings, and the legend
    assert ">temperature</text>" in first


def test_a_base_that_changes_with_the_setting_is_a_line(record):
    """With another depth the base is another network in each setting."""
    changed = [
        replace(r, measurements=[replace(m, value=m.value + 0.01 * k) if m.model == "base" else m for m in r.measurements])
        for k, r in enumerate(record.rows)
    ]
    first = sweep.panels(replace(record, rows=changed))[0].chart
    assert "base, alpha 0.4" in first
    assert len(re.findall(r'class="band r-', first)) == 1


def test_figures_on_test_are_plotted_only_where_several_settings_have_them(record):
    assert not [p for p in sweep.panels(record) if p.title.startswith("Test")]
    everywhere = replace(
        record, rows=[row(r.values["distill.alpha"], r.values["distill.temperature"], 0.8, test=True) for r in record.rows]
    )
    assert "Test: Time for one map, Grad-CAM" in [p.title for p in sweep.panels(everywhere)]


def test_runs_without_a_report_have_no_link(record):
    page = sweep.render(record, sweep.all_tables(record))
    assert page.count('href="runs/alpha=0.7,temperature=15/report.html"') == 2
    assert page.count("judged on validation only") == 10


def test_failures_stand_above_everything(record):
    page = sweep.render(replace(record, failed=[("student alpha 0.9", "the loss became nan")]), sweep.all_tables(record))
    assert page.index("student alpha 0.9: the loss became nan") < page.index("Which setting?")


def test_tables_lie_beside_the_page(record, tmp_path):
    assert sweep.write(record, tmp_path) == tmp_path / "report.html"
    with (tmp_path / "report" / "data" / "grid.csv").open() as stream:
        assert next(csv.reader(stream)) == ["alpha", "temperature 5", "temperature 10", "temperature 15"]
    assert "tab:settings" in (tmp_path / "tables.tex").read_text()
    test = (tmp_path / "report" / "data" / "test.csv").read_text()
    assert "0.7,15,Balanced accuracy,student," in test and "0.4" not in test.splitlines()[1]
