"""The code in the docs runs: each page's Python in order in one namespace, each page's files and experiment files, and all docstrings."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import pytest

import pellucid
from pellucid.core import registry, settings

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"(?:^<!-- file: (?P<file>\S+) -->\n)?^```(?P<kind>\w*)\n(?P<block>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]]
# The README's example is meant to learn something; here it is enough that it runs.
SMALLER = ((r"n_subjects=80", "n_subjects=24"), (r'"epochs": \d+', '"epochs": 1'))
RUNNABLE = [page for page in PAGES if "```python" in (ROOT / page).read_text(encoding="utf-8")]
MODULES = [module.name for module in pkgutil.walk_packages(pellucid.__path__, "pellucid.") if not module.name.endswith("__main__")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One workspace for all pages, so that what several of them train is trained once."""
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture
def elsewhere(tmp_path, workspace, monkeypatch):
    """An empty current folder, and a folder of modules that parts can be put into."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(workspace))
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)
    _forget_parts()
    yield site
    _forget_parts()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]


@pytest.mark.parametrize("page", RUNNABLE)
def test_code_of_the_page_runs(page, elsewhere, capsys):
    """Files are written, entry points registered as by an installed package, the rest is run from top to bottom."""
    blocks = [match.groupdict() for match in FENCE.finditer((ROOT / page).read_text(encoding="utf-8"))]
    for block in blocks:
        if block["file"]:
            (elsewhere / block["file"]).write_text(block["block"], encoding="utf-8")
        elif block["kind"] == "toml" and '[project.entry-points."' in block["block"]:
            _install(elsewhere, tomllib.loads(block["block"])["project"]["entry-points"])
    namespace = {"__name__": page}
    for number, block in enumerate(blocks):
        if block["kind"] == "python" and not block["file"]:
            exec(compile(_smaller(block["block"], page), f"{page}, block {number}", "exec"), namespace)
        elif block["kind"] == "toml" and "project.entry-points" not in block["block"]:
            _check_experiment(tomllib.loads(block["block"]), page)


def _smaller(code, page):
    for pattern, replacement in SMALLER if page == "README.md" else ():
        code, count = re.subn(pattern, replacement, code)
        assert count, f"README.md no longer holds {pattern}"
    return code


def _install(site, entry_points):
    about = site / "docs_parts-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: docs-parts\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in parts.items()) for group, parts in entry_points.items()]
    (about / "entry_points.txt").write_text("\n".join(lines))
    importlib.invalidate_caches()
    _forget_parts()


def _forget_parts():
    """Let the registry look again for what is installed."""
    registry.describe.cache_clear()
    registry._installed.cache_clear()


def _check_experiment(content, where):
    """Refuse names of parts and settings of theirs that there aren't."""
    from pellucid.models.build import check_options
    from pellucid.running.experiment import check

    settings.SweepSettings.model_validate(content.pop("sweep", {}))
    asked = settings.parse(content, where=where)
    check(asked)
    for network in (asked.teacher, asked.student):
        check_options(network.model, network.options, where=where)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name, workspace, monkeypatch, tmp_path):
    """Every `>>>` of a module gives what stands under it."""
    module = importlib.import_module(name)
    tests = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=_globals() if ">>>" in _source(module) else {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(workspace))
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said = []
    for test in tests:
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


def _source(module):
    return Path(module.__file__).read_text(encoding="utf-8")


def _globals():
    """What the examples take for granted."""
    import numpy
    import timm
    import torch

    return {"np": numpy, "timm": timm, "torch": torch}
