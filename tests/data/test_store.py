"""Images are decoded once, kept whole or not at all, and found again by what went into them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.core.errors import DataError, StorageError, UnreadableError
from pellucid.core.settings import DataSettings
from pellucid.core.workspace import Workspace
from pellucid.data import images
from pellucid.data.find import find
from pellucid.data.store import key_of, open_store


@pytest.fixture
def workspace(tmp_path):
    """Return an empty workspace whose name has a space and an umlaut."""
    return Workspace(tmp_path / "work späce")


@pytest.fixture
def settings(tmp_path):
    """Return settings for a folder of six grey images of two classes, 20 x 10 pixels."""
    for number in range(6):
        path = tmp_path / "scans" / ("a" if number < 3 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (10, 20), dtype=np.uint8)).save(path)
    return DataSettings(source=str(tmp_path / "scans"), size=16)


def png(array) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def spoil(settings):
    """Make three of the six files unreadable, each in another way."""
    folder = settings.source
    with open(f"{folder}/a/1.png", "wb") as stream:
        stream.write(b"")
    with open(f"{folder}/b/3.png", "rb+") as stream:
        stream.truncate(120)
    with open(f"{folder}/b/4.png", "wb") as stream:
        stream.write(b"no picture")


def test_every_row_is_the_fitted_image(settings, workspace):
    """Grey images become [N, S, S, 1], in the order of the dataset; there are no masks."""
    dataset, store = open_store(find(settings), settings, workspace)
    assert store.images.shape == (6, 16, 16, 1)
    assert store.images.dtype == np.uint8
    assert (store.size, store.channels, len(store), store.masks) == (16, 1, 6, None)
    for i in range(6):
        assert np.array_equal(store.images[i, :, :, 0], images.fit(dataset.read(i), 16, "pad"))


def test_a_second_opening_decodes_nothing(settings, workspace):
    """The same file is mapped; no image is read."""

    def fails(i):
        raise AssertionError("decoded twice")

    dataset = find(settings)
    _, first = open_store(dataset, settings, workspace)
    before = Path(first.images.filename).stat()
    _, second = open_store(replace(dataset, read=fails), settings, workspace)
    after = Path(second.images.filename).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert np.array_equal(first.images, second.images)


@pytest.mark.parametrize("change", [{"size": 17}, {"fit": "crop"}, {"channels": "rgb"}, {"window": (0, 99)}])
def test_whatever_changes_pixels_changes_the_key(settings, change):
    """Size, fit, channels, window."""
    dataset = find(settings)
    assert key_of(dataset, settings.model_copy(update=change)) != key_of(dataset, settings)


def test_other_rows_are_another_store(settings):
    """Some images of a dataset don't pass for all of them."""
    dataset = find(settings)
    assert key_of(dataset.keep(np.array([0, 1, 3])), settings) != key_of(dataset, settings)


def test_what_does_not_change_pixels_does_not_change_the_key(settings):
    """Another split or other views use the same store."""
    dataset = find(settings)
    other = settings.model_copy(update={"split": "image", "views": 2, "on_error": "skip", "view_seed": 5})
    assert key_of(dataset, other) == key_of(dataset, settings)


def test_all_unreadable_files_are_listed(settings, workspace):
    """The message shows some, the error holds all; nothing is left behind."""
    spoil(settings)
    with pytest.raises(UnreadableError) as caught:
        open_store(find(settings), settings, workspace)
    assert str(caught.value) == (
        "scans: 3 of 6 images can't be read (a/1.png: empty; b/3.png: ends early; b/4.png: not an image). "
        'Mend or remove them, or set data.on_error = "skip".'
    )
    assert caught.value.files == {"a/1.png": "empty", "b/3.png": "ends early", "b/4.png": "not an image"}
    assert workspace.entries() == []


def test_unreadable_files_can_be_left_out(settings, workspace):
    """They are counted, rows stay aligned, also when the store is found again; asked to stop, it stops without decoding."""
    spoil(settings)
    skipping = settings.model_copy(update={"on_error": "skip"})
    found = find(skipping)
    for _ in range(2):
        dataset, store = open_store(found, skipping, workspace)
        assert dataset.ids == ["a/0.png", "a/2.png", "b/5.png"]
        assert dataset.targets.tolist() == [0, 0, 1]
        assert dataset.skipped == {"a/1.png": "empty", "b/3.png": "ends early", "b/4.png": "not an image"}
        assert store.images.shape == (3, 16, 16, 1)
        for i in range(3):
            assert np.array_equal(store.images[i, :, :, 0], images.fit(dataset.read(i), 16, "pad"))
    with pytest.raises(UnreadableError, match="3 of 6 images"):
        open_store(found, settings, workspace)


def test_many_unreadable_files_are_counted_in_the_message(settings, workspace):
    """Five are shown, all are in the error."""
    for number in range(9):
        with open(f"{settings.source}/a/x{number}.png", "wb"):
            pass
    with pytest.raises(UnreadableError, match=r"9 of 15 images can't be read \(.*x4\.png: empty; and 4 more\)") as caught:
        open_store(find(settings), settings, workspace)
    assert len(caught.value.files) == 9


def test_nothing_readable_is_an_error_even_when_skipping(settings, workspace):
    """An empty store would only fail later and less clearly."""
    for number in range(6):
        with open(f"{settings.source}/{'a' if number < 3 else 'b'}/{number}.png", "wb"):
            pass
    with pytest.raises(UnreadableError, match=r"^scans: none of 6 images can be read"):
        open_store(find(settings), settings.model_copy(update={"on_error": "skip"}), workspace)


