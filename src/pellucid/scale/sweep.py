"""Many runs of one experiment, each network trained once however many of them share it; validation chooses, the test split reports."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core import files
from pellucid.core import settings as settings_file
from pellucid.core.errors import RunError
from pellucid.core.numbers import duration, plural
from pellucid.core.progress import say
from pellucid.core.records import SweepRecord, SweepRow
from pellucid.core.settings import in_words, parse
from pellucid.measures.timing import on_threads
from pellucid.reporting.sweep import write
from pellucid.running import record
from pellucid.running.experiment import Experiment
from pellucid.running.folder import command, plain
from pellucid.scale import summary
from pellucid.scale.engines import local
from pellucid.scale.plan import REPEATS, Cell, Job, cells, training_jobs
from pellucid.scale.summary import Outputs


def sweep(
    experiment: Path | str, overrides: list[str] | tuple[str, ...] = (), *, out: Path | str | None = None, processes: int | None = None
) -> SweepRecord:
    """Run every combination of the values in an experiment file's ``[sweep]`` section.

    Parameters
    ----------
    experiment : Path or str
        An experiment file.
    overrides : list of str
        ``dotted.setting=value``, as on the command line; ``sweep.distill.alpha=[0.4,0.7]`` changes an axis.
    out : Path or str, optional
        The sweep's folder; default: ``run.out`` of the file with ``_sweep`` after it.
    processes : int, optional
        Default: as many as the machine carries, one thread each.

    Returns
    -------
    SweepRecord
        All that stands on the sweep's page, which lies in its folder as ``report.html``.

    Raises
    ------
    PellucidError
        As its message says; nothing is lost, and the same call does only what is missing.
    """
    return Sweep(experiment, overrides, out=out, processes=processes).run()


class Sweep:
    """A sweep from its file to its page. Parameters are those of :func:`sweep`.

    Nothing is computed before :meth:`run` or :meth:`outline` is called.
    """

    def __init__(
        self, experiment: Path | str, overrides: list[str] | tuple[str, ...] = (), *, out: Path | str | None = None, processes: int | None = None
    ) -> None:  # fmt: skip
        file = Path(experiment)
        content, self.asked = settings_file.load_sweep(file, overrides)
        self.shared = parse(content, where=file.name)
        self.folder = Path(out or f"{Path(self.shared.run.out or f'runs/{file.stem}')}_sweep")
        self.cells = cells(content, self.asked.axes, file=file, out=self.folder)
        self.processes = processes
        self.failed: list[tuple[str, str]] = []
        self.left: list[Job] = []

    @cached_property
    def experiments(self) -> dict[str, Experiment]:
        """Every run by its name; a setting that one of them can't have shows here, before anything is trained."""
        return {cell.name: cell.experiment() for cell in self.cells}

    @cached_property
    def jobs(self) -> list[Job]:
        """Every network that has to be there, each once."""
        with on_threads(1):  # as in the processes that will train them
            return training_jobs(self.experiments, self.cells)

    @cached_property
    def groups(self) -> list[list[Cell]]:
        """The runs of each setting."""
        return summary.settings_of(self.cells)

    def run(self) -> SweepRecord:
        """Train what is missing, choose on validation, report what was asked for, write the page."""
        self._refuse_foreign()
        _ = self.jobs
        with self._held():
            self._work([job for job in self.jobs if not job.done], "networks")
            rows = [row for group in self.groups if (row := self._row(group)) is not None]
            if not rows:
                raise RunError(self._failures())
            chosen, why = summary.choice(rows, self.asked.choose)
            reported = {job.cell.name for job in self._work(self._report_jobs(rows, chosen), "reports")}
            # What an earlier sweep reported here may be of other data or an older version, so only this one's reports count.
            rows = [self._with_test(row) if reported.issuperset(cell.name for cell in self._group(row)) else row for row in rows]
            found = self._record(rows, chosen, why)
            write(found, self.folder)
        if self.failed:
            raise RunError(f"{self._failures()} Page: {self.folder / 'report.html'}.")
        return found

    def outline(self) -> str:
        """Return a few lines: how many runs and networks there are, which are there already, and about how long the rest will take."""
        to_do = [job for job in self.jobs if not job.done]
        seconds = sum(job.seconds for job in to_do) / self._processes(len(to_do))
        lines = [f"{plural(len(self.cells), 'runs')} of {plural(len(self.groups), 'settings')} in {self.folder}"]
        for role in ("teacher", "base", "student"):
            of_role = [job for job in self.jobs if job.role == role]
            lines.append(f"{role:9} {plural(len(of_role), 'networks')}, {sum(job.done for job in of_role)} done")
        lines.append(f"{plural(self._processes(len(to_do)), 'processes')}; training takes about {duration(round(seconds))}")
        return "\n".join(lines)

    def _processes(self, jobs: int) -> int:
        return max(1, min(self.processes or local.fitting_processes(), jobs))

    def _work(self, jobs: list[Job], what: str) -> list[Job]:
        """Do jobs; return those that went well."""
        done: list[Job] = []
        if not jobs:
            return done
        processes = self._processes(len(jobs))
        say(f"sweep: {len(jobs)} {what} to make, {plural(processes, 'processes')} of one thread each")
        watch = _Watch({job.key: job for job in jobs}, {job.key: self._title(job) for job in jobs}, processes)

        def finished(job: Job, result: Any, seconds: float) -> None:
            done.append(job)
            watch.finished(job, seconds)

        def failed(job: Job, error: BaseException) -> None:
            self.failed.append((self._title(job), " ".join(str(error).split())))
            say(f"failed: {self._title(job)}: {self.failed[-1][1]}")

        self.left += local.work(jobs, perform, processes=processes, finished=finished, failed=failed, beat=watch.beat)
        return done

    def _title(self, job: Job) -> str:
        """Return a job's role and what is varied of it: what all runs that share a network have in common."""
        sharing = [cell for cell in self.cells if self.experiments[cell.name].keys.get(job.role) == job.key] or [job.cell]
        varied = [axis for axis, values in self.asked.axes.items() if len(values) > 1]
        own = {axis: job.cell.values[axis] for axis in varied if len({str(cell.values[axis]) for cell in sharing}) == 1}
        return f"{job.role} {in_words(own)}".rstrip()

    def _row(self, group: list[Cell]) -> SweepRow | None:
        """Return a setting's figures on validation; None where one of its networks is missing."""
        runs, seconds = [], 0.0
        for cell in group:
            experiment = self.experiments[cell.name]
            found = {role: outputs for role, key in experiment.keys.items() if (outputs := cell.outputs(key)) is not None}
            if len(found) < len(experiment.keys):
                return None
            val = experiment.data.val  # whose units are this run's own: groups are no part of a network's key
            runs.append(Outputs(np.array(val.ids), val.unit_names, val.targets, {role: logits for role, (logits, _) in found.items()}))
            seconds += found["student"][1]
        unit = experiment.data.dataset.unit_name
        pool = summary.Pool(runs, [cell.repeat for cell in group], split="val", unit=unit, resamples=self.shared.measure.resamples)
        return SweepRow(group[0].setting, pool.predictions(), [(in_words(cell.repeat) or "run", "") for cell in group], seconds)

    def _group(self, row: SweepRow) -> list[Cell]:
        return next(group for group in self.groups if group[0].setting == row.values)

    def _report_jobs(self, rows: list[SweepRow], chosen: int) -> list[Job]:
        wanted = rows if self.asked.reports == "all" else [rows[chosen]]
        return [Job(f"report {cell.name}", "report", cell) for row in wanted for cell in self._group(row)]

    def _with_test(self, row: SweepRow) -> SweepRow:
        """Return the row with its figures on the test split, from the reports of its runs."""
        group = self._group(row)
        first = self.experiments[group[0].name]
        test = summary.reported(
            [cell.out for cell in group], [cell.repeat for cell in group],
            unit=first.data.dataset.unit_name, resamples=self.shared.measure.resamples,
        )  # fmt: skip
        runs = [(name, f"runs/{cell.name}/report.html") for (name, _), cell in zip(row.runs, group, strict=True)]
        return SweepRow(row.values, row.measurements + test, runs, row.seconds)

    def _record(self, rows: list[SweepRow], chosen: int, why: str) -> SweepRecord:
        found = SweepRecord(
            title=self.shared.run.title or next(iter(self.experiments.values())).data.name,
            created=time.strftime("%Y-%m-%d"),
            command=command(),
            axes=self.asked.axes,
            repeats=[key for key in self.asked.axes if key in REPEATS],
            choose=self.asked.choose,
            rows=rows,
            chosen=chosen,
            why=why,
            failed=self.failed,
            settings=plain(self.shared),
            versions=record.versions(),
        )
        files.write_json(self.folder / "sweep.json", asdict(found), kind="sweep")
        return found

    def _failures(self) -> str:
        listed = "; ".join(f"{name}: {message}" for name, message in self.failed)
        left = f"; for that {plural(len(self.left), 'jobs')} not begun" if self.left else ""
        return (
            f"{plural(len(self.failed), 'jobs')} of the sweep failed{left}; the others are done ({listed}). Logs: {self.folder / 'logs'}."
        )

    def _refuse_foreign(self) -> None:
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return
        if not (self.folder / ".lock").exists() or (self.folder / "settings.toml").exists():  # a run has a lock too
            raise RunError(f"{self.folder}: is there already and holds no sweep. Choose another --out, or empty it.")

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the only right to write the sweep's folder; a kill frees it."""
        lock = files.hold(self.folder / ".lock")
        if lock is None:
            raise RunError(f"{self.folder}: another process is running this sweep. Wait for it, or choose another --out.")
        with lock:
            for inside in ("", "validation", "report", "report/data"):
                files.remove_leftovers(self.folder / inside)
            yield


