"""The command line: arguments in, one call, exit code out.

Exit codes: 0 done; 1 a mistake of ours (or, with ``audit --strict``, a leak); 2 a mistake in the arguments, settings or data; 130 stopped.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pellucid.core.errors import PellucidError, SettingError, did_you_mean

app = typer.Typer(
    name="pellucid",
    help="Distil a small image classifier from a large one, and prove what survived: the accuracy and the explanation.\n\n"
    "Start: pellucid init my_images/   then   pellucid run my_images.toml   then open the report it names.\n\n"
    'Without data of your own: pellucid run with source = "phantom" works on generated images.',
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# Typer's releases differ in whether click is a library beside it or a part of it; the common ancestor of its errors is the same.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings to change: section.setting=value ...", show_default=False)]
Run = Annotated[Path, typer.Argument(help="A run folder, or an experiment file.", show_default=False)]


@app.callback()
def options(
    context: typer.Context, debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False
) -> None:
    """Show the help where no command is given; `--debug` is taken by :func:`main`, wherever it stands."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def init(
    source: Annotated[str, typer.Argument(help="A folder of class folders, a .csv manifest, a .zip or an .npz.", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="The file to write; default: NAME.toml here.", show_default=False)] = None,
) -> None:
    """Write an experiment file for your images, every setting explained."""
    from pellucid.running.starter import write_starter

    path = to or Path(f"{Path(source).stem or 'experiment'}.toml")
    data = write_starter(source, path)
    for finding in data.audit["findings"]:
        print(f"{finding['level']}: {finding['text']}")
    print(f"Wrote {path}. Next: pellucid run {path}")


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment file.", show_default=False)],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which stages there are and what is done already.")] = False,
) -> None:
    """Run an experiment from its data to its report."""
    from pellucid.running.experiment import open_experiment

    with open_experiment(experiment, overrides or []) as opened:
        if dry_run:
            print(opened.outline())
            return
        found = opened.report()
        for verdict in found.verdicts:
            print(f"{verdict.question} {verdict.answer.upper()}. {verdict.figure}".rstrip())
        print(f"Report: {opened.folder.path / 'report.html'}")


@app.command()
def sweep(
    experiment: Annotated[Path, typer.Argument(help="An experiment file with a [sweep] section.", show_default=False)],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; default: run.out with _sweep after it.", show_default=False)] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Default: as many as this machine carries, one thread each.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is to do and about how long it takes.")] = False,
) -> None:
    """Run every combination of settings that [sweep] names, and let validation choose.

    Networks that runs share are trained once. A second start does only what is missing.
    """
    from pellucid.core.settings import in_words
    from pellucid.scale.sweep import Sweep

    opened = Sweep(experiment, overrides or [], out=out, processes=processes)
    if dry_run:
        print(opened.outline())
        return
    found = opened.run()
    print(f"Chosen: {in_words(found.rows[found.chosen].values) or 'the one setting'}, because {found.why}.")
    print(f"Report: {opened.folder / 'report.html'}")


@app.command()
def train(run: Run, overrides: Overrides = None) -> None:
    """Train teacher and base of one run."""
    from pellucid.running.experiment import open_experiment

    with open_experiment(run, overrides or []) as opened:
        _ = opened.audit
        for role, network in (("teacher", opened.teacher), ("base", opened.base)):
            print(_trained(role, network))


@app.command()
def distill(run: Run, overrides: Overrides = None) -> None:
    """Distil the student of one run."""
    from pellucid.running.experiment import open_experiment

    with open_experiment(run, overrides or []) as opened:
        _ = opened.audit
        print(_trained("student", opened.student))
        print(f"Network: {opened.folder.path / 'student.safetensors'}")


