"""All errors a user can meet, as one tree.

    PellucidError                 the user's to mend: one line, exit code 2
    +-- SettingError              a setting is unknown, has the wrong type or contradicts another
    +-- DataError
    |   +-- SourceError           no such source, an empty one, a bad manifest
    |   +-- UnreadableError       images that can't be decoded (all of them listed)
    |   +-- SplitError            a split that can't be made, or that parts a subject
    +-- ModelError
    |   +-- WeightsError          weights that can't be had or don't fit
    |   +-- TapError              a network has no such tap
    |   +-- TargetError           a class to explain that isn't there
    +-- TrainingError
    |   +-- GuardError            a part of the loss teaches the student nothing
    |   +-- DivergedError         the loss became NaN or infinite
    +-- RunError                  a run folder that can't be used so
    +-- StorageError              the disk is full or can't be written

The message says what, where and what to do. What a program needs stands in the attributes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class PellucidError(Exception):
    """A mistake that the person at the keyboard can mend."""


class SettingError(PellucidError):
    """A setting is unknown, has the wrong type or contradicts another."""

    def __init__(self, message: str, *, setting: str = "", near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.setting = setting
        self.near = tuple(near)


class DataError(PellucidError):
    """Something is wrong with the images or their table."""


class SourceError(DataError):
    """There is no such source, or it is empty, or its table is malformed."""


class UnreadableError(DataError):
    """Some images can't be decoded; `.files` maps each of them to the reason."""

    def __init__(self, message: str, *, files: dict[str, str]) -> None:
        super().__init__(message)
        self.files = files


class SplitError(DataError):
    """The split can't be made, or it parts a subject or group; `.units` names them."""

    def __init__(self, message: str, *, units: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.units = tuple(units)


class ModelError(PellucidError):
    """A network can't be built or used as asked."""

    def __init__(self, message: str, *, near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.near = tuple(near)


class WeightsError(ModelError):
    """Weights can't be had, can't be read or don't fit the network."""


class TapError(ModelError):
    """The network has no such tap, or the tap has no spatial grid."""


class TargetError(ModelError):
    """A class to explain lies outside the network's classes, or there isn't one per image."""


class TrainingError(PellucidError):
    """Training can't go on."""


class GuardError(TrainingError):
    """A part of the loss sends no usable gradient into the student; `.part` names it."""

    def __init__(self, message: str, *, part: str) -> None:
        super().__init__(message)
        self.part = part


class DivergedError(TrainingError):
    """The loss is no longer finite; the last good state is kept."""


class RunError(PellucidError):
    """A run folder can't be used as asked."""


class StorageError(PellucidError):
    """A file can't be written: the disk is full, or the folder read-only."""


def nearest(name: str, choices: Iterable[str], *, count: int = 3) -> list[str]:
    """Return the choices a typo most likely meant, best first (perhaps none)."""
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.6)
    return [lowered[match] for match in found]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean "x" or "y"?`` (with the leading space), or nothing."""
    quoted = [f'"{choice}"' for choice in nearest(name, choices)]
    return f" Did you mean {' or '.join(quoted)}?" if quoted else ""


def listing(items: Sequence[str], *, show: int = 5) -> str:
    """Join the first few items and say how many more there are."""
    more = len(items) - show
    return ", ".join(items[:show]) + (f", and {more:,} more" if more > 0 else "")
