"""Which cases are shown, in which order, and that the page's numbers are the record's."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from pellucid.core.records import even_centres
from pellucid.reporting import sections
from pellucid.reporting.cases import N_PLAIN, CaseBook, as_numbers, chosen
from pellucid.reporting.figures import maps


def test_disagreement_comes_first_and_unjudged_last(record):
    """The least alike maps lead; a case without judgement follows all others."""
    order = CaseBook(record).disagreement()
    alike = record.cases.similarity["student", "grad_cam"][order]
    assert (np.diff(alike[:-1]) >= 0).all() and np.isnan(alike[-1])


def test_median_case_has_half_the_cases_on_each_side(record):
    """The case on the first screen is neither the best nor the worst."""
    alike = record.cases.similarity["student", "grad_cam"]
    middle = alike[CaseBook(record).median()]
    assert abs((alike < middle).sum() - (alike > middle).sum()) <= 1


def test_grid_below_6x6_is_not_judged(build):
    """A teacher's map of 3x3 is shown, and said not to be judged."""
    book = CaseBook(build(n=12, grids=(3, 8)))
    assert book.not_judged("grad_cam") == "not judged: grid 3x3"
    assert book.case(0).rows[1].alike == {"base": None, "student": None}


def test_dead_maps_have_no_places(record):
    """A constant map is None, and the row's other maps keep their scale."""
    row = CaseBook(record).case(17).rows[1]
    assert row.places["base"] is None and row.places["student"] is not None
    assert row.alike["base"] is None


def test_a_case_shows_the_similarity_that_was_measured(record):
    """Of base and student alike, for each method; the page works out none of its own."""
    rows = CaseBook(record).case(3).rows
    for row, method in zip(rows, ("average_feature_map", "grad_cam"), strict=True):
        for role in ("base", "student"):
            assert row.alike[role] == pytest.approx(record.cases.similarity[role, method][3], abs=0.0051)  # printed to two decimals


def test_numbers_give_back_the_map(record):
    """What the page stores of a map is the map on the row's scale, to a 255th of it."""
    book = CaseBook(record)
    stored = json.loads(json.dumps(as_numbers(book.case(3), thumbnail=True)))["rows"][1]
    height, width, text = stored["maps"]["student"]
    places = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width)
    value = stored["lo"] + places / 255 * (stored["hi"] - stored["lo"])
    raw = maps.relative(book.by_key["student", "grad_cam"].maps[3])
    np.testing.assert_allclose(value, raw, atol=(stored["hi"] - stored["lo"]) / 255)


def test_a_map_is_drawn_where_its_cells_look(record):
    """Beside an even cut on a grid twice as fine; and the page says how far that is, or that it isn't known."""
    cases, at = record.cases, next(i for i, e in enumerate(record.cases.explanations) if (e.model, e.method) == ("student", "grad_cam"))
    height, width = cases.explanations[at].maps.shape[1:]
    even = even_centres((height, width))
    left, right = ((even[0], (first, 1 / width)) for first in (0.0, 1 / width))  # half a cell further to the left, or right
    drawn, told = [], []
    for centres in (None, even, left, right):
        moved = [*cases.explanations[:at], replace(cases.explanations[at], centres=centres), *cases.explanations[at + 1 :]]
        other = replace(record, cases=replace(cases, explanations=moved))
        book = CaseBook(other)
        drawn.append(maps.drawn(book.by_key["student", "grad_cam"], 3, book.side))
        told.append(sections.explanation(other, book)["methods"][1]["where"].rpartition("; student")[2])
    assert [one.shape for one in drawn] == [(height, width)] * 2 + [(2 * height, 2 * width)] * 2
    assert np.array_equal(drawn[0], drawn[1])
    further_left, further_right = (one / np.abs(one).max() for one in drawn[2:])
    assert np.corrcoef(further_left[:, :-2].ravel(), further_right[:, 2:].ravel())[0, 1] > 0.999  # two fine cells are one cell
    assert "isn't known; they are drawn as an even cut" in told[0] and "cut" not in told[1]
    assert "its cells look 6 px left of an even cut" in told[2]  # half of a cell of 12, and not at all up or down


@pytest.mark.parametrize(("most", "all_of_them"), [(10_000_000, True), (420_000, False)])
def test_chosen_cases_fit_and_cover_the_ranking(record, most, all_of_them):
    """The first 24 are always there; what else fits comes from the whole ranking, not only its beginning."""
    book = CaseBook(record)
    rows, texts = chosen(book, most_bytes=most)
    order = list(book.disagreement())
    assert rows[:N_PLAIN] == order[:N_PLAIN]
    assert (len(rows) == len(record.cases.ids)) is all_of_them
    assert sum(map(len, texts)) <= most
    assert max(order.index(row) for row in rows) > 90


def test_full_grid_maps_are_pooled_with_their_sign():
    """A checkerboard of +3 and -1 is +1 on average: what speaks against the class weighs against what speaks for it."""
    single = np.where(np.indices((128, 128)).sum(0) % 2, 3.0, -1.0)
    single[:2, :2] = -4.0
    kept = maps.pooled(single)
    assert kept.shape == (64, 64)
    assert kept[0, 0] == -4.0 and set(kept.ravel()[1:].tolist()) == {1.0}


def test_a_row_says_which_grid_its_maps_were_pooled_from(transparent):
    """The map's own grid stands beside the one it is drawn at, and the scale is that of what is drawn."""
    row = CaseBook(transparent).case(6).rows[2]
    assert row.method == "gradient_shap"
    assert set(row.grids.values()) == {"96x96, drawn at 48x48"}
    assert row.places["student"].shape == (48, 48)
    assert max(places.max() for places in row.places.values()) == 255 or min(places.min() for places in row.places.values()) == 0


def test_maps_are_kept_coarser_where_all_cases_would_not_fit(transparent):
    """All cases with coarser maps are worth more than some with finer ones; the layers follow."""
    cases = transparent.cases
    many = 25
    repeated = replace(
        transparent,
        cases=replace(
            cases, ids=cases.ids * many, targets=np.tile(cases.targets, many), logits={k: np.tile(v, (many, 1)) for k, v in cases.logits.items()},
        ),
    )  # fmt: skip
    assert CaseBook(transparent).side == 64
    assert CaseBook(repeated).side == 32
    assert CaseBook(repeated).case(6).rows[2].grids["student"] == "96x96, drawn at 32x32"
    assert [layer.grid for layer in CaseBook(repeated).case(6).layers] == [
        "96x96, drawn at 32x32", "48x48, drawn at 24x24", "24x24", "12x12", "6x6",
    ]  # fmt: skip


def test_who_was_right_follows_truth(record):
    """Every case falls into the one of four strata that its answers say."""
    book = CaseBook(record)
    for i in range(len(book)):
        teacher, student = (int(record.cases.logits[r][i].argmax()) == int(record.cases.targets[i]) for r in ("teacher", "student"))
        assert book.who(i) == {(1, 1): "both", (1, 0): "teacher", (0, 1): "student", (0, 0): "neither"}[teacher, student]


def test_the_median_among_some_is_the_middle_of_these(record):
    """In the order of agreement; where none of them was judged, as if all were meant."""
    book = CaseBook(record)
    alike = book.alike["student", book.lead]
    some = record.cases.masks.any((1, 2)) & np.isfinite(alike)
    ranked = sorted(np.flatnonzero(some), key=lambda i: alike[i])
    assert book.median(some) == ranked[(len(ranked) - 1) // 2]
    assert book.median(np.zeros(len(book), bool)) == book.median()
