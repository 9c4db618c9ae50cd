"""Loading: mean and std are the training split's, the key follows all that training can see."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import SettingError
from pellucid.data.load import load

FEW = {"n_subjects": 16, "slices": 2, "size": 32, "val_share": 0.25, "test_share": 0.25}


def test_mean_and_std_are_those_of_the_training_split(shared_workspace):
    """Not of all images, and not assumed."""
    data = load("phantom", workspace=shared_workspace, **FEW)
    pixels = data.train.pixels.astype(np.float64) / 255
    assert data.mean == pytest.approx((pixels.mean(),), abs=1e-6)
    assert data.std == pytest.approx((pixels.std(),), abs=1e-6)


def test_given_mean_and_std_are_taken_one_per_channel(shared_workspace):
    """One value stands for all channels; two for three channels are refused."""
    data = load("phantom", channels="rgb", mean=[0.5], std=[0.1, 0.2, 0.3], workspace=shared_workspace, **FEW)
    assert (data.mean, data.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    with pytest.raises(SettingError, match="have 2 values, the images 3 channels"):
        load("phantom", channels="rgb", mean=[0.5, 0.5], workspace=shared_workspace, **FEW)


@pytest.mark.parametrize("changed", [{"split_seed": 1}, {"view_seed": 1}, {"view_parts": ["flip"]}, {"fit": "crop"}, {"mean": [0.5]}])
def test_the_key_changes_with_whatever_training_can_see(changed, shared_workspace):
    """Another split, other views, other pixels or another normalisation is another training."""
    keys = [load("phantom", workspace=shared_workspace, **{**FEW, **more}).key for more in ({}, {}, changed)]
    assert keys[0] == keys[1] != keys[2]
