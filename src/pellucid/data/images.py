"""From the bytes of a file to pixels, and from any shape to the square that is stored. Masks and boxes go the same way."""

from __future__ import annotations

import io
import struct
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

Fit = Literal["squash", "pad", "crop"]
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"II*\x00", b"MM\x00*", b"BM")
_GREY = {"1", "L", "LA", "La"}
_SIXTEEN = {"I;16", "I;16L", "I;16B", "I;16N", "I"}


def decode(content: bytes) -> np.ndarray:
    """Decode a JPEG, PNG, TIFF or BMP file, upright.

    Parameters
    ----------
    content : bytes
        The whole file. Of a file with several pages the first is taken.

    Returns
    -------
    uint8 array [H, W] or [H, W, 3], or uint16 array [H, W]
        Grey files (also 1-bit, and palettes of greys only) have no channel axis; 16-bit grey keeps its values. Transparent
        pixels are laid onto black, and the camera's EXIF rotation is applied.

    Raises
    ------
    ValueError
        With a short reason: ``empty``, ``not an image``, ``ends early``, ``damaged``, or what can't be shown as 8 or 16 bits.
    """
    if not content:
        raise ValueError("empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 1 << 62):
                raise ValueError(f"too large ({image.width:,} x {image.height:,} pixels)")
            return _pixels(image)
    except Image.UnidentifiedImageError:
        raise ValueError("ends early" if content.startswith(_MAGIC) else "not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError("too large to be decoded safely") from None
    except (OSError, SyntaxError, EOFError, struct.error, IndexError, KeyError, TypeError) as error:
        # Pillow has no class of its own for these; only its wording tells a cut file from a scrambled one.
        cut = isinstance(error, (EOFError, struct.error)) or any(word in str(error).lower() for word in ("truncated", "not enough", "eof"))
        raise ValueError("ends early" if cut else "damaged") from None


def fit(array: np.ndarray, size: int, how: Fit = "pad", window: tuple[float, float] | None = None) -> np.ndarray:
    """Bring an image to the square that is stored, with antialiasing.

    Parameters
    ----------
    array : uint8 array [H, W] or [H, W, 3], or uint16 array [H, W]
    size : int
        Side S of the result in pixels.
    how : str
        ``squash`` changes the aspect, ``pad`` adds black on both sides, ``crop`` cuts both ends of the longer side.
    window : (low, high) or None
        The 16-bit values shown as black and white; by default the 0.5 and 99.5 percentile of the image.

    Returns
    -------
    uint8 array [S, S] or [S, S, 3]
    """
    if array.dtype != np.uint8:
        array = _windowed(array, window)
    return _place(Image.fromarray(array), size, how, Image.Resampling.LANCZOS)


def fit_mask(mask: np.ndarray, size: int, how: Fit = "pad") -> np.ndarray:
    """Bring a mask to the stored square, by the same way as its image.

    Parameters
    ----------
    mask : bool array [H, W]
    size, how
        As in :func:`fit`.

    Returns
    -------
    bool array [S, S]
        On where at least half of a pixel's area is. A finding smaller than that keeps the pixels that hold most of it, so
        that no image silently loses its ground truth.
    """
    covered = _place(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)), size, how, Image.Resampling.BOX)
    on = covered >= 128
    return on if on.any() or not covered.any() else covered == covered.max()


def fit_box(box: tuple[float, float, float, float], shape: tuple[int, ...], size: int, how: Fit = "pad") -> np.ndarray:
    """Bring a box ``(x0, y0, x1, y1)`` in pixels of an image of this shape to a mask, bool [S, S], as :func:`fit_mask` does.

    Raises
    ------
    ValueError
        The box lies outside the image.
    """
    mask = np.zeros(shape[:2], dtype=bool)
    x0, y0 = (max(int(np.floor(edge)), 0) for edge in box[:2])
    x1, y1 = (max(int(np.ceil(edge)), 0) for edge in box[2:])
    mask[y0:y1, x0:x1] = True
    if not mask.any():
        raise ValueError(f"its box lies outside its {shape[1]}x{shape[0]} pixels")
    return fit_mask(mask, size, how)


def to_grey(array: np.ndarray) -> np.ndarray:
    """Return the luminance (ITU-R 601) of a uint8 RGB image [H, W, 3]; a grey one as it is."""
    return array if array.ndim == 2 else np.asarray(Image.fromarray(array).convert("L"))


def to_rgb(array: np.ndarray) -> np.ndarray:
    """Return a uint8 grey image [H, W] three times over; an RGB one as it is."""
    return array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2)


def _pixels(image: Image.Image) -> np.ndarray:
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _SIXTEEN:
        return _sixteen(np.asarray(upright))
    if upright.mode == "F":
        raise ValueError("holds floating point values; save it with 8 or 16 bits")
    grey = upright.mode in _GREY or (upright.mode in ("P", "PA") and _grey_palette(upright))
    if upright.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
        upright = Image.alpha_composite(black, upright).convert("RGB")
        # Equal channels stay exactly equal in convert("L"), whose weights add up to one.
    return np.array(upright.convert("L" if grey else "RGB"))


def _sixteen(values: np.ndarray) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"holds values from {low:,} to {high:,}; save it with 8 or 16 bits, unsigned")
    return values.astype(np.uint16)


def _grey_palette(image: Image.Image) -> bool:
    indices = image.getchannel(0) if image.mode == "PA" else image
    used = np.flatnonzero(indices.histogram()[:256])
    palette = np.array(image.convert("P").getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    colours = palette[used[used < len(palette)]]
    return bool((colours == colours[:, :1]).all())


def _windowed(array: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    low, high = window if window is not None else np.percentile(array, (0.5, 99.5))
    scaled = (array.astype(np.float32) - np.float32(low)) * np.float32(255.0 / max(high - low, 1e-6))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def _place(image: Image.Image, size: int, how: Fit, filter_: Image.Resampling) -> np.ndarray:
    """Resize once into the square; the geometry depends on the image's shape alone."""
    width, height = image.size
    if how == "squash" or width == height:
        return np.asarray(image.resize((size, size), filter_))
    if how == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return np.asarray(image.resize((size, size), filter_, box=(left, top, left + side, top + side)))
    longer = max(width, height)
    inner = max(round(size * width / longer), 1), max(round(size * height / longer), 1)
    square = Image.new(image.mode, (size, size))
    square.paste(image.resize(inner, filter_), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.asarray(square)
