"""The report: one self-contained HTML file, with its figures as CSV and LaTeX beside it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from pellucid.core import numbers
from pellucid.core.errors import StorageError
from pellucid.core.files import check_writable, write_text
from pellucid.core.records import RunRecord
from pellucid.reporting import citations, paper, sections, words
from pellucid.reporting.cases import N_PLAIN, WHO, Case, CaseBook, Row, chosen, data_uri
from pellucid.reporting.easier import easier
from pellucid.reporting.figures import layers, maps
from pellucid.reporting.html import environment, in_script, table_data, template
from pellucid.reporting.tables import Table, latex_file, measurements_csv, to_csv

MOST_PAGE = 9_800_000  # bytes: the page is to stay below 10 MB
MOST_PAIRS = 12  # duplicates shown side by side
LEAK_BY_IMAGE = (
    "The split is by image, so images of one subject can stand in training and test: the figures below cannot be believed for new subjects."
)


def render(record: RunRecord) -> str:
    """Return the whole report as one HTML page that needs neither network nor, to be read, JavaScript.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    str
        Below 10 MB: the page says how many cases it holds where not all fit.
    """
    book = CaseBook(record)
    return _rendered(record, book, all_tables(record, book))


def _rendered(record: RunRecord, book: CaseBook, tables: list[Table], beside: str = "report") -> str:
    page = environment().get_template("page.html.jinja")
    first = [int(i) for i in book.disagreement()[:N_PLAIN]]
    content = {
        "record": record,
        "beside": beside,
        "header": header(record),
        "banners": banners(record),
        "verdicts": record.verdicts,
        "median": median_case(record, book),
        "accuracy": sections.accuracy(record, book),
        "explanation": sections.explanation(record, book),
        "easier": easier(record),
        "layers": {"figure": layers.layers_figure(book, layers.ON_PAGE), "caption": layers.caption(book)},
        "plain": [_drawn(book, book.case(i)) for i in first],
        "data": _data(record),
        "made": _made(record),
        "tables": {table.name: table for table in tables},
        "n_pairs": MOST_PAIRS,
        "table_data": table_data(tables),
        "gradients": Markup(_gradients()),
        "style": Markup(template("style.css")),
        "script": Markup(template("tables.js") + template("page.js")),
    }
    about = json.dumps(_about(record, book))
    # The cases get the room that all else leaves: how much that is depends on pictures and tables.
    without = page.render(**content, browser=_browser(record, book, first), case_data=about)
    rows, as_json = chosen(book, most_bytes=MOST_PAGE - len(without.encode()))
    cases = Markup(in_script(f'{{"about": {about}, "cases": [{",".join(as_json)}]}}'))
    return page.render(**content, browser=_browser(record, book, rows), case_data=cases)


def check_place(path: Path | str) -> None:
    """Refuse a page that can't be written, or whose tables' folder of the same name can't lie beside it, before anything is computed for it.

    Raises
    ------
    StorageError
    """
    path = Path(path)
    check_writable(path)
    beside = path.with_suffix("")
    if beside == path or beside.is_file():
        raise StorageError(f"{path}: give it an ending, and let no file be called {beside.name}: its tables go into a folder of that name.")


def write(record: RunRecord, folder: Path, *, name: str = "report.html") -> Path:
    """Write the page (``report.html``, or `name`), ``report/data/*.csv``, ``report/figures/layers.svg``, ``tables.tex`` and ``measurements.csv`` into a folder, each whole or not at all.

    A page of another name has all of these in a folder of its name, so that two pages can lie side by side.

    Returns
    -------
    Path
        Of the page, which is written last.

    Raises
    ------
    StorageError
        The disk is full, the folder can't be written, or as :func:`check_place`.
    """
    folder = Path(folder)
    check_place(folder / name)
    book = CaseBook(record)
    tables = all_tables(record, book)
    beside = Path(name).stem
    own = folder if beside == "report" else folder / beside
    for table in tables:
        write_text(folder / beside / "data" / f"{table.name}.csv", to_csv(table))
    write_text(folder / beside / "data" / "training.csv", training_csv(record))
    write_text(own / "measurements.csv", measurements_csv(record.measurements))
    write_text(own / "tables.tex", latex_file(tables))
    if figure := layers.layers_figure(book):
        write_text(folder / beside / "figures" / "layers.svg", figure)
    write_text(folder / name, _rendered(record, book, tables, beside), kind="report")
    return folder / name


def all_tables(record: RunRecord, book: CaseBook) -> list[Table]:
    """Return every table of the report that this run has something to say in."""
    named = sections.accuracy_names(record)
    made = [
        paper.performance_table(record), paper.fidelity_table(record), paper.met_table(record),
        sections.accuracy_table(record, named), sections.per_class_table(record), sections.strata_table(record), sections.cascade_table(record), sections.further_of_maps(record),
        sections.cost_table(record), sections.counts_table(record),
        sections.associations_table(record), sections.other_measures(record), sections.networks_table(record), sections.stages_table(record),
        cases_table(record, book),
    ]  # fmt: skip
    return [table for table in made if table is not None]


def cases_table(record: RunRecord, book: CaseBook) -> Table:
    """Return what the charts over cases are drawn from: truth, answers, probabilities and similarities of each case."""
    columns = ["case", "image", "truth"]
    for role in book.roles:
        columns += [f"{role} answer", f"{role} probability"]
    columns += [f"{role} ~ teacher, {method}" for role, method in book.alike]
    rows = []
    for i, name in enumerate(record.cases.ids):
        row = [f"{i:04d}", name, record.task.classes[int(record.cases.targets[i])]]
        for role in book.roles:
            p = book.probabilities[role][i]
            row += [record.task.classes[int(p.argmax())], f"{p.max():.4f}"]
        row += [f"{v[i]:.4f}" if np.isfinite(v[i]) else "" for v in book.alike.values()]
        rows.append(tuple(row))
    return Table("cases", "Each case of the report.", tuple(columns), tuple(rows), text_columns=3)


def training_csv(record: RunRecord) -> str:
    """Return the training histories as CSV, one line per network and epoch."""
    keys = list(dict.fromkeys(key for n in record.networks.values() for row in n.history for key in row))
    rows = [(role, *(str(row.get(key, "")) for key in keys)) for role, n in record.networks.items() for row in n.history]
    return to_csv(Table("training", "", ("network", *keys), tuple(rows)))


def header(record: RunRecord) -> dict[str, str]:
    """Return the parts of the first line: title, who teaches whom, on how many images, when."""
    teacher, student = (record.networks[role].architecture if role in record.networks else "" for role in ("teacher", "student"))
    n, unit = sections.n_test(record), record.data.get("unit", "images")
    tested = numbers.plural(n, "test images")
    if unit != "images" and record.data.get("units", {}).get("test"):
        tested += f" of {numbers.plural(record.data['units']['test'], unit)}"
    return {"title": record.title, "pair": " → ".join(filter(None, [teacher, student])), "tested": tested, "created": record.created}


def banners(record: RunRecord) -> list[str]:
    """Return what makes every figure below doubtful: findings of level "leak", and a split by image, whether subjects are known or not."""
    found = [str(f["text"]) for f in record.audit.get("findings", []) if f.get("level") == "leak"]
    by_image = record.settings.get("data", {}).get("split") == "image"
    return found + ([LEAK_BY_IMAGE] if by_image and not found else [])


def median_case(record: RunRecord, book: CaseBook) -> dict[str, Any] | None:
    """Return the case in the middle by agreement of the student's map with the teacher's, with the sentence that says so."""
    index, method = book.median(), book.lead
    if index is None or method is None:
        return None
    drawn = _drawn(book, book.case(index))
    row = next(row for row in drawn["rows"] if row["method"] == method)
    judged = row["alike"].get("student") is not None
    why = book.not_judged(method) or "not judged: no case has two maps with signal"
    text = (
        f"The case in the middle: half of the {len(book):,} cases have maps more alike than these (similarity {row['alike']['student']:.2f})."
        if judged
        else f"Similarity {why}. Shown is the case with the student's median confidence."
    )
    return {"case": drawn, "row": row, "text": text, "meaning": words.method_meaning(method)}


def _drawn(book: CaseBook, case: Case) -> dict[str, Any]:
    """Return a case with its pictures ready to stand in the page."""
    classes = book.record.task.classes
    answers = {
        role: {"name": classes[int(p.argmax())], "p": f"{float(p.max()):.2f}", "right": int(p.argmax()) == case.target}
        for role, p in case.probabilities.items()
    }
    return {
        "index": case.index,
        "number": f"{case.index:04d}",
        "anchor": case.anchor,
        "name": case.name,
        "truth": classes[case.target],
        "subject": case.subject,
        "who": WHO[case.who],
        "image": data_uri(maps.picture_png(case.image, most=160), "png"),
        "outline": case.outline,
        "side": case.image.shape[0],
        "answers": answers,
        "rows": [_drawn_row(book, row) for row in case.rows],
    }


def _drawn_row(book: CaseBook, row: Row) -> dict[str, Any]:
    table = row.scale.table
    pictures = {role: data_uri(maps.map_png(p, table), "png") if p is not None else None for role, p in row.places.items()}
    return {
        "method": row.method,
        "name": words.method_name(row.method),
        "table": table,
        "low": f"{row.scale.low:.1f}" if row.scale.low else "0",
        "high": f"{'+' if row.scale.signed else ''}{row.scale.high:.1f}",
        "signed": row.scale.signed,
        "pictures": pictures,
        "grids": row.grids,
        "alike": row.alike,
        "not_judged": book.not_judged(row.method),
    }


def _browser(record: RunRecord, book: CaseBook, rows: list[int]) -> dict[str, Any]:
    n, n_all = len(rows), sections.n_test(record)
    text = f"{numbers.plural(n, 'cases')} of {numbers.plural(n_all, 'test images')}"
    if n == n_all:
        text = f"All {numbers.plural(n, 'test images')}"
    panel = len(record.cases.panel_rows)
    return {
        "held": text,
        "who": WHO,
        "lead": words.method_name(book.lead) if book.lead else "",
        "methods": {method: words.method_name(method) for method in book.methods},
        "panel": f"{panel} of them also show every layer of the student." if panel else "",
        "roles": book.roles,
    }


def _about(record: RunRecord, book: CaseBook) -> dict[str, Any]:
    """Return what the page's script needs to know beside the cases."""
    tables = {name: base64.b64encode(maps.colours(name).tobytes()).decode() for name in ("cividis", "RdBu_r")}
    signed = {e.method: e.signed for e in record.cases.explanations}
    return {
        "classes": list(record.task.classes),
        "roles": book.roles,
        "networks": {role: record.networks[role].architecture if role in record.networks else "" for role in book.roles},
        "methods": {m: {"name": words.method_name(m), "table": "RdBu_r" if signed[m] else "cividis", "why": book.not_judged(m)} for m in book.methods},
        "lead": book.lead or "",
        "tables": tables,
        "who": WHO,
        "plain": N_PLAIN,
        "n": len(book),
    }  # fmt: skip


def _data(record: RunRecord) -> dict[str, Any]:
    each = max(4, min(12, sections.MOST_THUMBNAILS // max(1, len(record.contact))))
    sheet = [
        {"name": name, "pictures": [data_uri(maps.picture_jpeg(t, most=72), "jpeg") for t in thumbnails[:each]]}
        for name, thumbnails in record.contact.items()
    ]
    pairs = [
        {**pair, "images": [data_uri(maps.picture_jpeg(side, most=128), "jpeg") for side in sides]}
        for pair, *sides in record.duplicates[:MOST_PAIRS]
    ]
    return {
        "sheet": sheet,
        "pairs": pairs,
        "findings": record.audit.get("findings", []),
        "probes": _probes(record),
        "source": _source(record),
    }


def _source(record: RunRecord) -> str:
    """Return where the images came from, in one line."""
    source = record.data.get("source", "")
    if isinstance(source, dict):
        source = ", ".join(f"{value}" if name == "kind" else f"{name} {value}" for name, value in source.items() if value not in ("", None))
    return f"Source: {source}" if source else "Source not recorded"


def _probes(record: RunRecord) -> list[str]:
    """Return the probes' results as lines; the audit says what they hold."""
    lines = []
    for name, result in (record.audit.get("probes") or {}).items():
        if isinstance(result, dict):
            said = result.get("text") or ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items())
        else:
            said = str(result)
        lines.append(f"{str(name).replace('_', ' ')}: {said}")
    return lines


def _made(record: RunRecord) -> dict[str, Any]:
    cached = [s.name for s in record.stages if s.cached]
    return {
        "settings": _as_toml(record.settings),
        "citations": citations.bibtex(record),
        "seconds": numbers.duration(sum(s.seconds for s in record.stages)),
        "cached": ", ".join(cached) if cached else "nothing",
    }


def _as_toml(settings: dict[str, Any]) -> str:
    """Return settings as TOML; what is left to its default of "nothing" stands in a comment, since TOML has no word for it."""
    import tomli_w

    unset: list[str] = []

    def kept(section: dict[str, Any], prefix: str) -> dict[str, Any]:
        found = {}
        for key, value in section.items():
            if value is None:
                unset.append(f"{prefix}{key}")
            else:
                found[key] = (
                    kept(value, f"{prefix}{key}.") if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value
                )
        return found

    text = tomli_w.dumps(kept(settings, ""))
    return text + (f"\n# not set, so derived: {', '.join(unset)}\n" if unset else "")


def _gradients() -> str:
    """Return the colour bars as CSS, from the very tables the maps are coloured with."""
    lines = []
    for name in ("cividis", "RdBu_r"):
        stops = ", ".join("rgb({} {} {})".format(*maps.colours(name)[k]) for k in np.linspace(0, 255, 13).round().astype(int))
        lines.append(f".bar-{name} {{ background-image: linear-gradient(to right, {stops}); }}")
    return "\n".join(lines)
