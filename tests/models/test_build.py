"""build: every network by name, the same weights for the same seed, and weights from files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pellucid.core.errors import ModelError, SettingError, WeightsError
from pellucid.core.records import ImageSpec, Task
from pellucid.models import build as build_module
from pellucid.models.build import build, check_options, load_weights
from pellucid.models.saved import Network

WEIGHTS = Path(os.environ.get("PELLUCID_WEIGHTS", Path(__file__).parents[2] / ".." / "shared" / "weights"))


def states_equal(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["cnn5", "lcnet_035", "shufflenet_v2_x0_5"])
def test_seed_decides_the_weights_and_nothing_else_does(name):
    """The same seed gives the same weights whatever was drawn before; the global random state is left alone."""
    torch.manual_seed(1)
    first = build(name, n_classes=3, size=32, seed=7)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second, other = build(name, n_classes=3, size=32, seed=7), build(name, n_classes=3, size=32, seed=8)
    assert torch.equal(before, torch.random.get_rng_state())
    assert states_equal(first, second)
    assert not states_equal(first, other)
    assert first.provenance == "from scratch, seed 7"


@pytest.mark.parametrize("name", ["cnn5", "lcnet_035", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "deit_tiny_patch16_224"])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_classes_and_size_are_taken(name, channels):
    """Grey and colour images of a size that isn't the published one; transformers are laid out for it."""
    model = build(name, n_classes=5, channels=channels, size=48).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, channels, 48, 48)).shape == (2, 5)


@pytest.mark.parametrize(("name", "expected"), [("shufflenet_v2_x0_5", 343_842), ("mobilenetv3_small_100", 1_519_906)])
def test_published_parameter_counts(name, expected):
    """With two classes, as counted by the paper's own definition of each network."""
    assert sum(parameter.numel() for parameter in build(name, n_classes=2, size=64).parameters()) == expected


def test_mistyped_name_offers_the_nearest():
    with pytest.raises(ModelError, match='"densenet12"') as caught:
        build("densenet12", n_classes=2)
    assert "densenet121" in caught.value.near
    with pytest.raises(ModelError) as caught:
        build("cnn_5", n_classes=2)
    assert "cnn5" in caught.value.near


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [("cnn5", {"wdths": [8, 8, 8]}, "widths"), ("lcnet_035", {"colour": 1}, "colour"), ("shufflenet_v2_x0_5", {"colour": 1}, "colour")],
)
def test_unknown_setting_is_named(name, settings, named):
    with pytest.raises(SettingError, match=named):
        build(name, n_classes=2, size=32, **settings)


def test_what_follows_from_the_data_can_not_be_set():
    with pytest.raises(SettingError, match="n_classes"):
        check_options("cnn5", {"n_classes": 3}, where="student")


def test_options_are_checked_all_at_once():
    with pytest.raises(SettingError, match=r"\[student\].*wdths.*depth"):
        check_options("cnn5", {"wdths": 1, "depth": "deep"}, where="student")


@pytest.mark.parametrize(("name", "size", "enough"), [("densenet121", 8, 32), ("deit_tiny_patch16_224", 8, 16)])
def test_too_small_an_image_is_refused_with_a_size_that_works(name, size, enough):
    with pytest.raises(ModelError, match=rf"{name} can't take {size} px images .* data\.size \(or teacher\.size\) to {enough} or more"):
        build(name, n_classes=2, size=size)


def test_pretrained_without_a_connection_says_what_to_do(monkeypatch):
    """One line that names both ways out, at once instead of after a minute of retries."""
    monkeypatch.setattr(build_module, "_reachable", lambda address: False)
    monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(WeightsError, match="weights = PATH to a file, or pretrained = false") as caught:
        build("lcnet_035", n_classes=2, size=32, pretrained=True)
    assert "\n" not in str(caught.value)
    from huggingface_hub import constants

    assert not constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE")


def test_pretrained_own_network_is_refused():
    with pytest.raises(WeightsError, match="cnn5 has no published weights"):
        build("cnn5", n_classes=2, size=32, pretrained=True)


def test_two_origins_of_weights_contradict():
    with pytest.raises(SettingError, match="both set"):
        build("cnn5", n_classes=2, size=32, pretrained=True, weights="a.pth")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}])
def test_weights_of_a_pth_file_are_loaded_exactly(tmp_path, wrap):
    """Bare, inside ``state_dict`` or ``model``, and with the prefix that data-parallel training leaves."""
    source = build("cnn5", n_classes=3, size=32, seed=5)
    path = tmp_path / "Gewichte für später.pth"
    torch.save(wrap(source.state_dict()), path)
    found = build("cnn5", n_classes=3, size=32, seed=0, weights=str(path))
    assert states_equal(found, source)
    assert found.provenance.startswith("weights of Gewichte für später.pth (")


