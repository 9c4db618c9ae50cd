"""Taps: named places found in any network by one dry run, and forward passes that hand out what flows there."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from pellucid.core.errors import ModelError, TapError
from pellucid.models.build import build
from pellucid.models.taps import ask, attentions, evaluating, find_taps, forward_with, run_from

# name, settings that make it small, size, spatial taps that must be there with their grids, last map, width of pooled
NETWORKS = [
    ("resnet18", {}, 64, {"stem": 32, "layer1": 16, "layer2": 8, "layer3": 4, "layer4": 2}, "layer4", 512),
    ("densenet121", {}, 96, {"stem": 48, "denseblock1": 24, "denseblock2": 12, "denseblock3": 6, "denseblock4": 3, "norm5": 3}, "norm5", 1024),
    ("vgg19_bn", {"mlp_ratio": 0.01}, 64, {"features.5": 64, "features.12": 32, "features.25": 16, "features.38": 8, "features.51": 4},
     "features.51", 4096),
    ("mobilenetv3_small_100", {}, 64, {"blocks.0": 16, "blocks.1": 8, "blocks.3": 4, "blocks.5": 2}, "blocks.5", 576),
    ("ghostnet_100", {}, 64, {"blocks.1": 16, "blocks.3": 8, "blocks.5": 4, "blocks.7": 2, "blocks.9": 2}, "blocks.9", 960),
    ("regnety_004", {}, 64, {"stem": 32, "s1": 16, "s2": 8, "s3": 4, "s4": 2}, "s4", 440),
    ("convnext_tiny", {}, 64, {"stem": 16, "stages.0": 16, "stages.1": 8, "stages.2": 4, "stages.3": 2}, "stages.3", 768),
    ("deit_tiny_patch16_224", {}, 96, {"patch_embed": 6, "blocks.0": 6, "blocks.10": 6, "blocks.11.norm1": 6}, "blocks.11.norm1", 192),
    ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 2, 1)}, 96, {"layers.0": 24, "layers.1": 12, "layers.2": 6, "layers.3": 3, "norm": 3},
     "norm", 768),
    ("visformer_tiny", {}, 96, {"stem": 48, "stage1": 12, "stage2": 6, "stage3": 3, "norm": 3}, "norm", 384),
    ("shufflenet_v2_x0_5", {}, 64, {"conv1": 32, "stage2": 8, "stage3": 4, "stage4": 2, "conv5": 2}, "conv5", 1024),
    ("tf_efficientnet_lite0", {}, 64, {"stem": 32, "blocks.1": 16, "blocks.2": 8, "blocks.4": 4, "blocks.6": 2, "bn2": 2}, "bn2", 1280),
    ("cnn5", {}, 64, {"layer1": 64, "layer2": 32, "layer3": 16, "layer4": 8, "layer5": 8}, "layer5", 264),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "size", "grids", "last", "width"), NETWORKS, ids=[row[0] for row in NETWORKS])
def test_taps_of_every_kind_of_network(name, settings, size, grids, last, width):
    """Stages are found under their own names; maps come as [N, C, h, w], match a plain hook, and carry gradient; logits stay the same."""
    model = build(name, n_classes=3, size=size, **settings).requires_grad_(False)
    taps = find_taps(model, size=size, channels=3)
    found = {tap.name: tap.grid for tap in taps.spatial}
    assert {tap: found.get(tap) for tap in grids} == {tap: (side, side) for tap, side in grids.items()}
    assert taps.last_map.name == last
    assert taps.pooled.shape == (width, 1, 1)

    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    names = [*found, "pooled", "last_map", "logits"]
    outputs = forward_with(model, images, names, gradients=True)
    with torch.no_grad():
        torch.testing.assert_close(outputs.logits.detach(), model.eval()(images), rtol=1e-4, atol=1e-5)
    for tap in taps.spatial:
        assert outputs[tap.name].shape == (2, *tap.shape)
    assert outputs["last_map"] is outputs[last]
    assert outputs["pooled"].shape == (2, width)
    chosen = (outputs.logits * torch.tensor([1.0, -0.5, 0.25])).sum()
    gradients = torch.autograd.grad(chosen, [outputs[tap] for tap in found])
    assert all(bool(gradient.flatten(1).any(1).all()) for gradient in gradients)


def test_map_is_the_module_output_whatever_the_layout():
    """Channels-last and token outputs are the module's own numbers, moved to [N, C, h, w]."""
    images = torch.randn(2, 3, 96, 96)
    swin = build("swin_tiny_patch4_window7_224", n_classes=2, size=96, depths=(1, 1, 1, 1)).eval()
    deit = build("deit_tiny_patch16_224", n_classes=2, size=96, depth=2).eval()
    seen = {}
    swin.layers[1].register_forward_hook(lambda m, a, out: seen.__setitem__("swin", out))
    deit.blocks[0].register_forward_hook(lambda m, a, out: seen.__setitem__("deit", out))
    swin_map, deit_map = forward_with(swin, images, ["layers.1"])["layers.1"], forward_with(deit, images, ["blocks.0"])["blocks.0"]
    assert seen["swin"].shape == (2, 12, 12, 192) and torch.equal(swin_map, seen["swin"].permute(0, 3, 1, 2))
    assert seen["deit"].shape == (2, 37, 192)  # the class token first
    assert torch.equal(deit_map[:, :, 1, 2], seen["deit"][:, 1 + 1 * 6 + 2])


