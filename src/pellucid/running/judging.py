"""Networks trained anywhere, explained and measured beside one another on images of one's own."""

from __future__ import annotations

from pathlib import Path

from pellucid.core import settings as settings_file
from pellucid.core.errors import ModelError, SettingError
from pellucid.core.records import ROLES
from pellucid.core.settings import Settings
from pellucid.core.workspace import Workspace
from pellucid.data.load import Data, load
from pellucid.explainers.explain import explain
from pellucid.measures.judged import Scores
from pellucid.models.saved import Network
from pellucid.models.saved import load as load_network
from pellucid.reporting.page import check_place
from pellucid.running.experiment import evenly
from pellucid.running.stages import logits_of, measure, report

UNSEEN = {
    "level": "warning",
    "text": "which images these networks were trained on isn't known here: on images, or subjects, of their training they look better than they are",
}


def judge_files(models: list[str], source: str, overrides: list[str], *, to: Path) -> Scores:
    """Explain and measure saved networks on the test split of some images, and write the report.

    Parameters
    ----------
    models : list of str
        Files that `Network.save` wrote, each with its role before it or not: ``teacher=a.safetensors``. Without roles the first is
        the teacher, the last the student, and others go by their file's name.
    source : str
        As ``data.source``, or an experiment file.
    overrides : list of str
        ``section.setting=value`` of ``[data]``, ``[explain]`` and ``[measure]``.
    to : Path
        The report.

    Returns
    -------
    Scores

    Raises
    ------
    SettingError
        A role is given twice.
    ModelError
        A network knows other classes than the data have, or gives NaN or infinite logits.
    WeightsError, DataError, StorageError
        As the messages say.
    """
    check_place(to)
    networks = _loaded(roles(models))
    settings, beside = _settings(source, overrides, networks)
    data = load(settings.data, workspace=Workspace(settings.run.workspace or None), beside=beside)
    _check_classes(networks, models, data)
    shown = data.test[evenly(data.test.targets, settings.explain.images)]
    _ = logits_of(networks, shown)  # what can't be measured isn't explained for an hour first
    asked = settings.explain
    target = "predicted" if asked.target == "teacher" and "teacher" not in networks else asked.target
    maps = explain(dict(networks), shown, methods=asked.methods, target=target, tap=asked.tap, settings=asked.options, baselines=data.train)
    scores = measure(
        networks,
        data.test,
        val=data.val,
        explanations=maps,
        baselines=data.train,
        audit={**data.audit, "findings": [*data.audit["findings"], UNSEEN]},
        **settings.measure.model_dump(),
    )
    report(scores, maps, to=to, title=settings.run.title, data=data)
    return scores


def roles(models: list[str]) -> dict[str, Path]:
    """Return each file under the role it plays.

    Examples
    --------
    >>> [(role, path.name) for role, path in roles(["a.safetensors", "b.safetensors"]).items()]
    [('teacher', 'a.safetensors'), ('student', 'b.safetensors')]
    """
    found: dict[str, Path] = {}
    for number, text in enumerate(models):
        role, named, path = text.partition("=")
        if not named or "/" in role:  # a folder may have a "=" in its name, as those of a sweep do
            role, path = Path(text).stem, text
            if len(models) > 1 and number in (0, len(models) - 1):
                role = ROLES[0] if number == 0 else ROLES[-1]
            elif len(models) == 1:
                role = ROLES[-1]
        if role in found:
            raise SettingError(f"--models {text}: there is a {role} already. Give each its own: NAME=FILE.", setting="models")
        found[role] = Path(path)
    return found


def _loaded(files: dict[str, Path]) -> dict[str, Network]:
    """Load all networks; those that can't be loaded are named together."""
    networks: dict[str, Network] = {}
    problems: list[ModelError] = []
    for role, path in files.items():
        try:
            networks[role] = load_network(path)
        except ModelError as error:
            problems.append(error)
    if problems:
        raise type(problems[0])(" ".join(map(str, problems)))
    return networks


def _settings(source: str, overrides: list[str], networks: dict[str, Network]) -> tuple[Settings, Path | None]:
    """Return the settings, images kept as large as the networks' training had them unless it is said otherwise."""
    if source.endswith(".toml"):
        return settings_file.load(source, overrides), Path(source).parent
    size = max(network.spec.stored_size or network.spec.size for network in networks.values())
    return settings_file.from_overrides([f"data.source={source}", f"data.size={size}", *overrides]), None


def _check_classes(networks: dict[str, Network], models: list[str], data: Data) -> None:
    for text, network in zip(models, networks.values(), strict=True):
        if network.task.classes != data.classes:
            raise ModelError(
                f"{text}: knows the classes {', '.join(network.task.classes)}, and the data have {', '.join(data.classes)}. "
                "Name the data's classes as the network's are, or choose data.label."
            )
