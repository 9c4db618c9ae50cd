"""One experiment from its file to its report: data, teacher, base, student, explanations, measures, report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.core import files, registry
from pellucid.core import settings as settings_file
from pellucid.core.errors import SettingError
from pellucid.core.fingerprint import fingerprint
from pellucid.core.numbers import duration
from pellucid.core.records import TWIN, Explanation, RunRecord, StageRecord
from pellucid.core.rng import derive
from pellucid.core.settings import Settings
from pellucid.core.workspace import Workspace
from pellucid.data.find import data_folders
from pellucid.data.load import Data, load
from pellucid.explainers.explain import check_network, explain, explain_layers
from pellucid.measures.judged import Judged, Judgement, Scores
from pellucid.models.build import check_options as check_model
from pellucid.models.saved import Network
from pellucid.reporting.page import write
from pellucid.running import record
from pellucid.running.folder import RunFolder, open_run, plain
from pellucid.running.stages import Plan, distill, gather, judge, plan, train

N_PANEL = 20
_PATHS = (("data", "source"), ("teacher", "weights"), ("student", "weights"))


def run(experiment: Path | str | Settings, overrides: list[str] | tuple[str, ...] = ()) -> RunRecord:
    """Run all stages of an experiment; what was done before is not done again.

    Parameters
    ----------
    experiment : Path, str or Settings
        An experiment file, or its settings.
    overrides : list of str
        ``dotted.setting=value``, as on the command line.

    Returns
    -------
    RunRecord
        All that stands in the report, which lies in the run folder as ``report.html``.

    Raises
    ------
    PellucidError
        As its message says; nothing is lost, and the same call goes on where it stopped.
    """
    with open_experiment(experiment, overrides) as opened:
        return opened.report()


def open_experiment(experiment: Path | str | Settings, overrides: list[str] | tuple[str, ...] = ()) -> Experiment:
    """Return an experiment from its file, its settings, or its run folder, without computing anything."""
    if isinstance(experiment, Settings):
        return Experiment(experiment)
    path = Path(experiment)
    if path.is_dir():
        if overrides:
            raise SettingError(
                f"{path}: a run's settings stand fixed. Give overrides with `pellucid run EXPERIMENT.toml` and another run.out."
            )
        return Experiment(open_run(path).settings, beside=path, out=path)
    settings = settings_file.load(path, overrides)
    return Experiment(settings, beside=path.parent, name=path.stem)


class Experiment:
    """The stages of one experiment, each computed when first asked for, from its inputs' results.

    In a ``with`` block, whose end lets another process write the run folder.

    Parameters
    ----------
    settings : Settings
    beside : Path, optional
        The experiment file's folder, where a bare source name is looked for first.
    name : str
        Names the run folder where ``run.out`` doesn't.
    out : Path, optional
        The run folder, where it is known.
    """

    def __init__(self, settings: Settings, *, beside: Path | None = None, name: str = "experiment", out: Path | None = None) -> None:
        check(settings)
        self.settings = _found_beside(settings, beside)
        self.workspace = Workspace(settings.run.workspace or None)
        place = out or Path(settings.run.out or f"runs/{name}")
        self.folder = RunFolder(place, _complete(_seen_from(place, self.settings)))
        self.stages: list[StageRecord] = []
        self._before: dict[str, float] = {}  # seconds that a stage's parts took before this start

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, *error: object) -> None:
        self.folder.release()

    # The flow, from left to right. Each stage asks for those before it.

    @cached_property
    def data(self) -> Data:
        """Find, decode, split."""
        start = time.perf_counter()
        found = load(self.settings.data, workspace=self.workspace)
        self.stages.append(StageRecord("data", found.key, time.perf_counter() - start, False))
        return found

    @cached_property
    def audit(self) -> dict[str, Any]:
        """Say whether the split can be believed."""

        def keep(found: dict[str, Any]) -> None:
            self._create()
            files.write_json(self.folder.path / "audit.json", found, kind="audit")

        return self._timed("audit", lambda: self.data.audit, keep=keep)

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """Build both networks, their taps and the loss before anything is trained, so that a mistake in the last shows at once."""
        planned = {}
        for section in ("teacher", "student"):
            asked = self._network(section)
            planned[section] = plan(self.data, asked.pop("model"), asked, section=section, workspace=self.workspace)
            self._check_methods(planned[section])
        registry.get("losses", self.settings.distill.loss)(planned["student"].hard_loss(self.data), **self._loss_options)
        return planned

    @cached_property
    def keys(self) -> dict[str, str]:
        """Return where each network lies in the workspace, or will lie."""
        n_views, teacher = self.settings.data.views, self.plans["teacher"].training_key(None)
        student, loss = self.plans["student"], self.settings.distill.loss
        distilled = student.distilling_key(n_views, teacher, loss, self._loss_options)
        return {"teacher": teacher, "base": student.training_key(n_views), "student": distilled}

    @cached_property
    def teacher(self) -> Network:
        """Train the large network."""
        return self._recorded("teacher")

    @cached_property
    def base(self) -> Network:
        """Train the student's architecture without a teacher: same initialisation, views, order, epochs."""
        return self._recorded("base")

    @cached_property
    def student(self) -> Network:
        """Train the student from the teacher."""
        _ = self.teacher
        network = self._recorded("student")
        network.save(self.folder.path / "student.safetensors")
        return network

    @cached_property
    def twin(self) -> Network:
        """Train a second teacher, of another seed."""
        return self._recorded(TWIN)

    @cached_property
    def networks(self) -> dict[str, Network]:
        """All three by role, and the twin where one is asked for."""
        found = {"teacher": self.teacher, "base": self.base, "student": self.student}
        return {**found, TWIN: self.twin} if self.settings.measure.twin else found

    @cached_property
    def explained(self) -> tuple[list[Explanation], list[Explanation], dict[str, np.ndarray]]:
        """Maps of every network by every method on the same test images, and all student layers for a panel of 20."""
        asked, images = self.settings.explain, self.data.test
        key = self._explain_key
        kept = self._kept("explain", key, lambda: self.folder.read_maps(len(images), len(images.classes)))
        if kept is not None:
            return kept

        def compute() -> tuple[list[Explanation], list[Explanation], dict[str, np.ndarray]]:
            rows = evenly(images.targets, asked.images)
            panel_rows = rows[evenly(images.targets[rows], N_PANEL)]
            maps = explain(
                dict(self.networks),
                images[rows],
                methods=asked.methods,
                target=asked.target,
                tap=asked.tap,
                settings=asked.options,
                baselines=self.data.train,
                part=partial(self._part_of_maps, rows),
            )
            panel = explain_layers({"student": self.student}, images[panel_rows])
            return maps, panel, {"rows": rows, "panel_rows": panel_rows}

        return self._timed("explain", compute, key=key, keep=self.folder.write_maps)

    def _part_of_maps(self, rows: np.ndarray, name: str, work: Callable[[], list[Explanation]]) -> list[Explanation]:
        n_images, n_classes = len(self.data.test), len(self.data.classes)

        def read(file: str) -> list[Explanation]:
            maps, _, facts = self.folder.read_maps(n_images, n_classes, name=file)
            if not maps or not np.array_equal(facts["rows"], rows):
                raise ValueError(f"{file}: no maps of these images")
            return maps

        return self._part(
            "explain", self._explain_key, name, work, read=read,
            write=lambda file, maps: self.folder.write_maps(maps, [], {"rows": rows}, name=file),
        )  # fmt: skip

    @cached_property
    def _explain_key(self) -> str:
        networks = [network.fingerprint for network in self.networks.values()]
        return fingerprint("explain", record.VERSIONS["explain"], self.settings.explain.model_dump(), networks, self.data.key)

    @cached_property
    def scores(self) -> Scores:
        """Measure all of it and reach the verdicts."""
        maps, _, facts = self.explained
        judged = self._judged(maps, facts["rows"])
        units = self.data.dataset.resampling_units
        key = fingerprint("measure", record.VERSIONS["measure"], self.settings.measure.model_dump(), self._explain_key, units)
        audit = self.audit
        kept = self._kept("measure", key, lambda: record.read_scores(self.folder.path, judged, audit))
        if kept is not None:
            return kept

        def part(name: str, work: Callable[[], Judgement]) -> Judgement:
            place, n_images = self.folder.path, len(judged.images)
            return self._part(
                "measure", key, name, work,
                read=lambda file: record.read_judgement(place / file, n_images),
                write=lambda file, judgement: record.write_judgement(place / file, judgement),
            )  # fmt: skip

        return self._timed(
            "measure", lambda: judge(judged, audit, part=part), key=key, keep=lambda scores: record.write_scores(self.folder.path, scores)
        )

    def report(self) -> RunRecord:
        """Write the report and all tables; return what stands in them."""
        audit, scores = self.audit, self.scores
        maps, panel, facts = self.explained
        found = record.assemble(
            title=self.settings.run.title or self.data.name,
            command=self.folder.command(),
            settings=plain(self.folder.settings),
            data=self.data,
            scores=scores,
            explanations=maps,
            panel=panel,
            panel_rows=facts["panel_rows"],
            audit=audit,
            stages=self.stages,
            versions=record.versions(),
        )
        self._timed("report", lambda: write(found, self.folder.path))
        return found

    def outline(self) -> str:
        """Return a few lines: each stage, whether it is done, and about how long the training steps still to do will take."""
        counts = ", ".join(f"{len(side):,} {side.split}" for side in (self.data.train, self.data.val, self.data.test))
        lines = [f"data      {self.data.name}: {counts}; {self.data.split.how}"]
        twin = [(TWIN, self.plans["teacher"])] if self.settings.measure.twin else []
        networks = [("teacher", self.plans["teacher"]), ("base", self.plans["student"]), ("student", self.plans["student"]), *twin]
        for role, planned in networks:
            settings = planned.settings
            steps = settings.epochs * math.ceil(len(self.data.train) / settings.batch_size)
            about = f", about {duration(round(steps * planned.seconds_per_step))}" if planned.seconds_per_step else ""
            to_do = f"{settings.epochs} epochs in {planned.precision.name}{about}"
            lines.append(f"{role:9} {settings.model}: {'done' if self.is_trained(role) else to_do}")
        for name in ("explain", "measure", "report"):
            lines.append(f"{name:9} {'done before' if self.folder.stage(name) else 'to do'}")
        return "\n".join(lines)

    def _judged(self, maps: list[Explanation], rows: np.ndarray) -> Judged:
        judged = gather(self.networks, self.data.test, self.data.val, maps, rows, self.settings.measure, self.data.train)
        record.write_predictions(self.folder.path, judged.images, self.data.val, judged.logits, judged.val_logits)
        return judged

    @property
    def _loss_options(self) -> dict[str, Any]:
        asked = self.settings.distill
        return registry.check_options(registry.get("losses", asked.loss), asked.options, where="distill", also=["loss"])

    def trained(self, role: str) -> Network:
        """Find a network in the workspace, or train it there; the run folder is left alone, so several processes may do this at once."""
        if role in ("teacher", TWIN):
            return train(self.data, workspace=self.workspace, **self._network(role))
        asked = self._network("student")
        if role == "base":
            return train(self.data, workspace=self.workspace, n_views=self.settings.data.views, **asked)
        return distill(
            self.data, self.trained("teacher"), asked.pop("model"), loss=self.settings.distill.loss, workspace=self.workspace,
            student_settings=asked, **self._loss_options,
        )  # fmt: skip

    def is_trained(self, role: str) -> bool:
        """Return whether a network is in the workspace already."""
        key = self._twin_key if role == TWIN else self.keys[role]
        return (self.workspace.folder("networks", key) / "network.safetensors").exists()

    @cached_property
    def _twin_key(self) -> str:
        """Return where the twin lies; it isn't among `keys`, for no other network depends on it."""
        asked = self._network(TWIN)
        return plan(self.data, asked.pop("model"), asked, section="teacher", workspace=self.workspace).training_key(None)

    def _recorded(self, role: str) -> Network:
        """Train a network or find it, and record that; its seconds are those of all its epochs, also of those before a stop."""
        cached = self.is_trained(role)
        network = self.trained(role)
        self._record(StageRecord(role, network.fingerprint, sum(row["seconds"] for row in network.history), cached))
        return network

    def _network(self, section: str) -> dict[str, Any]:
        """Return a network's settings for `train`, with the run's seed where it has none of its own; the twin's come from the teacher's."""
        asked = getattr(self.settings, "teacher" if section == TWIN else section)
        seed = self.settings.run.seed if asked.seed is None else asked.seed
        return {**asked.model_dump(exclude={"seed"}), "seed": derive(seed, TWIN) if section == TWIN else seed}

    def _check_methods(self, planned: Plan) -> None:
        asked, spec = self.settings.explain, self.data.spec(planned.settings.size)
        image = torch.zeros(1, spec.channels, spec.size, spec.size)
        check_network(planned.model, asked.methods, image, tap=asked.tap, settings=asked.options)

    def _create(self) -> None:
        """Make and hold the run folder, once data and networks have been found sound: a mistake before leaves nothing behind."""
        _ = self.plans
        self.folder.create()

    def _kept(self, name: str, key: str, read: Callable[[], Any]) -> Any:
        """Return what a stage of this key left in the run folder; None where there is none, or where it is damaged."""
        done = self.folder.stage(name)
        kept = files.unless_damaged(read) if done is not None and done.key == key else None
        if done is not None and kept is not None:
            self.folder.drop_parts(name)  # a kill just after the stage was recorded left them
            self.stages.append(StageRecord(name, key, done.seconds, True))
        return kept

    def _timed(self, name: str, work: Callable[[], Any], *, key: str = "", keep: Callable[..., None] | None = None) -> Any:
        """Do a stage's work, keep its output, then record the stage; a kill in between leaves it undone."""
        start = time.perf_counter()
        found = work()
        if keep is not None:
            keep(*found) if isinstance(found, tuple) else keep(found)
        seconds = time.perf_counter() - start + self._before.pop(name, 0.0)
        self._record(StageRecord(name, key or self.data.key, seconds, False))
        return found

    def _part(self, stage: str, *given: Any, **how: Any) -> Any:
        """Return a part of a stage (see :meth:`RunFolder.part`); what it took before a stop counts for the stage."""
        found, seconds = self.folder.part(stage, *given, **how)
        self._before[stage] = self._before.get(stage, 0.0) + seconds
        return found

    def _record(self, stage: StageRecord) -> None:
        self.stages.append(stage)
        self._create()
        self.folder.finish(stage)


