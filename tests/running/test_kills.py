"""kill -9 at any place: the same command then ends with the same weights, maps and measurements, and nothing half-written is read."""

from __future__ import annotations

import shutil
import signal

import pytest

from pellucid.running.experiment import open_experiment
from whole_run import differences, finished, pellucid_in

# One inside each kind of write, in the order in which a run comes to them; the numbers count visits within one start.
CHAIN = ("settings:1", "store:1", "best:1", "checkpoint:1", "epoch:2", "network:2", "cache:2", "maps:1", "judgements:1", "measurements:1", "report:1", "stage:7")  # fmt: skip


def leftovers(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob(".*.part*")]


@pytest.mark.parametrize("place", ["store:1", "checkpoint:4", "epoch:6", "cache:1", "part:3", "part:12", "parts:5", "measurements:1"])
def test_a_killed_run_goes_on_to_the_same_end(place, beginning, never_stopped):
    """Killed inside this write (or after this epoch), then started again: as if it had never stopped, and no part is left lying about."""
    killed = pellucid_in(beginning, "run", "tiny.toml", PELLUCID_CRASH=place)
    assert killed.code == -signal.SIGKILL, killed.err
    if place.startswith("part"):
        assert list((beginning / "runs" / "tiny" / "parts").iterdir())
    resumed = pellucid_in(beginning, "run", "tiny.toml")
    assert resumed.code == 0, resumed.err
    assert differences(finished(beginning / "runs" / "tiny"), finished(never_stopped / "runs" / "tiny")) == []
    assert leftovers(beginning) == [] and not (beginning / "runs" / "tiny" / "parts").exists()


def test_a_run_killed_in_every_kind_of_write_ends_the_same(beginning, never_stopped):
    """Twelve starts, each killed one write further on (or let through where that write was done before); the thirteenth ends it."""
    for place in CHAIN:
        outcome = pellucid_in(beginning, "run", "tiny.toml", PELLUCID_CRASH=place)
        assert outcome.code in (-signal.SIGKILL, 0), f"{place}: {outcome.err}"
    assert pellucid_in(beginning, "run", "tiny.toml").code == 0
    assert differences(finished(beginning / "runs" / "tiny"), finished(never_stopped / "runs" / "tiny")) == []
    assert leftovers(beginning) == [] and not (beginning / "runs" / "tiny" / "parts").exists()


@pytest.mark.parametrize("name", ["maps.npz", "judgements.npz", "measurements.json", "stages/explain.json", "stages/measure.json"])
def test_what_was_damaged_or_deleted_is_made_anew(name, tmp_path, monkeypatch, never_stopped):
    """Nothing corrupt is read, and what comes in its place is the same."""
    copy = tmp_path / "run"
    shutil.copytree(never_stopped / "runs" / "tiny", copy)
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(never_stopped / "ws"))
    for damage in (lambda path: path.write_bytes(b"\xff\x00junk"), lambda path: path.unlink()):
        damage(copy / name)
        with open_experiment(copy) as opened:
            _ = opened.scores
    assert differences(finished(copy), finished(never_stopped / "runs" / "tiny")) == []
