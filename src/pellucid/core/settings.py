"""The experiment file: every setting with its type, default and one sentence of explanation.

A section may hold settings beyond these: they belong to the part that the section names (the source, the model, the loss)
and are checked against that part's signature by whoever calls it (:func:`pellucid.core.registry.check_options`).
"""

from __future__ import annotations

import copy
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pellucid.core.errors import SettingError, did_you_mean, nearest

Count = Annotated[int, Field(ge=1)]  # the type of a part's setting that counts something


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("seed", "split_seed", "view_seed", check_fields=False)
    @classmethod
    def _fits(cls, seed: int | None) -> int | None:
        if seed is not None and not -(2**63) <= seed < 2**64:
            raise ValueError("a seed has at most 64 bits")  # what torch takes
        return seed


class _OpenSection(_Section):
    """A section that names a part and carries that part's own settings too."""

    model_config = ConfigDict(extra="allow", validate_default=True, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """Return the settings that belong to the named part."""
        return dict(self.model_extra or {})


class DataSettings(_OpenSection):
    """Which images, what they are, and which side of the split each stands on."""

    source: str = Field("phantom", description="A folder of class folders, a .csv manifest, a .zip with a manifest inside, an .npz file, or a generator such as phantom. A bare name is also looked for beside this file and in the folders of PELLUCID_DATA.")  # fmt: skip
    label: str = Field("label", description="Manifest column that holds the class.")
    path: str = Field("path", description="Manifest column that holds the image's path, relative to the manifest.")
    subject: str = Field("subject", description="Manifest column that names the person (or animal, or specimen). May be absent.")
    group: str = Field(
        "group", description="Manifest column of what must stay on one side of the split (default: the subject). May be absent."
    )
    mask: str = Field("mask", description="Manifest column with the path of a mask of the finding, white where it is. May be absent.")
    box: str = Field("box", description="Manifest column with a box of the finding as 'x0 y0 x1 y1' in pixels. May be absent.")
    where: str = Field("", description='Keep only rows for which this holds, e.g. "core_slices == 1" or "source == odir".')
    split: str = Field("subject", description="subject: held out by group or subject. image: by image (leaks where a subject has several). kfold: fold number `fold` of `folds`, by group or subject. column:NAME: as the column says.")  # fmt: skip
    val_share: float = Field(0.15, gt=0, lt=1, description="Share of units held out for validation.")
    test_share: float = Field(0.15, gt=0, lt=1, description="Share of units held out for the test.")
    folds: int = Field(5, ge=2, description="Number of folds of kfold.")
    fold: int = Field(0, ge=0, description="Which fold is the test.")
    repeat: int = Field(0, ge=0, description="Which repetition of the k-fold, each with another shuffle.")
    split_seed: int = Field(0, description="Seed of the split; apart from run.seed, so that seeds share a split.")
    allow_leak: bool = Field(False, description="Accept a split column that parts a subject or group; a banner stands in the report.")
    size: int = Field(96, ge=8, le=1024, description="Side in pixels at which images are decoded once and kept. Larger than the networks' size keeps varied views as sharp as test images.")  # fmt: skip
    fit: Literal["squash", "pad", "crop"] = Field("pad", description="How an image that isn't square becomes one; masks and boxes alike.")
    channels: Literal["auto", "grey", "rgb"] = Field("auto", description="auto: as the files are, an error where they are mixed.")
    window: tuple[float, float] | None = Field(None, description="Values shown as black and white for 16-bit images; default: the 0.5 and 99.5 percentile of each image.")  # fmt: skip
    on_error: Literal["stop", "skip"] = Field("stop", description="What to do with images that can't be read: stop and list them all, or leave them out and count them.")  # fmt: skip
    normalise: Literal["dataset", "image"] = Field(
        "dataset", description="Subtract mean and divide by std of the training split, or each image's own."
    )
    mean: list[float] | None = Field(None, description="Mean per channel for pixels in [0, 1]; default: computed from the training split.")
    std: list[float] | None = Field(None, description="Standard deviation per channel; default: computed from the training split.")
    views: int = Field(
        8, ge=1, description="Number of different views of each training image; the teacher's logits are computed once for each."
    )
    view_parts: list[Literal["crop", "flip", "jitter"]] = Field(["crop", "flip", "jitter"], description="What a view changes. Leave out flip where left and right matter.")  # fmt: skip
    view_seed: int = Field(0, description="Seed of the views; apart from run.seed, so that seeds share the teacher cache.")

    @field_validator("std")
    @classmethod
    def _divides(cls, std: list[float] | None) -> list[float] | None:
        if std is not None and min(std, default=1.0) <= 0:
            raise ValueError("each must be above 0")
        return std

    @field_validator("window")
    @classmethod
    def _opens(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and window[0] >= window[1]:
            raise ValueError("the first value must be below the second")
        return window


class NetworkSettings(_OpenSection):
    """One network and how it is trained. Settings beyond these go to the model (e.g. widths of cnn5)."""

    model: str = Field("densenet121", description="cnn5, or any timm model by name.")
    pretrained: bool = Field(False, description="Start from the weights timm offers for this name (needs the network).")
    weights: str = Field("", description="Start from a .safetensors or .pth file; a head for other classes is left out and said so.")
    size: int | None = Field(None, ge=8, description="Input side in pixels; default: data.size.")
    epochs: int = Field(25, ge=0, description="Passes over the training split. 0: use the weights as they are.")
    batch_size: int = Field(32, ge=2, description="Images per step.")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="SGD has momentum 0.9.")
    lr: float = Field(1e-3, gt=0, description="Learning rate after warm-up.")
    weight_decay: float = Field(0.01, ge=0, description="Not applied to biases and norms.")
    schedule: Literal["cosine", "steps", "constant"] = Field("cosine", description="cosine: to zero over the epochs. steps: a tenth after 60 % and again after 85 %.")  # fmt: skip
    warmup_epochs: float = Field(1.0, ge=0, description="The learning rate rises linearly over these.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: each class counts the same in the loss.")
    sampler: Literal["shuffle", "balanced"] = Field("shuffle", description="balanced: each class is drawn equally often.")
    clip: float = Field(5.0, ge=0, description="Largest norm of the gradient; 0: no limit.")
    patience: int = Field(0, ge=0, description="Stop after so many epochs without a better validation; 0: never.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: whichever a short trial finds faster on this machine; the choice is recorded.")  # fmt: skip
    seed: int | None = Field(None, description="Seed of initialisation and order; default: run.seed.")


class StudentSettings(NetworkSettings):
    """The small network, trained twice: by itself (base) and from the teacher (student)."""

    model: str = Field("cnn5", description="cnn5, or any timm model by name.")
    epochs: int = Field(60, ge=0, description="Passes over the training split, for base and student alike.")


class DistillSettings(_OpenSection):
    """The loss that passes the teacher's knowledge on. Settings beyond these go to the loss (e.g. alpha, temperature)."""

    loss: str = Field("logit_kd", description="See `pellucid list losses`.")


class ExplainSettings(_OpenSection):
    """Which maps are drawn and measured. A table [explain.METHOD] holds settings of one method."""

    methods: list[str] = Field(["average_feature_map", "grad_cam"], min_length=1, description="See `pellucid list explainers`.")
    target: Literal["teacher", "predicted", "label"] = Field("teacher", description="The class the maps are for: the teacher's, each network's own, or the true one.")  # fmt: skip
    tap: str = Field("auto", description="Where maps are read. auto: the deepest place whose grid is at least 6x6.")
    images: int = Field(500, ge=1, description="At most so many test images, drawn evenly over the classes.")


class MeasureSettings(_OpenSection):
    """What is measured, and the margins of the verdicts. A table [measure.MEASURE] holds settings of one measure."""

    measures: list[str] = Field(
        ["performance", "transfer", "cross_deletion", "faithfulness", "localisation", "explanation_time", "cost"],
        description="See `pellucid list measures`.",
    )
    twin: bool = Field(
        False,
        description="Train a second teacher of another seed too: what 'explanation kept' and the transfer gain are judged against. Takes as long as the teacher.",
    )
    margin: float = Field(0.02, gt=0, description="Accuracy counts as kept if the student's is surely not lower by more than this.")
    resamples: int = Field(2000, ge=100, description="Bootstrap resamples.")
    specificity: float = Field(0.9, gt=0, lt=1, description="Sensitivity is given at this specificity.")
    threads: int = Field(1, ge=1, description="Threads for the latency figures.")


class RunSettings(_Section):
    """Seed and places."""

    seed: int = Field(0, description="Seed of all random draws that have no seed of their own.")
    out: str = Field("", description="The run folder; default: runs/NAME-OF-THIS-FILE.")
    workspace: str = Field("", description="Where stores, networks and caches are shared; default: .pellucid, or PELLUCID_WORKSPACE.")
    title: str = Field("", description="Title of the report; default: the source's name.")


class Settings(_Section):
    """A whole experiment."""

    data: DataSettings = Field(default_factory=DataSettings)
    teacher: NetworkSettings = Field(default_factory=NetworkSettings)
    student: StudentSettings = Field(default_factory=StudentSettings)
    distill: DistillSettings = Field(default_factory=DistillSettings)
    explain: ExplainSettings = Field(default_factory=ExplainSettings)
    measure: MeasureSettings = Field(default_factory=MeasureSettings)
    run: RunSettings = Field(default_factory=RunSettings)


class SweepSettings(_OpenSection):
    """Which settings are varied, which choose, and which get a report. Dotted names are axes: "distill.alpha" = [0.4, 0.7]."""

    choose: Literal["balanced_accuracy", "accuracy", "macro_f1", "auc", "cross_entropy"] = Field("balanced_accuracy", description="The measure on validation by which one setting is chosen. Seeds and folds are averaged over, never chosen.")  # fmt: skip
    reports: Literal["chosen", "all"] = Field(
        "chosen", description="Which settings are explained, measured on the test split and reported."
    )

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Return {dotted setting: its values}, in the file's order."""
        return dict(_flat(self.options))


MOST_RUNS = 10_000  # of a sweep; beyond, an axis was mistaken for another


def load(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> Settings:
    """Read an experiment file and apply ``dotted.key=value`` overrides; its ``[sweep]`` section is left to :func:`load_sweep`.

    Raises
    ------
    SettingError
        The file is missing or no TOML, or settings are unknown or of the wrong type: all of them in one message.
    """
    content = _read(Path(path), overrides)
    content.pop("sweep", None)
    return parse(content, where=Path(path).name)


def load_sweep(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> tuple[dict[str, Any], SweepSettings]:
    """Read an experiment file that has a ``[sweep]`` section: what all its runs share, unvalidated, and what is varied.

    Raises
    ------
    SettingError
        As :func:`load`; or there is no such section, or an axis is no list, empty, given or holding a value twice, or can't be varied.
    """
    path = Path(path)
    content = _read(path, overrides)
    section = content.pop("sweep", None)
    given = {override.partition("=")[0].strip() for override in overrides}
    if not isinstance(section, dict):
        raise SettingError(f'{path}: has no [sweep] section. It names settings and their values, e.g. "distill.alpha" = [0.4, 0.7].')
    try:
        sweep = SweepSettings.model_validate(section)
    except ValidationError as error:
        raise SettingError(f"{path.name} " + " ".join(_problem(d, section, ["sweep"])[0] for d in error.errors())) from None
    problems = [problem for key, values in sweep.axes.items() if (problem := _axis_problem(key, values))]
    keys = [key for key, _ in _flat(sweep.options)]
    problems += [f"{key} is given twice, with and without quotes." for key in sweep.axes if keys.count(key) > 1]
    problems += [f"{key} is varied, so one value for it says nothing: write sweep.{key}=[...]." for key in sweep.axes if key in given]
    if not sweep.axes:
        problems = ['names no setting to vary, e.g. "distill.alpha" = [0.4, 0.7].']
    elif not problems and (runs := math.prod(map(len, sweep.axes.values()))) > MOST_RUNS:
        problems = [f"the axes make {runs:,} runs together. A sweep has at most {MOST_RUNS:,}."]
    if problems:
        raise SettingError(f"{path.name} [sweep]: {' '.join(problems)}")
    return content, sweep


def varied(content: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of an experiment's content with dotted settings replaced.

    Raises
    ------
    SettingError
        A setting stands inside one that is a value.
    """
    changed = copy.deepcopy(content)
    for key, value in values.items():
        section, _, name = key.partition(".")
        inner = changed.setdefault(section, {})
        *path, last = name.split(".")
        for step in path:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                raise SettingError(f'"{key}": {step} is a value, not a section.', setting=key)
        inner[last] = value
    return changed


def in_words(values: Mapping[str, Any]) -> str:
    """Return varied settings in words; the section is named where two of them would look the same.

    Examples
    --------
    >>> in_words({"distill.alpha": 0.4, "run.seed": 1})
    'alpha 0.4, seed 1'
    """
    return ", ".join(f"{short} {value_text(values[key])}" for key, short in short_names(values).items())


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return {dotted setting: its last part, or the whole where two settings share it}."""
    keys = list(keys)
    last = [key.rpartition(".")[2] for key in keys]
    return {key: short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)}


def value_text(value: Any) -> str:
    """Return a setting's value as a reader wants it: ``0.4``, ``grad_cam+gradient_shap``."""
    if isinstance(value, float):
        return f"{value:g}"
    return "+".join(map(value_text, value)) if isinstance(value, list) else str(value)


def _read(path: Path, overrides: list[str] | tuple[str, ...]) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(f"{path}: there is no such file. `pellucid init FOLDER` writes one.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingError(f"{path}: not a readable experiment file ({error}).") from None
    for override in overrides:
        _apply(content, override)
    return content


def _flat(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        yield from _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def _axis_problem(key: str, values: Any) -> str:
    section, _, name = key.partition(".")
    varying = [s for s in Settings.model_fields if s != "run"]
    if not name:
        known = [*SweepSettings.model_fields, *(f"{s}.{field}" for s in varying for field in section_fields(s))]
        return f'"{key}" is no setting of a sweep, and an axis has a section, e.g. "distill.{key}".{did_you_mean(key, known)}'
    if section == "run" and name != "seed":
        return (
            f"{key} can't be varied: each run of a sweep has a place of its own."
            if name in section_fields("run")
            else f'"{key}" is no setting.'
        )
    if section not in Settings.model_fields:
        return f'"{key}": there is no section "{section}".{did_you_mean(section, Settings.model_fields)}'
    if not isinstance(values, list) or not values:
        return f"{key} = {values!r}: an axis is a list with at least one value."
    if len(values) > MOST_RUNS:
        return f"{key} holds {len(values):,} values. A sweep has at most {MOST_RUNS:,} runs."
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    return f"{key} holds {twice[0]!r} twice." if twice else ""


def from_overrides(overrides: list[str]) -> Settings:
    """Return the defaults with ``dotted.key=value`` overrides, without a file."""
    content: dict[str, Any] = {}
    for override in overrides:
        _apply(content, override)
    return parse(content, where="command line")


def parse(content: dict[str, Any], *, where: str = "settings") -> Settings:
    """Validate a nested dict of settings.

    Raises
    ------
    SettingError
        Unknown settings or wrong types: all of them in one message, with the nearest names.
    """
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        problems = [_problem(detail, content) for detail in error.errors()]
    near = [name for _, names in problems for name in names]
    raise SettingError(f"{where} " + " ".join(text for text, _ in problems), near=near)


def section_fields(section: str) -> list[str]:
    """Return the names of a section's own settings."""
    model = Settings.model_fields[section].annotation
    return list(model.model_fields)  # type: ignore[union-attr]


def _problem(detail: Any, content: dict[str, Any], within: Sequence[str] = ()) -> tuple[str, list[str]]:
    path = [*within, *(str(step) for step in detail["loc"])]
    name, section = path[-1], ".".join(path[:-1])
    if detail["type"] == "extra_forbidden":
        choices = section_fields(path[0]) if len(path) > 1 else list(Settings.model_fields)
        kind = f'[{section}]: "{name}" is no setting.' if section else f'"{name}" is no section.'
        return kind + did_you_mean(name, choices), nearest(name, choices)
    where = f"[{section}] {name}" if section else name
    form = f""" Write it as '{section}.{name}=["..."]'.""" if detail["type"] == "list_type" and section else ""
    return f"{where} = {detail['input']!r}: {detail['msg'].lower().removeprefix('value error, ')}.{form}", []


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or len(steps) < 2 or not all(steps):
        raise SettingError(f'"{override}": an override looks like section.setting=value, e.g. distill.alpha=0.7.', setting=key)
    section, axis = content.get(steps[0]), ".".join(steps[1:])
    if steps[0] == "sweep" and isinstance(section, dict) and axis in section:  # its name stands in quotes in the file
        steps = ["sweep", axis]
    for step in steps[:-1]:
        content = content.setdefault(step, {})
        if not isinstance(content, dict):
            raise SettingError(f'"{override}": {step} is a value, not a section.', setting=key)
    content[steps[-1]] = _value(text.strip(), is_text=_type_of(steps) is str)


def _value(text: str, *, is_text: bool) -> Any:
    """Read the right side of an override: TOML where it is TOML, else the text itself; a folder may be called 2024."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if is_text and not isinstance(value, str) else value


def _type_of(steps: list[str]) -> Any:
    section = Settings.model_fields.get(steps[0])
    field = section.annotation.model_fields.get(steps[1]) if section and len(steps) == 2 else None  # type: ignore[union-attr]
    return field.annotation if field else None
