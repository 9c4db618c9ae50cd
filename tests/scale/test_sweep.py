"""Whole sweeps in processes of their own: killed, started again, two at once."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import pellucid as pl
from pellucid.core.errors import RunError
from pellucid.core.files import read_json
from pellucid.scale.sweep import Sweep
from whole_run import TINY, pellucid_in

# Few measures, since other tests look at those.
SMALL = (
    TINY.replace("preset =", 'precision = "fp32"\npreset =').partition("[measure]")[0]
    + '[measure]\nmeasures = ["performance"]\nresamples = 100\n'
)
SWEEP = SMALL + "\n[sweep]\ndistill.alpha = [0.4, 0.7]\nrun.seed = [0, 1]\n"
N_NETWORKS = 2 + 2 + 4  # teachers and bases by seed, students


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    """A sweep that ran through."""
    folder = tmp_path_factory.mktemp("a sweep ü")
    (folder / "tiny.toml").write_text(SWEEP)
    outcome = pellucid_in(folder, "sweep", "tiny.toml", "--processes", "2")
    assert outcome.code == 0, outcome.err
    return folder, outcome


def begun(folder, never_killed):
    """Return a folder for the same sweep. The number format is timed and may fall out differently, and with it the last bits: it's copied."""
    (folder / "tiny.toml").write_text(SWEEP)
    shutil.copytree(never_killed[0] / "ws" / "choices", folder / "ws" / "choices")
    return folder


def networks(folder):
    """Return when each network was written: one that is made again gets another time."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "ws" / "networks").glob("*/network.safetensors")}


def rows(folder, name="runs/tiny_sweep"):
    """Return all figures of a sweep but those of a clock."""
    found = read_json(folder / name / "sweep.json")["rows"]
    clock = {"met", "met_p50", "met_p95", "met_ratio", "latency_p50", "latency_p95", "throughput", "peak_memory"}
    return [(row["values"], [m for m in row["measurements"] if m["name"] not in clock]) for row in found]


def test_a_sweep_trains_each_network_once_and_reports_what_validation_chose(never_killed):
    """Both seeds of the chosen setting have a report, the other setting has none and no figure on the test split."""
    folder, outcome = never_killed
    assert len(networks(folder)) == N_NETWORKS
    found = read_json(folder / "runs" / "tiny_sweep" / "sweep.json")
    chosen = found["rows"][found["chosen"]]
    other = found["rows"][1 - found["chosen"]]
    assert [link for _, link in chosen["runs"] if (folder / "runs" / "tiny_sweep" / link).is_file()] == [link for _, link in chosen["runs"]]
    assert {m["split"] for m in chosen["measurements"]} == {"val", "test"}
    assert {m["split"] for m in other["measurements"]} == {"val"} and {link for _, link in other["runs"]} == {""}
    assert f"Chosen: alpha {chosen['values']['distill.alpha']:g}, because" in outcome.out
    assert "[8/8]" in outcome.err


def test_a_figure_on_the_page_is_that_of_the_runs(never_killed):
    """The student's validation figure is the mean over seeds of what each run's own logits give."""
    from pellucid.stats.classification import balanced_accuracy

    folder, _ = never_killed
    found = read_json(folder / "runs" / "tiny_sweep" / "sweep.json")
    chosen = found["rows"][found["chosen"]]
    each = []
    for _, link in chosen["runs"]:
        with np.load((folder / "runs" / "tiny_sweep" / link).parent / "predictions.npz") as content:
            each.append(balanced_accuracy(content["val.targets"], content["val.logits.student"]))
    (figure,) = (
        m["value"] for m in chosen["measurements"] if (m["name"], m["model"], m["split"]) == ("balanced_accuracy", "student", "val")
    )
    assert figure == pytest.approx(np.mean(each), abs=1e-12)


def test_a_killed_sweep_does_only_what_is_missing(never_killed, tmp_path):
    """Killed in the middle, then let end: what was there stays as it was, the figures are the same, and a third start trains nothing."""
    begun(tmp_path, never_killed)
    killed = pellucid_in(tmp_path, "sweep", "tiny.toml", "--processes", "1", PELLUCID_CRASH="epoch:9")
    assert killed.code == 2 and "died without a word" in killed.err
    before = networks(tmp_path)
    assert 0 < len(before) < N_NETWORKS
    resumed = pellucid_in(tmp_path, "sweep", "tiny.toml", "--processes", "2")
    assert resumed.code == 0, resumed.err
    after = networks(tmp_path)
    assert {key: after[key] for key in before} == before and len(after) == N_NETWORKS
    assert rows(tmp_path) == rows(never_killed[0])
    assert list(tmp_path.rglob(".*.part*")) == []
    once_more = pellucid_in(tmp_path, "sweep", "tiny.toml", "--processes", "2")
    assert "networks to make" not in once_more.err and networks(tmp_path) == after and rows(tmp_path) == rows(never_killed[0])
    assert "student   4 networks, 4 done" in pellucid_in(tmp_path, "sweep", "tiny.toml", "--dry-run").out


def test_two_sweeps_at_once_share_a_store_and_do_no_harm(never_killed, tmp_path):
    """The second wants one more value: both end with the figures they have alone, and no network is trained twice."""
    begun(tmp_path, never_killed)
    outcomes = {}

    def start(name, *more):
        outcomes[name] = pellucid_in(tmp_path, "sweep", "tiny.toml", *more, "--processes", "1", "--out", name)

    threads = [
        threading.Thread(target=start, args=("one",)),
        threading.Thread(target=start, args=("two", "sweep.distill.alpha=[0.4, 0.7, 0.9]")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: outcome.code for name, outcome in outcomes.items()} == {"one": 0, "two": 0}
    assert rows(tmp_path, "one") == rows(never_killed[0])
    validation = [[m for m in figures if m["split"] == "val"] for _, figures in rows(tmp_path, "two")[:2]]
    assert validation == [[m for m in figures if m["split"] == "val"] for _, figures in rows(never_killed[0])]
    assert len(networks(tmp_path)) == N_NETWORKS + 2
    for key in networks(tmp_path):
        logs = [path for name in ("one", "two") for path in (tmp_path / name / "logs").glob(f"*-{key}.log")]
        epochs = sum(line.count(": loss") for path in logs for line in path.read_text().splitlines())
        assert epochs == (2 if logs[0].name.startswith("teacher") else 3)


def test_a_sweep_in_use_is_refused(never_killed):
    import fcntl

    folder, _ = never_killed
    with (folder / "runs" / "tiny_sweep" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = pellucid_in(folder, "sweep", "tiny.toml")
    assert refused.code == 2 and "another process is running this sweep" in refused.err


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SWEEP)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(RunError, match="holds no sweep"):
        pl.sweep("tiny.toml", out="mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_run_is_no_place_for_a_sweep(never_killed, monkeypatch):
    """A run's folder has a lock too, and a sweep there would write over its report."""
    folder, _ = never_killed
    monkeypatch.chdir(folder)
    (run,) = {path.parent for path in (folder / "runs" / "tiny_sweep" / "runs").glob("*seed=0/report.html")}
    before = (run / "report.html").read_bytes()
    with pytest.raises(RunError, match="holds no sweep"):
        pl.sweep("tiny.toml", out=run)
    assert (run / "report.html").read_bytes() == before


