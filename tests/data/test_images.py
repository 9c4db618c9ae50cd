"""Every kind of file comes out upright, on 8 or 16 bits, grey or RGB; masks and boxes go the way of their image."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pellucid.data import images

GRADIENT = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def encoded(image: Image.Image | np.ndarray, format_: str = "PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def noise(height=40, width=50, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP"])
def test_lossless_grey_and_colour_come_back_as_they_were(format_):
    """Grey has no channel axis, RGB three channels."""
    assert np.array_equal(images.decode(encoded(GRADIENT, format_)), GRADIENT)
    assert np.array_equal(images.decode(encoded(noise(), format_)), noise())


def test_jpeg_grey_stays_grey():
    """A one-channel JPEG gives [H, W]."""
    flat = np.full((16, 16), 90, np.uint8)
    assert np.array_equal(images.decode(encoded(flat, "JPEG")), flat)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_values(format_):
    """16-bit files are windowed later, with the window that the settings state."""
    values = np.array([[0, 1, 300], [4096, 40000, 65535]], np.uint16)
    decoded = images.decode(encoded(Image.fromarray(values), format_))
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, values)


def test_big_endian_sixteen_bit_tiff_keeps_its_values():
    """Medical TIFFs are often big-endian."""
    values = np.array([[1, 256], [512, 40000]], ">u2")
    header = b"MM\x00*" + struct.pack(">IH", 8, 8)
    entries = [(256, 3, 2), (257, 3, 2), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 110), (278, 3, 2), (279, 4, 8)]
    for tag, kind, value in entries:
        header += struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
    content = (header + struct.pack(">I", 0)).ljust(110, b"\0") + values.tobytes()
    assert np.array_equal(images.decode(content), values.astype(np.uint16))


def test_palette_becomes_rgb_and_a_palette_of_greys_grey():
    """Only the colours that are used decide."""
    coloured = Image.fromarray(noise(8, 8)).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    decoded = images.decode(encoded(coloured))
    assert np.array_equal(decoded, np.asarray(coloured.convert("RGB")))
    greys = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    greys.putpalette([10, 10, 10, 200, 200, 200, 77, 77, 77, 255, 0, 0])
    assert np.array_equal(images.decode(encoded(greys)), [[10, 200], [77, 200]])


def test_alpha_is_laid_onto_black():
    """Half transparent white is mid grey; what is transparent is black whatever its colour; grey stays grey."""
    colour = np.zeros((1, 3, 4), np.uint8)
    colour[0] = [255, 255, 255, 255], [255, 255, 255, 128], [255, 0, 0, 0]
    assert images.decode(encoded(Image.fromarray(colour, "RGBA"))).tolist() == [[[255] * 3, [128] * 3, [0] * 3]]
    grey = Image.fromarray(np.array([[[200, 255], [200, 0]]], np.uint8), "LA")
    assert images.decode(encoded(grey)).tolist() == [[200, 0]]


def test_a_transparent_palette_colour_is_black():
    """GIF-like transparency of PNG palettes is transparency too."""
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([250, 250, 250, 90, 90, 90])
    assert images.decode(encoded(image, transparency=0)).tolist() == [[0, 90]]


def test_one_bit_becomes_black_and_white():
    """0 and 255, not 0 and 1."""
    assert images.decode(encoded(Image.fromarray(np.array([[True, False]])))).tolist() == [[255, 0]]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_become_rgb(mode):
    """CMYK and YCbCr files are converted."""
    red = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)
    decoded = images.decode(encoded(red, "TIFF"))
    assert decoded.shape == (4, 4, 3)
    assert np.abs(decoded[0, 0].astype(int) - [255, 0, 0]).max() <= 3


def test_exif_rotation_is_applied():
    """Orientation 6 (turn right) puts the stored left column on top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((16, 32), np.uint8)
    stored[:, :8] = 255
    decoded = images.decode(encoded(stored, "JPEG", exif=exif.tobytes(), quality=95))
    assert decoded.shape == (32, 16)
    assert decoded[:8].min() > 240
    assert decoded[8:].max() < 15


