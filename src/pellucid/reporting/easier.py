"""Is the student easier to explain than its teacher? Fidelity, time and localisation, answered method by method from intervals, unless both maps miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pellucid.core import numbers
from pellucid.core.records import Measurement, RunRecord
from pellucid.reporting import words
from pellucid.reporting.figures import charts
from pellucid.reporting.sections import Panel, common_basis, of_maps, with_remarks

TONES = {"easier": "good", "harder": "bad", "not distinguishable": "open", "not judged": "none"}


@dataclass(frozen=True)
class Aspect:
    """One way in which a network can be easier to explain.

    Attributes
    ----------
    name : str
        What the page calls it.
    measures : tuple of (str, str)
        Name and model of the comparisons that decide (of `words.EASIER`), all oriented so that more is easier.
    neutral : float
        Where teacher and student are alike: 0 for a difference, 1 for a ratio.
    title, reading : str
        Of its panel.
    """

    name: str
    measures: tuple[tuple[str, str], ...]
    neutral: float
    title: str
    reading: str


@dataclass(frozen=True)
class Answer:
    """What the intervals of one aspect say: methods of the same answer stand together."""

    answer: str
    tone: str
    text: str


@dataclass(frozen=True)
class Answered:
    """An aspect with its answers, and its panel where anything was measured."""

    name: str
    answers: list[Answer]
    panel: Panel | None


ASPECTS = (
    Aspect(
        "Fidelity", words.EASIER[:1], 0.0, "Fidelity beyond a random map's, student - teacher",
        "Each network sees the image with all but the hottest 20 % of its own map blurred; what a random map of 20 % keeps of its answer is taken off, "
        "since some networks bear blurring better than others. Right of the line, at 0, the student's map shows more of what it uses.",
    ),
    Aspect(
        "Time", words.EASIER[1:2], 1.0, "Time for one map, teacher / student",
        "How many times as long a map of the teacher takes as one of the student, on the same images in turns. At the line, at 1, both take "
        "equally long; right of it the student is faster.",
    ),
    Aspect(
        "Localisation", words.EASIER[2:], 0.0, "On the finding, student - teacher",
        "Pointing game: how often the hottest place lies on the finding. Overlap: how much of the finding the hottest places, as many as it is "
        "large, cover. Right of the line, at 0, the student's maps lie on the finding more than the teacher's.",
    ),
)  # fmt: skip


def easier(record: RunRecord) -> list[Answered]:
    """Return each aspect's answers and panel; nothing for a run without a teacher, a student and maps to compare."""
    found = of_maps(record)
    compared = {e.model for e in record.cases.explanations}
    if not {"teacher", "student"} <= compared:
        return []
    return [_answered(record, aspect, found) for aspect in ASPECTS]


def verdict(found: Measurement, neutral: float) -> str:
    """Return ``easier``, ``harder``, ``not distinguishable`` or ``not judged`` from a figure's interval alone.

    Parameters
    ----------
    found : Measurement
        Oriented so that more is easier.
    neutral : float
        The value at which teacher and student are alike.
    """
    if found.value is None or found.low is None or found.high is None:
        return "not judged"
    return "easier" if found.low > neutral else "harder" if found.high < neutral else "not distinguishable"


def unbeaten(compared: Measurement, measured: Sequence[Measurement]) -> str:
    """Return the control that neither network's map is surely better than; nothing where one is, or where that can't be told.

    Parameters
    ----------
    compared : Measurement
        Sets the student's fidelity or localisation against the teacher's. The first is beyond a random map's already, the second is set
        against the middle of the image, where findings often lie.
    measured : sequence of Measurement
        What was measured of maps, over all images.

    Returns
    -------
    str
        ``a random map``, ``the middle of the image``, or nothing: also where a network's figure has no interval, whose reason then stands.
    """
    gain = compared.name.startswith("mask_fidelity_gain")
    sought = (compared.name.removesuffix("_difference"), compared.by) if gain else (compared.name, f"{compared.by} - centre_prior")
    each = [m for m in measured if (m.name, m.by) == sought and m.model in ("teacher", "student")]
    if len(each) < 2 or any(m.low is None or m.low > 0 for m in each):
        return ""
    return "a random map" if gain else "the middle of the image"


