"""Explainers against pytorch-grad-cam, captum and torch-cam, ROAD against pytorch-grad-cam's: ratios of times, interleaved in one run; and memory.

pip install -e '.[bench]'
python benchmarks/explainers.py [NAME ...]     all of them, or some: grad_cam, five, score_cam, memory, growth, road, curves, imputation

Prints medians and ratios and writes benchmarks/explainers.json. Random weights and images at 224 px: times don't depend on them. One thread.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from pellucid.core import registry
from pellucid.explainers.explain import explain
from pellucid.explainers.reading import sharing
from pellucid.measures.cost import peak_memory
from pellucid.measures.faithfulness import blur
from pellucid.measures.imputation import impute
from pellucid.measures.insertion_deletion import follow
from pellucid.measures.road import SHARES, follow_removal
from pellucid.measures.timing import in_turns
from pellucid.models.taps import ask

SIDE, BATCH = 224, 8
ROUNDS, ENOUGH = 7, 15.0  # more of what is over within so many seconds: a busy machine's noise is of some milliseconds
FIVE = ("grad_cam", "grad_cam_pp", "hires_cam", "layer_cam", "eigen_cam")
SCORED = {"resnet50": "layer1", "mobilenetv3_small_100": "last_map"}  # every channel is one pass, so few of them tell as much
GROWN = {  # network -> side of its images, methods: those that ask many times on small images
    "mobilenetv3_small_100": (224, FIVE),
    "deit_tiny_patch16_224": (224, ("attention_rollout", "grad_cam", "average_feature_map")),
    "resnet18": (32, ("score_cam", "ablation_cam", "fem", "occlusion", "integrated_gradients", "gradient_shap", "kernel_shap")),
}
NETWORKS = {"resnet50": "layer4", "mobilenetv3_small_100": "last_map"}  # name and the tap all libraries read


def grad_cam(name: str) -> dict[str, Any]:
    """Grad-CAM of a batch of 8: ours, pytorch-grad-cam's, captum's, torch-cam's, up to each one's own map."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import GradCAM as TorchCam

    model, images, targets = _ready(name, BATCH)
    (first, layer), (second, other), (third, last) = (_copied(model, NETWORKS[name]) for _ in range(3))
    theirs, captum, torchcam = GradCAM(first, [layer]), LayerGradCam(second, other), TorchCam(third, last)
    chosen = [ClassifierOutputTarget(int(k)) for k in targets]
    ours = registry.get("explainers", "grad_cam")
    jobs: dict[str, Callable[[int], object]] = {
        "pellucid": lambda _: ours(model, images, targets, tap=NETWORKS[name]),
        "pytorch-grad-cam": lambda _: theirs(input_tensor=images, targets=chosen),
        "captum": lambda _: captum.attribute(images, target=targets),
        "torch-cam": lambda _: torchcam(targets.tolist(), third(images)),
    }
    return _ratios(jobs, against="pellucid")


def five(name: str) -> dict[str, Any]:
    """Five CAM methods together against one forward pass with its head, batch 8: a plain call, and one in the layout that the methods use."""
    model, images, targets = _ready(name, BATCH)
    explainers = [registry.get("explainers", method) for method in FIVE]

    def together(_: int) -> None:
        with sharing():
            for explainer in explainers:
                explainer(model, images, targets, tap=NETWORKS[name])

    def forward(asked: Callable[[Tensor], Tensor]) -> Callable[[int], None]:
        def call(_: int) -> None:
            with torch.inference_mode():
                asked(images)

        return call

    jobs = {"forward": forward(model), "forward, channels last": forward(lambda x: ask(model, x)), "five methods": together}
    found = _ratios(jobs, against="forward")
    found["ratios"]["five methods over forward, channels last"] = (
        found["seconds"]["five methods"] / found["seconds"]["forward, channels last"]
    )
    return found


