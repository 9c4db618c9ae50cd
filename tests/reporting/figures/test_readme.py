"""The README's picture stands alone."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from pellucid.reporting.figures.readme import readme_figure


def test_readme_figure_is_whole_and_in_order(record):
    """Image, teacher, base, student from left to right, the verdict under them, nothing from elsewhere."""
    svg = readme_figure(record).decode()
    words = list(ET.fromstring(svg).itertext())
    places = [
        next(k for k, w in enumerate(words) if w.startswith(name)) for name in ("Image", "Teacher", "Base", "Student", "Is it as right?")
    ]
    assert places == sorted(places)
    assert svg.count("<image") == 4
    assert not re.findall(r'href="(?!data:)', svg)


def test_readme_figure_escapes_names(nasty):
    """Class names with markup don't become markup."""
    ET.fromstring(readme_figure(nasty).decode())
