"""Write results/transparency.md: published system A whole, on three real data sets and on the phantom.

python results/transparency.py                    makes the page from results/data, without training
python results/transparency.py --train NAME ...   trains these first (names: see RUNS and SWEEPS), or all of them: about a day on two cores
"""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
from foundation import HERE, RECIPES, keep, markdown, places, table

from pellucid.core import files
from pellucid.core.errors import listing
from pellucid.core.numbers import basis, decimals, full, large_count, undefined, with_interval
from pellucid.core.records import Measurement
from pellucid.core.settings import MeasureSettings, in_words
from pellucid.reporting.easier import verdict
from pellucid.reporting.sections import in_unit_with_interval

SETS = {
    "brain": "Brain tumours (MRI, `brain_tumor_mri`)",
    "eye": "Eye disease (fundus photographs, `eye_disease`)",
    "alzheimer": "Dementia grades (MRI, `alzheimer_mri`, three grades)",
}
SHAP = [
    'explain.methods=["average_feature_map", "grad_cam", "gradient_shap", "kernel_shap"]', "explain.images=100",
    'measure.measures=["performance", "faithfulness", "explanation_time", "localisation"]',
]  # fmt: skip
# Sweeps: title, recipe, overrides, and whether the cell that the data set's grid chose takes the place of the recipe's axes.
SWEEPS = {
    **{name: (f"{title}: the grid", f"transparency_{name}.toml", [], "") for name, title in SETS.items()},
    **{
        f"{name}_seeds": (f"{title}: three seeds", f"transparency_{name}.toml", ["sweep.run.seed=[0, 1, 2]"], name)
        for name, title in SETS.items()
    },
    "temperature": ("Eye disease: temperature", "transparency_temperature.toml", [], ""),
    "depth": ("Eye disease: depth of the plain student", "transparency_depth.toml", [], ""),
    "phantom": ("The phantom, three seeds", "phantom.toml", ["sweep.run.seed=[0, 1, 2]"], ""),
}
# Single runs: title, recipe, overrides, and the grid whose chosen cell they take.
RUNS = {
    **{f"{name}_image": (f"{title}: random image-level split", f"transparency_{name}.toml", ["data.split=image"], name) for name, title in SETS.items()},
    **{f"{name}_shap": (f"{title}: SHAP on 100 images", f"transparency_{name}.toml", SHAP, name) for name, title in SETS.items()},
    "core_slices": ("Dementia grades, core slices only", "transparency_alzheimer.toml", ['data.where=core_slices == 1'], "alzheimer"),
}  # fmt: skip
ROLES = ("teacher", "base", "student")
DIFFERENCES = ("student - teacher", "student - base", "base - teacher")
PREDICTION = ("balanced_accuracy", "accuracy", "macro_f1", "auc")
COST = ("parameters", "multiply_adds", "file_size", "latency_p50")
FIDELITY = ("mask_fidelity", "mask_fidelity_top20", "mask_fidelity_gain", "mask_fidelity_area")
CONTROLS = ("random_smooth", "centre_prior")
MARGIN = MeasureSettings().margin
LOST = 0.05  # what the paper's student loses on eye disease: balanced accuracy below its teacher's
LIKE = 0.05  # two methods count as alike in fidelity where the interval of their difference lies within this
FILE = "transparency_{}.json"


def train(name: str) -> None:
    """Run one entry of RUNS or SWEEPS and keep what the page is made of."""
    _, recipe, overrides, grid = {**SWEEPS, **RUNS}[name]
    if name in RUNS:
        cell = [f"{key}={value}" for key, value in chosen(grid).items()]
        keep(
            f"transparency_{name}",
            recipe,
            [*overrides, *cell, f"run.out=runs/transparency_{name}"],
            ("mask_fidelity", "mask_fidelity_area"),
        )
        return
    cell = [f"sweep.{key}=[{value}]" for key, value in chosen(grid).items()] if grid else []
    keep_sweep(name, recipe, [*overrides, *cell])