@app.command()
def explain(
    run: Annotated[
        Path, typer.Argument(help="A run folder or an experiment file; with --models, images as data.source.", show_default=False)
    ],
    overrides: Overrides = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="Saved networks to explain instead of a run's: ROLE=FILE, given once for each.", show_default=False),
    ] = None,
    to: Annotated[Path, typer.Option(help="With --models: where the report goes.")] = Path("report.html"),
) -> None:
    """Draw the maps of one run, or of networks trained anywhere."""
    if models:
        from pellucid.running.judging import judge_files

        for verdict in judge_files(models, str(run), overrides or [], to=to).verdicts:
            print(f"{verdict.question} {verdict.answer.upper()}. {verdict.figure}".rstrip())
        print(f"Report: {to}")
        return
    from pellucid.running.experiment import open_experiment

    with open_experiment(run, overrides or []) as opened:
        _ = opened.audit
        for explanation in opened.explained[0]:
            grid = "x".join(str(side) for side in explanation.maps.shape[1:])
            print(
                f"{explanation.model}: {explanation.method} at {explanation.layer} ({grid}), {len(explanation.maps):,} images, {int(explanation.dead.sum())} dead"
            )
        print(f"Maps: {opened.folder.path / 'maps.npz'}")


@app.command()
def measure(run: Run, overrides: Overrides = None) -> None:
    """Measure the networks of one run."""
    from pellucid.core.numbers import full
    from pellucid.running.experiment import open_experiment

    with open_experiment(run, overrides or []) as opened:
        _ = opened.audit
        for found in opened.scores.measurements:
            if found.stratum == "all":
                print(f"{found.name} {found.model} {found.by}".strip() + f": {full(found)}")
        print(f"All of them: {opened.folder.path / 'measurements.json'}")


@app.command()
def report(run: Run, overrides: Overrides = None) -> None:
    """Write the report of one run."""
    from pellucid.running.experiment import open_experiment

    with open_experiment(run, overrides or []) as opened:
        opened.report()
        print(f"Report: {opened.folder.path / 'report.html'}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one, with the same test images.", show_default=False)],
    role: Annotated[str, typer.Option(help="Which network of both: student, base, teacher, ...")] = "student",
) -> None:
    """Compare one network of two runs, image by image.

    Prints one line for each measure: A, B and their difference, paired, with intervals. random_smooth and centre_prior are maps that know nothing.
    """
    from pellucid.core.numbers import basis, decimals, with_interval
    from pellucid.scale.comparison import DIFFERENCE, A, B
    from pellucid.scale.comparison import compare as compared

    found = compared(first, second, role=role)
    print(f"A = {first}, B = {second}, {role}; {basis(found[0].n_images, found[0].n_units, found[0].unit)}")
    for name, by in dict.fromkeys((m.name.removesuffix("_difference"), m.by) for m in found):
        those = {m.model: m for m in found if m.name.removesuffix("_difference") == name and m.by == by}
        places = decimals(those.values())
        figures = [f"{model} {with_interval(those[model], places)}" for model in (A, B, DIFFERENCE, "A ~ B") if model in those]
        print(f"{f'{name} {by}':44} " + "   ".join(f"{text:24}" for text in figures).rstrip())


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, or a .safetensors file that Pellucid wrote.", show_default=False)],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", show_default=False)],
    on_error: Annotated[str, typer.Option(help="stop, or skip images that can't be read.")] = "stop",
) -> None:
    """Classify images with a trained student (CSV).

    Prints one line for each image: file, class, probability, probability of every class.
    """
    import csv

    from pellucid.running.prediction import predict_files

    rows = predict_files(model, images, on_error=on_error)
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)


