"""What every page is made with: its templates, and data that scripts read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pellucid.reporting.figures import charts
from pellucid.reporting.tables import Table, to_csv, to_latex


def table_data(tables: Iterable[Table]) -> Markup:
    """Return every table as CSV and LaTeX, for the copy buttons."""
    return Markup(in_script(json.dumps({t.name: {"csv": to_csv(t), "latex": to_latex(t)} for t in tables})))


def in_script(text: str) -> str:
    """Return JSON that can't end the script element it stands in."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def template(name: str) -> str:
    """Return a file of ``templates`` as it is: a style sheet or a script."""
    return resources.files("pellucid.reporting").joinpath("templates", name).read_text(encoding="utf-8")


@lru_cache
def environment() -> Environment:
    """Return the environment that renders ``templates``; whatever they print is escaped."""
    environment = Environment(
        loader=PackageLoader("pellucid.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(marker=lambda role: Markup(charts.marker(role)))
    return environment
