"""The page in front of a sweep: which setting validation chose, all settings as a table and as plots, a link to each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pellucid.core import numbers
from pellucid.core.files import write_text
from pellucid.core.records import ROLES, Measurement, SweepRecord, SweepRow
from pellucid.core.settings import in_words, short_names, value_text
from pellucid.reporting import words
from pellucid.reporting.figures import charts
from pellucid.reporting.html import environment, table_data, template
from pellucid.reporting.sections import Panel, in_milliseconds, in_unit_with_interval, interval_sentence
from pellucid.reporting.tables import Table, latex_file, to_csv

# Figures on the test split that are plotted over the settings, where these were reported.
TEST_FIGURES = (
    "balanced_accuracy",
    "macro_f1",
    "auc",
    "mask_fidelity_gain",
    "mask_fidelity_top20",
    "mask_fidelity",
    "pointing_game",
    "transferred",
    "met",
)
DIFFERENCES = ("student - base", "student - teacher")
RESPLIT = ("data.fold", "data.repeat", "data.split_seed")  # repeats that split the images anew


def write(record: SweepRecord, folder: Path) -> Path:
    """Write ``report.html``, ``report/data/*.csv`` and ``tables.tex`` into a sweep's folder, each whole or not at all.

    Returns
    -------
    Path
        Of the page, which is written last.
    """
    tables = all_tables(record)
    for table in tables:
        write_text(folder / "report" / "data" / f"{table.name}.csv", to_csv(table))
    write_text(folder / "tables.tex", latex_file(tables))
    write_text(folder / "report.html", render(record, tables), kind="report")
    return folder / "report.html"


def render(record: SweepRecord, tables: Sequence[Table]) -> str:
    """Return the page: one HTML file that needs no network, and no JavaScript to be read."""
    chosen = record.rows[record.chosen]
    return environment().get_template("sweep.html.jinja").render(
        record=record,
        beside="report",
        chosen=_setting(chosen),
        figures=_chosen_figures(record, chosen),
        test_part=_test_part(record),
        panels=panels(record),
        tables={table.name: table for table in tables},
        runs=[(_setting(row), row.runs) for row in record.rows],
        basis=_basis(record),
        table_data=table_data(tables),
        style=Markup(template("style.css")),
        script=Markup(template("tables.js")),
        settings=_as_toml(record.settings),
    )  # fmt: skip


def all_tables(record: SweepRecord) -> list[Table]:
    """Return the table of all settings, the grid where two settings were varied, and the test figures of what was reported."""
    return [table for table in (settings_table(record), grid_table(record), test_table(record)) if table is not None]


def settings_table(record: SweepRecord) -> Table:
    """Return one row for each setting: the measure that chooses, on validation, of each network, and the differences."""
    columns = [(record.choose, role) for role in reversed(ROLES)] + [(f"{record.choose}_difference", model) for model in DIFFERENCES]
    found = [[row.find(name, model) for name, model in columns] for row in record.rows]
    places = numbers.decimals([m for row in found for m in row if m is not None])
    rows = [
        (*_values(record, row), "yes" if number == record.chosen else "", *(_cell(m, places) for m in figures), numbers.duration(round(row.seconds)))
        for number, (row, figures) in enumerate(zip(record.rows, found, strict=True))
    ]  # fmt: skip
    axes = _axes(record)
    name = words.measure_name(record.choose)
    caption = f"{name} on validation, {_basis(record)} Chosen is what validation prefers. {_test_part(record)}"
    headings = (*_names(record), "chosen", *(model for _, model in columns), "training")
    return Table("settings", caption, headings, tuple(rows), text_columns=len(axes) + 1)


def grid_table(record: SweepRecord) -> Table | None:
    """Return the student's figures as the paper prints its grid, the first setting in rows and the second in columns; None for other than two."""
    axes = _axes(record)
    if len(axes) != 2:
        return None
    down, across = axes
    found = {(_key(row.values[down]), _key(row.values[across])): row.find(record.choose, "student") for row in record.rows}
    places = numbers.decimals([m for m in found.values() if m is not None])
    rows = [
        (value_text(a), *(_cell(found.get((_key(a), _key(b))), places) for b in record.axes[across]))
        for a in record.axes[down]
    ]  # fmt: skip
    first, second = _names(record)
    caption = f"{words.measure_name(record.choose)} of the student on validation, {first} in rows and {second} in columns. {_basis(record)}"
    return Table("grid", caption, (first, *(f"{second} {value_text(value)}" for value in record.axes[across])), tuple(rows))


def test_table(record: SweepRecord) -> Table | None:
    """Return the figures on the test split of the settings that were reported; None where none was."""
    rows, shown = [], []
    for row in record.rows:
        for name in TEST_FIGURES:
            kept = [m for m in row.measurements if m.split == "test" and m.name in (name, f"{name}_difference")]
            kept = [m for m in kept if " - " not in m.by]
            places = numbers.decimals(kept)
            shown += kept
            for m in kept:
                what = words.measure_name(name) + (f", {words.method_name(m.by)}" if m.by else "")
                what += ", difference" if m.name != name else ""
                printed = in_unit_with_interval(m) if m.name == "met" else _cell(m, places)
                rows.append((*_values(record, row), what, m.model, printed, numbers.basis(m.n_images, m.n_units, m.unit)))
    if not rows:
        return None
    headings = (*_names(record), "measure", "network", "test", "rests on")
    caption = f"On the test split, of the settings that were reported. {interval_sentence(shown)}"
    return Table("test", caption, headings, tuple(rows), text_columns=len(headings) - 2)


def panels(record: SweepRecord) -> list[Panel]:
    """Return a plot for each figure over the setting with the most values; the other settings make lines of their own."""
    if not _axes(record):
        return []
    made = [
        _panel(record, record.choose, f"Validation: {words.measure_name(record.choose)}", ROLES),
        _panel(record, f"{record.choose}_difference", "Validation: student against teacher", ("student - teacher",), zero=True),
        _panel(record, f"{record.choose}_difference", "Validation: student against base", ("student - base",), zero=True),
    ]
    reported = [row for row in record.rows if any(m.split == "test" for m in row.measurements)]
    if len(reported) > 1:
        for name in TEST_FIGURES:
            methods = dict.fromkeys(m.by for row in reported for m in row.measurements if m.name == name and m.split == "test" and m.model)
            for by in methods:
                title = f"Test: {words.measure_name(name)}" + (f", {words.method_name(by)}" if by else "")
                title += ", in milliseconds" if name == "met" else ""
                made.append(_panel(record, name, title, ROLES, split="test", by=by, zero=name == "transferred"))
    return [panel for panel in made if panel is not None]


def _panel(
    record: SweepRecord, name: str, title: str, models: Sequence[str], *, split: str = "val", by: str = "", zero: bool = False
) -> Panel | None:
    """Draw one figure: what differs between settings as lines, what is the same in all of them as a level."""
    axis = max(_axes(record), key=lambda key: len(record.axes[key]))
    series, levels = [], []
    for model in models:
        found = [row.find(name, model, split=split, by=by) for row in record.rows]
        if name == "met":
            found = [m and in_milliseconds(m) for m in found]
        there = [m for m in found if m is not None and m.value is not None]
        role = words.role_of(model)
        if not there:
            continue
        if role != "student" and len(there) == len(found) and len({m.value for m in there}) == 1:
            m = there[0]
            levels.append(charts.Level(model, role, float(m.value or 0.0), m.low, m.high))
        else:
            series += _lines(record, found, axis, model, role)
    if not series:
        return None
    if zero:
        levels.append(charts.Level("no difference", "other", 0.0, None, None))
    places = [value_text(value) for value in record.axes[axis]]
    chart = charts.ranges(series, places, title=title, x_label=_names(record)[_axes(record).index(axis)], levels=levels)
    return Panel(title, chart, words.measure_meaning(name))


def _lines(record: SweepRecord, found: Sequence[Measurement | None], axis: str, model: str, role: str) -> list[charts.Range]:
    """Return one line for each combination of the other settings."""
    others = [key for key in _axes(record) if key != axis]
    names = dict(zip(_axes(record), _names(record), strict=True))
    lines: dict[str, dict[str, Measurement]] = {}
    for row, m in zip(record.rows, found, strict=True):
        if m is not None and m.value is not None and math.isfinite(m.value):
            name = ", ".join([model, *(f"{names[key]} {value_text(row.values[key])}" for key in others)])
            lines.setdefault(name, {})[_key(row.values[axis])] = m
    return [
        charts.Range(name, role, [_point(points.get(_key(value))) for value in record.axes[axis]])
        for name, points in lines.items()
    ]  # fmt: skip


def _point(m: Measurement | None) -> tuple[float, float | None, float | None] | None:
    return None if m is None or m.value is None else (m.value, m.low, m.high)


def _chosen_figures(record: SweepRecord, row: SweepRow) -> list[tuple[str, str]]:
    """Return what the first screen says of the chosen setting: on validation, and on the test split where it was reported."""
    wanted = [
        ("Student on validation", record.choose, "student", "val"),
        ("Student on test", record.choose, "student", "test"),
        ("Student - teacher on test", f"{record.choose}_difference", "student - teacher", "test"),
        ("Student - base on test", f"{record.choose}_difference", "student - base", "test"),
    ]
    found = [(name, row.find(measure, model, split=split)) for name, measure, model, split in wanted]
    return [(name, numbers.full(m)) for name, m in found if m is not None]


def _basis(record: SweepRecord) -> str:
    """Return n, how intervals were made, and how seeds and folds enter."""
    m = record.rows[record.chosen].find(record.choose, "student")
    repeats = [key.rpartition(".")[2] for key in record.repeats]
    over = ""
    if repeats:
        several = [f"{len(record.axes[key])} {name}s" for key, name in zip(record.repeats, repeats, strict=True)]
        how = ["folds pooled"] * ("data.fold" in record.repeats) + ["seeds averaged"] * (record.repeats != ["data.fold"])
        over = f"; over {' and '.join(several)}: {', '.join(how)}"
    return f"{numbers.basis(m.n_images, m.n_units, m.unit)}{over}. In brackets the 95 % interval ({m.method})." if m is not None else ""


def _test_part(record: SweepRecord) -> str:
    """Say what part test images had in the choice: with several splits an image of one run's test helps to train or to judge another run."""
    crossing = [key for key in record.repeats if key in RESPLIT and len(record.axes[key]) > 1]
    if len(record.rows) == 1 or not crossing:
        return "Test images had no part in the choice."
    return (
        f"No run's test images chose for that run; but over several {' and '.join(key.rpartition('.')[2] for key in crossing)}s each image is "
        "also on another side of the split, so the test figures of the chosen setting may be a little too good."
    )


def _setting(row: SweepRow) -> str:
    return in_words(row.values) or "the one setting"


def _axes(record: SweepRecord) -> list[str]:
    return [key for key in record.axes if key not in record.repeats]


def _names(record: SweepRecord) -> list[str]:
    """Return short names of the settings that were varied."""
    return list(short_names(_axes(record)).values())


def _values(record: SweepRecord, row: SweepRow) -> tuple[str, ...]:
    return tuple(value_text(row.values[key]) for key in _axes(record))


def _key(value: Any) -> str:
    return repr(value)


def _cell(m: Measurement | None, places: int) -> str:
    return "" if m is None else numbers.with_interval(m, places)


def _as_toml(settings: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(settings)
