"""The public verbs: train, distill, measure, report. Each works alone, on data and networks, without a run folder.

What was computed before under the same inputs is found again in the workspace.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.core import files, registry
from pellucid.core.errors import ModelError, SettingError
from pellucid.core.fingerprint import fingerprint
from pellucid.core.records import Explanation, Measurement
from pellucid.core.settings import MeasureSettings, NetworkSettings, parse, section_fields
from pellucid.core.workspace import Workspace
from pellucid.data.dataset import Subset
from pellucid.data.load import Data
from pellucid.data.views import epoch
from pellucid.distillation import guard
from pellucid.distillation.objective import Distilled
from pellucid.distillation.teacher_cache import checksum, teacher_logits
from pellucid.explainers.explain import explain
from pellucid.measures.judged import Judged, Judgement, Scores
from pellucid.measures.verdict import judge as reach_verdicts
from pellucid.models.build import build
from pellucid.models.saved import Network
from pellucid.models.saved import load as load_network
from pellucid.reporting.page import write
from pellucid.running import record
from pellucid.running.folder import are_rows, command
from pellucid.stats.intervals import resample
from pellucid.training.loop import fit
from pellucid.training.objective import HardLoss, Objective, Supervised
from pellucid.training.precision import Precision, choose

VERSION = 3  # raise by hand when a change here or in the loop changes trained weights
DRY_BATCHES = 3


def train(
    data: Data, model: str | nn.Module, *, workspace: Workspace | None = None, n_views: int | None = None, **settings: Any
) -> Network:
    """Train a network from labels.

    Parameters
    ----------
    data : Data
        From :func:`pellucid.load`.
    model : str or nn.Module
        ``cnn5``, any timm name, or a network of your own that maps images to logits [N, K] (trained on a copy).
    workspace : Workspace, optional
        Where the trained network is kept and found again.
    n_views : int, optional
        See only so many views of each image, as a student does; default: a new view each epoch.
    **settings
        Any setting of the ``[teacher]`` section, and the model's own.

    Returns
    -------
    Network
        The best epoch on validation.

    Raises
    ------
    SettingError, ModelError, DivergedError, StorageError
        As the messages say.
    """
    workspace = workspace or Workspace()
    planned = plan(data, model, settings, section="teacher", workspace=workspace)

    def objective(network: nn.Module) -> Objective:
        return Supervised(network, planned.hard_loss(data))

    return _trained(data, planned, planned.training_key(n_views), objective, n_views, workspace, f"{planned.settings.model} from labels")


def distill(
    data: Data,
    teacher: Network,
    student: str | nn.Module,
    *,
    loss: str = "logit_kd",
    workspace: Workspace | None = None,
    student_settings: dict[str, Any] | None = None,
    **options: Any,
) -> Network:
    """Train a student from a teacher.

    Parameters
    ----------
    data : Data
    teacher : Network
        Frozen and in eval mode; its logits are computed once for each image and view.
    student : str or nn.Module
        As `model` of :func:`train`.
    loss : str
        See ``pellucid list losses``.
    workspace : Workspace, optional
    student_settings : dict, optional
        Any setting of the ``[student]`` section.
    **options
        The loss's own settings, e.g. ``alpha`` and ``temperature``.

    Returns
    -------
    Network

    Raises
    ------
    GuardError
        A part of the loss with a weight above zero doesn't move the student.
    SettingError, ModelError, DivergedError, StorageError
        As the messages say.
    """
    workspace = workspace or Workspace()
    planned = plan(data, student, student_settings or {}, section="student", workspace=workspace)
    kind = registry.get("losses", loss)
    options = registry.check_options(kind, options, where="distill", also=["loss"])
    if teacher.task.classes != data.classes:
        raise ModelError(
            f"the teacher knows the classes {', '.join(teacher.task.classes)}, the data {', '.join(data.classes)}. Train a teacher on these data."
        )
    before = checksum(teacher.model)
    # A network that wasn't trained here has no fingerprint; its weights then tell it from another.
    key = planned.distilling_key(data.settings.views, teacher.fingerprint or before, loss, options)
    settled = kind(planned.hard_loss(data), **options)

    def objective(network: nn.Module) -> Objective:
        logits = teacher_logits(teacher, data.train, data.views, data.settings.views, Precision(False, False), workspace, key=data.key)
        distilled = Distilled(network, settled, logits)
        order = np.arange(min(len(data.train), DRY_BATCHES * planned.settings.batch_size))
        dry = epoch(data.train, [data.spec(planned.settings.size)], data.views, view=0, order=order, batch_size=planned.settings.batch_size)
        guard.check(distilled, dry, loss=loss)
        return distilled

    network = _trained(
        data, planned, key, objective, data.settings.views, workspace, f"{planned.settings.model} from {teacher.architecture}"
    )
    if checksum(teacher.model) != before:
        raise RuntimeError("the teacher changed while the student learnt from it: this is a mistake in Pellucid, please report it")
    return network


def measure(
    networks: Network | dict[str, Network],
    images: Subset,
    *,
    val: Subset | None = None,
    explanations: list[Explanation] | None = None,
    rows: np.ndarray | None = None,
    audit: dict[str, Any] | None = None,
    baselines: Subset | None = None,
    **settings: Any,
) -> Scores:
    """Measure networks on the same images.

    Parameters
    ----------
    networks : Network or dict of role -> Network
        Roles ``teacher``, ``base`` and ``student`` are compared with one another.
    images : Subset
        Usually ``data.test``.
    val : Subset, optional
        Fits the temperature of the scaled calibration error.
    explanations : list of Explanation, optional
        Maps on ``images[rows]``; made with both default methods where there are none.
    rows : int array, optional
        Which images were explained; explanations of a subset know it themselves.
    audit : dict, optional
        What the audit found, for the verdict on the data.
    baselines : Subset, optional
        The training split, if the maps were made with it: timing those methods needs it.
    **settings
        Any setting of the ``[measure]`` section.

    Returns
    -------
    Scores
        Figures, verdicts, and what each measure says of each image.

    Raises
    ------
    SettingError
        A setting or a measure is unknown, or the explanations aren't of these networks and images.
    ModelError
        A network can't take the images, or gives NaN or infinite logits for some.
    """
    asked = parse({"measure": settings}).measure
    _of_measures(asked)  # refuses a mistake before anything is computed
    named = networks if isinstance(networks, dict) else {"student": networks}
    bare = [name for name, network in named.items() if not isinstance(network, Network)]
    if bare:
        raise ModelError(
            f"{bare[0]} is no Network, so nobody knows how images must be prepared for it. Make one: pl.Network(module, ImageSpec(...), Task(...))."
        )
    if not isinstance(images, Subset):
        raise SettingError(f"images must be a Subset, e.g. data.test; given is {type(images).__name__}.", setting="images")
    if slashed := [name for name in named if "/" in name]:
        raise ModelError(f"{slashed[0]}: a network's name can't hold \"/\", which parts the names of what is kept of each image.")
    if explanations is None:
        explanations = explain(dict(named), images)
    _check_records(named, images, explanations)
    rows = _rows_of(explanations[0], images) if rows is None else np.asarray(rows)
    _check_rows(images, explanations, rows)
    return judge(gather(named, images, val, explanations, rows, asked, baselines), audit or {})


def _check_records(networks: dict[str, Network], images: Subset, explanations: list[Explanation]) -> None:
    """Refuse explanations that are none, or not of these networks and classes."""
    if not isinstance(explanations, list) or not explanations or not all(isinstance(one, Explanation) for one in explanations):
        raise SettingError("explanations must be a list of what explain(...) gives, and not an empty one.", setting="explanations")
    problems, seen = [], set()
    for one in explanations:
        name = f"{one.method} of {one.model}"
        if one.model not in networks:
            problems.append(f"{name}: there is no such network, only {', '.join(networks)}")
        elif (one.model, one.method) in seen:
            problems.append(f"{name}: is there twice, and a method is judged by one map of each image")
        elif one.fault:
            problems.append(f"{name}: {one.fault}")
        elif ((one.targets < 0) | (one.targets >= len(images.classes))).any():
            problems.append(f"{name}: targets beyond the {len(images.classes)} classes")
        seen.add((one.model, one.method))
    _refuse(problems)


def _rows_of(explanation: Explanation, images: Subset) -> np.ndarray:
    """Return which images were explained: those of the names that the explanation carries, all where it carries none."""
    if explanation.ids is None or explanation.ids.tolist() == images.ids:
        return np.arange(len(images))
    place = {name: row for row, name in enumerate(images.ids)}
    if unknown := [name for name in explanation.ids.tolist() if name not in place]:
        raise SettingError(
            f"explanations are of other images: {len(unknown):,} of {len(explanation.ids):,} aren't among these, e.g. {unknown[0]}.",
            setting="explanations",
        )
    return np.array([place[name] for name in explanation.ids.tolist()], np.int64)


def _check_rows(images: Subset, explanations: list[Explanation], rows: np.ndarray) -> None:
    """Refuse explanations that aren't of these images, which would be judged wrongly."""
    if not are_rows(rows, len(images)):
        raise SettingError(f"rows must be different numbers of images, 0 to {len(images) - 1:,}, one for each map.", setting="rows")
    names = np.array(images.ids, dtype=str)[rows]
    problems = []
    for one in explanations:
        if len(one.maps) != len(rows):
            problems.append(f"{one.method} of {one.model}: {len(one.maps):,} maps for {len(rows):,} images (rows= says which)")
        elif one.ids is not None and (one.ids != names).any():
            other = int((one.ids != names).argmax())
            problems.append(f"{one.method} of {one.model}: is of other images, e.g. {one.ids[other]} where {names[other]} is judged")
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    if problems:
        more = f"; and {len(problems) - 3:,} more" if len(problems) > 3 else ""
        raise SettingError(f"explanations don't fit: {'; '.join(problems[:3])}{more}.", setting="explanations")


