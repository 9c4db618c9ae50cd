"""Progress: plain lines where nobody sees a bar, a bar in a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from pellucid.core import progress

TRACK = """
import time
from pellucid.core.progress import track
print(sum(1 for _ in (time.sleep(0.05) or i for i in track(range(8), "decoding ümlauts", each=4))))
"""


def test_lines_hold_rate_and_remaining_time(monkeypatch, capsys):
    """By a clock that gains 10 s per item, every second item is reported: 8 images at 0.4 per second, 60 s to go, and so on."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    items = list(progress.track("abcdefgh", "decoding", each=4))
    captured = capsys.readouterr()
    assert items == list("abcdefgh")
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "decoding: 8 images, 0.4 images/s, 1 min 00 s left",
        "decoding: 16 images, 0.4 images/s, 40 s left",
        "decoding: 24 images, 0.4 images/s, 20 s left",
        "decoding: 32 images, 0.4 images/s, 0 s left",
    ]


def test_slow_work_says_how_long_each_takes(monkeypatch, capsys):
    """And not that it does 0.0 a second."""
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(progress.track(range(2), "kernel_shap of teacher"))
    assert capsys.readouterr().err.splitlines()[0] == "kernel_shap of teacher: 1 images, 40 s each, 40 s left"


def test_lines_without_a_total_promise_nothing(monkeypatch, capsys):
    """A stream of unknown length shows count and rate alone; `total` supplies the length."""
    for total, expected in ((None, "x: 2 batches, 0.1 batches/s"), (4, "x: 2 batches, 0.1 batches/s, 20 s left")):
        clock = iter(range(0, 1000, 10))
        monkeypatch.setattr(progress.time, "monotonic", lambda clock=clock: next(clock))
        list(progress.track(iter([1, 2]), "x", unit="batches", total=total))
        assert capsys.readouterr().err.splitlines() == [expected]


def test_short_work_prints_nothing(capsys):
    """Under fifteen seconds a log gets no line."""
    assert list(progress.track(range(3), "x")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar():
    """In a pseudo-terminal the label, a percentage and the rate appear, and the output stays clean."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TRACK],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    output, _ = process.communicate(timeout=20)
    text = shown.decode()
    assert output.strip() == "8"
    assert "decoding ümlauts" in text
    assert "images/s" in text
    assert " %" in text
