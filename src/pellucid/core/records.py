"""The records that pass from room to room. All are frozen, hold NumPy and plain values, and import no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

ROLES = ("teacher", "base", "student")
TWIN = "twin"  # a second teacher of another seed: how alike two teachers are says how alike a student could be
Centres = tuple[
    tuple[float, float], tuple[float, float]
]  # down and across: first cell's centre, and step to the next, as shares of the image
ARRAYS = ("maps", "targets", "expected", "doubtful", "ids")  # of an explanation, one entry for each image
WHO_WAS_RIGHT = ("both right", "only teacher right", "only student right", "both wrong")
SMALLEST_GRID = 6  # a map of fewer cells a side says too little to be judged


def even_centres(grid: tuple[int, int]) -> Centres:
    """Return the centres of the cells (h, w) into which an image is cut evenly."""
    height, width = grid
    return (0.5 / height, 1 / height), (0.5 / width, 1 / width)


@dataclass(frozen=True)
class Task:
    """What is asked of a network: one class per image (``single``) or any number of them (``multi``)."""

    kind: Literal["single", "multi"]
    classes: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """Return the number of classes K."""
        return len(self.classes)


@dataclass(frozen=True)
class ImageSpec:
    """What one network wants to see.

    Attributes
    ----------
    size : int
        Side of the square input in pixels.
    channels : int
        1 (grey) or 3 (RGB).
    mean, std : tuple of float
        Per channel, for pixels in [0, 1]. With ``normalise = "image"`` each image's own are used instead.
    interpolation : str
        ``bilinear`` or ``bicubic``; always with antialiasing.
    normalise : str
        ``dataset`` (mean and std above) or ``image``.
    stored_size : int or None
        Side at which images are decoded before they are resized to `size`; None: `size` itself.
    fit, window
        How they are decoded, as in the ``[data]`` section.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    normalise: Literal["dataset", "image"] = "dataset"
    stored_size: int | None = None
    fit: Literal["squash", "pad", "crop"] = "pad"
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Measurement:
    """One figure with all that is needed to believe it.

    Attributes
    ----------
    name : str
        The measure, e.g. ``balanced_accuracy``; a difference ends in ``_difference``.
    value, low, high : float or None
        The figure and its 95 % interval. None means undefined; `reason` then says why.
    n_images, n_units : int
        Images it rests on, and resampling units (subjects where there are some).
    unit : str
        What n_units counts: ``subjects``, ``groups`` or ``images``.
    model : str
        Role or name; a comparison is written ``student - teacher``.
    split, stratum : str
        ``test``; ``all``, a class (see :func:`stratum_of`), or a stratum such as ``both right``.
    method : str
        How the interval was made, e.g. ``bootstrap by subject, 2000``; or ``measured 200 times``.
    better : str
        ``higher``, ``lower`` or ``neither``.
    by : str
        The explainer behind it, or "" where there is none.
    source : str
        Paper and equation, or library.
    reason : str
        Why it is undefined, or what to know when reading it.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n_images: int = 0
    n_units: int = 0
    unit: str = "images"
    model: str = ""
    split: str = "test"
    stratum: str = "all"
    method: str = ""
    better: Literal["higher", "lower", "neither"] = "higher"
    by: str = ""
    source: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Measurement:
        """Return the record that `to_json` wrote, ignoring keys of later versions."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in content.items() if key in known})


def stratum_of(label: str) -> str:
    """Return the stratum of a class: its name, in quotes where that name already means another stratum, as ``all`` does."""
    return f'"{label}"' if label in ("all", *WHO_WAS_RIGHT) else label


