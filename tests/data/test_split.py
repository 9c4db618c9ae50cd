"""A split never parts a subject or group by accident."""

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from pellucid.core.errors import SettingError, SplitError
from pellucid.core.records import Task
from pellucid.core.settings import DataSettings
from pellucid.data.dataset import Dataset
from pellucid.data.split import crossing, make_split, whole_units


def _dataset(targets, subjects=(), groups=(), **columns):
    targets = np.asarray(targets)
    classes = tuple(f"class{k}" for k in range(int(targets.max()) + 1))
    ids = [f"{i:04d}.png" for i in range(len(targets))]
    return Dataset(
        "made", Task("single", classes), ids, targets, lambda i: np.zeros((8, 8), np.uint8), "0",
        subjects=list(subjects), groups=list(groups), columns={name: list(values) for name, values in columns.items()},
    )  # fmt: skip


@st.composite
def _many(draw):
    """Up to 40 subjects of 1 to 6 images and mostly one class, at least 4 subjects per class."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_classes = draw(st.integers(2, 4))
    owners = np.r_[np.repeat(np.arange(n_classes), 4), random.integers(0, n_classes, draw(st.integers(0, 24)))]
    subjects, targets = [], []
    for number, owner in enumerate(owners):
        for _ in range(random.integers(1, 7)):
            subjects.append(f"s{number:02d}")
            targets.append(owner if random.random() < 0.9 else random.integers(0, n_classes))
    return _dataset(targets, subjects)


def _sides_of(dataset, split):
    return dict(zip(dataset.ids, split.sides, strict=True))


@pytest.mark.parametrize("kind", ["subject", "kfold"])
@seed(4)
@settings(max_examples=60, deadline=None)
@given(dataset=_many(), number=st.integers(0, 5))
def test_split_never_parts_a_subject_and_leaves_no_side_empty(kind, dataset, number):
    """All images of a subject are on one side, each image has a side, and each class can be trained on."""
    split = make_split(dataset, DataSettings(split=kind, split_seed=number, folds=3))
    assert split.leaks == crossing(dataset, split.sides) == []
    assert set(split.sides) == {"train", "val", "test"}
    assert set(dataset.targets[split.sides == "train"]) == set(dataset.targets)


@pytest.mark.parametrize("kind", ["subject", "image", "kfold"])
@seed(5)
@settings(max_examples=30, deadline=None)
@given(dataset=_many(), number=st.integers(0, 5))
def test_split_does_not_depend_on_the_order_of_images(kind, dataset, number):
    """The same images in another order stand on the same sides; the same call twice gives the same."""
    asked = DataSettings(split=kind, split_seed=number, folds=3)
    order = np.random.default_rng(number).permutation(len(dataset))
    shuffled = dataset.keep(order)
    sides = _sides_of(dataset, make_split(dataset, asked))
    assert sides == _sides_of(dataset, make_split(dataset, asked))
    assert sides == _sides_of(shuffled, make_split(shuffled, asked))


@seed(6)
@settings(max_examples=30, deadline=None)
@given(dataset=_many(), repeat=st.integers(0, 3))
def test_folds_are_a_partition(dataset, repeat):
    """Each image is in the test of exactly one fold."""
    tests = [make_split(dataset, DataSettings(split="kfold", folds=4, fold=f, repeat=repeat)).sides == "test" for f in range(4)]
    assert (np.sum(tests, 0) == 1).all()


def test_repeats_and_seeds_shuffle_anew():
    """Another repeat, and another seed, hold out other subjects."""
    dataset = _dataset(np.repeat([0, 1], 50), np.repeat(np.arange(50), 2).astype(str))
    first, repeat = (make_split(dataset, DataSettings(split="kfold", repeat=r)).sides for r in (0, 1))
    assert (first != repeat).any()
    one, other = (make_split(dataset, DataSettings(split_seed=s)).sides for s in (0, 1))
    assert (one != other).any()


def test_shares_are_near_what_was_asked_in_each_class():
    """200 subjects of 1 to 11 images: each class has 15 % of its images, give or take 2 %, in val and in test."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 12, 200)
    targets, subjects = np.repeat(np.arange(200) % 4, sizes), np.repeat(np.arange(200).astype(str), sizes)
    split = make_split(_dataset(targets, subjects), DataSettings())
    for k in range(4):
        for side in ("val", "test"):
            assert np.mean(split.sides[targets == k] == side) == pytest.approx(0.15, abs=0.02)


def test_rare_class_is_trained_on_first_then_tested():
    """Of a class with two subjects one is in train and one in test, none in val."""
    targets = [0] * 40 + [1] * 4
    subjects = [f"a{i // 2}" for i in range(40)] + ["b0", "b0", "b1", "b1"]
    split = make_split(_dataset(targets, subjects), DataSettings())
    assert sorted(set(split.sides[40:])) == ["test", "train"]


