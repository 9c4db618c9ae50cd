"""Whether one network needs what the other one's map shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.core.records import ImageSpec
from pellucid.measures.cross_deletion import cross_deletion
from pellucid.models.saved import Network

SPEC = ImageSpec(size=16, channels=1, mean=(0.0,), std=(1.0,))


class Corner(nn.Module):
    """Class 0 rests on how rough the image is in one corner: blurring there takes it away, blurring elsewhere does nothing."""

    def __init__(self, *, top: bool) -> None:
        super().__init__()
        self.rows = slice(0, 5) if top else slice(11, 16)
        self.scale = nn.Parameter(torch.tensor(40.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        there = images[:, 0, self.rows, :5]
        rough = (there - there.mean((1, 2), keepdim=True)).abs().mean((1, 2))
        return torch.stack([self.scale * (rough - 0.15), torch.zeros_like(rough)], 1)


def corner_maps(n: int, *, top: bool) -> np.ndarray:
    """Return maps that are hot in 50 of 256 places: the corner, and beside it."""
    maps = np.random.default_rng(0).random((n, 16, 16)) * 0.1
    maps[:, (slice(0, 5) if top else slice(11, 16)), :10] += 1
    return maps


@pytest.fixture
def judged_with(make_judged, explanation):
    """Return a function that gives a teacher that looks at the top corner, and a student that looks there too, or at the bottom one."""

    def make(*, same: bool, **student):
        n = 12
        targets = np.arange(n) % 2
        task = make_judged(targets, {}).images.dataset.task
        networks = {"teacher": Network(Corner(top=True), SPEC, task), "student": Network(Corner(top=same), SPEC, task)}
        maps = [explanation(corner_maps(n, top=True), "teacher"), explanation(corner_maps(n, top=same), "student", **student)]
        return make_judged(targets, dict.fromkeys(networks, np.eye(2)[targets]), networks=networks, explanations=maps)

    return make


def test_a_student_that_looks_elsewhere_is_exposed(judged_with, one):
    """Planted: the student's map shows a tag in the other corner. Deleting it leaves the teacher's answer, and the reverse."""
    found = cross_deletion(judged_with(same=False)).measurements
    for scored, other in (("teacher", "student"), ("student", "teacher")):
        own, crossed = (one(found, "cross_deletion", model=model, by="grad_cam") for model in (scored, f"{scored} by {other}"))
        assert own.value > 0.5 and abs(crossed.value) < 0.02
        against = one(found, "cross_deletion_difference", model=f"{scored} by {other} - {scored}")
        assert against.high < -0.5 and "Holm over 2" in against.reason
        assert one(found, "cross_deletion_difference", model=f"{scored} by {other} - random").value < 0


def test_a_student_that_looks_where_its_teacher_looks_finds_what_that_needs(judged_with, one):
    """The same corner: the teacher's answer goes by the student's map as by its own, and more than by a random one."""
    found = cross_deletion(judged_with(same=True)).measurements
    assert one(found, "cross_deletion_difference", model="teacher by student - teacher").value == 0
    assert one(found, "cross_deletion_difference", model="teacher by student - random").low > 0.2
    assert one(found, "cross_deletion", model="teacher", by="random_smooth").reason.startswith("control")


def test_cross_deletion_equals_one_image_worked_out(judged_with, one):
    """Twin: the 51 highest of 256 pixels of the student's map blurred, one image after another, the teacher asked before and after."""
    from pellucid.data.views import to_input
    from pellucid.measures.faithfulness import blur

    judged = judged_with(same=False)
    found = cross_deletion(judged)
    model, maps = judged.networks["teacher"].model, judged.explanations[1].maps
    for i in range(3):
        image = to_input(judged.images.pixels[i : i + 1], SPEC)
        gone = torch.zeros(256, dtype=torch.bool)
        gone[np.argsort(-maps[i].ravel())[:51].copy()] = True
        changed = torch.where(gone.view(1, 1, 16, 16), blur(image), image)
        with torch.no_grad():
            before, after = (float(model(x).softmax(1)[0, 0]) for x in (image, changed))
        assert found.per_image["cross_deletion/grad_cam/teacher by student"][i] == pytest.approx(before - after, abs=1e-5)


def test_dead_maps_other_classes_and_small_grids(judged_with, explanation, one):
    """One map for another class and one dead map are left out by count, of own and other map alike; a 3x3 grid says so."""
    targets = np.zeros(12, np.int64)
    targets[3] = 1
    judged = judged_with(same=True, targets=targets)
    judged.explanations[1].maps[5] = 0
    found = cross_deletion(judged).measurements
    for model in ("teacher", "teacher by student", "student by teacher"):
        row = one(found, "cross_deletion", model=model, by="grad_cam")
        assert row.n_images == 10 and row.reason == "1 images left out: a dead map; 1 images left out: maps for different classes"
    judged.explanations[1] = explanation(np.ones((12, 3, 3)), "student")
    row = one(cross_deletion(judged).measurements, "cross_deletion", model="teacher by student", by="grad_cam")
    assert row.value is None and row.reason == "not judged: grid 3x3"
