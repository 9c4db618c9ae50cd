"""Write results/explainers.md: all explainers before all judges on expert masks, a planted shortcut, and Score-CAM's approximations.

python results/explainers.py                    makes the page from results/data, without training
python results/explainers.py --train NAME ...   runs these first (names: see PARTS), or all of them: some three hours on two cores
"""

from __future__ import annotations

import json
import sys

import numpy as np
from foundation import HERE, keep, markdown, table

from pellucid.core import files
from pellucid.core.errors import listing
from pellucid.core.numbers import basis, undefined, with_interval
from pellucid.core.records import ROLES, Measurement

RECIPE = "explainers.toml"
COSTLY_MAPS = [
    'explain.methods=["grad_cam", "score_cam", "integrated_gradients", "occlusion", "gradient_shap", "kernel_shap"]',
    "explain.images=48", "measure.twin=false",
]  # fmt: skip
COSTLY = [
    *COSTLY_MAPS,
    'measure.measures=["performance", "transfer", "cross_deletion", "faithfulness", "localisation", "insertion_deletion", "road", "explanation_time"]',
    "run.out=runs/explainers_costly",
]
# Every one of the same maps is made up to eight times anew.
CASCADE = [*COSTLY_MAPS, 'measure.measures=["sanity"]', "measure.sanity.images=8", "run.out=runs/explainers_cascade"]
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
CORNER = 0.25  # the mark lies within this share of the image's height and width, from the upper left
FILE = "explainers_{}.json"


def train_run(name: str) -> None:
    """Run the recipe and keep what the page is made of."""
    keep(f"explainers_{name}", RECIPE, RUNS[name][1])


def train_cascade() -> None:
    """Run the cascade of random weights for the costly methods, which takes as long as all their other judges together."""
    keep("explainers_cascade", RECIPE, CASCADE)


def train_shortcut() -> None:
    """Train on the phantom where a mark tells the class and where it tells nothing, judge the maps on the same marked images, keep the figures."""
    import pellucid as pl
    from pellucid.core.workspace import Workspace

    workspace = Workspace(None)
    # With a share this small every slice carries a mark, and no mark tells the class.
    plain, honest, marked = (pl.load("phantom", workspace=workspace, shortcut=share, **PHANTOM) for share in (0.0, 1e-9, 1.0))
    without, teacher = (pl.train(data, "cnn5", workspace=workspace, **TEACHER) for data in (plain, honest))
    pairs = {
        "from labels": [pl.train(data, "cnn5", workspace=workspace, **STUDENT) for data in (honest, marked)],
        "distilled": [
            pl.distill(data, teacher, "cnn5", workspace=workspace, student_settings=STUDENT, alpha=0.4, temperature=4)
            for data in (honest, marked)
        ],
    }
    found = {"without": _judge_maps({"teacher": without}, plain)}
    for way, (knowing, fooled) in pairs.items():
        found[way] = {
            "both": _judge_maps({"teacher": teacher, "base": knowing, "student": fooled}, marked),
            "knowing": _judge_maps({"teacher": teacher, "student": knowing}, marked),
            "unmarked": _judge_maps({"teacher": teacher, "base": knowing, "student": fooled}, honest, maps=False),
        }
    files.write_json(HERE / "data" / FILE.format("shortcut"), {"cases": found, "data": PHANTOM, "teacher": TEACHER, "student": STUDENT})


def _judge_maps(networks: dict, data, *, maps: bool = True) -> list[dict]:
    """Return the figures of networks and their Grad-CAM maps for the teacher's class on the test images, whose marks stand in a corner."""
    import pellucid as pl
    from pellucid.measures import maps as shapes

    made = pl.explain(networks, data.test, methods=["grad_cam"], target="teacher")
    measures = ["performance", "localisation", "cross_deletion"] if maps else ["performance"]
    scores = pl.measure(networks, data.test, val=data.val, explanations=made, measures=measures)
    found = [m for m in scores.measurements if m.stratum == "all"]
    for explanation in made if maps else []:
        size = (PHANTOM["size"], PHANTOM["size"])
        peaks = np.unravel_index(
            shapes.to_size(shapes.readable(explanation), size, explanation.centres).reshape(len(explanation.maps), -1).argmax(1), size
        )
        on_mark = np.where(explanation.dead, np.nan, np.maximum(*peaks) < CORNER * PHANTOM["size"])
        found.append(scores.judged.mean("peak_on_mark", on_mark, share=True, model=explanation.model, by="grad_cam", better="lower"))
    return [m.to_json() for m in found]


