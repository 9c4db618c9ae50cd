"""Tables of the report in three forms: on the page, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from pellucid.core.records import Measurement

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "−": "$-$", "→": r"$\rightarrow$", "…": r"\ldots{}", "·": r"$\cdot$",
    "–": "--", "—": "---", "’": "'", "“": "``", "”": "''",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table as a reader sees it.

    Attributes
    ----------
    name : str
        File name of its CSV, without ending, and anchor of its copy buttons.
    caption : str
        What it shows, on which n, and how intervals were made.
    columns : tuple of str
        Headings.
    rows : tuple of tuple of str
        Printed cells, one per column.
    text_columns : int
        So many columns on the left hold words and are set flush left; the rest are figures.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1


def to_csv(table: Table) -> str:
    """Return the table as CSV with a heading line, as printed on the page."""
    return _csv([table.columns, *table.rows])


def to_latex(table: Table) -> str:
    """Return the table as a LaTeX ``table`` that needs no package."""
    kinds = "l" * table.text_columns + "r" * (len(table.columns) - table.text_columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\hline",
        _latex_row(table.columns),
        r"\hline",
        *(_latex_row(row) for row in table.rows),
        r"\hline",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def measurements_csv(measurements: Iterable[Measurement]) -> str:
    """Return measurements as CSV, one a line, every field, numbers in full; what is undefined is empty and has its reason."""
    names = [field.name for field in fields(Measurement)]
    rows = [["" if value is None else value for value in m.to_json().values()] for m in measurements]
    return _csv([names, *rows])


def escape_latex(text: str) -> str:
    """Return text in which LaTeX sees no command; line breaks become spaces."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _latex_row(cells: Sequence[str]) -> str:
    # A cell that opens with a bracket would be read as the option of the line break before it.
    escaped = [escape_latex(cell) for cell in cells]
    return " & ".join(f"{{}}{cell}" if cell.startswith(("[", "*")) else cell for cell in escaped) + r" \\"


def _csv(rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
