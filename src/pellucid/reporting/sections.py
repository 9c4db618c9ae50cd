"""What stands in each section of the page: panels, tables and sentences, drawn from a record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pellucid.core import numbers
from pellucid.core.records import ROLES, TWIN, Explanation, Measurement, RunRecord, even_centres, stratum_of
from pellucid.reporting import words
from pellucid.reporting.cases import CaseBook
from pellucid.reporting.figures import charts, maps
from pellucid.reporting.tables import Table
from pellucid.stats.classification import confusion, softmax

MOST_THUMBNAILS = 240  # of the contact sheet, over all classes
_GAINS = {"parameters": ("smaller", "larger"), "multiply_adds": ("less work", "more work"), "file_size": ("smaller", "larger"),
          "latency_p50": ("faster", "slower"), "latency_p95": ("faster", "slower"), "throughput": ("faster", "slower"), "peak_memory": ("less", "more")}  # fmt: skip
# Measures of likeness to the teacher, each with its lines of reference.
_TRANSFER: dict[str, list[tuple[float, str]]] = {"similarity": [], "transferred": [(0.0, "")], "transfer_gain": [(0.0, ""), (1.0, "twin")]}
_CASCADE = ("randomisation", "randomisation_area")
_WITH_PANEL = {*_TRANSFER, "cross_deletion", *_CASCADE, "met", "completeness_gap", *words.LOCALISATION, *words.FAITHFULNESS}
_ELSEWHERE = {"met_ratio", "met_p50", "met_p95"}  # in the table of times; the student's against the teacher's has a panel
_WIDE = 20  # times of maps that differ by more than this factor stand on a logarithmic axis
DIFFERENCES = ("student - teacher", "student - base", "base - teacher")


@dataclass(frozen=True)
class Panel:
    """A small chart with its title and the sentence that explains it; why figures are undefined (notes), and remarks, folded away."""

    title: str
    chart: str
    meaning: str = ""
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def accuracy(record: RunRecord, book: CaseBook) -> dict[str, Any]:
    """Return the section "Is it as right?": panels, differences, confusion, calibration, per-class table, training curves."""
    whole = [m for m in record.measurements if m.stratum == "all" and not m.by]
    margin = float(record.settings.get("measure", {}).get("margin", 0.02))
    named = accuracy_names(record)
    panels = [p for name in named if (p := _panel(name, [m for m in whole if m.name == name], words.measure_name(name)))]
    differences = []
    for name in named:
        lines = [(0.0, "")]
        if name == "balanced_accuracy":
            lines.append((-margin, f"margin -{margin:g}"))
        rows = [m for m in whole if m.name == f"{name}_difference" and m.model in DIFFERENCES]
        better = next((m.better for m in whole if m.name == name), "higher")
        title = f"{words.measure_name(name)}, difference"
        if panel := _panel(name, rows, title, lines=lines, meaning=f"{better.capitalize()} is better." if better != "neither" else ""):
            differences.append(panel)
    probabilities = {role: softmax(record.logits[role]) for role in book.roles}
    right = {role: probabilities[role].argmax(1) == record.targets for role in book.roles}
    answers = [
        Panel(
            role_title(record, role),
            charts.confusion(
                confusion(record.targets, probabilities[role].argmax(1), record.task.n_classes),
                record.task.classes, title=role_title(record, role), role=_drawn_role(role),
            ),
        )
        for role in book.roles
    ]  # fmt: skip
    reliability = [
        Panel(
            role_title(record, role),
            charts.calibration(probabilities[role].max(1), right[role], title=role_title(record, role), role=_drawn_role(role)),
        )
        for role in book.roles
    ]
    return {
        "panels": panels,
        "differences": differences,
        "confusion": answers,
        "calibration": reliability,
        "n_test": n_test(record),
        "basis": common_basis(m for m in whole if m.name in words.ACCURACY),
        "per_class": per_class_table(record) is not None,
        "curves": training_curves(record),
    }


def explanation(record: RunRecord, book: CaseBook) -> dict[str, Any]:
    """Return the distributions of the section "Where they look": similarity, localisation and faithfulness, by method."""
    found = of_maps(record)
    spread = []
    for method in book.methods:
        rows = [
            (f"{role} ~ teacher", _drawn_role(role), book.alike[role, method])
            for role in ("student", "base", TWIN)
            if (role, method) in book.alike
        ]
        rows = [row for row in rows if np.isfinite(row[2]).any()]
        title = words.method_name(method)
        if rows:
            spread.append(
                Panel(
                    title,
                    charts.histograms(rows, title=f"Similarity of {title} maps", x_label="similarity to the teacher's map (Spearman)"),
                )
            )
        else:
            spread.append(Panel(title, "", meaning=book.not_judged(method) or "not judged: no case has two maps with signal"))
    return {
        "methods": [
            {"key": method, "name": words.method_name(method), "meaning": words.method_meaning(method), "where": _where(book, method)}
            for method in book.methods
        ],
        "spread": spread,
        "similarity": [p for name, lines in _TRANSFER.items() if (p := panel_by_method(name, found, lines=lines))],
        "crossed": [p for p in [panel_by_method("cross_deletion", found)] if p],
        "cascade": [*cascade_panels(record), *(p for name in _CASCADE if (p := _with_notes(panel_by_method(name, found))))],
        "localisation": [p for name in words.LOCALISATION if (p := panel_by_method(name, found))],
        "faithfulness": [p for name in words.FAITHFULNESS if (p := panel_by_method(name, found))],
        "step_curves": step_curves(record),
        "strata": stratum_panels(record),
        "met": met_panel([m for m in found if m.name == "met"]),
        "gap": gap_panel([m for m in found if m.name == "completeness_gap"]),
        "basis": common_basis(m for m in found if m.name in _WITH_PANEL - {"met"}),
        "has_masks": record.cases.masks is not None and bool(record.cases.masks.any()),
        "further": further_of_maps(record) is not None,
    }  # fmt: skip


def accuracy_names(record: RunRecord) -> list[str]:
    """Return the measures of accuracy that this run has, in the page's order."""
    there = {m.name for m in record.measurements if m.stratum == "all" and not m.by}
    return [name for name in words.ACCURACY if name in there]


