"""Size and work, counted against numbers worked out by hand."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.measures import cost as c


def test_multiply_adds_of_densenet121():
    """At 224 px with 1,000 classes; agrees with fvcore's count without its norm and pool terms."""
    import timm

    assert c.multiply_adds(timm.create_model("densenet121"), size=224, channels=3) == 2_834_161_664


def test_multiply_adds_of_the_papers_cnn5():
    """Widths 16 32 64 104 264 at 224 px with four classes; sum of 9 * c_in * c_out * side^2, and the head."""
    from pellucid.models.cnn5 import cnn5

    assert c.multiply_adds(cnn5(n_classes=4, channels=3, size=224), size=224, channels=3) == 232_679_712


def test_multiply_adds_see_fused_attention():
    """One block, 197 tokens, 3 heads of 64: the two attention products count too (2 * heads * N * N * d)."""
    import timm

    model = timm.create_model("deit_tiny_patch16_224", depth=1)
    tokens, width = 197, 192
    embed = 196 * width * 3 * 16 * 16
    block = tokens * (width * 3 * width + width * width + 2 * width * 4 * width)
    attention = 2 * 3 * tokens * tokens * 64
    assert c.multiply_adds(model, size=224, channels=3) == embed + block + attention + width * 1000


def test_counting_leaves_the_mode_of_every_module_as_it_was():
    """A user who trains on afterwards trains the same network: a frozen batch norm stays frozen."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 6 * 6, 2)).train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    c.multiply_adds(model, size=8, channels=1)
    c.peak_memory(model, torch.zeros(2, 1, 8, 8))
    assert [module.training for module in model.modules()] == before
    assert model[1].num_batches_tracked == 0


def test_parameters_count_shared_ones_once():
    """Two names for one layer are one layer."""
    layer = nn.Linear(3, 3, bias=False)
    assert c.parameters(nn.Sequential(layer, layer)) == 9


def test_peak_memory_by_hand():
    """Ten images: 20, 20, then 5 numbers each of 4 bytes. At the ReLU its input and output are alive: 10 * (20 + 20) * 4."""
    model = nn.Sequential(nn.Linear(7, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False))
    assert c.peak_memory(model, torch.zeros(10, 7)) == 10 * 40 * 4


def test_peak_memory_does_not_count_views_weights_or_work_in_place():
    """Flattening makes no copy, an in-place ReLU no new tensor, and the input isn't the network's."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 30, bias=False), nn.ReLU(inplace=True), nn.Flatten(), nn.Identity())
    assert c.peak_memory(model, torch.zeros(4, 3, 2, 2)) == 4 * 30 * 4


def test_peak_memory_holds_what_a_skip_connection_holds():
    """x and f(x) are alive when x + f(x) is made: three tensors at once."""

    class Skip(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            start = images * 2
            return start + start.exp()

    assert c.peak_memory(Skip(), torch.zeros(6, 5)) == 3 * 6 * 5 * 4


def test_peak_memory_is_the_same_every_time():
    """It is counted, not sampled."""
    import timm

    model, images = timm.create_model("resnet18", num_classes=2), torch.zeros(2, 3, 64, 64)
    assert len({c.peak_memory(model, images) for _ in range(3)}) == 1
