"""Write results/foundation.md: system A's flow on real brain MRI, under two splits and with two teachers.

python results/foundation.py            makes the page from results/data, without training
python results/foundation.py --train    runs the recipes first (about two hours on two cores) and refreshes results/data
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pellucid.core import files
from pellucid.core.numbers import basis, decimals, with_interval
from pellucid.core.records import Measurement

HERE = Path(__file__).parent
RECIPES = HERE.parent / "recipes"
RUNS = {
    "foundation_subject": ("Split by patient", "transparency.toml", []),
    "foundation_image": ("Random image-level split", "transparency.toml", ["data.split=image", "run.out=runs/transparency_image"]),
    "foundation_pretrained": ("Split by patient, teacher from ImageNet", "transparency_pretrained.toml", []),
}
ROLES = ("teacher", "base", "student")
PREDICTION = ("balanced_accuracy", "accuracy", "macro_f1", "auc", "cross_entropy", "ece")
DIFFERENCES = ("balanced_accuracy_difference", "accuracy_difference", "macro_f1_difference", "auc_difference")
COST = ("parameters", "multiply_adds", "file_size", "latency_p50", "throughput")
WHERE = (
    "mask_fidelity",
    "mask_fidelity_agreement",
    "mask_fidelity_area",
    "mask_fidelity_top20",
    "pointing_game",
    "relevance_mass",
    "iou",
    "met",
)


def train(name: str) -> None:
    """Run one recipe and keep what the page is made of."""
    _, recipe, overrides = RUNS[name]
    keep(name, recipe, overrides)


def keep(name: str, recipe: str, overrides: list[str], strata: tuple[str, ...] = ()) -> None:
    """Run a recipe and keep logits and judgements per image, settings and figures (of `strata` measures those of each class too)."""
    from pellucid.running.experiment import open_experiment

    with open_experiment(RECIPES / recipe, overrides) as experiment:
        found, folder = experiment.report(), experiment.folder.path
    for kept in ("predictions", "judgements"):
        shutil.copyfile(folder / f"{kept}.npz", HERE / "data" / f"{name}.{kept}.npz")
    content = {
        "command": shlex.join(["pellucid", "run", f"recipes/{recipe}", *overrides]),
        "settings": found.settings,
        "data": {key: found.data[key] for key in ("counts", "units", "unit", "split", "content")},
        "findings": found.audit["findings"],
        "networks": {r: {"architecture": n.architecture, "provenance": n.provenance, "fingerprint": n.fingerprint,
                         "epochs": len(n.history), "best_epoch": n.best_epoch, "precision": n.precision} for r, n in found.networks.items()},
        "seconds": {stage.name: round(stage.seconds, 1) for stage in found.stages},
        "versions": found.versions,
        "verdicts": [[v.question, v.answer, v.figure, v.rule] for v in found.verdicts],
        "measurements": [m.to_json() for m in found.measurements if m.stratum == "all" or m.name in strata],
    }  # fmt: skip
    files.write_json(HERE / "data" / f"{name}.json", content)


def page(kept: dict[str, dict]) -> str:
    """Return the whole page."""
    parts = [
        "<!-- made by: python results/foundation.py   (with --train: trains first) -->",
        "# The whole flow on real brain MRI: DenseNet121 to a five-layer CNN",
        INTRODUCTION,
    ]
    for name, content in kept.items():
        parts += section(RUNS[name][0], content)
    return "\n\n".join([*parts, ""])


def section(title: str, content: dict) -> list[str]:
    """Return one run's part of the page."""
    found = [Measurement.from_json(entry) for entry in content["measurements"]]
    data, networks = content["data"], content["networks"]
    sides = ", ".join(
        f"{sum(counts.values()):,} {side} ({data['units'][side]:,} {data['unit']})" for side, counts in data["counts"].items()
    )
    made = "; ".join(
        f"{role} {n['architecture']}, {n['provenance']}, {n['epochs']} epochs (best {n['best_epoch']}), {n['precision']}"
        for role, n in networks.items()
    )
    minutes = ", ".join(f"{stage} {seconds / 60:.1f}" for stage, seconds in content["seconds"].items())
    one = next(m for m in found if m.name == "balanced_accuracy")
    return [
        f"## {title}",
        f"`{content['command']}`",
        f"Images: {sides}; {data['split']}. Networks: {made}. Minutes: {minutes}.",
        "\n".join(f"- **{question}** {answer}. {figure}" for question, answer, figure, _ in content["verdicts"]),
        f"Prediction on test, {basis(one.n_images, one.n_units, one.unit)}; 95 % intervals, {one.method}.",
        table(found, PREDICTION, ROLES),
        "Paired differences on the same images.",
        table(found, DIFFERENCES, ("student - teacher", "student - base", "base - teacher")),
        "Size and speed (one thread, batch 1 for latency in ms, batch 32 for images per second, bytes on disk).",
        table(found, COST, ROLES),
        *where_they_look(found),
        "What the audit found: " + " ".join(f"({finding['level']}) {finding['text']}" for finding in content["findings"]),
    ]


