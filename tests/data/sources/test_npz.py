"""Arrays in one file, also as MedMNIST publishes them."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import SourceError
from pellucid.core.settings import DataSettings
from pellucid.data.find import find

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 9, 7), dtype=np.uint8)


def opened(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return find(DataSettings(source=str(tmp_path / "set.npz")))


@pytest.mark.parametrize(
    ("images", "shape"),
    [(GREY, (9, 7)), (GREY[..., None], (9, 7)), (np.stack([GREY] * 3, -1), (9, 7, 3)), (GREY.astype(np.uint16) * 200, (9, 7))],
)
def test_images_and_labels(tmp_path, images, shape):
    """Grey with and without channel axis, RGB, 16 bits."""
    dataset = opened(tmp_path, images=images, labels=np.array([2, 2, 10, 10, 1, 1]))
    assert dataset.task.classes == ("1", "2", "10")
    assert dataset.targets.tolist() == [1, 1, 2, 2, 0, 0]
    assert dataset.read(3).shape == shape
    assert np.array_equal(dataset.read(3), images[3].reshape(shape))
    assert len(set(dataset.ids)) == 6


def test_medmnist_layout_gives_a_split_column(tmp_path):
    """Labels [N, 1], sides in the order train, val, test."""
    labels = np.array([[0], [1]])
    arrays = {
        f"{side}_{kind}": value
        for n, side in enumerate(("train", "val", "test"))
        for kind, value in (("images", GREY[2 * n : 2 * n + 2]), ("labels", labels))
    }
    dataset = opened(tmp_path, **arrays)
    assert dataset.columns["split"] == ["train", "train", "val", "val", "test", "test"]
    assert dataset.targets.tolist() == [0, 1] * 3
    assert np.array_equal(dataset.read(5), GREY[5])


def test_masks_and_columns(tmp_path):
    """Further arrays of one value per image become subject, group or columns; masks are masks."""
    masks = np.zeros_like(GREY)
    masks[0, 2, 3] = 1
    dataset = opened(
        tmp_path, images=GREY, labels=np.array(list("aabbab")), subject=np.array([1, 1, 2, 2, 3, 3]), age=np.arange(6) / 2, masks=masks
    )
    assert dataset.subjects == ["1", "1", "2", "2", "3", "3"]
    assert dataset.columns == {"age": ["0", "0.5", "1", "1.5", "2", "2.5"]}
    assert np.argwhere(dataset.read_mask(0)).tolist() == [[2, 3]]
    assert not dataset.read_mask(1).any()


def test_content_follows_pixels_and_labels(tmp_path):
    """One other pixel or label is another dataset; saving again is not."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    first = opened(tmp_path, images=GREY, labels=labels).content
    assert opened(tmp_path, images=GREY.copy(), labels=labels).content == first
    changed = GREY.copy()
    changed[0, 0, 0] ^= 1
    assert opened(tmp_path, images=changed, labels=labels).content != first
    assert opened(tmp_path, images=GREY, labels=labels[::-1].copy()).content != first


BAD = [
    ({"pixels": GREY}, r"set\.npz: holds no images and no labels\. There are: pixels\.$"),
    ({"train_images": GREY}, r"set\.npz: holds no train_labels\. There are: train_images\.$"),
    ({"images": GREY, "labels": np.zeros(5)}, r"labels is \[5\] for 6 images\. Needed: one label for each image\.$"),
    ({"images": GREY, "labels": np.zeros((6, 3))}, r"labels is \[6, 3\] for 6 images\."),
    ({"images": GREY.astype(float), "labels": np.zeros(6)}, r"images is float64 \[6, 9, 7\]\. Needed: uint8"),
    ({"images": GREY[:, :, :, None].repeat(4, 3), "labels": np.zeros(6)}, r"images is uint8 \[6, 9, 7, 4\]\. Needed: uint8"),
    ({"images": GREY, "labels": np.zeros(6)}, r'^set: all 6 images are of one class \("0"\)\.'),
    ({"images": GREY, "labels": np.arange(6), "masks": GREY[:, 1:]}, r"masks is \[6, 8, 7\] for images of \[6, 9, 7\]\."),
    ({"images": GREY[:0], "labels": np.zeros(0)}, r"^set: holds no images\.$"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), BAD)
def test_what_is_wrong_with_an_npz_is_said_in_one_line(tmp_path, arrays, message):
    """Names and shapes that were found stand beside those that are needed."""
    with pytest.raises(SourceError, match=message) as caught:
        opened(tmp_path, **arrays)
    assert "\n" not in str(caught.value)


def test_what_is_no_npz_is_told(tmp_path):
    """Cut, empty, pickled, or text."""
    whole = tmp_path / "whole.npz"
    np.savez(whole, images=GREY, labels=np.arange(6))
    objects = tmp_path / "objects.npz"
    np.savez(objects, images=np.array([{}], dtype=object), labels=np.arange(1))
    for content in (whole.read_bytes()[:200], b"", b"text", objects.read_bytes()):
        path = tmp_path / "bad.npz"
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"bad\.npz: not a readable \.npz file"):
            find(DataSettings(source=str(path)))


def test_values_that_would_silently_be_lost_are_refused(tmp_path):
    """NaN is no class, and subjects of another shape would leave leaks between them unseen."""
    with pytest.raises(SourceError, match="labels holds 1 values that are no number"):
        opened(tmp_path, images=GREY, labels=np.array([0, 1, 0, 1, 0, np.nan]))
    with pytest.raises(SourceError, match=r"subject is \[6, 1\] for 6 images"):
        opened(tmp_path, images=GREY, labels=np.array(list("aabbab")), subject=np.arange(6)[:, None])


def test_one_array_and_images_without_pixels_are_refused(tmp_path):
    """An .npy under another name; sides of zero."""
    with (tmp_path / "set.npz").open("wb") as stream:
        np.save(stream, GREY)
    with pytest.raises(SourceError, match="not a readable"):
        find(DataSettings(source=str(tmp_path / "set.npz")))
    with pytest.raises(SourceError, match=r"images is uint8 \[6, 0, 7\]"):
        opened(tmp_path, images=GREY[:, :0], labels=np.arange(6))
