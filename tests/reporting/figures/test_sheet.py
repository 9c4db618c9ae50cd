"""Pictures of maps from Python: the right map over the right image, one scale a row, and refusals in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import pellucid as pl
from pellucid.core.errors import SettingError, StorageError
from pellucid.core.records import Explanation, Task
from pellucid.data.dataset import Dataset, Subset
from pellucid.data.store import Store

N, SIDE = 4, 32


@pytest.fixture
def images() -> Subset:
    """Four black images, the last with a finding."""
    masks = np.zeros((N, SIDE, SIDE), np.uint8)
    masks[3, 4:12, 4:12] = 255
    dataset = Dataset("made", Task("single", ("none", "ring")), [f"image{i}" for i in range(N)], np.arange(N) % 2, read=lambda i: None, content="made")  # fmt: skip
    return Subset(dataset, Store(np.zeros((N, SIDE, SIDE, 1), np.uint8), masks), np.arange(N), "test")


def explained(images: Subset | None, model: str = "student", **changed) -> Explanation:
    """Return maps whose hottest cell is another corner in each image: top left, top right, bottom left, bottom right."""
    maps = np.zeros((N, 8, 8), np.float32)
    maps[np.arange(N), [0, 0, 7, 7], [0, 7, 0, 7]] = 1
    ids = None if images is None else np.array(images.ids)
    made = Explanation(maps, np.arange(N) % 2, model, "average_feature_map", "conv4", (SIDE, SIDE), signed=False, ids=ids)
    return replace(made, **changed)


def hottest_corner(path) -> tuple[str, str]:
    """Return in which corner of the drawn map (the second of two pictures, before the scale) the most yellow lies."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    yellow = pixels[..., 0] + pixels[..., 1] - 2 * pixels[..., 2]
    middle, end = pixels.shape[1] * 0.40, pixels.shape[1] * 0.80  # the map's half, without its scale
    inside = np.where((np.arange(pixels.shape[1]) > middle) & (np.arange(pixels.shape[1]) < end), yellow, 0)
    down, across = np.unravel_index(inside.argmax(), inside.shape)
    return "top" if down < pixels.shape[0] / 2 else "bottom", "left" if across < (middle + end) / 2 else "right"


@pytest.mark.parametrize(
    ("image", "corner"), [(0, ("top", "left")), (1, ("top", "right")), (2, ("bottom", "left")), (3, ("bottom", "right"))]
)
def test_each_image_gets_its_own_map(images, tmp_path, image, corner):
    """Found by its name, whatever the order of the maps."""
    backwards = explained(images)
    backwards = replace(backwards, maps=backwards.maps[::-1], ids=backwards.ids[::-1].copy())
    for number, made in enumerate((explained(images), backwards)):
        path = pl.draw([made], images[[image]], to=tmp_path / f"{number}.png")
        assert hottest_corner(path) == corner


def test_what_stands_over_a_map(images, tmp_path):
    """Name and class of the image; network, method, layer and grid of the map, and its class where it is for one; a scale for each row."""
    found = [
        explained(images),
        explained(images, "teacher", method="grad_cam", signed=True),
        explained(images, method="grad_cam", signed=True),
    ]
    text = pl.draw(found, images[:1], to=tmp_path / "new" / "maps.svg").read_text()
    for words in ("image0", "student", "Average feature map", "teacher", "Grad-CAM", "conv4 8x8, none", "× mean"):
        assert f"<!-- {words} -->" in text
    assert text.count("<!-- × mean -->") == 2
    assert text == pl.draw(found, images[:1], to=tmp_path / "again.svg").read_text()


def test_the_maps_of_a_row_share_one_scale(images, tmp_path):
    """One place of 64 holds all of a map's strength, so its peak is 64 times the mean; beside it an even map's is 1."""
    even = explained(images, "teacher", maps=np.ones((N, 8, 8), np.float32) + np.eye(8, dtype=np.float32) * 1e-3)
    text = pl.draw([even, explained(images)], images[:1], to=tmp_path / "maps.svg").read_text()
    assert text.count("<!-- × mean -->") == 1 and "<!-- 64.0 -->" in text and "<!-- 1.0 -->" not in text


