import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from pellucid.core.records import even_centres
from pellucid.models.centres import find_centres
from pellucid.models.taps import find_taps, forward_with


def in_pixels(model: nn.Module, tap: str, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Return the first cell's centre and the step, down and across, in pixels of the image (pixel 0 has its centre at 0.5)."""
    found = find_centres(model, tap, size=size, channels=3)
    assert found is not None
    return [(round(first * side, 3), round(step * side, 3)) for (first, step), side in zip(found, size, strict=True)]


# By hand: a kernel k, padded p, with stride s takes cell i to pixel s*i + (k - 1)/2 - p; layer upon layer, plus a half for the pixel's middle.
@pytest.mark.parametrize(
    ("name", "tap", "size", "expected"),
    [
        ("resnet18", "layer4", 224, (0.5, 32)),  # every strided kernel stands on the first of two pixels
        ("resnet18", "layer2", 96, (0.5, 8)),
        ("resnet18", "layer4", 100, (0.5, 32)),  # also where the side is no multiple of the stride
        ("densenet121", "denseblock2", 96, (2.5, 8)),  # two such strides, then pooling that is even-handed
        ("vgg19_bn", "last_map", 64, (8, 16)),  # pooling alone: even
        ("tf_efficientnet_lite0", "last_map", 192, (31.5, 32)),  # TensorFlow's padding is put after, not before
        ("mobilenetv3_small_100", "last_map", 128, (0.5, 32)),  # with gates and hard swish
        ("ghostnet_100", "last_map", 128, (0.5, 32)),
        ("convnext_tiny", "last_map", 64, (16, 32)),  # patches: even
        ("visformer_tiny", "last_map", 224, (16, 32)),  # half a pixel off of a cell of 32 counts as even
        ("deit_tiny_patch16_224", "last_map", 224, (8, 16)),
        ("swin_tiny_patch4_window7_224", "last_map", 224, (16, 32)),
        (
            "ese_vovnet19b_dw",
            "last_map",
            224,
            (28.5, 32),
        ),  # 4i + 0.5, then thrice pooling of three pixels, whose last window reaches beyond the image
        ("resnetv2_50x1_bit", "last_map", 64, (0.5, 32)),  # standardised weights, padding of its own
        ("dm_nfnet_f0", "stem", 64, (3.5, 4)),  # twice with a step of two and padding put after: 2(2i + 1) + 1
        ("resnest14d", "layer1", 96, (0.5, 4)),  # a softmax between branches
        ("pvt_v2_b0", "last_map", 96, (0.5, 32)),  # attention to fewer keys than tokens
    ],
)
def test_cells_look_where_strides_and_padding_put_them(name: str, tap: str, size: int, expected: tuple[float, float]) -> None:
    model = timm.create_model(name, num_classes=3)
    assert in_pixels(model, tap, (size, size)) == [pytest.approx(expected, abs=0.01)] * 2


def test_height_and_width_are_found_apart() -> None:
    down, across = in_pixels(timm.create_model("tf_efficientnet_lite0", num_classes=2), "last_map", (96, 128))
    assert (down, across) == (pytest.approx((31.5, 32)), pytest.approx((31.5, 32)))
    down, across = in_pixels(torchvision.models.resnet18(), "layer4", (90, 131))
    assert (down, across) == (pytest.approx((0.5, 32)), pytest.approx((0.5, 32)))


class OwnNetwork(nn.Module):
    """Functional pooling and padding, as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding="same"), nn.Conv2d(8, 8, 3, stride=2)
        self.head = nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.max_pool2d(torch.relu(self.first(images)), 2)
        maps = self.second(functional.pad(maps, (1, 0, 1, 0)))
        return self.head(maps.mean((2, 3)))


def test_functions_of_users_own_networks_are_seen() -> None:
    # Pooling: 2i + 0.5. Padded ahead by one, cell j of the second convolution stands on pooled cell 2j: pixel 4j + 0.5, plus a half.
    assert in_pixels(OwnNetwork(), "second", (32, 32)) == [pytest.approx((1.0, 4.0))] * 2


def test_a_network_that_no_blank_is_known_of_is_drawn_as_cut_evenly() -> None:
    class Squared(nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps * maps

    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), Squared(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))  # fmt: skip
    assert find_centres(model, "last_map", size=(32, 32), channels=3) is None


def test_what_a_network_says_to_such_numbers_is_no_error() -> None:
    class Picky(OwnNetwork):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.amax() > 0.9:
                raise ValueError("too bright")
            return super().forward(images)

    assert find_centres(Picky(), "second", size=(32, 32), channels=3) is None


def test_steps_that_are_no_strides_are_not_believed() -> None:
    """Attention of a form of its own mixes the whole image into every cell: centres crowd in the middle."""
    model = timm.create_model("efficientvit_b0", num_classes=2)
    assert find_centres(model, "last_map", size=(224, 224), channels=3) is None


def test_autocast_and_memory_layout_change_nothing() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert in_pixels(timm.create_model("resnet18", num_classes=2), "layer4", (64, 64)) == [pytest.approx((0.5, 32))] * 2
    model = timm.create_model("resnet18", num_classes=2).to(memory_format=torch.channels_last)
    assert in_pixels(model, "layer4", (64, 64)) == [pytest.approx((0.5, 32), abs=0.01)] * 2


def test_a_bright_spot_is_answered_by_the_cell_that_looks_there() -> None:
    model = timm.create_model("resnet18", num_classes=2).eval()
    (first, step), _ = in_pixels(model, "layer2", (128, 128))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.abs_()  # so that a spot adds in every cell that sees it
    image = torch.zeros(1, 3, 128, 128)
    spot = int(first + 7 * step)  # the pixel in the middle of what cell 7 sees
    image[..., spot, spot] = 1.0
    seen = (forward_with(model, image, ["layer2"])["layer2"] - forward_with(model, 0 * image, ["layer2"])["layer2"])[0].abs().sum(0)
    assert divmod(int(seen.argmax()), seen.shape[1]) == (7, 7)


def test_mode_gradients_and_statistics_stay_as_they_were() -> None:
    model = timm.create_model("resnet18", num_classes=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_centres(model, "layer4", size=(64, 64), channels=3)
    assert model.training and all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_half_precision_and_inference_mode() -> None:
    model = timm.create_model("resnet18", num_classes=2).to(torch.bfloat16)
    with torch.inference_mode():
        assert in_pixels(model, "layer4", (64, 64)) == [pytest.approx((0.5, 32))] * 2


def headed(*layers: nn.Module, depth: int = 8) -> nn.Sequential:
    """Return a classifier of these layers, with the pooling and linear layer that every network has."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(depth, 2))


class Branches(nn.Module):
    """Two ways, one of them by a learnt factor, as ReZero, SkipInit and LayerScale have."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.way, self.factor = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Parameter(torch.tensor(factor))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.factor * self.way(images) + functional.avg_pool2d(images, 2).repeat(1, 3, 1, 1)[:, :8]


@pytest.mark.parametrize("factor", [1.0, 0.0, -0.99])
def test_learnt_factors_move_no_centre(factor: float) -> None:
    # The convolution looks at pixel 2i, which is place 0.5 of the first cell, the pooling at 1: their mean.
    assert in_pixels(headed(Branches(factor)), "0", (32, 32)) == [pytest.approx((0.75, 2.0))] * 2


class Maxima(nn.Module):
    """The largest of each window in another way than by ``max_pool2d`` alone."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        height, width = maps.shape[2:]
        if self.how == "adaptive":
            return functional.adaptive_max_pool2d(maps, (height // 2, width // 2))
        if self.how == "indices":
            return functional.max_pool2d(maps, 2, return_indices=True)[0]
        if self.how == "dilated":
            return functional.max_pool2d(maps, 2, stride=2, dilation=2)
        windows = maps.unflatten(2, (height // 2, 2)).unflatten(4, (width // 2, 2))
        return windows.amax((3, 5)) if self.how == "amax" else windows.flatten(5).transpose(3, 4).flatten(4).topk(1)[0][..., 0]


@pytest.mark.parametrize(("how", "first"), [("adaptive", 1.0), ("indices", 1.0), ("dilated", 1.5), ("amax", None), ("topk", None)])
def test_a_maximum_looks_at_its_windows_middle_or_is_not_known(how: str, first: float | None) -> None:
    model = headed(nn.Conv2d(3, 8, 3, padding=1), Maxima(how), nn.Conv2d(8, 8, 1))
    if first is None:
        assert find_centres(model, "last_map", size=(32, 32), channels=3) is None
    else:
        assert in_pixels(model, "last_map", (32, 32)) == [pytest.approx((first, 2.0))] * 2


class Context(nn.Module):
    """Adds to every place what is gathered from the whole image."""

    def __init__(self, gather: str) -> None:
        super().__init__()
        self.gather = gather

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if self.gather == "attention":
            weights = maps.mean(1, keepdim=True).flatten(2).softmax(-1)  # [N, 1, places]
            return maps + (maps.flatten(2) * weights).sum(-1)[..., None, None]
        if self.gather == "pool":
            return maps + functional.adaptive_avg_pool2d(maps, 1)
        return maps + maps.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("gather", ["mean", "pool", "attention"])
def test_what_is_gathered_from_the_whole_image_moves_no_centre(gather: str) -> None:
    model = headed(nn.Conv2d(3, 8, 3, stride=4, padding=1), Context(gather), nn.Conv2d(8, 8, 1))
    assert in_pixels(model, "last_map", (32, 32)) == [pytest.approx((0.5, 4.0))] * 2


def test_layers_that_mix_all_places_are_not_believed() -> None:
    assert find_centres(timm.create_model("mixer_s32_224", num_classes=2), "last_map", size=(224, 224), channels=3) is None


def test_even_and_unknown_are_two_things() -> None:
    assert find_centres(timm.create_model("vgg11", num_classes=2), "last_map", size=(64, 64), channels=3) == even_centres((4, 4))
    assert find_centres(timm.create_model("hrnet_w18_small", num_classes=2), "last_map", size=(64, 64), channels=3) is None


def test_a_network_that_was_changed_is_looked_at_anew() -> None:
    """As people make an ImageNet network one for small images: strides changed, or modules replaced by others of the same name."""
    model = torchvision.models.resnet18(num_classes=2)
    assert in_pixels(model, "layer1", (64, 64)) == [pytest.approx((0.5, 4.0))] * 2
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    assert in_pixels(model, "layer1", (64, 64)) == [pytest.approx((0.5, 1.0))] * 2
    assert find_taps(model, size=64, channels=3).find("layer1").grid == (64, 64)
    model.conv1.stride = (2, 2)
    assert in_pixels(model, "layer1", (64, 64)) == [pytest.approx((0.5, 2.0))] * 2


@pytest.mark.parametrize("summed", [True, False])
def test_forward_passes_of_any_habit_are_no_error(summed: bool) -> None:
    class Habits(OwnNetwork):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if summed:
                return super().forward(images.sum(0, keepdim=True)).expand(len(images), -1)
            return super().forward(images.double() if images.mean() > 0.2 and len(images) > 2 else images)

    assert (find_centres(Habits(), "second", size=(32, 32), channels=3) is None) is summed


def test_a_run_as_a_blank_leaves_no_trace() -> None:
    """What a network keeps between passes, its buffers and its draws know nothing of it."""
    passes = []

    class Keeping(OwnNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))
            self.last = None

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.seen += len(images)
            self.last = images
            passes.append(len(images))
            return super().forward(functional.dropout(images, 0.5, training=True))

    model = Keeping()
    find_taps(model, size=32, channels=3)
    seen, last, state = float(model.seen), model.last, torch.get_rng_state()
    find_centres(model, "second", size=(32, 32), channels=3)
    assert passes == [1, 6]  # the dry run, and the blank
    assert float(model.seen) == seen and model.last is last
    assert torch.equal(torch.get_rng_state(), state)


def test_defaults_of_type_and_device_change_nothing() -> None:
    model = timm.create_model("resnet18", num_classes=2)
    find_taps(model, size=224, channels=3)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert in_pixels(model, "layer4", (224, 224)) == [pytest.approx((0.5, 32))] * 2
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert in_pixels(model, "layer4", (96, 96)) == [pytest.approx((0.5, 32))] * 2


@pytest.mark.parametrize("gives", ["itself", "its own weights"])
def test_a_network_that_gives_itself_away_when_copied_stays_as_it_is(gives: str) -> None:
    class Given(OwnNetwork):
        def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
            if gives == "itself":
                return self
            other = Given()
            other.first.weight = self.first.weight
            return other

    model = Given()
    assert find_centres(model, "second", size=(32, 32), channels=3) is None
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("how", ["hook", "forward"])
def test_what_hooks_do_is_not_known(how: str) -> None:
    """One may belong to the network, as one that pads; with it taken off again, it is looked at anew."""
    model = headed(nn.Conv2d(3, 8, 2, stride=2), nn.Conv2d(8, 8, 1))
    if how == "hook":
        handle = model[0].register_forward_pre_hook(lambda module, args: (functional.pad(args[0], (1, 0, 1, 0)),))
    else:
        old = model[0].forward
        model[0].forward = lambda images: old(functional.pad(images, (1, 0, 1, 0)))
    assert find_centres(model, "last_map", size=(32, 32), channels=3) is None
    if how == "hook":
        handle.remove()
        assert in_pixels(model, "last_map", (32, 32)) == [pytest.approx((1.0, 2.0))] * 2


def test_what_a_pass_left_in_the_network_does_not_matter() -> None:
    class Storing(OwnNetwork):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.features = self.first(images)
            return super().forward(images)

    model = Storing()
    model(torch.rand(1, 3, 32, 32))  # with its graph
    assert in_pixels(model, "second", (32, 32)) == [pytest.approx((1.0, 4.0))] * 2
