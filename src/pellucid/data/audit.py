"""Whether a split can be believed: what crosses it, what is doubled across it, and what else gives the class away."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.data.association import associations
from pellucid.data.dataset import Dataset
from pellucid.data.duplicates import SIDE, TRANSFORMS, Pairs, exact_copies, near_copies
from pellucid.data.split import SIDES, crossing, whole_units
from pellucid.data.store import Store

CUT = 0.97
SHOWN = 12
# Real copies carry one label. Where pairs above the cut carry two about as often as any two images, they are look-alikes.
_CUTS = (0.98, 0.99, 0.995)
_CHANCE = 0.1
_CONFLICTS = 10
_STRONG = 0.3  # Cramér's V from which an association is worth a warning
_SURE = 0.01
_IMBALANCE = 5.0
_FEW_UNITS = 10
BLIND_TO = (
    "It does not see copies that were cropped, zoomed, stretched or turned by other than right angles (siblings in histology), nor "
    "two different pictures of one person: only subjects and groups tell those."
)


def audit(dataset: Dataset, store: Store, sides: NDArray[np.str_], *, how: str = "", cut: float = CUT) -> dict[str, Any]:
    """Return what there is to know before believing a split, JSON-able.

    Parameters
    ----------
    dataset : Dataset
    store : Store
        Row i holds image i of the dataset.
    sides : str array [N]
        ``train``, ``val``, ``test`` or "".
    how : str
        How the split was made, in words.
    cut : float
        Correlation at 64 px from which two images count as near duplicates. Raised, and said so, where the pairs above it carry
        different labels about as often as any two images do.

    Returns
    -------
    dict
        ``split`` (words), ``unit``, ``n_units`` {side: n}, ``counts`` {side: {class: n}}, ``crossing``, ``duplicates``, ``associations``,
        ``left_out`` {column: why} and ``findings``: dicts of ``level`` (``leak``, ``warning`` or ``note``), ``text`` (one sentence) and
        ``evidence`` (the key that holds it), worst first.
    """
    sides = np.asarray(sides)
    found, left_out = associations(dataset)
    crossed = [{key: value for key, value in leak.items() if key != "names"} for leak in crossing(dataset, sides)]
    content: dict[str, Any] = {
        "split": how,
        "unit": dataset.unit_name,
        "n_units": {side: len(_units(dataset, sides == side)) for side in SIDES},
        "counts": {side: _class_counts(dataset, sides == side) for side in SIDES},
        "crossing": crossed,
        "duplicates": _duplicates(dataset, store, sides, cut),
        "associations": found,
        "left_out": left_out,
    }
    findings = [
        *_of_crossing(content["crossing"]),
        *_of_duplicates(content["duplicates"]),
        *_of_associations(found),
        *_of_counts(dataset, sides, content),
    ]
    order = ["leak", "warning", "note"]
    content["findings"] = sorted(findings, key=lambda finding: order.index(finding["level"]))
    return content


def as_table(found: dict[str, Any]) -> str:
    """Return an audit as plain text, at most 100 characters wide."""
    blocks = [
        ["FINDINGS", *(_finding_lines(found["findings"]) or ["  nothing found"])],
        [f"SPLIT  {found['split']}".rstrip(), *_count_lines(found)],
        ["DUPLICATES", *_duplicate_lines(found["duplicates"])],
        ["ASSOCIATION WITH THE CLASS (Cramér's V, bias-corrected)", *_association_lines(found)],
    ]
    if found.get("probes"):
        blocks.append(["PROBES", *(line for name, probe in found["probes"].items() for line in _wrapped(f"{name}: {probe['text']}"))])
    return "\n\n".join("\n".join(block) for block in blocks)


def _units(dataset: Dataset, which: NDArray[np.bool_]) -> set[str]:
    names = dataset.resampling_units
    return {names[row] for row in np.flatnonzero(which)}


def _class_counts(dataset: Dataset, which: NDArray[np.bool_]) -> dict[str, int]:
    targets = dataset.targets[which]
    per_class = targets.sum(0) if targets.ndim == 2 else np.bincount(targets, minlength=dataset.task.n_classes)
    return {name: int(n) for name, n in zip(dataset.task.classes, per_class, strict=True)}


def _duplicates(dataset: Dataset, store: Store, sides: NDArray[np.str_], cut: float) -> dict[str, Any]:
    copies = exact_copies(store.images)
    equal = _exact_pairs(copies)
    near = near_copies(store.images, copies, floor=cut - 0.02)
    table = _PairTable(dataset, sides)
    chosen, trusted = _choose_cut(table, near, cut)
    above = near.r >= chosen
    listed = Pairs(near.a[above], near.b[above], near.r[above], near.transform[above], int(above.sum()))
    return {
        "exact": table.tally(equal),
        "near": {**table.tally(listed), "cut": chosen, "cut_asked": cut, "trusted": trusted, "bands": table.bands(near, cut - 0.02)},
        "shown": table.shown(equal, listed),
        "blind_to": BLIND_TO,
    }


def _exact_pairs(copies: NDArray[np.int64]) -> Pairs:
    """Return each image with the first of its copies; further pairs within a set of copies would say nothing new."""
    first = np.unique(copies, return_index=True)[1][copies] if len(copies) else copies
    b = np.flatnonzero(first != np.arange(len(copies)))
    return Pairs(first[b], b, np.ones(len(b), dtype=np.float32), np.zeros(len(b), dtype=np.int64), len(b))


class _PairTable:
    """What is known of pairs: sides, labels and units of both images."""

    def __init__(self, dataset: Dataset, sides: NDArray[np.str_]) -> None:
        self.dataset, self.sides = dataset, sides
        self.units = whole_units(dataset)
        self.known = np.array([bool(s or g) for s, g in zip(dataset.subjects, dataset.groups, strict=True)], dtype=bool)
        targets = dataset.targets
        self.labels = targets if targets.ndim == 1 else np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)

    def across(self, pairs: Pairs) -> NDArray[np.bool_]:
        a, b = self.sides[pairs.a], self.sides[pairs.b]
        return (a != b) & (a != "") & (b != "")

    def across_labels(self, pairs: Pairs) -> NDArray[np.bool_]:
        return self.labels[pairs.a] != self.labels[pairs.b]

    def same_unit(self, pairs: Pairs) -> NDArray[np.bool_]:
        return self.units[pairs.a] == self.units[pairs.b]

    def strangers(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Return which pairs are known to be of two subjects or groups."""
        return ~self.same_unit(pairs) & self.known[pairs.a] & self.known[pairs.b]

    def tally(self, pairs: Pairs) -> dict[str, int]:
        across = self.across(pairs)
        return {
            "pairs": pairs.n,
            "across_splits": int(across.sum()),
            "across_splits_strangers": int((across & self.strangers(pairs)).sum()),
            "across_labels": int(self.across_labels(pairs).sum()),
            "same_unit": int(self.same_unit(pairs).sum()),
        }

    def bands(self, pairs: Pairs, floor: float) -> list[dict[str, Any]]:
        """Return how many pairs lie in each hundredth of correlation, so that a reader sees whether the cut stands in a gap."""
        edges = [*np.round(np.arange(floor, 0.995, 0.01), 3).tolist(), 1.001]
        same, labels = self.same_unit(pairs), self.across_labels(pairs)
        rows = []
        for low, high in itertools.pairwise(edges):
            inside = (pairs.r >= low) & (pairs.r < high)
            counts = {"pairs": int(inside.sum()), "same_unit": int(same[inside].sum()), "across_labels": int(labels[inside].sum())}
            rows.append({"from": low, "to": min(high, 1.0), **counts})
        return rows

    def shown(self, exact: Pairs, near: Pairs) -> list[dict[str, Any]]:
        """Return the pairs most worth looking at: across splits first, then of two units, then the most alike."""
        rows = []
        names = list(TRANSFORMS)
        for pairs in (exact, near):
            key = np.lexsort((-pairs.r, self.same_unit(pairs), ~self.across(pairs)))[:SHOWN]
            for k in key:
                a, b = int(pairs.a[k]), int(pairs.b[k])
                rows.append({
                    "a": self.dataset.ids[a], "b": self.dataset.ids[b], "r": round(float(pairs.r[k]), 4),
                    "transform": names[pairs.transform[k]], "splits": [str(self.sides[a]), str(self.sides[b])],
                    "labels": [self._label(a), self._label(b)], "across": bool(self.sides[a] != self.sides[b]),
                    "same_unit": bool(self.units[a] == self.units[b]),
                })  # fmt: skip
        return sorted(rows, key=lambda row: (not row["across"], row["same_unit"], -row["r"]))[:SHOWN]

    def _label(self, row: int) -> str:
        target, classes = self.dataset.targets[row], self.dataset.task.classes
        return classes[int(target)] if np.ndim(target) == 0 else ", ".join(name for name, on in zip(classes, target, strict=True) if on)