def further_of_maps(record: RunRecord) -> Table | None:
    """Return the measures of maps that have no chart of their own."""
    return further_table([m for m in of_maps(record) if m.name not in _WITH_PANEL | _ELSEWHERE and (m.name, m.model) not in words.EASIER])


def met_panel(found: Sequence[Measurement]) -> Panel | None:
    """Return the times of maps by method; on a logarithmic axis where they lie far apart, as those of SHAP do."""
    if not found:
        return None
    ends = [v for m in found for v in (m.value, m.low, m.high) if v is not None]
    wide = bool(ends) and 0 < _WIDE * min(ends) < max(ends)
    rows: list[charts.Dot | str] = []
    for method in dict.fromkeys(m.by for m in found):
        rows.append(words.method_name(method))
        for m in sorted((m for m in found if m.by == method), key=lambda m: _place(m.model)):
            drawn = in_milliseconds(m)
            rows.append(
                charts.Dot(m.model, words.role_of(m.model), drawn.value, drawn.low, drawn.high, in_unit_with_interval(m).split(":")[0])
            )
    title = f"{words.measure_name('met')}, in milliseconds{' (each step is ten times as long)' if wide else ''}"
    chart = charts.dots(rows, title=title, logarithmic=wide)
    return with_remarks(Panel(title, chart, words.measure_meaning("met")), found)


def gap_panel(found: Sequence[Measurement]) -> Panel | None:
    """Return how far SHAP's values are from adding up, with on how many images that can't be said in full view."""
    return _with_notes(panel_by_method("completeness_gap", found))