def score_cam(name: str, *, classes: int = 3) -> dict[str, Any]:
    """Score-CAM of one image for some classes: ours, exact and with passes in bfloat16, pytorch-grad-cam's, torch-cam's."""
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import ScoreCAM as TorchCam

    model, images, _ = _ready(name, 1)
    (first, layer), (second, other) = (_copied(model, SCORED[name]) for _ in range(2))
    theirs, torchcam = ScoreCAM(first, [layer]), TorchCam(second, other)
    ours = registry.get("explainers", "score_cam")

    def here(**settings: Any) -> list[Tensor]:
        with sharing():
            return [ours(model, images, torch.tensor([k]), tap=SCORED[name], **settings) for k in range(classes)]

    def grad_cam_library(_: int) -> None:
        for k in range(classes):
            theirs(input_tensor=images, targets=[ClassifierOutputTarget(k)])

    def torch_cam_library(_: int) -> None:
        for k in range(classes):
            with torch.no_grad():
                logits = second(images)
            torchcam(k, logits)

    jobs: dict[str, Callable[[int], object]] = {
        "pellucid": lambda _: here(),
        "pellucid, bf16": lambda _: here(precision="bf16"),
        "pytorch-grad-cam": grad_cam_library,
        "torch-cam": torch_cam_library,
    }
    pairs = zip(here(precision="bf16"), here(), strict=True)
    apart = max(((near - exact).abs().max() / exact.abs().max()).item() for near, exact in pairs)
    return {"classes": classes, "bf16, largest difference over the map's maximum": apart, **_ratios(jobs, against="pellucid", rounds=2)}


def memory(name: str) -> dict[str, Any]:
    """Largest sum of tensors alive at once during Score-CAM of one image, beyond weights and input."""
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, images, targets = _ready(name, 1)
    copied, layer = _copied(model, SCORED[name])
    theirs = ScoreCAM(copied, [layer])
    ours = registry.get("explainers", "score_cam")

    class Call(nn.Module):
        def __init__(self, inner: Callable[[Tensor], object], used: nn.Module) -> None:
            super().__init__()
            self.inner, self.used = inner, used

        def forward(self, images: Tensor) -> object:
            return self.inner(images)

    found = {
        "pellucid": peak_memory(Call(lambda x: ours(model, x, targets, tap=SCORED[name]), model), images),
        "pytorch-grad-cam": peak_memory(Call(lambda x: theirs(input_tensor=x, targets=[ClassifierOutputTarget(0)]), copied), images),
    }
    return {"bytes": found, "ratios": {"pytorch-grad-cam": found["pytorch-grad-cam"] / found["pellucid"]}}


def imputation(_: str) -> dict[str, Any]:
    """ROAD's imputation of one image of noise at five shares removed, without the noise that is added afterwards."""
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    torch.manual_seed(0)
    images = torch.randn(1, 3, SIDE, SIDE)
    rank = torch.rand(SIDE, SIDE).flatten().argsort().argsort().reshape(SIDE, SIDE)
    kept = [rank >= share * SIDE * SIDE for share in SHARES]
    theirs = NoisyLinearImputer(noise=0.0)
    jobs: dict[str, Callable[[int], object]] = {
        "pellucid": lambda _: [impute(images, mask[None]) for mask in kept],
        "pytorch-grad-cam": lambda _: [theirs(images[0], mask.float()) for mask in kept],
    }
    apart = max((impute(images, mask[None])[0] - theirs(images[0], mask.float())).abs().max().item() for mask in kept)
    return {"largest difference": apart, **_ratios(jobs, against="pellucid")}


def road(name: str) -> dict[str, Any]:
    """ROAD of four images as a whole, most relevant first at five shares, without noise: imputation and forward passes."""
    from pytorch_grad_cam.metrics.perturbation_confidence import PerturbationConfidenceMetric, RemoveMostRelevantFirst
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    model, images, targets = _ready(name, 4)
    maps = torch.rand(4, SIDE, SIDE).numpy()
    theirs = [PerturbationConfidenceMetric(RemoveMostRelevantFirst(100 * (1 - share), NoisyLinearImputer(noise=0.0))) for share in SHARES]
    chosen = [ClassifierOutputSoftmaxTarget(int(k)) for k in targets]

    def here(_: int) -> np.ndarray:
        return follow_removal(model, images, maps, targets.numpy(), noise=0.0)

    def there(_: int) -> np.ndarray:
        return np.stack([metric(images, maps, chosen, model, return_diff=False) for metric in theirs], 1)

    apart = float(np.abs(here(0) - there(0)).max())
    return {"largest difference": apart, **_ratios({"pellucid": here, "pytorch-grad-cam": there}, against="pellucid", rounds=3)}


