"""check_targets: one class per image, and one that the network has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.core.errors import TargetError
from pellucid.explainers.targets import check_targets

LOGITS = torch.zeros(3, 4)


@pytest.mark.parametrize("given", [torch.tensor([0, 3, 1]), torch.tensor([0, 3, 1], dtype=torch.uint8), np.array([0, 3, 1]), [0, 3, 1]])
def test_whole_numbers_in_range_come_back_as_int64(given):
    assert torch.equal(check_targets(given, LOGITS), torch.tensor([0, 3, 1]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0, 4, 1], "no class 4: the network has 4"), ([-1, 0, 0], "no class -1"), ([0, 1], r"shape \[3\], not \[2\]"),
        ([[0, 1, 2]], r"not \[1, 3\]"), ([0.0, 1.0, 2.0], "whole numbers"), ([True, False, True], "whole numbers"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_words(given, words):
    with pytest.raises(TargetError, match=words):
        check_targets(torch.tensor(given), LOGITS)
