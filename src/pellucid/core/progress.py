"""Progress with rate and remaining time: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from pellucid.core.numbers import duration

Item = TypeVar("Item")
LINE_SECONDS = 15.0


def say(text: str) -> None:
    """Print one line for the person watching (on stderr, so that output can be piped)."""
    print(text, file=sys.stderr, flush=True)


def track(items: Iterable[Item], label: str, *, total: int | None = None, unit: str = "images", each: int = 1) -> Iterator[Item]:
    """Yield from `items` and show how far it is, how fast, and how long it will still take.

    Parameters
    ----------
    items : iterable
        What is worked through.
    label : str
        What is being done, e.g. ``teacher densenet121, epoch 3/25``.
    total : int or None
        Number of items; taken from ``len(items)`` where there is one.
    unit : str
        What one item stands for.
    each : int
        How many units one item counts for (a batch of 32 images: 32).
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    yield from (_bar if sys.stderr.isatty() else _lines)(items, label, total, unit, each)


def _bar(items: Iterable[Item], label: str, total: int | None, unit: str, each: int) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
               TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task(label, total=total, rate="")
        start = time.monotonic()
        for done, item in enumerate(items, 1):
            yield item
            bar.update(job, advance=1, rate=_speed(done * each / max(time.monotonic() - start, 1e-9), unit))


def _lines(items: Iterable[Item], label: str, total: int | None, unit: str, each: int) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            rate = done / (now - start)
            rest = f", {duration(round((total - done) / rate))} left" if total else ""
            say(f"{label}: {done * each:,} {unit}, {_speed(rate * each, unit)}{rest}")


def _speed(rate: float, unit: str) -> str:
    return f"{rate:,.1f} {unit}/s" if rate >= 0.1 else f"{1 / rate:,.0f} s each"