def train_approximations() -> None:
    """Measure how near Score-CAM's approximations and other readings come to its exact form, on the recipe's trained networks."""
    from pellucid.explainers.explain import explain
    from pellucid.measures.transfer import spearman
    from pellucid.running.experiment import evenly, open_experiment
    from pellucid.stats.intervals import mean_interval, resample

    with open_experiment(HERE.parent / "recipes" / RECIPE, ["run.out=runs/explainers_approximations"]) as experiment:
        images = experiment.data.test
        some = images[evenly(images.targets, N_APPROXIMATED)]
        unit, weights = images.dataset.unit_name, resample(some.targets, some.units)
        found = []
        for role in ("teacher", "student"):
            network, maps, seconds = {role: getattr(experiment, role)}, {}, {}
            explain(network, some[:1], methods=["score_cam"], target="predicted", settings={"score_cam": {"channels": 1}})  # runs dry
            for way, settings in {"exact": {}, **APPROXIMATIONS}.items():
                made = explain(network, some, methods=["score_cam"], target="predicted", settings={"score_cam": settings})[0]
                maps[way], seconds[way] = made.maps, made.seconds
            for way in APPROXIMATIONS:
                alike = spearman(maps["exact"], maps[way])
                kept = np.isfinite(alike)
                over = mean_interval(alike[kept], weights[:, kept], units=some.units[kept], unit=unit)
                most = {name: np.abs(maps[name]).max((1, 2), keepdims=True) for name in ("exact", way)}
                raw = np.abs(maps[way] - maps["exact"]) / most["exact"]
                scaled = np.abs(maps[way] / most[way] - maps["exact"] / most["exact"])
                found.append({
                    "role": role, "way": way, "value": over.value, "low": over.low, "high": over.high, "n": over.n_images, "units": over.n_units,
                    "unit": unit, "raw": float(np.nanmax(raw)), "scaled": float(np.nanmax(scaled)), "seconds": seconds[way], "exact_seconds": seconds["exact"],
                })  # fmt: skip
    files.write_json(HERE / "data" / FILE.format("approximations"), {"rows": found})


def train_centres() -> None:
    """Judge the recipe's maps where their cells look and where they would lie if maps were cut evenly, on the same images."""
    from pellucid.measures import maps as shapes
    from pellucid.measures.localisation import pointing_game
    from pellucid.running.experiment import open_experiment
    from pellucid.stats.intervals import mean_interval, resample

    with open_experiment(HERE.parent / "recipes" / RECIPE) as experiment:
        maps, _, facts = experiment.explained
        images = experiment.data.test[facts["rows"]]
        found = images[np.flatnonzero(images.masks.any((1, 2)))]
        unit, weights = found.dataset.unit_name, resample(found.targets, found.units)
        rows = []
        for explanation in (e for e in maps if e.centres is not None):
            where = np.flatnonzero(images.masks.any((1, 2)))
            placed, even = (
                pointing_game(shapes.to_size(shapes.readable(explanation, where), found.masks.shape[1:], centres), found.masks)
                for centres in (explanation.centres, None)
            )
            judged = ~explanation.dead[where]
            figures = {
                name: mean_interval(values[judged], weights[:, judged], units=found.units[judged], unit=unit)
                for name, values in {"placed": placed, "even": even, "difference": placed - even}.items()
            }
            rows.append({
                "role": explanation.model, "method": explanation.method, "n": figures["placed"].n_images, "units": figures["placed"].n_units, "unit": unit,
                **{name: [m.value, m.low, m.high] for name, m in figures.items()},
            })  # fmt: skip
    files.write_json(HERE / "data" / FILE.format("centres"), {"rows": rows})


PARTS = {
    **{name: (lambda name=name: train_run(name)) for name in RUNS}, "cascade": train_cascade, "centres": train_centres, "shortcut": train_shortcut, "approximations": train_approximations,
}  # fmt: skip


def kept(name: str) -> dict | None:
    """Return what was kept of a part, or None where it was not run."""
    path = HERE / "data" / FILE.format(name)
    return json.loads(path.read_text()) if path.exists() else None


def figures(name: str) -> list[Measurement]:
    """Return a run's figures over all images, those of the costly methods' cascade with their others."""
    there = [content for part in (name, *(["cascade"] if name == "costly" else [])) if (content := kept(part))]
    return [Measurement.from_json(entry) for content in there for entry in content["measurements"]]


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
    parts += placed() + shortcut() + approximations()
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
    heads = [f"{judge} ({role})" for judge in JUDGES for role in ROLES]
    answers_table = markdown(("method", *heads), [(method, *answers.values()) for method, answers in said.items()])
    return f"**{RUNS[name][0]}.** {_in_words(said, judged)}\n\n{answers_table}"