@dataclass(frozen=True)
class Explanation:
    """Maps of one method for one network on a set of images, raw and signed.

    Attributes
    ----------
    maps : float32 array [N, h, w]
        On the tap's own grid. Scaling, ReLU and upsampling are left to whoever draws or measures.
    targets : int64 array [N]
        The class each map is for.
    model, method, layer : str
        Role or name of the network; registry key of the explainer; tap it was read at.
    image_size : tuple of int
        (H, W) of the network's input.
    signed : bool
        True for class methods (positive speaks for the class), False where there is no class.
    variant : str
        Named form of the method, "" for the default.
    settings : dict
        The options the explainer ran with.
    seconds : float
        Mean time for one image of the batched call, without model load and decoding.
    expected : float64 array [N] or None
        What each map should add up to, for methods that compare with baselines: the class logit of the image beyond that of the
        baselines (their mean where there are several).
    doubtful : bool array [N] or None
        Maps that are one of many which the method could as well have given; None for methods that know no such doubt.
    centres : ((float, float), (float, float)) or None
        Where on the image the cells look, down and across: the first cell's centre and the step to the next, as shares of the side.
        None where that isn't known, or no tap was read: then they are drawn as cut evenly. See :mod:`pellucid.models.centres`.
    ids : str array [N] or None
        The images' names; None where they have none (a tensor's).
    """

    maps: np.ndarray
    targets: np.ndarray
    model: str
    method: str
    layer: str
    image_size: tuple[int, int]
    signed: bool = True
    variant: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    expected: np.ndarray | None = None
    doubtful: np.ndarray | None = None
    centres: Centres | None = None
    ids: np.ndarray | None = None

    @property
    def fault(self) -> str:
        """Say what can't be in a record that was made by hand or read from a file, e.g. ``maps float32 [4, 7] instead of [N, h, w]``; "" if nothing."""
        if not isinstance(self.maps, np.ndarray) or self.maps.ndim != 3 or self.maps.dtype.kind != "f":
            return f"maps {_described(self.maps)} instead of float [N, h, w]"
        for name, kinds in zip(ARRAYS[1:], ("iu", "f", "b", "U"), strict=True):
            values = getattr(self, name)
            fits = isinstance(values, np.ndarray) and values.shape == self.maps.shape[:1] and values.dtype.kind in kinds
            if not fits and (values is not None or name == "targets"):
                return f"{name} {_described(values)} for {len(self.maps):,} maps"
        return "" if self.centres is None or _are_centres(self.centres) else f"centres {self.centres}"

    def some(self, which: np.ndarray | slice) -> Explanation:
        """Return the explanation of some of the images, by place (int, bool array or slice)."""
        return replace(self, **{name: values[which] for name in ARRAYS if (values := getattr(self, name)) is not None})

    def positive(self) -> np.ndarray:
        """Return the evidence for the class [N, h, w]: negative values set to 0 for class methods, else the raw map."""
        return np.maximum(self.maps, 0.0) if self.signed else self.maps

    @property
    def gap(self) -> np.ndarray:
        """Return float64 [N]: by what share of `expected` each map's sum misses it (completeness).

        NaN where `expected` is below a tenth of its median over the images: too small to divide by; and for methods without baselines.
        """
        if self.expected is None:
            return np.full(len(self.maps), np.nan)
        size = np.abs(self.expected)
        enough = (size > 0) & (size >= 0.1 * np.nanmedian(size)) if np.isfinite(size).any() else np.zeros(len(size), bool)
        missed = np.abs(self.maps.sum(axis=(1, 2), dtype=np.float64) - self.expected)
        return np.divide(missed, size, out=np.full(len(size), np.nan), where=enough)

    @property
    def dead(self) -> np.ndarray:
        """Return bool [N]: maps that say nothing, because they are constant, hold NaN, or have no positive part."""
        flat = self.positive().reshape(len(self.maps), math.prod(self.maps.shape[1:]))
        finite = np.isfinite(flat).all(1)
        spread = np.where(finite, flat.max(1, initial=-np.inf) - flat.min(1, initial=np.inf), 0.0)
        noise = 8 * np.finfo(flat.dtype).eps  # a spread of a few units in the last place is rounding
        return ~finite | (spread <= noise * np.maximum(np.abs(np.nan_to_num(flat)).max(1, initial=0.0), 1e-30))


def _described(values: Any) -> str:
    return f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__


def _are_centres(given: Any) -> bool:
    try:
        places = [(float(first), float(step)) for first, step in given]
    except (TypeError, ValueError):
        return False
    return len(places) == 2 and all(math.isfinite(first) and 0 < step < math.inf for first, step in places)


@dataclass(frozen=True)
class Verdict:
    """One card of the report's first screen.

    Attributes
    ----------
    question : str
        E.g. ``Is it as right?``
    answer : str
        ``yes``, ``no``, ``not distinguishable``, ``not judged``, or a short phrase for cost and data.
    tone : str
        ``good``, ``bad``, ``open`` (not distinguishable), ``none`` (not judged).
    figure : str
        The number behind it, printed as STYLE.md prints numbers.
    details : tuple of str
        One or two more lines.
    rule : str
        The rule in words.
    evidence : str
        Anchor of the section that holds the evidence, e.g. ``accuracy``.
    """

    question: str
    answer: str
    tone: Literal["good", "bad", "open", "none"]
    figure: str
    details: tuple[str, ...]
    rule: str
    evidence: str


