"""The fixed panel: for the same few images every layer of the student, beside the methods that explain it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from pellucid.core.records import Explanation
from pellucid.reporting import words
from pellucid.reporting.cases import CaseBook
from pellucid.reporting.figures import charts, maps

_CELL, _GAP, _LEFT, _HEAD, _FOOT = 84, 6, 104, 50, 14
_STEP = _CELL + _FOOT + _GAP  # from row to row
_LETTERS = 88  # pixels of a head that stand on one line
OPACITY = 0.6


@dataclass(frozen=True)
class Colours:
    """The colours of words and ground: values for a file, or the style sheet's variables for the page, and the strength of the maps."""

    ink: str = "#1b1f24"
    soft: str = "#57606a"
    paper: str = "#ffffff"
    opacity: str = str(OPACITY)
    font: str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


ON_PAGE = Colours("var(--ink)", "var(--soft)", "none", "var(--opacity)", "var(--sans)")


def columns(book: CaseBook) -> list[Explanation]:
    """Return the student's layers in order, then each method's maps of the student; a method that is one of the layers isn't repeated."""
    layers = book.cases.panel
    known = {(e.method, e.layer, str(e.settings.get("weights", "none"))) for e in layers}
    methods = [book.by_key[key] for method in book.methods if (key := ("student", method)) in book.by_key]
    return [*layers, *(e for e in methods if (e.method, e.layer, str(e.settings.get("weights", "none"))) not in known)]


def caption(book: CaseBook) -> str:
    """Return what the figure shows, how to read it and what would be bad."""
    n, layers = len(book.cases.panel_rows), len(book.cases.panel)
    masks = " Outlines show where the finding is." if book.cases.masks is not None and book.cases.masks.any() else ""
    return (
        f"{n} fixed test images: the average feature map of the student's {layers} layers from first to last, then the student's map of each "
        f"method. Each map is divided by its own mean strength; in a row, all maps without a class share one scale and all maps for the class "
        f"another, both given on the left in multiples of the mean. Hatched: no signal.{masks} Early layers should follow edges, late ones gather "
        "on the finding; a late layer that still lights up everything, or the border, says that the answer rests on something else."
    )


def layers_figure(book: CaseBook, colours: Colours = Colours()) -> str:
    """Draw the panel as SVG: a row per image, a column per map.

    Parameters
    ----------
    book : CaseBook
    colours : Colours
        ``ON_PAGE`` inside the report; the default stands alone.

    Returns
    -------
    str
        "" where the run has no panel.
    """
    shown = columns(book)
    if not book.cases.panel or not book.cases.panel_rows:
        return ""
    width = _LEFT + (1 + len(shown)) * (_CELL + _GAP)
    height = _HEAD + len(book.cases.panel_rows) * _STEP
    heads = [_head(0, "Image", "", colours)]
    for k, e in enumerate(shown, start=1):
        name = e.layer if k <= len(book.cases.panel) else words.method_name(e.method)
        heads.append(_head(k, name, maps.grid_text(e.maps.shape), colours))
    rows = [_row(book, row, shown, _HEAD + row * _STEP, colours) for row in range(len(book.cases.panel_rows))]
    spoken = f"Maps of every layer of the student and of each method on {len(rows)} test images"
    ground = "" if colours.paper == "none" else f'<rect width="{width}" height="{height}" fill="{colours.paper}"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="layers-figure" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" aria-label="{escape(spoken, quote=True)}">{ground}<defs>{_shared()}</defs>'
        f'<g style="font:12px {escape(colours.font, quote=True)};fill:{colours.ink}">{"".join(heads)}{"".join(rows)}</g></svg>'
    )


def _row(book: CaseBook, row: int, shown: Sequence[Explanation], y: int, colours: Colours) -> str:
    index = book.cases.panel_rows[row]
    # The panel's maps are of its own images, a method's of all cases.
    singles = [maps.drawn(e, row if k < len(book.cases.panel) else index, book.side) for k, e in enumerate(shown)]
    # Maps without a class are all means of activations and share a scale; methods for a class have no common unit.
    common = maps.common_scale([s for s, e in zip(singles, shown, strict=True) if s is not None and not e.signed], signed=False)
    scales = [maps.common_scale([s], signed=True) if e.signed and s is not None else common for s, e in zip(singles, shown, strict=True)]
    image, masks = book.cases.images[index], book.cases.masks
    mask = maps.outline(masks[index]) if masks is not None else ""
    photo = f'<use href="#layers-{row}"/>' if image.shape[2] == 1 else _picture(maps.picture_png(image, most=96))
    cells = [photo, *(_cell(row, single, scale, colours) for single, scale in zip(singles, scales, strict=True))]
    placed = []
    for k, drawn in enumerate(cells):
        outlined = f'<use href="#layers-{row}-mask"/>' if mask and (k == 0 or singles[k - 1] is not None) else ""
        placed.append(f'<g transform="translate({_LEFT + k * (_CELL + _GAP)} 0)">{drawn}{outlined}</g>')
    label = _label(book, index, common, any(e.signed for e in shown), colours)
    return f'<g transform="translate(0 {y})"><defs>{_grey(row, image, mask)}</defs>{label}{"".join(placed)}</g>'


