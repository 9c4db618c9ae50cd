"""Network: one file that holds all it takes to use a classifier again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pellucid.core.errors import ModelError, WeightsError
from pellucid.core.records import ImageSpec, Task
from pellucid.data.dataset import Dataset, Subset
from pellucid.data.store import Store
from pellucid.data.views import to_input
from pellucid.models.build import build
from pellucid.models.saved import Network, load

SPEC = ImageSpec(32, 1, (0.4,), (0.2,), window=(1.0, 250.5))
TASK = Task("single", ("glioma", "kein Befund", "α"))


def network(**changes) -> Network:
    model = build("cnn5", n_classes=3, channels=1, size=32, seed=2, preset="small", depth=3)
    settings = {
        "model": model, "spec": SPEC, "task": TASK, "architecture": "cnn5", "options": {"preset": "small", "depth": 3},
        "history": [{"epoch": 1, "train.total": 0.1 + 0.2}], "best_epoch": 1, "precision": "bf16", "provenance": "from scratch, seed 2",
        "fingerprint": "0123456789abcdef",
    }  # fmt: skip
    return Network(**{**settings, **changes})


def test_round_trip_is_exact(tmp_path):
    """All tensors, statistics too, and every field come back as they were; the folder may have any name."""
    saved = network()
    saved.model.layer1[1].running_mean.fill_(0.123)
    saved.save(tmp_path / "Modelle für Köln" / "netz.safetensors")
    found = load(tmp_path / "Modelle für Köln" / "netz.safetensors")
    for name in ("spec", "task", "architecture", "options", "history", "best_epoch", "precision", "provenance", "fingerprint"):
        assert getattr(found, name) == getattr(saved, name), name
    expected, actual = saved.model.state_dict(), found.model.state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    images = torch.randn(5, 1, 32, 32)
    np.testing.assert_array_equal(found.logits(images), saved.logits(images))


def test_float64_network_stays_float64(tmp_path):
    saved = network()
    saved.model.double()
    saved.save(tmp_path / "n.safetensors")
    assert load(tmp_path / "n.safetensors").model.head.weight.dtype == torch.float64


def test_logits_restore_the_mode_and_do_not_depend_on_the_batch():
    found, images = network(), torch.randn(7, 1, 32, 32)
    found.model.train()
    found.model.layer2.eval()
    modes = [module.training for module in found.model.modules()]
    together, alone = found.logits(images), np.concatenate([found.logits(images[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.logits(images, batch_size=3), together, rtol=1e-5, atol=1e-6)
    assert together.dtype == np.float32 and together.shape == (7, 3)
    assert [module.training for module in found.model.modules()] == modes
    found.model.eval()
    with torch.no_grad():
        np.testing.assert_allclose(found.model(images).numpy(), together, rtol=1e-5, atol=1e-6)


def test_logits_of_a_subset_are_those_of_its_prepared_pixels():
    """A subset goes through the one path that resizes and normalises for the network."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 1), dtype=np.uint8)
    dataset = Dataset("made", TASK, [f"{i}.png" for i in range(6)], np.arange(6) % 3, read=lambda i: pixels[i], content="made")
    subset = Subset(dataset, Store(pixels), np.array([4, 1, 3]), "test")
    found = network()
    np.testing.assert_allclose(found.logits(subset, batch_size=2), found.logits(to_input(pixels[[4, 1, 3]], SPEC)), rtol=1e-5, atol=1e-6)
    assert found.logits(subset[:0]).shape == (0, 3)


def test_images_with_other_channels_are_refused_in_words():
    with pytest.raises(ModelError, match=r"cnn5 can't take images of \(3, 32, 32\)"):
        network().logits(torch.zeros(1, 3, 32, 32))


def test_module_of_ones_own_needs_the_module_to_be_loaded(tmp_path):
    """The file can't say how to build it; given the module, it fills it."""
    torch.manual_seed(0)
    make = lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))  # noqa: E731
    saved = network(model=make(), architecture="custom", options={})
    saved.save(tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match=r"load\(path, model=module\)"):
        load(tmp_path / "own.safetensors")
    found, images = load(tmp_path / "own.safetensors", model=make()), torch.randn(2, 1, 32, 32)
    np.testing.assert_array_equal(found.logits(images), saved.logits(images))
    with pytest.raises(WeightsError, match="don't fit") as caught:
        load(tmp_path / "own.safetensors", model=nn.Sequential(nn.Linear(2, 2)))
    assert "\n" not in str(caught.value)


def test_tied_weights_can_be_saved(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = nn.Linear(4, 4)
            self.b.weight = self.a.weight

    network(model=Tied(), architecture="custom").save(tmp_path / "n.safetensors")
    assert torch.equal(*(load(tmp_path / "n.safetensors", model=Tied()).model.state_dict()[name] for name in ("a.weight", "b.weight")))


HEADERS = {
    "no JSON": {}, "no task": {"task": None}, "strange kind": {"task.kind": "zz"}, "strange resizing": {"spec.interpolation": "zz"},
    "classes": {"task.classes": 3}, "format": {"format": "one"}, "epoch": {"best_epoch": [1]},
}  # fmt: skip


def broken(kind: str, path, whole: bytes) -> None:
    if kind == "missing":
        return
    if kind == "foreign":
        save_file({"a": torch.zeros(2)}, path)
    elif kind == "later":
        save_file({"a": torch.zeros(2)}, path, {"pellucid": json.dumps({"format": 99})})
    elif kind in HEADERS:
        header = json.loads(safe_open(path.with_name("whole.safetensors"), framework="pt").metadata()["pellucid"])
        for name, value in HEADERS[kind].items():
            section, _, key = name.rpartition(".")
            (header[section] if section else header)[key] = value
        save_file({"a": torch.zeros(2)}, path, {"pellucid": "{" if kind == "no JSON" else json.dumps(header)})
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "cut header": whole[:100], "cut tensors": whole[:-1000]}[kind])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "there is no such file"), ("empty", "can't be read"), ("text", "can't be read"), ("cut header", "can't be read"),
        ("cut tensors", "can't be read"), ("foreign", "set weights = PATH"), ("later", "later version"),
        ("no JSON", r"is damaged \(it is no JSON\)"), ("no task", r"is damaged \(task: "), ("strange kind", r"\(task.kind: input should be"),
        ("strange resizing", r"\(spec.interpolation: "), ("classes", r"\(task.classes: "), ("format", r"\(format: "), ("epoch", r"\(best_epoch: "),
    ],
)  # fmt: skip
def test_broken_and_foreign_files_are_one_line(tmp_path, kind, words):
    network().save(tmp_path / "whole.safetensors")
    path = tmp_path / "n.safetensors"
    broken(kind, path, (tmp_path / "whole.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