def _with_notes(panel: Panel | None) -> Panel | None:
    """Return a panel with its remarks in full view."""
    return replace(panel, notes=[*panel.notes, *panel.remarks], remarks=[]) if panel else None


def cascade_panels(record: RunRecord) -> list[Panel]:
    """Return for each method how alike its maps stay to the original while layers get random weights, from the logits down."""
    steps = [m for m in record.measurements if m.name == "randomisation" and m.stratum != "all"]
    panels = []
    for method in dict.fromkeys(m.by for m in steps):
        series = []
        for role in networks_in_order(record):
            values = [m.value for m in steps if (m.by, m.model) == (method, role)]
            if values:
                curve = [1.0, *(float("nan") if value is None else value for value in values)]
                series.append(charts.Series(role, _drawn_role(role), list(range(len(curve))), curve))
        if series:
            title = f"Randomisation cascade: {words.method_name(method)}"
            meaning = "Each step gives random weights to more layers, from the logits (step 1) down to the input. The curve should fall."
            panels.append(Panel(title, charts.curves(series, title=title, x_label="step"), meaning))
    return panels


def cascade_table(record: RunRecord) -> Table | None:
    """Return each step of the randomisation cascade: the lowest part that is random by then, and how alike maps still are."""
    steps = [m for m in record.measurements if m.name == "randomisation" and m.stratum != "all"]
    if not steps:
        return None
    places = numbers.decimals(steps, most=3)
    rows = [
        (words.method_name(m.by), m.model, m.stratum, cell(m, places), numbers.basis(m.n_images, m.n_units, m.unit).removeprefix("n = "))
        for m in steps
    ]
    caption = "Rank correlation of |map| with the original's when all layers from the logits down to the one named have random weights. "
    return Table("randomisation", caption + interval_sentence(steps), ("Method", "Network", "Random down to", "Figure", "n"), tuple(rows), text_columns=3)  # fmt: skip


def step_curves(record: RunRecord) -> list[Panel]:
    """Return how the class's probability moves as pixels come and go: one panel per curve and network, one line per method."""
    panels = []
    for name in words.CURVES:
        points = [m for m in record.measurements if m.name == name and m.value is not None]
        there = [role for role in networks_in_order(record) if any(m.model == role for m in points)]
        for role in [role for role in there if role in ("teacher", "student")] or there:
            of_role = [m for m in points if m.model == role]
            methods = list(dict.fromkeys(m.by for m in of_role))
            series = [_step_line(number, [m for m in of_role if m.by == method]) for number, method in enumerate(methods)]
            title = f"{words.measure_name(name)}: {role}"
            chart = charts.curves(series, title=title, x_label=words.CURVES[name])
            panels.append(Panel(title, chart, f"{words.measure_meaning(name)} {numbers.basis(*n_of(of_role))}."))
    return panels


def _step_line(number: int, points: Sequence[Measurement]) -> charts.Series:
    method = points[0].by
    colour = "other" if method in words.CONTROLS else charts.LINES[number % len(charts.LINES)]
    band = [None if m.low is None or m.high is None else (m.low, m.high) for m in points]
    shares = [float(m.stratum.removesuffix(" %")) for m in points]
    return charts.Series(words.method_name(method), colour, shares, [m.value for m in points if m.value is not None], band=band)


