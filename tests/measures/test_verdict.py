"""Rules of the first screen, each at its border."""

from __future__ import annotations

import pytest

from pellucid.core.records import Measurement
from pellucid.core.settings import MeasureSettings
from pellucid.measures.verdict import judge

SETTINGS = MeasureSettings(margin=0.02)


def difference(low: float | None, high: float | None, model: str = "student - teacher") -> Measurement:
    value = None if low is None or high is None else (low + high) / 2
    return Measurement(
        "balanced_accuracy_difference", value, low, high, n_images=412, n_units=61, unit="subjects", model=model,
        reason="" if value is not None else "undefined: no image of class ring in test",
    )  # fmt: skip


def transferred(low: float, high: float, by: str = "grad_cam") -> Measurement:
    return Measurement("transferred", (low + high) / 2, low, high, n_images=400, n_units=60, unit="subjects", model="student - base", by=by)


def against_twin(low: float, high: float) -> Measurement:
    return Measurement("similarity_difference", (low + high) / 2, low, high, n_images=400, model="student - twin", by="grad_cam")


def looks(name: str, low: float, high: float) -> Measurement:
    return Measurement(f"{name}_difference", (low + high) / 2, low, high, n_images=400, model="student - teacher", by="grad_cam")


def sizes(teacher: tuple[float, float], student: tuple[float, float]) -> list[Measurement]:
    pairs = {"teacher": teacher, "student": student}
    return [
        Measurement(name, values[i], model=role) for role, values in pairs.items() for i, name in enumerate(("parameters", "latency_p50"))
    ]


@pytest.mark.parametrize(
    ("low", "high", "answer", "tone"),
    [
        (-0.019, 0.03, "yes", "good"),
        (0.01, 0.03, "yes", "good"),
        (-0.02, 0.03, "not distinguishable", "open"),  # the margin itself isn't enough
        (-0.04, 0.02, "not distinguishable", "open"),
        (-0.08, -0.01, "not distinguishable", "open"),  # surely lower, but not surely by more than the margin
        (-0.08, -0.021, "no", "bad"),
        (None, None, "not judged", "none"),
    ],
)
def test_accuracy_verdict_follows_its_rule(low, high, answer, tone):
    """Yes above minus the margin, no below it, otherwise open."""
    verdict = judge([difference(low, high)], {}, settings=SETTINGS)[0]
    assert (verdict.question, verdict.answer, verdict.tone) == ("Is it as right?", answer, tone)


def test_an_open_accuracy_verdict_says_how_much_data_it_would_take():
    """Half-width 0.03 against a margin of 0.02: 61 subjects x 2.25."""
    verdict = judge([difference(-0.04, 0.02)], {}, settings=SETTINGS)[0]
    assert verdict.figure == "-0.010 [-0.040, +0.020], n = 412 images of 61 subjects"
    assert "a margin of 0.02 would need about 138 test subjects, here are 61" in verdict.details


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.01, 0.05, "yes"), (-0.01, 0.05, "not distinguishable"), (-0.05, -0.01, "no, it hurt")]
)
def test_accuracy_verdict_says_whether_distillation_helped(low, high, words):
    """Student against base, in the details."""
    verdict = judge([difference(-0.01, 0.01), difference(low, high, "student - base")], {}, settings=SETTINGS)[0]
    assert any(detail.startswith(f"distillation helped? {words}:") for detail in verdict.details)


def test_a_leak_stands_beside_the_accuracy_too():
    """Who reads only the first card must learn that it can't be believed."""
    audit = {"findings": [{"level": "leak", "text": "12 subjects stand in train and test.", "evidence": "crossing"}], "split": "by image"}
    first, *_, last = judge([difference(-0.01, 0.01)], audit, settings=SETTINGS)
    assert any("cannot be believed" in detail for detail in first.details)
    assert (last.answer, last.tone, last.details) == ("1 leak", "bad", ("split: by image", "12 subjects stand in train and test."))


@pytest.mark.parametrize(
    ("low", "high", "answer", "tone"),
    [(0.05, 0.18, "yes, more than by itself", "good"), (-0.05, 0.18, "not distinguishable", "open"),
     (-0.2, -0.1, "no, less than by itself", "bad")],
)  # fmt: skip
def test_explanation_verdict_follows_its_rule(low, high, answer, tone):
    """Transferred above 0; whether it was kept is left open without a twin."""
    verdict = judge([transferred(low, high)], {}, settings=SETTINGS)[1]
    assert (verdict.answer, verdict.tone) == (answer, tone)
    assert "kept? not judged: no twin" in verdict.details