def test_first_page_of_a_tiff_with_several():
    """A multi-page TIFF is its first page."""
    pages = [Image.new("L", (3, 2), value) for value in (10, 20)]
    assert images.decode(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])).tolist() == [[10] * 3] * 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, no image here", "not an image"),
        (b"\x00" * 500, "not an image"),
        (encoded(noise(), "JPEG")[:700], "ends early"),
        (encoded(noise(), "PNG")[:700], "ends early"),
        (encoded(noise(), "BMP")[:700], "ends early"),
        (encoded(noise(), "TIFF")[:700], "ends early"),
        (encoded(noise(), "JPEG")[:12], "ends early"),
        (encoded(noise(), "PNG")[:20], "ends early"),
        (encoded(np.ones((4, 4), np.float32), "TIFF"), "holds floating point values; save it with 8 or 16 bits"),
        (encoded(np.full((2, 2), -5, np.int32), "TIFF"), "holds values from -5 to -5; save it with 8 or 16 bits, unsigned"),
    ],
)
def test_what_cannot_be_read_says_why(content, reason):
    """A short reason that fits into a list of files."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        images.decode(content)


def test_scrambled_pixels_are_damaged():
    """A PNG whose middle is overwritten keeps its magic and its end, but can't be read."""
    content = bytearray(encoded(noise()))
    content[200:400] = b"\xff" * 200
    with pytest.raises(ValueError, match=r"^(damaged|ends early)$"):
        images.decode(bytes(content))


def test_a_decompression_bomb_is_refused():
    """A few bytes that claim billions of pixels never get the memory for them."""
    content = encoded(np.zeros((1, 1), np.uint8), "BMP")
    huge = content[:18] + struct.pack("<ii", 60000, 60000) + content[26:]
    with pytest.raises(ValueError, match=r"^too large"):
        images.decode(huge)


@pytest.mark.parametrize(
    ("how", "shape", "left", "right"),
    [
        ("squash", (40, 80), 0, 40),
        ("pad", (40, 80), 0, 40),
        ("crop", (40, 80), None, 20),
        ("pad", (80, 40), 10, 25),
        ("squash", (80, 40), 0, 20),
    ],
)
def test_masks_follow_their_image(how, shape, left, right):
    """A marker in the left part of an image, and its mask and box, end in the same stored pixels."""
    marker = np.zeros(shape, bool)
    half = shape[1] // 2
    marker[:, : half if shape != (80, 40) or how == "squash" else 30] = True
    size = 40
    stored = images.fit(marker.astype(np.uint8) * np.uint8(255), size, how)
    mask = images.fit_mask(marker, size, how)
    box = images.fit_box((0, 0, marker[0].sum(), shape[0]), shape, size, how)
    assert np.array_equal(mask, box)
    assert (mask != (stored >= 128)).mean() < 0.03
    assert mask.any()


def test_pad_centres_on_black_and_crop_cuts_both_ends():
    """A white image of 2:1 fills the middle half when padded, everything when cropped or squashed."""
    white = np.full((20, 40), 255, np.uint8)
    padded = images.fit(white, 8, "pad")
    assert padded[2:6].min() == 255
    assert padded[[0, 1, 6, 7]].max() == 0
    assert images.fit(white, 8, "crop").min() == images.fit(white, 8, "squash").min() == 255
    thirds = np.repeat(np.array([[0, 255, 0]], np.uint8), 30, axis=0).repeat(30, axis=1)  # 30 x 90: black, white, black
    assert images.fit(thirds, 10, "crop").min() > 200  # the filter looks a little over the cut


def test_shrinking_is_antialiased():
    """A checkerboard finer than the stored pixel becomes even grey, not a moiré."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    inner = images.fit(board, 8, "squash")
    assert np.abs(inner.astype(int) - 128).max() <= 2


def test_windows_of_sixteen_bits():
    """A stated window is used as it is; without one the image's own percentiles are."""
    values = np.linspace(0, 4000, 10_000).reshape(100, 100).astype(np.uint16)
    stated = images.fit(values, 100, "squash", window=(1000, 3000))
    assert stated[0, 0] == 0
    assert stated[99, 99] == 255
    assert abs(int(stated[50, 0]) - 128) <= 1
    own = images.fit(values, 100, "squash")
    assert (own == 0).mean() == pytest.approx(0.005, abs=0.004)
    assert images.fit(np.full((9, 9), 700, np.uint16), 9, "pad").max() == 0  # a constant image has nothing to show


def test_a_tiny_finding_is_not_lost():
    """One pixel of 100x100 would round to nothing at 10x10; it keeps its place."""
    mask = np.zeros((100, 100), bool)
    mask[55, 33] = True
    assert np.argwhere(images.fit_mask(mask, 10)).tolist() == [[5, 3]]
    assert not images.fit_mask(np.zeros((100, 100), bool), 10).any()


def test_grey_and_rgb():
    """Luminance of a grey-looking RGB image is that grey; grey repeated has three equal channels."""
    assert np.array_equal(images.to_grey(images.to_rgb(GRADIENT)), GRADIENT)
    assert images.to_grey(np.array([[[255, 0, 0]]], np.uint8)).tolist() == [[76]]


@pytest.mark.parametrize("box", [(100, 0, 110, 9), (-5, -5, -1, -1)])
def test_a_box_outside_the_image_is_an_error(box):
    """The image would silently count as one without a finding."""
    with pytest.raises(ValueError, match="its box lies outside its 40x30 pixels"):
        images.fit_box(box, (30, 40), 8)
