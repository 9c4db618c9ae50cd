"""The cases of the report: which are shown, in which order, and the numbers the page draws them from."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pellucid.core.records import ROLES, RunRecord
from pellucid.reporting.figures import maps
from pellucid.stats.classification import softmax

N_PLAIN = 24  # these are pictures in the page itself and need no JavaScript
MOST_BYTES = 5_500_000  # about what the page can hold of all cases' numbers
SIDES = (maps.LARGEST_SIDE, 48, 32)  # what the page may keep of a map with more cells: the most at which all cases fit
BESIDE = 4_000  # about the bytes of a case without its maps: thumbnail, names, probabilities
WHO = {"both": "both right", "teacher": "only the teacher right", "student": "only the student right", "neither": "both wrong"}


@dataclass(frozen=True)
class Row:
    """The maps of one method for one case, on one scale.

    Attributes
    ----------
    method : str
    scale : Scale
    places : dict of role -> uint8 array [h, w] or None
        Places in the colour table; None where the map is dead.
    grids : dict of role -> str
        Each map's own grid, e.g. ``6x6``; with the one it is drawn at where that is coarser: ``224x224, drawn at 56x56``.
    alike : dict of role -> float or None
        Similarity to the teacher's map of student and base; None where not judged.
    """

    method: str
    scale: maps.Scale
    places: dict[str, np.ndarray | None]
    grids: dict[str, str]
    alike: dict[str, float | None]


@dataclass(frozen=True)
class Layer:
    """The average feature map of one of the student's layers for one case; `places` (uint8 [h, w]) is None where it is dead."""

    name: str
    grid: str
    places: np.ndarray | None


@dataclass(frozen=True)
class Case:
    """One test image with all that the page shows of it."""

    index: int
    name: str
    target: int
    subject: str
    probabilities: dict[str, np.ndarray]
    who: str
    image: np.ndarray
    outline: str
    rows: list[Row]
    layers: list[Layer] = field(default_factory=list)
    layer_scale: maps.Scale | None = None

    @property
    def anchor(self) -> str:
        """Return the case's address in the page."""
        return f"case-{self.index:04d}"


