"""Bad input of every kind: one clear line, exit code 2, and nothing half-written.

One table. Each row makes a folder with something wrong in it, says what is typed, and what the line must hold.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import resource

import numpy as np
import pytest
import tomli_w
from PIL import Image

from pellucid.cli import main

TINY = {
    "data": {"source": "images", "size": 32, "val_share": 0.2, "test_share": 0.2},
    "teacher": {"model": "cnn5", "preset": "small", "epochs": 1, "batch_size": 8},
    "student": {"model": "cnn5", "preset": "small", "epochs": 1, "batch_size": 8},
    "explain": {"images": 4},
    "measure": {"measures": ["performance"], "resamples": 100},
    "run": {"out": "out"},
}


def picture(seed, *, side=24, colour=False):
    """Return the bytes of a small PNG, another one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3) if colour else (side, side), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def image_folder(folder, *, classes=("a", "b"), each=8):
    """Write class folders of good images."""
    for number, name in enumerate(classes):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(each):
            (folder / "images" / name / f"{i}.png").write_bytes(picture(100 * number + i))


def manifest(folder, rows, *, columns=("path", "label", "subject", "split"), each=8):
    """Write images 0.png to 15.png and a manifest with these rows (of them, or of others)."""
    (folder / "images").mkdir()
    for i in range(2 * each):
        (folder / "images" / f"{i}.png").write_bytes(picture(i))
    with (folder / "images" / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def rows(n=16, **changed):
    """Return sound manifest rows; `changed` maps a column to a function of the row's number."""
    sides = {**dict.fromkeys(range(12, 14), "val"), **dict.fromkeys(range(14, 16), "test")}
    sound = {
        "path": lambda i: f"{i}.png",
        "label": lambda i: "ab"[i % 2],
        "subject": lambda i: f"s{i // 2}",
        "split": lambda i: sides.get(i, "train"),
    }
    return [[make(i) for make in (sound | changed).values()] for i in range(n)]


def settings(folder, **changed):
    """Write the tiny experiment x.toml, with some sections replaced."""
    (folder / "x.toml").write_text(tomli_w.dumps({**TINY, **changed}), encoding="utf-8")


def timm_teacher(folder):
    """Make good images, and an experiment whose teacher isn't one of ours."""
    image_folder(folder)
    settings(folder, teacher={"model": "densenet121", "epochs": 1, "batch_size": 8})


def nothing(folder):
    """Make no images at all."""


def empty(folder):
    (folder / "images").mkdir()


def class_folders_empty(folder):
    for name in "ab":
        (folder / "images" / name).mkdir(parents=True)


def one_class(folder):
    image_folder(folder, classes=("a",))


def no_class_folders(folder):
    (folder / "images").mkdir()
    (folder / "images" / "0.png").write_bytes(picture(0))


def unreadable(folder):
    image_folder(folder)
    (folder / "images" / "a" / "cut.png").write_bytes(picture(0)[:200])
    (folder / "images" / "a" / "void.png").write_bytes(b"")
    (folder / "images" / "b" / "notes.txt").write_text("no image")


def all_unreadable(folder):
    for name in "ab":
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "0.png").write_bytes(b"")


def mixed(folder):
    image_folder(folder)
    for i in range(2):
        (folder / "images" / "b" / f"colour{i}.png").write_bytes(picture(i, colour=True))


def missing_columns(folder):
    manifest(folder, [[row[0], row[1]] for row in rows()], columns=("file", "klass"))


def duplicate_paths(folder):
    manifest(folder, rows(path=lambda i: f"{i % 15}.png"))


def absent_paths(folder):
    manifest(folder, rows(path=lambda i: f"{i + 2}.png"))


def new_label_in_test(folder):
    manifest(folder, rows(label=lambda i: "c" if i == 15 else "ab"[i % 2]))


def parted_subject(folder):
    manifest(folder, rows(subject=lambda i: f"s{i % 8}"))


def few_subjects(folder):
    manifest(folder, rows(subject=lambda i: f"s{i % 4}"))


