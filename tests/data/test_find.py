"""A source is found by the name that the experiment file gives it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from pellucid.core.errors import SettingError, SourceError
from pellucid.core.settings import DataSettings
from pellucid.data.find import find, locate


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Return a folder of two classes, in a place that is neither the current folder nor in PELLUCID_DATA."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PELLUCID_DATA", raising=False)
    root = tmp_path / "where it lies" / "scans"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        Image.fromarray(np.full((5, 5), ord(label), np.uint8)).save(root / label / "1.png")
    return root


def test_a_relative_source_is_looked_for_beside_the_experiment_file(scans):
    """The file itself or its folder may be given."""
    experiment = scans.parent / "brain.toml"
    experiment.write_text("")
    for beside in (experiment, scans.parent):
        assert locate("scans", beside).samefile(scans)
    with pytest.raises(SourceError):
        locate("scans")


def test_then_in_the_current_folder_and_in_pellucid_data(scans, tmp_path, monkeypatch):
    """PELLUCID_DATA holds several folders, and .zip may be left out."""
    monkeypatch.setenv("PELLUCID_DATA", f"/no/such/folder:{scans.parent}")
    assert locate("scans", tmp_path / "exp").samefile(scans)
    shutil.make_archive(str(scans.parent / "packed"), "zip", scans)
    assert locate("packed") == scans.parent / "packed.zip"
    (tmp_path / "scans").mkdir()
    assert locate("scans").samefile(tmp_path / "scans")


def test_an_absolute_source_is_taken_as_it_is(scans):
    """With and without a slash at its end."""
    assert find(DataSettings(source=f"{scans}/")).task.classes == ("a", "b")


def test_a_missing_source_offers_near_names(scans):
    """And says where it looked."""
    with pytest.raises(
        SourceError, match=r'^data\.source "scan": there is no such folder or file\. Did you mean "scans"\? Looked in .*where it lies'
    ) as caught:
        find(DataSettings(source="scan"), beside=scans.parent)
    assert "\n" not in str(caught.value)


def test_a_misspelt_generator_offers_its_name(scans):
    """Generators are names like any other."""
    with pytest.raises(SourceError, match='Did you mean "phantom"'):
        find(DataSettings(source="phantm"))


def test_a_file_that_no_source_reads(scans, tmp_path):
    """The endings that can be read are listed."""
    (tmp_path / "brain.nii").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"brain\.nii: no source reads a file like this\. .* \.csv, \.npz, \.tsv, \.zip\.$"):
        find(DataSettings(source="brain.nii"))


def test_settings_that_the_source_does_not_know_are_refused(scans):
    """Near names of the section are offered too."""
    with pytest.raises(SettingError, match=r'"fitt" is no setting\. Did you mean "fit"'):
        find(DataSettings(source=str(scans), fitt="pad"))


def test_where_drops_rows_and_their_classes():
    """The classes are those of the rows that stay."""
    dataset = find(DataSettings(source="phantom", n_subjects=8, slices=2, where="label in none, ring and slice == 2"))
    assert dataset.task.classes == ("none", "ring")
    assert dataset.targets.tolist() == [0, 1, 0, 1]
    assert set(dataset.columns["slice"]) == {"2"}


def test_any_column_of_any_source_can_be_the_label():
    """The phantom's slice number as the class."""
    dataset = find(DataSettings(source="phantom", n_subjects=4, slices=3, label="slice"))
    assert dataset.task.classes == ("1", "2", "3")
    assert dataset.columns["label"][:4] == ["none", "none", "none", "solid"]
