"""The page in a real browser: no error, no request, everything reachable by click and by keyboard, at desk and phone width."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.reporting.page import write
from pellucid.reporting.sweep import write as write_sweep
from pellucid.stats.classification import softmax

pytestmark = pytest.mark.browser
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDTHS = (1280, 390)
PATIENCE = 120_000  # milliseconds: a busy machine is no failure


@pytest.fixture(scope="module")
def record(build):
    """A run that fills every section: four methods, two of them at the images' full grid."""
    return build(n=80, shap=True)


@pytest.fixture(scope="module")
def address(record, tmp_path_factory):
    return write(record, tmp_path_factory.mktemp("page") / "a run ü").as_uri()


@pytest.fixture(scope="module")
def browser(chromium):
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed, so there is nothing to drive a browser with."
    )
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module", params=WIDTHS)
def opened(request, browser, address):
    """The report, opened once for each width, with what it reported and asked for."""
    page = browser.new_page(viewport={"width": request.param, "height": 800})
    page.set_default_timeout(PATIENCE)
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("data:", address, "about:")) else page.heard.append(asked.url))
    page.goto(address)
    yield page
    page.close()


@pytest.fixture
def page(opened):
    """The report as a reader finds it; afterwards it must have raised no error and asked nothing of the network."""
    opened.evaluate(
        """() => {
          document.querySelector('#large').close();
          for (const id of ['sort', 'class', 'who', 'method']) document.getElementById(id).selectedIndex = 0;
          document.getElementById('method').dispatchEvent(new Event('change'));
          scrollTo(0, 0);
        }"""
    )
    yield opened
    assert opened.heard == []


def _numbers(page):
    return page.eval_on_selector_all("#grid article", "found => found.map((a) => Number(a.dataset.index))")


def test_nothing_overflows(page):
    """Neither the page nor any card, figure or picture is wider than the screen; wide tables scroll inside themselves."""
    page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "(w) => [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, pre, .hidden')"
        " && e.getBoundingClientRect().right > w + 0.5).map((e) => e.outerHTML.slice(0, 80))",
        width,
    )
    assert outside == []


def test_sort_changes_the_order(page, record):
    """By name means by name, by error the student's worst case first."""
    page.select_option("#sort", "error")
    of_truth = softmax(record.cases.logits["student"])[range(len(record.cases.ids)), record.cases.targets]
    assert of_truth[_numbers(page)[0]] < of_truth.min() + 1e-4
    page.select_option("#sort", "name")
    names = [record.cases.ids[i] for i in _numbers(page)]
    assert names[0].startswith("test/diffuse")
    assert len(names) == 8


def test_filters_keep_only_what_they_say(page, record):
    """Class and who was right narrow the grid together, and the count says so."""
    page.select_option("#class", "2")
    page.click("#more")
    found = _numbers(page)
    assert found and all(record.cases.targets[i] == 2 for i in found)
    page.select_option("#who", "teacher")
    for i in _numbers(page):
        assert record.cases.logits["teacher"][i].argmax() == 2 != record.cases.logits["student"][i].argmax()
    assert "shown" in page.inner_text("#count") or "No case" in page.inner_text("#count")


def test_one_method_alone_can_be_shown(page, record):
    """Its maps only, in cards and in the large case, and the order is that of its own disagreement."""
    page.select_option("#method", "average_feature_map")
    assert page.inner_text("#sort option:first-child").startswith("disagreement of Average feature map maps")
    alike = record.cases.similarity["student", "average_feature_map"]
    assert _numbers(page)[0] == int(np.nanargmin(np.round(alike, 3)))
    visible = "found => [...new Set(found.filter((row) => row.offsetParent).map((row) => row.dataset.method))]"
    assert page.eval_on_selector_all("#grid .method", visible) == ["average_feature_map"]
    page.locator("#grid a.open").first.click()
    page.wait_for_selector("#large[open]")
    assert page.eval_on_selector_all("#large .method", visible) == ["average_feature_map"]
    page.click("#close")
    page.select_option("#method", "")
    assert len(page.eval_on_selector_all("#grid .method", visible)) == 4
    assert _numbers(page)[0] == int(np.nanargmin(np.round(record.cases.similarity["student", "grad_cam"], 3)))


def test_more_cases_are_drawn_from_numbers(page):
    """Beyond the 24 plain pictures the page draws maps itself."""
    page.click("#more")
    page.click("#more")
    assert len(_numbers(page)) == 56
    assert page.locator("#grid article").nth(40).locator("canvas").count() >= 5
    assert page.evaluate("document.activeElement.className") == "open"