def unknown_side(folder):
    manifest(folder, rows(split=lambda i: "trian" if i == 3 else "train"))


def two_subjects(folder):
    manifest(folder, rows(subject=lambda i: f"s{i % 2}"))


def ragged(folder):
    manifest(folder, [*rows(15), ["15.png", "b"]])


def not_utf8(folder):
    manifest(folder, rows())
    (folder / "images" / "manifest.csv").write_bytes(b"path,label\n\xe4.png,a\n")


def broken_zip(folder):
    (folder / "images.zip").write_bytes(b"PK\x03\x04 and no more")


def broken_npz(folder):
    (folder / "images.npz").write_bytes(b"no npz")


def foreign_kind(folder):
    (folder / "images.docx").write_bytes(b"x")


def foreign_folder(folder):
    image_folder(folder)
    (folder / "out").mkdir()
    (folder / "out" / "thesis.docx").write_text("precious")


def file_in_the_way(folder):
    image_folder(folder)
    (folder / "out").write_text("precious")


def another_run(folder):
    """Make the run folder of the same experiment with another seed."""
    from pellucid.running.experiment import open_experiment

    image_folder(folder)
    with open_experiment("x.toml", ["run.seed=7"]) as other:
        other.folder.create()


def damaged_run(folder):
    image_folder(folder)
    (folder / "out").mkdir()
    (folder / "out" / "settings.toml").write_text("[data\n")


def damaged_weights(folder):
    image_folder(folder)
    (folder / "w.safetensors").write_bytes(b"not weights at all")


def damaged_pth(folder):
    image_folder(folder)
    (folder / "w.pth").write_bytes(b"\x80\x02 not a pickle")


def binary_file(folder):
    (folder / "x.toml").write_bytes(bytes(range(256)))


def not_toml(folder):
    (folder / "x.toml").write_text("data = [unfinished")


def a_network(folder):
    """A small student and one good image."""
    from pellucid.core.records import ImageSpec, Task
    from pellucid.models.build import build
    from pellucid.models.saved import Network

    model = build("cnn5", n_classes=2, channels=1, size=32, preset="small")
    Network(model, ImageSpec(32, 1, (0.5,), (0.2,)), Task("single", ("a", "b")), "cnn5", {"preset": "small"}).save(
        folder / "net.safetensors"
    )
    (folder / "good.png").write_bytes(picture(0))
    (folder / "cut.png").write_bytes(picture(1)[:150])
    (folder / "holiday").mkdir()


