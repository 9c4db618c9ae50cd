"""A zip read in place is the same as the unpacked folder."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import SourceError
from pellucid.core.settings import DataSettings
from pellucid.data.find import find

TABLE = "path,label,subject,mask\ncat/0.png,a,p1,cat/1.png\ncat/2.png,a,p1,\ndog/3.png,b,p2,\n"
_FOLDERS = [Path(folder).resolve() for folder in os.environ.get("PELLUCID_DATA", "").split(os.pathsep) if folder]
PACKS = next((folder for folder in _FOLDERS if (folder / "brain_tumor_mri.zip").exists()), Path(__file__).parents[4] / "shared" / "packs")


def zipped(folder: Path, target: Path, *, inside: str = "", without: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in without:
                archive.write(path, inside + path.relative_to(folder).as_posix())
    return target


def opened(path, **settings):
    return find(DataSettings(source=str(path), **settings))


@pytest.mark.parametrize("inside", ["", "data set/"])
def test_a_zip_equals_the_folder_it_was_made_of(class_folder, tmp_path, inside):
    """Ids, labels, subjects, pixels and masks agree, also where the manifest lies in a folder of the zip."""
    (class_folder / "manifest.csv").write_text(TABLE)
    packed, plain = opened(zipped(class_folder, tmp_path / "packed.zip", inside=inside)), opened(class_folder)
    assert (packed.ids, packed.subjects, packed.task) == (plain.ids, plain.subjects, plain.task)
    assert np.array_equal(packed.targets, plain.targets)
    for i in range(3):
        assert np.array_equal(packed.read(i), plain.read(i))
    assert np.array_equal(packed.read_mask(0), plain.read_mask(0))
    assert packed.read_mask(1) is None


@pytest.mark.parametrize("inside", ["", "wrapped/"])
def test_class_folders_in_a_zip_need_no_manifest(class_folder, tmp_path, inside):
    """Also with one folder around everything."""
    dataset = opened(zipped(class_folder, tmp_path / "packed.zip", inside=inside))
    assert dataset.task.classes == ("cat", "dog")
    assert dataset.ids[0] == f"{inside}cat/0.png"
    assert np.array_equal(dataset.read(0), opened(class_folder).read(0))


def test_content_follows_bytes_and_labels(class_folder, tmp_path, png):
    """Packed again it is the same; with another image or label it isn't."""
    first = opened(zipped(class_folder, tmp_path / "a.zip")).content
    assert opened(zipped(class_folder, tmp_path / "b.zip")).content == first
    (class_folder / "cat/0.png").write_bytes(png(55))
    assert opened(zipped(class_folder, tmp_path / "c.zip")).content != first


def test_a_broken_zip_is_told(class_folder, tmp_path):
    """A cut file, or something else that is called .zip."""
    whole = zipped(class_folder, tmp_path / "a.zip").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        (tmp_path / "cut.zip").write_bytes(content)
        with pytest.raises(SourceError, match=r"cut\.zip: not a zip file, or one that ends early\.$"):
            opened(tmp_path / "cut.zip")


def test_a_damaged_member_is_unreadable(class_folder, tmp_path):
    """The checksum inside the zip catches a changed byte."""
    path = zipped(class_folder, tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    at = content.index(b"cat/0.png") + 60
    content[at : at + 8] = b"\0" * 8
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="damaged or encrypted in the archive"):
        opened(path).read(0)


def test_a_manifest_that_names_absent_members(class_folder, tmp_path):
    """As for a manifest on disk."""
    (class_folder / "manifest.csv").write_text("path,label\ncat/0.png,a\n../x.png,b\n")
    with pytest.raises(SourceError, match=r"1 file not there: \.\./x\.png"):
        opened(zipped(class_folder, tmp_path / "a.zip"))


@pytest.mark.packs
@pytest.mark.skipif(not (PACKS / "brain_tumor_mri.zip").exists(), reason="the pack brain_tumor_mri is not in PELLUCID_DATA")
def test_the_brain_tumour_pack(monkeypatch):
    """Counts as the pack's page states them."""
    monkeypatch.setenv("PELLUCID_DATA", str(PACKS))
    dataset = find(DataSettings(source="brain_tumor_mri"))
    assert dataset.task.classes == ("glioma", "meningioma", "no_tumour", "pituitary")
    assert np.bincount(dataset.targets).tolist() == [580, 580, 560, 580]
    assert dataset.columns["split"].count("test") == 348
    assert dataset.read(0).shape == (160, 160)
    assert dataset.read_mask(0).shape == (160, 160)
    assert sum(bool(lesion) and int(lesion) > 0 for lesion in dataset.columns["lesion_px"]) == 1639


def test_two_manifests_side_by_side_are_refused(class_folder, tmp_path):
    """Taking one of them would leave the other's images out unseen."""
    for name in ("one", "two"):
        (class_folder / name).mkdir()
        (class_folder / name / "manifest.csv").write_text("path,label\n../cat/0.png,a\n../dog/3.png,b\n")
    with pytest.raises(SourceError, match=r"several manifests \(one/manifest.csv, two/manifest.csv\)"):
        opened(zipped(class_folder, tmp_path / "packed.zip"))