def gather(
    networks: dict[str, Network],
    images: Subset,
    val: Subset | None,
    explanations: list[Explanation],
    rows: np.ndarray,
    settings: MeasureSettings,
    baselines: Subset | None = None,
) -> Judged:
    """Run the networks on the images, and draw the resamples that all measures share. Parameters are those of :func:`measure`."""
    return Judged(
        networks=networks,
        images=images,
        logits=logits_of(networks, images),
        val_logits={} if val is None else logits_of(networks, val),
        val_targets=np.empty(0, np.int64) if val is None else val.targets,
        explanations=explanations,
        rows=rows,
        settings=settings,
        weights=resample(images.targets, images.units, resamples=settings.resamples),
        baselines=baselines,
    )


def logits_of(networks: dict[str, Network], images: Subset) -> dict[str, np.ndarray]:
    """Return every network's logits [N, K]; a ModelError where a network gives NaN or infinite ones, which no measure can judge."""
    found = {role: network.logits(images) for role, network in networks.items()}
    lost = {role: int((~np.isfinite(logits)).any(1).sum()) for role, logits in found.items()}
    if any(lost.values()):
        listed = ", ".join(f"{role}'s for {count:,} of {len(images):,} {images.split} images" for role, count in lost.items() if count)
        raise ModelError(f"Logits are NaN or infinite: {listed}. Such a network can't be measured. Train it anew, or leave it out.")
    return found