def check(settings: Settings) -> None:
    """Refuse, before anything is computed, names of parts that don't exist and settings that the parts don't have."""
    loss = registry.get("losses", settings.distill.loss)
    registry.check_options(loss, settings.distill.options, where="distill", also=settings_file.section_fields("distill"))
    for section in ("teacher", "student"):
        asked = getattr(settings, section)
        check_model(asked.model, asked.options, where=section)
    for method in settings.explain.methods:
        registry.check_packages(registry.get("explainers", method))
    for kind, section, of in (("explainers", "explain", "methods"), ("measures", "measure", "measures")):
        asked = getattr(settings, section)
        registry.check_tables(kind, getattr(asked, of), asked.options, where=section, also=settings_file.section_fields(section))
    if settings.measure.twin and not settings.teacher.epochs:
        raise SettingError(
            "[measure] twin: with teacher.epochs = 0 the teacher is the weights as they are, and a second one would be the same. "
            "Train the teacher, or set twin = false.",
            setting="twin",
        )


def _found_beside(settings: Settings, beside: Path | None) -> Settings:
    """Return settings whose files are named from the current folder: those beside the experiment file, and weights in ``PELLUCID_DATA``.

    A source in ``PELLUCID_DATA`` keeps its bare name: whoever opens it looks there.
    """
    found = settings.model_copy(deep=True)
    for section, name in _PATHS:
        value = getattr(getattr(found, section), name)
        if not value or Path(value).is_absolute():
            continue
        folders = [] if beside is None else [beside]
        if name == "weights":
            folders += [Path(), *data_folders()]
        place = next((folder / value for folder in folders if (folder / value).exists()), None)
        if place is not None:
            setattr(getattr(found, section), name, os.path.relpath(place))
    return found


