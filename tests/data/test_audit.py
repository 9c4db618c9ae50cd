"""The audit finds what is planted, and what the packs are known for."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.records import Task
from pellucid.core.settings import DataSettings
from pellucid.data.association import associations
from pellucid.data.audit import as_table, audit
from pellucid.data.dataset import Dataset
from pellucid.data.find import find
from pellucid.data.split import make_split
from pellucid.data.store import Store, open_store

_FOLDERS = [Path(folder).resolve() for folder in os.environ.get("PELLUCID_DATA", "").split(os.pathsep) if folder]
PACKS = next((folder for folder in _FOLDERS if (folder / "brain_tumor_mri.zip").exists()), Path(__file__).parents[3] / "shared" / "packs")
N = 60


def _made(*, subjects=None, groups=(), targets=None, images=None, **columns):
    """Sixty random pictures of two classes, thirty subjects, with a split by subject."""
    random = np.random.default_rng(0)
    targets = np.arange(N) // 2 % 2 if targets is None else np.asarray(targets)
    subjects = [f"s{i // 2}" for i in range(N)] if subjects is None else subjects
    images = random.integers(0, 255, (N, 16, 16, 1), dtype=np.uint8) if images is None else images
    classes = tuple(f"class{k}" for k in range(int(targets.max()) + 1))
    dataset = Dataset(
        "made", Task("single", classes), [f"{i}.png" for i in range(N)], targets, lambda i: images[i], "0", subjects=subjects,
        groups=list(groups), columns={name: list(values) for name, values in columns.items()},
    )  # fmt: skip
    return dataset, Store(images)


SIDES = np.repeat(["train", "val", "test"], [36, 10, 14])


def _texts(found, level):
    return [finding["text"] for finding in found["findings"] if finding["level"] == level]


def _pictures():
    coarse = np.random.default_rng(1).integers(0, 255, (N, 8, 8))
    return np.kron(coarse, np.ones((1, 4, 4), int)).astype(np.uint8)[..., None]


def test_sound_split_has_no_leak():
    """Whole subjects, no copies, no columns: nothing worse than a warning that so few are thin."""
    found = audit(*_made(), SIDES, how="by hand")
    assert _texts(found, "leak") == []
    assert found["counts"]["test"] == {"class0": 6, "class1": 8}
    assert found["n_units"] == {"train": 18, "val": 5, "test": 7}
    assert found["unit"] == "subjects"


def test_subject_on_two_sides_is_a_leak_with_its_numbers():
    """Subject s17 has an image moved to the test."""
    sides = SIDES.copy()
    sides[35] = "test"
    found = audit(*_made(), sides)
    assert found["crossing"] == [{"column": "subject", "units": 1, "images": 2, "examples": ["s17: train 1, test 1"]}]
    assert "1 subject stands on more than one side of the split (2 images), e.g. s17: train 1, test 1." in _texts(found, "leak")[0]


def test_exact_copy_across_the_split_is_a_leak_and_a_wrong_label_a_warning():
    """Image 59 is image 0 again, under the other class."""
    images = _pictures()
    images[59] = images[0]
    found = audit(*_made(images=images), SIDES)
    exact = found["duplicates"]["exact"]
    assert (exact["pairs"], exact["across_splits"], exact["across_labels"]) == (1, 1, 1)
    assert _texts(found, "leak") == ["1 image is on more than one side of the split, pixel for pixel."]
    assert "1 exact copy with another class than the original: labels to mend." in _texts(found, "warning")
    shown = found["duplicates"]["shown"][0]
    assert (shown["a"], shown["b"], shown["splits"], shown["across"]) == ("0.png", "59.png", ["train", "test"], True)


def test_turned_copy_is_a_leak_without_subjects_and_a_warning_between_two():
    """Where ids say that it is two people, the audit asks to look; without ids it must be taken for one."""
    images = _pictures()
    images[58] = np.rot90(images[0])
    unknown = audit(*_made(images=images, subjects=[""] * N), SIDES)
    assert _texts(unknown, "leak") == ["1 near duplicate across the split (r at least 0.97, flips and turns included)."]
    known = audit(*_made(images=images), SIDES)
    assert _texts(known, "leak") == []
    assert any("nearly the same picture" in text for text in _texts(known, "warning"))


def test_copies_within_a_side_are_shown_after_those_across():
    """The pairs a reader should see first stand across the split."""
    images = _pictures()
    images[1], images[2], images[58] = images[0, ::-1], images[3, ::-1], images[4, ::-1]
    found = audit(*_made(images=images), SIDES)["duplicates"]
    assert [pair["across"] for pair in found["shown"]] == [True, False, False]
    assert found["near"]["same_unit"] == 2


def test_cut_is_given_up_where_labels_differ_as_if_by_chance():
    """Pictures that all look alike are no copies: no leak is claimed, and the table says why."""
    one = np.kron(np.random.default_rng(0).integers(0, 255, (8, 8)), np.ones((4, 4)))
    noise = np.random.default_rng(1).normal(0, 3, (N, 32, 32))
    images = np.clip(one + noise, 0, 255).astype(np.uint8)[..., None]
    found = audit(*_made(images=images), SIDES)
    assert not found["duplicates"]["near"]["trusted"]
    assert _texts(found, "leak") == []
    assert any("can't be told from look-alikes" in text for text in _texts(found, "warning"))


def test_bands_count_every_pair_above_the_floor():
    """The table of correlations adds up to the pairs found."""
    images = _pictures()
    images[1], images[3] = images[0, ::-1], images[2, :, ::-1]
    near = audit(*_made(images=images), SIDES)["duplicates"]["near"]
    assert sum(band["pairs"] for band in near["bands"]) == near["pairs"] == 2


CLASS = np.arange(N) // 2 % 2
COLUMNS = {
    "scanner": ["ab"[k] for k in CLASS[:-4]] + ["b", "a", "a", "b"],
    "nothing": ["xyz"[i // 2 % 3] for i in range(N)],
    "age": [f"{40 + 9 * k + (i // 2) % 7}" for i, k in enumerate(CLASS)],
    "only_of_one": ["seen" if k else "" for k in CLASS],
    "diagnosis": ["healthy" if k else "ill" for k in CLASS],
    "fine": ["healthy" if k else f"ill{i // 2 % 3}" for i, k in enumerate(CLASS)],
    "file": [f"f{i}" for i in range(N)],
    "number": [str(i) for i in range(N)],
    "site": ["here"] * N,
    "empty": [""] * N,
    "person": [f"p{i // 2}" for i in range(N)],
    "orig_split": ["Training", "Testing"] * (N // 2),
}


def test_associations_find_what_goes_with_the_class_and_leave_out_the_rest_by_name():
    """A scanner, an age and what is missing for one class are named; ids, splits and constants are left out with the reason."""
    dataset, _ = _made(**COLUMNS)
    found, left_out = associations(dataset)
    rows = {row["column"]: row for row in found}
    assert rows["scanner"]["cramers_v"] > 0.8
    assert (rows["age"]["kind"], rows["age"]["cramers_v"] > 0.8) == ("number", True)
    assert rows["nothing"]["cramers_v"] < 0.1
    assert rows["only_of_one"]["relation"] == rows["diagnosis"]["relation"] == "names the class"
    assert rows["fine"]["relation"] == "tells the class"
    assert [row["cramers_v"] for row in found] == sorted((row["cramers_v"] for row in found), reverse=True)
    assert left_out == {
        "file": "as many values as images", "number": "as many values as images", "site": "the same everywhere", "empty": "empty",
        "person": "30 values for 30 units: it names them", "orig_split": "a split",
    }  # fmt: skip


def test_coarser_label_is_called_a_label():
    """Two of three classes share a value: it follows from the class, and is a note, not a warning."""
    targets = np.arange(N) // 2 % 3
    dataset, store = _made(targets=targets, organ=["lung" if k else "colon" for k in targets])
    found = audit(dataset, store, SIDES)
    assert found["associations"][0]["relation"] == "follows from the class"
    assert 'Column "organ" follows from the class: another label, not a property.' in _texts(found, "note")


def test_counts_warn_of_a_class_without_test_images_of_few_units_and_of_uneven_classes():
    """Class 1 has four images, all in train."""
    targets = [1] * 4 + [0] * (N - 4)
    found = audit(*_made(targets=targets), SIDES)
    warnings = " ".join(_texts(found, "warning"))
    assert "test has no image of class1" in warnings
    assert "Few subjects in test (class0 7)" in warnings
    assert "Training classes are uneven: class0 32, class1 4 images." in warnings


def test_unknown_subjects_are_warned_of():
    """Without ids the audit can't see a person twice, and says so."""
    found = audit(*_made(subjects=[""] * N), SIDES)
    assert any(text.startswith("No subjects are known") for text in _texts(found, "warning"))
    assert found["unit"] == "images"