@dataclass(frozen=True)
class NetworkRecord:
    """One network of a run, as the report shows it.

    `history` is one dict per epoch: ``epoch``, ``seconds``, ``lr``, ``train.<part>`` (loss parts and ``train.total``),
    ``val.cross_entropy``, ``val.balanced_accuracy``. `best_epoch` counts from 1; 0 where nothing was trained.
    """

    role: str
    architecture: str
    options: dict[str, Any]
    spec: ImageSpec
    fingerprint: str
    history: list[dict[str, float]]
    best_epoch: int
    precision: str
    provenance: str


@dataclass(frozen=True)
class Cases:
    """The test images the report can show.

    Attributes
    ----------
    ids : list of str
        The images' names, as in the source.
    images : uint8 array [N, S, S, C]
        Stored pixels.
    masks : bool array [N, S, S] or None
        Ground truth of where the finding is; all False where an image has none.
    targets : int64 array [N]
    subjects : list of str
        "" where unknown.
    logits : dict of role -> float32 array [N, K]
    explanations : list of Explanation
        Every role x method on these same images, in this order.
    similarity : dict of (role, method) -> float array [N]
        Spearman's rank correlation of the role's map with the teacher's; NaN where either is dead or the grid too small. Empty where it
        wasn't measured.
    panel : list of Explanation
        Average feature maps of every student layer for the first `n_panel` fixed images (`panel_rows` into this record).
    panel_rows : list of int
    """

    ids: list[str]
    images: np.ndarray
    masks: np.ndarray | None
    targets: np.ndarray
    subjects: list[str]
    logits: dict[str, np.ndarray]
    explanations: list[Explanation]
    similarity: dict[tuple[str, str], np.ndarray]
    panel: list[Explanation]
    panel_rows: list[int]


@dataclass(frozen=True)
class StageRecord:
    """What one stage did: its key, how long it took, and whether its output was found in the workspace."""

    name: str
    key: str
    seconds: float
    cached: bool


@dataclass(frozen=True)
class RunRecord:
    """All that the report draws. The report never opens a run folder.

    `data` holds ``counts`` ({split: {class: n}}), ``units`` ({split: n}), ``unit`` (subjects, groups or images), ``split``
    (how it was made, in words), ``source``, ``n_images``, ``skipped`` (list of unreadable files left out), ``size``, ``channels``,
    ``mean``, ``std``. `contact` maps a class name to uint8 thumbnails [n, s, s, C]. `audit` is the audit's JSON
    (see ``pellucid.data.audit``), `duplicates` its pictures: list of (pair dict, uint8 [s,s,C], uint8 [s,s,C]). `targets` (int64 [N]) and
    `logits` (role -> float32 [N, K]) are of all test images, `cases` of those that were explained.
    """

    title: str
    created: str
    command: str
    task: Task
    settings: dict[str, Any]
    data: dict[str, Any]
    contact: dict[str, np.ndarray]
    audit: dict[str, Any]
    duplicates: list[tuple[dict[str, Any], np.ndarray, np.ndarray]]
    networks: dict[str, NetworkRecord]
    targets: np.ndarray
    logits: dict[str, np.ndarray]
    cases: Cases
    measurements: list[Measurement]
    verdicts: list[Verdict]
    stages: list[StageRecord]
    versions: dict[str, str]


@dataclass(frozen=True)
class SweepRow:
    """One setting of a sweep, over all its seeds and folds.

    Attributes
    ----------
    values : dict of dotted setting -> value
        What was varied, without seeds and folds.
    measurements : list of Measurement
        `split` is ``val``, and ``test`` too where the setting was reported; roles and their differences. Where there are several seeds,
        `reason` gives each one's figure.
    runs : list of (str, str)
        Each run of this setting: its seed or fold in words, and the path of its report from the sweep's page ("" where it has none).
    seconds : float
        Training time of its students.
    """

    values: dict[str, Any]
    measurements: list[Measurement]
    runs: list[tuple[str, str]]
    seconds: float

    def find(self, name: str, model: str, *, split: str = "val", by: str = "") -> Measurement | None:
        """Return one of its figures, or None."""
        wanted = (name, model, split, by)
        return next((m for m in self.measurements if (m.name, m.model, m.split, m.by) == wanted and m.stratum == "all"), None)


@dataclass(frozen=True)
class SweepRecord:
    """All that a sweep's page draws.

    `axes` maps each dotted setting to its values; `repeats` names those of them that are seeds or folds. `choose` is the measure on
    validation that chose row number `chosen`, and `why` says so in words. `settings` is what all runs share. `failed` lists runs that
    ended with an error, with its message.
    """

    title: str
    created: str
    command: str
    axes: dict[str, list[Any]]
    repeats: list[str]
    choose: str
    rows: list[SweepRow]
    chosen: int
    why: str
    failed: list[tuple[str, str]]
    settings: dict[str, Any]
    versions: dict[str, str]
