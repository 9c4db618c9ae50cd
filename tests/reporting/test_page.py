"""The page is one file, whole, safe against names, and says what it can't say."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pellucid.core.errors import StorageError
from pellucid.core.records import Measurement
from pellucid.reporting import page as pages
from pellucid.reporting.citations import SOURCES, bibtex, entries
from pellucid.reporting.page import render, write
from pellucid.reporting.sections import cost_table, counts_table, further_of_maps, panel_by_method

VOID = {"meta", "link", "img", "input", "br"}


class _Reader(HTMLParser):
    """Collects what tests ask for, and fails on tags that aren't closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.headings, self.images, self.ids, self.links, self.scripts = [], [], [], [], [], 0

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in VOID and not (self.open and "svg" in self.open and tag in ("path", "line", "rect", "circle", "polyline")):
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag) and "dialog" not in self.open:
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(found)
        if tag == "script":
            self.scripts += 1
        if tag == "a":
            self.links.append(found.get("href", ""))
        if "id" in found:
            self.ids.append(found["id"])

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        elif tag not in ("path", "line", "rect", "circle", "polyline"):
            raise AssertionError(f"</{tag}> closes {self.open[-3:]}")


@pytest.fixture(scope="module")
def page(record):
    return render(record)


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_page_is_self_contained_and_small(page):
    """No address outside the file, and at most 10 MB."""
    without_data = re.sub(r"data:[a-z]+/[a-z]+;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.findall(r'(?:src|href|action)="(?!#|data:|")', without_data)
    assert not re.findall(r"url\((?!\))(?!data:)", re.sub(r"url\(\$\{c\.img\}\)", "", without_data))
    assert len(page.encode()) < 10_000_000


def test_headings_are_in_order_and_links_arrive(page):
    """No heading level is skipped, ids are unique, and every link inside the page has its place."""
    reader = _read(page)
    assert reader.headings[0] == 1 and reader.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(reader.headings, reader.headings[1:], strict=False))
    assert len(set(reader.ids)) == len(reader.ids)
    missing = {link[1:] for link in reader.links if link.startswith("#")} - set(reader.ids)
    assert all(link.startswith("case-") for link in missing)


def test_every_picture_has_a_text(page):
    """Alternative texts are there and say more than the file's type."""
    images = _read(page).images
    assert len(images) > 100
    assert all(image.get("alt") for image in images)


def test_first_24_cases_are_plain_pictures(page):
    """They stand in the page as PNG, so they show without JavaScript."""
    cases = re.findall(r'<article class="case".*?</article>', page, re.S)
    assert len(cases) == 24
    assert all(case.count('<img class="map" src="data:image/png;base64,') + case.count("no signal</span>") == 6 for case in cases)


def test_names_from_outside_stay_text(nasty):
    """Titles, classes and file names with markup can't become markup, in HTML, SVG, JSON or attributes."""
    page = render(nasty)
    reader = _read(page)
    assert reader.scripts == 4
    assert "<img src=x" not in page
    assert "<script>alert(1)" not in page
    assert "Größe &amp; Maß" in page


def test_banner_stands_only_over_a_leak(record, build):
    """Findings of level leak, or a split by image where subjects are known, put a banner on top; warnings don't."""
    assert 'class="banner"' not in render(record)
    assert (
        "12 subjects have images in training and test." in re.search(r'class="banner".*?</section>', render(build(n=8, leak=True)), re.S)[0]
    )
    by_image = replace(record, settings={**record.settings, "data": {**record.settings["data"], "split": "image"}})
    assert "The split is by image" in re.search(r'class="banner".*?</section>', render(by_image), re.S)[0]


def test_header_says_what_was_tested_on_how_many(page):
    """The first line: title, teacher and student, n with its subjects, date."""
    header = re.sub(r"<[^>]+>", "|", re.search(r"<header.*?</header>", page, re.S)[0])
    for part in ("phantom", "densenet121 → cnn5", "118 test images of 31 subjects", "2026-11-25"):
        assert part in header


def test_undefined_figures_are_words_with_reasons(page):
    """A class without images has its reason in the table, never nan."""
    assert "undefined: no image of class diffuse in test" in page
    assert not re.search(r">\s*-?(nan|NaN|None|inf)\s*<", page)


def test_small_grid_is_said_in_the_page(build):
    """With a 3x3 grid the page says "not judged: grid 3x3" instead of a likeness."""
    assert "not judged: grid 3x3" in render(build(n=8, grids=(3, 8)))


def test_page_holds_what_a_thin_record_has(record):
    """A run without masks, base, panel, verdicts, audit or measurements still gives a page."""
    cases = replace(
        record.cases, masks=None, panel=[], panel_rows=[], logits={k: v for k, v in record.cases.logits.items() if k != "base"},
        explanations=[e for e in record.cases.explanations if e.model != "base"],
    )  # fmt: skip
    thin = replace(record, cases=cases, measurements=[], verdicts=[], audit={}, duplicates=[], contact={}, stages=[], versions={},
                   networks={k: replace(v, history=[]) for k, v in record.networks.items() if k != "base"})  # fmt: skip
    _read(render(thin))


def test_page_holds_no_case_at_all(record):
    """Even without a case to show, the figures are reported."""
    none = replace(record.cases, ids=[], images=record.cases.images[:0], masks=None, targets=record.cases.targets[:0], subjects=[], panel=[], panel_rows=[],
                   logits={k: v[:0] for k, v in record.cases.logits.items()}, similarity={}, explanations=[replace(e, maps=e.maps[:0], targets=e.targets[:0]) for e in record.cases.explanations])  # fmt: skip
    _read(render(replace(record, cases=none)))


def test_write_makes_every_file(record, tmp_path):
    """The page, its data as CSV and the LaTeX tables lie in the folder, and nothing half-written."""
    folder = tmp_path / "a run with ümlaut"
    assert write(record, folder) == folder / "report.html"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "report.html",
        "tables.tex",
        "measurements.csv",
        "report/data/accuracy.csv",
        "report/data/cases.csv",
        "report/data/training.csv",
    } <= names
    assert not [name for name in names if name.endswith(".part")]
    cases = (folder / "report/data/cases.csv").read_text(encoding="utf-8").splitlines()
    assert len(cases) == 1 + len(record.cases.ids)


