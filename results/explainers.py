"""Write results/explainers.md: all explainers before all judges on expert masks, a planted shortcut, and Score-CAM's approximations.

python results/explainers.py                    makes the page from results/data, without training
python results/explainers.py --train NAME ...   runs these first (names: see PARTS), or all of them: some three hours on two cores
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from foundation import HERE, keep, table

from pellucid.core import files
from pellucid.core.errors import listing
from pellucid.core.numbers import basis, undefined, with_interval
from pellucid.core.records import ROLES, Measurement

RECIPE = "explainers.toml"
COSTLY = [
    'explain.methods=["grad_cam", "score_cam", "integrated_gradients", "occlusion", "gradient_shap", "kernel_shap"]',
    'measure.measures=["performance", "transfer", "cross_deletion", "faithfulness", "localisation", "insertion_deletion", "road", "explanation_time"]',
    "explain.images=16", "measure.twin=false", "run.out=runs/explainers_costly",
]  # fmt: skip
RUNS = {
    "quick": ("Methods that ask a network once or twice", []),
    "costly": ("Methods that ask a network a hundred times or more, and Grad-CAM beside them", COSTLY),
}
# What a map has to show before it is believed: the figure, whose row compares it with which control, and what it must surely be.
JUDGES = {
    "finds the lesion": ("pointing_game_difference", "centre_prior", 0.0),
    "shows what the network needs": ("road_difference", "random_smooth", 0.0),
    "shows what it has learnt": ("randomisation", "", 0.5),
}
FIGURES = ("pointing_game", "relevance_mass", "iou", "mask_fidelity_gain", "insertion_auc", "deletion_auc", "road", "randomisation", "met")
CONTROLS = ("random_smooth", "centre_prior")
PHANTOM = {"n_subjects": 100, "slices": 6, "split": "column:split", "size": 96, "views": 4}
TEACHER = {"widths": [24, 48, 96, 192, 256], "size": 64, "epochs": 16, "batch_size": 16}
STUDENT = {"preset": "small", "size": 64, "epochs": 20, "batch_size": 16}
APPROXIMATIONS = {
    "channels 256": {"channels": 256}, "channels 64": {"channels": 64}, "channels 16": {"channels": 16}, "bf16": {"precision": "bf16"},
    "variant scale_first": {"variant": "scale_first"}, "variant author": {"variant": "author"},
}  # fmt: skip
N_APPROXIMATED = 12
FILE = "explainers_{}.json"


def train_run(name: str) -> None:
    """Run the recipe and keep what the page is made of."""
    keep(f"explainers_{name}", RECIPE, RUNS[name][1])


def train_shortcut() -> None:
    """Train on the phantom with a mark that tells the class and without one, judge the maps, and keep the figures."""
    import pellucid as pl
    from pellucid.core.workspace import Workspace

    workspace = Workspace(None)
    # With a share this small every slice carries a mark, and no mark tells the class.
    plain, honest, marked = (pl.load("phantom", workspace=workspace, shortcut=share, **PHANTOM) for share in (0.0, 1e-9, 1.0))
    teacher, knowing = (pl.train(data, "cnn5", workspace=workspace, **TEACHER) for data in (plain, honest))
    by_itself = pl.train(marked, "cnn5", workspace=workspace, **STUDENT)
    of_plain, of_marked = (
        pl.distill(data, source, "cnn5", workspace=workspace, student_settings=STUDENT, alpha=0.4, temperature=4)
        for data, source in ((plain, teacher), (marked, knowing))
    )
    cases = {
        "no mark, distilled": (plain, plain, teacher, of_plain),
        "the mark tells the class, from labels": (marked, honest, knowing, by_itself),
        "the mark tells the class, distilled": (marked, honest, knowing, of_marked),
    }
    found = {}
    for title, (data, without, first, second) in cases.items():
        networks = {"teacher": first, "student": second}
        maps = pl.explain(networks, data.test, methods=["grad_cam"])
        measures = ["performance", "localisation", "cross_deletion"]
        scores = pl.measure(networks, data.test, val=data.val, explanations=maps, measures=measures)
        beside = pl.measure(networks, without.test, explanations=maps, measures=["performance"])
        found[title] = {
            "measurements": [m.to_json() for m in scores.measurements if m.stratum == "all"],
            "where the mark tells nothing": [m.to_json() for m in beside.measurements if m.stratum == "all"],
        }
    files.write_json(HERE / "data" / FILE.format("shortcut"), {"cases": found, "data": PHANTOM, "teacher": TEACHER, "student": STUDENT})


def train_approximations() -> None:
    """Measure how near Score-CAM's approximations and other readings come to its exact form, on the recipe's trained networks."""
    from pellucid.explainers.explain import explain
    from pellucid.measures.transfer import spearman
    from pellucid.running.experiment import evenly, open_experiment
    from pellucid.stats.intervals import mean_interval, resample

    with open_experiment(HERE.parent / "recipes" / RECIPE, ["run.out=runs/explainers_approximations"]) as experiment:
        images = experiment.data.test
        some = images[evenly(images.targets, N_APPROXIMATED)]
        weights = resample(some.targets, some.units)
        found = []
        for role in ("teacher", "student"):
            network = {role: getattr(experiment, role)}
            ways = {"exact": {}, **APPROXIMATIONS}
            maps, seconds = {}, {}
            for way, settings in ways.items():
                start = time.perf_counter()
                maps[way] = explain(network, some, methods=["score_cam"], target="predicted", settings={"score_cam": settings})[0].maps
                seconds[way] = (time.perf_counter() - start) / len(some)
            for way in APPROXIMATIONS:
                alike = mean_interval(spearman(maps["exact"], maps[way]), weights, units=some.units, unit=images.dataset.unit_name)
                exact, near = maps["exact"], maps[way]
                apart = np.abs(near - exact).max() / np.abs(exact).max()
                found.append({"role": role, "way": way, "value": alike.value, "low": alike.low, "high": alike.high, "n": alike.n_images,
                              "units": alike.n_units, "unit": images.dataset.unit_name, "apart": float(apart),
                              "seconds": seconds[way], "exact_seconds": seconds["exact"]})  # fmt: skip
    files.write_json(HERE / "data" / FILE.format("approximations"), {"rows": found})


PARTS = {
    **{name: (lambda name=name: train_run(name)) for name in RUNS}, "shortcut": train_shortcut, "approximations": train_approximations,
}  # fmt: skip


def kept(name: str) -> dict | None:
    """Return what was kept of a part, or None where it was not run."""
    path = HERE / "data" / FILE.format(name)
    return json.loads(path.read_text()) if path.exists() else None


def figures(name: str) -> list[Measurement]:
    """Return a run's figures over all images."""
    content = kept(name)
    return [Measurement.from_json(entry) for entry in content["measurements"]] if content else []


