"""Noisy linear imputation against the authors' code, a plain dense system, and numbers on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.measures import imputation
from pellucid.measures.imputation import impute

WEIGHTS = {(dy, dx): 1 / 12 if dy and dx else 1 / 6 for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx}
MASKS = ["keep90", "keep50", "keep10", "block_inside", "block_corner", "half_left", "single_kept", "none_removed"]


def dense(image: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Twin: one equation per pixel, written out, solved densely."""
    height, width = kept.shape
    matrix, known = np.zeros((kept.size, kept.size)), np.zeros((kept.size, len(image)))
    for y in range(height):
        for x in range(width):
            here = y * width + x
            matrix[here, here] = 1
            if kept[y, x]:
                known[here] = image[:, y, x]
                continue
            inside = {(y + dy, x + dx): w for (dy, dx), w in WEIGHTS.items() if 0 <= y + dy < height and 0 <= x + dx < width}
            for (row, column), weight in inside.items():
                matrix[here, row * width + column] = -weight / sum(inside.values())
    return np.linalg.solve(matrix, known).T.reshape(image.shape)


@pytest.fixture(params=["band", "dissection"])
def _solver(request, monkeypatch):
    """Run a test with each of the two solvers."""
    monkeypatch.setattr(imputation, "NARROW", 10**6 if request.param == "band" else -1)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.usefixtures("_solver")
def test_imputation_equals_the_authors_code(oracle, mask):
    """Without noise: to float32's rounding of the authors' float32, and 1e-11 of a dense solution in float64."""
    found = oracle("unicam_judges/road_imputation.npz")
    image, kept = torch.from_numpy(found["image"])[None], torch.from_numpy(found[f"mask.{mask}"]).bool()[None]
    np.testing.assert_allclose(impute(image, kept)[0].numpy(), found[f"noise0.{mask}"], atol=1e-6)
    if f"float64.{mask}" in found:
        np.testing.assert_allclose(impute(image.double(), kept)[0].numpy(), found[f"float64.{mask}"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("mask", ["keep50", "block_corner"])
def test_imputation_with_noise_equals_the_authors_code(oracle, mask):
    """Their noise of 0.01, put where they put it; kept pixels have none."""
    found = oracle("unicam_judges/road_imputation.npz")
    image, kept = torch.from_numpy(found["image"])[None], torch.from_numpy(found[f"mask.{mask}"]).bool()[None]
    noise = torch.full_like(image, 7.0)
    noise[0][:, ~kept[0]] = torch.from_numpy(found[f"noise001_seed7.{mask}.noise"])
    filled = impute(image, kept, noise=noise)
    np.testing.assert_allclose(filled[0].numpy(), found[f"noise001_seed7.{mask}"], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (7, 12), (20, 13)])
@pytest.mark.usefixtures("_solver")
def test_imputation_equals_a_dense_solution(size):
    """Twin: odd and non-square sizes, single rows and columns, random masks."""
    rng = np.random.default_rng(0)
    images, kept = rng.normal(size=(3, 2, *size)), rng.random((3, *size)) < 0.3
    kept[:, 0, 0] = True
    filled = impute(torch.from_numpy(images), torch.from_numpy(kept)).numpy()
    for number in range(3):
        np.testing.assert_allclose(filled[number], dense(images[number], kept[number]), atol=1e-12)


def test_imputation_on_paper():
    """One pixel between 0 and 2 is their mean, and between 0, 6 above and below, and 12: a third of 0 + 6 + 6 + 12 over two thirds."""
    row = torch.tensor([[[[0.0, 9.0, 2.0]]]])
    assert impute(row, torch.tensor([[[True, False, True]]])).flatten().tolist() == [0.0, 1.0, 2.0]
    square = torch.tensor([[0.0, 6.0, 0.0], [0.0, 9.0, 12.0], [0.0, 6.0, 0.0]])[None, None]
    kept = torch.ones(1, 3, 3, dtype=torch.bool)
    kept[0, 1, 1] = False
    assert float(impute(square, kept)[0, 0, 1, 1]) == pytest.approx(24 / 6)


def test_images_that_share_a_mask_are_filled_as_if_alone():
    """They are solved together; types stay as they were, and images keep their own pixels."""
    images, kept = torch.randn(4, 3, 10, 11), torch.rand(4, 10, 11) > 0.6
    kept[2] = kept[0]
    together = impute(images, kept)
    alone = torch.cat([impute(images[i : i + 1], kept[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)
    assert together.dtype == torch.float32
    assert bool((together == images)[kept[:, None].expand_as(images)].all())


def test_a_scaled_and_shifted_image_is_filled_scaled_and_shifted():
    """Weights add up to 1, at borders and corners too."""
    image, kept = torch.randn(1, 1, 9, 8, dtype=torch.float64), torch.rand(1, 9, 8, generator=torch.Generator().manual_seed(0)) > 0.8
    torch.testing.assert_close(impute(3 * image - 5, kept), 3 * impute(image, kept) - 5)


def test_dissection_is_an_order():
    """Every pixel has one place."""
    assert sorted(imputation._dissection(13, 22).ravel().tolist()) == list(range(13 * 22))


@pytest.mark.parametrize(("kept", "words"), [(torch.zeros(1, 4, 4), "keeps no pixel"), (torch.ones(1, 4, 5), "don't fit")])
def test_what_cannot_be_filled_is_refused(kept, words):
    """Nothing to fill in from; masks of another size."""
    with pytest.raises(ValueError, match=words):
        impute(torch.zeros(1, 1, 4, 4), kept.bool())
