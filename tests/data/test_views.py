"""Views are pure functions of seed, view and image; teacher and student see the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.core.records import ImageSpec
from pellucid.data.views import Views, epoch, normalise, to_input

GREY = ImageSpec(16, 1, (0.0,), (1.0,))


def pixels(n=6, side=16, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def test_a_view_does_not_depend_on_batch_or_order():
    """Drawn alone, in another order or in another batch, an image looks the same to the bit."""
    images, rows = pixels(), np.arange(10, 16)
    together = Views(seed=3).draw(images, rows, view=2)
    backwards = Views(seed=3).draw(images[::-1].copy(), rows[::-1].copy(), view=2).flip(0)
    alone = torch.cat([Views(seed=3).draw(images[i : i + 1], rows[i : i + 1], view=2) for i in range(6)])
    assert torch.equal(together, backwards)
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    "change", [{"seed": 4, "view": 2, "shift": 0}, {"seed": 3, "view": 1, "shift": 0}, {"seed": 3, "view": 2, "shift": 7}]
)
def test_a_view_depends_on_seed_view_and_image(change):
    """Another seed, view number or row gives another picture."""
    images, rows = pixels(), np.arange(6)
    one = Views(seed=3).draw(images, rows, view=2)
    other = Views(seed=change["seed"]).draw(images, rows + change["shift"], view=change["view"])
    assert not torch.allclose(one, other)


def test_without_parts_a_view_is_the_image_itself():
    """With every part switched off nothing is resampled."""
    images = pixels()
    drawn = Views(parts=()).draw(images, np.arange(6), view=5)
    assert torch.equal(drawn, torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)


def test_flip_alone_gives_each_image_or_its_mirror_image():
    """About half of the images are mirrored left to right, none is changed otherwise."""
    images = pixels(n=64)
    drawn = Views(parts=("flip",)).draw(images, np.arange(64), view=0)
    plain = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    kept = torch.tensor([torch.allclose(a, b, atol=1e-5) for a, b in zip(drawn, plain, strict=True)])
    mirrored = torch.tensor([torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(drawn, plain, strict=True)])
    assert bool((kept ^ mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


def test_teacher_and_student_see_the_same_pixels(phantom):
    """Two specs of one batch show one view: the smaller is the larger one, resized (DESIGN rule 1)."""
    large = ImageSpec(32, 1, (0.0,), (1.0,))
    small = ImageSpec(16, 1, (0.0,), (1.0,))
    order = np.arange(8)
    (batch,) = epoch(phantom.train, [large, small], phantom.views, view=1, order=order, batch_size=8)
    assert torch.allclose(normalise(batch.inputs[0], small), batch.inputs[1], atol=1e-6)
    assert batch.inputs[1].shape == (8, 1, 16, 16)


def test_epoch_never_ends_on_a_batch_of_one(phantom):
    """Batch norm can't train on a single image: the last two batches are joined."""
    order = np.arange(9)
    sizes = [len(b.positions) for b in epoch(phantom.train, [GREY], phantom.views, view=0, order=order, batch_size=4)]
    assert sizes == [4, 5]


def test_image_normalisation_gives_mean_zero_and_std_one_and_keeps_black_black():
    """Per-image normalisation uses each image's own figures; an empty image doesn't become noise."""
    images = pixels(n=2)
    images[1] = 0
    spec = ImageSpec(16, 1, (0.5,), (0.5,), normalise="image")
    found = to_input(images, spec)
    assert float(found[0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(found[0].std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert float(found[1].abs().max()) == 0.0


def test_grey_pixels_serve_a_network_of_three_channels():
    """A grey store is shown three times to an RGB network."""
    found = to_input(pixels(), ImageSpec(16, 3, (0.0,) * 3, (1.0,) * 3))
    assert found.shape == (6, 3, 16, 16)
    assert torch.equal(found[:, 0], found[:, 2])
