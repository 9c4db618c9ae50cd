"""Saved networks, explained and measured beside one another on images of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pellucid.core.errors import ModelError, SettingError, StorageError, WeightsError
from pellucid.core.records import ImageSpec, Task
from pellucid.models.build import build
from pellucid.models.saved import Network
from pellucid.running.judging import judge_files, roles

DATA = ["data.n_subjects=20", "data.slices=2", "data.val_share=0.2", "data.test_share=0.2", "explain.images=6", "measure.resamples=100",
        'measure.measures=["performance", "transfer"]']  # fmt: skip
CLASSES = ("none", "solid", "ring", "diffuse")


def saved(path, seed, classes=CLASSES):
    model = build("cnn5", n_classes=len(classes), channels=1, size=32, seed=seed, preset="small")
    Network(model, ImageSpec(32, 1, (0.5,), (0.25,), stored_size=32), Task("single", classes), "cnn5", {"preset": "small"}).save(path)
    return str(path)


def test_the_first_teaches_and_the_last_learns_unless_it_is_said():
    assert list(roles(["a.safetensors", "x/b.safetensors", "c.safetensors"])) == ["teacher", "b", "student"]
    assert roles(["old=a.safetensors", "new=b.safetensors"]) == {"old": Path("a.safetensors"), "new": Path("b.safetensors")}
    assert list(roles(["a.safetensors"])) == ["student"]
    assert roles(["runs/s/alpha=0.4/a.safetensors", "new=x/alpha=0.7/a.safetensors"]) == {
        "teacher": Path("runs/s/alpha=0.4/a.safetensors"), "new": Path("x/alpha=0.7/a.safetensors")
    }  # fmt: skip
    with pytest.raises(SettingError, match="there is a teacher already"):
        roles(["teacher=a.safetensors", "teacher=b.safetensors"])


def test_networks_from_files_get_figures_and_a_report(tmp_path, monkeypatch):
    """A network beside itself under another name: equally right, and looking at the very same places."""
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(tmp_path / "ws"))
    first, second = saved(tmp_path / "a.safetensors", 0), saved(tmp_path / "b.safetensors", 0)
    scores = judge_files([first, second], "phantom", DATA, to=tmp_path / "out" / "report.html")
    found = {(m.name, m.model, m.by): m for m in scores.measurements if m.stratum == "all"}
    assert found["accuracy_difference", "student - teacher", ""].value == 0
    assert found["similarity", "student ~ teacher", "grad_cam"].value == pytest.approx(1)
    assert scores.judged.images.pixels.shape[1] == 32  # as large as the networks had their images
    page = (tmp_path / "out" / "report.html").read_text()
    assert "which images these networks were trained on isn&#39;t known here" in page
    assert "1 warning" in scores.verdicts[3].answer or "warnings" in scores.verdicts[3].answer
    assert "Grad-CAM" in page and "base" not in scores.judged.networks


@pytest.mark.parametrize("what", ["half", "nan"])
def test_networks_in_half_precision_are_judged_and_those_without_figures_refused(tmp_path, monkeypatch, what):
    """Before an hour is spent on maps."""
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(tmp_path / "ws"))
    model = build("cnn5", n_classes=4, channels=1, size=32, seed=0, preset="small")
    if what == "half":
        model.to(torch.bfloat16)
    else:
        torch.nn.init.constant_(model.head.bias, torch.nan)
    other = Network(model, ImageSpec(32, 1, (0.5,), (0.25,), stored_size=32), Task("single", CLASSES), "cnn5", {"preset": "small"})
    other.save(tmp_path / "b.safetensors")
    files, to = [saved(tmp_path / "a.safetensors", 0), str(tmp_path / "b.safetensors")], tmp_path / "report.html"
    asked = [*DATA, 'explain.methods=["grad_cam", "occlusion"]', 'measure.measures=["performance", "faithfulness", "localisation"]']
    if what == "nan":
        with pytest.raises(ModelError, match=r"Logits are NaN or infinite: student's for 6 of 6 test images"):
            judge_files(files, "phantom", asked, to=to)
        assert not to.exists()
        return
    found = {(m.name, m.model, m.by): m.value for m in judge_files(files, "phantom", asked, to=to).measurements if m.stratum == "all"}
    assert found["mask_fidelity", "student", "grad_cam"] == pytest.approx(found["mask_fidelity", "teacher", "grad_cam"], abs=0.02)


def test_a_report_that_cannot_be_written_is_refused_first(tmp_path):
    with pytest.raises(StorageError, match="Name a file in it"):
        judge_files(["absent.safetensors"], "phantom", DATA, to=tmp_path)


def test_other_classes_and_foreign_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(tmp_path / "ws"))
    other = saved(tmp_path / "cats.safetensors", 0, classes=("cat", "dog"))
    with pytest.raises(ModelError, match="knows the classes cat, dog, and the data have none, solid, ring, diffuse"):
        judge_files([other], "phantom", DATA, to=tmp_path / "report.html")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(WeightsError, match=r"junk.safetensors: can't be read .*absent.safetensors: there is no such file"):
        judge_files([str(tmp_path / "junk.safetensors"), other, "absent.safetensors"], "phantom", DATA, to=tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
