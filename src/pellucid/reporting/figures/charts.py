"""Charts as inline SVG: drawn at the size they are read, coloured by the page's style sheet, never by colour alone.

Every function returns one ``<svg>`` element as text. Colours come from classes (``r-teacher``, ``r-base``, ``r-student``), so that
light, dark and print are the style sheet's business; each role also has its own marker and dash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 340  # fits a phone; panels stand side by side on a wider screen
LINES = tuple(f"line{number}" for number in range(8))  # colours of lines that are no networks
_ROW = 25
_MARKERS = {"teacher": "square", "base": "triangle", "student": "disc", "other": "diamond"}
_TICK = 46  # pixels that a tick's number may need
_Z95 = 1.959964


@dataclass(frozen=True)
class Dot:
    """One row of a dot-and-interval plot; `value` None draws only the text."""

    label: str
    role: str
    value: float | None
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Series:
    """One line of a curve plot; `mark` is the x at which a ring is drawn (the epoch that was kept), `band` the interval at each x.

    `role` may also be ``line0`` to ``line7``, for lines that are no networks.
    """

    label: str
    role: str
    x: Sequence[float]
    y: Sequence[float]
    mark: float | None = None
    band: Sequence[tuple[float, float] | None] = ()


def dots(
    rows: Sequence[Dot | str],
    *,
    title: str,
    lines: Sequence[tuple[float, str]] = (),
    logarithmic: bool = False,
    within: Sequence[float] = (),
) -> str:
    """Draw figures with their intervals as rows of one panel.

    Parameters
    ----------
    rows : sequence of Dot or str
        A str is a heading between rows.
    title : str
        What the panel shows; also its alternative text.
    lines : sequence of (x, label)
        Vertical reference lines, e.g. ``(0, "no difference")``; always inside the plot.
    logarithmic : bool
        Figures, all above 0, stand at their logarithm.
    within : sequence of float
        What else the axis has to span, so that several panels share it.
    """
    drawn = [row for row in rows if isinstance(row, Dot)]
    left: float = min(12 + max((text_width(row.label) for row in drawn), default=60), 150)
    right = WIDTH - 14 - max((text_width(row.text) for row in drawn), default=100)
    stacked = right - left < 110  # too little room beside the words: the bar goes under them
    if stacked:
        left, right = 8, WIDTH - 8
    ends = [v for row in drawn for v in (row.value, row.low, row.high) if v is not None and math.isfinite(v)]
    ends += [*within, *(x for x, _ in lines)]
    low, high, ticks = _decades(ends, room=right - left) if logarithmic else _axis(ends, wanted=5 if stacked else 3)

    def across(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return left + share * (right - left)

    body: list[str] = []
    top = y = 20.0 if any(label for _, label in lines) else 6.0
    for row in rows:
        if isinstance(row, str):
            body.append(f'<text class="soft" x="0" y="{y + 16:.0f}">{escape(row)}</text>')
            y += _ROW - 3
            continue
        words, middle = (y + 15, y + 27) if stacked else (y + _ROW / 2 + 4, y + _ROW / 2)
        body.append(f'<text x="0" y="{words:.1f}">{escape(row.label)}</text>')
        body.append(f'<text class="figure" x="{WIDTH}" y="{words:.1f}" text-anchor="end">{escape(row.text)}</text>')
        if row.value is not None and row.low is not None and row.high is not None:
            x1, x2 = across(row.low), across(row.high)
            body.append(f'<line class="interval r-{row.role}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{middle}" y2="{middle}"/>')
        if row.value is not None:
            body.append(_marker(row.role, across(row.value), middle))
        y += _ROW + 12 if stacked else _ROW
    bottom = y + 4
    under = [f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>']
    for tick in ticks:
        under.append(f'<line class="grid" x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        under.append(
            f'<text class="tick" x="{across(tick):.1f}" y="{bottom + 14}" text-anchor="middle">{f"{tick:,g}" if logarithmic else _tick(tick, ticks)}</text>'
        )
    for number, (x, label) in enumerate(lines):
        anchor, shift = ("start", -3) if number == 0 else ("end", 3)
        under.append(f'<line class="reference" x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{top}" y2="{bottom}"/>')
        under.append(f'<text class="tick" x="{across(x) + shift:.1f}" y="{top - 6}" text-anchor="{anchor}">{escape(label)}</text>')
    spoken = f"{title}. " + "; ".join(f"{row.label}: {row.text}" for row in drawn)
    return _svg(WIDTH, bottom + 20, spoken, under + body)


def curves(series: Sequence[Series], *, title: str, x_label: str, height: int = 190) -> str:
    """Draw lines over epochs, steps or shares, each labelled in a legend above that breaks into lines where it has to."""
    places = _legend_places([one.label for one in series])
    lower = places[-1][1] if places else 0.0  # lines of the legend beyond the first push the plot down
    height += int(lower)
    left, right, top, bottom = 44, WIDTH - 8, 34 + lower, height - 34
    finite = [v for s in series for v in (*s.y, *(end for ends in s.band if ends for end in ends)) if math.isfinite(v)]
    low, high, ticks = _axis(finite, wanted=4)
    x_high = max((max(s.x) for s in series if len(s.x)), default=1.0)
    x_low = min((min(s.x) for s in series if len(s.x)), default=0.0)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - x_low) / max(x_high - x_low, 1e-9) * (right - left), bottom - (y - low) / (high - low) * (bottom - top)

    body = []
    for tick in ticks:
        y = at(x_low, tick)[1]
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(tick, ticks)}</text>')
    body.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for epoch in _whole_ticks(x_low, x_high):
        body.append(f'<text class="tick" x="{at(epoch, low)[0]:.1f}" y="{bottom + 15}" text-anchor="middle">{epoch}</text>')
    body.append(f'<text class="tick" x="{(left + right) / 2}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>')
    for line in series:
        body += [_band(line, at)] if any(line.band) else []
    for number, (line, (legend_x, legend_y)) in enumerate(zip(series, places, strict=True)):
        role = _line_role(line)
        points = [at(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        body.append(f'<polyline class="curve r-{role} dash-{number % 4}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        if line.mark is not None and line.mark in list(line.x):
            x, y = at(line.mark, line.y[list(line.x).index(line.mark)])
            body.append(f'<circle class="ring r-{role}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        body.append(f'<line class="curve r-{role} dash-{number % 4}" x1="{legend_x:.0f}" x2="{legend_x + 20:.0f}" y1="{legend_y + 12:.0f}" y2="{legend_y + 12:.0f}"/>')  # fmt: skip
        body.append(f'<text x="{legend_x + 25:.0f}" y="{legend_y + 16:.0f}">{escape(line.label)}</text>')
    return _svg(WIDTH, height, f"{title}: {', '.join(s.label for s in series)} over {x_label}", body)


def _legend_places(labels: Sequence[str]) -> list[tuple[float, float]]:
    """Return where each entry of a legend of lines begins, from its upper left corner."""
    found, x, y = [], 0.0, 0.0
    for label in labels:
        if x and x + 25 + text_width(label) > WIDTH:
            x, y = 0.0, y + 18
        found.append((x, y))
        x += 25 + text_width(label) + 14
    return found


def _band(line: Series, at: Callable[[float, float], tuple[float, float]]) -> str:
    """Return the interval around a line as an area; places without an interval are bridged."""
    ends = [(x, pair) for x, pair in zip(line.x, line.band, strict=True) if pair is not None]
    outline = [at(x, high) for x, (_, high) in ends] + [at(x, low) for x, (low, _) in reversed(ends)]
    return f'<polygon class="band r-{_line_role(line)}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in outline)}"/>'


def _line_role(line: Series) -> str:
    return line.role if line.role in (*_MARKERS, *LINES) else "other"


@dataclass(frozen=True)
class Range:
    """One line of figures with intervals, one at each place of an axis; None where there is no figure."""

    label: str
    role: str
    points: Sequence[tuple[float, float | None, float | None] | None]


@dataclass(frozen=True)
class Level:
    """A figure that is the same at every place of an axis: a line with its interval as a band."""

    label: str
    role: str
    value: float
    low: float | None
    high: float | None


def ranges(
    series: Sequence[Range], places: Sequence[str], *, title: str, x_label: str, levels: Sequence[Level] = (), height: int = 230
) -> str:
    """Draw figures with intervals over the values of a setting, beside figures that don't depend on it.

    Parameters
    ----------
    series : sequence of Range
        Each with one point per place; drawn side by side, so that intervals don't cover one another.
    places : sequence of str
        The setting's values, evenly spaced.
    title, x_label : str
    levels : sequence of Level
    height : int
    """
    left, right = 48, WIDTH - 8
    entries = [*((one.label, one.role) for one in series), *((one.label, one.role) for one in levels)]
    legend, top = _legend(entries)
    bottom = top + height - 40
    points = [point for one in series for point in one.points if point is not None]
    ends = [v for point in points for v in point if v is not None] + [
        v for one in levels for v in (one.value, one.low, one.high) if v is not None
    ]
    low, high, ticks = _axis(ends, wanted=5)
    step = (right - left) / len(places)

    def up(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    body = []
    for tick in ticks:
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>')
        body.append(f'<text class="tick" x="{left - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{_tick(tick, ticks)}</text>')
    for number, level in enumerate(levels, len(series)):
        if level.low is not None and level.high is not None:
            body.append(f'<rect class="band r-{level.role}" x="{left}" width="{right - left}" y="{up(level.high):.1f}" height="{up(level.low) - up(level.high):.1f}"/>')  # fmt: skip
        body.append(
            f'<line class="curve dash-{number % 4} r-{level.role}" x1="{left}" x2="{right}" y1="{up(level.value):.1f}" y2="{up(level.value):.1f}"/>'
        )
    body.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for number, place in enumerate(places):
        x = left + (number + 0.5) * step
        body.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{escape(shortened(place, max(3, int(step / 7))))}</text>'
        )
    body.append(f'<text class="tick" x="{(left + right) / 2}" y="{bottom + 32}" text-anchor="middle">{escape(x_label)}</text>')
    for number, one in enumerate(series):
        shift = (number + 1) / (len(series) + 1)
        drawn = [(left + (k + shift) * step, point) for k, point in enumerate(one.points) if point is not None]
        path = " ".join(f"{x:.1f},{up(point[0]):.1f}" for x, point in drawn)
        body.append(f'<polyline class="curve faint r-{one.role} dash-{number % 4}" points="{path}"/>')
        for x, (value, lower, upper) in drawn:
            if lower is not None and upper is not None:
                body.append(
                    f'<line class="interval thin r-{one.role}" x1="{x:.1f}" x2="{x:.1f}" y1="{up(lower):.1f}" y2="{up(upper):.1f}"/>'
                )
            body.append(_marker(one.role, x, up(value)))
    return _svg(WIDTH, bottom + 38, f"{title} over {x_label}: {', '.join(label for label, _ in entries)}", [*legend, *body])


def _legend(entries: Sequence[tuple[str, str]]) -> tuple[list[str], float]:
    """Return a legend that breaks into lines where it has to, and where the plot under it begins."""
    body, x, y = [], 0.0, 12.0
    for number, (label, role) in enumerate(entries):
        wide = 36 + text_width(label) + 12
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 19
        body.append(
            f'<line class="curve r-{role} dash-{number % 4}" x1="{x:.0f}" x2="{x + 28:.0f}" y1="{y}" y2="{y}"/>' + _marker(role, x + 14, y)
        )
        body.append(f'<text x="{x + 34:.0f}" y="{y + 4:.0f}">{escape(label)}</text>')
        x += wide
    return body, y + 16


def confusion(matrix: np.ndarray, classes: Sequence[str], *, title: str, role: str) -> str:
    """Draw a confusion matrix: truth in rows, answer in columns, shaded by the share of its row.

    Parameters
    ----------
    matrix : int array [K, K]
    classes : sequence of str
        K names. Columns bear them upright, shortened to twelve letters.
    title, role : str
    """
    k = len(classes)
    names = [shortened(name, 12) for name in classes]
    left = 12 + max(text_width(name) for name in names)
    cell = max(14.0, min(54.0, (WIDTH - left) / k))
    top = 18 + (16 if cell >= 40 and max(map(len, names)) * 6.6 < cell else 8 + max(text_width(name) for name in names) * 0.75)
    body = [f'<text class="soft" x="{left}" y="11">answer</text>', f'<text class="soft" x="0" y="{top - 6:.0f}">truth</text>']
    upright = top > 36
    for j, name in enumerate(names):
        x = left + (j + 0.5) * cell
        if upright:
            body.append(f'<text x="{x:.1f}" y="{top - 6:.1f}" transform="rotate(-48 {x:.1f} {top - 6:.1f})">{escape(name)}</text>')
        else:
            body.append(f'<text x="{x:.1f}" y="{top - 6:.1f}" text-anchor="middle">{escape(name)}</text>')
    totals = np.maximum(matrix.sum(1), 1)
    for i, name in enumerate(names):
        y = top + i * cell
        body.append(f'<text x="{left - 8}" y="{y + cell / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        for j in range(k):
            share = matrix[i, j] / totals[i]
            x = left + j * cell
            body.append(
                f'<rect class="cell r-{role}" x="{x:.1f}" y="{y:.1f}" width="{cell - 1.5:.1f}" height="{cell - 1.5:.1f}" '
                f'fill-opacity="{0.05 + 0.95 * share:.2f}"><title>{escape(classes[i])} called {escape(classes[j])}: '
                f"{matrix[i, j]} of {matrix[i].sum()}</title></rect>"
            )
            if cell >= 22:
                body.append(
                    f'<text class="{"on-cell" if share > 0.5 else ""}" x="{x + cell / 2 - 0.7:.1f}" y="{y + cell / 2 + 3.5:.1f}" '
                    f'text-anchor="middle">{matrix[i, j]}</text>'
                )
    right = int(np.trace(matrix))
    width = max(WIDTH, left + k * cell)
    return _svg(width, top + k * cell + 2, f"Confusion matrix of {title}: {right} of {int(matrix.sum())} on the diagonal", body)


def calibration(confidence: np.ndarray, right: np.ndarray, *, title: str, role: str, bins: int = 10) -> str:
    """Draw how often answers of a given confidence are right, with 95 % Wilson intervals (images taken as independent).

    Parameters
    ----------
    confidence : float array [N]
        Probability of the class that was named.
    right : bool array [N]
    title, role : str
    bins : int
        Of equal width; the last one is closed. Empty bins stay empty.
    """
    left, edge, top, bottom = 44, 250, 8, 214

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * (edge - left), bottom - y * (bottom - top)

    body = []
    for tick in (0.0, 0.5, 1.0):
        x, y = at(tick, tick)
        body.append(f'<line class="grid" x1="{left}" x2="{edge}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        body.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
    body.append(f'<line class="reference" x1="{left}" y1="{bottom}" x2="{edge}" y2="{top}"/>')
    body.append(f'<text class="tick" x="{(left + edge) / 2}" y="{bottom + 32}" text-anchor="middle">stated confidence</text>')
    body.append(
        f'<text class="tick" x="12" y="{(top + bottom) / 2}" text-anchor="middle" transform="rotate(-90 12 {(top + bottom) / 2})">share right</text>'
    )
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    points = []
    for b in range(bins):
        inside = which == b
        n = int(inside.sum())
        if not n:
            continue
        share, stated = float(right[inside].mean()), float(confidence[inside].mean())
        low, high = _wilson(share, n)
        (x, y), y_low, y_high = at(stated, share), at(0, low)[1], at(0, high)[1]
        points.append((x, y))
        body.append(f'<line class="interval thin r-{role}" x1="{x:.1f}" x2="{x:.1f}" y1="{y_low:.1f}" y2="{y_high:.1f}"/>')
        body.append(
            f"<g><title>{n} images, stated {stated:.2f}, right {share:.2f} [{low:.2f}, {high:.2f}]</title>{_marker(role, x, y)}</g>"
        )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    body.insert(0, f'<polyline class="curve faint r-{role}" points="{line}"/>')
    return _svg(262, bottom + 38, f"Calibration of {title}: share right against stated confidence, n = {len(right)}", body)


def histograms(rows: Sequence[tuple[str, str, np.ndarray]], *, title: str, x_label: str, span: tuple[float, float] = (-1, 1)) -> str:
    """Draw distributions one under the other on one axis, a line at each median.

    Parameters
    ----------
    rows : sequence of (label, role, float array [N])
        Values that are NaN are left out, and counted in the label.
    title, x_label : str
    span : (low, high)
        The axis, unless values lie closer together.
    """
    left, right, tall = 4, WIDTH - 4, 54
    values = np.concatenate([v[np.isfinite(v)] for _, _, v in rows]) if rows else np.zeros(0)
    low = span[0] if len(values) and values.min() < -0.2 else min(0.0, float(values.min(initial=0.0)))
    low, high = math.floor(low * 5) / 5, span[1]
    edges = np.linspace(low, high, 31)
    most = max((int(np.histogram(v[np.isfinite(v)], edges)[0].max(initial=0)) for _, _, v in rows), default=1) or 1

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    body, y = [], 0.0
    ticks = [t for t in (-1, -0.5, 0, 0.5, 1) if low <= t <= high]
    for label, role, all_values in rows:
        finite = all_values[np.isfinite(all_values)]
        counts = np.histogram(finite, edges)[0]
        base = y + 20 + tall
        left_out = len(all_values) - len(finite)
        note = f"{label}: n = {len(finite)}" + (f", {left_out} not judged" if left_out else "")
        body.append(_marker(role, 6, y + 10) + f'<text x="17" y="{y + 14:.0f}">{escape(note)}</text>')
        steps = "".join(f"V{base - c / most * tall:.1f}H{across(edge):.1f}" for c, edge in zip(counts, edges[1:], strict=True))
        body.append(f'<path class="area r-{role}" d="M{across(low):.1f} {base}{steps}V{base}Z"/>')
        body.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>')
        if len(finite):
            median = float(np.median(finite))
            side = "end" if across(median) > WIDTH - 90 else "start"
            body.append(
                f'<line class="middle r-{role}" x1="{across(median):.1f}" x2="{across(median):.1f}" y1="{y + 22}" y2="{base}"/>'
                f'<text class="figure" x="{across(median) + (-5 if side == "end" else 5):.1f}" y="{y + 33:.0f}" text-anchor="{side}">'
                f"median {median:.2f}</text>"
            )
        y = base + 8
    for tick in ticks:
        side = "start" if tick == low else "end" if tick == high else "middle"
        body.append(f'<text class="tick" x="{across(tick):.1f}" y="{y + 8:.0f}" text-anchor="{side}">{tick:g}</text>')
    body.append(f'<text class="tick" x="{WIDTH / 2}" y="{y + 24:.0f}" text-anchor="middle">{escape(x_label)}</text>')
    return _svg(WIDTH, y + 30, f"{title}: {', '.join(label for label, _, _ in rows)}", body)


def marker(role: str) -> str:
    """Return a role's marker as a small picture for legends and tables, hidden from screen readers (the name stands beside it)."""
    return f'<svg class="marker" width="14" height="14" viewBox="0 0 14 14" aria-hidden="true">{_marker(role, 7, 7)}</svg>'


