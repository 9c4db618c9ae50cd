"""The command line through its real entry point, in a folder with a space and an umlaut in its name."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whole_run import TINY, differences, finished, pellucid_in

PELLUCID = Path(sys.executable).with_name("pellucid")
# On the command line, as a user would: the file that `init` writes holds the defaults of real work.
SMALL = [
    "data.size=32", "data.views=2", "data.val_share=0.2", "data.test_share=0.2",
    "teacher.model=cnn5", "teacher.preset=small", "teacher.epochs=1", "teacher.batch_size=8",
    "student.model=cnn5", "student.preset=small", "student.epochs=2", "student.batch_size=8",
    "explain.images=6", "measure.resamples=100",
]  # fmt: skip


def environment(folder):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PELLUCID_WORKSPACE": str(folder / "ws"), "COLUMNS": "200"}


def pellucid(folder, *arguments):
    """Run the installed command in a folder, as from a shell."""
    return subprocess.run([PELLUCID, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with ``meine bilder``: three classes of ten images, RGB, of several sizes, told apart by their colour."""
    root = tmp_path_factory.mktemp("ä b")
    draws = np.random.default_rng(0)
    for number, name in enumerate(("rot", "grün", "blau")):
        (root / "meine bilder" / name).mkdir(parents=True)
        for i in range(10):
            pixels = draws.integers(0, 120, (40 + 2 * i, 40, 3), dtype=np.uint8)
            pixels[..., number] += 120
            Image.fromarray(pixels).save(root / "meine bilder" / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run_folder(folder):
    """Return what `init` and `run` printed, having made ``x.toml`` and ``runs/x``."""
    begun = pellucid(folder, "init", "meine bilder", "--to", "x.toml")
    done = pellucid(folder, "run", "x.toml", *SMALL)
    assert done.returncode == 0, done.stderr
    return begun, done


def imported(code, *names):
    """Return which of these modules a fresh interpreter has loaded after some code."""
    check = f"{code}\nimport sys\nprint(sorted({set(names)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_importing_pellucid_imports_nothing_heavy():
    """The public names are there and listed, and none of their libraries is loaded before one is used."""
    code = "import pellucid\nassert 'distill' in dir(pellucid)"
    assert imported(code, "torch", "numpy", "timm", "sklearn", "scipy", "pydantic", "PIL", "typer") == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list", "losses"]])
def test_help_and_list_import_nothing_heavy(arguments):
    """What only prints a page of text doesn't pay for training."""
    code = f"from pellucid.cli import main\ntry:\n main({arguments!r})\nexcept SystemExit as end:\n assert not end.code"
    assert imported(code, "torch", "numpy", "timm", "sklearn", "scipy", "PIL", "matplotlib") == "[]"


def test_every_public_name_opens():
    """Nothing in the lazy table points to something that has moved; an unknown name is an AttributeError."""
    import pellucid as pl

    for name in pl.__all__:
        assert callable(getattr(pl, name)), name
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = pl.nothing_such


def test_help_names_every_command(tmp_path):
    """The first page lists them, and each has a page of its own that begins with a sentence."""
    page = pellucid(tmp_path, "--help")
    assert page.returncode == 0
    for command in ("init", "run", "train", "distill", "explain", "measure", "report", "predict", "audit", "list", "clean"):
        assert f"\n  {command} " in page.stdout
    assert pellucid(tmp_path).stdout == page.stdout


def test_list_shows_the_parts_with_their_first_sentence(tmp_path):
    """By kind, or all; what stands here can be written into an experiment file."""
    losses = pellucid(tmp_path, "list", "losses").stdout
    assert "logit_kd" in losses
    assert "Cross-entropy with the labels" in losses
    assert "grad_cam" not in losses
    everything = pellucid(tmp_path, "list").stdout
    for part in ("phantom", "cnn5", "grad_cam", "logit_kd", "faithfulness", "any timm name"):
        assert part in everything


def test_init_writes_a_file_that_runs(run_folder, folder):
    """The file explains every setting and names what was seen; it isn't overwritten; the run ends with verdicts and the report's place."""
    begun, done = run_folder
    assert begun.returncode == 0, begun.stderr
    assert "Wrote x.toml. Next: pellucid run x.toml" in begun.stdout
    text = (folder / "x.toml").read_text(encoding="utf-8")
    assert "30 images, 3 classes (blau 10, grün 10, rot 10)" in text
    assert 'source = "meine bilder"' in text
    assert 'channels = "rgb"' in text
    assert "Report: runs/x/report.html" in done.stdout
    for question in ("Is it as right?", "Does it look where the teacher looks?", "Is it small and fast?", "Is the data sound?"):
        assert question in done.stdout
    assert "<html" in (folder / "runs" / "x" / "report.html").read_text(encoding="utf-8")


def test_predict_equals_what_the_run_said_of_the_same_files(run_folder, folder):
    """Evaluation and prediction share one path: for every test and validation image the printed probabilities are the run's own."""
    from pellucid.stats.classification import softmax

    done = pellucid(folder, "predict", "runs/x", "meine bilder")
    assert done.returncode == 0, done.stderr
    table = {row["file"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert len(table) == 30
    with np.load(folder / "runs" / "x" / "predictions.npz") as content:
        kept = dict(content)
    for side in ("val", "test"):
        probabilities = softmax(kept[f"{side}.logits.student"])
        for name, expected in zip(kept[f"{side}.ids"], probabilities, strict=True):
            row = table[f"meine bilder/{name}"]
            assert [float(row[k]) for k in kept["classes"]] == pytest.approx(expected, abs=5.1e-5)
            assert row["class"] == kept["classes"][expected.argmax()]


def test_predict_skips_what_cant_be_read_when_asked(run_folder, folder):
    """The line of a broken file says why; the others are classified, and a single file may be named."""
    (folder / "kaputt.png").write_bytes(b"")
    done = pellucid_in(folder, "predict", "runs/x/student.safetensors", "kaputt.png", "meine bilder/rot/0.png", "--on-error", "skip")
    rows = list(csv.reader(io.StringIO(done.out)))
    assert done.code == 0
    assert rows[0] == ["file", "class", "probability", "blau", "grün", "rot"]
    assert rows[1][:2] == ["kaputt.png", "unreadable: empty"]
    assert rows[2][0] == "meine bilder/rot/0.png"


def test_stage_commands_work_on_a_run_folder(run_folder, folder):
    """Each prints what it did, finds everything done before, and trains nothing again."""
    expected = {
        "train": ["teacher cnn5: 1 epochs, best 1", "base cnn5: 2 epochs"],
        "distill": ["student cnn5: 2 epochs", "Network: runs/x/student.safetensors"],
        "explain": ["student: grad_cam at ", "Maps: runs/x/maps.npz"],
        "measure": ["balanced_accuracy student: ", "All of them: runs/x/measurements.json"],
        "report": ["Report: runs/x/report.html"],
    }
    for command, said in expected.items():
        done = pellucid_in(folder, command, "runs/x")
        assert done.code == 0, done.err
        assert "epoch" not in done.err, command
        for text in said:
            assert text in done.out, f"{command}: {done.out}"


def test_stage_commands_in_turn_make_a_whole_run(tmp_path):
    """From nothing, with an experiment file: train, distill, explain, measure, report; each leaves its own results."""
    (tmp_path / "tiny.toml").write_text(TINY)
    run = tmp_path / "runs" / "tiny"
    for command, made in (
        ("train", "stages/base.json"),
        ("distill", "student.safetensors"),
        ("explain", "maps.npz"),
        ("measure", "measurements.json"),
        ("report", "report.html"),
    ):
        assert not (run / made).exists(), command
        done = pellucid_in(tmp_path, command, "tiny.toml")
        assert done.code == 0, done.err
        assert (run / made).exists(), command


def test_dry_run_says_what_would_be_done_and_does_nothing(run_folder, folder):
    """Every stage has a line; a finished run is told as done; nothing is written for a new one."""
    done = pellucid_in(folder, "run", "x.toml", *SMALL, "--dry-run")
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["data", "teacher", "base", "student", "explain", "measure", "report"]
    assert done.out.count("done") >= 6
    other = pellucid_in(folder, "run", "x.toml", *SMALL, "run.out=runs/other", "run.seed=5", "--dry-run")
    assert "teacher   cnn5: 1 epochs in " in other.out
    assert not (folder / "runs" / "other").exists()


def test_audit_prints_a_table_and_keeps_json(folder):
    """No training, no run folder; a leak ends with 1 where --strict is given."""
    done = pellucid_in(folder, "audit", "meine bilder", "--json", "audit.json", "--strict")
    assert done.code == 0, done.err
    assert "grün" in done.out
    found = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert {"counts", "duplicates", "findings"} <= set(found)
    leak = folder / "leak"
    leak.mkdir()
    lines = ["path,label,subject,split"]
    for i, side in enumerate(["train"] * 8 + ["val"] * 2 + ["test"] * 2):
        name = ("rot", "grün")[i % 2] + f"/{i // 2}.png"
        lines.append(f"../meine bilder/{name},{'ab'[i % 2]},s{i % 8},{side}")
    (leak / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    strict = pellucid_in(folder, "audit", "leak", "data.split=column:split", "--strict")
    assert strict.code == 1, strict.err
    assert "leak" in strict.out.lower()


def test_clean_lists_and_removes(run_folder, folder):
    """Every result has a key and a size; the one that is named goes, the others stay."""
    listed = pellucid_in(folder, "clean").out.splitlines()[:-1]
    assert {"stores", "networks", "caches"} <= {line.split()[0] for line in listed}
    key = next(line.split()[1] for line in listed if line.startswith("caches"))
    removed = pellucid_in(folder, "clean", key)
    assert f"removed caches {key}" in removed.out
    assert removed.out.count("removed") == 1
    assert [line for line in listed if key not in line] == pellucid_in(folder, "clean").out.splitlines()[:-1]


def test_a_second_process_on_the_same_run_is_told_so(tmp_path):
    """While one holds a run folder the other ends with 2 and one line; afterwards it may."""
    from pellucid.running.experiment import open_experiment

    (tmp_path / "tiny.toml").write_text(TINY)
    out = f"run.out={tmp_path / 'läuft'}"
    with open_experiment(tmp_path / "tiny.toml", [out, f"run.workspace={tmp_path / 'ws'}"]) as first:
        first.folder.create()
        second = pellucid_in(tmp_path, "train", "tiny.toml", out)
    assert (second.code, len(second.err.splitlines())) == (2, 1)
    assert "läuft: another process is running this experiment" in second.err
    assert pellucid_in(tmp_path, "train", "tiny.toml", out).code == 0


def test_ctrl_c_ends_with_one_line_and_the_same_command_goes_on(tmp_path):
    """SIGINT in the middle of the base's training: 130, one line; then the same weights as a run that was left alone."""
    more = ["student.epochs=6", "student.precision=fp32"]
    for name in ("stopped", "whole"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny.toml").write_text(TINY)
    command = [PELLUCID, "run", "tiny.toml", *more]
    process = subprocess.Popen(
        command, cwd=tmp_path / "stopped", env=environment(tmp_path), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it, and so would this one
    )  # fmt: skip
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "epoch 3/6" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert lines[-1] == "pellucid: Stopped. What a run or sweep had finished is kept: the same command goes on from there.\n"
    assert "Traceback" not in "".join(lines)
    again = pellucid_in(tmp_path / "stopped", "run", "tiny.toml", *more, PELLUCID_WORKSPACE=str(tmp_path / "ws"))
    assert again.code == 0, again.err
    assert "epoch 1/6" not in again.err.split("cnn5 from cnn5")[0]
    (tmp_path / "other").mkdir()
    (tmp_path / "ws" / "choices").rename(tmp_path / "other" / "choices")
    whole = pellucid_in(tmp_path / "whole", "run", "tiny.toml", *more, PELLUCID_WORKSPACE=str(tmp_path / "other"))
    assert whole.code == 0, whole.err
    assert differences(finished(tmp_path / "stopped" / "runs" / "tiny"), finished(tmp_path / "whole" / "runs" / "tiny")) == []


def test_debug_shows_the_traceback_of_an_error(tmp_path):
    """One line without, the traceback with it."""
    plain, debug = pellucid(tmp_path, "list", "loses"), pellucid(tmp_path, "list", "loses", "--debug")
    assert (plain.returncode, len(plain.stderr.splitlines())) == (2, 1)
    assert "Traceback" in debug.stderr
    assert "SettingError" in debug.stderr


def test_what_lies_outside_is_no_mistake_of_ours(folder):
    """A name too long for the disk is one line; a terminal without a class's letters shows their numbers."""
    long = pellucid(folder, "init", "a" * 3000)
    assert (long.returncode, len(long.stderr.splitlines())) == (2, 1)
    assert "3,005 letters is too long" in long.stderr
    ascii_ = subprocess.run([PELLUCID, "audit", "meine bilder", "data.size=16"], cwd=folder, env={**environment(folder), "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)  # fmt: skip
    assert ascii_.returncode == 0, ascii_.stderr
    assert "gr\\xfcn" in ascii_.stdout


def test_a_closed_stream_sends_nothing_into_the_other(tmp_path):
    """Called with stderr closed: what went wrong isn't mixed into the output that somebody reads."""
    command = f'"{PELLUCID}" list loses 2>&-'
    outcome = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    assert (outcome.returncode, outcome.stdout) == (2, "")
