"""Attention rollout against its papers' whole products, on class tokens, two special tokens, none, and merged tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pellucid.core.errors import ModelError, TargetError
from pellucid.explainers.attention_rollout import attention_rollout
from pellucid.models.build import build
from pellucid.models.taps import evaluating

# name, settings, side, special tokens, tokens that the classifier reads, the attention modules that are rolled out
NETWORKS = {
    "class token": ("deit_tiny_patch16_224", {"depth": 3}, 64, 1, [0], "blocks."),
    "two special tokens": ("deit_tiny_distilled_patch16_224", {"depth": 3}, 64, 2, [0, 1], "blocks."),
    "registers": ("vit_tiny_patch16_224", {"depth": 2, "reg_tokens": 4}, 48, 5, [0], "blocks."),
    "mean of patches beside a class token": ("vit_tiny_patch16_224", {"depth": 2, "global_pool": "avg"}, 48, 1, list(range(1, 10)), "blocks."),
    "no special token": ("vit_tiny_patch16_224", {"depth": 2, "global_pool": "avg", "class_token": False}, 48, 0, list(range(9)), "blocks."),
    "merged tokens": ("visformer_tiny", {"depth": (1, 2, 2)}, 96, 0, list(range(9)), "stage3."),
}  # fmt: skip


def settled(name: str, settings: dict, side: int) -> nn.Module:
    """Build a network in float64 whose batch norms know what comes: untrained ones let activations explode."""
    model = build(name, n_classes=3, size=side, **settings).double().train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(8, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    return model


def attended(model: nn.Module, image: Tensor, target: int, within: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights [heads, T, T] of each block and their gradients, read by timm's own unfused path and plain hooks."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    weights: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: Tensor) -> None:
        output.retain_grad()
        weights.append(output)

    places = [module for name, module in model.named_modules() if name.startswith(within) and name.endswith("attn_drop")]
    handles = [module.register_forward_hook(keep) for module in places]
    with evaluating(model):
        model(image)[0, target].backward()
    for handle in handles:
        handle.remove()
    return [each.detach()[0] for each in weights], [each.grad[0] for each in weights]


@pytest.mark.parametrize("case", NETWORKS)
def test_rollout_equals_the_whole_product(case):
    """Both papers' formulas, image by image, all rows of all blocks; the rows that the classifier reads are those named above."""
    name, settings, side, special, read, within = NETWORKS[case]
    model = settled(name, settings, side)
    images = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, 0])
    plain, gradient = (attention_rollout(model, images, targets, variant=variant) for variant in ("plain", "gradient"))
    assert plain.dtype == torch.float64 and model.training
    for i in range(2):
        weights, gradients = attended(model, images[i : i + 1], int(targets[i]), within)
        whole = by_class = one = torch.eye(weights[0].shape[1], dtype=torch.float64)
        for weight, grad in zip(weights, gradients, strict=True):
            mixing = weight.mean(0) + one
            whole = mixing / mixing.sum(1, keepdim=True) @ whole
            by_class = by_class + (grad * weight).clamp(min=0).mean(0) @ by_class
        torch.testing.assert_close(plain[i].flatten(), whole[read].mean(0)[special:], rtol=1e-6, atol=1e-9)
        # Every row of A + I holds the patch itself; next to that, what attention adds is looked at.
        expected = (by_class - one)[read].mean(0)[special:]
        torch.testing.assert_close(gradient[i].flatten(), expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))
        assert float(whole[read].mean(0).sum()) == pytest.approx(1)


class Step(nn.Module):
    """One head that attends as it is told: a quarter to the token itself, the rest to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.attn_drop = nn.Dropout(0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        one = torch.eye(4)
        weights = (0.25 * one + 0.75 * one.roll(1, 1)).expand(len(tokens), 1, 4, 4)
        return tokens + self.attn_drop(weights)[:, 0] @ tokens


class Chain(nn.Module):
    """A user's own network: two such blocks; the classifier reads the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.step1, self.step2, self.head = nn.Conv2d(1, 2, 1), Step(), Step(), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.layer1(images).flatten(2).transpose(1, 2)
        return self.head(self.step2(self.step1(tokens))[:, 0])


