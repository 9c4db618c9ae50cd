"""The run folder: one experiment, one writer, and settings and maps that come back as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pellucid.core import files
from pellucid.core.errors import RunError
from pellucid.core.records import Explanation, StageRecord
from pellucid.core.settings import Settings, parse
from pellucid.running.folder import RunFolder, open_run, plain

AUDIT = StageRecord("audit", "k", 12.5, False)


@pytest.fixture
def settings() -> Settings:
    return parse({"data": {"source": "ä b", "window": [0, 80.5]}, "distill": {"alpha": 0.3}, "explain": {"grad_cam": {"tap": "conv3"}}})


@pytest.fixture
def folder(tmp_path, settings):
    """A run folder that was made, and released at the end."""
    made = RunFolder(tmp_path / "läuft gut", settings)
    made.create()
    yield made
    made.release()


def test_settings_come_back_complete(folder, settings):
    """settings.toml holds every setting, those at their default and those of the parts too, and reads back equal."""
    assert open_run(folder.path).settings == settings
    text = (folder.path / "settings.toml").read_text(encoding="utf-8")
    for line in ('source = "ä b"', "resamples = 2000", "alpha = 0.3", 'tap = "conv3"'):
        assert line in text


def test_plain_leaves_out_what_toml_has_no_word_for(settings):
    """None is left out and so derived again; a tuple becomes a list."""
    content = plain(settings)
    assert content["data"]["window"] == [0, 80.5]
    assert "mean" not in content["data"]
    assert parse(content) == settings


def test_another_experiment_is_refused_with_the_first_differences(folder, settings):
    """Three differing settings are shown with both values, the rest counted; where the run lies makes no difference."""
    changed = plain(settings)
    changed["teacher"] |= {"lr": 0.5, "epochs": 3, "model": "resnet18"}
    changed["distill"] |= {"temperature": 4}
    with pytest.raises(RunError) as caught:
        RunFolder(folder.path, parse(changed))
    message = str(caught.value)
    assert "distill.temperature = 'unset' there and 4 here" in message
    assert "teacher.epochs = 25 there and 3 here" in message
    assert "and 1 more settings" in message
    moved = plain(settings)
    moved["run"] |= {"out": "elsewhere", "workspace": "other", "title": "new"}
    assert RunFolder(folder.path, parse(moved)).stage("audit") is None


def test_a_run_made_before_a_setting_existed_is_the_same_run(folder, settings):
    """Without `twin`, as an earlier version wrote it, the run had none; asking for one makes it another experiment."""
    kept = folder.path / "settings.toml"
    kept.write_text(
        "\n".join(line for line in kept.read_text(encoding="utf-8").splitlines() if not line.startswith("twin")), encoding="utf-8"
    )
    assert RunFolder(folder.path, settings).settings == settings
    changed = plain(settings)
    changed["measure"] |= {"twin": True}
    with pytest.raises(RunError, match=r"measure\.twin = False there and True here"):
        RunFolder(folder.path, parse(changed))


@pytest.mark.parametrize("kind", ["file", "folder", "device"])
def test_what_is_no_run_is_not_touched(kind, tmp_path, settings):
    """A file or a folder of the user's in this place is refused before anything is written."""
    path = Path("/dev/null") if kind == "device" else tmp_path / "there"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is there already and holds no run"):
        RunFolder(path, settings)


def test_an_empty_folder_or_one_with_hidden_files_alone_may_be_used(tmp_path, settings):
    """As a system makes them (.DS_Store), or as a kill just after the start leaves them."""
    (tmp_path / ".DS_Store").touch()
    made = RunFolder(tmp_path, settings)
    made.create()
    made.release()
    assert open_run(tmp_path).settings == settings


def test_only_one_may_write_and_releasing_lets_the_next(folder, settings):
    """The second is refused while the first holds the folder; afterwards it may; holding it twice is once."""
    folder.create()
    second = RunFolder(folder.path, settings)
    with pytest.raises(RunError, match="another process is running this experiment"):
        second.create()
    folder.release()
    second.create()
    second.release()


def test_creating_clears_what_a_kill_left(folder, settings):
    """Parts of killed writes vanish, also in subfolders; finished results and the user's own files stay."""
    folder.finish(AUDIT)
    folder.release()
    parts = [
        folder.path / ".maps.npz.x1.part",
        folder.path / "stages" / ".audit.json.x2.part",
        folder.path / "report" / "data" / ".a.csv.x3.part",
    ]
    for part in parts:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    (folder.path / "notes.part").touch()
    RunFolder(folder.path, settings).create()
    assert not any(part.exists() for part in parts)
    assert (folder.path / "notes.part").exists()
    assert folder.stage("audit") == AUDIT


def test_stages_are_recorded_once_done(folder):
    """Before there is none; afterwards key and time come back. The log tells what happened now, and a later version's keys are passed over."""
    assert folder.stage("audit") is None
    folder.finish(AUDIT)
    path = folder.path / "stages" / "audit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": 1}))
    assert folder.stage("audit") == AUDIT
    lines = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    assert [(line["event"], line["seconds"], line["cached"]) for line in lines[1:]] == [("audit", 12.5, False)]