RUN = ["run", "x.toml"]
TABLE = {
    # data
    "missing folder": (nothing, RUN, ['data.source "images": there is no such folder or file']),
    "missing folder, near name": (image_folder, [*RUN, "data.source=imagse"], ['Did you mean "images"?']),
    "empty folder": (empty, RUN, ["images/: holds no images"]),
    "empty class folders": (class_folders_empty, RUN, ["images/: holds no images"]),
    "one class only": (one_class, RUN, ['all 8 images are of one class ("a")', "At least two"]),
    "no class folders": (no_class_folders, RUN, ["1 files but no class folders", "manifest.csv"]),
    "unreadable images": (unreadable, RUN, ["3 of 19 images can't be read", "a/cut.png: ends early", "a/void.png: empty", "b/notes.txt: no", 'data.on_error = "skip"']),
    "only unreadable images": (all_unreadable, [*RUN, "data.on_error=skip"], ["none of 2 images can be read"]),
    "mixed channels": (mixed, RUN, ["2 RGB (b/colour0.png, b/colour1.png)", 'data.channels = "grey" or "rgb"']),
    "missing columns": (missing_columns, RUN, ['no column "path" (data.path)', 'no column "label" (data.label)', "There are: file, klass"]),
    "duplicate paths": (duplicate_paths, RUN, ["1 path in several rows: 0.png (2 times)"]),
    "absent paths": (absent_paths, RUN, ["2 files not there: 16.png, 17.png"]),
    "ragged manifest": (ragged, RUN, ["row 17: 2"]),
    "manifest not UTF-8": (not_utf8, RUN, ["not UTF-8 text"]),
    "broken zip": (broken_zip, [*RUN, "data.source=images.zip"], ["images.zip: not a zip file"]),
    "broken npz": (broken_npz, [*RUN, "data.source=images.npz"], ["images.npz"]),
    "no reader": (foreign_kind, [*RUN, "data.source=images.docx"], ["images.docx: no source reads a file like this"]),
    # splits
    "label unknown in train": (new_label_in_test, [*RUN, "data.split=column:split"], ['class "c" is in test (1 images) but not in train']),
    "subject on both sides": (parted_subject, [*RUN, "data.split=column:split"], ['subject "s4" is in train (1 image) and val (1)', "data.allow_leak = true"]),
    "fewer subjects than folds": (few_subjects, [*RUN, "data.split=kfold"], ["4 subjects can't make 5 folds"]),
    "fold that isn't there": (image_folder, [*RUN, "data.split=kfold", "data.fold=5"], ["fold = 5: with folds = 5 the folds are 0 to 4"]),
    "too few subjects": (two_subjects, RUN, ["2 subjects can't be held out on three sides"]),
    "unknown side": (unknown_side, [*RUN, "data.split=column:split"], ['no side is called "trian" (1 images)']),
    "unknown split column": (two_subjects, [*RUN, "data.split=column:splitt"], ['no column "splitt" to split by. Did you mean "split"?']),
    "unknown kind of split": (image_folder, [*RUN, "data.split=subjects"], ['"subjects" is no split. Did you mean "subject"?']),
    "shares too large": (image_folder, [*RUN, "data.val_share=0.5", "data.test_share=0.5"], ["leave nothing to train on"]),
    # settings
    "unknown setting": (image_folder, [*RUN, "measure.margn=1"], ['[measure]: "margn" is no setting, nor one of the measures. Did you mean "margin"?']),
    "unknown section": (image_folder, [*RUN, "techer.lr=1"], ['"techer" is no section. Did you mean "teacher"?']),
    "unknown setting of a measure": (image_folder, [*RUN, 'measure.measures=["road"]', "measure.road.image=5"], ['[measure.road]: "image" is no setting. Did you mean "images"?']),
    "measure of no images": (image_folder, [*RUN, 'measure.measures=["road"]', "measure.road.images=0"], ["[measure.road] images = 0: input should be greater than or equal to 1"]),
    "settings of no measure": (image_folder, [*RUN, "measure.santy.images=5"], ['[measure]: "santy" is no setting, nor one of the measures.']),
    "unknown data setting": (image_folder, [*RUN, "data.sise=32"], ['"sise" is no setting. Did you mean "size"?']),
    "unknown loss": (image_folder, [*RUN, "distill.loss=logit_kdd"], ['"logit_kdd" is none of the losses. Did you mean "logit_kd"?']),
    "unknown loss option": (image_folder, [*RUN, "distill.temprature=4"], ['"temprature" is no setting. Did you mean "temperature"?']),
    "unknown explainer": (image_folder, [*RUN, 'explain.methods=["gradcam"]'], ['"gradcam" is none of the explainers. Did you mean "grad_cam" or "grad_cam_pp"?']),
    "unknown explainer option": (image_folder, [*RUN, "explain.grad_cam.tapp=x"], ['[explain.grad_cam]: "tapp" is no setting. Did you mean "tap"?']),
    "unknown measure": (image_folder, [*RUN, 'measure.measures=["perfomance"]'], ['"perfomance" is none of the measures. Did you mean "performance"?']),
    "wrong types": (image_folder, [*RUN, "teacher.lr=fast", "data.size=big", "student.epochs=-1"], ["[teacher] lr = 'fast'", "[data] size = 'big'", "[student] epochs = -1"]),
    "wrong type of a part's setting": (image_folder, [*RUN, "distill.alpha=much"], ["[distill] alpha = 'much'"]),
    "loss option out of range": (image_folder, [*RUN, "distill.temperature=-1"], ["[distill] temperature = -1", "must be above 0"]),
    "malformed override": (image_folder, [*RUN, "lr=3"], ['"lr=3": an override looks like section.setting=value']),
    "experiment file missing": (nothing, ["run", "y.toml"], ["y.toml: there is no such file", "pellucid init"]),
    "experiment file binary": (binary_file, RUN, ["x.toml: not a readable experiment file"]),
    "experiment file no TOML": (not_toml, RUN, ["x.toml: not a readable experiment file"]),
    # networks
    "unknown model": (image_folder, [*RUN, "teacher.model=densnet121"], ['There is no network "densnet121". Did you mean "densenet121"']),
    "unknown model setting": (image_folder, [*RUN, "student.epoch=3"], ['[student]: "epoch" is no setting. Did you mean "epochs"']),
    "unknown timm setting": (timm_teacher, [*RUN, "teacher.epoch=3"], ['"epoch" is no setting of densenet121. Did you mean "epochs"']),
    "image too small for the network": (timm_teacher, [*RUN, "data.size=8"], ["densenet121 can't take 8 px images", "to 32 or more"]),
    "weights missing": (image_folder, [*RUN, "teacher.weights=w.pth"], ["w.pth: there is no such"]),
    "weights damaged": (damaged_weights, [*RUN, "teacher.weights=w.safetensors"], ["w.safetensors: can't be read as weights"]),
    "weights damaged, pth": (damaged_pth, [*RUN, "student.weights=w.pth"], ["w.pth: can't be read as weights"]),
    "no samples": (image_folder, [*RUN, 'explain.methods=["gradient_shap"]', "explain.gradient_shap.samples=0"], ["gradient_shap: samples = 0 must be at least 1"]),
    "fewer samples than segments": (image_folder, [*RUN, 'explain.methods=["kernel_shap"]', "explain.kernel_shap.samples=40"], ["samples = 40 can't decide 50 segments"]),
    "unknown tap": (image_folder, [*RUN, "explain.tap=layer9"], ['no tap "layer9"', "layer1"]),
    # run folders
    "run folder of another experiment": (another_run, RUN, ["out: holds another experiment (run.seed = 7 there and 0 here)"]),
    "run folder is something else": (foreign_folder, RUN, ["out: is there already and holds no run"]),
    "run folder is a file": (file_in_the_way, RUN, ["out: is there already and holds no run"]),
    "run folder damaged": (damaged_run, RUN, ["settings.toml: not readable"]),
    "stage of no run": (foreign_folder, ["train", "out"], ["out: holds no run", "pellucid run"]),
    "overrides on a run folder": (another_run, ["train", "out", "teacher.lr=1"], ["a run's settings stand fixed"]),
    # other commands
    "init of nothing": (nothing, ["init", "images"], ['data.source "images": there is no such folder or file']),
    "init over a file": (image_folder, ["init", "images", "--to", "x.toml"], ["x.toml: is there already"]),
    "audit of nothing": (nothing, ["audit", "images"], ["there is no such folder or file"]),
    "audit with an unknown probe": (image_folder, ["audit", "images", "--probe", "nearest-neighbor"], ['Did you mean "nearest-neighbour"?']),
    "list of an unknown kind": (nothing, ["list", "loses"], ['"loses" is none of', 'Did you mean "losses"?']),
    "clean of an unknown key": (nothing, ["clean", "1234"], ["holds no 1234"]),
    "unknown command": (nothing, ["trian"], ["trian"]),
    "unknown option": (nothing, ["run", "x.toml", "--fast"], ["--fast"]),
    "missing argument": (nothing, ["run"], ["experiment"]),
    "predict without the network": (a_network, ["predict", "absent.safetensors", "good.png"], ["absent.safetensors: there is no such file"]),
    "predict with damaged weights": (damaged_weights, ["predict", "w.safetensors", "images"], ["w.safetensors: can't be read"]),
    "predict with an absent image": (a_network, ["predict", "net.safetensors", "good.png", "absent.png"], ["no such file or folder: absent.png"]),
    "predict with a broken image": (a_network, ["predict", "net.safetensors", "good.png", "cut.png"], ["1 of 2 images can't be read (cut.png: ends early)", "--on-error skip"]),
    "predict on an empty folder": (a_network, ["predict", "net.safetensors", "holiday"], ["holiday: holds no files"]),
    "predict with a bad option": (a_network, ["predict", "net.safetensors", "good.png", "--on-error", "ignore"], ['"ignore"']),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a space and an umlaut, and in it the tiny experiment and a workspace of its own."""
    inside = tmp_path / "ä b"
    inside.mkdir()
    settings(inside)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("PELLUCID_WORKSPACE", "ws")
    monkeypatch.delenv("PELLUCID_DATA", raising=False)
    return inside


def ends(arguments, capsys):
    """Run the command line here; return its exit code and the lines it printed on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, capsys.readouterr().err.splitlines()


def snapshot(folder):
    """Return every file outside the workspace with its content, and every half-written one."""
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "ws" not in path.parts}
    return kept, [str(path) for path in folder.rglob(".*.part*")]