def test_rollout_by_hand():
    """Half stays, an eighth goes through oneself, three eighths to the next: after two blocks 25, 30 and 9 of 64 have come from tokens 0, 1, 2."""
    maps = attention_rollout(Chain().train(), torch.randn(1, 1, 2, 2), torch.tensor([1]))
    torch.testing.assert_close(maps, torch.tensor([[[25.0, 30.0], [9.0, 0.0]]]) / 64)


def test_plain_rollout_knows_no_class_and_the_gradient_form_does():
    model, image = build("deit_tiny_patch16_224", n_classes=3, size=48, depth=2), torch.randn(1, 3, 48, 48)
    one, other = (attention_rollout(model, image, torch.tensor([target])) for target in (0, 1))
    assert torch.equal(one, other)
    one, other = (attention_rollout(model, image, torch.tensor([target]), variant="gradient") for target in (0, 1))
    assert not torch.allclose(one, other)
    assert (one >= 0).all()


def test_many_images_are_taken_in_chunks():
    """An image's map is the same wherever it stands among more images than are held at once."""
    model, images = build("deit_tiny_patch16_224", n_classes=3, size=32, depth=2), torch.randn(19, 3, 32, 32)
    targets = torch.arange(19) % 3
    for variant in ("plain", "gradient"):
        together = attention_rollout(model, images, targets, variant=variant)
        alone = attention_rollout(model, images[17:18], targets[17:18], variant=variant)
        torch.testing.assert_close(together[17:18], alone, rtol=1e-5, atol=1e-7 * float(alone.max()))
    with pytest.raises(TargetError, match="one class per image"):
        attention_rollout(model, images, targets[:8])


@pytest.mark.parametrize(
    ("name", "settings", "size", "words"),
    [
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}, 64, "attends within windows.*Take grad_cam"),
        ("resnet10t", {}, 32, "ResNet has no attention weights to read.*grad_cam"), ("cait_xxs24_224", {"depth": 2}, 32, "add up to one"),
    ],
)  # fmt: skip
def test_networks_without_a_rollout_are_refused_in_words(name, settings, size, words):
    with pytest.raises(ModelError, match=words):
        attention_rollout(build(name, n_classes=2, size=size, **settings), torch.zeros(1, 3, size, size), torch.tensor([0]))


def test_plain_rollout_works_inside_inference_mode_and_the_gradient_form_says_why_not():
    model, image = build("deit_tiny_patch16_224", n_classes=2, size=48, depth=2), torch.randn(1, 3, 48, 48)
    expected = attention_rollout(model, image, torch.tensor([1]))
    with torch.inference_mode():
        torch.testing.assert_close(attention_rollout(model, image, torch.tensor([1])), expected)
        with pytest.raises(ModelError, match="inference_mode"):
            attention_rollout(model, image, torch.tensor([1]), variant="gradient")


def test_a_classifier_of_zeros_is_asked_again_once_it_has_learnt():
    """All tokens alike while nothing is read; the class token afterwards."""
    model, image = build("deit_tiny_patch16_224", n_classes=2, size=48, depth=2), torch.randn(1, 3, 48, 48)
    weight = model.head.weight.data.clone()
    model.head.weight.data.zero_()
    before = attention_rollout(model, image, torch.tensor([0]))
    model.head.weight.data.copy_(weight)
    after = attention_rollout(model, image, torch.tensor([0]))
    fresh = build("deit_tiny_patch16_224", n_classes=2, size=48, depth=2)
    torch.testing.assert_close(after, attention_rollout(fresh, image, torch.tensor([0])))
    assert not torch.allclose(before, after)
