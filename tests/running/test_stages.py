"""The public verbs, alone, without a run folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.core.errors import GuardError, ModelError, SettingError
from pellucid.core.workspace import Workspace
from pellucid.running import stages

SMALL = {"preset": "small", "epochs": 1, "batch_size": 16, "precision": "fp32"}


@pytest.fixture(scope="module")
def teacher(phantom, shared_workspace):
    return pl.train(phantom, "cnn5", workspace=shared_workspace, **SMALL)


def test_a_trained_network_is_found_again(phantom, shared_workspace, teacher, monkeypatch):
    """The second call trains nothing and gives the same logits; a default written out is the same network."""
    monkeypatch.setattr(stages, "fit", None)  # whoever trains now fails
    again = pl.train(phantom, "cnn5", workspace=shared_workspace, label_smoothing=0.0, **SMALL)
    np.testing.assert_array_equal(again.logits(phantom.test), teacher.logits(phantom.test))


def test_the_teacher_is_as_before_when_its_student_is_done(phantom, shared_workspace, teacher):
    """Weights, buffers, mode and device of the teacher are untouched by distilling (DESIGN rule 2)."""
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    teacher.model.train()
    pl.distill(phantom, teacher, "cnn5", workspace=shared_workspace, student_settings=SMALL)
    assert teacher.model.training
    assert all(torch.equal(before[name], value) for name, value in teacher.model.state_dict().items())
    teacher.model.eval()


def test_a_teacher_that_changes_is_told(phantom, tmp_path, teacher, monkeypatch):
    """Were the teacher's weights to move while a student learns, the result would be refused, not returned."""
    real = stages._trained

    def trained(*arguments):
        with torch.no_grad():
            next(teacher.model.parameters()).add_(1.0)
        return real(*arguments)

    monkeypatch.setattr(stages, "_trained", trained)
    try:
        with pytest.raises(RuntimeError, match="the teacher changed"):
            pl.distill(phantom, teacher, "cnn5", workspace=Workspace(tmp_path), student_settings=SMALL)
    finally:
        with torch.no_grad():
            next(teacher.model.parameters()).sub_(1.0)


def test_teachers_made_by_hand_do_not_share_a_student(phantom, shared_workspace, teacher):
    """Two networks without a fingerprint of their own are told apart by their weights."""
    keys = []
    for seed in (0, 1):
        made = pl.Network(pl.build("cnn5", n_classes=4, channels=1, size=32, preset="small", seed=seed), phantom.spec(), phantom.task)
        keys.append(pl.distill(phantom, made, "cnn5", workspace=shared_workspace, student_settings=SMALL).fingerprint)
    assert keys[0] != keys[1]


def test_a_network_of_ones_own_is_trained_on_a_copy(phantom, shared_workspace):
    """The module that was given stays as it was; what comes back has learnt and is found again by the same module."""
    torch.manual_seed(0)
    own = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    before = own[0].weight.detach().clone()
    trained = pl.train(phantom, own, workspace=shared_workspace, epochs=1, batch_size=16, precision="fp32")
    assert torch.equal(own[0].weight, before)
    assert not torch.equal(trained.model[0].weight, before)
    again = pl.train(phantom, own, workspace=shared_workspace, epochs=1, batch_size=16, precision="fp32")
    assert torch.equal(again.model[0].weight, trained.model[0].weight)


def test_a_teacher_of_other_classes_is_refused(phantom, shared_workspace):
    """Its logits would stand for something else."""
    other = pl.Network(
        pl.build("cnn5", n_classes=2, channels=1, size=32, preset="small"), phantom.spec(), type(phantom.task)("single", ("a", "b"))
    )
    with pytest.raises(ModelError, match="the teacher knows the classes a, b"):
        pl.distill(phantom, other, "cnn5", workspace=shared_workspace, student_settings=SMALL)


def test_a_loss_without_gradient_is_refused_before_training(phantom, tmp_path, teacher, monkeypatch):
    """The guard stands between the loss and the loop."""
    from pellucid.distillation.losses import logit_kd

    monkeypatch.setattr(logit_kd, "soft_kl", lambda student, teacher, temperature, t_squared: student.detach().sum())
    with pytest.raises(GuardError, match='part "kl" sends no gradient'):
        pl.distill(phantom, teacher, "cnn5", workspace=Workspace(tmp_path), student_settings=SMALL)
    assert not list((tmp_path / "networks").rglob("*.pt"))


def test_an_unknown_setting_offers_the_nearest(phantom, shared_workspace, teacher):
    """Of the loss as of the network."""
    with pytest.raises(SettingError, match='Did you mean "temperature"'):
        pl.distill(phantom, teacher, "cnn5", temprature=4, workspace=shared_workspace, student_settings=SMALL)