class CaseBook:
    """Reads single cases out of a record.

    Parameters
    ----------
    record : RunRecord
    """

    def __init__(self, record: RunRecord) -> None:
        self.record, self.cases = record, record.cases
        self.roles = [role for role in ROLES if role in self.cases.logits] + [role for role in self.cases.logits if role not in ROLES]
        self.methods = list(dict.fromkeys(e.method for e in self.cases.explanations))
        self.by_key = {(e.model, e.method): e for e in self.cases.explanations}
        self.probabilities = {role: softmax(self.cases.logits[role]) for role in self.roles}
        unknown = np.full(len(self), np.nan)
        self.alike = {
            (role, method): np.asarray(self.cases.similarity.get((role, method), unknown), np.float64)
            for role in self.roles
            for method in self.methods
            if role != "teacher"
        }

    def __len__(self) -> int:
        return len(self.cases.ids)

    @cached_property
    def side(self) -> int:
        """Return how many cells a side the page keeps of a map: 64 at most, fewer where the cases would not all fit."""
        shapes = [maps.drawn_shape(e) for e in self.cases.explanations]
        for most in SIDES:
            cells = sum(maps.pooled(np.broadcast_to(np.float32(0), shape), most).size for shape in shapes)
            if len(self) * (cells * 4 / 3 + BESIDE) < MOST_BYTES:
                return most
        return SIDES[-1]

    @property
    def lead(self) -> str | None:
        """Return the method that ranks the cases: the first that is for a class, else the first."""
        signed = [method for method in self.methods if any(e.signed for e in self.cases.explanations if e.method == method)]
        return next(iter([*signed, *self.methods]), None)

    def disagreement(self) -> np.ndarray:
        """Return the rows of the cases from the least alike maps to the most alike; those not judged come last, in file order."""
        alike = self.alike.get(("student", self.lead or ""), np.full(len(self), np.nan))
        return np.argsort(np.where(np.isfinite(alike), alike, np.inf), kind="stable")

    def median(self, among: np.ndarray | None = None) -> int | None:
        """Return the case in the middle by agreement; where nothing was judged, the one with the student's median confidence.

        `among` (bool [N]) leaves out others, unless that leaves none that was judged.
        """
        if not len(self):
            return None
        alike = self.alike.get(("student", self.lead or ""), np.full(len(self), np.nan))
        judged = np.flatnonzero(np.isfinite(alike))
        if among is not None and among[judged].any():
            judged = judged[among[judged]]
        if len(judged):
            return int(judged[np.argsort(alike[judged], kind="stable")[(len(judged) - 1) // 2]])
        confidence = self.probabilities.get("student", next(iter(self.probabilities.values()))).max(1)
        return int(np.argsort(confidence, kind="stable")[(len(self) - 1) // 2])

    def who(self, index: int) -> str:
        """Return which of teacher and student named the case rightly (a key of `WHO`)."""
        teacher, student = (
            role in self.probabilities and int(self.probabilities[role][index].argmax()) == int(self.cases.targets[index])
            for role in ("teacher", "student")
        )
        return "both" if teacher and student else "teacher" if teacher else "student" if student else "neither"

    def not_judged(self, method: str) -> str:
        """Return ``not judged: grid 3x3`` where a network's maps of this method are too small to be judged, else nothing."""
        small = [e.maps.shape for e in self.cases.explanations if e.method == method and maps.too_small(e.maps.shape)]
        return f"not judged: grid {maps.grid_text(small[0])}" if small else ""

    def case(self, index: int) -> Case:
        """Return one case."""
        c = self.cases
        layers, scale = self._layers(index)
        return Case(
            index=index,
            name=c.ids[index],
            target=int(c.targets[index]),
            subject=c.subjects[index] if c.subjects else "",
            probabilities={role: p[index] for role, p in self.probabilities.items()},
            who=self.who(index),
            image=c.images[index],
            outline=maps.outline(c.masks[index]) if c.masks is not None else "",
            rows=[self._row(method, index) for method in self.methods],
            layers=layers,
            layer_scale=scale,
        )

    def _layers(self, index: int) -> tuple[list[Layer], maps.Scale | None]:
        """Return the student's layers for a case of the fixed panel, on one scale; nothing for any other case."""
        if index not in self.cases.panel_rows:
            return [], None
        row = self.cases.panel_rows.index(index)
        ready = [(e, maps.drawn(e, row, self.side)) for e in self.cases.panel]
        scale = maps.common_scale([single for _, single in ready if single is not None], signed=False)
        return [
            Layer(e.layer, maps.drawn_text(e.maps.shape, self.side), None if single is None else maps.levels(single, scale))
            for e, single in ready
        ], scale

    def _row(self, method: str, index: int) -> Row:
        there = {role: self.by_key[role, method] for role in self.roles if (role, method) in self.by_key}
        signed = any(e.signed for e in there.values())
        alive = {role: single for role, e in there.items() if (single := maps.drawn(e, index, self.side)) is not None}
        scale = maps.common_scale(list(alive.values()), signed=signed)
        return Row(
            method=method,
            scale=scale,
            places={role: maps.levels(alive[role], scale) if role in alive else None for role in there},
            grids={role: maps.drawn_text(e.maps.shape, self.side) for role, e in there.items()},
            alike={role: _or_none(self.alike[role, method][index]) for role in there if role != "teacher"},
        )


def chosen(book: CaseBook, *, most_bytes: int = MOST_BYTES) -> tuple[list[int], list[str]]:
    """Choose the cases whose numbers the page carries.

    The first 24 by disagreement are always there; of the rest as many as fit, evenly over the ranking.

    Returns
    -------
    list of int, list of str
        Rows in the order of disagreement, and the JSON of each.
    """
    order = [int(i) for i in book.disagreement()]
    plain = order[:N_PLAIN]
    written = {i: json.dumps(as_numbers(book.case(i), thumbnail=False), ensure_ascii=True, allow_nan=False) for i in plain}
    left = most_bytes - sum(map(len, written.values()))
    for i in _spread_out(order[N_PLAIN:]):
        text = json.dumps(as_numbers(book.case(i), thumbnail=True), ensure_ascii=True, allow_nan=False)
        if len(text) > left:
            break
        left -= len(text)
        written[i] = text
    kept = [i for i in order if i in written]
    return kept, [written[i] for i in kept]


def as_numbers(case: Case, *, thumbnail: bool) -> dict[str, Any]:
    """Return what the page's script needs to draw a case: short keys, maps as base64 of places in the colour table."""
    return {
        "i": case.index,
        "id": case.name,
        "y": case.target,
        "s": case.subject,
        "who": case.who,
        "p": {role: [round(float(v), 4) for v in p] for role, p in case.probabilities.items()},
        "img": data_uri(maps.picture_jpeg(case.image), "jpeg") if thumbnail else "",
        "side": case.image.shape[0],
        "mask": case.outline,
        "rows": [
            {
                "m": row.method,
                "lo": round(row.scale.low, 3),
                "hi": round(row.scale.high, 3),
                "maps": {role: _packed(places) for role, places in row.places.items()},
                "grid": row.grids,
                "alike": row.alike,
            }
            for row in case.rows
        ],
        "layers": [[layer.name, _packed(layer.places), layer.grid] for layer in case.layers],
        "layer_hi": round(case.layer_scale.high, 3) if case.layer_scale else 0,
    }


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _packed(places: np.ndarray | None) -> list[Any] | None:
    return None if places is None else [*places.shape, base64.b64encode(places.tobytes()).decode()]


def _or_none(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _spread_out(order: Sequence[int]) -> list[int]:
    """Return the same items so that every beginning of the list covers the whole ranking (van der Corput order)."""
    bits = max(1, (len(order) - 1).bit_length())
    ranks = sorted(range(len(order)), key=lambda k: int(format(k, f"0{bits}b")[::-1], 2))
    return [order[k] for k in ranks]