def cost_table(record: RunRecord) -> Table | None:
    """Return the table of costs: one row per measure, one column per network, and how many times less the student takes."""
    of_cost = [m for m in record.measurements if m.name in words.COST and m.stratum == "all" and m.model in record.networks]
    roles = [role for role in networks_in_order(record) if any(m.model == role for m in of_cost)]
    rows: list[tuple[str, ...]] = []
    how: dict[str, dict[str, bool]] = {}
    for name in words.COST:
        by_role = {m.model: m for m in of_cost if m.name == name}
        if not by_role:
            continue
        cells = [in_unit_with_interval(by_role.get(role)) for role in roles]
        teacher, student = (_value(by_role.get(role)) for role in ("teacher", "student"))
        times = _gain(name, teacher, student) if teacher and student else ""
        rows.append((words.measure_name(name), *cells, times))
        for m in by_role.values():
            if m.method:
                how.setdefault(m.method, {})[words.measure_name(name).split(",")[0].lower()] = True
    if not rows:
        return None
    columns = ("", *(role_title(record, role) for role in roles), "Student against teacher")
    made = "; ".join(f"{', '.join(names)}: {method}" for method, names in how.items())
    caption = "Size and speed of each network. 1 MB is 10^6 bytes." + (f" How: {made}." if made else "")
    return Table("cost", caption, columns, tuple(rows))


def per_class_table(record: RunRecord) -> Table | None:
    """Return figures for each class and network, with the class's n."""
    strata = {label: stratum_of(label) for label in record.task.classes}
    found = [m for m in record.measurements if m.stratum in strata.values() and not m.by and m.model in record.networks]
    names = [name for name in (*words.PER_CLASS, "sensitivity_at_specificity") if any(m.name == name for m in found)]
    if not names:
        return None
    places = {name: numbers.decimals(m for m in found if m.name == name) for name in names}
    rows = []
    for label, stratum in strata.items():
        for role in networks_in_order(record):
            by_name = {m.name: m for m in found if m.stratum == stratum and m.model == role}
            if not by_name:
                continue
            n = numbers.basis(*n_of(by_name.values())).removeprefix("n = ")
            cells = [cell(by_name.get(name), places[name]) for name in names]
            rows.append((label, role, n, *cells))
    caption = "Each class by itself. " + interval_sentence(found)
    return Table(
        "per_class", caption, ("Class", "Network", "n", *(words.measure_name(name) for name in names)), tuple(rows), text_columns=3
    )


def accuracy_table(record: RunRecord, names: Sequence[str]) -> Table | None:
    """Return the figures of the accuracy plots as a table: measures in rows, networks and differences in columns."""
    whole = [m for m in record.measurements if m.stratum == "all" and not m.by]
    roles, gaps = networks_in_order(record), [d for d in DIFFERENCES if any(m.model == d for m in whole)]
    rows = []
    for name in names:
        plain, apart = ([m for m in whole if m.name == n] for n in (name, f"{name}_difference"))
        places = numbers.decimals([*plain, *apart])
        by_model = {m.model: m for m in plain} | {m.model: m for m in apart}
        if by_model:
            rows.append((words.measure_name(name), *(cell(by_model.get(model), places) for model in (*roles, *gaps))))
    if not rows:
        return None
    caption = f"{numbers.basis(*n_of(whole))}. " + interval_sentence(whole)
    return Table("accuracy", caption, ("Measure", *(role_title(record, role) for role in roles), *gaps), tuple(rows))


def strata_table(record: RunRecord) -> Table | None:
    """Return the similarity of maps by who was right and by class."""
    found = [m for m in record.measurements if m.name in ("similarity", "transferred") and m.stratum != "all" and m.by]
    if not found:
        return None
    columns = list(dict.fromkeys((m.name, m.model) for m in found))
    places = numbers.decimals(found, most=3)
    rows = []
    for method in dict.fromkeys(m.by for m in found):
        for stratum in dict.fromkeys(m.stratum for m in found if m.by == method):
            by_column = {(m.name, m.model): m for m in found if m.by == method and m.stratum == stratum}
            n = numbers.basis(*n_of(by_column.values())).removeprefix("n = ")
            rows.append((words.method_name(method), stratum, n, *(cell(by_column.get(c), places) for c in columns)))
    titles = [model if name == "similarity" else f"transferred ({model})" for name, model in columns]
    caption = "Similarity of maps to the teacher's (Spearman), by class and by who was right. " + interval_sentence(found)
    return Table("similarity_strata", caption, ("Method", "Images", "n", *titles), tuple(rows), text_columns=3)


