"""The number format is tried once and remembered."""

from __future__ import annotations

import pytest
from torch import nn

from pellucid.core import files
from pellucid.core.records import ImageSpec
from pellucid.core.workspace import Workspace
from pellucid.training import precision

SPEC = ImageSpec(8, 1, (0.0,), (1.0,))


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))


def test_the_fastest_format_is_kept_and_not_tried_again(tmp_path, monkeypatch):
    """The choice is what the trial measured, and the second call reads it."""
    seconds = {"fp32": 3.0, "fp32 channels_last": 1.0, "bf16 channels_last": 2.0}
    monkeypatch.setattr(precision, "_step_seconds", lambda model, spec, batch_size, candidate: seconds[candidate.name])
    chosen, measured = precision.choose(network(), "own", SPEC, 4, "auto", Workspace(tmp_path))
    assert (chosen.name, measured) == ("fp32 channels_last", 1.0)
    monkeypatch.setattr(precision, "_step_seconds", None)
    assert precision.choose(network(), "own", SPEC, 4, "auto", Workspace(tmp_path))[0] == chosen
    (kept,) = (tmp_path / "choices").glob("*.json")
    assert files.read_json(kept)["fastest"] == "fp32 channels_last"


def test_other_threads_keep_the_format_and_time_it_anew(tmp_path, monkeypatch):
    """A sweep's processes have one thread, a run has several: the format is part of a network's key, so both must have the same."""
    seconds = {1: {"fp32": 3.0, "fp32 channels_last": 1.0, "bf16 channels_last": 2.0}, 2: {"fp32": 0.1, "fp32 channels_last": 0.6}}
    monkeypatch.setattr(precision, "_step_seconds", lambda model, spec, batch_size, c: seconds[precision.torch.get_num_threads()][c.name])
    for threads, expected in ((1, 1.0), (2, 0.6), (1, 1.0)):
        monkeypatch.setattr(precision.torch, "get_num_threads", lambda threads=threads: threads)
        chosen, measured = precision.choose(network(), "own", SPEC, 4, "auto", Workspace(tmp_path))
        assert (chosen.name, measured) == ("fp32 channels_last", expected)


def test_a_trial_leaves_the_network_alone(tmp_path):
    """Weights, gradients and mode are as before a real trial."""
    model = network().eval()
    before = model[0].weight.detach().clone()
    precision.choose(model, "own", SPEC, 4, "auto", Workspace(tmp_path))
    assert not model.training
    assert model[0].weight.grad is None
    assert bool((model[0].weight == before).all())


@pytest.mark.parametrize(("asked", "name"), [("bf16", "bf16 channels_last")])
def test_a_format_that_is_asked_for_is_taken(tmp_path, asked, name):
    """Where only one candidate is left nothing is timed."""
    assert precision.choose(network(), "own", SPEC, 4, asked, Workspace(tmp_path))[0].name == name


def test_a_damaged_choice_is_made_anew(tmp_path):
    """What can't be read counts as not there."""
    precision.choose(network(), "own", SPEC, 4, "auto", Workspace(tmp_path))
    (kept,) = (tmp_path / "choices").glob("*.json")
    kept.write_bytes(b"\xff{")
    chosen, _ = precision.choose(network(), "own", SPEC, 4, "auto", Workspace(tmp_path))
    assert chosen.name in kept.read_text()
