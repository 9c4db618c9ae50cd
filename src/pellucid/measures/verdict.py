"""The four answers of the report's first screen, each by a rule that is printed with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pellucid.core.numbers import basis, full, with_interval
from pellucid.core.records import ROLES, TWIN, Measurement, Verdict
from pellucid.core.settings import MeasureSettings
from pellucid.stats.paired import needed_units

Found = dict[tuple[str, str, str], Measurement]
KEPT = 0.05
# What says that the student looks as well as its teacher: localisation where there are masks, else how far the network uses what its map shows.
LOOKS = ("pointing_game_difference", "road_difference", "mask_fidelity_gain_difference")


def judge(measurements: Iterable[Measurement], audit: dict[str, Any], *, settings: MeasureSettings) -> list[Verdict]:
    """Answer the four questions a reader has before using the small network.

    Parameters
    ----------
    measurements : iterable of Measurement
    audit : dict
        The audit's JSON; ``{}`` where none was made.
    settings : MeasureSettings
        ``margin`` decides when accuracy counts as kept.

    Returns
    -------
    list of four Verdict
        Accuracy, explanation, cost, data.
    """
    measurements = list(measurements)
    found = {(m.name, m.model, m.by): m for m in measurements if m.stratum == "all" and m.split == "test"}
    n_classes = len({m.stratum for m in measurements if m.name == "recall"})
    leaks = [finding["text"] for finding in audit.get("findings", []) if finding["level"] == "leak"]
    return [_accuracy(found, leaks, settings.margin, n_classes), _explanation(found, n_classes), _cost(found), _data(audit, leaks)]


def _accuracy(found: Found, leaks: list[str], margin: float, n_classes: int) -> Verdict:
    question, evidence = "Is it as right?", "accuracy"
    rule = (
        f"yes: the lower end of the paired 95 % interval of student minus teacher balanced accuracy lies above -{margin:g}; "
        f"no: the upper end lies below -{margin:g}; not judged where the teacher is not surely better than chance"
    )
    difference = found.get(("balanced_accuracy_difference", "student - teacher", ""))
    if difference is None or difference.value is None or difference.low is None or difference.high is None:
        why = "no student and teacher to compare" if difference is None else difference.reason or "undefined"
        return Verdict(question, "not judged", "none", why, (), rule, evidence)
    details = [_side_by_side(found), _helped(found)]
    if why := _by_chance(found, n_classes):
        # Two networks that guess agree perfectly; that is nothing to report as "kept".
        return Verdict(question, "not judged", "none", why, tuple(filter(None, details)), rule, evidence)
    if difference.low > -margin:
        answer, tone = "yes", "good"
    elif difference.high < -margin:
        answer, tone = "no", "bad"
    else:
        answer, tone = "not distinguishable", "open"
        half = (difference.high - difference.low) / 2
        wanted = needed_units(difference.n_units, half, margin)
        details.append(f"a margin of {margin:g} would need about {wanted:,} test {difference.unit}, here are {difference.n_units:,}")
    if leaks:
        details.append("the audit found a leak: these figures cannot be believed")
    figure = full(difference)
    return Verdict(question, answer, tone, figure, tuple(filter(None, details)), rule, evidence)  # type: ignore[arg-type]


def _by_chance(found: Found, n_classes: int) -> str:
    """Say that the teacher may be guessing, or nothing."""
    teacher = found.get(("balanced_accuracy", "teacher", ""))
    if not n_classes or teacher is None or (teacher.low or 0.0) > 1 / n_classes:
        return ""
    return f"the teacher is not surely better than chance ({1 / n_classes:.2f}): {with_interval(teacher)}"


def _side_by_side(found: Found) -> str:
    named = [(role, found.get(("balanced_accuracy", role, ""))) for role in ("student", "base", "teacher")]
    return "balanced accuracy: " + ", ".join(f"{role} {m.value:.3f}" for role, m in named if m is not None and m.value is not None)


def _helped(found: Found) -> str:
    """Say whether the student is better than the same network without a teacher."""
    m = found.get(("balanced_accuracy_difference", "student - base", ""))
    if m is None:
        return "distillation helped? not judged: no base"
    if m.value is None or m.low is None or m.high is None:
        return f"distillation helped? not judged: {m.reason or 'undefined'}"
    answer = "yes" if m.low > 0 else "no, it hurt" if m.high < 0 else "not distinguishable"
    return f"distillation helped? {answer}: {with_interval(m)}"


def _explanation(found: Found, n_classes: int) -> Verdict:
    question, evidence = "Does it look where the teacher looks?", "maps"
    methods = [by for name, _, by in found if name == "transferred"]
    method = "grad_cam" if "grad_cam" in methods else next(iter(methods), "")
    rule = _explanation_rule(found, _looks(found, method))
    if not methods:
        there = {part for _, model, _ in found for part in model.replace(" ~ ", " - ").split(" - ")}
        lacking = [f"no {role}" for role in ROLES if role not in there]
        why = f"{' and '.join(lacking)} to compare with" if lacking else "transfer was not measured"
        return Verdict(question, "not judged", "none", why, (), rule, evidence)
    m = found["transferred", "student - base", method]
    gain = found.get(("transfer_gain", "student", method))
    of_gain = gain is not None and gain.value is not None
    details = (
        *((f"transferred {with_interval(m)}",) if of_gain else ()),
        *((f"transfer gain {with_interval(gain)}",) if gain is not None and not of_gain else ()),
        _kept(found, method),
        *_on_the_finding(found, method),
    )
    if why := _by_chance(found, n_classes):  # where a network that guesses looks is nothing to pass on
        return Verdict(question, "not judged", "none", why, details, rule, evidence)
    if m.value is None or m.low is None or m.high is None:
        if m.value is not None:
            details = (_similarities(found, method), *details)
        return Verdict(question, "not judged", "none", m.reason or "undefined", details, rule, evidence)
    headline, name = (gain, "transfer gain") if gain is not None and of_gain else (m, "transferred")
    figure = f"{name} {with_interval(headline)} by {method}, {basis(headline.n_images, headline.n_units, headline.unit)}"
    details = (_similarities(found, method), *details)
    if m.low > 0:
        return Verdict(question, "yes, more than by itself", "good", figure, details, rule, evidence)
    if m.high < 0:
        return Verdict(question, "no, less than by itself", "bad", figure, details, rule, evidence)
    return Verdict(question, "not distinguishable", "open", figure, details, rule, evidence)


def _explanation_rule(found: Found, looks: str) -> str:
    """Return the rule in words, what a twin decides only where there is one."""
    rule = (
        "yes: the 95 % interval of transferred = similarity(student, teacher) - similarity(base, teacher) lies above 0; no: below 0; "
        "not judged where the teacher is not surely better than chance"
    )
    if not any(model == f"student - {TWIN}" for _, model, _ in found):
        return rule
    instead = "" if looks == LOOKS[0] else " (there are no masks)"
    return (
        f"{rule}. Transfer gain = transferred / (similarity(twin, teacher) - similarity(base, teacher)), where that is surely above 0. "
        f"Kept, yes: similarity(student, teacher) - similarity(twin, teacher) has its lower end above -{KEPT:g}, and so has "
        f"{_short(looks)}{instead}, student minus teacher; no: either has its upper end below -{KEPT:g}. A twin is a second teacher of another seed"
    )


def _on_the_finding(found: Found, method: str) -> tuple[str, ...]:
    """Say how often each network's map peaks on the finding, which likeness to the teacher doesn't tell; nothing without masks."""
    named = [(role, found.get(("pointing_game", role, method))) for role in ("student", "base", "teacher")]
    there = ", ".join(f"{role} {m.value:.2f}" for role, m in named if m is not None and m.value is not None)
    gap = found.get(("pointing_game_difference", "student - base", method))
    taught = f"; student - base {with_interval(gap)}" if gap is not None and gap.value is not None else ""
    if gap is not None and gap.high is not None and gap.high < 0:
        taught += ": teaching led away from it"
    return (f"peak on the finding (pointing game): {there}{taught}",) if there else ()


def _kept(found: Found, method: str) -> str:
    """Say whether the student's maps are as like the teacher's as a second teacher's are, and look as well."""
    alike = found.get(("similarity_difference", f"student - {TWIN}", method))
    if alike is None:
        return "kept? not judged: no twin"
    name = _looks(found, method)
    looks = found.get((name, "student - teacher", method))
    for m, what in ((alike, "similarity"), (looks, _short(name))):
        if m is None or m.value is None or m.low is None or m.high is None:
            return f"kept? not judged: {what}: {'not measured' if m is None else m.reason or 'undefined'}"
    both = [m for m in (alike, looks) if m is not None]
    answer = (
        "yes"
        if all((m.low or 0.0) > -KEPT for m in both)
        else "no"
        if any((m.high or 0.0) < -KEPT for m in both)
        else "not distinguishable"
    )
    said = f"similarity, student - twin {with_interval(both[0])}; {_short(name)}, student - teacher {with_interval(both[1])}"
    return f"kept? {answer}: {said}"


