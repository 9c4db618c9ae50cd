"""Write the reference pages that follow from the code: settings, commands, parts, errors.

    python docs/make_reference.py

A test holds the committed pages equal to what this makes, so a setting or part can't be added without its page.
"""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic_core import PydanticUndefined

from pellucid.core import errors, registry
from pellucid.core.settings import Settings, SweepSettings

PAGES = Path(__file__).parent / "reference"
MADE = "<!-- Made by `python docs/make_reference.py`. Change the code's own words instead. -->"
SIGNS = {Gt: ">", Ge: ">=", Lt: "<", Le: "<="}
FOR_THE_DATA = {"n_classes", "channels", "size"}  # a model's arguments that follow from the images


def pages() -> dict[str, str]:
    """Return {file name: text} of all generated pages."""
    return {"settings.md": settings_page(), "commands.md": commands_page(), "parts.md": parts_page(), "errors.md": errors_page()}


def settings_page() -> str:
    """Return the table of every section."""
    lines = [
        MADE, "# Settings", "",
        "An experiment file is TOML with these sections. Every setting has a default, so a file may be short.",
        "Unknown settings are errors, and the nearest names are offered. `pellucid init` writes a file with all of them explained.", "",
        "Any setting can be changed on the command line: `pellucid run experiment.toml student.epochs=20 distill.alpha=0.7`.", "",
        "A section that names a part (a source, a model, a loss, an explainer) also takes that part's own settings.",
        "Those stand on the page of [parts](parts.md).", "",
    ]  # fmt: skip
    sections: dict[str, Any] = {section: field.annotation for section, field in Settings.model_fields.items()}
    for section, model in {**sections, "sweep": SweepSettings}.items():
        lines += [f"## [{section}]", "", (model.__doc__ or "").splitlines()[0], "", "| setting | values | default | what it does |"]
        lines += ["|---|---|---|---|"]
        for name, setting in model.model_fields.items():
            values = _values(setting.annotation, setting.metadata)
            lines.append(f"| `{name}` | {values} | {_default(setting.default)} | {_cell(setting.description or '')} |")
        lines.append("")
    return "\n".join(lines)


def commands_page() -> str:
    """Return arguments and options of every command."""
    from pellucid.cli import app

    lines = [
        MADE, "# Commands", "",
        "Exit codes: 0 done; 1 a mistake of ours (or, with `audit --strict`, a leak); 2 a mistake in the arguments, settings or data;",
        "130 stopped with Ctrl-C. Errors are one line on stderr; `--debug` shows the traceback. Results go to stdout, progress to stderr.",
        "",
    ]  # fmt: skip
    for command in app.registered_commands:
        callback = typing.cast(Any, command.callback)
        name = command.name or callback.__name__
        words = " ".join((inspect.getdoc(callback) or "").split())
        lines += [f"## {name}", "", words, "", "| argument or option | values | default | what it is |", "|---|---|---|---|"]
        hints = typing.get_type_hints(callback, include_extras=True)
        for argument, parameter in inspect.signature(callback).parameters.items():
            kind, about = _annotated(hints[argument])
            flag = "--" + argument.replace("_", "-") if type(about).__name__ == "OptionInfo" else about.metavar or argument.upper()
            # Typer takes the first name given inside Annotated for the default and sorts it out later.
            given = [text for text in (about.default, *(about.param_decls or ())) if isinstance(text, str)]
            shown = next((text for text in given if text.startswith("--")), flag)
            default = "" if parameter.default is inspect.Parameter.empty else _default(parameter.default)
            lines.append(f"| `{shown}` | {_values(kind, ())} | {default} | {_cell(about.help or '')} |")
        lines.append("")
    return "\n".join(lines)


def parts_page() -> str:
    """Return every part that an experiment file can name, with its settings and its own words."""
    titles = {
        "data": ("Sources", "The source is found by what `data.source` names: a folder, a file's ending, or a generator. Settings go into `[data]`."),
        "models": ("Models", "Named in `teacher.model` and `student.model`; settings go into the same section. Besides these: any timm model."),
        "losses": ("Losses", "Named in `distill.loss`; settings go into `[distill]`."),
        "explainers": ("Explainers", "Named in `explain.methods`; settings of one method go into `[explain.METHOD]`."),
        "measures": ("Measures", "Named in `measure.measures`; settings of one measure go into `[measure.MEASURE]`. What each figure means stands on the page of [measures](measures.md)."),
    }  # fmt: skip
    lines = [MADE, "# Parts", "", "`pellucid list` prints this list on your machine, with the parts that other packages add.", ""]
    for kind, (title, words) in titles.items():
        lines += [f"## {title}", "", words, ""]
        for name in registry.describe(kind):
            thing = registry.get(kind, name)
            if thing.__module__.startswith("pellucid."):  # a page for everyone shows no other package's parts
                lines += [f"### {name}", "", *_part(kind, thing), ""]
    return "\n".join(lines)


