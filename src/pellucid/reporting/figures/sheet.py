"""Maps of a few images as one picture, for a notebook, a talk or a paper."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core import files
from pellucid.core.errors import SettingError
from pellucid.core.records import Explanation
from pellucid.data.dataset import Subset
from pellucid.reporting import words
from pellucid.reporting.figures import maps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

KINDS = (".png", ".svg", ".pdf")
ROWS, COLUMNS = 60, 20  # that still make a picture
_CELL, _LETTERS = 2.1, 9  # inches, points
_WIDEST = 26  # letters over a cell


def draw(explanations: Sequence[Explanation], images: Subset | Tensor, *, to: Path | str = "maps.png") -> Path:
    """Draw maps over their images: a row for each image and method, the image first and then each network's map.

    The maps of a row share one colour scale, in multiples of each map's own mean strength, as in the report. A hatched map has no
    signal; a white line is the border of the finding. Names in letters that matplotlib's own font lacks are better read in a report.

    Parameters
    ----------
    explanations : sequence of Explanation
        From :func:`explain`.
    images : Subset or float Tensor [N, C, H, W]
        Which of the explained images to draw. A tensor must be the one that was explained; each of its images is shown from its
        lowest value to its highest.
    to : Path or str
        A ``.png``, ``.svg`` or ``.pdf``.

    Returns
    -------
    Path
        Where the picture lies.

    Raises
    ------
    SettingError
        The explanations are none, or of other images; or there is more to draw than a picture holds.
    StorageError
        The picture can't be written.

    Examples
    --------
    >>> import pellucid as pl
    >>> images = torch.rand(2, 3, 224, 224)
    >>> pl.draw(pl.explain(timm.create_model("resnet18"), images), images, to="maps.png").name
    'maps.png'
    """
    to = Path(to)
    files.check_writable(to)
    _check(explanations, images, to)
    explanations = [_of_these(e, images) for e in explanations]
    methods = list(dict.fromkeys(e.method for e in explanations))
    n_columns = max(len(_of(explanations, method)) for method in methods)
    n_rows = len(images) * len(methods)
    if n_rows > ROWS or n_columns > COLUMNS:
        raise SettingError(
            f"that would be {n_rows:,} rows of {n_columns:,} maps, and a picture holds {ROWS} of {COLUMNS}. Give fewer images or explanations.",
            setting="images",
        )
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=((1 + n_columns) * _CELL + 0.9, n_rows * (_CELL + 0.5)), layout="constrained")
    grid = figure.subplots(n_rows, 2 + n_columns, squeeze=False, width_ratios=[1] * (1 + n_columns) + [0.06])
    for axes in grid.flat:
        axes.set_axis_off()
    for i in range(len(images)):
        picture, mask, title = _image(images, i)
        for k, method in enumerate(methods):
            row = grid[i * len(methods) + k]
            if k == 0:
                _show(row[0], picture, mask, title)
            _draw_row(row[1:], _of(explanations, method), images, i, picture, mask)
    stream, kind = io.BytesIO(), to.suffix[1:].lower()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "pellucid"}):
        figure.savefig(stream, format=kind, dpi=150, metadata=undated.get(kind))
    files.write_bytes(to, stream.getvalue(), kind="picture")
    return to


def _of(explanations: Sequence[Explanation], method: str) -> list[Explanation]:
    return [e for e in explanations if e.method == method]


def _draw_row(
    axes: Sequence[Axes], shown: list[Explanation], images: Subset | Tensor, i: int, picture: np.ndarray, mask: np.ndarray | None
) -> None:
    """Draw one method's maps of one image, and their scale at the end."""
    ready = [maps.drawn(e, i) for e in shown]
    scale = maps.common_scale([single for single in ready if single is not None], signed=any(e.signed for e in shown))
    height, width = picture.shape[:2]
    last: Any = None
    for ax, explanation, single in zip(axes, shown, ready, strict=False):  # the scale, and where other methods have more maps, nothing
        _show(ax, picture.mean(2, keepdims=True), mask, _title(explanation, images, i))
        if single is None:
            ax.add_patch(_no_signal(width, height))
            ax.text(width / 2, height / 2, "no signal", size=_LETTERS, ha="center", va="center", backgroundcolor="white")
            continue
        last = ax.imshow(
            single, cmap=scale.table, vmin=scale.low, vmax=scale.high, alpha=0.6, interpolation="bilinear", extent=(0, width, height, 0)
        )
    if last is not None:
        axes[-1].set_axis_on()
        bar = axes[-1].figure.colorbar(last, cax=axes[-1], ticks=[scale.low, 0, scale.high] if scale.signed else [scale.low, scale.high])
        bar.set_label("× mean", size=_LETTERS)
        bar.ax.tick_params(labelsize=_LETTERS)
        bar.ax.yaxis.set_major_formatter("{x:.1f}")