def _looks(found: Found, method: str) -> str:
    """Return which difference stands for "looks as well as the teacher": of localisation where there are masks, else of faithfulness."""
    there = {name for (name, model, by), m in found.items() if (model, by) == ("student - teacher", method) and m.value is not None}
    return next((name for name in LOOKS if name in there), LOOKS[0])


def _short(difference: str) -> str:
    return difference.removesuffix("_difference").replace("_", " ")


def _similarities(found: Found, method: str) -> str:
    named = [(name, found.get(("similarity", f"{name} ~ teacher", method))) for name in ("student", "base", TWIN, "shuffled", "centre")]
    return "similarity to the teacher: " + ", ".join(f"{name} {m.value:.2f}" for name, m in named if m is not None and m.value is not None)


def _cost(found: Found) -> Verdict:
    question, evidence = "Is it small and fast?", "cost"
    rule = "parameters, and median latency at batch 1, of teacher and student, timed in turns in one run"
    keys = [(name, role, "") for role in ("teacher", "student") for name in ("parameters", "latency_p50")]
    values = [found[key].value for key in keys if key in found]
    if len(values) < len(keys) or not all(values):
        return Verdict(question, "not judged", "none", "cost of teacher and student wasn't measured", (), rule, evidence)
    large, slow, small, fast = (float(value) for value in values if value is not None)
    answer = f"{_times(large / small, 'smaller', 'larger')}, {_times(slow / fast, 'faster', 'slower')}"
    gains = (large > small) + (slow > fast)
    tone = ("bad", "open", "good")[gains]
    details = (f"teacher {large / 1e6:.2f} M parameters, {_milliseconds(slow)}",)
    figure = f"{small / 1e6:.2f} M parameters, {_milliseconds(fast)}"
    return Verdict(question, answer, tone, figure, details, rule, evidence)  # type: ignore[arg-type]