def page() -> str:
    """Return the whole page."""
    parts = [
        "<!-- made by: python results/explainers.py   (with --train: trains first) -->",
        "# Explainers and their judges: which maps can be trusted here",
        INTRODUCTION,
        "## Answers",
    ]
    there = [name for name in RUNS if kept(name)]
    parts += [trust(name) for name in there]
    for name in there:
        parts += run_part(name)
    parts += shortcut() + approximations()
    missing = [name for name in PARTS if kept(name) is None]
    if missing:
        parts.append(f"Not run yet: {listing(missing, show=9)}. `python results/explainers.py --train NAME` does each.")
    return "\n\n".join([*parts, ""])


def methods(found: list[Measurement]) -> list[str]:
    return list(dict.fromkeys(m.by for m in found if m.name == "met" and m.by not in CONTROLS and m.by != "average_feature_maps"))


def find(found: list[Measurement], name: str, model: str, by: str) -> Measurement | None:
    """Return one figure over all images, or None."""
    return next((m for m in found if (m.name, m.model, m.by, m.stratum) == (name, model, by, "all")), None)


def trust(name: str) -> str:
    """Return which methods pass all judges for each network, and one row for each method: what each judge says, from its interval alone."""
    found = figures(name)
    said = {
        method: {(judge, role): _judged(found, method, role, *JUDGES[judge]) for judge in JUDGES for role in ROLES}
        for method in methods(found)
    }
    judged = [
        judge for judge in JUDGES if any(not answers[judge, role].startswith("not judged") for answers in said.values() for role in ROLES)
    ]
    passed = {role: [m for m, answers in said.items() if all(answers[judge, role].startswith("yes") for judge in judged)] for role in ROLES}
    sums = "; ".join(f"{role}: {', '.join(passed[role]) or 'none'}" for role in ROLES)
    heads = [f"{judge} ({role})" for judge in JUDGES for role in ROLES]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {method} | " + " | ".join(answers.values()) + " |" for method, answers in said.items()]
    return "\n".join(
        [f"**{RUNS[name][0]}.** Methods whose maps {', '.join(f'*{judge}*' for judge in judged)}, all of it: {sums}.", "", *lines]
    )