def test_explanation_verdict_prefers_grad_cam():
    """Both methods are there: the class method decides, wherever it stands."""
    verdict = judge([transferred(-0.2, -0.1, by="average_feature_map"), transferred(0.1, 0.2)], {}, settings=SETTINGS)[1]
    assert verdict.tone == "good" and "by grad_cam" in verdict.figure
    assert judge([transferred(-0.2, -0.1, by="average_feature_map")], {}, settings=SETTINGS)[1].tone == "bad"


def test_explanation_verdict_gives_the_reason_where_it_is_not_judged():
    """Grids too small: the card says so."""
    row = Measurement("transferred", None, model="student - base", by="grad_cam", reason="not judged: grid 3x3")
    verdict = judge([row], {}, settings=SETTINGS)[1]
    assert (verdict.answer, verdict.tone, verdict.figure) == ("not judged", "none", "not judged: grid 3x3")


def test_explanation_verdict_says_which_network_is_lacking():
    """Whether rows are of one network or of two; where all three are there, it is the measure that lacks."""
    accuracy = [Measurement("accuracy", 0.5, model=role) for role in ("teacher", "base", "student")]
    alike = Measurement("similarity", 0.5, model="student ~ teacher", by="grad_cam")
    assert judge([alike], {}, settings=SETTINGS)[1].figure == "no base to compare with"
    assert judge(accuracy[2:], {}, settings=SETTINGS)[1].figure == "no teacher and no base to compare with"
    assert judge(accuracy, {}, settings=SETTINGS)[1].figure == "transfer was not measured"


@pytest.mark.parametrize(
    ("alike", "pointing", "answer"),
    [
        ((-0.04, 0.03), (-0.04, 0.08), "yes"),
        ((-0.05, 0.03), (-0.04, 0.08), "not distinguishable"),  # the margin itself isn't enough
        ((-0.04, 0.03), (-0.06, 0.08), "not distinguishable"),  # as alike, but perhaps worse at finding the lesion
        ((-0.30, -0.06), (-0.04, 0.08), "no"),
        ((0.01, 0.03), (-0.20, -0.06), "no"),
    ],
)
def test_kept_needs_likeness_and_localisation_alike(alike, pointing, answer):
    """Both intervals above minus the margin: yes; either below it: no; the figures stand beside the answer."""
    rows = [transferred(0.1, 0.2), against_twin(*alike), looks("pointing_game", *pointing), looks("mask_fidelity_gain", -0.9, -0.8)]
    verdict = judge(rows, {}, settings=SETTINGS)[1]
    kept = verdict.details[-1]
    assert kept.startswith(f"kept? {answer}: similarity, student - twin ") and "pointing game, student - teacher " in kept
    assert "above -0.05, and so has pointing game, student minus teacher" in verdict.rule


@pytest.mark.parametrize(("there", "said"), [(("road", "mask_fidelity_gain"), "road"), (("mask_fidelity_gain",), "mask fidelity gain")])
def test_kept_rests_on_faithfulness_where_there_are_no_masks(there, said):
    """ROAD first; localisation that is undefined doesn't count; the rule says which it is and why."""
    none = Measurement("pointing_game_difference", None, model="student - teacher", by="grad_cam", reason="undefined: no masks")
    rows = [transferred(0.1, 0.2), against_twin(-0.01, 0.01), none, *(looks(name, -0.01, 0.02) for name in there)]
    verdict = judge(rows, {}, settings=SETTINGS)[1]
    assert verdict.details[-1].startswith("kept? yes: ") and f"; {said}, student - teacher +" in verdict.details[-1]
    assert f"{said} (there are no masks)" in verdict.rule


def test_kept_is_not_judged_by_halves():
    """A twin without anything that says whether the student looks as well: the reason is given."""
    verdict = judge([transferred(0.1, 0.2), against_twin(-0.01, 0.01)], {}, settings=SETTINGS)[1]
    assert verdict.details[-1] == "kept? not judged: pointing game: not measured"


def test_the_headline_is_the_transfer_gain_where_it_is_defined():
    """Which of the two it is stands before the figure; the other follows, or why there is none."""
    gain = Measurement("transfer_gain", 0.62, 0.4, 0.85, n_images=400, n_units=60, unit="subjects", model="student", by="grad_cam")
    verdict = judge([transferred(0.05, 0.18), gain, against_twin(-0.2, 0.1)], {}, settings=SETTINGS)[1]
    assert verdict.figure == "transfer gain 0.62 [0.40, 0.85] by grad_cam, n = 400 images of 60 subjects"
    assert "transferred +0.11 [+0.05, +0.18]" in verdict.details
    none = Measurement("transfer_gain", None, model="student", by="grad_cam", reason="undefined: twin - base is -0.01")
    verdict = judge([transferred(0.05, 0.18), none], {}, settings=SETTINGS)[1]
    assert verdict.figure.startswith("transferred +0.1") and "transfer gain undefined: twin - base is -0.01" in verdict.details


