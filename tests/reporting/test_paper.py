"""The papers' tables hold the record's figures, in the papers' layout."""

from __future__ import annotations

from dataclasses import replace

from pellucid.core.records import Measurement
from pellucid.reporting.paper import fidelity_table, met_table, performance_table


def _cells(table, row):
    return dict(zip(table.columns, next(r for r in table.rows if r[0] == row), strict=True))


def test_performance_counts_flops_as_the_paper(transparent):
    """A multiply-add is two operations, and the table says so."""
    table = performance_table(transparent)
    assert table.columns == ("Network", "Accuracy", "Macro F1", "AUC", "Parameters", "FLOPs", "Latency")
    assert [row[0] for row in table.rows] == ["Teacher (densenet121)", "Base (cnn5)", "Student (cnn5)"]
    student = _cells(table, "Student (cnn5)")
    assert (student["FLOPs"], student["Parameters"], student["Latency"]) == ("48.0 M", "0.334 M", "3.11 ms")  # 2 x 2.4e7
    assert student["Accuracy"] == "0.912 [0.876, 0.942]"
    assert "two for each multiply-add" in table.caption and "118 images of 31 subjects" in table.caption


def test_performance_leaves_out_what_was_not_measured(transparent):
    """No column of blanks; a network without a figure says so."""
    kept = [m for m in transparent.measurements if m.name != "latency_p50" and (m.name, m.model) != ("auc", "base")]
    table = performance_table(replace(transparent, measurements=kept))
    assert "Latency" not in table.columns
    assert _cells(table, "Base (cnn5)")["AUC"] == "not measured"
    assert performance_table(replace(transparent, measurements=[])) is None


def test_fidelity_has_a_row_per_class_and_its_area_and_n(transparent):
    """Classes in order, all images last; every cell has interval, area and n; controls are columns too."""
    table = fidelity_table(transparent)
    assert [row[0] for row in table.rows] == ["none", "solid", "ring", "diffuse", "all images"]
    assert _cells(table, "solid")["Grad-CAM, student"] == "0.88 [0.81, 0.93] (area 0.31, n 30)"
    assert _cells(table, "all images")["Control: the centre, teacher"] == "0.70 [0.66, 0.74] (area 0.50, n 118)"
    assert table.columns[-1].startswith("Control")


def test_undefined_fidelity_says_why(transparent):
    """A grid too small is a reason in its cell, not a blank."""
    coarse = [
        replace(m, value=None, low=None, high=None, reason="not judged: grid 3x3")
        if (m.name, m.by, m.model) == ("mask_fidelity", "grad_cam", "teacher")
        else m
        for m in transparent.measurements
    ]
    assert _cells(fidelity_table(replace(transparent, measurements=coarse)), "ring")["Grad-CAM, teacher"] == "not judged: grid 3x3"


def _met(seconds: dict[str, float], ratios: dict[str, float]) -> list[Measurement]:
    found = [
        Measurement(name, v, 0.9 * v, 1.1 * v, 20, model="teacher", by=by) for name in ("met_p50", "met_p95") for by, v in seconds.items()
    ]
    return found + [Measurement("met_ratio", v, 0.9 * v, 1.1 * v, 20, model="teacher", by=by) for by, v in ratios.items()]


def test_met_sets_each_method_against_grad_cam_and_shap(transparent):
    """Each ratio with its interval, as it was measured; a method that wasn't timed says so."""
    seconds = {"average_feature_map": 0.01, "grad_cam": 0.03, "kernel_shap": 5.0, "average_feature_maps": 0.05}
    ratios = {"average_feature_map / grad_cam": 0.5, "kernel_shap / grad_cam": 200.0, "average_feature_maps / kernel_shap": 0.01}
    table = met_table(replace(transparent, measurements=_met(seconds, ratios)))
    assert [row[0] for row in table.rows] == ["Average feature map", "Grad-CAM", "KernelSHAP", "Average feature maps, all layers"]
    assert _cells(table, "KernelSHAP") == {
        "Method": "KernelSHAP", "teacher, median": "5.00 s [4.50, 5.50]", "teacher, p95": "5.00 s [4.50, 5.50]", "teacher, against Grad-CAM": "200x [180, 220]", "teacher, against KernelSHAP": "1",
    }  # fmt: skip
    assert _cells(table, "Average feature map")["teacher, against Grad-CAM"] == "0.50x [0.45, 0.55]"
    assert _cells(table, "Grad-CAM")["teacher, against KernelSHAP"] == "not measured"
    assert _cells(table, "Average feature maps, all layers")["teacher, against KernelSHAP"] == "0.0100x [0.0090, 0.0110]"


def test_met_sets_teacher_against_student(transparent):
    """The last column is how many times as long the teacher's map takes, with its interval."""
    table = met_table(transparent)
    assert table.columns[-1] == "teacher / student"
    assert _cells(table, "Grad-CAM")["teacher / student"] == "7.60x [7.20, 8.00]"
    assert _cells(table, "KernelSHAP")["student, median"] == "1.61 s [1.56, 1.67]"
