"""Write results/transparency.md: published system A whole, on three real data sets and on the phantom.

python results/transparency.py                    makes the page from results/data, without training
python results/transparency.py --train NAME ...   trains these first (names: see RUNS and SWEEPS), or all of them: about a day on two cores
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys

import numpy as np
from foundation import HERE, RECIPES, keep, markdown, places, table

from pellucid.core import files
from pellucid.core.errors import listing
from pellucid.core.numbers import basis, decimals, figure, full, large_count, undefined, with_interval
from pellucid.core.records import Measurement
from pellucid.core.settings import MeasureSettings, in_words
from pellucid.reporting.easier import unbeaten, verdict
from pellucid.reporting.sections import in_unit_with_interval
from pellucid.stats.classification import balanced_accuracy

SETS = {
    "brain": "Brain tumours (MRI, `brain_tumor_mri`)",
    "eye": "Eye disease (fundus photographs, `eye_disease`)",
    "alzheimer": "Dementia grades (MRI, `alzheimer_mri`, three grades)",
}
SHAP_ON = {"brain": 100, "eye": 100, "alzheimer": 75}  # images, 25 of each class


def beside_shap_as(name: str) -> list[str]:
    """Return the overrides of a run that sets SHAP beside the other methods."""
    return [
        'explain.methods=["average_feature_map", "grad_cam", "gradient_shap", "kernel_shap"]',
        f"explain.images={SHAP_ON[name]}",
        'measure.measures=["performance", "faithfulness", "explanation_time", "localisation"]',
    ]


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
    **{f"{name}_shap": (f"{title}: SHAP", f"transparency_{name}.toml", beside_shap_as(name), name) for name, title in SETS.items()},
    "core_slices": ("Dementia grades, core slices only", "transparency_alzheimer.toml", ['data.where=core_slices == 1'], "alzheimer"),
}  # fmt: skip
ROLES = ("teacher", "base", "student")
DIFFERENCES = ("student - teacher", "student - base", "base - teacher")
PREDICTION = ("balanced_accuracy", "accuracy", "macro_f1", "auc")
COST = ("parameters", "multiply_adds", "file_size", "latency_p50")
FIDELITY = ("mask_fidelity", "mask_fidelity_top20", "mask_fidelity_gain", "mask_fidelity_area")
CONTROLS = ("random_smooth", "centre_prior")
MARGIN = MeasureSettings().margin
TORN = "not distinguishable: seeds disagree"
FEW = 10  # units that a class or group needs for a row of its own
LOST = 0.05  # what the paper's student loses on eye disease: balanced accuracy below its teacher's
LIKE = 0.05  # two methods count as alike in fidelity where the interval of their difference lies within this
FILE = "transparency_{}.json"


def train(name: str) -> None:
    """Run one entry of RUNS or SWEEPS and keep what the page is made of."""
    recipe, overrides = made_of(name)
    if name in RUNS:
        keep(f"transparency_{name}", recipe, overrides, ("mask_fidelity", "mask_fidelity_area"))
    else:
        keep_sweep(name, recipe, overrides)


def made_of(name: str) -> tuple[str, list[str]]:
    """Return an entry's recipe and overrides."""
    _, recipe, overrides, grid = {**SWEEPS, **RUNS}[name]
    cell = chosen(grid) if grid else {}
    if name in RUNS:
        return recipe, [*overrides, *(f"{key}={value}" for key, value in cell.items()), f"run.out=runs/transparency_{name}"]
    return recipe, [*overrides, *(f"sweep.{key}=[{value}]" for key, value in cell.items())]


def command(name: str) -> str:
    """Return an entry's command as a shell takes it."""
    recipe, overrides = made_of(name)
    return shlex.join(["pellucid", "run" if name in RUNS else "sweep", f"recipes/{recipe}", *overrides])


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
    content["command"] = command(name)
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


def seeds(m: Measurement | None) -> list[float]:
    """Return a figure in each of several seeds, nothing where there is one."""
    return [float(value) for value in re.findall(r"seed \d+: ([+-]?\d[\d.]*(?:e[+-]\d+)?)", m.reason)] if m else []


def torn(m: Measurement, neutral: float = 0.0) -> bool:
    """Return whether seeds lie on both sides: then an interval over images alone decides nothing."""
    return bool(found := seeds(m)) and min(found) < neutral < max(found)