def _seen_from(place: Path, settings: Settings) -> Settings:
    """Return settings whose files are named from the run folder, so that the run can be opened from any folder.

    A bare name that is found in ``PELLUCID_DATA``, and an absolute path, stay as they are.
    """
    seen = settings.model_copy(deep=True)
    for section, name in _PATHS:
        value = getattr(getattr(seen, section), name)
        if value and not Path(value).is_absolute() and Path(value).exists():
            setattr(getattr(seen, section), name, os.path.relpath(value, place))
    return seen


def _complete(settings: Settings) -> Settings:
    """Return settings with those of source, networks and loss filled in that were left at their defaults."""
    content = settings.model_dump()
    for section, kind, name in (
        ("data", "data", "source"),
        ("teacher", "models", "model"),
        ("student", "models", "model"),
        ("distill", "losses", "loss"),
    ):
        if content[section][name] in registry.describe(kind):
            known = registry.options(registry.get(kind, content[section][name]))
            given_by_us = {"n_classes", "channels", "size"} if kind == "models" else set()
            defaults = {key: default for key, (_, default) in known.items() if key not in given_by_us}
            content[section] = {**defaults, **content[section]}
    return settings_file.parse(content)


def evenly(targets: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` positions, the same number of each class as far as there are, in ascending order."""
    if count >= len(targets):
        return np.arange(len(targets))
    rank = np.zeros(len(targets), np.int64)  # each image's number within its class, spread over the class's order
    for value in np.unique(targets):
        where = np.flatnonzero(targets == value)
        spread = np.argsort(np.argsort((np.arange(len(where)) * 0.6180339887) % 1.0, kind="stable"), kind="stable")
        rank[where] = spread
    return np.sort(np.argsort(rank, kind="stable")[:count])