def test_class_token_alone_is_pooled_so_the_last_block_is_no_tap():
    """The gradient of the logits on the patch tokens of blocks.11 is exactly 0, so maps are read at its first norm."""
    model = build("deit_tiny_patch16_224", n_classes=2, size=48, depth=3)
    taps = find_taps(model, size=48, channels=3)
    assert taps.last_map.name == "blocks.2.norm1"
    outputs = forward_with(model, torch.randn(1, 3, 48, 48), ["blocks.2"], gradients=True)
    (gradient,) = torch.autograd.grad(outputs.logits.sum(), outputs["blocks.2"])
    assert not gradient.any()


def test_blocks_deep_inside_an_encoder_are_found():
    """torchvision's transformer keeps its blocks two modules down; its class token alone is pooled too."""
    vit = torchvision.models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3)
    taps = find_taps(vit, size=32, channels=3)
    assert [tap.name for tap in taps.spatial] == ["conv_proj", "encoder_layer_0", "encoder_layer_1.ln_1"]
    assert taps.last_map.shape == (16, 4, 4) and taps.last_map.special == 1
    assert taps.pooled.shape == (16, 1, 1)


def test_averaged_tokens_keep_the_final_norm():
    """Where all tokens are averaged, the network's last norm is its last map."""
    model = build("vit_tiny_patch16_224", n_classes=2, size=48, depth=2, global_pool="avg", class_token=False, fc_norm=False)
    assert find_taps(model, size=48, channels=3).last_map.name == "norm"


class Flat(nn.Module):
    """As one writes it by hand: bare layers, one activation used three times and in place, a functional pool, valid padding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.max_pool2d(self.act(self.conv1(images)), 2)
        maps = self.act(self.conv2(maps))
        return self.fc(self.act(self.conv3(maps)).mean((2, 3)))


def test_bare_layers_are_tapped_after_their_activation():
    """A shared in-place ReLU is told apart by its calls; each convolution's name leads to the map after it."""
    model = Flat()
    taps = find_taps(model, size=20, channels=1)
    assert [(tap.name, tap.module, tap.call) for tap in taps.spatial] == [("conv1", "act", 0), ("conv2", "act", 1), ("conv3", "act", 2)]
    images = torch.randn(3, 1, 20, 20)
    outputs = forward_with(model, images, ["conv1", "conv2", "last_map", "pooled"])
    expected = nn.functional.relu(model.conv1(images))
    torch.testing.assert_close(outputs["conv1"], expected)
    torch.testing.assert_close(outputs["conv2"], nn.functional.relu(model.conv2(nn.functional.max_pool2d(expected, 2))))
    torch.testing.assert_close(outputs["pooled"], outputs["last_map"].mean((2, 3)))


