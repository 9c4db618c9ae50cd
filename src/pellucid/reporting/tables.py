"""Tables of the report in three forms: on the page, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from pellucid.core.records import Measurement

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "−": "$-$", "→": r"$\rightarrow$", "…": r"\ldots{}", "·": r"$\cdot$",
    "–": "--", "—": "---", "’": "'", "“": "``", "”": "''", "±": r"$\pm$", "°": r"$^\circ$", "²": "$^2$", "³": "$^3$", "≈": r"$\approx$",
    "≠": r"$\neq$", "∞": r"$\infty$", "√": r"$\surd$", "‐": "-", "‑": "-", "µ": r"$\mu$",
    **{letter: rf"${name}$" for letter, name in zip("αβγδεζηθκλμνπρστφχψω", (
        r"\alpha", r"\beta", r"\gamma", r"\delta", r"\varepsilon", r"\zeta", r"\eta", r"\theta", r"\kappa", r"\lambda", r"\mu", r"\nu", r"\pi", r"\rho",
        r"\sigma", r"\tau", r"\varphi", r"\chi", r"\psi", r"\omega"), strict=True)},
}  # fmt: skip
_MINUS = re.compile(r"(?<![\w.-])-(?=\d)")
_LINE = 96  # characters: about what a line of a page holds in small type


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
    """Return the table as a LaTeX ``table`` that needs no package; columns that a page has no room for stand below the others."""
    parts = [_tabular(table, columns) for columns in _side_by_side(table)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        r"\small",
        "\n\n\\medskip\n".join(parts),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_file(tables: Iterable[Table]) -> str:
    """Return a file of tables for ``\\input``."""
    head = "% UTF-8. Names in other scripts than Latin need LuaLaTeX or XeLaTeX, with a font that has them.\n"
    return head + "\n".join(to_latex(table) for table in tables)


def measurements_csv(measurements: Iterable[Measurement]) -> str:
    """Return measurements as CSV, one a line, every field, numbers in full; what is undefined is empty and has its reason."""
    names = [field.name for field in fields(Measurement)]
    rows = [["" if value is None else value for value in m.to_json().values()] for m in measurements]
    return _csv([names, *rows])


def escape_latex(text: str) -> str:
    """Return text in which LaTeX sees no command; line breaks become spaces, and what can't be printed is left out."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()) if letter.isprintable())


def _side_by_side(table: Table) -> list[list[int]]:
    """Return the columns of each part of a table: the words on the left, then as many figures as fit a line."""
    widths = [max(len(row[k]) for row in (table.columns, *table.rows)) + 2 for k in range(len(table.columns))]
    words, figures = range(table.text_columns), range(table.text_columns, len(table.columns))
    room = _LINE - sum(widths[k] for k in words)
    parts: list[list[int]] = [[]]
    for k in figures:
        if parts[-1] and sum(widths[other] for other in parts[-1]) + widths[k] > room:
            parts.append([])
        parts[-1].append(k)
    return [[*words, *part] for part in parts]


def _tabular(table: Table, columns: Sequence[int]) -> str:
    kinds = "".join("l" if k < table.text_columns else "r" for k in columns)
    rows = [_latex_row([row[k] for k in columns]) for row in (table.columns, *table.rows)]
    return "\n".join([rf"\begin{{tabular}}{{{kinds}}}", r"\hline", rows[0], r"\hline", *rows[1:], r"\hline", r"\end{tabular}"])


def _latex_row(cells: Sequence[str]) -> str:
    # A cell that opens with a bracket would be read as the option of the line break before it.
    escaped = [_MINUS.sub("$-$", escape_latex(cell)) for cell in cells]
    return " & ".join(f"{{}}{cell}" if cell.startswith(("[", "*")) else cell for cell in escaped) + r" \\"


def _csv(rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