def _of_measures(asked: MeasureSettings) -> dict[str, dict[str, Any]]:
    """Return each measure's own settings."""
    return registry.check_tables("measures", asked.measures, asked.options, where="measure", also=section_fields("measure"))


def judge(
    judged: Judged, audit: dict[str, Any], *, part: Callable[[str, Callable[[], Judgement]], Judgement] = lambda name, work: work()
) -> Scores:
    """Run the measures that the settings name, and reach the verdicts; `part` is asked for each measure's judgement, which `work()` makes."""
    measurements: list[Measurement] = []
    per_image: dict[str, np.ndarray] = {}
    for name, options in _of_measures(judged.settings).items():
        found = part(name, partial(registry.get("measures", name), judged, **options))
        measurements += found.measurements
        per_image |= found.per_image
    return Scores(measurements, reach_verdicts(measurements, audit, settings=judged.settings), per_image, judged, audit)


def report(
    scores: Scores, maps: list[Explanation] | None = None, *, to: Path | str = "report.html", title: str = "", data: Data | None = None
) -> Path:
    """Write the report of networks that were measured: one HTML file, with its tables beside it.

    Parameters
    ----------
    scores : Scores
        From :func:`measure`.
    maps : list of Explanation, optional
        The maps to show, on the same images; default: those that were measured.
    to : Path or str
        The HTML file; tables and figures go into a folder of its name beside it.
    title : str
        Default: the name of the data.
    data : Data, optional
        Shows the section on data and audit too.

    Returns
    -------
    Path
        Where the report lies.

    Raises
    ------
    SettingError
        `scores` are none, or the maps aren't of the images that were measured.
    StorageError
        The report can't be written.
    """
    if not isinstance(scores, Scores):
        raise SettingError(f"scores must be what measure(...) gives; given is {type(scores).__name__}.", setting="scores")
    judged = scores.judged
    if maps:
        _check_records(judged.networks, judged.images, maps)
        _check_rows(judged.images, maps, judged.rows)
    found = record.assemble(
        title=title or judged.images.dataset.name,
        command=command(),
        settings={"measure": judged.settings.model_dump()},
        data=data,
        scores=scores,
        explanations=maps or judged.explanations,
        panel=[],
        panel_rows=np.empty(0, np.int64),
        audit=scores.audit or ({} if data is None else data.audit),
        stages=[],
        versions=record.versions(),
    )
    return write(found, Path(to).parent, name=Path(to).name)