def test_audit_is_json_and_its_table_fits_100_columns():
    """No NaN, no NumPy numbers, no long lines, and every finding stands in the table."""
    images = _pictures()
    images[59] = images[0]
    images[58] = images[1, ::-1]
    found = audit(*_made(images=images, **COLUMNS), SIDES, how="by hand")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    found["probes"] = {"nearest-neighbour": {"text": "a long sentence " * 12}}
    table = as_table(found)
    assert max(len(line) for line in table.splitlines()) <= 100
    flat = " ".join(table.split())
    assert all(finding["text"] in flat for finding in found["findings"])


def test_findings_stand_worst_first():
    """Leaks, then warnings, then notes."""
    images = _pictures()
    images[59] = images[0]
    targets = np.arange(N) // 2 % 3
    dataset, store = _made(targets=targets, images=images, organ=["lung" if k else "colon" for k in targets])
    levels = [finding["level"] for finding in audit(dataset, store, SIDES)["findings"]]
    assert levels == sorted(levels, key=["leak", "warning", "note"].index)
    assert set(levels) == {"leak", "warning", "note"}


def _pack(name, monkeypatch, **asked):
    if not (PACKS / f"{name}.zip").exists():
        pytest.skip(f"the pack {name} is not in PELLUCID_DATA")
    monkeypatch.setenv("PELLUCID_DATA", str(PACKS))
    settings = DataSettings(source=name, size=64, allow_leak=True, **asked)
    return find(settings), settings