def stratum_panels(record: RunRecord) -> list[Panel]:
    """Return the similarity of maps in each class, and by who was right: one small panel each, all on one axis."""
    found = [m for m in record.measurements if m.name == "similarity" and m.stratum != "all" and m.by and m.value is not None]
    ends = [end for m in found for end in (m.value, m.low, m.high) if end is not None]
    places = numbers.decimals(found)
    panels = []
    for stratum in dict.fromkeys(m.stratum for m in found):
        rows: list[charts.Dot | str] = []
        of_stratum = [m for m in found if m.stratum == stratum]
        for method in dict.fromkeys(m.by for m in of_stratum):
            rows.append(words.method_name(method))
            rows += [_dot(m, places) for m in sorted((m for m in of_stratum if m.by == method), key=lambda m: _place(m.model))]
        chart = charts.dots(rows, title=f"Similarity to the teacher's maps: {stratum}", within=ends)
        panels.append(Panel(stratum, chart, f"{numbers.basis(*n_of(of_stratum))}."))
    return panels


def further_table(
    found: Sequence[Measurement], *, name: str = "further_map_measures", caption: str = "Further measures of the maps. "
) -> Table | None:
    """Return measures that have no chart of their own, so that nothing measured goes unseen."""
    if not found:
        return None
    rows = [
        (
            words.measure_name(m.name), words.method_name(m.by) if m.by else "", m.model or "images", m.stratum, numbers.with_interval(m),
            numbers.basis(m.n_images, m.n_units, m.unit).removeprefix("n = "),
        )
        for m in found
    ]  # fmt: skip
    pairs = [f"{model}: {meaning}" for model in dict.fromkeys(m.model for m in found) if (meaning := words.comparison_meaning(model))]
    return Table(
        name,
        " ".join([caption + interval_sentence(found), *pairs]),
        ("Measure", "Method", "Of", "Images", "Figure", "n"),
        tuple(rows),
        text_columns=4,
    )


def other_measures(record: RunRecord) -> Table | None:
    """Return the measures that no section knows, e.g. those of other packages."""
    known = {*words.ACCURACY, *words.COST, *words.PER_CLASS, *words.LOCALISATION}
    others = [m for m in record.measurements if not m.by and m.name.removesuffix("_difference") not in known]
    return further_table(others, name="other_measures", caption="Measures without a chart of their own. ")


def counts_table(record: RunRecord) -> Table | None:
    """Return how many images of each class stand on each side of the split."""
    counts: dict[str, dict[str, int]] = record.data.get("counts", {})
    if not counts:
        return None
    splits = [s for s in ("train", "val", "test") if s in counts] + [s for s in counts if s not in ("train", "val", "test")]
    rows = [
        (name, *(f"{counts[s].get(name, 0):,}" for s in splits), f"{sum(counts[s].get(name, 0) for s in splits):,}")
        for name in record.task.classes
    ]
    totals = [sum(counts[s].values()) for s in splits]
    rows.append(("all images", *(f"{n:,}" for n in totals), f"{sum(totals):,}"))
    units, unit = record.data.get("units", {}), record.data.get("unit", "images")
    if unit != "images" and units:
        rows.append((unit, *(f"{units.get(s, 0):,}" for s in splits), ""))
    caption = "Images by class and side of the split: training teaches, validation chooses, test is read once."
    return Table("counts", caption, ("Class", *({"train": "Training", "val": "Validation", "test": "Test"}.get(s, s) for s in splits), "All"), tuple(rows))  # fmt: skip