def _times(ratio: float, more: str, less: str) -> str:
    word = more if ratio >= 1 else less
    ratio = max(ratio, 1 / ratio)
    return f"{ratio:.0f}x {word}" if ratio >= 9.95 else f"{ratio:.1f}x {word}"


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 9.95 else f"{value:.2g} ms"


def _data(audit: dict[str, Any], leaks: list[str]) -> Verdict:
    question, evidence = "Is the data sound?", "data"
    rule = "leak: subjects, groups or duplicates on both sides of the split; warning: anything else that may flatter the figures"
    if not audit:
        return Verdict(question, "not judged", "none", "no audit was made", (), rule, evidence)
    warnings = [finding["text"] for finding in audit.get("findings", []) if finding["level"] == "warning"]
    details = tuple((leaks + warnings)[:2])
    counts = [_count(leaks, "leak"), _count(warnings, "warning")]
    answer = ", ".join(filter(None, counts)) or "nothing found"
    tone = "bad" if leaks else "open" if warnings else "good"
    split = audit.get("split", "")
    return Verdict(question, answer, tone, "", (*((f"split: {split}",) if split else ()), *details), rule, evidence)  # type: ignore[arg-type]


def _count(texts: list[str], word: str) -> str:
    return f"{len(texts)} {word}{'s' if len(texts) > 1 else ''}" if texts else ""