def errors_page() -> str:
    """Return the tree of errors with what each carries."""
    tree = (inspect.getdoc(errors) or "\n\n").split("\n\n")[1]
    lines = [
        MADE, "# Errors", "",
        "Everything a user can mend is a `PellucidError`: one line that says what, where and what to do. On the command line it ends with",
        "exit code 2, from Python it is raised. What a program needs stands in the attributes.", "",
        "```text", inspect.cleandoc(tree), "```", "", "| error | when | attributes |", "|---|---|---|",
    ]  # fmt: skip
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.PellucidError):
            initial = kind.__init__
            own = [key for key in inspect.signature(initial).parameters if key not in ("self", "message", "args", "kwargs")]
            lines.append(f"| `{name}` | {_cell(' '.join((kind.__doc__ or '').split()))} | {', '.join(f'`.{key}`' for key in own)} |")
    return "\n".join(lines) + "\n"


def _part(kind: str, thing: Any) -> list[str]:
    summary, sections = _docstring(thing)
    lines = [summary, ""]
    if thing.traits.get("needs"):
        lines += [f"Needs: {', '.join(thing.traits['needs'])}.", ""]
    if kind == "explainers":
        sign = (
            "Signed: positive speaks for the class." if thing.traits.get("signed") else "Without a class: the same map whatever is asked."
        )
        lines += [sign, ""]
    known = {name: option for name, option in registry.options(thing).items() if not (kind == "models" and name in FOR_THE_DATA)}
    if known:
        words = _described(sections.get("Parameters", ""))
        lines += ["| setting | values | default | what it does |", "|---|---|---|---|"]
        for name, (values, default) in known.items():
            shown = "needed" if default is inspect.Parameter.empty else _default(default)
            lines.append(f"| `{name}` | {_values(values, ())} | {shown} | {_cell(words.get(name, ''))} |")
        lines.append("")
    if kind == "measures" and "Returns" in sections:
        lines += [f"Gives: {_prose(sections['Returns'].split(chr(10), 1)[1])}", ""]
    if "Source" in sections:
        lines += [f"Source: {_prose(sections['Source'])}", ""]
    return lines[:-1]


def _docstring(thing: Any) -> tuple[str, dict[str, str]]:
    """Return a NumPy docstring's words before the first section, and its sections."""
    pieces = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    return _prose(pieces[0]), {name: text.strip() for name, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def _described(parameters: str) -> dict[str, str]:
    """Return {name: words} of a docstring's section of parameters."""
    found = {}
    for block in re.split(r"\n(?=\S)", parameters):
        head, _, words = block.partition("\n")
        for name in head.partition(":")[0].split(","):
            found[name.strip()] = " ".join(words.split())
    return found


def _prose(text: str) -> str:
    """Join wrapped lines, keep paragraphs; double backticks become Markdown's single ones."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", "\n\n".join(paragraphs)).replace("``", "`")


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _annotated(hint: Any) -> tuple[Any, Any]:
    kind, about = typing.get_args(hint)[:2]
    return kind, about


def _values(kind: Any, limits: Any) -> str:
    """Say in words which values a setting takes."""
    if typing.get_origin(kind) is typing.Annotated:
        kind, field = typing.get_args(kind)
        limits = field.metadata
    bounds = [f"{sign} {getattr(limit, name):g}" for limit in limits for one, sign in SIGNS.items() if isinstance(limit, one)
              for name in (one.__name__.lower(),)]  # fmt: skip
    return f"{_kind(kind)} {', '.join(bounds)}".strip()


def _kind(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (UnionType, typing.Union):
        return " or ".join(_kind(one) for one in inner if one is not NoneType)
    if origin in (list, tuple):
        named = [one for one in inner if one is not ...]
        many = {str: "texts", int: "whole numbers", float: "numbers", Path: "paths"}
        return "two numbers" if origin is tuple else f"list of {many.get(named[0], _kind(named[0]))}"
    names = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", Path: "path"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, list | tuple):
        return "`[" + ", ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in value) + "]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
        print(PAGES / name)