def associations_table(record: RunRecord) -> Table | None:
    """Return how strongly each column of the manifest goes with the class."""
    found = record.audit.get("associations", [])
    if not found:
        return None
    rows = [
        (str(a["column"]), str(a.get("kind", "")), _two(a.get("cramers_v")), f"{a.get('n', 0):,}", str(a.get("levels", ""))) for a in found
    ]
    caption = "How strongly each column goes with the class: Cramér's V, from 0 (not at all) to 1 (it tells the class). A strong one can be a shortcut."
    return Table("associations", caption, ("Column", "Kind", "Cramér's V", "n", "Levels"), tuple(rows), text_columns=2)


def stages_table(record: RunRecord) -> Table:
    """Return what each stage did, how long it took and whether it was read from the workspace."""
    rows = [
        (s.name, numbers.duration(s.seconds), "read from the workspace" if s.cached else "made in this run", s.key) for s in record.stages
    ]
    return Table("stages", "Stages of this run. A key is the fingerprint of what went in; equal keys give equal results.",
                 ("Stage", "Time", "Result", "Key"), tuple(rows), text_columns=4)  # fmt: skip


def networks_table(record: RunRecord) -> Table:
    """Return what each network is and how it came about."""
    rows = []
    for role in networks_in_order(record):
        n = record.networks[role]
        options = ", ".join(f"{k} = {v}" for k, v in n.options.items()) or "defaults"
        spec = f"{n.spec.size} px, {'grey' if n.spec.channels == 1 else f'{n.spec.channels} channels'}"
        kept = f"epoch {n.best_epoch} of {len(n.history)}" if n.best_epoch else "not trained here"
        rows.append((role, n.architecture, options, spec, kept, n.precision, n.provenance, n.fingerprint))
    columns = ("Network", "Architecture", "Options", "Input", "Kept", "Precision", "Origin", "Fingerprint of what went in")
    return Table("networks", "The networks of this run.", columns, tuple(rows), text_columns=8)


def training_curves(record: RunRecord) -> list[Panel]:
    """Return validation figures and loss parts over epochs; a ring marks the epoch that was kept."""
    trained = [role for role in networks_in_order(record) if record.networks[role].history]
    panels = []
    for key, title, meaning in (
        ("val.balanced_accuracy", "Validation: balanced accuracy", "It should rise and level off."),
        ("val.cross_entropy", "Validation: cross-entropy", "It should fall; a rise at the end is over-fitting."),
        ("train.total", "Training loss", "Of different networks it is not comparable: the student's holds the teacher's part."),
    ):
        series = [_series(record, role, key, role) for role in trained if key in record.networks[role].history[-1]]
        if series:
            panels.append(Panel(title, charts.curves(series, title=title, x_label="epoch"), meaning))
    student = record.networks.get("student")
    parts = [k for k in (student.history[-1] if student and student.history else {}) if k.startswith("train.") and k != "train.total"]
    if parts and student is not None:
        series = [_series(record, "student", key, key.removeprefix("train.")) for key in parts]
        title = "Parts of the student's loss"
        panels.append(Panel(title, charts.curves(series, title=title, x_label="epoch"), "ce: against the labels; the others: against the teacher."))  # fmt: skip
    return panels


def networks_in_order(record: RunRecord) -> list[str]:
    """Return the roles of a run: teacher, base, student, then others."""
    return [r for r in ROLES if r in record.networks] + [r for r in record.networks if r not in ROLES]


def n_test(record: RunRecord) -> int:
    """Return how many test images there are."""
    return sum(record.data.get("counts", {}).get("test", {}).values()) or len(record.cases.ids)


def common_basis(found: Iterable[Measurement]) -> str:
    """Return n and the kind of interval that a group of figures shares, as one sentence; a range where n differs."""
    kept = [m for m in found if m.value is not None]
    if not kept:
        return ""
    fewest, most = (f(kept, key=lambda m: m.n_images) for f in (min, max))
    basis = numbers.basis(most.n_images, most.n_units, most.unit)
    if fewest.n_images != most.n_images:
        basis += f" (fewer where a figure leaves images out, at least {fewest.n_images:,})"
    return f"{basis}. {interval_sentence(kept)}"