def _label(book: CaseBook, index: int, scale: maps.Scale, signed: bool, colours: Colours) -> str:
    """Return what stands left of a row: case, class, and the scales."""
    name = charts.shortened(book.record.task.classes[int(book.cases.targets[index])], 15)
    low = f"{scale.low:.1f}" if scale.low else "0"
    bars = [("cividis", f"{low} to {scale.high:.1f}"), *([("RdBu_r", "± below")] if signed else [])]
    drawn = [
        f'<use href="#layers-{bar}" y="{42 + 20 * k}"/><text x="36" y="{50 + 20 * k}">{said}</text>' for k, (bar, said) in enumerate(bars)
    ]
    title = f'<text y="14" style="font-weight:600">Case {index:04d}</text><text y="30" style="fill:{colours.soft}">{escape(name)}</text>'
    return title + "".join(drawn)


def _grey(row: int, image: np.ndarray, mask: str) -> str:
    """Return what the maps of a row lie over and under: the grey image and the mask's outline, each once."""
    grey = _picture(maps.picture_png(image.mean(2, keepdims=True).round().astype(np.uint8), most=96), f'id="layers-{row}"')
    if not mask:
        return grey
    zoom = f'transform="scale({_CELL / image.shape[0]:.4f})" fill="none" style="vector-effect:non-scaling-stroke"'
    lines = "".join(f'<path d="{mask}" {zoom} stroke="{colour}" stroke-width="{wide}"/>' for colour, wide in (("#000", 2.6), ("#fff", 1.3)))
    return f'{grey}<g id="layers-{row}-mask">{lines}</g>'


def _cell(row: int, single: np.ndarray | None, scale: maps.Scale, colours: Colours) -> str:
    if single is None:
        middle = f'x="{_CELL / 2:.0f}" y="{_CELL / 2 + 4:.0f}" text-anchor="middle"'
        return f'<use href="#layers-dead"/><text class="on-cell" {middle} style="fill:#111;stroke:#ececec;stroke-width:5px;paint-order:stroke">no signal</text>'
    drawn = _picture(maps.map_png(maps.levels(single, scale), scale.table), f'style="opacity:{colours.opacity}"')
    said = f'<text y="{_CELL + 11}" style="fill:{colours.soft};font-size:11px">±{scale.high:.1f}</text>' if scale.signed else ""
    return f'<use href="#layers-{row}"/>{drawn}{said}'


def _head(k: int, name: str, grid: str, colours: Colours) -> str:
    x = _LEFT + k * (_CELL + _GAP)
    lines = _lines(name)[-2:]
    texts = [f'<text x="{x}" y="{_HEAD - 24 - 14 * (len(lines) - 1 - i)}">{escape(line)}</text>' for i, line in enumerate(lines)]
    if grid:
        texts.append(f'<text x="{x}" y="{_HEAD - 8}" style="fill:{colours.soft};font-size:11.5px">{grid}</text>')
    return f"<g><title>{escape(f'{name} {grid}'.strip())}</title>{''.join(texts)}</g>"


def _lines(name: str) -> list[str]:
    """Break a name into lines of a column's width: between words, or at dots of a layer's name."""
    lines = [""]
    for piece in name.replace(" ", " \n").replace(".", ".\n").split("\n"):
        if lines[-1] and charts.text_width(lines[-1] + piece.rstrip()) > _LETTERS:
            lines.append("")
        lines[-1] += piece
    return [charts.shortened(line.strip(), 13) for line in lines]


def _shared() -> str:
    """Return what all rows use: the hatch of dead maps and the bars of both scales."""
    bars = "".join(
        f'<image id="layers-{table}" width="30" height="8" preserveAspectRatio="none" href="{_uri(_bar(table))}"/>'
        for table in ("cividis", "RdBu_r")
    )
    return _picture(maps.picture_png(maps.hatched(_CELL)), 'id="layers-dead"') + bars


def _bar(table: str) -> bytes:
    return maps.map_png(np.arange(0, 256, 4, dtype=np.uint8)[None], table)


def _picture(content: bytes, more: str = "") -> str:
    return f'<image {more} width="{_CELL}" height="{_CELL}" preserveAspectRatio="none" href="{_uri(content)}"/>'


def _uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
