"""Messages name the nearest choices, and every error is the user's to mend."""

from __future__ import annotations

import inspect

import pytest

from pellucid.core import errors


@pytest.mark.parametrize(
    ("typo", "expected"),
    [
        ("temprature", ' Did you mean "temperature"?'),
        ("Alpha", ' Did you mean "alpha"?'),
        ("bata", ' Did you mean "beta"?'),
        ("zzz", ""),
    ],
)
def test_did_you_mean_offers_the_nearest_names(typo, expected):
    """A typo gets the name it most likely meant, whatever its case; nonsense gets no advice."""
    assert errors.did_you_mean(typo, ["alpha", "beta", "temperature"]) == expected


def test_nearest_gives_at_most_three_best_first():
    """Of five near names the three nearest are offered, the nearest first."""
    names = ["layer1", "layer2", "layer3", "layer4", "layer5"]
    found = errors.nearest("layer3", names)
    assert len(found) == 3
    assert found[0] == "layer3"


def test_listing_shows_five_and_counts_the_rest():
    """Long lists are cut, and say by how much."""
    assert errors.listing(["a", "b"]) == "a, b"
    assert errors.listing([str(i) for i in range(1205)]) == "0, 1, 2, 3, 4, and 1,200 more"


def test_every_error_is_a_pellucid_error_and_stands_in_the_drawn_tree():
    """The tree on top of the file names each class, so that a reader finds all of them."""
    classes = [thing for _, thing in inspect.getmembers(errors, inspect.isclass) if thing.__module__ == errors.__name__]
    assert all(issubclass(thing, errors.PellucidError) for thing in classes)
    assert all(thing.__name__ in (errors.__doc__ or "") for thing in classes)


def test_errors_carry_what_a_program_needs():
    """Settings, files, units and parts can be read without parsing the message."""
    assert errors.SettingError("x", setting="lr", near=["lr"]).setting == "lr"
    assert errors.UnreadableError("x", files={"a.png": "empty"}).files == {"a.png": "empty"}
    assert errors.SplitError("x", units=["007"]).units == ("007",)
    assert errors.GuardError("x", part="kl").part == "kl"
    assert errors.TapError("x", near=["layer4"]).near == ("layer4",)