@dataclass(frozen=True)
class Plan:
    """One network to be trained, before anything is trained.

    Attributes
    ----------
    settings : NetworkSettings
    model : nn.Module
        Initialised, not trained.
    custom : bool
        A network of the user's own, which can't be built from its name.
    seed : int
    precision : Precision
        The number format it will train in.
    seconds_per_step : float
        As the trial of formats measured it; 0 where there was none.
    key : str
        Fingerprint of data, settings, weights, format and initialisation.
    """

    settings: NetworkSettings
    model: nn.Module
    custom: bool
    seed: int
    precision: Precision
    seconds_per_step: float
    key: str

    def training_key(self, n_views: int | None) -> str:
        """Return the key of this network trained from labels."""
        return fingerprint("train", VERSION, self.key, n_views)

    def distilling_key(self, n_views: int, teacher: str, loss: str, options: dict[str, Any]) -> str:
        """Return the key of this network distilled from the teacher of that fingerprint."""
        chosen = registry.beyond_defaults(registry.get("losses", loss), options)
        return fingerprint("distill", VERSION, self.key, n_views, teacher, loss, chosen)

    def hard_loss(self, data: Data) -> HardLoss:
        """Return the loss from labels, with class weights of the training split."""
        asked = self.settings
        return HardLoss(data.task, data.train.targets, label_smoothing=asked.label_smoothing, class_weights=asked.class_weights)


def plan(data: Data, model: str | nn.Module, settings: dict[str, Any], *, section: str, workspace: Workspace) -> Plan:
    """Check a network's settings, build it, and choose its number format.

    Raises
    ------
    SettingError, ModelError, WeightsError
        As the messages say.
    """
    custom = isinstance(model, nn.Module)
    name = model if isinstance(model, str) else type(model).__name__
    asked = getattr(parse({section: {"model": name, **settings}}), section)
    seed, spec = asked.seed or 0, data.spec(asked.size)
    built = copy.deepcopy(model) if isinstance(model, nn.Module) else build(
        name, n_classes=data.task.n_classes, channels=spec.channels, size=spec.size,
        pretrained=asked.pretrained, weights=asked.weights, seed=seed, **asked.options,
    )  # fmt: skip
    precision, seconds = choose(built, name, spec, min(asked.batch_size, len(data.train)), asked.precision, workspace)
    # Files stand in the key by their content, the size by what it comes to.
    own = asked.model_dump(exclude={"weights", "size", "precision", "seed", *asked.options})
    options = (
        registry.beyond_defaults(registry.get("models", name), asked.options) if name in registry.describe("models") else asked.options
    )
    origin = checksum(built) if custom or asked.weights or asked.pretrained else ""
    key = fingerprint(data.key, own, options, spec.size, seed, precision.name, origin)
    return Plan(asked, built, custom, seed, precision, seconds, key)


def _trained(
    data: Data, planned: Plan, key: str, objective: Callable[[nn.Module], Objective], n_views: int | None, workspace: Workspace, label: str
) -> Network:
    """Find the network in the workspace, or train it (going on from a checkpoint) and put it there."""
    settings, model, spec = planned.settings, planned.model, data.spec(planned.settings.size)
    if not len(data.val) and settings.epochs:
        raise SettingError(
            "training needs a validation split to choose its best epoch: data.val_share must leave some images.", setting="val_share"
        )
    with workspace.lock("networks", key) as folder:
        files.remove_leftovers(folder)
        path = folder / "network.safetensors"
        if path.exists():
            _clear(folder)
            return load_network(path, model=model if planned.custom else None)
        fitted = fit(
            objective(model), data.train, data.val, [spec], settings, views=data.views, n_views=n_views, seed=planned.seed,
            precision=planned.precision, folder=folder, label=label,
        )  # fmt: skip
        network = Network(
            model=_restored(model, fitted.best), spec=spec, task=data.task,
            architecture="custom" if planned.custom else settings.model, options=settings.options, history=fitted.history,
            best_epoch=fitted.best_epoch, precision=planned.precision.name, provenance=getattr(model, "provenance", "random initialisation"),
            fingerprint=key,
        )  # fmt: skip
        if settings.epochs:
            replace(network, model=_restored(copy.deepcopy(model), fitted.last)).save(folder / "last.safetensors")
        network.save(path)
        _clear(folder)
    return network


def _clear(folder: Path) -> None:
    """Remove the checkpoint of a training that is done."""
    for leftover in ("last.pt", "best.pt"):
        (folder / leftover).unlink(missing_ok=True)


def _restored(model: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """Return the network with these weights, on the CPU in the ordinary memory layout, in eval mode."""
    model.to("cpu").to(memory_format=torch.contiguous_format)
    model.load_state_dict(state)
    return model.eval()