class InPlace(nn.Module):
    """Overwrites each layer's output at once, by a function no hook can see."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.layer2 = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer1(images).relu_()
        return self.head(self.layer2(maps).sub_(1.0).mean((2, 3)))


@pytest.mark.parametrize("gradients", [False, True])
def test_in_place_operations_do_not_spoil_a_tap(gradients):
    """What is handed out is the module's output, not what the network made of it afterwards."""
    model, images = InPlace().eval(), torch.randn(2, 1, 12, 12)
    outputs = forward_with(model, images, ["layer1", "layer2"], gradients=gradients)
    torch.testing.assert_close(outputs["layer1"].detach(), model.layer1(images).detach())
    assert outputs["layer1"].min() < 0
    if gradients:
        (gradient,) = torch.autograd.grad(outputs.logits[:, 0].sum(), outputs["layer2"])
        torch.testing.assert_close(gradient, (model.head.weight[0] / 144)[None, :, None, None].expand(2, -1, 12, 12))


def test_network_inside_a_module_of_ones_own():
    """A wrapper's stages keep their short names; the full names work too."""

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = build("resnet10t", n_classes=4, size=64)
            self.out = nn.Linear(4, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.out(self.backbone(images))

    taps = find_taps(Wrapped(), size=64, channels=3)
    assert [tap.name for tap in taps.spatial][-4:] == ["layer1", "layer2", "layer3", "layer4"]
    assert taps.find("backbone.layer2") == taps.find("layer2")


def test_modules_that_are_no_stage_can_be_named_too():
    taps = find_taps(build("resnet18", n_classes=2, size=64), size=64, channels=3)
    assert taps.find("layer2.0").shape == (128, 8, 8)
    assert taps.find("last_map") is taps.spatial[-1]


def test_unknown_tap_lists_what_there_is():
    model = build("resnet10t", n_classes=2, size=64)
    with pytest.raises(
        TapError, match=r'no tap "layer5"\. Did you mean .*layer4.* Spatial taps: .*layer3, layer4 \(= last_map\)'
    ) as caught:
        forward_with(model, torch.zeros(1, 3, 64, 64), ["layer5"])
    assert "layer4" in caught.value.near


def test_choose_takes_the_deepest_grid_that_says_enough():
    """densenet121 gives 3x3 at the end for 96 px images, so maps are read at denseblock3 (6x6); named taps are taken as they are."""
    taps = find_taps(build("densenet121", n_classes=2, size=96), size=96, channels=3)
    assert taps.choose("auto").name == "denseblock3"
    assert taps.choose("auto", min_side=3).name == "norm5"
    assert taps.remark(taps.choose("auto")) == ""
    assert taps.choose("norm5").grid == (3, 3)
    assert "3x3" in taps.remark(taps.choose("norm5"))


def test_choose_falls_back_to_the_last_map_and_says_so():
    taps = find_taps(build("deit_tiny_patch16_224", n_classes=2, size=48, depth=2), size=48, channels=3)
    chosen = taps.choose("auto")
    assert chosen is taps.last_map
    assert "3x3" in taps.remark(chosen)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("cnn5", 33, 47), ("cnn5", 64, 96), ("lcnet_035", 33, 47), ("lcnet_035", 50, 49), ("swin_tiny_patch4_window7_224", 64, 96)],
)
def test_odd_and_non_square_images(name, height, width):
    """The grid follows the image; where channels are last, it isn't mistaken for them."""
    settings = {"depths": (1, 1, 1, 1), "strict_img_size": False} if name.startswith("swin") else {}
    model = build(name, n_classes=2, size=48, **settings)
    taps = find_taps(model, size=(height, width), channels=3)
    outputs = forward_with(model, torch.randn(1, 3, height, width), [tap.name for tap in taps.spatial])
    for tap in taps.spatial:
        h, w = outputs[tap.name].shape[2:]
        assert (h, w) == tap.grid
        assert abs(h / w - height / width) < 0.35


def test_dry_run_leaves_everything_as_it_was():
    """Mode flags (each module's own), statistics, gradients, hooks and the random state."""
    model = build("resnet10t", n_classes=2, size=32)
    model.train()
    model.layer2.eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    find_taps(model, size=32, channels=3)
    forward_with(model, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), ["layer1"], gradients=True)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("gradients", [False, True])
def test_forward_with_cleans_up_on_exception(gradients):
    model = build("cnn5", n_classes=2, size=32)
    find_taps(model, size=32, channels=3)
    model.train()

    def fail(module, args):
        raise RuntimeError("planted")

    handle = model.head.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="planted"):
        forward_with(model, torch.zeros(1, 3, 32, 32), ["layer2", "last_map"], gradients=gradients)
    handle.remove()
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.is_grad_enabled()