def _audited(name, monkeypatch, workspace, **asked):
    dataset, settings = _pack(name, monkeypatch, **asked)
    dataset, store = open_store(dataset, settings, workspace)
    split = make_split(dataset, settings)
    return audit(dataset, store, split.sides, how=split.how)


@pytest.mark.packs
def test_brain_tumor_publisher_split_is_crossed_by_212_groups(monkeypatch, shared_workspace):
    """The pack's README: the publisher's test shows what is in its training. The pack's own split is clean."""
    found = _audited("brain_tumor_mri", monkeypatch, shared_workspace, split="column:orig_split")
    assert {leak["column"]: leak["units"] for leak in found["crossing"]}["group"] == 212
    assert found["duplicates"]["near"]["across_splits"] >= 100
    clean = _audited("brain_tumor_mri", monkeypatch, shared_workspace, split="column:split")
    assert _texts(clean, "leak") == []


@pytest.mark.packs
def test_alzheimer_publisher_split_is_crossed_by_every_person(monkeypatch, shared_workspace):
    """All 200 persons are on both sides, since the publisher split by slice height."""
    dataset, settings = _pack("alzheimer_mri", monkeypatch, split="column:orig_split", label="label3")
    leaks = make_split(dataset, settings).leaks
    assert [(leak["column"], leak["units"], leak["images"]) for leak in leaks] == [("subject", 200, 3200)]
    upper = "slice >= 22"  # to save time: the slices about the publisher's cut, and all that it put into its test
    found = _audited("alzheimer_mri", monkeypatch, shared_workspace, split="column:orig_split", label="label3", where=upper)
    assert found["crossing"][0]["units"] == 200
    # Neighbouring slices of one person are taken for copies, slices of two people never.
    assert found["duplicates"]["near"]["across_splits"] > 0
    assert found["duplicates"]["near"]["same_unit"] == found["duplicates"]["near"]["pairs"]


@pytest.mark.packs
def test_lc25000_image_split_parts_siblings(monkeypatch, shared_workspace):
    """201 of the 225 test tiles have a sibling in train, as `group` tells. Of all siblings 21 pairs are alike up to a flip."""
    dataset, settings = _pack("lc25000", monkeypatch, split="column:image_split")
    split = make_split(dataset, settings)
    in_train = {group for group, side in zip(dataset.groups, split.sides, strict=True) if side == "train"}
    assert sum(group in in_train for group, side in zip(dataset.groups, split.sides, strict=True) if side == "test") == 201
    found = _audited("lc25000", monkeypatch, shared_workspace, split="column:image_split")
    assert found["crossing"][0]["column"] == "group"
    near = found["duplicates"]["near"]
    assert near["pairs"] == near["same_unit"] == 21
    assert "siblings in histology" in found["duplicates"]["blind_to"]


@pytest.mark.packs
@pytest.mark.parametrize("name", ["eye_disease", "chest_xray_covid"])
def test_source_goes_with_the_class(monkeypatch, name):
    """Collections were made of one class each: V of source is above 0.6 (the README of chest_xray_covid measured 0.62)."""
    dataset, _ = _pack(name, monkeypatch)
    found, _ = associations(dataset)
    v = {row["column"]: row["cramers_v"] for row in found}["source"]
    assert v > 0.6
    if name == "chest_xray_covid":
        assert v == pytest.approx(0.62, abs=0.015)