def test_a_report_that_this_sweep_did_not_make_is_not_shown(never_killed, tmp_path):
    """The setting that isn't chosen has old reports in its folders, of who knows what data: the page shows none of their figures."""
    folder = tmp_path / "later"
    shutil.copytree(never_killed[0], folder)
    place = folder / "runs" / "tiny_sweep"
    found = read_json(place / "sweep.json")
    chosen, other = (f"{found['rows'][k]['values']['distill.alpha']:g}" for k in (found["chosen"], 1 - found["chosen"]))
    for seed in (0, 1):
        old = shutil.copytree(place / "runs" / f"alpha={chosen},seed={seed}", place / "runs" / f"alpha={other},seed={seed}")
        settings = (old / "settings.toml").read_text()
        (old / "settings.toml").write_text(settings.replace(f"alpha = {chosen}", f"alpha = {other}"))
    again = pellucid_in(folder, "sweep", "tiny.toml", "--processes", "2")
    assert again.code == 0, again.err
    assert rows(folder) == rows(never_killed[0])


def test_one_setting_that_fails_leaves_the_others_their_page(tmp_path):
    """A learning rate that diverges: the sweep ends with 2 and names it; the page holds the rest and says what is missing."""
    (tmp_path / "tiny.toml").write_text(SMALL + "\n[sweep]\nstudent.lr = [0.001, 1e30]\n")
    outcome = pellucid_in(tmp_path, "sweep", "tiny.toml", "--processes", "1")
    assert outcome.code == 2
    assert "lr 1e+30" in outcome.err and "became" in outcome.err
    found = json.loads((tmp_path / "runs" / "tiny_sweep" / "sweep.json").read_text())
    assert [row["values"] for row in found["rows"]] == [{"student.lr": 0.001}]
    assert "Some of the sweep failed" in (tmp_path / "runs" / "tiny_sweep" / "report.html").read_text()
    assert "Page: runs/tiny_sweep/report.html" in outcome.err


def test_a_teacher_that_fails_is_named_by_what_is_varied_of_it(tmp_path):
    """Its students of both seeds are not begun, and counted; those of the other teacher are done."""
    axes = "teacher.lr = [0.001, 1e30]\nstudent.seed = [0, 1]\ndistill.alpha = [0.4]\n"
    (tmp_path / "tiny.toml").write_text(f"{SMALL}\n[sweep]\n{axes}")
    outcome = pellucid_in(tmp_path, "sweep", "tiny.toml", "--processes", "1")
    assert outcome.code == 2
    said = "1 job of the sweep failed; for that 2 jobs not begun; the others are done (teacher lr 1e+30: "
    assert said in outcome.err
    found = json.loads((tmp_path / "runs" / "tiny_sweep" / "sweep.json").read_text())
    assert [row["values"] for row in found["rows"]] == [{"teacher.lr": 0.001, "distill.alpha": 0.4}]


def test_a_slash_at_the_end_of_a_run_folder_makes_no_sweep_inside_it(tmp_path):
    (tmp_path / "tiny.toml").write_text(SWEEP)
    assert Sweep(tmp_path / "tiny.toml", ["run.out=runs/brain/"]).folder == Path("runs/brain_sweep")