def test_dry_run_cleans_up_on_exception():
    model = build("cnn5", n_classes=2, size=32)
    with pytest.raises(ModelError, match=r"can't take images of \(1, 32, 32\)"):
        find_taps(model, size=32, channels=1)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_evaluating_restores_each_modules_own_flag_after_an_error():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout())
    model[0].eval()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == [True, False, True]


def test_gradients_under_no_grad_equal_those_with_trainable_parameters():
    model, images = build("cnn5", n_classes=3, size=32), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        outputs = forward_with(model.requires_grad_(False), images, ["layer2", "layer4"], gradients=True)
        assert not torch.is_grad_enabled()
    frozen = torch.autograd.grad(outputs.logits[:, 1].sum(), [outputs["layer2"], outputs["layer4"]])
    model.requires_grad_(True).eval()
    layers = {}
    model.layer2.register_forward_hook(lambda m, a, out: layers.__setitem__("layer2", out))
    model.layer4.register_forward_hook(lambda m, a, out: layers.__setitem__("layer4", out))
    expected = torch.autograd.grad(model(images)[:, 1].sum(), [layers["layer2"], layers["layer4"]])
    for found, wanted in zip(frozen, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_gradients_inside_inference_mode_are_refused_in_words():
    with torch.inference_mode():
        model = build("cnn5", n_classes=2, size=32)
        with pytest.raises(ModelError, match="inference_mode"):
            forward_with(model, torch.zeros(1, 3, 32, 32), ["layer1"], gradients=True)


def test_taps_are_found_and_read_inside_inference_mode():
    model = build("deit_tiny_patch16_224", n_classes=2, size=48, depth=2)
    with torch.inference_mode():
        outputs = forward_with(model, torch.zeros(1, 3, 48, 48), ["last_map"])
    assert outputs["last_map"].shape == (1, 192, 3, 3)


def test_second_question_is_answered_from_memory_and_memory_holds_no_network():
    model = build("cnn5", n_classes=2, size=32)
    calls = []
    handle = model.head.register_forward_hook(lambda *args: calls.append(1))
    first = find_taps(model, size=32, channels=3)
    assert find_taps(model, size=32, channels=3) is first
    assert len(calls) == 1
    find_taps(model, size=48, channels=3)
    assert len(calls) == 2
    handle.remove()
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_changed_network_is_looked_at_again():
    """Memory goes by the modules there are, so a network with another stage isn't described by the old one."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Conv2d(2, 2, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    assert len(find_taps(model, size=33, channels=1).spatial) == 2
    model.insert(3, nn.Conv2d(2, 2, 1))
    assert len(find_taps(model, size=33, channels=1).spatial) == 3


def test_images_are_moved_to_the_networks_type():
    model = build("cnn5", n_classes=2, size=32).double()
    assert forward_with(model, torch.zeros(1, 3, 32, 32), ["layer1"])["layer1"].dtype == torch.float64


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), TapError, "no map of more than one cell"),
        (nn.Conv2d(3, 4, 3), ModelError, "must map images"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(5, 2)), ModelError, "can't take images"),
    ],
)
def test_networks_without_taps_are_refused_in_words(model, error, words):
    with pytest.raises(error, match=words):
        find_taps(model, size=8, channels=3)


# ---- attention weights


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "visformer_tiny", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("fused", [False, True])
def test_attention_weights_are_those_of_the_unfused_path(name, fused):
    """Whatever the kernel was: the same as plain hooks read with fusion off by hand; logits as ever; fusion, mode and hooks put back."""
    settings = {"visformer_tiny": {"depth": (1, 1, 1)}, "swin_tiny_patch4_window7_224": {"depths": (1, 2, 1, 1)}}.get(name, {"depth": 2})
    model, images = build(name, n_classes=2, size=64, **settings).train(), torch.randn(2, 3, 64, 64)
    blocks = {block: module for block, module in model.named_modules() if hasattr(module, "fused_attn")}
    for module in blocks.values():
        module.fused_attn = fused
    outputs = attentions(model, images)
    assert all(module.fused_attn is fused for module in blocks.values())
    assert model.training and not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    seen = {}
    for block, module in blocks.items():
        module.fused_attn = False
        module.attn_drop.register_forward_hook(lambda m, args, out, block=block: seen.__setitem__(block, out))
    with torch.no_grad():
        logits = model.eval()(images)
    torch.testing.assert_close(outputs.logits, logits)
    assert list(outputs.maps) == list(blocks)
    for block in blocks:
        torch.testing.assert_close(outputs[block], seen[block])
        torch.testing.assert_close(outputs[block].sum(3), torch.ones_like(outputs[block][..., 0]))


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_of_torchs_own_module_is_read_and_carries_gradient(batch_first):
    """nn.MultiheadAttention: its own weights, the same logits, and gradients that equal finite differences along a direction."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1, self.head = nn.Conv2d(1, 8, 4, stride=4), nn.Linear(8, 3)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.layer1(images).flatten(2).transpose(1, 2)
            tokens = tokens if batch_first else tokens.transpose(0, 1)
            found = self.attention(tokens, tokens, value=tokens, need_weights=False)[0]
            return self.head(found.mean(1 if batch_first else 0))

    model, images = Own().double().requires_grad_(False).eval(), torch.randn(2, 1, 16, 16, dtype=torch.float64)
    tokens = model.layer1(images).flatten(2).transpose(1, 2)
    given = tokens if batch_first else tokens.transpose(0, 1)
    expected = model.attention(given, given, given, average_attn_weights=False)[1]
    with torch.no_grad():
        outputs = attentions(model, images, gradients=True)
    weights = outputs["attention"]
    torch.testing.assert_close(weights.detach(), expected)
    torch.testing.assert_close(outputs.logits.detach(), model(images))
    (gradient,) = torch.autograd.grad(outputs.logits[:, 1].sum(), weights)
    # The head reads the mean token, so a weight's gradient is its value's part of the logit, whatever the query.
    values = (tokens @ model.attention.in_proj_weight[16:].T + model.attention.in_proj_bias[16:]).unflatten(2, (2, 4))
    towards = (model.head.weight[1] @ model.attention.out_proj.weight).reshape(2, 4)
    torch.testing.assert_close(gradient, (torch.einsum("nkhd,hd->nhk", values, towards) / 16)[:, :, None].expand(-1, -1, 16, -1))


def test_attention_gradients_equal_those_of_a_trainable_network():
    """Frozen, and under no_grad: the total derivative, also through later blocks."""
    model, images = build("deit_tiny_patch16_224", n_classes=3, size=48, depth=3), torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        outputs = attentions(model.requires_grad_(False), images, gradients=True)
        assert not torch.is_grad_enabled()
    found = torch.autograd.grad(outputs.logits[:, 1].sum(), list(outputs.maps.values()))
    model.requires_grad_(True).eval()
    kept = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, args, out: kept.append(out))
    expected = torch.autograd.grad(model(images)[:, 1].sum(), kept)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_attention_reader_cleans_up_on_exception():
    model = build("deit_tiny_patch16_224", n_classes=2, size=48, depth=2).train()
    before = [block.attn.fused_attn for block in model.blocks]
    handle = model.norm.register_forward_pre_hook(lambda module, args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attentions(model, torch.zeros(1, 3, 48, 48), gradients=True)
    handle.remove()
    assert [block.attn.fused_attn for block in model.blocks] == before
    assert all(module.training for module in model.modules()) and torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["resnet10t", "xcit_nano_12_p16_224"])