def where_they_look(found: list[Measurement]) -> list[str]:
    """Return the tables of explanation measures, one per method."""
    parts = []
    for by in dict.fromkeys(m.by for m in found if m.name == "met"):
        chosen = [m for m in found if m.by == by]
        parts += [
            f"Explanations by `{by}`: mask-fidelity, localisation on the tumour masks, seconds per explanation.",
            table(chosen, WHERE, ROLES),
        ]
        transfer = [m for m in chosen if m.name in ("similarity", "transferred")]
        parts.append("\n".join(f"- {m.name} {m.model}: {with_interval(m)}" for m in transfer))
    controls = [m for m in found if m.by in ("random_smooth", "centre_prior") and m.model in ("teacher", "")]
    if controls:
        shown = "; ".join(f"{m.by} {m.name} {with_interval(m)}" for m in controls)
        parts.append(f"Controls that know nothing of the image, on the same images (mask-fidelity: the teacher's): {shown}.")
    return parts


def table(found: list[Measurement], names: tuple[str, ...], models: tuple[str, ...]) -> str:
    """Return a Markdown table: one row per network, one column per measure, each figure with its interval."""
    columns = {name: {m.model: m for m in found if m.name == name} for name in names}
    columns = {name: cells for name, cells in columns.items() if any(model in cells for model in models)}
    n = {name: max(places(list(by.values())), 3 if name.endswith("_difference") else 0) for name, by in columns.items()}
    rows = [(model, *(with_interval(by[model], n[name]) if model in by else "" for name, by in columns.items())) for model in models]
    return markdown(("", *columns), rows)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def places(column: list[Measurement]) -> int:
    """Return a column's decimals: by its intervals, none for counts, enough for small figures without interval."""
    if all(m.low is None for m in column):
        return 0 if all(m.value is None or float(m.value).is_integer() for m in column) else 3
    return decimals(column)


INTRODUCTION = """\
Published system A (arXiv 2502.15959) in one setting of its grid (alpha 0.4, T 10), on the pack `brain_tumor_mri`; both networks see 96 px. The same
flow twice: with patients kept on one side of the split, and with images drawn at random, as the paper does. Each is one seed: the intervals say how
far the test images decide, not how far another training would differ. The teacher is trained from scratch for 15 epochs and isn't at its best yet;
`recipes/transparency_pretrained.toml` starts one from ImageNet, and stands here once it was run (`--train foundation_pretrained`).

How to read it: only the figures of the split by patient may be believed. The random split shows what parting patients does to them; Pellucid puts a
banner over its report. The paper's figures (F1 above 0.94) are image-level, on another selection of images, at another size, with a teacher from
ImageNet: they can't be set beside these."""


def main() -> None:
    """Train where asked, then write the page from what is kept."""
    (HERE / "data").mkdir(exist_ok=True)
    if "--train" in sys.argv:
        for name in [name for name in RUNS if name in sys.argv] or RUNS:
            train(name)
    kept = {name: json.loads((HERE / "data" / f"{name}.json").read_text()) for name in RUNS if (HERE / "data" / f"{name}.json").exists()}
    files.write_text(HERE / "foundation.md", page(kept))
    print(f"wrote {HERE / 'foundation.md'} from {len(kept)} runs")


if __name__ == "__main__":
    main()
