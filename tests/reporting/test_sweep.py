"""The page in front of a sweep: the choice first, then every setting as a table, a grid and plots."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

from pellucid.core.records import Measurement
from pellucid.reporting import sweep


def test_the_choice_stands_first_with_its_figures(swept):
    page = sweep.render(swept, sweep.all_tables(swept))
    first = page[: page.index('id="settings"')]
    assert "alpha 0.7, temperature 15" in first and "Because its student has the highest" in first
    assert "0.830 [0.790, 0.870], n = 120 images of 30 subjects" in first  # on test
    assert "-0.070 [-0.110, -0.030]" in first  # against the teacher
    assert "Tumours &lt;&amp; more&gt;" in first


def test_every_setting_is_a_row_and_the_chosen_one_is_marked(swept):
    table = sweep.settings_table(swept)
    assert table.columns[:6] == ("alpha", "temperature", "chosen", "student", "base", "teacher")
    assert [line[:4] for line in table.rows][-1] == ("0.7", "15", "yes", "0.850 [0.810, 0.890]")
    assert [line[2] for line in table.rows].count("yes") == 1
    assert "seeds averaged" in table.caption and "n = 120 images of 30 subjects" in table.caption


def test_two_settings_are_printed_as_the_papers_grid(swept):
    table = sweep.grid_table(swept)
    assert table.columns == ("alpha", "temperature 5", "temperature 10", "temperature 15")
    assert table.rows[1] == ("0.7", "0.830 [0.790, 0.870]", "0.840 [0.800, 0.880]", "0.850 [0.810, 0.890]")
    one_axis = replace(swept, axes={"distill.temperature": [5, 10, 15]})
    assert sweep.grid_table(one_axis) is None


def test_a_plot_has_a_line_for_each_other_setting_and_levels_for_what_stays_the_same(swept):
    """Temperature has the most values, so it is the axis; teacher and base don't depend on it and are bands."""
    first = sweep.panels(swept)[0].chart
    assert "student, alpha 0.4" in first and "student, alpha 0.7" in first
    assert len(re.findall(r'class="band r-(?:teacher|base)"', first)) == 2
    assert first.count('class="dot r-student"') == 6 + 2  # six settings, and the legend
    assert ">temperature</text>" in first


def test_a_base_that_changes_with_the_setting_is_a_line(swept):
    """With another depth the base is another network in each setting."""
    changed = [
        replace(r, measurements=[replace(m, value=m.value + 0.01 * k) if m.model == "base" else m for m in r.measurements])
        for k, r in enumerate(swept.rows)
    ]
    first = sweep.panels(replace(swept, rows=changed))[0].chart
    assert "base, alpha 0.4" in first
    assert len(re.findall(r'class="band r-', first)) == 1


def test_figures_on_test_are_plotted_only_where_several_settings_have_them(swept):
    assert not [p for p in sweep.panels(swept) if p.title.startswith("Test")]
    everywhere = replace(swept, rows=[replace(r, measurements=swept.rows[5].measurements) for r in swept.rows])
    assert "Test: Time for one map, Grad-CAM, in milliseconds" in [p.title for p in sweep.panels(everywhere)]


def test_times_of_maps_stand_in_their_unit(swept):
    """Seconds of SHAP would leave 0.0 of an average map's milliseconds."""
    met = [
        Measurement("met", v, 0.9 * v, 1.1 * v, 20, model="student", by=by)
        for by, v in (("average_feature_map", 0.003), ("kernel_shap", 5.0))
    ]
    timed = replace(swept, rows=[replace(r, measurements=[*r.measurements, *met]) for r in swept.rows])
    shown = [row[-2] for row in sweep.test_table(timed).rows if row[2].startswith("Time for one map")]
    assert "3.00 ms [2.70, 3.30]" in shown and "5.00 s [4.50, 5.50]" in shown
    (panel,) = [p for p in sweep.panels(timed) if p.title == "Test: Time for one map, Average feature map, in milliseconds"]
    assert ">3.0" in panel.chart or ">3<" in panel.chart


def test_runs_without_a_report_have_no_link(swept):
    page = sweep.render(swept, sweep.all_tables(swept))
    assert page.count('href="runs/alpha=0.7,temperature=15/report.html"') == 2
    assert page.count("judged on validation only") == 10


def test_failures_stand_above_everything(swept):
    page = sweep.render(replace(swept, failed=[("student alpha 0.9", "the loss became nan")]), sweep.all_tables(swept))
    assert page.index("student alpha 0.9: the loss became nan") < page.index("Which setting?")


def test_tables_lie_beside_the_page(swept, tmp_path):
    assert sweep.write(swept, tmp_path) == tmp_path / "report.html"
    with (tmp_path / "report" / "data" / "grid.csv").open() as stream:
        assert next(csv.reader(stream)) == ["alpha", "temperature 5", "temperature 10", "temperature 15"]
    assert "tab:settings" in (tmp_path / "tables.tex").read_text()
    test = (tmp_path / "report" / "data" / "test.csv").read_text()
    assert "0.7,15,Balanced accuracy,student," in test and "0.4" not in test.splitlines()[1]


def test_folds_that_also_choose_are_not_called_untouched(swept):
    """An image that is test in one fold is validation in another, so the chosen setting's test figures aren't clean, and it is said."""
    assert "Test images had no part in the choice." in sweep.settings_table(swept).caption
    folded = replace(swept, axes={**swept.axes, "data.fold": [0, 1]}, repeats=[*swept.repeats, "data.fold"])
    page = sweep.render(folded, sweep.all_tables(folded))
    assert (
        "had no part" not in page and page.count("over several folds each image is also on another side") == 2 + 2
    )  # table: label, copies
    alone = replace(folded, rows=folded.rows[-1:], chosen=0)
    assert "Test images had no part in the choice." in sweep.settings_table(alone).caption


def test_the_table_of_test_figures_says_how_its_intervals_were_made(swept):
    assert "In brackets the 95 % interval" in sweep.test_table(swept).caption