def _answered(record: RunRecord, aspect: Aspect, measured: Sequence[Measurement]) -> Answered:
    found = [m for m in measured if (m.name, m.model) in aspect.measures]
    methods = [_unless_both_miss(m, measured) for m in found if m.by not in words.CONTROLS]
    if not methods:
        return Answered(aspect.name, [_answer("not judged", _why_absent(record, aspect))], None)
    several = len({m.name for m in methods}) > 1
    answers = [
        replace(a, text=f"{words.measure_name(name)}: {a.text[0].lower()}{a.text[1:]}") if several else a
        for name in dict.fromkeys(m.name for m in methods)
        for a in _answers([m for m in methods if m.name == name], aspect.neutral)
    ]
    return Answered(aspect.name, answers, _panel(aspect, found))


def _unless_both_miss(m: Measurement, measured: Sequence[Measurement]) -> Measurement:
    control = unbeaten(m, measured)
    reason = f"not judged: neither network's map is surely better than {control}"
    return replace(m, value=None, low=None, high=None, reason=reason) if control else m


def _answers(methods: Sequence[Measurement], neutral: float) -> list[Answer]:
    """Return what the intervals of one measure say, good news first; methods of the same answer and reason stand together."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for m in methods:
        said = verdict(m, neutral)
        groups.setdefault((said, _why_not(m) if said == "not judged" else ""), []).append(m)
    ordered = sorted(groups.items(), key=lambda item: list(TONES).index(item[0][0]))
    return [_answer(said, _with(said, those, methods) + (f": {why}" if why else "")) for (said, why), those in ordered]


def _answer(said: str, rest: str) -> Answer:
    return Answer(said, TONES[said], f"{said.capitalize()}{'' if rest.startswith(':') else ' '}{rest}".strip())


def _with(said: str, those: Sequence[Measurement], of: Sequence[Measurement]) -> str:
    if len(of) == 1:
        return ""
    if len(those) == len(of):
        return "with any method" if said.startswith("not ") else "with every method"
    return "with " + ", ".join(words.method_name(m.by) for m in those)


def _why_not(m: Measurement) -> str:
    if m.value is not None:
        said = m.reason.split(";")[0].strip()
        return said if said.startswith("no interval") else "no interval"
    return numbers.undefined(m).removeprefix("not judged").removeprefix("undefined").lstrip(": ")


def _why_absent(record: RunRecord, aspect: Aspect) -> str:
    masks = record.cases.masks
    if aspect.name == "Localisation" and (masks is None or not masks.any()):
        return ": the images have no masks that say where the finding is"
    return ": not measured in this run"


def _panel(aspect: Aspect, found: Sequence[Measurement]) -> Panel:
    places = numbers.decimals(found)
    names = list(dict.fromkeys(m.name for m in found))
    rows: list[charts.Dot | str] = []
    for name in names:
        if len(names) > 1:
            rows.append(words.measure_name(name))
        rows += [_dot(m, places) for m in sorted(found, key=lambda m: m.by in words.CONTROLS) if m.name == name]
    chart = charts.dots(rows, title=aspect.title, lines=[(aspect.neutral, "")])
    panel = with_remarks(Panel(aspect.title, chart, aspect.reading), found)
    return replace(panel, notes=[common_basis(found)])  # why a figure is undefined stands in its answer


def _dot(m: Measurement, places: int) -> charts.Dot:
    role = "other" if m.by in words.CONTROLS else "student"
    return charts.Dot(words.method_name(m.by), role, m.value, m.low, m.high, numbers.with_interval(m, places).split(":")[0])