def each_seed(m: Measurement, neutral: float = 0.0) -> str:
    """Return what stands behind a figure that is a mean over seeds; of a difference with its sign."""
    return f"; seeds {', '.join(figure(value, 1 if neutral == 1 else 3, signed=not neutral) for value in seeds(m))}" if seeds(m) else ""


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
        EASIER,
        easier(there),
        "The paper's claims:",
        claims(),
    ]
    if there == SETS and kept("eye_shap"):
        parts += ["What the paper prints, beside ours on test:", printed()]
    for name, title in there.items():
        parts += data_set(name, title)
    parts += (
        curve("temperature", "distill.temperature", ROWS) + curve("depth", "student.depth", f"{DEPTHS} {ROWS}") + core_slices() + phantom()
    )
    return "\n\n".join([*parts, "## What was cut, and why", cut(), ""])


def as_right(there: dict[str, str]) -> str:
    rows = []
    for name, title in there.items():
        pair = [find(best(name), "balanced_accuracy_difference", model) for model in DIFFERENCES[:2]]
        cells = [f"{with_interval(m)}, {kept_or_not(m)}{each_seed(m)}" if m else "" for m in pair]
        learnt, unsure = teacher_learnt(name)
        rows.append((title, learnt, unsure or cells[0], cells[1], rests(pair[0])))
    return markdown(("", "teacher", *DIFFERENCES[:2], "rests on"), rows)


def teacher_learnt(name: str) -> tuple[str, str]:
    """Return the teacher's balanced accuracy, and why a student can't be held against it where it isn't surely better than chance."""
    teacher = find(best(name), "balanced_accuracy", "teacher")
    if teacher is None or teacher.low is None:
        return "", ""
    unsure = f"not judged: the teacher isn't surely better than chance ({chance(name):.2f})" if teacher.low <= chance(name) else ""
    return with_interval(teacher), unsure


def above_chance(name: str, found: list[Measurement]) -> str:
    """Say which networks are surely better than chance."""
    sure = [role for role in ROLES if (m := find(found, "balanced_accuracy", role)) and m.low is not None and m.low > chance(name)]
    return f"Surely better than chance ({chance(name):.2f}): {listing(sure) if sure else 'none'}."


def guessing(name: str) -> bool:
    """Return whether a data set's student isn't surely better than chance: then there is little to explain."""
    m = find(best(name), "balanced_accuracy")
    return m is None or m.low is None or m.low <= chance(name)


def chance(name: str) -> float:
    """Return the balanced accuracy of guessing."""
    with np.load(HERE / "data" / f"transparency_{name}.predictions.npz") as predictions:
        return 1 / len(predictions["classes"])


def kept_or_not(m: Measurement) -> str:
    """Say what a difference in balanced accuracy means, by the rules of the report's verdicts."""
    if m.low is None or m.high is None:
        return "not judged"
    if m.model != "student - base" and m.low > -MARGIN:
        return "kept"
    if m.low <= 0 <= m.high:
        return "not distinguishable"
    if torn(m):
        return TORN
    if m.model == "student - base":
        return "distillation helped" if m.low > 0 else "distillation hurt"
    return "lost" if m.high < -MARGIN else f"lower, but perhaps by less than {MARGIN:g}"


def easier(there: dict[str, str]) -> str:
    """Return the answer for each data set and method."""
    rows = []
    said = {name: f"{title}; the student may be guessing" if guessing(name) else title for name, title in there.items()}
    sources = {title: best(name) for name, title in said.items()}
    sources |= {f"{title}, SHAP": on_test(f"{name}_shap") for name, title in said.items() if kept(f"{name}_shap")}
    if kept("phantom"):
        sources["Phantom (generated, masks known)"] = on_test("phantom")
    for title, found in sources.items():
        methods = dict.fromkeys(m.by for m in found if m.name == "met" and m.by != "average_feature_maps")
        if title.endswith(", SHAP"):
            methods = {method: None for method in methods if method.endswith("shap")}
        for method in methods:
            fidelity = find(found, "mask_fidelity_gain_difference", "student - teacher", method)
            added = find(found, "mask_fidelity_gain_difference", "student - base", method)
            time = find(found, "met_ratio", "teacher / student", method)
            place = find(found, "pointing_game_difference", "student - teacher", method)
            cells = [
                answered(fidelity, found) + each(found, "mask_fidelity_gain", method),
                with_interval(added) if added else "",
                answered(time, found, 1.0),
                answered(place, found) + each(found, "pointing_game", method) if place else "not judged: no masks",
            ]
            n = [
                f"{what} {rests(m).removeprefix('n = ')}"
                for what, m in (("fidelity", fidelity), ("localisation", place), ("time", time))
                if m
            ]
            rows.append((title, method, *cells, "; ".join(n)))
    return markdown(("", "method", "fidelity", "of which student - base", "time", "localisation", "rests on"), rows)