def _in_words(said: dict[str, dict[tuple[str, str], str]], judged: list[str]) -> str:
    """Say for each network which methods pass every judge, and before which judge the others fail."""
    sentences = []
    for role in ROLES:
        passed = [method for method, answers in said.items() if all(answers[judge, role].startswith("yes") for judge in judged)]
        short = []
        for judge in judged:
            yes, no = (
                [method for method, answers in said.items() if answers[judge, role].startswith(said_so)] for said_so in ("yes", "no:")
            )
            if len(yes) < len(said):
                short.append(
                    f"*{judge}* is shown for {len(yes)} of {len(said)}" + (f" and refuted for {listing(no, show=9)}" if no else "")
                )
        trusted = f"{listing(passed, show=9)} can be trusted on these counts" if passed else "no method can be trusted on every count"
        sentences.append(f"On the {role}, {trusted}" + (f": {'; '.join(short)}." if short else "."))
    return f"The judges asked here: {', '.join(judged)}. " + " ".join(sentences)


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
        f"Maps for the class that the teacher sees. Localisation on the images that have a lesion, {basis(placed.n_images, placed.n_units, placed.unit)}; "
        f"{_judged_on(found)}. {HOW_TO_READ if name == 'quick' else cascaded()}"
    )
    for role in ROLES:
        rows = []
        for method in [*methods(found), *CONTROLS]:
            cells = [find(found, figure, role, method) or find(found, figure, "", method) for figure in FIGURES]
            rows.append((method, *("" if m is None else with_interval(m) for m in cells)))
        parts += [f"**{role}**", markdown(("method", *FIGURES), rows)]
    return [*parts, "**From teacher to student**, by the maps of each method:", transferred(found)]


def cascaded() -> str:
    """Say how the costly methods' cascade was run, and what failing it means."""
    content = kept("cascade")
    return NOT_RANDOMISED if content is None else f"The cascade of random weights: `{content['command']}`. {REFUTED}"


def _judged_on(found: list[Measurement]) -> str:
    """Say on how many images each costly judge rests."""
    ns = {
        name: next((m for m in found if m.name == name and m.value is not None), None)
        for name in ("road", "insertion_auc", "randomisation")
    }
    return ", ".join(f"{name} {basis(m.n_images, m.n_units, m.unit)}" for name, m in ns.items() if m)


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
    shown = [(method, *("" if cells[k] is None else with_interval(cells[k]) for k in used)) for method, cells in rows.items()]
    return markdown(("method", *heads), shown)


def placed() -> list[str]:
    """Return what it is worth to draw maps where their cells look."""
    content = kept("centres")
    if content is None:
        return []
    rows = []
    for row in content["rows"]:
        cells = [_between(row[name], signed=name == "difference") for name in ("placed", "even", "difference")]
        rows.append((row["role"], row["method"], *cells))
    first = content["rows"][0]
    return [
        "## Where the cells of a map look",
        f"{PLACED} {basis(first['n'], first['units'], first['unit'])}.",
        markdown(("network", "method", "drawn where cells look", "drawn as cut evenly", "difference"), rows),
    ]


def _between(figure: list[float], *, signed: bool) -> str:
    return ("{:+.2f} [{:+.2f}, {:+.2f}]" if signed else "{:.2f} [{:.2f}, {:.2f}]").format(*figure)


def shortcut() -> list[str]:
    """Return what the judges say of students that look at a planted mark, beside students of the same making for which it tells nothing."""
    content = kept("shortcut")
    if content is None:
        return []
    cases = content["cases"]
    rows = {
        "right on the marked images": ("both", "balanced_accuracy", "base", "student", ""),
        "right where marks tell nothing": ("unmarked", "balanced_accuracy", "base", "student", ""),
        "pointing game": ("both", "pointing_game", "base", "student", "grad_cam"),
        "peak on the mark": ("both", "peak_on_mark", "base", "student", "grad_cam"),
    }  # fmt: skip
    ways = [way for way in cases if way != "without"]
    lines = []
    for head, (part, name, *roles, by) in rows.items():
        cells = [_of(cases[way][part], name, role, by) for way in ways for role in roles]
        lines.append((head, *(f"{with_interval(m)}, {basis(m.n_images, m.n_units, m.unit)}" for m in cells)))
    dropped = "cross_deletion_difference", "student by teacher - student", "grad_cam"
    cells = [_of(cases[way][part], *dropped) for way in ways for part in ("knowing", "both")]
    lines.append(("drop by the teacher's map minus drop by its own", *(f"{with_interval(m)}, {m.reason}" for m in cells)))
    apart = [
        f"{way} {with_interval(m)} ({m.reason})"
        for way in ways
        if (m := _of(cases[way]["both"], "pointing_game_difference", "student - base", "grad_cam"))
    ]
    teacher = [_of(cases["without"], "pointing_game_difference", "teacher", f"grad_cam - {control}") for control in CONTROLS]
    beyond = " and ".join(f"{with_interval(m)} beyond {m.by.removeprefix('grad_cam - ')}" for m in teacher)
    return [
        "## A planted shortcut",
        SHORTCUT,
        markdown(("", *(f"{way}: mark told {what}" for way in ways for what in ("nothing", "the class"))), lines),
        f"Pointing game on the same images, the student that could learn the mark minus the one that could not: {'; '.join(apart)}.",
        f"Where there is no mark at all, a trained teacher's Grad-CAM hits the lesion more often than maps that know nothing: {beyond} "
        f"({basis(teacher[0].n_images, teacher[0].n_units, teacher[0].unit)}).",
    ]


