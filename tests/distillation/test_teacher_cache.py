"""The teacher's logits are computed once per image and view, and are those of that view."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pellucid as pl
from pellucid.core.workspace import Workspace
from pellucid.data.views import normalise
from pellucid.distillation import teacher_cache
from pellucid.training.precision import Precision

FP32 = Precision(bf16=False, channels_last=False)


@pytest.fixture(scope="module")
def teacher(phantom):
    return pl.Network(pl.build("cnn5", n_classes=4, channels=1, size=32, preset="small"), phantom.spec(), phantom.task)


def cached(data, teacher, n_views, workspace):
    return teacher_cache.teacher_logits(teacher, data.train, data.views, n_views, FP32, workspace, key=data.key)


def test_each_view_has_logits_of_its_own(phantom, teacher, tmp_path):
    """Row v, i is the eval-mode output on image i in view v; two views differ (never one logit under random crops)."""
    logits = cached(phantom, teacher, 2, Workspace(tmp_path))
    assert logits.shape == (2, len(phantom.train), 4)
    some = phantom.train[np.array([3, 7])]
    with torch.no_grad():
        expected = teacher.model.eval()(normalise(phantom.views.draw(some.pixels, some.rows, 1), phantom.spec()))
    np.testing.assert_allclose(logits[1, [3, 7]], expected.numpy(), atol=1e-5)
    assert np.abs(logits[0] - logits[1]).max() > 1e-4


def test_more_views_reuse_those_there_are(phantom, teacher, tmp_path, monkeypatch):
    """A stopped computation goes on; the views that are there are read, not computed."""
    first = cached(phantom, teacher, 1, Workspace(tmp_path))
    seen = []
    real = teacher_cache._block
    monkeypatch.setattr(teacher_cache, "_block", lambda *arguments: seen.append(arguments[4]) or real(*arguments))
    more = cached(phantom, teacher, 2, Workspace(tmp_path))
    assert set(seen) == {1}
    np.testing.assert_array_equal(more[0], first[0])