def _title(explanation: Explanation, images: Subset | Tensor, i: int) -> str:
    """Say whose map it is, by which method, where it was read, and for which class."""
    target = int(explanation.targets[i])
    classes = images.classes if isinstance(images, Subset) else ()
    name = classes[target] if 0 <= target < len(classes) else f"class {target}"
    where = " ".join(filter(None, (explanation.layer, maps.drawn_text(explanation.maps.shape))))
    return _lines(explanation.model, words.method_name(explanation.method), f"{where}{f', {name}' if explanation.signed else ''}")


def _image(images: Subset | Tensor, i: int) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return one image uint8 [H, W, C], its mask bool [H, W] or None, and what stands over it."""
    if isinstance(images, Subset):
        one = images[[i]]
        label = ", ".join(
            name for k, name in enumerate(one.classes) if (one.targets[0] == k if one.targets.ndim == 1 else one.targets[0, k])
        )
        return one.pixels[0], None if one.masks is None else one.masks[0], _lines(one.ids[0], label)
    single = images[i].detach().float().cpu().numpy().transpose(1, 2, 0)
    low, high = single.min(), single.max()
    return ((single - low) / (high - low if high > low else 1) * 255).astype(np.uint8), None, f"image {i}"


def _show(ax: Axes, picture: np.ndarray, mask: np.ndarray | None, title: str) -> None:
    height, width = picture.shape[:2]
    grey = picture.shape[2] != 3
    ax.imshow(picture[..., 0] if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=255, extent=(0, width, height, 0))
    ax.set_title(title, size=_LETTERS, parse_math=False)
    if mask is not None and mask.any():
        across, down = np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5  # one more pixel around, so that all lines close
        for colour, strength in (("black", 1.6), ("white", 0.8)):
            ax.contour(across, down, np.pad(mask, 1), levels=[0.5], colors=colour, linewidths=strength)
        ax.set(xlim=(0, width), ylim=(height, 0))


def _lines(*texts: str) -> str:
    """Return texts under one another, the beginning of long ones cut off: paths differ at their end."""
    return "\n".join(text if len(text) <= _WIDEST else f"…{text[1 - _WIDEST :]}" for text in texts)


def _no_signal(width: int, height: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), width, height, facecolor="#e2e2e2", edgecolor="#969696", hatch="////", linewidth=0)


def _of_these(explanation: Explanation, images: Subset | Tensor) -> Explanation:
    """Return the explanation of these images, in their order; a SettingError where it isn't of them."""
    if isinstance(images, Subset) and explanation.ids is not None:
        place = {name: row for row, name in enumerate(explanation.ids.tolist())}
        if others := [name for name in images.ids if name not in place]:
            raise SettingError(f"{len(others):,} of the images weren't explained, e.g. {others[0]}.", setting="images")
        return explanation.some(np.array([place[name] for name in images.ids], np.int64))
    if len(explanation.maps) != len(images):
        raise SettingError(
            f"{explanation.method} of {explanation.model} has {len(explanation.maps):,} maps, and there are {len(images):,} images.",
            setting="images",
        )
    return explanation


def _check(explanations: Sequence[Explanation], images: Subset | Tensor, to: Path) -> None:
    listed = isinstance(explanations, Sequence) and len(explanations) > 0
    if not listed or not all(isinstance(one, Explanation) and not one.fault for one in explanations):
        raise SettingError("explanations must be a list of what explain(...) gives, and not an empty one.", setting="explanations")
    if to.suffix.lower() not in KINDS:
        raise SettingError(f"to = {str(to)!r} must end in {', '.join(KINDS)}.", setting="to")
    if not isinstance(images, Subset) and getattr(images, "ndim", 0) != 4:
        raise SettingError(
            f"images must be the Subset or the tensor [N, C, H, W] that was explained; given is {type(images).__name__}.", setting="images"
        )
    if not len(images):
        raise SettingError("there are no images to draw.", setting="images")
