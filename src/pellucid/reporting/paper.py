"""The tables that a paper on a distilled classifier prints: performance, fidelity of explanations, and the time they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pellucid.core import numbers
from pellucid.core.records import Measurement, RunRecord, stratum_of
from pellucid.reporting import words
from pellucid.reporting.sections import cell, common_basis, in_unit_with_interval, interval_sentence, networks_in_order, of_maps, role_title
from pellucid.reporting.tables import Table

SHAP = ("kernel_shap", "gradient_shap")  # the table of times sets the others against each of them


def performance_table(record: RunRecord) -> Table | None:
    """Return accuracy, macro F1, AUC, parameters, FLOPs and latency: one row per network."""
    whole = {(m.name, m.model): m for m in record.measurements if m.stratum == "all" and not m.by}
    shown = [(name, title, printed) for name, title, printed in _PERFORMANCE if any(key[0] == name for key in whole)]
    if not shown:
        return None
    rows = []
    for role in networks_in_order(record):
        cells = []
        for name, _, printed in shown:
            of_all = [m for (of, _), m in whole.items() if of == name]
            cells.append(printed(whole[name, role], numbers.decimals(of_all)) if (name, role) in whole else "not measured")
        rows.append((role_title(record, role), *cells))
    judged = [m for m in whole.values() if m.name in ("accuracy", "macro_f1", "auc")]
    caption = (
        f"Performance on the test images. {common_basis(judged)} FLOPs are counted as "
        "arXiv 2502.15959 does, two for each multiply-add. Latency: median for one image by itself."
    )
    return Table("paper_performance", caption, ("Network", *(title for _, title, _ in shown)), tuple(rows))


def fidelity_table(record: RunRecord) -> Table | None:
    """Return mask-fidelity by class (rows), method and network (columns), with its n and the area that the map keeps; controls too."""
    names = ("mask_fidelity", "mask_fidelity_area")
    found = {(m.name, m.by, m.model, m.stratum): m for m in record.measurements if m.name in names and m.by}
    fidelity = [m for m in found.values() if m.name == "mask_fidelity"]
    if not fidelity:
        return None
    methods = sorted(dict.fromkeys(m.by for m in fidelity), key=lambda by: by in words.CONTROLS)
    columns = [(by, role) for by in methods for role in networks_in_order(record) if any((m.by, m.model) == (by, role) for m in fidelity)]
    places = (numbers.decimals(fidelity), numbers.decimals(m for m in found.values() if m.name == "mask_fidelity_area"))
    rows = []
    for label, stratum in [*((label, stratum_of(label)) for label in record.task.classes), ("all images", "all")]:
        cells = [_fidelity(found.get((names[0], *at, stratum)), found.get((names[1], *at, stratum)), places) for at in columns]
        if any(cells):
            rows.append((label, *cells))
    caption = (
        "Mask-fidelity by class: 1 minus the change of the class probability when all that the map leaves dark is blurred. "
        f"{interval_sentence(fidelity)} In round brackets the area that the map keeps, which flatters where it is large, and the number of images. "
        "Controls know nothing of the image."
    )
    return Table("paper_fidelity", caption, ("Class", *(f"{words.method_name(by)}, {role}" for by, role in columns)), tuple(rows))


def met_table(record: RunRecord) -> Table | None:
    """Return the time of one map by method (rows) and network (columns), with its ratios to Grad-CAM and to SHAP."""
    found = of_maps(record)
    met, tail = ({(m.by, m.model): m for m in found if m.name == name} for name in ("met_p50", "met_p95"))
    if not met:
        return None
    ratios = {(m.by, m.model): m for m in found if m.name == "met_ratio"}
    methods = list(dict.fromkeys(by for by, _ in met))
    against = [by for by in ("grad_cam", *SHAP) if by in methods]
    roles = [role for role in networks_in_order(record) if any((by, role) in met for by in methods)]
    columns = [
        f"{role}{what}" for role in roles for what in (", median", ", p95", *(f", against {words.method_name(by)}" for by in against))
    ]
    compared = any(model == "teacher / student" for _, model in ratios)
    rows = []
    for by in methods:
        cells = []
        for role in roles:
            cells += [in_unit_with_interval(figures.get((by, role))) for figures in (met, tail)]
            cells += ["1" if other == by else _ratio(ratios.get((f"{by} / {other}", role))) for other in against]
        if compared:
            cells.append(_ratio(ratios.get((by, "teacher / student"))))
        rows.append((words.method_name(by), *cells))
    timed = [*met.values(), *ratios.values()]
    caption = (
        "Time for one map of one image by itself (MET): forward, backward and enlarging, without loading the network. "
        f"Ratios are of medians. {common_basis(timed)}"
    )
    return Table("paper_met", caption, ("Method", *columns, *(("teacher / student",) if compared else ())), tuple(rows))


def _fidelity(fidelity: Measurement | None, area: Measurement | None, places: tuple[int, int]) -> str:
    if fidelity is None or fidelity.value is None:
        return cell(fidelity, places[0])
    kept = f"area {numbers.figure(area.value, min(places[1], 3))}, " if area and area.value is not None else ""
    return f"{cell(fidelity, places[0])} ({kept}n {fidelity.n_images:,})"


def _ratio(m: Measurement | None) -> str:
    return "not measured" if m is None else numbers.with_interval(m)


def _counted(factor: int) -> Callable[[Measurement, int], str]:
    def printed(m: Measurement, places: int) -> str:
        return numbers.undefined(m) if m.value is None else numbers.large_count(factor * m.value)

    return printed


def _timed(m: Measurement, places: int) -> str:
    return in_unit_with_interval(m)


_PERFORMANCE: Sequence[tuple[str, str, Callable[[Measurement, int], str]]] = (
    ("accuracy", "Accuracy", cell),
    ("macro_f1", "Macro F1", cell),
    ("auc", "AUC", cell),
    ("parameters", "Parameters", _counted(1)),
    ("multiply_adds", "FLOPs", _counted(2)),
    ("latency_p50", "Latency", _timed),
)