def keep_sweep(name: str, recipe: str, overrides: list[str]) -> None:
    """Run a sweep and keep its figures, and logits and judgements per image of the runs of its chosen setting."""
    from pellucid.scale.sweep import Sweep

    opened = Sweep(RECIPES / recipe, overrides, out=f"runs/transparency_{name}_sweep")
    found = opened.run()
    best = found.rows[found.chosen]
    content = json.loads((opened.folder / "sweep.json").read_text())
    first = next(iter(opened.experiments.values()))
    for label, link in best.runs:
        tail = "" if len(best.runs) == 1 else f".{label.replace(' ', '-')}"
        for kind in ("predictions", "judgements"):
            shutil.copyfile((opened.folder / link).parent / f"{kind}.npz", HERE / "data" / f"transparency_{name}{tail}.{kind}.npz")
    content["command"] = " ".join(["pellucid sweep", f"recipes/{recipe}", *overrides])
    content["findings"] = first.data.audit["findings"]
    files.write_json(HERE / "data" / FILE.format(name), content)


def kept(name: str) -> dict | None:
    """Return what was kept of an entry, or None where it was not run."""
    path = HERE / "data" / FILE.format(name)
    return json.loads(path.read_text()) if path.exists() else None


def chosen(grid: str) -> dict[str, float]:
    """Return the cell that a data set's grid chose on validation."""
    content = kept(grid)
    if content is None:
        raise SystemExit(f"{grid}: its grid has to be run first (--train {grid}).")
    return content["rows"][content["chosen"]]["values"]


def figures(content: dict, row: int | None = None) -> list[Measurement]:
    """Return a run's figures, or those of one row of a sweep (default: the chosen one)."""
    entries = (
        content["measurements"] if "measurements" in content else content["rows"][content["chosen"] if row is None else row]["measurements"]
    )
    return [Measurement.from_json(entry) for entry in entries]


def on_test(name: str) -> list[Measurement]:
    """Return what an entry says of the test split over all its images, nothing where it was not run."""
    content = kept(name)
    return [] if content is None else [m for m in figures(content) if m.split == "test" and m.stratum == "all"]


def best(name: str) -> list[Measurement]:
    """Return a data set's figures on test: over three seeds where they were run, else those of the grid's one seed."""
    return on_test(f"{name}_seeds") or on_test(name)


def find(found: list[Measurement], name: str, model: str = "student", by: str = "") -> Measurement | None:
    """Return one figure, or None."""
    return next((m for m in found if (m.name, m.model, m.by) == (name, model, by)), None)


def page() -> str:
    """Return the whole page."""
    there = {name: title for name, title in SETS.items() if kept(name)}
    parts = [
        "<!-- made by: python results/transparency.py   (with --train: trains first) -->",
        "# Transparency by distillation on real images: DenseNet121 to a five-layer CNN",
        INTRODUCTION,
        "## Answers",
        f"Is the student **as right** as its teacher (kept: surely less than {MARGIN:g} below it), and better than without one?",
        as_right(there),
        "Is the student **easier to explain**? Each answer from its interval alone; fidelity at 20 % area beyond what a random map gets in the same network, student minus teacher; time, teacher over "
        "student; localisation (pointing game), student minus teacher.",
        easier(there),
        "The paper's claims:",
        claims(),
    ]
    if there == SETS and kept("eye_shap"):
        parts += ["What the paper prints, beside ours on test:", printed()]
    for name, title in there.items():
        parts += data_set(name, title)
    parts += curve("temperature", "distill.temperature") + curve("depth", "student.depth") + core_slices() + phantom()
    return "\n\n".join([*parts, "## What was cut, and why", cut(), ""])