def test_measure_and_report_work_on_networks_alone(phantom, teacher, tmp_path):
    """One network, no run: figures with intervals, and a page that names the data."""
    scores = pl.measure(teacher, phantom.test, measures=["performance"], resamples=100)
    one = next(m for m in scores.measurements if m.name == "accuracy")
    assert one.n_images == len(phantom.test)
    assert one.value == pytest.approx((teacher.logits(phantom.test).argmax(1) == phantom.test.targets).mean())
    path = pl.report(scores, to=tmp_path / "page.html", title="By hand")
    assert "By hand" in path.read_text(encoding="utf-8")


def test_what_is_no_network_and_what_is_no_score_is_said(phantom, teacher):
    with pytest.raises(ModelError, match=r"teacher is no Network.*pl.Network\(module, ImageSpec"):
        pl.measure({"teacher": teacher.model}, phantom.test)
    with pytest.raises(ModelError, match="a/b: a network's name can't hold \"/\""):
        pl.measure({"a/b": teacher}, phantom.test)
    with pytest.raises(SettingError, match="images must be a Subset"):
        pl.measure({"teacher": teacher}, torch.zeros(2, 1, 32, 32))
    with pytest.raises(SettingError, match="scores must be what measure"):
        pl.report([], to="absent/report.html")


def test_a_report_of_maps_of_other_images_is_refused(phantom, teacher, tmp_path):
    """They would be drawn over the wrong pictures."""
    maps = pl.explain({"teacher": teacher}, phantom.test, methods=["average_feature_map"])
    scores = pl.measure({"teacher": teacher}, phantom.test, explanations=maps, measures=["performance"], resamples=100)
    for other in (replace(maps[0], ids=np.roll(maps[0].ids, 1)), maps[0].some(slice(3)), replace(maps[0], model="student")):
        with pytest.raises(SettingError, match="explanations don't fit"):
            pl.report(scores, [other], to=tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_an_image_may_be_there_twice(phantom, teacher):
    """As often as it is given, it counts."""
    scores = pl.measure(teacher, phantom.test[[0, 0, 1]], measures=["performance", "localisation"], resamples=100)
    assert next(m for m in scores.measurements if m.name == "accuracy").n_images == 3


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda maps: {"explanations": []}, "not an empty one"),
        (lambda maps: {"explanations": [replace(maps[0], model="other")]}, "no such network, only teacher"),
        (lambda maps: {"explanations": maps * 2}, "is there twice"),
        (lambda maps: {"explanations": [replace(maps[0], targets=maps[0].targets + 9)]}, "targets beyond the 4 classes"),
        (lambda maps: {"explanations": [replace(maps[0], maps=maps[0].maps[:, 0])]}, r"maps float32 \[\d+, 8\]"),
        (lambda maps: {"explanations": [replace(maps[0], expected=[1.0])]}, "expected list for"),
        (lambda maps: {"explanations": [replace(maps[0], doubtful=np.zeros(3))]}, r"doubtful float64 \[3\] for"),
        (lambda maps: {"explanations": [replace(maps[0], centres=((np.nan, 0.1), (0.1, 0.1)))]}, "centres .*nan"),
        (
            lambda maps: {"explanations": [replace(maps[0], ids=np.roll(maps[0].ids, 1))], "rows": np.arange(len(maps[0].maps))},
            "other images, e.g.",
        ),
        (
            lambda maps: {"explanations": [*maps, replace(maps[0], method="other", ids=maps[0].ids[::-1].copy())]},
            "other of teacher: is of other images",
        ),
        (lambda maps: {"explanations": [replace(maps[0], ids=np.char.add(maps[0].ids, "x"))]}, "aren't among these, e.g. .*x"),
        (lambda maps: {"explanations": maps, "rows": np.arange(2)}, "for 2 images"),
        (lambda maps: {"explanations": maps, "rows": -np.arange(len(maps[0].maps))}, "different numbers of images"),
        (lambda maps: {"explanations": maps, "rows": np.zeros(len(maps[0].maps), int)}, "different numbers of images"),
    ],
)
def test_explanations_of_other_networks_or_images_are_refused(phantom, teacher, changed, words):
    """They would be judged wrongly, or in silence not at all."""
    maps = pl.explain({"teacher": teacher}, phantom.test, methods=["average_feature_map"])
    with pytest.raises(SettingError, match=words):
        pl.measure({"teacher": teacher}, phantom.test, measures=["localisation"], resamples=100, **changed(maps))


def test_explanations_of_some_images_know_which(phantom, teacher):
    """Maps of every third image, backwards, are judged beside the masks of those images, with `rows` said or not."""
    rows = np.arange(len(phantom.test))[::-3]
    maps = pl.explain({"teacher": teacher}, phantom.test[rows], methods=["grad_cam"])
    assert maps[0].ids.tolist() == phantom.test[rows].ids
    asked = {"explanations": maps, "measures": ["localisation"], "resamples": 100}
    alone, said = (
        pl.measure({"teacher": teacher}, phantom.test, **asked),
        pl.measure({"teacher": teacher}, phantom.test, rows=rows, **asked),
    )
    one, other = (scores.per_image["pointing_game/grad_cam/teacher"] for scores in (alone, said))
    assert np.isfinite(one).any() and np.isnan(np.delete(one, rows)).all()
    np.testing.assert_array_equal(one, other)