@app.command()
def audit(
    source: Annotated[str, typer.Argument(help="Data, as data.source, or an experiment file.", show_default=False)],
    overrides: Overrides = None,
    probe: Annotated[
        list[str] | None, typer.Option(help="nearest-neighbour or shuffled-labels; may be given twice.", show_default=False)
    ] = None,
    json_to: Annotated[Path | None, typer.Option("--json", help="Write the findings to this file too.", show_default=False)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 where a leak was found.")] = False,
) -> None:
    """Say whether a split can be believed.

    Looks for subjects, groups and duplicates across it, and for columns that give the class away.
    """
    from pellucid.running.auditing import audit_source

    found, table = audit_source(source, overrides or [], probe or [], json_to)
    print(table)
    if strict and any(finding["level"] == "leak" for finding in found["findings"]):
        raise typer.Exit(1)


@app.command("list")
def list_parts(
    kind: Annotated[str, typer.Argument(help="losses, explainers, measures, models or data.", show_default=False)] = "",
) -> None:
    """List the parts that an experiment file can name."""
    from pellucid.core.registry import KINDS, describe

    if kind and kind not in KINDS:
        raise SettingError(f'"{kind}" is none of {", ".join(KINDS)}.{did_you_mean(kind, KINDS)}', setting=kind)
    for name in [kind] if kind else KINDS:
        print(f"{name}:")
        for part, summary in describe(name).items():
            print(f"  {part:22} {summary}")
        if name == "models":
            print(f"  {'any timm name':22} e.g. densenet121, resnet50, convnext_tiny, deit_base_patch16_224")


@app.command()
def clean(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys to remove; none: list what there is.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
    where: Annotated[
        Path | None, typer.Option("--workspace", help="Default: .pellucid, or PELLUCID_WORKSPACE.", show_default=False)
    ] = None,
) -> None:
    """List or remove what the workspace keeps.

    That is: decoded images, trained networks, teacher caches.
    """
    from pellucid.core.workspace import Workspace

    workspace = Workspace(where)
    entries = workspace.entries()
    unknown = sorted(set(keys or []) - {key for _, key, _ in entries})
    if unknown:
        raise SettingError(f"{workspace.path}: holds no {', '.join(unknown)}. `pellucid clean` lists what there is.")
    for kind, key, size in entries:
        if everything or key in (keys or []):
            workspace.remove(kind, key)
        print(f"{'removed ' if everything or key in (keys or []) else ''}{kind} {key} {size / 1e6:,.1f} MB")
    print(f"{workspace.path}: {sum(size for _, _, size in entries) / 1e6:,.1f} MB in {len(entries)} results")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever called; what is said there must not come out of the other
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (stays open as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal's encoding may lack a class's or a file's letters
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app([argument for argument in arguments if argument != "--debug"], standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):  # older releases of Typer raise Abort, newer ones return 130
        code = 130
    except _USAGE_ERROR as error:
        _complain(str(error.format_message()))  # type: ignore[attr-defined]
        code = 2
    except PellucidError as error:
        if debug:
            raise
        _complain(" ".join(str(error).split("\n")))
        code = 2
    except BrokenPipeError:
        code = 0  # whoever read the output has read enough
    except Exception as error:
        if debug:
            raise
        if (mended := _outside(error)) is not None:
            _complain(mended)
            sys.exit(2)
        _complain(f"This is a mistake in Pellucid, not yours: {type(error).__name__}: {error}. `pellucid --debug ...` shows where.")
        code = 1
    if code == 130:
        _complain("Stopped. What a run or sweep had finished is kept: the same command goes on from there.")
    sys.exit(code)


def _outside(error: Exception) -> str | None:
    """Return what to say of an error that no part of Pellucid could foresee and that isn't its mistake."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        name = str(error.filename)
        return f"{name[:40]}...: a name of {len(name):,} letters is too long for this disk. Choose a shorter one."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full. Free some space and start again; nothing is lost."
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or type(error).__name__ == "OutOfMemoryError":
        return "The memory is too small for this. Lower data.size, batch_size, the network's widths or the amount of data."
    return None


def _complain(text: str) -> None:
    print(f"pellucid: {text}", file=sys.stderr)


def _trained(role: str, network: object) -> str:
    history, best = network.history, network.best_epoch  # type: ignore[attr-defined]
    if not history:
        return f"{role} {network.architecture}: not trained (epochs = 0)"  # type: ignore[attr-defined]
    score = history[best - 1]["val.balanced_accuracy"]
    return f"{role} {network.architecture}: {len(history)} epochs, best {best}, validation balanced accuracy {score:.3f}"  # type: ignore[attr-defined]