def _svg(width: float, height: float, spoken: str, body: Sequence[str]) -> str:
    return (
        f'<svg class="chart" role="img" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'aria-label="{escape(spoken, quote=True)}">{"".join(body)}</svg>'
    )


def _marker(role: str, x: float, y: float) -> str:
    shape = _MARKERS.get(role, "diamond")
    style = f'class="dot r-{role}"'
    if shape == "square":
        return f'<rect {style} x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'
    if shape == "disc":
        return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    if shape == "triangle":
        return f'<path {style} d="M{x:.1f} {y - 5.5:.1f}l5.5 10h-11z"/>'
    return f'<path {style} d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'


def _axis(values: Sequence[float], *, wanted: int) -> tuple[float, float, list[float]]:
    """Return the ends of an axis a little beyond the values, and round ticks inside it."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    # Figures that hardly differ shouldn't look far apart, and ticks with ten decimals help nobody.
    pad = max((high - low) * 0.06, (max(abs(low), abs(high), 0.05) * 0.02 - (high - low)) / 2)
    low, high = low - pad, high + pad
    size = 10.0 ** math.floor(math.log10((high - low) / wanted))
    steps = [s * size for s in (10, 5, 2.5, 2, 1)]
    # The widest step that still gives two ticks, but no more of them than wanted where a narrower one would.
    found = [[k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)] for step in steps]
    fitting = [ticks for ticks in found if 2 <= len(ticks) <= wanted] or [ticks for ticks in found if len(ticks) >= 2]
    return low, high, max(fitting[: len(found)], key=len) if len(fitting[0]) <= wanted else fitting[0]


def _decades(values: Sequence[float], *, room: float) -> tuple[float, float, list[float]]:
    """Return the ends of a logarithmic axis a little beyond the values, and ticks at powers of ten, as many as its `room` (pixels) has place for."""
    first, last = math.log10(min(values)), math.log10(max(values))
    pad = max(0.06 * (last - first), 0.05)
    first, last = first - pad, last + pad
    if math.floor(last) - math.ceil(first) < 1:  # two ticks at least
        first, last = math.floor(first), math.ceil(last)
    powers = range(math.ceil(first), math.floor(last) + 1)
    thinned = powers[:: math.ceil((last - first) * _TICK / room)]
    ticks = thinned if len(thinned) > 1 else (powers[0], powers[-1])
    return 10.0**first, 10.0**last, [10.0**power for power in ticks]


def _tick(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(value) or 1
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    if places and round(step * 10**places, 6) % 1:  # a step of 0.25 needs one more
        places += 1
    return f"{value if abs(value) > 1e-12 else 0:.{places}f}"


def _whole_ticks(low: float, high: float) -> list[int]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if (high - low) / s <= 6 or s == 1000)
    return [x for x in range(math.ceil(low), math.floor(high) + 1) if x % step == 0 or (x == low and step > 1)]


def _wilson(share: float, n: int) -> tuple[float, float]:
    centre = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def text_width(text: str) -> float:
    """Return about how wide a text is at 12 px; digits and capitals are wider than the mean letter."""
    return sum(3.6 if c in "ilj.,:;|'[]()! " else 9.5 if c in "mwMW" else 7.0 for c in text)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many letters."""
    return text if len(text) <= most else text[: most - 1] + "…"