def _choose_cut(table: _PairTable, near: Pairs, cut: float) -> tuple[float, bool]:
    """Return the first cut above which labels agree as they do in copies, and whether there is one."""
    shares = np.bincount(table.labels) / max(len(table.labels), 1)
    expected = 1 - float(np.square(shares).sum())  # how often any two images differ in label
    conflict = table.across_labels(near)
    # Neighbouring slices of one person may well differ in label and yet be the same picture.
    telling = ~table.same_unit(near)
    cuts = [cut, *(higher for higher in _CUTS if higher > cut)]
    for candidate in cuts:
        above = telling & (near.r >= candidate)
        if conflict[above].sum() < _CONFLICTS or conflict[above].mean() < _CHANCE * expected:
            return candidate, True
    return cuts[-1], False


def _finding(level: str, text: str, evidence: str) -> dict[str, str]:
    return {"level": level, "text": text, "evidence": evidence}


def _of_crossing(crossed: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        _finding(
            "leak",
            f"{_many(leak['units'], leak['column'])} {'stand' if leak['units'] > 1 else 'stands'} on more than one side of the split "
            f"({_many(leak['images'], 'image')}), e.g. {leak['examples'][0]}. Figures then don't speak of new {leak['column']}s.",
            "crossing",
        )
        for leak in crossed
    ]


