"""Class folders become labels, split folders a column."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from pellucid.core.errors import SourceError
from pellucid.core.settings import DataSettings
from pellucid.data import images
from pellucid.data.find import find


def opened(path, **settings):
    return find(DataSettings(source=str(path), **settings))


def test_class_folders_become_labels(class_folder):
    """Names in order, paths as ids, pixels of the file."""
    dataset = opened(class_folder)
    assert dataset.name == "my scäns"
    assert dataset.task.classes == ("cat", "dog")
    assert dataset.ids == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png", "dog/5.png"]
    assert dataset.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.targets.dtype == np.int64
    assert np.array_equal(dataset.read(4), images.decode((class_folder / "dog/4.png").read_bytes()))
    assert dataset.read_mask is None
    assert dataset.unit_name == "images"


def test_classes_named_by_numbers_stand_in_numeric_order(tmp_path, png):
    """2 comes before 10."""
    for name in ("10", "2", "1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png(int(name)))
    assert opened(tmp_path).task.classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("train", "val", "test"), [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "valid", "Test")]
)
def test_split_folders_become_a_column(tmp_path, png, train, val, test):
    """Whatever the publisher calls them, the column says train, val and test."""
    for number, side in enumerate((train, val, test)):
        for label in ("a", "b"):
            (tmp_path / side / label).mkdir(parents=True)
            (tmp_path / side / label / f"{number}.png").write_bytes(png(number))
    dataset = opened(tmp_path)
    found = dict(zip(dataset.ids, dataset.columns["split"], strict=True))
    assert found == {
        f"{side}/{label}/{n}.png": word for n, (side, word) in enumerate([(train, "train"), (val, "val"), (test, "test")]) for label in "ab"
    }
    assert dataset.task.classes == ("a", "b")


def test_classes_that_are_called_train_and_test_stay_classes(tmp_path, png):
    """Without class folders inside, such names are classes like any other."""
    for name in ("train", "plane"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png(len(name)))
    assert opened(tmp_path).task.classes == ("plane", "train")


def test_hidden_files_are_passed_over_and_nested_ones_found(class_folder, png):
    """.DS_Store, Thumbs.db and loose files on top are no images; folders inside a class are looked into."""
    (class_folder / "cat" / ".DS_Store").write_bytes(b"x")
    (class_folder / "dog" / "Thumbs.db").write_bytes(b"x")
    (class_folder / "README.md").write_text("hello")
    (class_folder / "dog" / "more").mkdir()
    (class_folder / "dog" / "more" / "9.png").write_bytes(png(9))
    dataset = opened(class_folder)
    assert dataset.ids[-1] == "dog/more/9.png"
    assert len(dataset) == 7


def test_a_manifest_on_top_is_read_instead(class_folder):
    """A folder that brings its own table is read by it."""
    (class_folder / "manifest.csv").write_text("path,label\ncat/0.png,old\ndog/3.png,young\n", encoding="utf-8")
    assert opened(class_folder).task.classes == ("old", "young")


def test_content_follows_the_bytes_and_not_the_dates(class_folder, tmp_path, png):
    """A copy with other dates has the same fingerprint; one changed byte or a moved label another."""
    copied = tmp_path / "copy"
    shutil.copytree(class_folder, copied)
    os.utime(copied / "cat/0.png", (1, 1))
    assert opened(copied).content == opened(class_folder).content
    (copied / "cat/0.png").write_bytes(png(77))
    assert opened(copied).content != opened(class_folder).content
    shutil.copy(class_folder / "cat/0.png", copied / "cat/0.png")
    (copied / "cat/0.png").rename(copied / "dog/0.png")
    assert opened(copied).content != opened(class_folder).content


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"^scans/: holds no images\.$"),
        (["a/"], r"^scans/: holds no images\.$"),
        (["1.png", "2.png"], r"^scans/: holds 2 files but no class folders\. Put each class into a folder of its name"),
        (["a/1.png", "a/2.png"], r'^scans: all 2 images are of one class \("a"\)\. At least two classes are needed\.$'),
        (["train/a/1.png", "test/a/2.png"], r'^scans: all 2 images are of one class \("a"\)'),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path, png, files, message):
    """Empty, flat, or of one class only."""
    root = tmp_path / "scans"
    root.mkdir()
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_bytes(png())
    with pytest.raises(SourceError, match=message) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


def test_a_file_that_goes_away_is_unreadable_not_a_crash(class_folder):
    """Between finding and decoding anything can happen to a file."""
    dataset = opened(class_folder)
    (class_folder / "cat/1.png").unlink()
    with pytest.raises(ValueError, match="can't be opened"):
        dataset.read(1)


def test_split_folders_with_others_beside_them_are_refused(tmp_path, png):
    """Taking train and test for classes would be worse than an error; loose files in them are passed over."""
    for side in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / side / label).mkdir(parents=True)
            (tmp_path / side / label / "0.png").write_bytes(png(0))
        (tmp_path / side / "labels.txt").write_text("a b")
    assert opened(tmp_path).task.classes == ("a", "b")
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "0.png").write_bytes(png(0))
    with pytest.raises(SourceError, match=r"holds split folders \(test, train\) and others beside them: extra"):
        opened(tmp_path)


def test_a_link_to_a_folder_around_it_is_not_followed(class_folder):
    """It would be followed for ever; links to other folders are followed."""
    (class_folder / "cat" / "loop").symlink_to(class_folder, target_is_directory=True)
    (class_folder / "fish").symlink_to(class_folder / "dog", target_is_directory=True)
    dataset = opened(class_folder)
    assert len(dataset) == 9
    assert dataset.task.classes == ("cat", "dog", "fish")


def test_names_that_are_no_text_are_listed(class_folder, png):
    """A file's name may be any bytes."""
    (class_folder / os.fsdecode(b"cat/\xff.png")).write_bytes(png(1))
    with pytest.raises(SourceError, match=r"1 name not UTF-8 text: cat/\\udcff.png. Rename them."):
        opened(class_folder)