def _judged(found: list[Measurement], method: str, role: str, figure: str, control: str, cut: float) -> str:
    m = find(found, figure, role, f"{method} - {control}" if control else method)
    if m is None or m.low is None or m.high is None:
        return "not judged" if m is None else undefined(m) if m.value is None else "not judged"
    good, bad = (m.low > cut, m.high < cut) if control else (m.high < cut, m.low > cut)
    return f"{'yes' if good else 'no' if bad else 'not decided'}: {with_interval(m)}"


def run_part(name: str) -> list[str]:
    """Return one run's tables: every figure of every method and network, then what passed from teacher to student."""
    content, found = kept(name), figures(name)
    assert content is not None
    title = RUNS[name][0]
    one = next(m for m in found if m.name == "balanced_accuracy")
    placed = next(m for m in found if m.name == "pointing_game")
    parts = [f"## {title}", f"`{content['command']}`"]
    if name == "quick":
        made = "; ".join(f"{role} {n['architecture']}, {n['provenance']}, {n['epochs']} epochs" for role, n in content["networks"].items())
        parts += [
            f"Networks: {made}. On test, {basis(one.n_images, one.n_units, one.unit)}:",
            table(found, ("balanced_accuracy", "auc", "parameters"), tuple(content["networks"])),
        ]
    parts.append(
        f"Maps for the class that the teacher sees. Localisation on the {placed.n_images} images that have a lesion; ROAD and the curves on at most 100 images, "
        f"randomisation on 50. {HOW_TO_READ if name == 'quick' else NOT_RANDOMISED}"
    )
    for role in ROLES:
        lines = [f"**{role}**", "", "| method | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
        for method in [*methods(found), *CONTROLS]:
            cells = [find(found, figure, role, method) or find(found, figure, "", method) for figure in FIGURES]
            lines.append(f"| {method} | " + " | ".join("" if m is None else with_interval(m) for m in cells) + " |")
        parts.append("\n".join(lines))
    return [*parts, "**From teacher to student**, by the maps of each method:", transferred(found)]


def transferred(found: list[Measurement]) -> str:
    columns = {
        "similarity, student": ("similarity", "student"), "similarity, base": ("similarity", "base"),
        "transferred": ("transferred", "student - base"), "transfer gain": ("transfer_gain", ""),
        "deleting by the student's map, teacher's drop beyond random": ("cross_deletion_difference", "teacher by student - random"),
        "deleting by the teacher's map, student's drop beyond random": ("cross_deletion_difference", "student by teacher - random"),
        "difference in pointing game, student - teacher": ("pointing_game_difference", "student - teacher"),
    }  # fmt: skip
    rows = {}
    for method in methods(found):
        of_method = [m for m in found if m.by == method and m.stratum == "all"]
        rows[method] = [
            next((m for m in of_method if m.name == name and (m.model == model or not model)), None) for name, model in columns.values()
        ]
    used = [k for k in range(len(columns)) if any(cells[k] for cells in rows.values())]
    heads = [list(columns)[k] for k in used]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(used) + 1) + "|"]
    for method, cells in rows.items():
        shown = ["" if (m := cells[k]) is None else with_interval(m) if m.value is not None else undefined(m) for k in used]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def shortcut() -> list[str]:
    """Return what the judges say of a student that looks at a planted mark."""
    content = kept("shortcut")
    if content is None:
        return []
    columns = {
        "balanced accuracy": ("balanced_accuracy", "student", ""), "teacher's": ("balanced_accuracy", "teacher", ""),
        "pointing game": ("pointing_game", "student", "grad_cam"), "teacher's pointing game": ("pointing_game", "teacher", "grad_cam"),
        "teacher's beyond a random map": ("pointing_game_difference", "teacher", "grad_cam - random_smooth"),
        "teacher's beyond the centre prior": ("pointing_game_difference", "teacher", "grad_cam - centre_prior"),
        "student - teacher, pointing game": ("pointing_game_difference", "student - teacher", "grad_cam"),
        "student's drop, teacher's map - own map": ("cross_deletion_difference", "student by teacher - student", "grad_cam"),
    }  # fmt: skip
    titles = list(content["cases"])
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    cases = [[Measurement.from_json(m) for m in case["measurements"]] for case in content["cases"].values()]
    beside = [[Measurement.from_json(m) for m in case["where the mark tells nothing"]] for case in content["cases"].values()]
    for head, wanted in columns.items():
        cells = [next((m for m in case if (m.name, m.model, m.by) == wanted), None) for case in cases]
        lines.append(f"| {head} | " + " | ".join(with_interval(m) if m else "" for m in cells) + " |")
    cells = [next(m for m in case if (m.name, m.model) == ("balanced_accuracy", "student")) for case in beside]
    lines.append("| balanced accuracy where the mark tells nothing | " + " | ".join(map(with_interval, cells)) + " |")
    one = next(m for m in cases[0] if m.name == "pointing_game")
    return [
        "## A planted shortcut",
        f"{SHORTCUT} Grad-CAM, {basis(one.n_images, one.n_units, one.unit)} with a lesion.",
        "\n".join(lines),
    ]