def interval_sentence(found: Iterable[Measurement]) -> str:
    """Return how the intervals of a group of figures were made."""
    methods = list(dict.fromkeys(m.method for m in found if m.low is not None and m.method))
    return f"In brackets the 95 % interval ({'; '.join(methods)})." if methods else ""


def of_maps(record: RunRecord) -> list[Measurement]:
    """Return the figures about maps, over all images."""
    return [m for m in record.measurements if m.stratum == "all" and (m.by or m.name in words.LOCALISATION)]


def _panel(
    name: str, found: Sequence[Measurement], title: str, *, lines: Sequence[tuple[float, str]] = (), meaning: str | None = None
) -> Panel | None:
    if not found:
        return None
    places = numbers.decimals(found)
    rows = [_dot(m, places) for m in sorted(found, key=lambda m: _place(m.model))]
    meaning = words.measure_meaning(name) if meaning is None else meaning
    return with_remarks(Panel(title, charts.dots(rows, title=title, lines=lines), meaning), found)


def panel_by_method(name: str, found: Sequence[Measurement], *, lines: Sequence[tuple[float, str]] = ()) -> Panel | None:
    """Return one measure of maps as a panel: a heading per method, a row per network; None where it wasn't measured."""
    of_name = [m for m in found if m.name == name]
    if not of_name:
        return None
    places = numbers.decimals(of_name)
    rows: list[charts.Dot | str] = []
    for method in dict.fromkeys(m.by for m in of_name):
        if method:
            rows.append(words.method_name(method))
        rows += [_dot(m, places) for m in sorted((m for m in of_name if m.by == method), key=lambda m: _place(m.model))]
    title = words.measure_name(name)
    return with_remarks(Panel(title, charts.dots(rows, title=title, lines=lines), words.measure_meaning(name)), of_name)


def _place(model: str) -> int:
    """Return where a row stands among those of its group: networks, then pairs, then differences."""
    order = ("teacher", "teacher by student", "base", "student", "student by teacher", TWIN,
             "student ~ teacher", "base ~ teacher", f"{TWIN} ~ teacher", *DIFFERENCES)  # fmt: skip
    return order.index(model) if model in order else len(order)


def _dot(m: Measurement, places: int) -> charts.Dot:
    text = numbers.with_interval(m, places)
    short = text if len(text) <= 26 else text.split(":")[0]
    label = m.model or ("any network" if m.by else "images")
    return charts.Dot(label.replace("_", " "), words.role_of(m.model), m.value, m.low, m.high, short)


def with_remarks(panel: Panel, found: Sequence[Measurement]) -> Panel:
    """Return a panel with why its figures are undefined, and the remarks on the others."""
    return replace(panel, notes=_said(found, undefined=True), remarks=_said(found, undefined=False))


def _said(found: Sequence[Measurement], *, undefined: bool) -> list[str]:
    """Return the reasons of undefined figures, or the remarks on the others: each once, with the figures it is about."""
    about: dict[str, list[Measurement]] = {}
    for m in found:
        if (m.value is None) is undefined and (m.reason or undefined):
            about.setdefault(numbers.undefined(m) if undefined else m.reason, []).append(m)
    return [f"{subject}: {reason}" if (subject := _subject(those, found)) else reason for reason, those in about.items()]


def _subject(those: Sequence[Measurement], found: Sequence[Measurement]) -> str:
    """Name some of the figures of a panel as shortly as they can be: nothing for all, a method for all of its networks."""
    if len(those) == len(found):
        return ""
    names = []
    for method in dict.fromkeys(m.by for m in those):
        models = [m.model for m in those if m.by == method]
        whole = method and len(models) == sum(m.by == method for m in found)
        listed = " and ".join(filter(None, models))
        names.append(words.method_name(method) if whole or not listed else f"{listed} ({words.method_name(method)})" if method else listed)
    return ", ".join(names)


