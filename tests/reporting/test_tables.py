"""Tables as CSV and LaTeX: nothing is lost, and names from files can't break either."""

from __future__ import annotations

import csv
import io
import re

from pellucid.core.records import Measurement
from pellucid.reporting.tables import Table, escape_latex, measurements_csv, to_csv, to_latex

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