def answered(m: Measurement | None, found: list[Measurement], neutral: float = 0.0) -> str:
    """Say by the rules of the report, and of its seeds where there are several, whether the student is easier to explain."""
    if m is None or m.value is None:
        return "not measured" if m is None else undefined(m)
    said = verdict(m, neutral)
    if said == "not judged":
        said = "not judged, no interval"
    elif control := unbeaten(m, found):
        said = f"not judged, neither map surely beats {control}"
    elif said in ("easier", "harder") and torn(m, neutral):
        said = TORN
    return f"{said}: {with_interval(m, decimals_of(m))}{each_seed(m, neutral)}"


def decimals_of(m: Measurement) -> int:
    """Return a figure's decimals, one at least where it is small: 10x [10, 20] would hide 9.5 to 19.9."""
    return max(1 if m.value is not None and abs(m.value) < 20 else 0, decimals([m]))


def each(found: list[Measurement], name: str, method: str) -> str:
    """Return the figure of teacher and student, and of a map that knows nothing where that isn't taken off already."""
    of = {role: find(found, name, role, method) for role in ("teacher", "student")} | {"centre": find(found, name, "", "centre_prior")}
    signed = name == "mask_fidelity_gain"
    return f" ({', '.join(f'{role} {figure(m.value, 2, signed=signed)}' for role, m in of.items() if m and m.value is not None)})"


def claims() -> str:
    """Judge the paper's claims on what was run."""
    return markdown(("claim", "judged", "on what"), [*keeps_f1(), *fast_at_like_fidelity(), *loses_on_eye(), *temperature_matters()])


def keeps_f1() -> list[tuple[str, str, str]]:
    rows = []
    for name in SETS:
        m = find(best(name), "macro_f1")
        if m is not None and m.low is not None:
            said = "held here" if m.low > 0.94 else "not held here" if m.high < 0.94 else "not distinguishable"
            rows.append(
                (f"A1: the student keeps macro F1 above 0.94 ({name})", f"{said}: {with_interval(m)}{each_seed(m, 0.94)}", rests(m))
            )
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
            alike = like(gap)
            gains = [find(found, "mask_fidelity_gain", "student", method) for method in ("average_feature_map", other)]
            if ratio.high < 4:
                judged = "not held"
            elif guessing(name):
                judged = "not judged, the student may be guessing"
            elif not any(m and m.low is not None and m.low > 0 for m in gains):
                judged = "not judged, neither map surely beats a random one"
            elif ratio.low >= 4 and alike in ("higher", f"alike within {LIKE}"):
                judged = "held"
            else:
                judged = "not held" if alike == "lower" else "not distinguishable"
            claim = f"A2: average maps are 4 times as fast as {other}, at like fidelity ({name})"
            said = f"{judged}: {with_interval(ratio)} as fast; fidelity at 20 % area {alike}, {with_interval(gap)}"
            rows.append((claim, said, f"{rests(gap)}; times: {rests(ratio)}"))
    return rows


def like(m: Measurement) -> str:
    """Say what a difference in fidelity means: alike where its whole interval lies within the margin; other only where the test agrees."""
    if m.low > -LIKE and m.high < LIKE:
        return f"alike within {LIKE}"
    p = re.search(r"p (<|=) ([\d.]+)", m.reason)
    if m.low <= 0 <= m.high or p is None:
        return "not distinguishable"
    if float(p[2]) >= 0.05:
        return f"not distinguishable by the test (p = {p[2]})"
    return "lower" if m.high < 0 else "higher"


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
    image = find(on_test("eye_image"), "balanced_accuracy_difference", "student - teacher")
    beside = f"; by image, one seed, {with_interval(image)}" if image else ""
    return [
        (
            "A3: on eye disease the shallow student loses about 5 points (its measure isn't stated)",
            f"{said}: {with_interval(m)}{beside}",
            rests(m),
        )
    ]