def test_maps_come_back_to_the_bit(folder):
    """Maps, targets, order, settings, and NaN; panel and facts beside them."""
    draws = np.random.default_rng(0)
    maps = [
        Explanation(draws.normal(size=(3, 4, 5)).astype(np.float32), np.arange(3), f"net {i}", "grad_cam", "conv4", (32, 40), i % 2 == 0, "v", {"tap": "ü"}, 0.5)
        for i in range(12)
    ]  # fmt: skip
    maps[3].maps[0, 0, 0] = np.nan
    maps[5] = replace(
        maps[5], expected=np.array([0.1, -2.0, 1 / 3]), centres=((1 / 3, 0.25), (0.0, 0.1)), ids=np.array(["ä.png", "b", "c"])
    )
    folder.write_maps(maps, maps[:1], {"rows": np.array([4, 7, 9]), "panel_rows": np.arange(3)})
    again, panel, facts = folder.read_maps(10, 3)
    assert [found.model for found in again] == [made.model for made in maps]
    assert len(panel) == 1
    assert facts["rows"].tolist() == [4, 7, 9]
    for made, found in zip(maps, again, strict=True):
        assert np.array_equal(made.maps, found.maps, equal_nan=True)
        assert np.array_equal(made.targets, found.targets)
        assert (made.expected is None and found.expected is None) or np.array_equal(made.expected, found.expected)
        assert (made.ids is None and found.ids is None) or made.ids.tolist() == found.ids.tolist()
        arrays = ("maps", "targets", "expected", "ids")
        assert {k: v for k, v in vars(made).items() if k not in arrays} == {k: v for k, v in vars(found).items() if k not in arrays}


@pytest.mark.parametrize("lost", ["rows", "map.0.maps", "map.0.targets"])
def test_maps_of_which_a_part_is_lost_are_made_anew(folder, lost):
    """So damage is told from maps, and nothing is drawn of it."""
    folder.write_maps(
        [Explanation(np.ones((2, 6, 6), np.float32), np.arange(2), "student", "fem", "x", (32, 32))], [], {"rows": np.arange(2)}
    )
    with np.load(folder.path / "maps.npz") as content:
        kept = {name: values for name, values in content.items() if name != lost}
    np.savez(folder.path / "maps.npz", **kept)
    assert files.unless_damaged(lambda: folder.read_maps(2, 2)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": np.array([0, 9])}, {"rows": np.array([-1, 0])}, {"rows": np.arange(3)}, {"rows": np.array([0.0, 1.0])},
        {"targets": np.array([0, 2])}, {"targets": np.array([[0], [1]])}, {"targets": np.array([0.0, 1.0])}, {"maps": np.ones((2, 6), np.float32)},
        {"doubtful": np.zeros(1, bool)}, {"expected": np.zeros((2, 1))}, {"ids": np.array(["a"])},
        {"centres": "x"}, {"centres": [[0.1, 0.1]]}, {"centres": [[0.1, 0.0], [0.1, 0.1]]}, {"centres": [[None, 0.1], [0.1, 0.1]]},
    ],
)  # fmt: skip
def test_maps_that_were_written_into_are_made_anew(folder, changed):
    """Images and classes that aren't there, arrays of other shapes, centres that are none."""
    rows, changed = {"rows": changed.get("rows", np.arange(2))}, {name: value for name, value in changed.items() if name != "rows"}
    one = Explanation(np.ones((2, 6, 6), np.float32), np.arange(2), "student", "fem", "x", (32, 32), ids=np.array(["a", "b"]))
    folder.write_maps([replace(one, **changed)], [], rows)
    assert files.unless_damaged(lambda: folder.read_maps(4, 2)) is None


def test_a_folder_where_a_file_should_be_is_damage(folder):
    (folder.path / "maps.npz").mkdir()
    assert files.unless_damaged(lambda: folder.read_maps(4, 2)) is None


@pytest.mark.parametrize(("content", "message"), [(None, "holds no run"), (b"[data\n", "not readable"), (b"\xff\xff", "not readable")])
def test_opening_what_is_no_run_says_so(content, message, tmp_path):
    """A folder without settings, or with damaged ones."""
    if content is not None:
        (tmp_path / "settings.toml").write_bytes(content)
    with pytest.raises(RunError, match=message):
        open_run(tmp_path)


def test_damaged_records_count_as_not_there(folder):
    """A stage whose record can't be read is done again; a damaged log names this command."""
    folder.finish(AUDIT)
    (folder.path / "stages" / "audit.json").write_bytes(b"\xff{")
    (folder.path / "log.jsonl").write_bytes(b"\xff{\n")
    assert folder.stage("audit") is None
    assert folder.command()


def test_settings_that_were_written_into_are_refused(folder, settings):
    """Also where a section has become a value."""
    (folder.path / "settings.toml").write_text("data = 3\n")
    with pytest.raises(RunError, match="holds another experiment"):
        RunFolder(folder.path, settings)
