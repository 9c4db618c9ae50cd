"""Easier, harder, not distinguishable or not judged: said from intervals alone, method by method."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pellucid.core.records import Measurement
from pellucid.reporting import words
from pellucid.reporting.easier import ASPECTS, easier, verdict


def _answers(record, name):
    return [(a.answer, a.text) for aspect in easier(record) if aspect.name == name for a in aspect.answers]


@pytest.mark.parametrize(
    ("low", "high", "neutral", "said"),
    [
        (0.01, 0.08, 0.0, "easier"),
        (-0.08, -0.01, 0.0, "harder"),
        (-0.01, 0.08, 0.0, "not distinguishable"),
        (0.0, 0.08, 0.0, "not distinguishable"),
        (0.9, 1.2, 1.0, "not distinguishable"),
        (1.1, 1.2, 1.0, "easier"),
        (0.2, 0.9, 1.0, "harder"),
        (None, None, 0.0, "not judged"),
    ],
)
def test_the_interval_decides(low, high, neutral, said):
    """An answer is given only where the whole interval lies on one side of the line, which a ratio has at 1."""
    assert verdict(Measurement("x_difference", 0.05, low, high), neutral) == said


def test_answers_go_by_method_good_news_first(transparent):
    """Each method has its own answer; what can't be judged has its reason."""
    assert _answers(transparent, "Fidelity") == [
        ("easier", "Easier with GradientSHAP"),
        ("harder", "Harder with Grad-CAM"),
        ("not distinguishable", "Not distinguishable with Average feature map"),
        ("not judged", "Not judged with KernelSHAP: every map of the student is dead"),
    ]
    assert _answers(transparent, "Time") == [("easier", "Easier with every method")]


def test_a_figure_without_an_interval_is_not_judged_and_says_why(transparent):
    """With two or three subjects there may be no interval; the reason is the measurement's own."""
    few = [
        replace(m, low=None, high=None, reason="no interval: the resamples don't differ; Wilcoxon on subjects")
        if (m.name, m.model) == ("met_ratio", "teacher / student")
        else m
        for m in transparent.measurements
    ]
    said = _answers(replace(transparent, measurements=few), "Time")
    assert said == [("not judged", "Not judged with any method: no interval: the resamples don't differ")]


def test_localisation_answers_each_of_its_measures(transparent):
    """Hottest place and overlap can disagree, so each is named."""
    shifted = [replace(m, low=0.005) if (m.name, m.by) == ("iou_difference", "grad_cam") else m for m in transparent.measurements]
    said = [text for _, text in _answers(replace(transparent, measurements=shifted), "Localisation")]
    assert said == [
        "Pointing game: not distinguishable with any method",
        "Overlap at equal area: easier with Grad-CAM",
        "Overlap at equal area: not distinguishable with Average feature map, GradientSHAP, KernelSHAP",
    ]


def test_maps_no_better_than_chance_make_no_network_easier(transparent):
    """The student's maps hit more often than the teacher's, yet neither more often than the middle of the image: that is no answer."""

    def against_middle(teacher, student):
        ends = {"teacher": (-0.3, teacher), "student": (-0.2, student)}
        return [
            Measurement("pointing_game_difference", (low + high) / 2, low, high, model=role, by="grad_cam - centre_prior")
            for role, (low, high) in ends.items()
        ]

    better = [replace(m, low=0.01) if (m.name, m.by) == ("pointing_game_difference", "grad_cam") else m for m in transparent.measurements]

    def said(extra):
        return _answers(replace(transparent, measurements=[*better, *extra]), "Localisation")

    assert ("easier", "Pointing game: easier with Grad-CAM") in said([])
    assert (
        "not judged",
        "Pointing game: not judged with Grad-CAM: neither network's map is surely better than the middle of the image",
    ) in said(against_middle(-0.1, 0.05))
    surely = [replace(m, low=0.02, high=0.2) if m.model == "student" else m for m in against_middle(-0.1, 0.2)]
    assert ("easier", "Pointing game: easier with Grad-CAM") in said(surely)


def test_fidelity_of_maps_no_better_than_random_ones_is_not_judged(transparent):
    gains = [Measurement("mask_fidelity_gain", -0.01, -0.03, 0.01, model=role, by="gradient_shap") for role in ("teacher", "student")]
    kept = [m for m in transparent.measurements if (m.name, m.by) != ("mask_fidelity_gain", "gradient_shap")]
    said = _answers(replace(transparent, measurements=[*kept, *gains]), "Fidelity")
    assert ("not judged", "Not judged with GradientSHAP: neither network's map is surely better than a random map") in said and not any(
        answer == "easier" for answer, _ in said
    )


def test_maps_that_cannot_be_judged_keep_their_own_reason(transparent):
    """Dead maps have no fidelity at all, which is another reason than one that is too low."""
    dead = [
        Measurement("mask_fidelity_gain", None, model=role, by="kernel_shap", reason="not judged: dead") for role in ("teacher", "student")
    ]
    said = _answers(replace(transparent, measurements=[*transparent.measurements, *dead]), "Fidelity")
    assert ("not judged", "Not judged with KernelSHAP: every map of the student is dead") in said


def test_controls_are_drawn_but_answer_nothing(transparent):
    """A control that differs between the networks says nothing about the methods."""
    control = Measurement("mask_fidelity_gain_difference", 0.3, 0.2, 0.4, model="student - teacher", by="random_smooth")
    (fidelity, *_) = easier(replace(transparent, measurements=[*transparent.measurements, control]))
    assert not any("Control" in a.text for a in fidelity.answers)
    assert "Control: a random map" in fidelity.panel.chart


def test_without_masks_localisation_says_why(transparent):
    """No masks is a reason, and another one than not having measured."""
    kept = [m for m in transparent.measurements if m.name not in ("pointing_game_difference", "iou_difference")]
    unmasked = replace(transparent, measurements=kept, cases=replace(transparent.cases, masks=None))
    assert _answers(unmasked, "Localisation") == [("not judged", "Not judged: the images have no masks that say where the finding is")]
    assert _answers(replace(transparent, measurements=kept), "Localisation") == [("not judged", "Not judged: not measured in this run")]


def test_lines_stand_at_no_difference(transparent):
    """A difference is read against 0, a ratio against 1."""
    assert {aspect.name: aspect.neutral for aspect in ASPECTS} == {"Fidelity": 0.0, "Time": 1.0, "Localisation": 0.0}
    assert {pair for aspect in ASPECTS for pair in aspect.measures} == set(words.EASIER)
    assert all('class="reference"' in aspect.panel.chart for aspect in easier(transparent))


def test_a_ratio_is_printed_as_one(transparent):
    """7.4 times is 7.4x; three of four figures would be taken for seconds otherwise."""
    time = easier(transparent)[1].panel.chart
    assert "7.40x [7.10, 7.80]" in time


def test_a_run_without_a_student_has_no_such_question(transparent):
    """Nothing to compare, nothing to answer."""
    alone = [e for e in transparent.cases.explanations if e.model == "teacher"]
    assert easier(replace(transparent, cases=replace(transparent.cases, explanations=alone))) == []