@pytest.mark.parametrize(
    ("teacher", "student", "answer", "tone"),
    [
        ((6.95e6, 28.0), (0.33e6, 3.1), "21x smaller, 9.0x faster", "good"),
        ((6.95e6, 28.0), (0.33e6, 56.0), "21x smaller, 2.0x slower", "open"),
        ((1e6, 10.0), (3e6, 20.0), "3.0x larger, 2.0x slower", "bad"),
    ],
)
def test_cost_verdict_gives_ratios_with_both_absolutes(teacher, student, answer, tone):
    """Small and fast are two things."""
    verdict = judge(sizes(teacher, student), {}, settings=SETTINGS)[2]
    assert (verdict.answer, verdict.tone) == (answer, tone)
    assert "M parameters" in verdict.figure and verdict.details[0].startswith("teacher ")


def test_nothing_measured_is_not_judged():
    """Four cards always, each with its reason and its rule."""
    verdicts = judge([], {}, settings=SETTINGS)
    assert [v.question for v in verdicts] == [
        "Is it as right?", "Does it look where the teacher looks?", "Is it small and fast?", "Is the data sound?"
    ]  # fmt: skip
    assert {v.answer for v in verdicts} == {"not judged"} and all(v.rule and v.figure for v in verdicts)


def test_data_verdict_counts_what_the_audit_found():
    """Warnings are open, nothing found is good, notes don't count."""
    finding = {"level": "warning", "text": "source is tied to the class.", "evidence": "associations"}
    note = {"level": "note", "text": "small classes.", "evidence": "counts"}
    warned = judge([], {"findings": [finding, finding, note], "split": "by subject"}, settings=SETTINGS)[3]
    assert (warned.answer, warned.tone, warned.details[0]) == ("2 warnings", "open", "split: by subject")
    clean = judge([], {"findings": [note]}, settings=SETTINGS)[3]
    assert (clean.answer, clean.tone) == ("nothing found", "good")


def test_rows_of_a_class_or_another_split_do_not_decide():
    """Only the figure over all test images does."""
    rows = [difference(-0.01, 0.01)]
    other = Measurement("balanced_accuracy_difference", -0.5, -0.6, -0.4, model="student - teacher", stratum="solid")
    assert judge([*rows, other], {}, settings=SETTINGS)[0].answer == "yes"


def test_where_a_network_looks_that_guesses_is_nothing_to_pass_on():
    """However like its maps the student's are."""
    recalls = [Measurement("recall", 0.3, stratum=f"class {k}") for k in range(4)]
    guessing = Measurement("balanced_accuracy", 0.26, 0.24, 0.28, model="teacher")
    verdict = judge([*recalls, guessing, transferred(0.2, 0.4)], {}, settings=MeasureSettings())[1]
    assert (verdict.answer, verdict.tone) == ("not judged", "none")
    assert verdict.figure.startswith("the teacher is not surely better than chance (0.25)")


@pytest.mark.parametrize(("high", "led_away"), [(-0.05, True), (0.05, False)])
def test_the_explanation_verdict_says_where_maps_peak(high, led_away):
    """Likeness to the teacher may rise while the student's maps leave the finding."""
    peaks = [Measurement("pointing_game", value, model=role, by="grad_cam") for role, value in (("teacher", 0.8), ("student", 0.4))]
    gap = Measurement("pointing_game_difference", -0.15, -0.25, high, model="student - base", by="grad_cam")
    said = judge([transferred(0.1, 0.2), *peaks, gap], {}, settings=MeasureSettings())[1].details[-1]
    assert said.startswith("peak on the finding (pointing game): student 0.40, teacher 0.80; student - base -0.15 [")
    assert said.endswith(": teaching led away from it") is led_away


def test_accuracy_is_not_judged_where_the_teacher_guesses():
    """A student that agrees with a teacher at chance (0.25 of four classes) has kept nothing."""
    recalls = [Measurement("recall", 0.25, model="teacher", stratum=name) for name in "abcd"]
    guessing = Measurement("balanced_accuracy", 0.26, 0.24, 0.28, model="teacher")
    verdict = judge([difference(-0.01, 0.01), guessing, *recalls], {}, settings=SETTINGS)[0]
    assert (verdict.answer, verdict.tone) == ("not judged", "none")
    assert verdict.figure == "the teacher is not surely better than chance (0.25): 0.260 [0.240, 0.280]"