def test_two_pages_lie_side_by_side(record, tmp_path):
    """A page of another name has its tables in a folder of its own, and says so."""
    write(record, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    page = write(record, tmp_path, name="other.html").read_text(encoding="utf-8")
    named = set(re.findall(r"also in (\w+/data/\w+\.csv)", page))
    assert len(named) > 6 and all(name.startswith("other/") and (tmp_path / name).is_file() for name in named)
    assert (tmp_path / "other" / "tables.tex").is_file() and (tmp_path / "other" / "measurements.csv").is_file()
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("name", ["no_ending", "taken.html"])
def test_a_page_whose_tables_have_no_place_is_refused(record, tmp_path, name):
    """With nothing half-written."""
    (tmp_path / "taken").touch()
    with pytest.raises(StorageError, match="let no file be called"):
        write(record, tmp_path, name=name)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_tables_named_in_the_page_are_written(record, tmp_path):
    """Where the page says "also in report/data/x.csv", that file is there."""
    page = write(record, tmp_path).read_text(encoding="utf-8")
    named = set(re.findall(r"also in (report/data/\w+\.csv)", page))
    assert len(named) > 6
    assert all((tmp_path / name).is_file() for name in named)


def test_counts_add_up(record):
    """The row of all images is the sum of the classes."""
    rows = counts_table(record).rows
    columns = np.array([[int(cell.replace(",", "")) for cell in row[1:]] for row in rows[:-1]])
    np.testing.assert_array_equal(columns[:-1].sum(0), columns[-1])


def test_remarks_name_their_figures_shortly():
    """A remark on all networks of a method names the method; a reason for an undefined figure isn't folded away."""
    found = [Measurement("iou", 0.3, by="grad_cam", model=m, reason="positive part") for m in ("teacher", "student")]
    found += [
        Measurement("iou", 0.2, by="centre_prior", reason="knows nothing"),
        Measurement("iou", None, by="other", model="base", reason="no masks"),
    ]
    panel = panel_by_method("iou", found)
    assert panel.remarks == ["Grad-CAM: positive part", "Control: the centre: knows nothing"]
    assert panel.notes == ["Other: undefined: no masks"]


def test_cost_says_gain_or_loss(record):
    """A student that is slower is called slower, by a factor above 1."""
    slower = [replace(m, value=56.2) if (m.name, m.model) == ("latency_p50", "student") else m for m in record.measurements]
    last = {row[0]: row[-1] for row in cost_table(replace(record, measurements=slower)).rows}
    assert last["Parameters"] == "21x smaller"
    assert last["Latency, median"] == "2.0x slower"
    assert last["Throughput"] == "17x faster"


def test_page_holds_as_many_cases_as_there_is_room_for(transparent, monkeypatch):
    """Whatever pictures and tables take, the whole stays within the limit, and the page says how many cases it holds."""
    assert "All 64 test images" in render(transparent)
    monkeypatch.setattr(pages, "MOST_PAGE", 4_000_000)
    page = render(transparent)
    held = int(re.search(r"(\d+) cases of 64 test images", page)[1])
    assert 24 <= held < 64
    assert len(page.encode()) <= 4_010_000


def test_easier_is_answered_in_words_before_its_charts(transparent):
    """The question stands as a heading; under it the answers, then the charts, each with how to read it."""
    section = re.search(r'<h3 id="easier">.*?</section>', render(transparent), re.S)[0]
    said = re.sub(r"<[^>]+>", " ", section)
    places = [
        said.index(text)
        for text in ("Is the student easier to explain?", "Easier with GradientSHAP", "Fidelity beyond a random map", "Right of the line")
    ]
    assert places == sorted(places)


def test_layers_stand_in_the_page_without_a_script(transparent, tmp_path):
    """The panel of layers is a figure of the page and a file; the explanation of its scales stands with it."""
    page = write(transparent, tmp_path).read_text(encoding="utf-8")
    figure = re.search(r'<details class="panel-figure">.*?</details>', page, re.S)[0]
    assert "Every layer of the student, on 20 fixed images" in figure and "Case 0057" in figure and "no signal" in figure
    assert (tmp_path / "report/figures/layers.svg").read_text(encoding="utf-8").startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def test_methods_that_read_the_input_say_so(transparent):
    """SHAP has no layer; its maps are pooled for the page, and the caption names both grids."""
    page = render(transparent)
    assert "student at the input, grid 96x96" in page
    assert "96x96, drawn at 48x48" in page


def test_shap_gap_is_printed_with_how_many_images_cannot_say(transparent):
    """The gap stands in full view, not folded away."""
    panel = re.search(r'<div class="panel">\s*<h4>Completeness gap</h4>.*?</div>', render(transparent), re.S)[0]
    assert "0.021 [0.015, 0.034]" in panel and '<p class="meaning note">too small to say on 7 of 118 images</p>' in panel


def test_figures_with_a_panel_are_not_repeated_among_further_ones(transparent):
    """What decides "easier" has its chart; only the base's differences would go to the table of further measures."""
    assert further_of_maps(transparent) is None
    extra = [replace(m, model="student - base") for m in transparent.measurements if m.name == "iou_difference"]
    table = further_of_maps(replace(transparent, measurements=extra))
    assert len(table.rows) == len(extra)
    assert "student - base: The student's figure minus" in table.caption


def test_a_twin_its_gain_and_the_crossed_maps_have_panels(record):
    """Each with its sentence; a gain that is undefined says why in full view."""
    reason = "undefined: twin - base is +0.02 [-0.01, +0.04], not surely above 0, so there is no way to go a share of"
    rows = [
        Measurement("similarity", 0.7, 0.65, 0.75, n_images=118, model="twin ~ teacher", by="grad_cam"),
        Measurement("transfer_gain", 0.66, 0.4, 0.9, n_images=118, model="student", by="grad_cam"),
        Measurement("transfer_gain", None, model="student", by="average_feature_map", reason=reason),
        Measurement("cross_deletion", 0.31, 0.25, 0.36, n_images=118, model="teacher by student", by="grad_cam"),
        Measurement("cross_deletion_difference", 0.2, 0.1, 0.3, n_images=118, model="teacher by student - random", by="grad_cam"),
    ]
    html = render(replace(record, measurements=[*record.measurements, *rows]))
    for text in (
        "twin ~ teacher",
        "0.66 [0.40, 0.90]",
        reason,
        "Does each need what the other",
        "teacher by student",
        "+0.20 [+0.10, +0.30]",
    ):
        assert text in html, text
    assert "Does each need what the other" not in render(record)


def test_the_randomisation_cascade_is_a_figure_with_its_steps_as_a_table(record, tmp_path):
    """A curve for each network that begins at 1, the remark in full view, and the CSV behind it."""
    last = Measurement("randomisation", 0.04, -0.02, 0.1, n_images=50, model="student", by="grad_cam", reason="drops, surely below 0.5")
    steps = [replace(last, value=value, low=None, high=None, stratum=f"step {k}: part{k}", reason="") for k, value in ((1, 0.6), (2, 0.04))]
    with_cascade = replace(record, measurements=[*record.measurements, last, *steps])
    html = render(with_cascade)
    assert "Randomisation cascade: Grad-CAM: student over step" in html and "drops, surely below 0.5" in html
    curve = re.search(
        r'<polyline class="curve r-student dash-0" points="([^"]+)"/>', html.split("Randomisation cascade: Grad-CAM: student")[1]
    )
    heights = [float(point.split(",")[1]) for point in curve.group(1).split()]
    assert len(heights) == 3 and heights == sorted(heights)  # down the page: the correlation falls
    write(with_cascade, tmp_path)
    assert "step 2: part2" in (tmp_path / "report" / "data" / "randomisation.csv").read_text(encoding="utf-8")


def test_citations_follow_the_methods(record, transparent):
    """SHAP brings Lundberg & Lee and captum, its superpixels SLIC; a run without SHAP cites none of them."""
    assert all(f"{{{key}," in bibtex(transparent) for key in ("lundberg2017", "kokhlikyan2020", "achanta2012"))
    assert "lundberg2017" not in bibtex(record)


def test_all_cited_keys_are_there():
    """Each key that a method may bring has its entry."""
    everything = {key for keys in SOURCES.values() for key in keys}
    assert everything <= set(entries())