def _of_duplicates(found: dict[str, Any]) -> list[dict[str, str]]:
    exact, near = found["exact"], found["near"]
    findings = []
    if exact["across_splits"]:
        text = (
            f"{_many(exact['across_splits'], 'image')} {_be(exact['across_splits'])} on more than one side of the split, pixel for pixel."
        )
        findings.append(_finding("leak", text, "duplicates"))
    elif exact["pairs"]:
        text = f"{_many(exact['pairs'], 'exact copy', 'exact copies')} within one side of the split."
        findings.append(_finding("note", text, "duplicates"))
    if exact["across_labels"]:
        text = f"{_many(exact['across_labels'], 'exact copy', 'exact copies')} with another class than the original: labels to mend."
        findings.append(_finding("warning", text, "duplicates"))
    if not near["trusted"]:
        text = (
            f"Near duplicates can't be told from look-alikes here: even above r = {near['cut']:g} ({_many(near['pairs'], 'pair')}) labels "
            "often differ, so that many pairs are alike by chance."
        )
        return [*findings, _finding("warning", text, "duplicates")]
    unknown = near["across_splits"] - near["across_splits_strangers"]
    if unknown:
        text = f"{_many(unknown, 'near duplicate')} across the split (r at least {near['cut']:g}, flips and turns included)."
        findings.append(_finding("leak", text, "duplicates"))
    if near["across_splits_strangers"]:
        text = (
            f"{_many(near['across_splits_strangers'], 'pair')} across the split {_be(near['across_splits_strangers'])} nearly the same picture "
            f"(r at least {near['cut']:g}) but of two subjects or groups: look at them; the ids may be wrong."
        )
        findings.append(_finding("warning", text, "duplicates"))
    return findings


def _of_associations(found: list[dict[str, Any]]) -> list[dict[str, str]]:
    findings = []
    for row in found:
        if row["relation"] == "tells the class":
            text = f'Column "{row["column"]}" tells the class without fail: a finer label, or a shortcut that a network may learn.'
            findings.append(_finding("warning", text, "associations"))
        elif row["relation"]:
            findings.append(_finding("note", f'Column "{row["column"]}" {row["relation"]}: another label, not a property.', "associations"))
        elif row["cramers_v"] >= _STRONG and row["p"] < _SURE:
            text = f'Column "{row["column"]}" goes with the class (Cramér\'s V {row["cramers_v"]:.2f}): a network may learn it instead.'
            findings.append(_finding("warning", text, "associations"))
    return findings