def as_right(there: dict[str, str]) -> str:
    rows = []
    for name, title in there.items():
        pair = [find(best(name), "balanced_accuracy_difference", model) for model in DIFFERENCES[:2]]
        cells = [f"{with_interval(m)}, {kept_or_not(m)}" if m else "" for m in pair]
        learnt, unsure = teacher_learnt(name)
        rows.append((title, learnt, unsure or cells[0], cells[1], rests(pair[0])))
    return markdown(("", "teacher", *DIFFERENCES[:2], "rests on"), rows)


def teacher_learnt(name: str) -> tuple[str, str]:
    """Return the teacher's balanced accuracy, and why a student can't be held against it where it isn't surely better than chance."""
    teacher = find(best(name), "balanced_accuracy", "teacher")
    if teacher is None or teacher.low is None:
        return "", ""
    with np.load(HERE / "data" / f"transparency_{name}.predictions.npz") as predictions:
        chance = 1 / len(predictions["classes"])
    unsure = f"not judged: the teacher isn't surely better than chance ({chance:.2f})" if teacher.low <= chance else ""
    return with_interval(teacher), unsure


def kept_or_not(m: Measurement) -> str:
    """Say what a difference in balanced accuracy means, by the rules of the report's verdicts."""
    if m.low is None or m.high is None:
        return "not judged"
    if m.model == "student - base":
        return "distillation helped" if m.low > 0 else "distillation hurt" if m.high < 0 else "not distinguishable"
    if m.low > -MARGIN:
        return "kept"
    if m.high < 0:
        return "lost" if m.high < -MARGIN else f"lower, but perhaps by less than {MARGIN:g}"
    return "not distinguishable"


def easier(there: dict[str, str]) -> str:
    """Return the answer for each data set and method."""
    rows = []
    sources = {title: best(name) for name, title in there.items()}
    sources |= {f"{title}, 100 images": on_test(f"{name}_shap") for name, title in there.items() if kept(f"{name}_shap")}
    if kept("phantom"):
        sources["Phantom (generated, masks known)"] = on_test("phantom")
    for title, found in sources.items():
        methods = dict.fromkeys(m.by for m in found if m.name == "met" and m.by != "average_feature_maps")
        if "100 images" in title:
            methods = {method: None for method in methods if method.endswith("shap")}
        for method in methods:
            fidelity = find(found, "mask_fidelity_gain_difference", "student - teacher", method)
            time = find(found, "met_ratio", "teacher / student", method)
            place = find(found, "pointing_game_difference", "student - teacher", method)
            cells = [answered(fidelity, 0.0), answered(time, 1.0), answered(place, 0.0, absent="not judged: no masks")]
            rows.append((title, method, *cells))
    return markdown(("", "method", "fidelity", "time", "localisation"), rows)


def answered(m: Measurement | None, neutral: float, *, absent: str = "not measured") -> str:
    if m is None or m.value is None:
        return absent if m is None else undefined(m)
    said = verdict(m, neutral)
    return f"{said}: {with_interval(m)}" if said != "not judged" else f"not judged, no interval: {with_interval(m)}"


def claims() -> str:
    """Judge the paper's claims on what was run."""
    return markdown(("claim", "judged", "on what"), [*keeps_f1(), *fast_at_like_fidelity(), *loses_on_eye(), *temperature_matters()])


def keeps_f1() -> list[tuple[str, str, str]]:
    rows = []
    for name in SETS:
        m = find(best(name), "macro_f1")
        if m is not None and m.low is not None:
            said = "held" if m.low > 0.94 else "not held" if m.high < 0.94 else "not distinguishable"
            rows.append((f"A1: the student keeps macro F1 above 0.94 ({name})", f"{said}: {with_interval(m)}", rests(m)))
    return rows


