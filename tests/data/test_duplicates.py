"""All pairs that look alike are found, and no others."""

import numpy as np
import pytest

from pellucid.data import duplicates
from pellucid.data.duplicates import SIDE, TRANSFORMS, exact_copies, near_copies

TURNED = {
    "as is": lambda x: x,
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "turned by 180": lambda x: np.rot90(x, 2),
    "transposed": np.transpose,
    "turned left": np.rot90,
    "turned right": lambda x: np.rot90(x, 3),
    "transposed and turned by 180": lambda x: np.rot90(x.T, 2),
}


def _pictures(n, *, seed=0, size=SIDE):
    """Smooth random pictures uint8 [n, size, size, 1]."""
    coarse = np.random.default_rng(seed).normal(size=(n, 6, 6))
    fine = np.kron(coarse, np.ones((size // 6 + 1, size // 6 + 1)))[:, :size, :size]
    return np.clip(128 + 50 * fine, 0, 255).astype(np.uint8)[..., None]


def _by_definition(images, floor):
    """Correlate every pair in all eight ways, as the docstring says it."""
    found = {}
    flat = [(image[..., 0] - image.mean(dtype=np.float64)) for image in images]
    for a in range(len(images)):
        for b in range(a + 1, len(images)):
            norms = np.linalg.norm(flat[a]) * np.linalg.norm(flat[b])
            if norms > 0:
                r = max(float((flat[a] * turn(flat[b])).sum()) / norms for turn in TURNED.values())
                if r >= floor:
                    found[a, b] = r
    return found


@pytest.mark.parametrize("dense", [0.0, 1.0], ids=["matrix product", "pair by pair"])
@pytest.mark.parametrize("floor", [0.3, 0.9])
def test_near_copies_equal_comparing_all_pairs(monkeypatch, dense, floor):
    """The hash proposes every pair that a comparison of all with all finds, with its correlation, across blocks too."""
    monkeypatch.setattr(duplicates, "_DENSE", dense)
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    images = _pictures(24)
    images[20:23, ..., 0] = np.rot90(images[3:6, ..., 0], axes=(1, 2))
    images[23] = 9  # of one grey value: like nothing
    found = near_copies(images, np.arange(24), floor=floor)
    expected = _by_definition(images, floor)
    assert found.n == len(expected)
    assert {(a, b) for a, b in zip(found.a, found.b, strict=True)} == set(expected)
    for a, b, r in zip(found.a, found.b, found.r, strict=True):
        assert r == pytest.approx(expected[a, b], abs=1e-4)
    assert (np.diff(found.r) <= 0).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform_says_how_the_second_becomes_the_first(name):
    """A picture changed the other way round is found under the change that undoes it."""
    first, other = _pictures(2, seed=1)[..., 0]
    undo = {"turned left": "turned right", "turned right": "turned left"}.get(name, name)
    images = np.stack([first, TURNED[undo](first), other])[..., None]
    found = near_copies(np.ascontiguousarray(images), np.arange(3), floor=0.97)
    assert (found.a.tolist(), found.b.tolist()) == ([0], [1])
    assert found.r[0] == pytest.approx(1, abs=1e-4)
    assert list(TRANSFORMS)[found.transform[0]] == name


def test_copy_with_other_brightness_contrast_and_grain_is_found():
    """Brightness and contrast play no part, and a little noise leaves r above 0.97."""
    images = _pictures(6, seed=2, size=96)
    noise = np.random.default_rng(0).normal(0, 4, images[0].shape)
    images[5] = np.clip(0.7 * images[0] + 20 + noise, 0, 255)
    found = near_copies(images, exact_copies(images), floor=0.97)
    assert (found.a.tolist(), found.b.tolist()) == ([0], [5])


def test_colour_images_are_compared_by_grey_value():
    """A colour image and its mirrored copy are a pair."""
    images = np.repeat(_pictures(3, seed=3), 3, axis=3)
    images[2] = images[0, :, ::-1]
    assert near_copies(images, exact_copies(images), floor=0.97).n == 1


def test_exact_copies_share_a_number_and_are_no_near_copies():
    """Images 0 and 2 are the same pixel for pixel; a change of one value makes another image."""
    images = _pictures(4, seed=4)
    images[2] = images[0]
    images[3] = images[1]
    images[3, 0, 0, 0] ^= 1
    copies = exact_copies(images)
    assert copies[0] == copies[2]
    assert len(set(copies)) == 3
    found = near_copies(images, copies, floor=0.97)
    assert (found.a.tolist(), found.b.tolist()) == ([1], [3])


def test_only_the_best_pairs_are_listed_but_all_are_counted(monkeypatch):
    """Twelve copies make 66 pairs; of the list at most 5 stay."""
    monkeypatch.setattr(duplicates, "_KEPT", 5)
    monkeypatch.setattr(duplicates, "_BLOCK", 4)
    images = np.repeat(_pictures(1, seed=5), 12, axis=0)
    images[:, 0, 0, 0] = np.arange(12)
    found = near_copies(images, exact_copies(images), floor=0.97)
    assert (found.n, len(found.a)) == (66, 5)


def test_no_images_have_no_pairs():
    """An empty store is no error."""
    assert near_copies(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int64), floor=0.97).n == 0