def _of(entries: list[dict], name: str, model: str, by: str) -> Measurement:
    return next(m for m in map(Measurement.from_json, entries) if (m.name, m.model, m.by, m.stratum) == (name, model, by, "all"))


def approximations() -> list[str]:
    """Return how near Score-CAM's approximations come."""
    content = kept("approximations")
    if content is None:
        return []
    heads = (
        "Score-CAM",
        "network",
        "rank correlation with the exact form",
        "largest difference, each map over its own maximum",
        "largest difference of raw maps over the exact form's maximum",
        "times as fast",
    )
    rows = [
        (
            row["way"],
            row["role"],
            f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            f"{row['scaled']:.2g}",
            f"{row['raw']:.2g}",
            f"{row['exact_seconds'] / row['seconds']:.1f}",
        )
        for row in content["rows"]
    ]
    first = content["rows"][0]
    return [
        "## Score-CAM's approximations and variants",
        f"{APPROXIMATED} {basis(first['n'], first['units'], first['unit'])}.",
        markdown(heads, rows),
    ]


INTRODUCTION = """\
Slices of lower-grade gliomas whose abnormality experts outlined (`lgg_mri_masks`, split by patient): an EfficientNet-Lite0 that starts from ImageNet
teaches a five-layer CNN. Every explainer of Pellucid that fits these networks stands before every judge (attention rollout needs attention, which
neither has). A map may be trusted where three things are shown, each by an interval and not by the look of the map: it **finds the lesion** more often
than a map that always points at the centre (pointing game), it **shows what the network needs** (removing what it marks takes the class away sooner
than removing at random, ROAD), and it **shows what the network has learnt** (it changes when the weights are random). Maps lie where their cells look. One training
each: intervals say how far these test images decide, not how far another training would differ."""
HOW_TO_READ = """\
`randomisation` should be low, `deletion_auc` too, the others high; `mask_fidelity_gain` and `road` are 0 for a map that knows nothing; `met` is seconds an image at
batch 1 on one thread, from the forward pass to a map as large as the image."""
REFUTED = """\
A method that is refuted there draws much the same map whatever the weights are: that it finds the lesion says more about the image than about the network."""
NOT_RANDOMISED = """\
The cascade of random weights was left out here, as it repeats every map up to eight times: these methods pass on two judges, not on three."""
SHORTCUT = """\
Every slice of this phantom carries a mark of one to four ticks in its upper left corner. For half of the students the mark told the class in
training, for the others it was drawn by lot, as it was for the teacher; all are judged on the same test images, whose marks tell the class. Grad-CAM for the teacher's class.
How to read it: a student that learnt the mark is right on the marked images and not where marks tell nothing (that needs images without the shortcut, which in
life nobody has). Without them one can look for this: its map hits the lesion less often, or the mark more often, than that of a student for which the mark told nothing;
and what the teacher's map shows is not what it needs, so deleting by the teacher's map takes less of its answer away than deleting by its own (below 0)."""
PLACED = """\
The teacher pads as TensorFlow does, so each cell of its 6x6 maps looks at a place half a cell further down and to the right than where a map that is cut
evenly draws it (`docs/concepts/where_cells_look.md`). The small networks' cells lie evenly. Pointing game of the same maps, drawn both ways,"""
APPROXIMATED = """\
On the trained networks of the recipe, maps of each network's own class; 0 in `channels` is the exact form, which asks about every channel.
Raw maps of fewer channels are larger: the softmax then shares 1 out among fewer, and leaves out the many constant ones that show nothing."""


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
