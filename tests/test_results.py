"""The pages in results/ are what their command makes of the files kept beside them."""

from __future__ import annotations

import importlib.util
import json
import shlex
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent.parent / "results"


def script(name):
    spec = importlib.util.spec_from_file_location(name, RESULTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept() -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / "data").glob("foundation_*.json"))}


def test_the_foundation_page_is_what_its_command_makes():
    """Nobody typed a number into it: it is made anew from results/data."""
    module = script("foundation")
    runs = {name: content for name, content in ((name, kept().get(name)) for name in module.RUNS) if content}
    assert {"foundation_subject", "foundation_image"} <= set(runs)
    assert (RESULTS / "foundation.md").read_text(encoding="utf-8") == module.page(runs)


def test_the_accuracies_follow_from_the_kept_logits():
    """Each network's accuracy on the page is that of its logits on the test images, worked out here once more."""
    for name, content in kept().items():
        with np.load(RESULTS / "data" / f"{name}.predictions.npz") as predictions:
            for entry in content["measurements"]:
                if entry["name"] == "accuracy":
                    right = predictions[f"test.logits.{entry['model']}"].argmax(1) == predictions["test.targets"]
                    assert abs(right.mean() - entry["value"]) < 1e-12
                    assert entry["low"] <= entry["value"] <= entry["high"]


def test_the_transparency_page_is_what_its_command_makes(monkeypatch):
    """It is made anew from results/data, and says which of its entries were not run."""
    monkeypatch.syspath_prepend(str(RESULTS))
    module = script("transparency")
    page = (RESULTS / "transparency.md").read_text(encoding="utf-8")
    assert page == module.page()
    assert module.kept("eye") is not None


def test_the_commands_on_the_transparency_page_made_its_data(monkeypatch):
    """They are put together from the page's own table of entries, and equal what was kept of each run but for the shell's quotes."""
    monkeypatch.syspath_prepend(str(RESULTS))
    module = script("transparency")
    for name in (*module.SWEEPS, *module.RUNS):
        if content := module.kept(name):
            shown = shlex.split(module.command(name))
            assert content["command"] in (" ".join(shown), shlex.join(shown)), name


def test_the_explainers_page_is_what_its_command_makes(monkeypatch):
    """It is made anew from results/data, and says which of its parts were not run."""
    monkeypatch.syspath_prepend(str(RESULTS))
    module = script("explainers")
    page = (RESULTS / "explainers.md").read_text(encoding="utf-8")
    assert page == module.page()
    assert module.kept("shortcut") is not None