def test_grey_and_colour_mixed_must_be_settled(settings, workspace):
    """The fewer ones are named; either setting settles it."""
    with open(f"{settings.source}/b/5.png", "wb") as stream:
        stream.write(png(np.full((10, 20, 3), (255, 0, 0), np.uint8)))
    found = find(settings)
    with pytest.raises(DataError) as caught:
        open_store(found, settings, workspace)
    assert str(caught.value) == 'data.channels: 5 grey and 1 RGB (b/5.png) images are mixed. Set data.channels = "grey" or "rgb".'
    assert workspace.entries() == []
    grey = open_store(found, settings.model_copy(update={"channels": "grey"}), workspace)[1]
    assert grey.images.shape == (6, 16, 16, 1)
    assert grey.images[5].max() == 76
    colour = open_store(found, settings.model_copy(update={"channels": "rgb"}), workspace)[1]
    assert colour.images.shape == (6, 16, 16, 3)
    assert colour.images[5, 8, 8].tolist() == [255, 0, 0]
    assert np.array_equal(colour.images[0, :, :, 0], grey.images[0, :, :, 0])


@pytest.mark.parametrize("how", ["squash", "pad", "crop"])
def test_masks_and_boxes_lie_where_the_stored_finding_lies(tmp_path, workspace, how):
    """A bright block in a dark image of 40 x 20; one row has a mask, one a box, one neither."""
    block = np.zeros((20, 40), np.uint8)
    block[5:15, 12:24] = 255
    for name in ("1", "2", "3", "mask"):
        (tmp_path / f"{name}.png").write_bytes(png(block if name != "3" else block // 2))
    (tmp_path / "t.csv").write_text("path,label,mask,box\n1.png,a,mask.png,\n2.png,b,,12 5 24 15\n3.png,b,,\n")
    settings = DataSettings(source=str(tmp_path / "t.csv"), size=20, fit=how)
    _, store = open_store(find(settings), settings, workspace)
    assert store.masks.shape == (3, 20, 20)
    assert store.masks.dtype == np.uint8
    for i in (0, 1):
        assert (store.masks[i].astype(bool) != (store.images[i, :, :, 0] >= 128)).mean() < 0.03
    assert set(np.unique(store.masks)) == {0, 1}
    assert not store.masks[2].any()


def test_a_mask_of_another_shape_makes_its_image_unreadable(tmp_path, workspace):
    """A mask that doesn't lie on its image would judge explanations wrongly."""
    (tmp_path / "1.png").write_bytes(png(np.zeros((20, 40), np.uint8)))
    (tmp_path / "2.png").write_bytes(png(np.zeros((20, 20), np.uint8)))
    (tmp_path / "t.csv").write_text("path,label,mask\n1.png,a,2.png\n2.png,b,\n")
    settings = DataSettings(source=str(tmp_path / "t.csv"))
    with pytest.raises(UnreadableError) as caught:
        open_store(find(settings), settings, workspace)
    assert caught.value.files == {"1.png": "mask is 20x20, image 40x20 pixels"}


CRASH = """
import sys
from pellucid.core.settings import DataSettings
from pellucid.core.workspace import Workspace
from pellucid.data.find import find
from pellucid.data.store import open_store
settings = DataSettings(source=sys.argv[1], size=16)
open_store(find(settings), settings, Workspace(sys.argv[2]))
"""


def test_a_kill_leaves_nothing_that_reads_as_a_store(settings, workspace):
    """Killed just before the store takes its name, the next run makes it anew and whole."""
    environment = os.environ | {"PELLUCID_CRASH": "store:1"}
    killed = subprocess.run([sys.executable, "-c", CRASH, settings.source, str(workspace.path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    dataset = find(settings)
    key = key_of(dataset, settings)
    assert not workspace.folder("stores", key).exists()
    _, store = open_store(dataset, settings, workspace)
    assert np.array_equal(store.images[5, :, :, 0], images.fit(dataset.read(5), 16, "pad"))
    assert [path.name for path in (workspace.path / "stores").iterdir()] == [key]


@pytest.mark.parametrize("damage", ["missing", "short", "no facts", "garbled facts"])
def test_a_store_that_lost_something_is_made_anew(settings, workspace, damage):
    """Whatever happened to the files in between."""
    dataset = find(settings)
    _, store = open_store(dataset, settings, workspace)
    wanted = np.array(store.images)
    folder = workspace.folder("stores", key_of(dataset, settings))
    if damage == "missing":
        (folder / "images.npy").unlink()
    elif damage == "short":
        content = (folder / "images.npy").read_bytes()
        (folder / "images.npy").write_bytes(content[:-100])
    elif damage == "no facts":
        (folder / "store.json").unlink()
    else:
        (folder / "store.json").write_text("{")
    assert np.array_equal(open_store(dataset, settings, workspace)[1].images, wanted)


def test_a_full_disk_is_told_and_leaves_nothing(settings, workspace, monkeypatch):
    """As OSError ENOSPC out of any write."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"the disk is full"):
        open_store(find(settings), settings, workspace)
    monkeypatch.undo()
    assert workspace.entries() == []


def test_memory_does_not_grow_with_the_number_of_images(workspace):
    """400 images of 128 x 128 take no more than 100 of them, though the store is four times as large."""

    def peak(n_subjects):
        settings = DataSettings(source="phantom", size=128, n_subjects=n_subjects, slices=2)
        dataset = replace(find(settings), read=lambda i: np.full((128, 128), i % 256, np.uint8), read_mask=None)
        open_store(dataset, settings.model_copy(update={"size": 100}), workspace)  # what is loaded once doesn't count
        tracemalloc.start()
        open_store(dataset, settings, workspace)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(200) < 1.3 * peak(50) + 200_000
