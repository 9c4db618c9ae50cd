"""What all measures look at: means over all images and over strata."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.measures.faithfulness import faithfulness
from pellucid.measures.performance import performance
from pellucid.testing import tiny_judged


def test_strata_are_the_classes_and_who_was_right():
    """The four groups part the images; each follows from the logits."""
    judged = tiny_judged()
    assert list(judged.strata) == [*judged.classes, "both right", "only teacher right", "only student right", "both wrong"]
    assert (sum(judged.strata[name].astype(int) for name in judged.classes) == 1).all()
    assert (sum(among.astype(int) for name, among in judged.strata.items() if name not in judged.classes) == 1).all()
    right = {role: judged.logits[role].argmax(1) == judged.targets for role in ("teacher", "student")}
    np.testing.assert_array_equal(judged.strata["only student right"], right["student"] & ~right["teacher"])
    assert list(tiny_judged(bare=True).strata) == list(judged.classes)  # one network alone: nobody to be right beside


@pytest.mark.parametrize("name", ["all", "both right"])
def test_a_class_may_bear_the_name_of_a_stratum(name):
    """A class called ``all``, as one of the leukaemia set C-NMC is: no figure over all images is taken for its own, or the other way round."""
    plain, named = tiny_judged(), tiny_judged(classes=(name, "b", "c"))
    assert next(iter(named.strata)) == f'"{name}"' and len(named.strata) == len(plain.strata)
    for measure in (performance, faithfulness):
        before, after = ({(m.name, m.model, m.by, m.stratum): m.value for m in measure(judged).measurements} for judged in (plain, named))
        swapped = {(*key, f'"{name}"' if stratum == "a" else stratum): value for (*key, stratum), value in before.items()}
        assert after == pytest.approx(swapped, nan_ok=True)


def test_means_over_all_and_over_each_stratum_that_has_a_value():
    judged = tiny_judged()
    values = np.where(judged.targets == 0, np.nan, np.arange(12.0))
    found = judged.means("x", values, model="teacher", by="grad_cam")
    assert found[0].stratum == "all" and found[0].value == pytest.approx(np.nanmean(values))
    for row in found[1:]:
        among = judged.strata[row.stratum]
        assert row.value == pytest.approx(np.nanmean(values[among])) and row.n_images == np.isfinite(values[among]).sum()
        assert (row.name, row.model, row.by) == ("x", "teacher", "grad_cam")
    assert "a" not in {row.stratum for row in found} and {"b", "c"} <= {row.stratum for row in found}
