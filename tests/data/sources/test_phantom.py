"""The phantom is the same on every machine, its masks are where its lesions are, and its shortcut is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import SettingError
from pellucid.core.settings import DataSettings
from pellucid.data.find import find
from pellucid.data.sources import phantom


def made(size=64, **options):
    return find(DataSettings(source="phantom", size=size, **options))


def corner(dataset, i):
    """Count the ticks in the upper left corner of an image of 64 pixels."""
    row = dataset.read(i)[3, :12]
    return int(((row[1:] == 225) & (row[:-1] != 225)).sum())


def test_subjects_classes_and_columns():
    """Every subject has one class, the classes take turns, none comes first."""
    dataset = made(n_subjects=8, slices=3)
    assert dataset.task.classes == ("none", "solid", "ring", "diffuse")
    assert dataset.ids[:4] == ["s001_1", "s001_2", "s001_3", "s002_1"]
    assert dataset.subjects[::3] == [f"s00{n}" for n in range(1, 9)]
    assert dataset.targets.reshape(8, 3).tolist() == [[n % 4] * 3 for n in range(8)]
    assert dataset.columns["slice"][:3] == ["1", "2", "3"]
    assert set(dataset.columns) == {"slice", "split"}


def test_split_column_holds_each_class_out_by_subject():
    """70/15/15 of the subjects of each class; no subject on two sides."""
    dataset = made(n_subjects=60, slices=1)
    sides = np.array(dataset.columns["split"])
    for number in range(4):
        counts = {side: int((sides[dataset.targets == number] == side).sum()) for side in ("train", "val", "test")}
        assert counts == {"train": 11, "val": 2, "test": 2}


def test_same_seed_same_bytes():
    """Made twice, in any order, the pixels agree; with another seed they don't."""
    first, again, other = made(n_subjects=4, slices=2), made(n_subjects=4, slices=2), made(n_subjects=4, slices=2, seed=1)
    backwards = {i: again.read(i) for i in reversed(range(8))}
    assert all(np.array_equal(first.read(i), backwards[i]) for i in range(8))
    assert first.content == again.content
    assert first.content != other.content
    assert not np.array_equal(first.read(0), other.read(0))


def test_same_seed_same_bytes_as_ever():
    """The sum of the pixels of three slices, written down when VERSION was 2: a change here needs another VERSION."""
    dataset = made(n_subjects=4, slices=2)
    assert phantom.VERSION == 2
    assert [int(dataset.read(i).sum(dtype=np.int64)) for i in (0, 3, 7)] == [295915, 269867, 274406]


def test_a_subject_does_not_depend_on_the_others():
    """More subjects change none that were there."""
    few, many = made(n_subjects=4, slices=2), made(n_subjects=12, slices=2)
    assert all(np.array_equal(few.read(i), many.read(i)) for i in range(8))


@pytest.mark.parametrize("kind", ["solid", "ring", "diffuse"])
@pytest.mark.parametrize("size", [64, 160])
def test_the_mask_is_where_the_lesion_is(kind, size):
    """Drawn without its lesion, the same slice differs inside the mask and, but for some oedema, nowhere else."""
    for subject in range(4):
        with_lesion, mask = phantom.draw(phantom.Cut(0, subject, kind, 2, 8), size)
        without, nothing = phantom.draw(phantom.Cut(0, subject, "none", 2, 8), size)
        assert not nothing.any()
        change = np.abs(with_lesion.astype(int) - without)
        assert 0.003 < mask.mean() < 0.12
        assert change[mask].mean() > 12
        assert change[~mask].mean() < 0.12 * change[mask].mean()


def test_none_has_no_mask_and_the_others_have_one_in_every_slice():
    """Ground truth of where to look, also in the slices at a lesion's end."""
    dataset = made(n_subjects=8, slices=8)
    covered = np.array([dataset.read_mask(i).any() for i in range(len(dataset))])
    assert np.array_equal(covered, dataset.targets > 0)


def test_slices_of_one_subject_are_alike():
    """Two slices of a subject agree better than slices of the same height of two subjects."""
    dataset = made(n_subjects=8, slices=4)
    flat = np.stack([dataset.read(i).ravel() for i in range(0, 32, 8)] + [dataset.read(i + 1).ravel() for i in range(0, 32, 8)])
    r = np.corrcoef(flat)
    same, other = np.diag(r[:4, 4:]), r[:4, :4][np.triu_indices(4, 1)]
    assert same.min() > other.max()


@pytest.mark.parametrize(("size", "drawn"), [(32, 64), (96, 96), (224, 224), (512, 224)])
def test_slices_are_drawn_at_the_size_that_is_asked_for(size, drawn):
    """Between 64 and 224; beyond that the store resizes."""
    assert made(size=size, n_subjects=4, slices=1).read(0).shape == (drawn, drawn)


def test_without_a_shortcut_there_is_no_mark():
    """The corner is only noise, and there is no column that tells the class."""
    dataset = made(n_subjects=4, slices=2)
    assert "ticks" not in dataset.columns
    assert all(dataset.read(i)[:8, :12].max() < 60 for i in range(8))


def test_a_full_shortcut_tells_the_class_in_every_image():
    """One tick more for each class, as the column says."""
    dataset = made(n_subjects=8, slices=2, shortcut=1.0)
    assert [int(ticks) for ticks in dataset.columns["ticks"]] == (dataset.targets + 1).tolist()
    assert [corner(dataset, i) for i in range(16)] == (dataset.targets + 1).tolist()


def test_a_shortcut_can_be_planted_in_the_training_split_alone():
    """Outside of it the mark is drawn by chance: about a quarter agree."""
    dataset = made(n_subjects=60, slices=8, shortcut=1.0, shortcut_split="train")
    agrees = np.array(dataset.columns["ticks"], dtype=int) == dataset.targets + 1
    train = np.array(dataset.columns["split"]) == "train"
    assert agrees[train].all()
    assert 0.1 < agrees[~train].mean() < 0.4


def test_half_a_shortcut_agrees_with_half_and_a_quarter_of_the_rest():
    """Strength 0.5: 0.5 + 0.5 / 4 of the marks agree."""
    dataset = made(n_subjects=60, slices=8, shortcut=0.5)
    agrees = np.array(dataset.columns["ticks"], dtype=int) == dataset.targets + 1
    assert agrees.mean() == pytest.approx(0.625, abs=0.07)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_subjects": 3}, r"^\[data\] n_subjects = 3: at least 4 are needed, one for each class\.$"),
        ({"slices": 0}, r"^\[data\] slices = 0: at least 1 is needed\.$"),
        ({"shortcut": 1.5}, r"^\[data\] shortcut = 1.5: a probability lies between 0 and 1\.$"),
        ({"shortcut_split": "test"}, r"shortcut_split = 'test'"),
        ({"n_subject": 8}, r'"n_subject" is no setting\. Did you mean "n_subjects"'),
        ({"slices": "many"}, r"slices = 'many'"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    """One line, nearest names offered."""
    with pytest.raises(SettingError, match=message):
        made(**options)