def test_findings_are_outlined(images, tmp_path):
    """In the image and on each map, also where one reaches the border; and nothing where there is none."""
    masks = np.asarray(images.store.masks).copy()
    masks[2] = 255
    images = Subset(images.dataset, Store(np.asarray(images.store.images), masks), images.rows, "test")
    lines = [pl.draw([explained(images)], images[[i]], to=tmp_path / "maps.svg").read_text().count("stroke: #ffffff") for i in (0, 2, 3)]
    assert lines == [0, 2, 2]


def test_names_are_shown_as_they_are(images, tmp_path):
    """No mathematics is read out of them, long ones lose their beginning, and a class beyond the data's gets its number."""
    made = explained(images, "p$_{x$" + "long" * 20 + "end", targets=np.full(N, 7), signed=True)
    text = pl.draw([made], images[:1], to=tmp_path / "maps.svg").read_text()
    assert "…" in text and "longend -->" in text and "class 7 -->" in text
    pl.draw([explained(images, "p$_{x$")], images[:1], to=tmp_path / "maps.svg")


def test_dead_maps_are_hatched_and_have_no_scale(images, tmp_path):
    dead = explained(images, maps=np.zeros((N, 8, 8), np.float32))
    alone = pl.draw([dead], images[:1], to=tmp_path / "a.svg").read_text()
    beside = pl.draw([dead, explained(images, "teacher")], images[:1], to=tmp_path / "b.svg").read_text()
    alive = pl.draw([explained(images)], images[:1], to=tmp_path / "c.svg").read_text()
    assert ["<!-- × mean -->" in text for text in (alone, beside, alive)] == [False, True, True]
    assert ["<!-- no signal -->" in text and "<pattern" in text for text in (alone, beside, alive)] == [True, True, False]


def test_a_tensor_is_drawn_as_it_was_explained(tmp_path):
    """Not square, and of three channels."""
    found = explained(
        None, maps=np.random.default_rng(0).random((2, 3, 5)).astype(np.float32), targets=np.zeros(2, int), layer="", signed=True
    )
    assert pl.draw([found], torch.rand(2, 3, 24, 40), to=tmp_path / "maps.pdf").read_bytes().startswith(b"%PDF")
    single = explained(None).some(slice(1, 2))
    assert hottest_corner(pl.draw([single], torch.zeros(1, 3, 24, 24), to=tmp_path / "maps.png")) == ("top", "right")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images: ([], images, "a.png"), "not an empty one"),
        (lambda images: ([explained(images)], images, "a.bmp"), r"must end in \.png, \.svg, \.pdf"),
        (lambda images: ([explained(images)], np.zeros((2, 2)), "a.png"), "given is ndarray"),
        (lambda images: ([explained(images, ids=np.array(["image0", "b", "c", "d"]))], images, "a.png"), "3 of the images weren't explained, e.g. image1"),
        (lambda images: ([explained(None)], images[:2], "a.png"), "has 4 maps, and there are 2 images"),
        (lambda images: (explained(images), images, "a.png"), "must be a list"),
        (lambda images: ([explained(images)], images[:0], "a.png"), "there are no images to draw"),
        (lambda images: ([explained(images)], images[np.arange(80) % N], "a.png"), "80 rows of 1 maps, and a picture holds 60 of 20"),
        (lambda images: ([explained(images, str(k)) for k in range(21)], images, "a.png"), "4 rows of 21 maps"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(images, tmp_path, change, words):
    explanations, shown, name = change(images)
    with pytest.raises(SettingError, match=words):
        pl.draw(explanations, shown, to=tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_folder_is_no_picture(images, tmp_path):
    with pytest.raises(StorageError, match="Name a file in it"):
        pl.draw([explained(images)], images, to=tmp_path)
