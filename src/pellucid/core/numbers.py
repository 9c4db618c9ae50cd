"""How numbers are printed: with their interval, their n and no more decimals than the interval earns."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pellucid.core.records import Measurement

# Names whose figure is a difference, besides those that end in _difference: printed with their sign.
SIGNED = {"transferred", "mask_fidelity_gain"}
# Names whose figure says how many times one thing is another: printed as ``3.2x``.
RATIOS = {"met_ratio"}


def is_signed(measurement: Measurement) -> bool:
    """Return whether the figure is a difference and so carries its sign."""
    return measurement.name.endswith("_difference") or measurement.name in SIGNED or " - " in measurement.model


def decimals(measurements: Iterable[Measurement], *, most: int = 4) -> int:
    """Return how many decimals a column of figures deserves: two figures of its widest interval.

    Parameters
    ----------
    measurements : iterable of Measurement
        All figures of one column; those without an interval don't count.
    most : int
        Never more than this.

    Returns
    -------
    int
        3 where no figure has an interval.

    Examples
    --------
    >>> decimals([Measurement("accuracy", 0.912, 0.874, 0.941)])
    3
    """
    widths = [m.high - m.low for m in measurements if m.low is not None and m.high is not None and m.high > m.low]
    if not widths:
        return min(3, most)
    return max(0, min(most, 1 - math.floor(math.log10(max(widths)))))


def figure(value: float, places: int, *, signed: bool = False) -> str:
    """Print one number: ``0.912``, or ``+0.021`` where it is a difference; a rounded zero has no sign."""
    text = f"{value:+,.{places}f}" if signed else f"{value:,.{places}f}"
    return text.lstrip("+-") if float(text.replace(",", "")) == 0 else text


def with_interval(measurement: Measurement, places: int | None = None) -> str:
    """Print a figure with its interval, or say why it is undefined.

    Examples
    --------
    >>> with_interval(Measurement("accuracy", 0.912, 0.874, 0.941))
    '0.912 [0.874, 0.941]'
    >>> with_interval(Measurement("auc", None, reason="no image of class ring in test"))
    'undefined: no image of class ring in test'
    >>> with_interval(Measurement("met_ratio", 3.21, 2.94, 3.52))
    '3.21x [2.94, 3.52]'
    """
    if measurement.value is None or not math.isfinite(measurement.value):
        return undefined(measurement)
    places = decimals([measurement]) if places is None else places
    signed = is_signed(measurement)
    text = figure(measurement.value, places, signed=signed) + ("x" if measurement.name in RATIOS else "")
    if measurement.low is None or measurement.high is None:
        return text
    return f"{text} [{figure(measurement.low, places, signed=signed)}, {figure(measurement.high, places, signed=signed)}]"


def undefined(measurement: Measurement) -> str:
    """Return the word that stands where there is no figure, with its reason; "not judged" stays as it is."""
    reason = measurement.reason.strip() or "no reason was recorded"
    return reason if reason.startswith(("not judged", "undefined")) else f"undefined: {reason}"


def basis(n_images: int, n_units: int = 0, unit: str = "images") -> str:
    """Print what a figure rests on: ``n = 214 images of 31 subjects``."""
    if not n_images and not n_units:
        return ""
    images = f"n = {plural(n_images, 'images')}"
    return images if unit == "images" or not n_units else f"{images} of {plural(n_units, unit)}"


def full(measurement: Measurement) -> str:
    """Print a figure as it stands alone in a sentence: ``0.912 [0.874, 0.941], n = 214 images of 31 subjects``."""
    rests_on = basis(measurement.n_images, measurement.n_units, measurement.unit)
    return with_interval(measurement) + (f", {rests_on}" if rests_on else "")


def plural(n: int, unit: str) -> str:
    """Print a count with its unit, given in the plural: ``1 subject``, ``1,204 images``."""
    singular = {"classes": "class", "copies": "copy", "processes": "process"}.get(unit, unit.removesuffix("s"))
    return f"{n:,} {singular if n == 1 else unit}"


def three_figures(value: float) -> str:
    """Print a positive number with three significant figures and no exponent: ``0.334``, ``28.1``, ``6,950``."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 6)}f}"


def ratio(numerator: float, denominator: float) -> str:
    """Print how many times one is the other: ``3.2x``, from ten on ``21x``, below a tenth with two figures: ``0.0022x``."""
    if not denominator:
        return "undefined: division by zero"
    times = numerator / denominator
    if 0 < times < 0.095:
        return f"{times:.{min(6, 1 - math.floor(math.log10(times)))}f}x"
    return f"{times:,.0f}x" if times >= 9.95 else f"{times:.1f}x" if times >= 0.95 else f"{times:.2f}x"


def number_of_bytes(value: float) -> str:
    """Print a file size or memory: ``1.34 MB``; 1 MB is 10^6 bytes."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= limit:
            return f"{three_figures(value / limit)} {unit}"
    return f"{value:.0f} bytes"


def large_count(value: float) -> str:
    """Print a count of parameters or operations: ``0.334 M``, ``2.83 G``."""
    for limit, unit in ((1e9, "G"), (1e4, "M")):
        if abs(value) >= limit:
            return f"{three_figures(value / (1e9 if unit == 'G' else 1e6))} {unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Print a time in the unit a person would choose: ``0.4 s``, ``8 s``, ``3 min 12 s``, ``2 h 05 min``."""
    if 0 < seconds < 0.0995:
        return f"{three_figures(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