def test_unit_joins_subjects_of_one_group_and_groups_of_one_subject():
    """Subject a is in groups g and h, and b in h: one unit; c has no group; an image without either stands alone."""
    dataset = _dataset([0] * 6, ["a", "a", "b", "c", "c", ""], ["g", "h", "h", "", "", ""])
    units = whole_units(dataset)
    assert len({*units[:3]}) == 1
    assert units[3] == units[4]
    assert len(set(units)) == 3


def test_subject_and_group_of_the_same_name_are_not_one_unit():
    """Group "7" has nothing to do with subject "7"."""
    assert len(set(whole_units(_dataset([0, 0], ["7", ""], ["", "7"])))) == 2


def test_image_split_records_which_subjects_it_parts():
    """Asked for by name, a split by image is made, and its leaks are counted."""
    dataset = _dataset(np.repeat([0, 1], 50), np.repeat(np.arange(10), 10).astype(str))
    split = make_split(dataset, DataSettings(split="image"))
    assert split.unit == "images"
    assert split.leaks[0]["column"] == "subject"
    assert split.leaks[0]["units"] == 10
    assert split.leaks[0]["images"] == 100


def test_column_names_are_understood_in_any_case_and_missing_val_is_carved_by_subject():
    """Training and Testing are sides; val is taken from Training without parting a subject."""
    where = np.repeat(["Training", "TESTING"], [80, 20])
    dataset = _dataset(np.tile([0, 1], 50), [f"s{i // 4}" for i in range(100)], fold=where)
    split = make_split(dataset, DataSettings(split="column:fold"))
    assert (split.sides[80:] == "test").all()
    assert set(split.sides[:80]) == {"train", "val"}
    assert split.leaks == []
    assert split.how == "by column fold; val is 15% of its train, by subject, seed 0"


def test_column_that_parts_a_subject_is_refused_with_names_and_counts():
    """The message names the worst subject, its images on both sides, how many more there are, and both ways out."""
    where = ["train"] * 4 + ["test"] * 2 + ["train", "val", "train", "test"]
    dataset = _dataset([0, 1] * 5, ["007"] * 6 + ["a", "b", "c", "d"], split=where)
    with pytest.raises(SplitError) as caught:
        make_split(dataset, DataSettings(split="column:split"))
    assert str(caught.value) == (
        'made, column split: subject "007" is in train (4 images) and test (2); in all 1 subject with 6 images. '
        'Use split = "subject", or data.allow_leak = true if you accept the banner in the report.'
    )
    assert caught.value.units == ("007",)
    split = make_split(dataset, DataSettings(split="column:split", allow_leak=True))
    assert split.leaks[0]["examples"] == ["007: train 4, test 2"]


def _columns(**changes):
    values = np.array(["train"] * 6 + ["val"] * 2 + ["test"] * 2, dtype="<U9")
    for row, value in changes.items():
        values[int(row[1:])] = value
    return values


TARGETS = [0, 1] * 5
BAD = {
    "unknown value": (_dataset(TARGETS, split=_columns(r0="spare")), {"split": "column:split"}, SplitError, 'no side is called "spare" (1 images)'),
    "missing value": (_dataset(TARGETS, split=_columns(r0="")), {"split": "column:split"}, SplitError, 'no side is called "" (1 images)'),
    "no such column": (_dataset(TARGETS, split=_columns()), {"split": "column:splt"}, SplitError, 'Did you mean "split"?'),
    "no test": (_dataset(TARGETS, split=_columns(r8="train", r9="train")), {"split": "column:split"}, SplitError, "no image is left for test"),
    "class unknown in train": (_dataset([0] * 9 + [1], split=_columns()), {"split": "column:split"}, SplitError, 'class "class1" is in test (1 images) but not in train'),
    "fewer units than folds": (_dataset([0, 1] * 4, ["a", "b", "c", "d"] * 2), {"split": "kfold"}, SplitError, "4 subjects can't make 5 folds"),
    "no such fold": (_dataset(TARGETS), {"split": "kfold", "fold": 5}, SettingError, "the folds are 0 to 4"),
    "two subjects": (_dataset(TARGETS, ["a", "b"] * 5), {}, SplitError, "2 subjects can't be held out on three sides"),
    "nothing to train on": (_dataset(TARGETS), {"val_share": 0.5, "test_share": 0.5}, SplitError, "leave nothing to train on"),
    "no such split": (_dataset(TARGETS), {"split": "subjects"}, SettingError, 'Did you mean "subject"?'),
    "column without name": (_dataset(TARGETS), {"split": "column:"}, SettingError, "is no split"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_impossible_split_is_refused_in_one_line(name):
    """Each mistake is named, with its place."""
    dataset, asked, error, words = BAD[name]
    with pytest.raises(error) as caught:
        make_split(dataset, DataSettings(**asked))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