@pytest.mark.parametrize("case", TABLE)
def test_bad_input_is_one_line_and_exit_code_2(case, folder, capsys):
    """The line holds what was wrong, and where; what was there before is untouched, and nothing was added."""
    make, arguments, fragments = TABLE[case]
    make(folder)
    before = snapshot(folder)
    code, lines = ends(arguments, capsys)
    assert code == 2, lines
    assert len(lines) == 1, lines
    for fragment in fragments:
        assert fragment in lines[0]
    assert snapshot(folder) == before
    assert not list((folder / "ws").glob("networks/*/*"))


@contextlib.contextmanager
def full_disk(limit):
    """Let no file grow above `limit` bytes, as a disk does that has no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("limit", "where"), [(1_000, "stores"), (100_000, "networks"), (450_000, "networks")])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(limit, where, folder, capsys):
    """Full while decoding or while keeping a state: nothing half-written stays, and with room again the run ends."""
    image_folder(folder)
    with full_disk(limit):
        code, lines = ends(RUN, capsys)
    assert code == 2
    assert "the disk is full. Free some space and start again" in lines[-1]
    assert f"ws/{where}" in lines[-1]
    assert snapshot(folder)[1] == []
    code, lines = ends(RUN, capsys)
    assert code == 0, lines
    assert (folder / "out" / "report.html").exists()


def test_unreadable_images_are_skipped_and_counted_when_asked(folder, capsys):
    """`on_error = "skip"` runs on the others, and the report names those left out."""
    unreadable(folder)
    code, lines = ends([*RUN, "data.on_error=skip"], capsys)
    assert code == 0, lines
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    for name in ("a/cut.png: ends early", "a/void.png: empty", "b/notes.txt"):
        assert name in page


def test_a_diverging_loss_stops_with_the_last_good_state(folder, capsys):
    """A learning rate of 1e9 ends in NaN or infinity: the line says which network, epoch and step, and where its state is."""
    image_folder(folder)
    code, lines = ends(
        [*RUN, "student.lr=1e9", "student.epochs=50", "student.warmup_epochs=25", "student.optimizer=sgd", "student.clip=0"], capsys
    )
    assert code == 2, lines
    said = lines[-1]
    assert re.search(r"cnn5 from labels: the loss \(.*\) became (nan|inf|-inf) in epoch \d+", said)
    assert "Lower lr (now 1e+09)" in said
    kept = list((folder / "ws").glob("networks/*/last.pt"))
    assert len(kept) == 1
    assert str(kept[0].parent.relative_to(folder)) in said
    import torch

    state = torch.load(kept[0], weights_only=True)
    assert all(torch.isfinite(value.float()).all() for value in state["objective"].values())
    assert not list((folder / "ws").glob("networks/*/.*.part"))


def test_debug_shows_the_traceback(folder):
    """With --debug the error itself comes through, wherever the option stands."""
    from pellucid.core.errors import SourceError

    for arguments in (["--debug", *RUN], [*RUN, "--debug"]):
        with pytest.raises(SourceError):
            main(arguments)