def temperature_matters() -> list[tuple[str, str, str]]:
    content = kept("temperature")
    found = [find(figures(content, row), "balanced_accuracy") for row in range(len(content["rows"]))] if content else []
    values = [m for m in found if m is not None and m.low is not None]
    if len(values) < 2:
        return []
    apart = max(m.low for m in values) > min(m.high for m in values)
    said = "held: the intervals of two temperatures lie apart" if apart else "not distinguishable: all intervals overlap"
    span = " and ".join(f"{side} {spread(content, split)}" for side, split in (("validation", "val"), ("test", "test")))
    twice = trained_twice("eye")
    again = f"; one setting trained twice, its teacher too, gave students {twice:.3f} apart on test" if twice else ""
    return [("A4: temperature matters on eye disease", f"{said}; one training each, {span}{again}", rests(values[0]))]


def spread(content: dict, split: str) -> str:
    """Return the lowest and the highest balanced accuracy of a sweep's students on one split."""
    found = [m for row in range(len(content["rows"])) for m in figures(content, row)]
    values = [m.value for m in found if (m.name, m.model, m.split, m.stratum) == ("balanced_accuracy", "student", split, "all")]
    return f"{min(values):.3f} to {max(values):.3f}"


def trained_twice(name: str) -> float | None:
    """Return how far apart the students of the grid's chosen cell and of seed 0 are on test, in balanced accuracy; None where they are one network."""
    paths = [HERE / "data" / f"transparency_{name}{tail}.predictions.npz" for tail in ("", "_seeds.seed-0")]
    if not all(path.exists() for path in paths):
        return None
    with np.load(paths[0]) as grid, np.load(paths[1]) as seed:
        targets, one, again = grid["test.targets"], grid["test.logits.student"], seed["test.logits.student"]
    if np.array_equal(one, again):
        return None
    return abs(float(balanced_accuracy(targets, one) - balanced_accuracy(targets, again)))