def test_networks_without_attention_among_places_are_refused_in_words(name):
    """Also one that attends over channels."""
    with pytest.raises(ModelError, match=r"no attention weights to read.*attn_drop"):
        attentions(build(name, n_classes=2, size=32), torch.zeros(1, 3, 32, 32))


class Flattens(nn.Module):
    """Flattens its maps with `view`, as much code does; that fails where a pixel's channels lie side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 16 * 16, 2)

    def forward(self, images: Tensor) -> Tensor:
        self.layout = images.is_contiguous(memory_format=torch.channels_last)
        return self.head(self.conv(images).view(len(images), -1))


def test_asking_gives_the_logits_of_a_plain_call_in_the_layout_that_is_fast():
    network, images = build("mobilenetv3_small_100", n_classes=3, size=64).eval(), torch.rand(2, 3, 64, 64)
    seen = []
    network.conv_stem.register_forward_pre_hook(lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last)))
    with torch.no_grad():
        torch.testing.assert_close(ask(network, images), network(images), rtol=1e-5, atol=1e-6)
    assert seen[-2:] == [True, False]


def test_a_network_that_cannot_take_channels_last_is_asked_as_it_is():
    network, images = Flattens(), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(ask(network, images), network(images), rtol=0, atol=0)
    assert not network.layout and network.training


class Views(nn.Module):
    """Looks at each channel as an image of its own: with a pixel's channels side by side that is legal for one image, and not for two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        n, channels, height, width = images.shape
        maps = self.conv(images.view(n * channels, 1, height, width)).relu()
        return self.head(maps.mean((2, 3)).view(n, channels, -1).mean(1))


