"""Loading: what contradicts itself is refused before anything is decoded."""

from __future__ import annotations

import pytest

from pellucid.core.errors import SettingError
from pellucid.data.load import load


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"std": [0.0]}, r"std = \[0.0\]: each must be above 0"),
        ({"std": [0.2, -0.2, 0.2]}, "each must be above 0"),
        ({"window": [9, 9]}, r"window = \[9.0, 9.0\]: the first value must be below the second"),
        ({"window": [10, 1]}, "the first value must be below the second"),
    ],
)
def test_settings_that_would_spoil_every_pixel_are_refused(settings, message):
    """Division by zero, mirrored values, or a picture of black and white alone."""
    with pytest.raises(SettingError, match=message):
        load("phantom", n_subjects=8, slices=1, **settings)
