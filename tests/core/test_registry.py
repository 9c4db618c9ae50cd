"""The registry: parts are found by name without importing them, and their settings are checked against their signature."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from functools import partial
from typing import Literal

import pytest

from pellucid.core import registry
from pellucid.core.errors import SettingError


@registry.part(signed=True)
def planted(model, *, alpha: float = 0.5, variant: Literal["soft", "hard"] = "soft", layers: list[int] | None = None):
    """A part for these tests."""


@registry.part()
class Planted:
    """A part that is a class."""

    def __init__(self, model, *, temperature: float = 4.0):
        self.temperature = temperature


def test_listing_all_parts_imports_no_torch():
    """`pellucid list` reads docstrings from the files; none of the parts and no heavy library is loaded for it."""
    code = (
        "import sys; from pellucid.core import registry; n = sum(len(registry.describe(kind)) for kind in registry.KINDS)\n"
        "heavy = {'torch', 'timm', 'sklearn', 'scipy', 'matplotlib', 'pydantic', 'PIL', 'numpy'} & set(sys.modules)\n"
        "ours = [m for m in sys.modules if m.startswith('pellucid.') and not m.startswith('pellucid.core') and not hasattr(sys.modules[m], '__path__')]\n"
        "print(n > 5, sorted(heavy), ours)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True [] []"


@pytest.mark.parametrize("kind", list(registry.KINDS))
def test_every_part_says_what_it_does_in_one_sentence(kind):
    """A summary ends with a full stop and is a line, not a paragraph."""
    found = registry.describe(kind)
    assert found
    for name, summary in found.items():
        assert summary.endswith("."), f"{kind} {name}: {summary}"
        assert 10 < len(summary) < 140, f"{kind} {name}: {summary}"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in registry.KINDS for name in registry.describe(kind)])
def test_every_part_opens_and_has_typed_settings(kind, name):
    """The part behind each listed name is importable, and each of its settings has a type and a default."""
    thing = registry.get(kind, name)
    assert isinstance(thing.traits, dict)
    given = {"n_classes", "channels", "size"} if kind == "models" else set()  # by the data, not by the user
    for setting, (kind_of_value, default) in registry.options(thing).items():
        if setting in given:
            continue
        assert kind_of_value is not registry.Any, f"{name}.{setting} has no type"
        assert default is not registry.inspect.Parameter.empty, f"{name}.{setting} has no default"


def test_an_unknown_part_offers_the_nearest():
    """The message names what there is; a program finds the near names as an attribute."""
    with pytest.raises(
        SettingError, match=r'"logit_kdd" is none of the losses\. Did you mean "logit_kd"\? There are: .*logit_kd'
    ) as caught:
        registry.get("losses", "logit_kdd")
    assert caught.value.near == ("logit_kd",)


def test_options_are_the_keyword_only_arguments():
    """Of functions and of classes alike, with type and default."""
    assert registry.options(planted)["alpha"] == (float, 0.5)
    assert list(registry.options(planted)) == ["alpha", "variant", "layers"]
    assert registry.options(Planted) == {"temperature": (float, 4.0)}


def test_check_options_returns_typed_values():
    """An integer for a float setting becomes a float; what isn't given isn't filled in."""
    checked = registry.check_options(planted, {"alpha": 1, "layers": [1, 2]}, where="distill")
    assert checked == {"alpha": 1.0, "layers": [1, 2]}
    assert type(checked["alpha"]) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(SettingError, match=r"\[distill\] alpha = "):
        registry.check_options(planted, {"alpha": value}, where="distill")


def test_check_options_lists_all_problems_at_once():
    """Two unknown settings and a wrong type come in one message; near names come from the part and from its section."""
    with pytest.raises(SettingError) as caught:
        registry.check_options(planted, {"alfa": 1, "variant": "mild", "los": "x"}, where="distill", also=["loss"])
    message = str(caught.value)
    assert '[distill]: "alfa" is no setting. Did you mean "alpha"?' in message
    assert "[distill] variant = 'mild': " in message
    assert '[distill]: "los" is no setting. Did you mean "loss"?' in message
    assert caught.value.near[:1] == ("alpha",)


def test_parts_of_other_packages_come_in_by_entry_point(monkeypatch):
    """An installed package's loss is listed with its origin and opened by name."""
    entry = importlib.metadata.EntryPoint("theirs", "json:dumps", "pellucid.losses")
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **asked: [entry] if asked == {"group": "pellucid.losses"} else real(**asked)
    )
    registry.describe.cache_clear()
    registry._installed.cache_clear()
    try:
        assert registry.describe("losses")["theirs"] == "from json:dumps"
        import json

        assert registry.get("losses", "theirs") is json.dumps
    finally:
        registry.describe.cache_clear()
        registry._installed.cache_clear()


def test_tables_of_parts_are_checked_against_the_parts_named():
    """Each named part gets what its table holds; a table of no part, a value in place of one, and a number out of range are refused."""
    check = partial(registry.check_tables, "measures", ["road", "performance"], where="measure")
    assert check({"road": {"images": 5}}) == {"road": {"images": 5}, "performance": {}}
    assert check({"sanity": {"images": 5}}) == {"road": {}, "performance": {}}
    for tables, words in (
        ({"santy": {}, "marg": 1}, r'"santy" is no setting, nor one of the measures\..* "marg" is no setting'),
        ({"sanity": {"images": 0}}, r"\[measure\.sanity\] images = 0"),
        ({"road": 5}, r"\[measure\] road = 5: settings of one part stand in a table, \[measure\.road\]"),
        ({"road": {"image": 5}}, r'\[measure\.road\]: "image" is no setting\. Did you mean "images"'),
        ({"road": {"images": 0}}, r"\[measure\.road\] images = 0: input should be greater than or equal to 1"),
    ):
        with pytest.raises(SettingError, match=words):
            check(tables)
    with pytest.raises(SettingError, match='Did you mean "margin"'):
        check({"margn": 1}, also=["margin"])
