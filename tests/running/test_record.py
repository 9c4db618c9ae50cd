"""What a run keeps of its measures: it comes back as it was, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.records import Measurement
from pellucid.measures.judged import Judgement
from pellucid.running.record import read_judgement, write_judgement


def test_a_judgement_comes_back_as_it_was(tmp_path):
    made = Judgement([Measurement("accuracy", 1 / 3, 0.1, None, 5, 3, "subjects", reason="ä")], {"correct_student": np.arange(5) > 2, "a/b/c": np.array([0.5, np.nan, 1, 2, 3])})  # fmt: skip
    write_judgement(tmp_path / "one.npz", made)
    found = read_judgement(tmp_path / "one.npz", 5)
    assert found.measurements == made.measurements
    assert list(found.per_image) == list(made.per_image)
    for name, values in made.per_image.items():
        np.testing.assert_array_equal(found.per_image[name], values)
        assert found.per_image[name].dtype == values.dtype
    with pytest.raises(ValueError, match="not one value for each image"):
        read_judgement(tmp_path / "one.npz", 6)
