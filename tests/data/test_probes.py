"""The probes tell a split that parts subjects from one that doesn't."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pellucid.core.records import Task
from pellucid.core.settings import DataSettings
from pellucid.data.dataset import Dataset
from pellucid.data.load import Data
from pellucid.data.probes import nearest_neighbour, shuffled_labels
from pellucid.data.split import make_split
from pellucid.data.store import Store


def _fingerprints(split, *, subjects=40, each=6, signal=0.0):
    """Subjects with a picture of their own, a little noise per image, and perhaps a class signal in one corner."""
    random = np.random.default_rng(0)
    own = random.normal(0, 40, (subjects, 1, 32, 32))
    pictures = 128 + own + random.normal(0, 10, (subjects, each, 32, 32))
    targets = np.repeat(np.arange(subjects) % 2, each)
    pictures = pictures.reshape(-1, 32, 32)
    pictures[:, :16, :16] += signal * (2 * targets[:, None, None] - 1)
    images = np.clip(pictures, 0, 255).astype(np.uint8)[..., None]
    names = [f"s{i // each}" for i in range(len(targets))]
    dataset = Dataset(
        "made", Task("single", ("a", "b")), [f"{i}" for i in range(len(targets))], targets, lambda i: images[i], "0", subjects=names
    )
    settings = DataSettings(split=split)
    return Data(dataset, Store(images), make_split(dataset, settings), settings, (0.5,), (0.2,))


def test_shuffled_labels_are_at_chance_under_a_split_by_subject():
    """Labels dealt to subjects can't be told of subjects never seen."""
    found = shuffled_labels(_fingerprints("subject"))
    assert found["low"] <= found["chance"] + 0.02
    assert found["chance"] == pytest.approx(2 * 20 * 19 / (40 * 39))
    assert found["text"].endswith("Nothing is recognised across the split.")


def test_shuffled_labels_are_told_under_a_split_by_image():
    """Whoever recognises the subject knows the label it was dealt."""
    found = shuffled_labels(_fingerprints("image"))
    assert found["value"] > 0.95
    assert found["text"].endswith("the split leaks.")


def test_class_signal_alone_does_not_look_like_a_leak():
    """A true difference between classes is found by the neighbours, and labels dealt at random stay at chance."""
    data = _fingerprints("subject", signal=60)
    neighbours = nearest_neighbour(data)
    assert neighbours["value"] > 0.8
    assert neighbours["text"].endswith("The given split is not easier than one by subject.")
    assert shuffled_labels(data)["low"] <= shuffled_labels(data)["chance"] + 0.02


def test_nearest_neighbour_sets_the_given_split_beside_both_others():
    """By image the subject is recognised, by subject there is nothing to know."""
    found = nearest_neighbour(_fingerprints("image"))
    assert found["value"] == found["image_split"]["value"] > 0.95
    assert found["subject_split"]["value"] < 0.75
    assert found["chance"] == 0.5
    assert found["text"].endswith("it leaks.")


def test_nearest_neighbour_without_subjects_says_so():
    """Nothing to compare with: the text says that no subjects are known."""
    data = _fingerprints("image")
    data = replace(data, dataset=replace(data.dataset, subjects=[]))
    found = nearest_neighbour(data)
    assert found["subject_split"] is None
    assert "no subjects are known" in found["text"]


@pytest.mark.parametrize("probe", [nearest_neighbour, shuffled_labels])
def test_probe_is_json_and_repeats_itself(probe, phantom):
    """The same data give the same figures, without NaN."""
    found = probe(phantom)
    assert json.loads(json.dumps(found, allow_nan=False)) == found == probe(phantom)
