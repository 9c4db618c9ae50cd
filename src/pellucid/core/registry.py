"""Parts that can be named in an experiment file: sources, models, explainers, losses, measures.

A part is a function or class with the decorator :func:`part`, in a file of its own; the file's name is its key. Its keyword-only
arguments are its settings. Parts of other packages come in through entry points (``pellucid.losses``, ...).
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import typing
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pellucid.core.errors import SettingError, did_you_mean, nearest

KINDS = {
    "data": "pellucid.data.sources",
    "models": "pellucid.models",
    "explainers": "pellucid.explainers",
    "losses": "pellucid.distillation.losses",
    "measures": "pellucid.measures",
}
Part = TypeVar("Part")


def part(**traits: Any) -> typing.Callable[[Part], Part]:
    """Mark a function or class as the part of its file; traits say what others may want to know of it."""

    def mark(thing: Part) -> Part:
        thing.traits = traits  # type: ignore[attr-defined]
        return thing

    return mark


@lru_cache
def describe(kind: str) -> dict[str, str]:
    """Return {name: first sentence of its docstring} of all parts of a kind, without importing any of ours."""
    package = importlib.util.find_spec(KINDS[kind])
    assert package is not None and package.submodule_search_locations
    found = {}
    for path in sorted(Path(package.submodule_search_locations[0]).glob("*.py")):
        summary = _summary(path)
        if summary is not None:
            found[path.stem] = summary
    for entry in _installed(kind):
        found[entry.name] = f"from {entry.value}"
    return found


@lru_cache
def _installed(kind: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """Return other packages' parts; looking through everything that is installed takes a while."""
    return tuple(importlib.metadata.entry_points(group=f"pellucid.{kind}"))


def get(kind: str, name: str) -> Any:
    """Import and return a part.

    Raises
    ------
    SettingError
        There is none of that name; the nearest names are offered.
    """
    if name not in describe(kind):
        names = list(describe(kind))
        raise SettingError(
            f'"{name}" is none of the {kind}.{did_you_mean(name, names)} There are: {", ".join(names)}.',
            setting=name, near=nearest(name, names),
        )  # fmt: skip
    for entry in _installed(kind):
        if entry.name == name:
            return entry.load()
    module = importlib.import_module(f"{KINDS[kind]}.{name}")
    return next(value for value in vars(module).values() if _is_part(value, module.__name__))


def options(thing: Any) -> dict[str, tuple[Any, Any]]:
    """Return {setting: (type, default)} of a part, from its keyword-only arguments."""
    target = thing.__init__ if inspect.isclass(thing) else thing
    hints = typing.get_type_hints(target, include_extras=True)  # with the bounds of a number
    return {
        name: (hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def check_options(thing: Any, given: dict[str, Any], *, where: str, also: typing.Iterable[str] = ()) -> dict[str, Any]:
    """Validate settings meant for a part against its signature.

    Parameters
    ----------
    thing : the part
    given : dict
        What the experiment file says beyond the section's own settings.
    where : str
        Section name for the message, e.g. ``distill``.
    also : iterable of str
        The section's own settings, offered as near names too.

    Raises
    ------
    SettingError
        An unknown setting (nearest names offered) or a wrong type. All of them at once.
    """
    import pydantic

    known = options(thing)
    checked, problems, near, wrong = {}, [], [], []
    for name, value in given.items():
        if name not in known:
            choices = [*known, *also]
            near += nearest(name, choices)
            wrong.append(name)
            problems.append(f'[{where}]: "{name}" is no setting.{did_you_mean(name, choices)}')
            continue
        try:
            checked[name] = _as_type(known[name][0], value)
        except pydantic.ValidationError as error:
            wrong.append(name)
            problems.append(f"[{where}] {name} = {value!r}: {error.errors()[0]['msg'].lower()}.")
    if problems:
        raise SettingError(" ".join(problems), setting=wrong[0], near=near)
    return checked


def _as_type(kind: Any, value: Any) -> Any:
    import pydantic

    config = pydantic.ConfigDict(allow_inf_nan=False, strict=isinstance(value, bool))  # true would count as 1
    return pydantic.TypeAdapter(kind, config=config).validate_python(value)


def check_tables(
    kind: str, names: typing.Iterable[str], tables: typing.Mapping[str, Any], *, where: str, also: typing.Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Validate tables ``[where.PART]``, each with settings of one part.

    Parameters
    ----------
    kind : str
    names : iterable of str
        The parts asked for.
    tables : mapping of str -> dict
        What the section holds beyond its own settings.
    where : str
        Section name for the message, e.g. ``explain``.
    also : iterable of str
        The section's own settings, offered as near names too.

    Returns
    -------
    dict of str -> dict
        For each of `names` what was given, empty where nothing was.

    Raises
    ------
    SettingError
        A table is none, or of a part that doesn't exist; or as :func:`check_options`; or a part's own check refuses its numbers.
    """
    asked = list(names)
    choices, problems, near = [*asked, *also], [], []
    unknown = [name for name in tables if name not in asked and name not in describe(kind)]
    for name in unknown:
        near += nearest(name, choices)
        problems.append(f'[{where}]: "{name}" is no setting, nor one of the {kind}.{did_you_mean(name, choices)}')
    flat = [name for name, given in tables.items() if name not in unknown and not isinstance(given, dict)]
    problems += [f"[{where}] {name} = {tables[name]!r}: settings of one part stand in a table, [{where}.{name}]." for name in flat]
    if problems:
        raise SettingError(" ".join(problems), setting=[*unknown, *flat][0], near=near)
    # A table whose part isn't asked for this time is checked all the same, and has no effect.
    parts = {name: get(kind, name) for name in dict.fromkeys([*asked, *tables])}
    checked = {name: check_options(thing, tables.get(name, {}), where=f"{where}.{name}") for name, thing in parts.items()}
    for name, thing in parts.items():
        if "check" in getattr(thing, "traits", {}):
            thing.traits["check"](**{setting: default for setting, (_, default) in options(thing).items()} | checked[name])
    return {name: checked[name] for name in asked}


def check_packages(thing: Any) -> None:
    """Refuse a part whose own packages aren't installed; its traits name them (`packages`) and the extra that brings them (`extra`).

    Raises
    ------
    SettingError
        One is missing; the message holds the command that installs it.
    """
    missing = [name for name in thing.traits.get("packages", ()) if importlib.util.find_spec(name) is None]
    if missing:
        needed, extra = " and ".join(missing), thing.traits["extra"]
        raise SettingError(f"{thing.__name__} needs {needed}, which isn't installed. Run: pip install 'pellucid[{extra}]'")


def beyond_defaults(thing: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the part's defaults: what a fingerprint takes, so that a default left out or written out is the same."""
    known = options(thing)
    return {name: value for name, value in given.items() if name not in known or value != known[name][1]}


def _is_part(value: Any, module: str) -> bool:
    return "traits" in getattr(value, "__dict__", {}) and getattr(value, "__module__", "") == module


def _summary(path: Path) -> str | None:
    """Return the first docstring line of the file's part, or None where the file holds no part."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "part":
                    return (ast.get_docstring(node) or "").split("\n")[0]
    return None