def _of_counts(dataset: Dataset, sides: NDArray[np.str_], content: dict[str, Any]) -> list[dict[str, str]]:
    findings, counts = [], content["counts"]
    if not any(dataset.subjects) and not any(dataset.groups):
        text = "No subjects are known: each image counts as its own, so several images of one person would leak unseen."
        findings.append(_finding("warning", text, "counts"))
    for side in ("test", "val"):
        missing = [name for name, n in counts[side].items() if not n]
        if missing and sum(counts[side].values()):
            text = f"{side} has no image of {', '.join(missing)}: no figure there speaks of {'it' if len(missing) == 1 else 'them'}."
            findings.append(_finding("warning", text, "counts"))
    few = {name: n for name, n in _test_units(dataset, sides).items() if 0 < n < _FEW_UNITS}
    if few:
        unit = content["unit"]
        listed = ", ".join(f"{name} {n}" for name, n in few.items())
        findings.append(_finding("warning", f"Few {unit} in test ({listed}): intervals will be wide.", "counts"))
    training = {name: n for name, n in counts["train"].items() if n}
    if training and max(training.values()) >= _IMBALANCE * min(training.values()):
        most, least = max(training, key=lambda name: training[name]), min(training, key=lambda name: training[name])
        text = (
            f"Training classes are uneven: {most} {training[most]:,}, {least} {_many(training[least], 'image')}. Read balanced accuracy, and "
            "consider class_weights or sampler = \"balanced\"."
        )  # fmt: skip
        findings.append(_finding("warning", text, "counts"))
    return findings


def _test_units(dataset: Dataset, sides: NDArray[np.str_]) -> dict[str, int]:
    """Return how many resampling units each class has in test."""
    table = dataset.targets if dataset.targets.ndim == 2 else np.eye(dataset.task.n_classes, dtype=bool)[dataset.targets]
    return {name: len(_units(dataset, (sides == "test") & (table[:, k] > 0))) for k, name in enumerate(dataset.task.classes)}


def _many(n: int, one: str, several: str = "") -> str:
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def _be(n: int) -> str:
    return "is" if n == 1 else "are"


def _wrapped(text: str, *, first: str = "  ", rest: str = "    ") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=first, subsequent_indent=rest)


def _finding_lines(findings: list[dict[str, str]]) -> list[str]:
    return [line for f in findings for line in _wrapped(f["text"], first=f"  {f['level'].upper():8} ", rest=" " * 11)]


def _count_lines(found: dict[str, Any]) -> list[str]:
    names = list(found["counts"]["train"])
    width = min(max([len(name) for name in names] + [len(found["unit"]), 10]), 60)
    lines = [f"  {'':{width}}" + "".join(f"{side:>10}" for side in SIDES)]
    lines += [f"  {name[:width]:{width}}" + "".join(f"{found['counts'][side][name]:>10,}" for side in SIDES) for name in names]
    lines.append(f"  {'all images':{width}}" + "".join(f"{sum(found['counts'][side].values()):>10,}" for side in SIDES))
    if found["unit"] != "images":
        lines.append(f"  {found['unit']:{width}}" + "".join(f"{found['n_units'][side]:>10,}" for side in SIDES))
    return lines


def _duplicate_lines(found: dict[str, Any]) -> list[str]:
    exact, near = found["exact"], found["near"]
    raised = "" if near["cut"] == near["cut_asked"] else f", raised from {near['cut_asked']:g} because labels differed"
    lines = [
        f"  exact: {_many(exact['pairs'], 'copy', 'copies')}, {exact['across_splits']:,} across the split, {exact['across_labels']:,} across labels",
        *_wrapped(
            f"near: {_many(near['pairs'], 'pair')} with r >= {near['cut']:g} at {SIDE} px{raised}; {near['across_splits']:,} across the split, "
            f"{near['across_labels']:,} across labels, {near['same_unit']:,} of one subject or group"
        ),
        f"  {'r':>14}{'pairs':>10}{'one unit':>10}{'two labels':>12}",
    ]
    for band in near["bands"]:
        lines.append(f"  {band['from']:>6.2f} to {band['to']:.2f}{band['pairs']:>10,}{band['same_unit']:>10,}{band['across_labels']:>12,}")
    for pair in found["shown"]:
        where = " | ".join(f"{pair['splits'][k] or '-'}, {pair['labels'][k]}" for k in range(2))
        change = "" if pair["transform"] == "as is" else f", {pair['transform']}"
        lines += _wrapped(f"{pair['r']:.3f}{change}: {pair['a']}  {pair['b']}  ({where})")
    return [*lines, *_wrapped(found["blind_to"], rest="  ")]


def _association_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"  {row['column'][:40]:40} {row['cramers_v']:.2f}  {row['kind']}, {_many(row['levels'], 'level')}"
        + (f": {row['relation']}" if row["relation"] else "")
        for row in found["associations"]
    ]
    reasons = Counter(found["left_out"].values())
    for reason in sorted(reasons):
        columns = ", ".join(column for column, why in found["left_out"].items() if why == reason)
        lines += _wrapped(f"left out ({reason}): {columns}")
    return lines or ["  no further columns"]