def test_weights_of_our_own_saved_network_are_loaded(tmp_path):
    source = build("cnn5", n_classes=3, size=32, seed=5)
    network = Network(source, ImageSpec(32, 3, (0.5,) * 3, (0.2,) * 3), Task("single", ("a", "b", "c")), "cnn5")
    network.save(tmp_path / "student.safetensors")
    assert states_equal(build("cnn5", n_classes=3, size=32, weights=str(tmp_path / "student.safetensors")), source)


def test_head_for_other_classes_is_left_out_and_said_so(tmp_path):
    source = build("lcnet_035", n_classes=10, size=32, seed=5)
    save_file(source.state_dict(), tmp_path / "ten.safetensors")
    found = build("lcnet_035", n_classes=4, size=32, seed=1, weights=str(tmp_path / "ten.safetensors"))
    fresh = build("lcnet_035", n_classes=4, size=32, seed=1)
    assert "head left out (10 classes there, 4 here)" in found.provenance
    assert torch.equal(found.conv_stem.weight, source.conv_stem.weight)
    assert torch.equal(found.classifier.weight, fresh.classifier.weight)


@pytest.mark.parametrize(("there", "here"), [(3, 1), (1, 3)])
def test_first_convolution_is_adapted_to_other_channels(tmp_path, there, here):
    """A grey image gives the same logits as the same image in three equal channels."""
    source = build("cnn5", n_classes=3, channels=there, size=32, seed=5).eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    found = build("cnn5", n_classes=3, channels=here, size=32, weights=str(tmp_path / "w.pth")).eval()
    grey = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found(grey.expand(-1, here, -1, -1)), source(grey.expand(-1, there, -1, -1)))
    assert f"from {there} to {here} channels" in found.provenance


def test_weights_of_another_network_are_refused_with_the_keys(tmp_path):
    torch.save(build("lcnet_035", n_classes=3, size=32).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"missing: layer1\.0\.weight.*not in this network: conv_stem\.weight"):
        build("cnn5", n_classes=3, size=32, weights=str(tmp_path / "w.pth"))


def test_weights_of_another_width_are_refused_with_the_shapes(tmp_path):
    torch.save(build("cnn5", n_classes=3, size=32, widths=[8, 8, 8]).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"other shape: .*\[8\] for \[4\]"):
        build("cnn5", n_classes=3, size=32, widths=[4, 4, 4], weights=str(tmp_path / "w.pth"))


class _Evil:
    def __reduce__(self):
        return (os.getcwd, ())


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pth", b""), ("b.pth", b"no weights at all"), ("c.safetensors", b"no weights at all"), ("d.safetensors", b"")],
)
def test_unreadable_weights_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match="can't be read as weights") as caught:
        build("cnn5", n_classes=3, size=32, weights=str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_files_that_hold_code_are_refused(tmp_path):
    """A pickle can run anything when it is opened, so only tensors are read."""
    torch.save({"state_dict": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="can't be read as weights"):
        build("cnn5", n_classes=3, size=32, weights=str(tmp_path / "evil.pth"))


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}])
def test_files_without_tensors_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds no named tensors"):
        build("cnn5", n_classes=3, size=32, weights=str(tmp_path / "w.pth"))


def test_missing_weights_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match="there is no such file"):
        build("cnn5", n_classes=3, size=32, weights=str(tmp_path / "none.pth"))


def test_load_weights_keeps_the_network_when_it_refuses(tmp_path):
    """A file that doesn't fit changes nothing, not even the tensors that would have fitted."""
    torch.save(build("cnn5", n_classes=3, size=32, widths=[4, 4, 8], seed=1).state_dict(), tmp_path / "w.pth")
    model = build("cnn5", n_classes=3, size=32, widths=[4, 4, 4], seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError):
        load_weights(model, tmp_path / "w.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_imagenet_weights_recognise_the_file_they_are(tmp_path):
    """Real float16 ImageNet weights load into a network of four grey-image classes, and give the tensors of the file."""
    path = WEIGHTS / "tf_efficientnet_lite0.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} isn't here (PELLUCID_WEIGHTS)")
    from safetensors.torch import load_file

    stored = load_file(path)
    model = build("tf_efficientnet_lite0", n_classes=4, channels=1, size=64, weights=str(path))
    assert "head left out (1000 classes there, 4 here)" in model.provenance
    assert "from 3 to 1 channels" in model.provenance
    torch.testing.assert_close(model.conv_stem.weight, stored["conv_stem.weight"].float().sum(1, keepdim=True))
    assert torch.equal(model.blocks[3][0].conv_dw.weight, stored["blocks.3.0.conv_dw.weight"].float())