def printed() -> str:
    """Return what the paper prints beside what came out here, each with what keeps the two apart."""
    rows = []
    for name in SETS:
        split, image = find(best(name), "macro_f1"), find(on_test(f"{name}_image"), "macro_f1")
        here = f"macro F1 {with_interval(split)}; by image, one seed, {with_interval(image) if image else 'not run yet'}"
        rows.append((f"F1 of the student ({name})", "above 0.94", here, APART["f1"] + (APART["copies"] if name == "eye" else "")))
    gap, image = (find(of, "balanced_accuracy_difference", "student - teacher") for of in (best("eye"), on_test("eye_image")))
    here = f"balanced accuracy {with_interval(gap)}; by image, one seed, {with_interval(image) if image else 'not run yet'}"
    rows.append(("student - teacher (eye)", "about -5 points, of what isn't said", here, APART["f1"] + APART["copies"]))
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
            (
                "fidelity, average maps of the student here",
                "0.863 to 0.976; eye 0.863 for average maps, 0.906 beside it",
                "; ".join(maps),
                APART["fidelity"],
            ),
            (
                "time of the student's average maps, and of SHAP over it (eye)",
                '15 s against 68 s ("5x"), on which set isn\'t said',
                f"{in_unit_with_interval(took)}, {with_interval(fast[0])} (GradientSHAP), {with_interval(fast[1])} (KernelSHAP)",
                APART["time"],
            ),
            (
                "FLOPs of teacher and student (eye)",
                "566.89M and 232.70M, student over teacher 0.41",
                f"{large_count(counts[0].value)} and {large_count(counts[1].value)} multiply-adds; {share:.2f}",
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
    content, found = kept(f"{name}_shap"), best(name)
    one = find(found, "balanced_accuracy")
    several = kept(f"{name}_seeds") is not None
    n_seeds = f"three seeds (`{command(f'{name}_seeds')}`)" if several else "one seed"
    parts = [
        f"## {title}",
        " ".join(filter(None, (made(content) if content else "", audited(grid["findings"], "warning")))),
        f"`{command(name)}`: the grid on validation, balanced accuracy of the student, one seed; alpha in rows. Chosen: {in_words(chosen(name))}, because {grid['why']}.",
        grid_table(grid),
        f"On test, {n_seeds}, chosen cell, {rests(one)}; 95 % intervals, {one.method if one else ''}. {above_chance(name, found)}",
        table(found, PREDICTION, ROLES),
        table(found, tuple(f"{m}_difference" for m in PREDICTION), DIFFERENCES),
    ]
    if several:
        each_role = "; ".join(f"{role} {find(found, 'balanced_accuracy', role).reason}" for role in ROLES)
        twice = trained_twice(name)
        parts.append(
            f"Balanced accuracy in each seed: {each_role}."
            + (
                f" Teacher and student of seed 0 are trainings apart from the grid's, of the same settings: the students lie {twice:.3f} apart."
                if twice
                else ""
            )
        )
    parts += [
        "Size and speed at 96 px (one thread, batch 1 for latency in ms, bytes on disk), of the grid's run. Times compare within a table alone.",
        table(on_test(name), COST, ROLES),
        f"Explanations of all test images, {'mean over the three seeds' if several else 'one seed'} ([what each figure is](../docs/reference/measures.md)).",
        *fidelity(found),
    ]
    return parts + beside_shap(name) + by_image(name)


def made(content: dict) -> str:
    """Return the number of images and how long each network was trained."""
    counts, units = content["data"]["counts"], content["data"]["units"]
    sides = ", ".join(f"{sum(of.values()):,} {side} ({units[side]:,} {content['data']['unit']})" for side, of in counts.items())
    epochs = ", ".join(f"{role} {n['epochs']} ({n['best_epoch']})" for role, n in content["networks"].items())
    return f"Images: {sides}. Epochs trained (best on validation, which is kept), seed 0: {epochs}."


def audited(findings: list[dict], level: str) -> str:
    """Return what the audit says of the data at one level."""
    said = [finding["text"] for finding in findings if finding["level"] == level]
    return f"What the audit says of it: {' '.join(said)}" if said else ""


def beside_shap(name: str) -> list[str]:
    content, shap = kept(f"{name}_shap"), on_test(f"{name}_shap")
    if content is None:
        return []
    return [
        f"Beside SHAP, on {SHAP_ON[name]} images, 25 of each class, seed 0: `{command(f'{name}_shap')}`",
        *fidelity(shap),
        *by_class(content),
        gaps(shap),
        tests(shap),
    ]


def by_image(name: str) -> list[str]:
    content, image = kept(f"{name}_image"), on_test(f"{name}_image")
    if content is None:
        return []
    return [
        f"**The same under a random image-level split** (one seed, chosen cell), which is what the paper does: `{command(f'{name}_image')}`. "
        f"{made(content)} Its test images, {rests(find(image, 'balanced_accuracy'))}, are others than above, so the figures of the two splits can't be subtracted. {audited(content['findings'], 'leak') or 'The audit finds no leak.'}",
        table(image, PREDICTION, ROLES),
        table(image, tuple(f"{m}_difference" for m in PREDICTION), DIFFERENCES),
    ]


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
        rows.append((method, *(in_unit_with_interval(m) for m in cells), *(with_interval(m, decimals_of(m)) if m else "" for m in ratios)))
    return "Time of one map; average_feature_maps are those of every layer from one forward:\n\n" + markdown(
        ("method", *ROLES, "teacher / student", "student, against average_feature_map"), rows
    )


def by_class(content: dict) -> list[str]:
    """Return mask-fidelity of teacher and student by class, and by who was right, and method."""
    found = [m for m in figures(content) if m.name == "mask_fidelity" and m.model in ("teacher", "student")]
    methods, classes = dict.fromkeys(m.by for m in found), dict.fromkeys(m.stratum for m in found)
    rows = []
    for stratum in classes:
        for role in ("teacher", "student"):
            cells = [next((m for m in found if (m.model, m.by, m.stratum) == (role, by, stratum)), None) for by in methods]
            first = next(m for m in cells if m is not None)
            if first.n_units >= FEW:
                rows.append((stratum, role, rests(first).removeprefix("n = "), *(with_interval(m) if m else "" for m in cells)))
    return [
        f"Mask-fidelity by class and by who was right, where at least {FEW} {found[0].unit} decide:",
        markdown(("images", "network", "n", *methods), rows),
    ]


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
    text = "Fidelity at 20 % area in the student, method against method (the tests are corrected for the pairs with the two controls too):"
    return f"{text}\n\n" + markdown(("methods", "difference", "test"), [(m.by, with_interval(m), m.reason) for m in pairs])


def curve(name: str, axis: str, note: str) -> list[str]:
    """Return one row for each value of a sweep's axis: validation, gap to the teacher, and the test figures."""
    content = kept(name)
    if content is None:
        return []
    columns = {
        "student, validation": ("balanced_accuracy", "student", "val", ""),
        "base, validation": ("balanced_accuracy", "base", "val", ""),
        "student - teacher, validation": ("balanced_accuracy_difference", "student - teacher", "val", ""),
        "student, test": ("balanced_accuracy", "student", "test", ""),
        "student - teacher, test": ("balanced_accuracy_difference", "student - teacher", "test", ""),
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
    lines = [
        (str(entry["values"][axis]), *(with_interval(m, n[k]) if m else "" for k, m in enumerate(cells)))
        for entry, cells in zip(content["rows"], rows, strict=True)
    ]
    return [
        f"## {SWEEPS[name][0]}",
        f"`{command(name)}`, one seed, {in_words({k: v for k, v in content['settings']['distill'].items() if k in ('alpha', 'temperature') and f'distill.{k}' != axis})}. "
        f"Balanced accuracy, {rests(rows[0][0])} on validation, {rests(rows[0][3])} on test. {note}",
        markdown((axis, *columns), lines),
    ]


def core_slices() -> list[str]:
    content = kept("core_slices")
    if content is None:
        return []
    found = on_test("core_slices")
    return [
        f"## {RUNS['core_slices'][0]}",
        f"`{command('core_slices')}`, one seed, {rests(find(found, 'balanced_accuracy'))}. {made(content)} {above_chance('core_slices', found)}",
        table(found, PREDICTION, ROLES),
    ]


def phantom() -> list[str]:
    content = kept("phantom")
    if content is None:
        return []
    found = on_test("phantom")
    return [
        f"## {SWEEPS['phantom'][0]}",
        f"`{command('phantom')}`; generated slices whose lesions are known, {rests(find(found, 'balanced_accuracy'))}. Other networks than above: a wide cnn5 "
        "distilled into a narrow one, both at 64 px.",
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
System A (arXiv 2502.15959) distils a DenseNet121 into a shallow CNN and shows the average feature map of every layer as its explanation. Here is
all of it: the grid alpha {0.4, 0.7} x T {5, 10, 15}, average maps beside Grad-CAM and SHAP, fidelity, time of an explanation, on the public
sets its three data sets come from. Only summaries of the paper were at hand, so the student's widths (16 32 64 104 264) are ours: at 224 px they come nearest
to the 232.70M it prints. Subjects stay on one side of the split (persons; clusters of alike pictures where a set doesn't name the person); both networks
see 96 px; validation chooses the cell, the test split reports it. The paper starts its teacher from ImageNet weights, which could not be had here:
teachers are trained from scratch ([how to do it yourself](../docs/how-to/reproduce_transparency.md)).

The paper's claims are judged below, and its figures stand beside ours with what keeps the two apart. Intervals say how far the test images decide, over
subjects; they never say how far another training would differ. Where there are three seeds, an answer shows each, and where they lie on both
sides of no difference, none is claimed."""
EASIER = """\
Is the student **easier to explain**? Fidelity at 20 % area beyond what a random map gets in the same network, student minus teacher; time of one map,
teacher over student; localisation (pointing game), student minus teacher. Each answer from its interval, and its seeds where there are three; none where
neither network's map is surely better than a control: for fidelity a random map, for localisation the middle of the image. *Of which student - base* is
what distillation adds: where that is about 0, the small architecture makes the difference."""
ROWS = "Times of different rows were taken at different times on a busy machine and don't compare."
DEPTHS = "Widths double from 16 and stay at 256, so depth 5 is not the preset `paper` of the grid."
# What keeps a printed figure and ours apart.
APART = {
    "f1": "no: its splits are by image, and its selection of images, their size and its teacher's start (ImageNet) differ",
    "copies": "; the public set holds 1,240 flipped or turned copies, which a split by image puts on both sides, and which are left out here",
    "fidelity": "no: it does not define its fidelity; ours is mask-fidelity, and high for any map of large area",
    "time": "only the ratio: one average map takes milliseconds here",
    "flops": "no: DenseNet121 has five times the printed figure in multiply-adds at 224 px, ten times in FLOPs, so that one is probably a slip; ours are at 96 px",
}
CUT = """\
Everything was computed on two processor cores without AVX-512, so networks see 96 px and none of them 192 or 224, where localisation would be finer;
the grid, the curves, SHAP, the core slices and the image-level split have one seed, the last has teacher, base and the chosen cell only; SHAP explains
25 images of each class. Folds that are pooled would decide more than one test split, and were not run.
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