def fast_at_like_fidelity() -> list[tuple[str, str, str]]:
    rows = []
    for name in SETS:
        found = on_test(f"{name}_shap")
        for other in ("gradient_shap", "kernel_shap", "grad_cam"):
            ratio = find(found, "met_ratio", "student", f"{other} / average_feature_map")
            gap = find(found, "mask_fidelity_top20_difference", "student", f"average_feature_map - {other}")
            if ratio is None or gap is None or ratio.low is None or gap.low is None:
                continue
            fast = "at least 4 times" if ratio.low >= 4 else "not 4 times" if ratio.high < 4 else "perhaps 4 times"
            claim = f"A2: average maps are 4 times as fast as {other}, at like fidelity ({name})"
            said = f"{fast} ({with_interval(ratio)}); fidelity at 20 % area {like(gap)} ({with_interval(gap)})"
            rows.append((claim, said, f"{rests(gap)}; times: {rests(ratio)}"))
    return rows


def like(m: Measurement) -> str:
    """Say what a difference in fidelity means: alike where its whole interval lies within the margin."""
    if m.low > -LIKE and m.high < LIKE:
        return f"alike within {LIKE}"
    return "lower" if m.high < 0 else "higher" if m.low > 0 else "not distinguishable"


def loses_on_eye() -> list[tuple[str, str, str]]:
    m = find(best("eye"), "balanced_accuracy_difference", "student - teacher")
    if m is None or m.low is None:
        return []
    if m.high < -LOST:
        said = "held, and more: it loses more than that"
    elif m.low > -LOST:
        said = "not held: it loses less, if at all" if m.high >= 0 else "not held: it loses, but less"
    else:
        said = "held: it loses, and 5 points lie inside the interval" if m.high < 0 else "not distinguishable"
    return [("A3: on eye disease the shallow student loses about 5 points", f"{said}: {with_interval(m)}", rests(m))]


def temperature_matters() -> list[tuple[str, str, str]]:
    content = kept("temperature")
    found = [find(figures(content, row), "balanced_accuracy") for row in range(len(content["rows"]))] if content else []
    values = [m for m in found if m is not None and m.low is not None]
    if len(values) < 2:
        return []
    apart = max(m.low for m in values) > min(m.high for m in values)
    said = "held: the intervals of two temperatures lie apart" if apart else "not distinguishable: all intervals overlap"
    span = f"{min(m.value for m in values):.3f} to {max(m.value for m in values):.3f} over {len(values)} temperatures, one training each"
    return [("A4: temperature matters on eye disease", f"{said}; validation {span}", rests(values[0]))]


def printed() -> str:
    """Return what the paper prints beside what came out here, each with what keeps the two apart."""
    rows = []
    for name in SETS:
        split, image = find(best(name), "macro_f1"), find(on_test(f"{name}_image"), "macro_f1")
        here = f"{with_interval(split)}; by image {with_interval(image) if image else 'not run yet'}"
        rows.append((f"macro F1 of the student ({name})", "above 0.94", here, APART["macro_f1"]))
    gap = find(best("eye"), "accuracy_difference", "student - teacher")
    rows.append(("student - teacher (eye)", "about -5 points", f"accuracy {with_interval(gap)}", APART["macro_f1"]))
    maps = [f"{name} {with_interval(find(best(name), 'mask_fidelity', 'student', 'average_feature_map'))}" for name in SETS]
    shap = on_test("eye_shap")
    fast = [find(shap, "met_ratio", "student", f"{other}_shap / average_feature_map") for other in ("gradient", "kernel")]
    took = find(shap, "met", "student", "average_feature_map")
    counts = [find(on_test("eye"), "multiply_adds", role) for role in ("teacher", "student")]
    share = counts[1].value / counts[0].value
    return markdown(
        ("", "printed", "here", "can they be compared?"),
        [
            *rows,
            ("fidelity of average maps in the student", "0.863 to 0.976", "; ".join(maps), APART["fidelity"]),
            (
                "time of the student's average maps, and of SHAP over it (eye)",
                "15 s, 4.5x (68 s)",
                f"{in_unit_with_interval(took)}, {with_interval(fast[0])} (GradientSHAP), {with_interval(fast[1])} (KernelSHAP)",
                APART["time"],
            ),
            (
                "FLOPs of teacher and student (eye)",
                "566.89M and 232.70M (0.41)",
                f"{large_count(counts[0].value)} and {large_count(counts[1].value)} multiply-adds ({share:.2f})",
                APART["flops"],
            ),
        ],
    )