def test_the_layout_is_tried_with_more_than_one_image():
    images = torch.rand(3, 3, 16, 16)
    network = Views()
    assert ask(network, images[:1]).shape == (1, 2)
    torch.testing.assert_close(ask(network, images), network(images))


def test_a_changed_network_is_tried_again():
    network, images = (
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
        torch.rand(2, 3, 16, 16),
    )
    ask(network, images)
    network[1], network[2] = nn.Identity(), Viewed()
    network[3] = nn.Linear(8 * 16 * 16, 2)
    torch.testing.assert_close(ask(network, images), network(images))


class Viewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return self.inner(maps.view(len(maps), -1))


def test_a_fresh_network_is_run_from_a_tap_the_first_time_as_the_second():
    """The layout is tried before anything is put in, so that the trial takes no part in it."""
    network, image = build("cnn5", n_classes=3, size=32, preset="small"), torch.rand(1, 3, 32, 32)
    maps = torch.rand(4, *find_taps(network, size=32, channels=3).last_map.shape)
    first, second = (run_from(network, image, "last_map", maps) for _ in range(2))
    assert first.shape == (4, 3)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_what_comes_behind_the_classifier_is_no_stage():
    """VOLO has a second classifier, for every place, behind the one for the whole image."""
    taps = find_taps(timm.create_model("volo_d1_224", num_classes=2), size=224, channels=3)
    assert taps.pooled.module == "head" and "aux_head" not in [tap.name for tap in taps.spatial]


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("how", ["compiled", "module.compile()", "traced"])
def test_compiled_networks_are_refused_in_words(how):
    model = timm.create_model("resnet18", num_classes=2).eval()
    if how == "module.compile()":
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager") if how == "compiled" else torch.jit.trace(model, torch.zeros(1, 3, 32, 32))
    with pytest.raises(ModelError, match="is compiled, so nobody can look into it"):
        find_taps(model, size=64, channels=3)


def test_threads_that_look_at_one_network_take_turns():
    """Modes and hooks belong to the pass that set them: side by side, passes give what they give alone."""
    model, images = timm.create_model("resnet18", num_classes=2).train(), torch.rand(8, 2, 3, 64, 64)
    alone = [forward_with(model, batch, ["layer2"], gradients=True)["layer2"] for batch in images]
    with ThreadPoolExecutor(4) as threads:
        beside = list(threads.map(lambda batch: forward_with(model, batch, ["layer2"], gradients=True)["layer2"], images))
    assert all(torch.equal(one, other) for one, other in zip(alone, beside, strict=True))
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_lazy_networks_are_refused_in_words():
    with pytest.raises(ModelError, match="Call it once on some images"):
        find_taps(nn.Sequential(nn.LazyConv2d(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2)), size=32, channels=3)


def test_networks_that_share_modules_take_turns_too():
    shared, images = timm.create_model("resnet18", num_classes=2).train(), torch.rand(8, 2, 3, 64, 64)
    networks = [nn.Sequential(shared), nn.Sequential(shared, nn.Softmax(1))]
    alone = [forward_with(networks[i % 2], batch, ["layer2"], gradients=True)["layer2"] for i, batch in enumerate(images)]
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(forward_with, networks[i % 2], batch, ["layer2"], gradients=True) for i, batch in enumerate(images)]
    assert all(torch.equal(one, other.result()["layer2"]) for one, other in zip(alone, asked, strict=True))
    assert all(module.training for module in shared.modules())