def test_click_opens_a_case_and_close_returns(page):
    """A click anywhere on a card opens it large; closing gives the focus back and clears the address."""
    page.locator("#grid article").nth(2).scroll_into_view_if_needed()
    page.locator("#grid article").nth(2).click(position={"x": 120, "y": 120})
    page.wait_for_selector("#large[open]")
    number = page.inner_text("#large-title").split()[1].rstrip(":")
    assert page.url.endswith(f"#case-{number}")
    page.click("#close")
    assert not page.is_visible("#large")
    assert "#case" not in page.url
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"#case-{number}"


def test_keyboard_opens_walks_and_leaves(page):
    """Enter opens the case in focus, arrows walk in the shown order, Escape leaves."""
    order = _numbers(page)
    page.locator("#grid a.open").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('article').dataset.index") == str(order[1])
    page.keyboard.press("Enter")
    page.wait_for_selector("#large[open]")
    page.keyboard.press("ArrowRight")
    assert f"{order[2]:04d}" in page.inner_text("#large-title")
    assert page.url.endswith(f"#case-{order[2]:04d}")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert f"{order[0]:04d}" in page.inner_text("#large-title")
    assert page.is_disabled("#previous")
    page.keyboard.press("Escape")
    assert not page.is_visible("#large")


def test_address_opens_its_case(page, address):
    """A case's address can be sent to a colleague, also that of a case beyond the first 24, with its layers."""
    page.goto("about:blank")
    page.goto(f"{address}#case-0057")
    page.wait_for_selector("#large[open]")
    assert "0057" in page.inner_text("#large-title")
    assert page.locator("#large .layers figure").count() == 5
    assert "96x96, drawn at 48x48" in page.locator("#large .layers figcaption").first.inner_text()
    assert page.evaluate("document.querySelector('#large').scrollWidth <= document.querySelector('#large').clientWidth")


def test_unknown_address_is_said(page):
    """A case that the report doesn't hold is named as such, also where another case was closed a moment before."""
    page.evaluate("location.hash = 'case-0057'")
    page.wait_for_selector("#large[open]")
    page.evaluate("() => { document.querySelector('#large').close(); location.hash = 'case-9999'; }")
    page.wait_for_function("document.querySelector('#count').textContent.includes('9999')")
    assert page.url.endswith("#case-9999")


def test_slider_sets_the_strength_of_maps(page):
    """One slider moves all maps."""
    page.locator(".tools input.opacity").fill("20")
    assert page.evaluate("getComputedStyle(document.querySelector('.frame .map')).opacity") == "0.2"


def test_copy_gives_csv_and_latex(page):
    """The buttons copy what stands in the table; here the clipboard is withheld, so the fallback is used."""
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("document.addEventListener('copy', () => { window.copied = document.activeElement.value; })")
    page.locator("button.copy[data-table='counts'][data-as='csv']").click()
    page.wait_for_function("window.copied")
    assert page.evaluate("window.copied").startswith("Class,Training,Validation,Test,All\nnone,")
    page.locator("button.copy[data-table='counts'][data-as='latex']").click()
    page.wait_for_function("window.copied.includes('tabular')")


def test_easier_shows_word_and_shape(page):
    """Each answer is a word beside a shape, and every panel of the section lies within the screen."""
    answers = page.locator(".answers .said")
    assert answers.count() == 7
    assert answers.first.inner_text() == "Easier with GradientSHAP"
    assert page.locator(".answers .said svg.tone").count() == 7
    shapes = page.eval_on_selector_all(".answers li:first-child svg.tone", "found => found.map((e) => e.innerHTML)")
    assert len(set(shapes)) == 4


def test_layers_scroll_inside_themselves(page):
    """The panel of layers opens by keyboard; wider than a phone, it scrolls by itself and doesn't widen the page."""
    page.locator(".panel-figure summary").focus()
    page.keyboard.press("Enter")
    figure = page.locator(".panel-figure svg.layers-figure")
    figure.wait_for(state="visible")
    assert figure.bounding_box()["width"] > 900
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    broken = page.eval_on_selector_all(
        ".layers-figure use", "found => found.filter((u) => !document.querySelector(u.getAttribute('href'))).length"
    )
    assert broken == 0
    page.locator(".panel-figure summary").press("Enter")