def rests(m: Measurement | None) -> str:
    return "" if m is None else basis(m.n_images, m.n_units, m.unit)


def data_set(name: str, title: str) -> list[str]:
    """Return one data set's part of the page."""
    grid = kept(name)
    assert grid is not None
    seeds, found = kept(f"{name}_seeds"), best(name)
    n_seeds = "three seeds" if seeds else "one seed"
    one = find(found, "balanced_accuracy")
    parts = [
        f"## {title}",
        f"`{grid['command']}`",
        f"The grid on validation (balanced accuracy of the student, one seed; alpha in rows). Chosen: {in_words(chosen(name))}, because {grid['why']}.",
        grid_table(grid),
        f"On test, {n_seeds}, chosen cell, {rests(one)}; 95 % intervals, {one.method if one else ''}.",
        table(found, PREDICTION, ROLES),
        table(found, tuple(f"{m}_difference" for m in PREDICTION), DIFFERENCES),
    ]
    if seeds:
        parts.append("Each seed: " + "; ".join(f"{role} {find(found, 'balanced_accuracy', role).reason}" for role in ROLES) + ".")
    parts += [
        "Size and speed at 96 px (one thread, batch 1 for latency in ms, bytes on disk), of the grid's run.",
        table(on_test(name), COST, ROLES),
    ]
    parts += ["Explanations of all test images, of the grid's run, one seed.", *fidelity(on_test(name))]
    if shap := on_test(f"{name}_shap"):
        content = kept(f"{name}_shap")
        parts += [
            f"Beside SHAP, on 100 images, one seed: `{content['command']}`",
            *fidelity(shap),
            *by_class(content),
            gaps(shap),
            tests(shap),
        ]
    if image := on_test(f"{name}_image"):
        content = kept(f"{name}_image")
        leaks = [finding["text"] for finding in content["findings"] if finding["level"] == "leak"]
        parts += [
            f"**The same under a random image-level split** (one seed, chosen cell), which is what the paper does: `{content['command']}`. "
            f"What the audit says of it: {' '.join(leaks) or 'no leak found.'}",
            table(image, PREDICTION, ROLES),
        ]
    return parts


def grid_table(content: dict) -> str:
    alphas, temperatures = content["axes"]["distill.alpha"], content["axes"]["distill.temperature"]
    cells = {tuple(row["values"].values()): find(figures(content, i), "balanced_accuracy") for i, row in enumerate(content["rows"])}
    n = decimals([m for m in cells.values() if m is not None])
    grid = markdown(
        ("", *(f"T {t}" for t in temperatures)),
        [(f"alpha {a}", *(with_interval(cells[a, t], n) for t in temperatures)) for a in alphas],
    )
    beside = [find([m for m in figures(content, 0) if m.split == "val"], "balanced_accuracy", role) for role in ("teacher", "base")]
    return f"{grid}\n\nBeside it: " + ", ".join(f"{m.model} {full(m)}" for m in beside if m) + "."


def fidelity(found: list[Measurement]) -> list[str]:
    """Return two tables: for each method and network its fidelity, area and localisation, and for each method the time of one map."""
    methods = dict.fromkeys(m.by for m in found if m.name == "mask_fidelity")
    columns = [name for name in (*FIDELITY, "pointing_game", "iou") if any(m.name == name and m.value is not None for m in found)]
    n = {name: places([m for m in found if m.name == name]) for name in columns}
    rows = []
    for method in methods:
        for role in ROLES:
            cells = [find(found, name, role, method) or find(found, name, "", method) for name in columns]
            rows.append((method, role, *(with_interval(m, n[m.name]) if m else "" for m in cells)))
    return [markdown(("method", "network", *columns), rows), times(found)]


