"""The picture of the README: one case, three networks on one scale, and the verdict under it."""

from __future__ import annotations

import base64
from html import escape

import numpy as np

from pellucid.core.records import ROLES, RunRecord
from pellucid.reporting import words
from pellucid.reporting.cases import CaseBook
from pellucid.reporting.figures import maps

_SIDE, _GAP, _PAD = 224, 16, 28
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def readme_figure(record: RunRecord, *, case: int | None = None) -> bytes:
    """Draw image, teacher, base and student of one case in a row, with the verdict on accuracy and explanation under it.

    Parameters
    ----------
    record : RunRecord
        With at least one method's maps.
    case : int or None
        Row of ``record.cases``; default: the median case by agreement, among those with an outlined finding where there are any.

    Returns
    -------
    bytes
        SVG on white paper that holds its pictures; it needs neither network nor style sheet.
    """
    book = CaseBook(record)
    masks = record.cases.masks
    index = book.median(None if masks is None else np.any(masks, (1, 2))) if case is None else case
    if index is None or book.lead is None:
        raise ValueError("readme_figure needs a record with at least one case and one method's maps")
    shown = book.case(index)
    row = next(row for row in shown.rows if row.method == book.lead)
    roles = [role for role in ROLES if role in row.places]
    classes = record.task.classes
    width = 2 * _PAD + (1 + len(roles)) * _SIDE + len(roles) * _GAP
    parts = [_column(0, maps.picture_png(shown.image, most=_SIDE), "Image", classes[shown.target], shown.outline, shown.image.shape[0])]
    for k, role in enumerate(roles, start=1):
        places = row.places[role]
        grey = maps.hatched(_SIDE) if places is None else maps.overlay(_square(shown.image), places, row.scale.table)
        p = shown.probabilities[role]
        said = f"{classes[int(p.argmax())]} {float(p.max()):.2f}" if places is not None else "no signal"
        name = f"{role.capitalize()}, {record.networks[role].architecture}" if role in record.networks else role.capitalize()
        parts.append(_column(k, maps.picture_png(grey, most=_SIDE), name, said, shown.outline, shown.image.shape[0]))
    parts.append(_colour_bar(row.scale, width, words.method_name(row.method)))
    top = _PAD + _SIDE + 104
    for k, verdict in enumerate(record.verdicts[:3]):
        parts.append(f'<text class="said" x="{_PAD}" y="{top + 26 * k}"><tspan class="soft">{escape(verdict.question)}</tspan> '
                     f'<tspan class="strong">{escape(verdict.answer)}</tspan><tspan>: {escape(verdict.figure)}</tspan></text>')  # fmt: skip
    height = top + 26 * len(record.verdicts[:3]) + 4
    spoken = f"{words.method_name(row.method)} maps of teacher, base and student on one test image, class {classes[shown.target]}"
    style = f"text{{font:16px {_FONT};fill:#1b1f24}}.soft{{fill:#57606a}}.strong{{font-weight:650}}.small{{font-size:13px;fill:#57606a}}.said{{font-size:13px}}"  # said: the longest verdict fits the row
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(spoken, quote=True)}"><style>{style}</style><rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>'
        f"{''.join(parts)}</svg>"
    ).encode()


def _column(k: int, picture: bytes, name: str, said: str, outline: str, side: int) -> str:
    x, below = _PAD + k * (_SIDE + _GAP), _PAD + _SIDE
    data = base64.b64encode(picture).decode()
    zoom = f'transform="translate({x} {_PAD}) scale({_SIDE / side:.4f})" fill="none" vector-effect="non-scaling-stroke"'
    border = "".join(
        f'<path d="{outline}" {zoom} stroke="{colour}" stroke-width="{wide}"/>' for colour, wide in (("#000", 3), ("#fff", 1.5)) if outline
    )
    return (
        f'<image x="{x}" y="{_PAD}" width="{_SIDE}" height="{_SIDE}" href="data:image/png;base64,{data}"/>{border}'
        f'<text class="strong" x="{x}" y="{below + 24}">{escape(name)}</text><text x="{x}" y="{below + 46}">{escape(said)}</text>'
    )


def _colour_bar(scale: maps.Scale, width: int, method: str) -> str:
    table = maps.colours(scale.table)
    stops = "".join("<stop offset='{:.3f}' stop-color='#{:02x}{:02x}{:02x}'/>".format(k / 255, *table[k]) for k in range(0, 256, 15))
    x, y = width - _PAD - 150, _PAD + _SIDE + 58
    sign = "+" if scale.signed else ""
    return (
        f'<linearGradient id="bar">{stops}</linearGradient><rect x="{x - 60}" y="{y}" width="110" height="10" rx="2" fill="url(#bar)"/>'
        f'<text class="small" x="{x - 66}" y="{y + 10}" text-anchor="end">{method}  {scale.low:.1f}</text>'
        f'<text class="small" x="{x + 56}" y="{y + 10}">{sign}{scale.high:.1f} x mean</text>'
    )


def _square(pixels: np.ndarray) -> np.ndarray:
    """Return the image at the picture's side, so that the map over it is drawn smoothly."""
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(_SIDE, _SIDE, -1)