def perform(job: Job) -> None:
    """Do one job, its progress in a log of its own: train a network and keep its validation logits, or make a run's report."""
    log = _log(job)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream, contextlib.redirect_stderr(stream):
        experiment = job.cell.experiment()
        if job.role == "report":
            with experiment:
                experiment.report()
            return
        network = experiment.trained(job.role)
        seconds = np.array(sum(epoch["seconds"] for epoch in network.history))
        files.write_npz(
            job.cell.outputs_path(job.key), {"logits": network.logits(experiment.data.val), "seconds": seconds}, kind="validation"
        )


class _Watch:
    """Says what a sweep has done, what it is doing, and how long it will still take."""

    def __init__(self, jobs: dict[str, Job], titles: dict[str, str], processes: int) -> None:
        self.left, self.titles = jobs, titles
        self.total, self.processes = len(jobs), processes
        self.planned = self.taken = 0.0

    def finished(self, job: Job, seconds: float) -> None:
        del self.left[job.key]
        if job.seconds:
            self.planned += job.seconds
            self.taken += seconds
        say(f"[{self.total - len(self.left)}/{self.total}] {self.titles[job.key]}: {duration(seconds)}{self._rest()}")

    def beat(self, running: list[Job]) -> None:
        for job in running:
            lines = _log(job).read_text(encoding="utf-8").splitlines() if _log(job).exists() else []
            say(f"  {self.titles[job.key]}: {lines[-1] if lines else 'begun'}")

    def _rest(self) -> str:
        pace = self.taken / self.planned if self.planned else 1.0
        seconds = sum(job.seconds for job in self.left.values()) * pace / self.processes
        return f"; about {duration(round(seconds))} left" if seconds else ""


def _log(job: Job) -> Path:
    name = job.cell.name if job.role == "report" else job.key
    return job.cell.out.parents[1] / "logs" / f"{job.role}-{name}.log"