def times(found: list[Measurement]) -> str:
    """Return how long one map takes (MET) in each network, teacher over student, and in the student against the average map."""
    rows = []
    for method in dict.fromkeys(m.by for m in found if m.name == "met"):
        cells = [find(found, "met", role, method) for role in ROLES]
        ratios = [
            find(found, "met_ratio", "teacher / student", method),
            find(found, "met_ratio", "student", f"{method} / average_feature_map"),
        ]
        rows.append((method, *(in_unit_with_interval(m) for m in cells), *(with_interval(m) if m else "" for m in ratios)))
    return "Time of one map; average_feature_maps are those of every layer from one forward:\n\n" + markdown(
        ("method", *ROLES, "teacher / student", "student, against average_feature_map"), rows
    )


def by_class(content: dict) -> list[str]:
    """Return mask-fidelity of the student by class and method."""
    found = [m for m in figures(content) if m.name == "mask_fidelity" and m.model in ("teacher", "student")]
    methods, classes = dict.fromkeys(m.by for m in found), dict.fromkeys(m.stratum for m in found)
    rows = []
    for stratum in classes:
        for role in ("teacher", "student"):
            cells = [next((m for m in found if (m.model, m.by, m.stratum) == (role, by, stratum)), None) for by in methods]
            rows.append((stratum, role, *(with_interval(m) if m else "" for m in cells)))
    return ["Mask-fidelity by class:", markdown(("class", "network", *methods), rows)]


def gaps(found: list[Measurement]) -> str:
    """Return SHAP's completeness gap for each method and network."""
    gap = [m for m in found if m.name == "completeness_gap"]
    rows = [
        (method, *(f"{with_interval(m)}, {left_out(m)}" if (m := find(gap, "completeness_gap", role, method)) else "" for role in ROLES))
        for method in dict.fromkeys(m.by for m in gap)
    ]
    return (
        "Completeness gap of SHAP: the share by which a map misses what it should add up to, median over images "
        "(without those whose difference to explain is below a tenth of its median):\n\n" + markdown(("method", *ROLES), rows)
    )


def left_out(m: Measurement) -> str:
    return m.reason.partition("; ")[2].partition(":")[0]


def tests(found: list[Measurement]) -> str:
    """Return the student's methods against each other."""
    pairs = [
        m for m in found if m.name == "mask_fidelity_top20_difference" and m.model == "student" and not any(c in m.by for c in CONTROLS)
    ]
    return "Fidelity at 20 % area in the student, method against method:\n\n" + markdown(
        ("methods", "difference", "test"), [(m.by, with_interval(m), m.reason) for m in pairs]
    )


def curve(name: str, axis: str) -> list[str]:
    """Return one row for each value of a sweep's axis: validation, gap to the teacher, and the test figures."""
    content = kept(name)
    if content is None:
        return []
    columns = {
        "student, validation": ("balanced_accuracy", "student", "val", ""),
        "base, validation": ("balanced_accuracy", "base", "val", ""),
        "student - teacher, validation": ("balanced_accuracy_difference", "student - teacher", "val", ""),
        "student, test": ("balanced_accuracy", "student", "test", ""),
        "macro F1, test": ("macro_f1", "student", "test", ""),
        "fidelity at 20 %, Grad-CAM": ("mask_fidelity_top20", "student", "test", "grad_cam"),
        "fidelity at 20 %, average map": ("mask_fidelity_top20", "student", "test", "average_feature_map"),
        "MET, Grad-CAM (s)": ("met", "student", "test", "grad_cam"),
        "MET, all layers (s)": ("met", "student", "test", "average_feature_maps"),
        "parameters": ("parameters", "student", "test", ""),
    }
    rows = [
        [next((m for m in figures(content, i) if (m.name, m.model, m.split, m.by) == wanted), None) for wanted in columns.values()]
        for i in range(len(content["rows"]))
    ]
    n = [places([row[k] for row in rows if row[k] is not None]) for k in range(len(columns))]
    printed = [
        (str(entry["values"][axis]), *(with_interval(m, n[k]) if m else "" for k, m in enumerate(cells)))
        for entry, cells in zip(content["rows"], rows, strict=True)
    ]
    return [
        f"## {SWEEPS[name][0]}",
        f"`{content['command']}`, one seed. {rests(rows[0][0])} on validation, {rests(rows[0][3])} on test.",
        markdown((axis, *columns), printed),
    ]