def approximations() -> list[str]:
    """Return how near Score-CAM's approximations come."""
    content = kept("approximations")
    if content is None:
        return []
    lines = [
        "| Score-CAM | network | rank correlation with the exact form | largest difference over the maximum | times as fast |",
        "|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        lines.append(
            f"| {row['way']} | {row['role']} | {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] | {row['apart']:.3g} | "
            f"{row['exact_seconds'] / row['seconds']:.1f} |"
        )
    first = content["rows"][0]
    return [
        "## Score-CAM's approximations and variants",
        f"{APPROXIMATED} {basis(first['n'], first['units'], first['unit'])}.",
        "\n".join(lines),
    ]


INTRODUCTION = """\
Slices of lower-grade gliomas whose abnormality experts outlined (`lgg_mri_masks`, split by patient): an EfficientNet-Lite0 that starts from ImageNet
teaches a five-layer CNN. Every explainer of Pellucid that fits these networks stands before every judge (attention rollout needs attention, which
neither has). A map may be trusted where three things are shown, each by an interval and not by the look of the map: it **finds the lesion** more often
than a map that always points at the centre (pointing game), it **shows what the network needs** (removing what it marks takes the class away sooner
than removing at random, ROAD), and it **shows what the network has learnt** (it changes when the weights are random). One training each: intervals say how far
these test images decide, not how far another training would differ."""
HOW_TO_READ = """\
`randomisation` should be low, `deletion_auc` too, the others high; `mask_fidelity_gain` and `road` are 0 for a map that knows nothing; `met` is seconds an image at
batch 1 on one thread, from the forward pass to a map as large as the image."""
NOT_RANDOMISED = """\
The cascade of random weights was left out here: it takes eight times as long as the maps, which for KernelShap alone are hours on two cores."""
SHORTCUT = """\
The phantom's slices carry a mark of one to four ticks in a corner. Where it tells the class, a student may learn the mark instead of the lesion; its teacher
was trained where the mark tells nothing. Accuracy alone does not give it away."""
APPROXIMATED = """\
On the trained networks of the recipe, maps of each network's own class; 0 in `channels` is the exact form, which asks about every channel."""


def main() -> None:
    """Train where asked, then write the page from what is kept."""
    (HERE / "data").mkdir(exist_ok=True)
    if "--train" in sys.argv:
        asked = sys.argv[sys.argv.index("--train") + 1 :]
        unknown = [name for name in asked if name not in PARTS]
        if unknown:
            raise SystemExit(f"no such part: {', '.join(unknown)}. There are: {', '.join(PARTS)}.")
        for name in asked or PARTS:
            PARTS[name]()
    files.write_text(HERE / "explainers.md", page())
    print(f"wrote {HERE / 'explainers.md'}")


if __name__ == "__main__":
    main()
