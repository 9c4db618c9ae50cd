"""Two runs side by side: paired on the same images, whatever their order, and refused where they have no images in common."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core import files
from pellucid.core.errors import RunError
from pellucid.core.records import Explanation
from pellucid.core.settings import Settings
from pellucid.running.folder import RunFolder
from pellucid.scale.comparison import compare

N = 40


def a_run(path, *, order=None, logits=None, fidelity=0.5, ids=None, targets=None, maps=None, method="grad_cam"):
    """Write a measured run of N images, two of each subject."""
    order = np.arange(N) if order is None else order
    targets = (np.arange(N) // 2 % 2) if targets is None else targets
    logits = np.eye(2)[targets] if logits is None else logits
    with_folder = RunFolder(path, Settings())
    with_folder.create()
    with_folder.release()
    names = np.array([f"{i}.png" for i in range(N)]) if ids is None else ids
    about = {"classes": np.array(["a", "b"]), "test.ids": names[order], "test.units": np.array([f"s{i // 2}" for i in range(N)])[order]}
    files.write_npz(
        path / "predictions.npz", about | {"test.targets": targets[order], "test.logits.student": logits[order].astype(np.float32)}
    )
    files.write_npz(path / "judgements.npz", {"mask_fidelity/grad_cam/student": np.full(N, fidelity)})
    files.write_json(path / "measurements.json", {"unit": "subjects", "measurements": []})
    if maps is not None:
        rows = np.arange(N)
        with_folder.write_maps([Explanation(maps[order], targets[order], "student", method, "layer5", (32, 32))], [], {"rows": rows})
    return path


def one(found, name, model):
    (row,) = [m for m in found if (m.name, m.model) == (name, model)]
    return row


def test_figures_are_paired_on_the_same_images_in_whatever_order(tmp_path):
    """B names four images wrongly that A names rightly; its images come in another order."""
    worse = np.eye(2)[np.arange(N) // 2 % 2]
    worse[:4] = worse[:4, ::-1]
    a = a_run(tmp_path / "a")
    b = a_run(tmp_path / "b", logits=worse, order=np.random.default_rng(0).permutation(N), fidelity=0.8)
    found = compare(a, b)
    assert one(found, "accuracy", "A").value == 1.0 and one(found, "accuracy", "B").value == 0.9
    gap = one(found, "accuracy_difference", "B - A")
    assert gap.value == pytest.approx(-0.1) and gap.low < gap.value < gap.high <= 0
    assert (gap.n_images, gap.n_units, gap.unit) == (40, 20, "subjects")
    assert one(found, "mask_fidelity_difference", "B - A").value == pytest.approx(0.3)


def test_a_run_beside_itself_differs_nowhere(tmp_path):
    maps = np.random.default_rng(1).normal(size=(N, 8, 8)).astype(np.float32)
    a, b = a_run(tmp_path / "a", maps=maps), a_run(tmp_path / "b", maps=maps, order=np.arange(N)[::-1])
    found = compare(a, b)
    assert one(found, "balanced_accuracy_difference", "B - A").value == 0
    assert one(found, "similarity", "A ~ B").value == pytest.approx(1)


def test_runs_explained_by_other_methods_say_so(tmp_path):
    maps = np.random.default_rng(1).normal(size=(N, 8, 8)).astype(np.float32)
    found = compare(a_run(tmp_path / "a", maps=maps), a_run(tmp_path / "b", maps=maps, method="layer_cam"))
    assert (
        one(found, "similarity", "A ~ B").reason
        == "undefined: no method explained the same images in both runs (A: grad_cam; B: layer_cam)"
    )


def test_other_test_images_are_refused_with_the_number_in_common(tmp_path):
    a, b = a_run(tmp_path / "a"), a_run(tmp_path / "b", ids=np.array([f"{i}.png" for i in range(10, N + 10)]))
    with pytest.raises(RunError, match="30 of their 40 and 40 test images are the same"):
        compare(a, b)


def test_other_classes_a_missing_role_and_an_unmeasured_run_are_refused(tmp_path):
    a, b = a_run(tmp_path / "a"), a_run(tmp_path / "b", targets=1 - np.arange(N) // 2 % 2)
    with pytest.raises(RunError, match="have other classes"):
        compare(a, b)
    with pytest.raises(RunError, match="no network called twin, only student"):
        compare(a, a, role="twin")
    (b / "predictions.npz").unlink()
    with pytest.raises(RunError, match="was not measured yet"):
        compare(a, b)
    with pytest.raises(RunError, match="holds no run"):
        compare(a, tmp_path)


def test_runs_that_were_measured_before_units_were_kept_can_be_compared(tmp_path):
    """Then each figure names its unit, the first of them what is resampled."""
    a, b = a_run(tmp_path / "a"), a_run(tmp_path / "b")
    for run in (a, b):
        files.write_json(run / "measurements.json", {"measurements": [{"unit": "subjects"}]})
    assert one(compare(a, b), "accuracy", "A").unit == "subjects"


def test_damaged_files_of_a_run_are_named(tmp_path):
    """What can't be compared is said, and not left out in silence."""
    maps = np.random.default_rng(1).normal(size=(N, 8, 8)).astype(np.float32)
    a, b = a_run(tmp_path / "a", maps=maps), a_run(tmp_path / "b", maps=maps)
    (b / "maps.npz").write_bytes((b / "maps.npz").read_bytes()[:200])
    assert one(compare(a, b), "similarity", "A ~ B").reason == f"undefined: the maps of {b} are gone or damaged"
    (b / "judgements.npz").write_bytes(b"cut off")
    with pytest.raises(RunError, match=r"b: judgements.npz is damaged. `pellucid measure .*b` makes it anew"):
        compare(a, b)
    (a / "measurements.json").write_text('{"measur')
    with pytest.raises(RunError, match=r"a: measurements.json is damaged"):
        compare(a, b)


def test_runs_that_were_judged_otherwise_are_not_mixed(tmp_path):
    a, b = a_run(tmp_path / "a"), a_run(tmp_path / "b")
    files.write_json(b / "measurements.json", {"unit": "subjects", "stage_versions": {"explain": 1, "measure": 1}})
    with pytest.raises(
        RunError, match=r"a and .*b: were judged by versions of Pellucid that judge differently. `pellucid measure` on each"
    ):
        compare(a, b)