def core_slices() -> list[str]:
    content = kept("core_slices")
    if content is None:
        return []
    found = on_test("core_slices")
    return [
        f"## {RUNS['core_slices'][0]}",
        f"`{content['command']}`, one seed, {rests(find(found, 'balanced_accuracy'))}.",
        table(found, PREDICTION, ROLES),
    ]


def phantom() -> list[str]:
    content = kept("phantom")
    if content is None:
        return []
    found = on_test("phantom")
    return [
        f"## {SWEEPS['phantom'][0]}",
        f"`{content['command']}`; generated slices whose lesions are known, {rests(find(found, 'balanced_accuracy'))}.",
        table(found, PREDICTION, ROLES),
        *fidelity(found),
    ]


def cut() -> str:
    missing = [name for name in (*SWEEPS, *RUNS) if kept(name) is None]
    text = CUT
    return text + (
        f"\n\nNot run yet: {listing(missing, show=30)}. `python results/transparency.py --train NAME` does each." if missing else ""
    )


INTRODUCTION = """\
System A (arXiv 2502.15959) distils a DenseNet121 into a shallow CNN and shows the average feature map of every layer as its explanation. Here it is
built whole: the grid alpha {0.4, 0.7} x T {5, 10, 15}, average maps beside Grad-CAM and SHAP, fidelity, time of an explanation, on the public
sets its three data sets come from. Patients and persons stay on one side of the split; both networks see 96 px; validation chooses the cell, the test
split reports it. The paper starts its teacher from ImageNet weights, which could not be had here: teachers are trained from scratch.

The paper's claims are judged below, and its figures stand beside ours with what keeps the two apart. Intervals say how far the test images decide,
over persons where they are known; where there is one seed they don't say how far another training would differ."""
# What keeps a printed figure and ours apart.
APART = {
    "macro_f1": "no: its splits are by image, and its selection of images, their size and its teacher's start (ImageNet) differ",
    "fidelity": "no: it does not define its fidelity; ours is mask-fidelity, and high for any map of large area",
    "time": "only the ratio: 15 s is not a time per image of any of these methods",
    "flops": "no: DenseNet121 at 224 px has 5,668.84M FLOPs, ten times what is printed; ours are multiply-adds at 96 px",
}
CUT = """\
Everything was computed on two processor cores without AVX-512, so networks see 96 px, the grid and the curves have one seed,
the image-level split has teacher, base and the chosen cell only, and SHAP explains 100 images, evenly over the classes.
At 96 px DenseNet121's last map is 3x3, so all maps of the teacher are read one block earlier (6x6)."""


def main() -> None:
    """Train where asked, then write the page from what is kept."""
    if "--train" in sys.argv:
        known = [*SWEEPS, *RUNS]
        asked = sys.argv[sys.argv.index("--train") + 1 :]
        unknown = [name for name in asked if name not in known]
        if unknown:
            raise SystemExit(f"no such entry: {', '.join(unknown)}. There are: {', '.join(known)}.")
        for name in asked or known:
            train(name)
    files.write_text(HERE / "transparency.md", page())
    print(f"wrote {HERE / 'transparency.md'}")


if __name__ == "__main__":
    main()