def curves(name: str) -> dict[str, Any]:
    """Insertion and deletion of 100 images in one call, beside one pass for each image and step."""
    model, images, targets = _ready(name, 100)
    maps = torch.rand(100, SIDE, SIDE).numpy()

    def together(_: int) -> None:
        follow(model, images, maps, targets.numpy())

    def one_by_one(_: int) -> None:
        for i in range(100):
            blurred = blur(images[i : i + 1])
            rank = torch.from_numpy(maps[i]).flatten().argsort(descending=True).argsort().reshape(SIDE, SIDE)
            with torch.no_grad():
                for step in range(21):
                    changed = rank < SIDE * SIDE * step // 20
                    for first, second in ((images[i], blurred[0]), (blurred[0], images[i])):
                        model(torch.where(changed, first, second)[None]).softmax(1)

    return {"images": 100, **_ratios({"pellucid": together, "one by one": one_by_one}, against="pellucid", rounds=2)}


def growth(name: str) -> dict[str, Any]:
    """Memory of the process after 1,000 images explained by several methods, over that after the first 100."""
    side, methods = GROWN[name]
    model, images, _ = _ready(name, BATCH, side)
    few = {"kernel_shap": {"samples": 40, "segments": 10}, "gradient_shap": {"samples": 8}, "integrated_gradients": {"steps": 8}}
    resident = {}
    for done in range(BATCH, 1000 + BATCH, BATCH):
        explain(model, images + done, methods=methods, settings=few, baselines=images)  # of other methods settings have no effect
        if done in (104, 1000):
            gc.collect()
            resident[f"after {done} images"] = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    first, last = resident.values()
    return {"methods": list(methods), "side": side, "bytes": resident, "ratios": {"after 1000 images over after 104": last / first}}


# What runs, and on what: on each network, or on an image of noise alone.
BENCHMARKS = {
    **{function.__name__: (function, tuple(NETWORKS)) for function in (grad_cam, five, score_cam, memory)},
    **{function.__name__: (function, ("mobilenetv3_small_100",)) for function in (road, curves)},
    "growth": (growth, tuple(GROWN)),
    "imputation": (imputation, ("224 px",)),
}


def _ready(name: str, batch: int, side: int = SIDE) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10).eval()
    return model, torch.randn(batch, 3, side, side), torch.arange(batch) % 10


def _copied(model: nn.Module, tap: str) -> tuple[nn.Module, nn.Module]:
    """Return a copy of a network for one library, whose hooks stay on it, and the layer that the tap reads."""
    from pellucid.models.taps import find_taps

    copied = copy.deepcopy(model)
    return copied, copied.get_submodule(find_taps(model, size=SIDE, channels=3).find(tap).module)


def _ratios(jobs: dict[str, Callable[[int], object]], *, against: str, rounds: int = ROUNDS) -> dict[str, Any]:
    gc.collect()
    taken = in_turns(jobs, least=rounds, most=12 * rounds, seconds=ENOUGH)
    medians = {name: float(np.median(seconds)) for name, seconds in taken.items()}
    return {"seconds": medians, "ratios": {name: value / medians[against] for name, value in medians.items() if name != against}}


def main() -> None:
    """Run the benchmarks asked for, print their ratios, and keep them."""
    torch.set_num_threads(1)
    asked = [name for name in BENCHMARKS if name in sys.argv[1:]] or list(BENCHMARKS)
    path = Path(__file__).with_suffix(".json")
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    for benchmark in asked:
        run, names = BENCHMARKS[benchmark]
        for name in names:
            found = run(name)
            kept[f"{benchmark}/{name}"] = found
            print(benchmark, name, {other: f"{ratio:.2f}x" for other, ratio in found["ratios"].items()}, flush=True)
            path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