def _series(record: RunRecord, role: str, key: str, label: str) -> charts.Series:
    network = record.networks[role]
    kept = [row for row in network.history if key in row]
    mark = float(network.best_epoch) if network.best_epoch and key.startswith("val.") else None
    return charts.Series(label, _drawn_role(role), [row["epoch"] for row in kept], [row[key] for row in kept], mark)


def _where(book: CaseBook, method: str) -> str:
    """Say at which layer and on which grid each network's maps were read."""
    there = [(role, book.by_key[role, method]) for role in book.roles if (role, method) in book.by_key]
    return "; ".join(f"{role} at {e.layer or 'the input'}, grid {maps.grid_text(e.maps.shape)}{_moved(e)}" for role, e in there)


def _moved(explanation: Explanation) -> str:
    """Say how far from an even cut the cells of a map look, in pixels of the network's input, and so are drawn."""
    if not explanation.layer or explanation.centres == even_centres(explanation.maps.shape[1:]):
        return ""
    if explanation.centres is None:
        return " (where its cells look isn't known; they are drawn as an even cut)"
    ways = []
    for (first, step), cells, side, names in zip(
        explanation.centres, explanation.maps.shape[1:], explanation.image_size, (("up", "down"), ("left", "right")), strict=True
    ):
        pixels = (first + (cells - 1) / 2 * step - 0.5) * side  # in the middle of the map, whose even cut has its middle at half the side
        if abs(pixels) >= 0.05:
            ways.append(f"{f'{abs(pixels):.1f}'.removesuffix('.0')} px {names[pixels > 0]}")
    where = f"{' and '.join(ways)} of" if ways else "beside"
    return f" (its cells look {where} an even cut, and are drawn there)"


def _gain(name: str, teacher: float, student: float) -> str:
    """Print how much less the student costs, or how much more: never a gain below 1x."""
    better, worse = (student, teacher) if name == "throughput" else (teacher, student)
    gain, loss = _GAINS[name]
    return f"{numbers.ratio(better, worse)} {gain}" if better >= worse else f"{numbers.ratio(worse, better)} {loss}"


def in_unit_with_interval(m: Measurement | None) -> str:
    """Print a cost with its unit and interval: ``28.1 ms [27.9, 28.4]``."""
    if m is None:
        return "not measured"
    if m.value is None:
        return numbers.undefined(m)
    text = words.in_unit(m)
    if m.low is None or m.high is None or m.low == m.high:
        return text
    low, high = (re.sub(r" \S+$", "", words.in_unit(m, end)) for end in (m.low, m.high))
    return f"{text} [{low}, {high}]"


def in_milliseconds(m: Measurement) -> Measurement:
    """Return a time in seconds as it is drawn."""
    value, low, high = (None if v is None else 1000 * v for v in (m.value, m.low, m.high))
    return replace(m, value=value, low=low, high=high)


def cell(m: Measurement | None, places: int) -> str:
    """Print a figure with its interval as a table does; nothing where it wasn't measured."""
    return "" if m is None else numbers.with_interval(m, places)


def _value(m: Measurement | None) -> float | None:
    return None if m is None else m.value


def n_of(found: Iterable[Measurement]) -> tuple[int, int, str]:
    """Return images, units and the units' name of the figure that rests on the most."""
    largest = max(found, key=lambda m: m.n_images, default=None)
    return (largest.n_images, largest.n_units, largest.unit) if largest else (0, 0, "images")


def role_title(record: RunRecord, role: str) -> str:
    """Return a network's name as a heading: ``Teacher (densenet121)``."""
    network = record.networks.get(role)
    return f"{role.capitalize()} ({network.architecture})" if network else role.capitalize()


def _drawn_role(role: str) -> str:
    return role if role in ROLES else "other"


def _two(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "undefined"
