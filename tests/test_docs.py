"""The docs say what there is: every command, setting, part and measure, and no link or command line in them is wrong.

The code in them is run by test_docs_run.py, which takes longer.
"""

import importlib.util
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import pellucid
from pellucid.core import errors, registry, settings
from pellucid.reporting import words

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _made():
    specification = importlib.util.spec_from_file_location("make_reference", ROOT / "docs/make_reference.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.pages()


MADE = _made()


def _without_code(text):
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def _anchors(text):
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _command_lines():
    """Every line of the docs that starts the program, in a code block or indented as one."""
    for page, text in PAGES.items():
        lines = [line for kind, block in FENCE.findall(text) if kind in ("", "bash", "text", "console") for line in block.splitlines()]
        lines += re.findall(r"^ {4}(.+)$", FENCE.sub("", text), re.MULTILINE)
        lines += re.findall(r"`(pellucid [^`]+)`", text)
        for line in lines:
            line = line.strip().removeprefix("$ ").partition("  #")[0]
            if line.startswith("pellucid "):
                yield page, line


@pytest.mark.parametrize("page", MADE)
def test_reference_page_is_what_the_code_says(page):
    """The committed page equals what `python docs/make_reference.py` writes."""
    committed = (ROOT / "docs/reference" / page).read_text(encoding="utf-8")
    assert committed == MADE[page], f"docs/reference/{page} is behind the code. Run: python docs/make_reference.py"


def test_every_command_has_words_and_a_heading():
    """A command without a docstring, or without its place on the page, fails here."""
    from pellucid.cli import app

    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert inspect.getdoc(command.callback), f"pellucid {name} has no docstring"
        assert f"\n## {name}\n" in MADE["commands.md"]


def test_every_setting_is_explained():
    """A setting has a description and stands in the table of its section."""
    for section, field in settings.Settings.model_fields.items():
        table = MADE["settings.md"].split(f"\n## [{section}]\n")[1].split("\n## ")[0]
        for name, setting in field.annotation.model_fields.items():
            assert setting.description, f"[{section}] {name} has no description"
            assert f"| `{name}` |" in table


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_part_is_documented(kind):
    """A part of ours has a heading, and each of its own settings a line that says what it does."""
    for name in registry.describe(kind):
        thing = registry.get(kind, name)
        if not thing.__module__.startswith("pellucid."):
            continue
        section = MADE["parts.md"].split(f"\n### {name}\n")[1].split("\n### ")[0]
        for option in set(registry.options(thing)) - {"n_classes", "channels", "size"}:
            row = next((line for line in section.splitlines() if line.startswith(f"| `{option}` |")), "")
            assert row and not row.endswith("|  |"), f"{kind} {name}: the docstring says nothing about `{option}`"


def test_every_measure_and_error_is_documented():
    """What the report can print and what a call can raise stand on their pages."""
    page = PAGES["docs/reference/measures.md"]
    assert [name for name in words.MEASURES if f"`{name}`" not in page] == []
    kinds = [name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.PellucidError)]
    assert [name for name in kinds if f"| `{name}` |" not in MADE["errors.md"]] == []


def test_every_public_name_is_used_in_the_docs():
    """What `pellucid` offers is shown somewhere."""
    everything = "\n".join(PAGES.values())
    assert [name for name in pellucid.__all__ if f"pl.{name}" not in everything] == []


def test_links_resolve():
    """Every relative link leads to a file, and its anchor to a heading."""
    wrong = []
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(text)):
            if target.startswith(("http://", "https://")):
                continue
            name, _, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            if not path.exists() or (anchor and anchor not in _anchors(path.read_text(encoding="utf-8"))):
                wrong.append(f"{page}: {target}")
    assert wrong == []


def test_every_page_is_linked_from_another():
    """No page can be found by its file name alone."""
    linked = {
        ((ROOT / page).parent / target.partition("#")[0]).resolve()
        for page, text in PAGES.items()
        for target in re.findall(r"\]\(([^)\s]+\.md[^)\s]*)\)", text)
    }
    assert [page for page in PAGES if page != "README.md" and (ROOT / page).resolve() not in linked] == []


def test_command_lines_in_the_docs_are_right():
    """Commands, options and overrides that the docs show exist."""
    from pellucid.cli import app

    flags = {}
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        section = MADE["commands.md"].split(f"\n## {name}\n")[1].split("\n## ")[0]
        flags[name] = {*re.findall(r"`(--[\w-]+)`", section), "--help", "--debug"}
    lines = list(_command_lines())
    assert len(lines) > 10
    for page, line in lines:
        _, name, *rest = shlex.split(line)
        if name.startswith("-") or name == "...":
            continue
        assert name in flags, f"{page}: {line}"
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= flags[name], f"{page}: {line}"
        _check_overrides([word for word in rest if re.match(r"\w+\.\w+=", word)], f"{page}: {line}")


def _check_overrides(overrides, where):
    settings.from_overrides(overrides)
    for override in overrides:
        section, _, name = override.partition("=")[0].partition(".")
        parts = {
            option for kind in registry.KINDS for part in registry.describe(kind) for option in registry.options(registry.get(kind, part))
        }
        assert name in settings.section_fields(section) or name in parts, where


def test_experiment_files_in_the_docs_can_be_read():
    """Every TOML block with sections of an experiment file is accepted (parts are checked where the code runs)."""
    blocks = [(page, block) for page, text in PAGES.items() for kind, block in FENCE.findall(text) if kind == "toml"]
    assert len(blocks) > 5
    for page, block in blocks:
        content = tomllib.loads(block)
        if "project" not in content:
            settings.SweepSettings.model_validate(content.pop("sweep", {}))
            settings.parse(content, where=page)


def test_readme_shows_the_example():
    """The lines of Python in the README are those of examples/first_report.py, and fifteen at most."""
    (block,) = [block for kind, block in FENCE.findall(PAGES["README.md"]) if kind == "python"]
    example = (ROOT / "examples/first_report.py").read_text(encoding="utf-8")
    assert example.split('"""\n')[-1].strip() == block.strip()
    assert len([line for line in block.splitlines() if line.strip()]) <= 15


def test_readme_picture_is_there_with_words_for_those_who_do_not_see_it():
    """The picture exists, and its alt text says what it shows."""
    (words_for_it, path), *_ = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", PAGES["README.md"])
    assert len(words_for_it) > 40
    assert (ROOT / path).stat().st_size > 0


def test_pages_name_no_machine():
    """No page holds a path of somebody's machine."""
    for page, text in {**PAGES, "CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")}.items():
        assert not re.search(r"(?<![\w.])/(work|home|root|tmp|Users)/", text), page


def test_version_is_the_same_everywhere():
    """Package, project file, citation and changelog agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)[1]
    changelog = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert {project, citation, changelog} == {pellucid.__version__}


def test_tutorial_shows_the_recipe():
    """The experiment file in the first tutorial is the one that `make demo` runs."""
    shown = [block for kind, block in FENCE.findall(PAGES["docs/tutorials/first_report.md"]) if kind == "toml"]
    assert shown == [(ROOT / "recipes/phantom.toml").read_text(encoding="utf-8")]