def test_large_case_names_the_grid_of_full_maps(page):
    """In the large view each map says its own grid and the one it is drawn at."""
    page.locator("#grid a.open").first.click()
    page.wait_for_selector("#large[open]")
    assert "96x96, drawn at 48x48" in page.inner_text("#large-body")
    assert page.evaluate("document.querySelector('#large').scrollWidth <= document.querySelector('#large').clientWidth")


def test_drawn_and_plain_maps_are_the_same_picture(page):
    """The page's own drawing equals the pictures made in Python, to a rounding of the colour table."""
    worst = page.evaluate(
        """async () => {
          const card = document.querySelector('#grid article'), plain = card.querySelector('img.map');
          await plain.decode();
          const flat = document.createElement('canvas'); flat.width = flat.height = 64;
          const pen = flat.getContext('2d'); pen.drawImage(plain, 0, 0);
          const expected = pen.getImageData(0, 0, 64, 64).data;
          location.hash = `case-${card.dataset.index.padStart(4, '0')}`;
          while (!document.querySelector('#large[open] canvas')) await new Promise((done) => setTimeout(done, 20));
          const large = document.querySelector('#large canvas');
          const small = document.createElement('canvas'); small.width = small.height = 64;
          const pen2 = small.getContext('2d'); pen2.imageSmoothingEnabled = true; pen2.drawImage(large, 0, 0, 64, 64);
          const got = pen2.getImageData(0, 0, 64, 64).data;
          let sum = 0; for (let k = 0; k < got.length; k++) sum += Math.abs(got[k] - expected[k]);
          return sum / got.length;
        }"""
    )
    assert worst < 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(browser, address, scheme):
    """Every text has a contrast of at least 4.5 to what lies behind it, in both schemes."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    poor = page.evaluate(
        """() => {
          const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
          const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
          const parse = (text) => text.match(/[\\d.]+/g).map(Number);
          const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
          const poor = new Set();
          for (const e of document.querySelectorAll('body *')) {
            if (e.closest('dialog, script, svg title, .dead, .hidden, .skip, option') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
            const style = getComputedStyle(e);
            if (style.display === 'none' || e.classList.contains('on-cell')) continue;
            const a = light(parse(e instanceof SVGElement ? style.fill : style.color)), b = light(behind(e));
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) poor.add(`${e.tagName}.${e.className.baseVal ?? e.className} ${ratio.toFixed(2)}`);
          }
          return [...poor];
        }"""
    )
    page.close()
    assert poor == []


@pytest.mark.parametrize("width", WIDTHS)
def test_without_javascript_it_can_be_read(browser, address, width):
    """Without JavaScript the 24 plain cases and all figures are there, and no dead control."""
    context = browser.new_context(java_script_enabled=False, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    assert page.locator("article.case:visible").count() == 24
    assert page.locator("article.verdict").count() == 4
    assert not page.is_visible(".tools")
    page.locator(".panel-figure summary").click()
    assert page.locator(".layers-figure").is_visible()
    assert not page.locator("button:visible").count()
    context.close()


def test_names_with_markup_run_nothing(browser, nasty, tmp_path):
    """A class called like a script tag is shown, not run."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    dialogs = []
    page.on("dialog", lambda opened: (dialogs.append(opened.message), opened.dismiss()))
    page.goto(write(nasty, tmp_path).as_uri() + "#case-0002")
    page.wait_for_selector("#large[open]")
    assert dialogs == []
    assert page.title().startswith("<img src=x")
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sweeps_table_sorts_by_click_and_by_keyboard(browser, swept, tmp_path, width):
    """Figures as numbers, first up, then down; the page fits its width and asks for nothing."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_default_timeout(PATIENCE)
    heard = []
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("console", lambda message: heard.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda asked: None if asked.url.startswith(("data:", "file:")) else heard.append(asked.url))
    page.goto(write_sweep(swept, tmp_path).as_uri())
    column = "() => [...document.querySelectorAll('#settings table.sortable tbody tr')].map((row) => row.cells[1].textContent)"
    heading = page.locator("#settings table.sortable thead button", has_text="temperature")
    heading.click()
    assert page.evaluate(column) == ["5", "5", "10", "10", "15", "15"]
    heading.press("Enter")
    assert page.evaluate(column) == ["15", "15", "10", "10", "5", "5"]
    assert page.locator("#settings th[aria-sort=descending]").count() == 1
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert heard == []
    page.close()
