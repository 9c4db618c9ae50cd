"""Networks that explainers are tested on: two whose maps other programs have made, and three of timm's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid.models.build import build


class OracleCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()
        self.conv3, self.relu3 = nn.Conv2d(12, 16, 3, padding=1), nn.ReLU()
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(self.relu1(self.conv1(images)))
        maps = self.relu3(self.conv3(self.pool(self.relu2(self.conv2(maps)))))
        return self.fc(nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1))


class OracleBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        changes = stride > 1 or before != after
        self.down = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)) if changes else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
        return self.relu(inner + self.down(maps))


class OracleResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.layer1, self.layer2, self.layer3 = OracleBlock(8, 8, 1), OracleBlock(8, 16, 2), OracleBlock(16, 24, 2)
        self.fc = nn.Linear(24, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(images))))))
        return self.fc(maps.mean((2, 3)))


@pytest.fixture
def oracle_network(oracle):
    """Return a function that rebuilds one of the two networks; statistics that aren't stored are batch counters, which eval mode ignores."""

    def rebuild(name: str) -> nn.Module:
        model = {"cnn": OracleCnn, "resnet": OracleResNet}[name]()
        weights = {key: torch.from_numpy(value) for key, value in oracle(f"unicam_cam/weights_{name}.npz").items()}
        missing = model.load_state_dict(weights, strict=False)
        assert not missing.unexpected_keys and all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
        return model.double()

    return rebuild


@dataclass(frozen=True)
class OracleCase:
    """A network, two images, a tap and two classes, with the maps that other programs made of them."""

    model: nn.Module
    images: Tensor
    tap: str
    which: str
    targets: Tensor
    maps: dict[str, np.ndarray]


PLACES = [("cnn", "relu3"), ("cnn", "relu2"), ("resnet", "layer3"), ("resnet", "layer1")]


@pytest.fixture(
    params=[(*place, size, which) for place in PLACES for size in ("x64x64", "x48x80") for which in ("pred", "next")], ids="-".join
)
def cam_case(request, oracle, oracle_network):
    """Return one of sixteen cases: two networks, two taps, square and other images, the predicted class and another one."""
    name, tap, size, which = request.param
    stored = oracle(f"unicam_cam/cams_{name}.npz")
    images = torch.from_numpy(oracle("unicam_cam/images.npz")[size]).double()
    start = f"{size}.{tap}.{which}."
    maps = {key.removeprefix(start): value for key, value in stored.items() if key.startswith(start)}
    return OracleCase(oracle_network(name), images, tap, which, torch.from_numpy(stored[f"{size}.{which}.classes"]), maps)


@pytest.fixture(scope="session", params=["resnet18", "densenet121", "mobilenetv3_small_100"])
def timm_network(request):
    """Return a network with random weights, four images of 64 px, classes, and its first tap (few channels)."""
    model = build(request.param, n_classes=3, size=64)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first = {"resnet18": "layer1", "densenet121": "stem", "mobilenetv3_small_100": "blocks.0"}[request.param]
    return model, images, torch.tensor([2, 0, 1, 2]), first


@pytest.fixture
def plain_parts():
    """Return a function that gives a module's activation and gradient [C, h, w] for one image's class by one whole backward pass."""

    def parts(model: nn.Module, image: Tensor, module: str, target: int) -> tuple[np.ndarray, np.ndarray]:
        kept = {}
        handle = model.get_submodule(module).register_forward_hook(lambda m, args, output: kept.update(map=output))
        logits = model.eval()(image[None])
        handle.remove()
        (gradient,) = torch.autograd.grad(logits[0, target], kept["map"])
        return kept["map"][0].detach().numpy(), gradient[0].numpy()

    return parts


class Paper(nn.Module):
    """Two channels, x and 2x, on the image itself; after the mean, logits are (3a - b, b)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(1, 2, 1, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        self.layer1.weight.data = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
        self.head.weight.data = torch.tensor([[3.0, -1.0], [0.0, 1.0]])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer1(images).mean((2, 3)))


class Cells(nn.Module):
    """Two channels, x and -x, on 2x2 pixels; the one logit weighs every cell of every channel by itself: 1 to 4, then -1, 2, -3, 4."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(1, 2, 1, bias=False)
        self.head = nn.Linear(8, 1, bias=False)
        self.layer1.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
        self.head.weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0, -1.0, 2.0, -3.0, 4.0]])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer1(images).flatten(1))


@pytest.fixture
def paper():
    """Return a network whose maps can be worked out on paper, behind a mean."""
    return Paper()


@pytest.fixture
def cells():
    """Return a network whose maps can be worked out on paper, each cell with a weight of its own."""
    return Cells()


IMAGE = torch.tensor([[4.0, -8.0], [0.0, 12.0]])[None, None]


@pytest.fixture
def image():
    """Return [[4, -8], [0, 12]] as a batch of one grey image."""
    return IMAGE.clone()
