"""Maps that say nothing are flagged, whatever explainer made them, and spoil no other image's map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.core import registry
from pellucid.explainers.explain import explain
from pellucid.models.build import build

METHODS = list(registry.describe("explainers"))
QUICK = {"kernel_shap": {"samples": 30, "segments": 10}, "gradient_shap": {"samples": 4}, "integrated_gradients": {"steps": 4}}


def network(method: str) -> nn.Module:
    """Return a small network that the method can explain, with some contrast in its weights."""
    if method == "attention_rollout":
        return build("deit_tiny_patch16_224", n_classes=3, size=96, depth=2)
    return build("cnn5", n_classes=3, size=96, widths=[4, 6, 8])


def maps_of(method: str, model: nn.Module, images: torch.Tensor):
    """Return the method's maps of class 1."""
    baselines = torch.rand(4, *images.shape[1:], generator=torch.Generator().manual_seed(1))
    target = np.ones(len(images), np.int64)
    settings = {method: QUICK.get(method, {})}
    return explain(model, images, methods=[method], target=target, settings=settings, baselines=baselines)[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_sees_nothing_gives_dead_maps(method):
    """All weights 0: no map has anything to say."""
    model = network(method)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert maps_of(method, model, torch.rand(2, 3, 96, 96)).dead.all()


@pytest.mark.parametrize("method", METHODS)
def test_an_image_with_nan_has_a_dead_map_and_leaves_the_others_alone(method):
    """One pixel of the second image is NaN; the first image's map is that of the image by itself."""
    model, images = network(method), torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    alone = maps_of(method, model, images[:1])
    images[1, :, 40, 40] = torch.nan
    made = maps_of(method, model, images)
    assert made.dead[1]
    np.testing.assert_allclose(made.maps[0], alone.maps[0], rtol=1e-4, atol=1e-6 * np.abs(alone.maps).max())
