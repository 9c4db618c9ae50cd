"""Tables as CSV and LaTeX: nothing is lost, and names from files can't break either."""

from __future__ import annotations

import csv
import io
import re

import pytest

from pellucid.core.records import Measurement
from pellucid.reporting.cases import CaseBook
from pellucid.reporting.page import all_tables
from pellucid.reporting.tables import Table, escape_latex, latex_file, measurements_csv, to_csv, to_latex

TABLE = Table("one", "50 % of a_b & c", ("Class", "Figure"), (('a "quoted", name', "0.91 [0.87, 0.94]"), ("<b> \\ {x}", "[odd]")))


def test_csv_gives_back_every_cell():
    """Commas and quotes inside cells survive."""
    assert list(csv.reader(io.StringIO(to_csv(TABLE)))) == [list(TABLE.columns), *map(list, TABLE.rows)]


def test_latex_holds_no_raw_special_letter():
    """Each of LaTeX's special letters is escaped, and a bracket after a line break is no option."""
    text = to_latex(TABLE)
    assert r"50 \% of a\_b \& c" in text
    assert r"\textless{}b\textgreater{} \textbackslash{} \{x\} & {}[odd] \\" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    body = re.sub(r"\\[a-zA-Z]+|\\[&%$#_{}\\]", "", text)
    assert not set(body) & set("#$%_^~<>")
    assert body.count("{") == body.count("}")


def test_escape_latex_joins_lines():
    """A blank line would end the paragraph inside a caption."""
    assert escape_latex("a\n\nb") == "a b"


def test_measurements_csv_keeps_full_precision_and_reasons():
    """What is undefined is empty and says why; what is defined isn't rounded."""
    rows = list(
        csv.DictReader(io.StringIO(measurements_csv([Measurement("auc", 0.1 + 0.2), Measurement("auc", None, reason="no masks, none")])))
    )
    assert float(rows[0]["value"]) == 0.1 + 0.2
    assert rows[1]["value"] == "" and rows[1]["reason"] == "no masks, none"


@pytest.fixture(scope="module")
def parse():
    """A strict LaTeX parser: whatever doesn't close, or closes what isn't open, raises."""
    walker = pytest.importorskip("pylatexenc.latexwalker", reason="pylatexenc is not installed, so nothing here reads LaTeX.")
    return lambda text: walker.LatexWalker(text, tolerant_parsing=False).get_latex_nodes()[0]


def _environments(nodes, name):
    for node in nodes:
        if getattr(node, "environmentname", "") == name:
            yield node
        yield from _environments(getattr(node, "nodelist", None) or [], name)


@pytest.mark.parametrize("which", ["transparent", "nasty"])
def test_latex_parses_and_every_row_has_its_cells(request, parse, which):
    """Every table of a report is whole LaTeX, with as many cells in each row as it has columns."""
    record = request.getfixturevalue(which)
    tables = all_tables(record, CaseBook(record))
    found = list(_environments(parse(latex_file(tables)), "tabular"))
    assert len(found) >= len(tables)
    for tabular in found:
        body = tabular.latex_verbatim().split("\n")
        kinds = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", body[0])[1]
        rows = [line for line in body[1:-1] if line != r"\hline"]
        assert rows and all(row.endswith(r" \\") and len(re.findall(r"(?<!\\)&", row)) == len(kinds) - 1 for row in rows)


def test_latex_takes_every_sign(parse):
    """Any printable sign of a name, and some that can't be printed, leave LaTeX that parses and says what the name says."""
    ascii_signs = "".join(map(chr, range(32, 127)))
    text = escape_latex(ascii_signs + "äßéČ ± ° µ σ ≥ ≤ × − → … · – — ’ “ ” ² ≈" + "\x00\x07\u200b")
    parse(rf"\caption{{{text}}}")
    assert not re.search(r"[\x00-\x1f\u200b±°µσ≥≤×−→…·²≈]", text)
    assert "äßéČ" in text and r"\#\$\%\&" in text and r"$\sigma$" in text


def test_latex_breaks_a_wide_table_into_parts_below_each_other():
    """What a page has no room for stands below, each part with the words on the left; no column is lost or repeated."""
    columns = ("Class", *(f"column {k}" for k in range(9)))
    text = to_latex(Table("wide", "", columns, (("ring", *(f"0.9{k}1 [0.8{k}0, 0.9{k}9]" for k in range(9))),)))
    heads = [line for line in text.split("\n") if line.startswith("Class")]
    assert len(heads) == 3 == text.count(r"\begin{tabular}") and text.count(r"\begin{table}") == 1
    assert re.findall(r"column (\d)", text) == [str(k) for k in range(9)]


def test_latex_prints_a_minus():
    """A negative figure has a minus, a range and a date keep their hyphens."""
    text = to_latex(Table("t", "", ("a", "b"), (("2026-11-25, s-1", "-0.012 [-0.039, +0.015]"),)))
    assert "$-$0.012 [$-$0.039, +0.015]" in text and "2026-11-25, s-1" in text
