"""explain: several networks, methods and classes on the same images, each network seeing them its own way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.core.errors import ModelError, SettingError, TargetError
from pellucid.core.records import ImageSpec, Task
from pellucid.data.dataset import Dataset, Subset
from pellucid.data.store import Store
from pellucid.data.views import to_input
from pellucid.explainers.average_feature_map import average_feature_maps
from pellucid.explainers.baselines import prepare
from pellucid.explainers.explain import _Plain, explain, explain_layers
from pellucid.explainers.grad_cam import grad_cam
from pellucid.explainers.gradient_shap import gradient_shap
from pellucid.explainers.kernel_shap import kernel_shap
from pellucid.models.build import build
from pellucid.models.saved import Network

TASK = Task("single", ("a", "b", "c"))
PIXELS = np.random.default_rng(3).integers(0, 256, (7, 40, 40, 1), dtype=np.uint8)


def network(size: int = 32, **settings) -> Network:
    model = build("cnn5", n_classes=3, channels=1, size=size, **settings)
    return Network(model, ImageSpec(size, 1, (0.5,), (0.25,)), TASK, "cnn5")


def subset(targets: np.ndarray | None = None) -> Subset:
    targets = np.arange(7) % 3 if targets is None else targets
    dataset = Dataset("made", TASK, [f"{i}.png" for i in range(7)], targets, read=lambda i: PIXELS[i], content="made")
    return Subset(dataset, Store(PIXELS), np.array([6, 2, 0, 3, 1]), "test")


def test_each_network_sees_the_subset_as_its_own_spec_says():
    """Two sizes, two methods: the maps are those of the explainers on each network's own input, in the order asked for."""
    networks, images = {"teacher": network(48, seed=1), "student": network(32, seed=2)}, subset()
    found = explain(networks, images, target="label", batch_size=2)
    assert [(e.model, e.method) for e in found] == [
        ("teacher", "average_feature_map"), ("teacher", "grad_cam"), ("student", "average_feature_map"), ("student", "grad_cam"),
    ]  # fmt: skip
    for explanation in found:
        its = networks[explanation.model]
        assert explanation.image_size == (its.spec.size, its.spec.size)
        np.testing.assert_array_equal(explanation.targets, images.targets)
    for explanation in (found[1], found[3]):
        its = networks[explanation.model]
        expected = grad_cam(its.model, to_input(images.pixels, its.spec), torch.from_numpy(images.targets), tap=explanation.layer)
        np.testing.assert_allclose(explanation.maps, expected.numpy(), rtol=1e-4, atol=1e-6)
        assert explanation.signed and not found[0].signed
        assert explanation.maps.dtype == np.float32 and explanation.seconds > 0


def test_tensor_goes_to_all_networks_as_it_is():
    images = torch.randn(3, 1, 40, 56)
    (found,) = explain(network(), images, methods=["grad_cam"], target=[2, 0, 1])
    expected = grad_cam(network().model, images, torch.tensor([2, 0, 1]), tap=found.layer)
    np.testing.assert_allclose(found.maps, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert found.image_size == (40, 56)
    assert found.model == "cnn5"


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32])
def test_maps_do_not_depend_on_the_batch_size(batch_size):
    found, whole = (explain(network(), subset(), methods=["grad_cam"], batch_size=size)[0] for size in (batch_size, 5))
    np.testing.assert_allclose(found.maps, whole.maps, rtol=1e-5, atol=1e-5 * np.abs(whole.maps).max())


def test_target_decides_the_class():
    """Predicted is each network's own, teacher the teacher's for all, label the true one, an array what it says."""
    networks, images = {"teacher": network(seed=1), "student": network(seed=5)}, subset()
    own = {name: its.logits(images).argmax(1) for name, its in networks.items()}
    assert not np.array_equal(own["teacher"], own["student"])  # or the test would show nothing

    def targets(target) -> dict:
        return {e.model: e.targets for e in explain(networks, images, methods=["grad_cam"], target=target)}

    for name in networks:
        np.testing.assert_array_equal(targets("predicted")[name], own[name])
        np.testing.assert_array_equal(targets("teacher")[name], own["teacher"])
        np.testing.assert_array_equal(targets("label")[name], [0, 2, 0, 0, 1])
        np.testing.assert_array_equal(targets(np.array([1, 1, 2, 0, 0]))[name], [1, 1, 2, 0, 0])
        np.testing.assert_array_equal(targets(torch.tensor([1, 1, 2, 0, 0]))[name], [1, 1, 2, 0, 0])
        np.testing.assert_array_equal(targets(2)[name], [2] * 5)


@pytest.mark.parametrize("target", ["teacher", "predicted", "label", "all"])
def test_maps_come_in_parts_that_may_have_been_kept(target):
    """One part of each network for what shares passes, one for each method that asks often; of kept parts come the same maps, in the same order."""
    networks = {"student": network(seed=5), "teacher": network(seed=1)}
    given = {"methods": ["occlusion", "grad_cam", "integrated_gradients", "eigen_cam"]}
    given |= {"settings": {"occlusion": {"stride": 0.25, "window": 0.25}, "integrated_gradients": {"steps": 4}}, "target": target}
    there, made = {}, []

    def part(name, work):
        if name not in there:
            made.append(name)
            if len(made) == 4:
                raise KeyboardInterrupt
            there[name] = work()
        return there[name]

    with pytest.raises(KeyboardInterrupt):
        explain(networks, subset(), part=part, **given)
    first = "teacher" if target == "teacher" else "student"
    assert made[:4] == [f"{first}.0", f"{first}.1", f"{first}.2", "student.0" if target == "teacher" else "teacher.0"]
    again, whole = explain(networks, subset(), part=part, **given), explain(networks, subset(), **given)
    assert len(made) == 7 and len(set(made)) == 6  # none of the three that were there
    for one, other in zip(again, whole, strict=True):
        assert (one.model, one.method, one.layer) == (other.model, other.method, other.layer)
        np.testing.assert_array_equal(one.targets, other.targets)
        np.testing.assert_array_equal(one.maps, other.maps)
    of_student = [e.method for e in whole if e.model == "student"]
    each = 3 if target == "all" else 1  # but for Eigen-CAM, which knows no class
    assert of_student == ["occlusion"] * each + ["grad_cam"] * each + ["integrated_gradients"] * each + ["eigen_cam"]


@pytest.mark.parametrize(
    ("target", "words"),
    [("teacher", "no network of that name"), ("prediction", "can be predicted, teacher, label"), ([0, 1], "each of the 5 images"),
     ([0.0] * 5, "class number"), ([0, 1, 2, 3, 0], "no class 3")],
)  # fmt: skip
def test_targets_that_are_not_there_are_refused_in_words(target, words):
    with pytest.raises(TargetError, match=words):
        explain(network(), subset(), methods=["grad_cam"], target=target)


def test_label_needs_labels():
    with pytest.raises(TargetError, match="images with labels"):
        explain(network(), torch.zeros(1, 1, 32, 32), target="label")
    with pytest.raises(TargetError, match="no single class"):
        explain(network(), subset(np.ones((7, 3), np.int64)), target="label")


def test_auto_reads_maps_where_the_grid_says_enough():
    """A resnet10t at 96 px ends in 3x3, so its layer3 (6x6) is read; a tap of one's own is taken at its word."""
    model, images = build("resnet10t", n_classes=2, size=96), torch.randn(2, 3, 96, 96)
    found = explain(model, images, methods=["grad_cam", "average_feature_map"], settings={"grad_cam": {"tap": "layer4"}})
    assert [(e.layer, e.maps.shape) for e in found] == [("layer4", (2, 3, 3)), ("layer3", (2, 6, 6))]
    assert found[0].model == "ResNet"


def test_fallback_to_a_small_grid_is_said(capsys):
    explain({"tiny": build("deit_tiny_patch16_224", n_classes=2, size=48, depth=2)}, torch.randn(1, 3, 48, 48), methods=["grad_cam"])
    assert "tiny: blocks.1.norm1 has a 3x3 grid" in capsys.readouterr().err


def test_settings_reach_the_method_and_are_recorded():
    plain, weighted = (
        explain(network(), subset(), methods=["average_feature_map"], settings=settings)[0]
        for settings in (None, {"average_feature_map": {"weights": "activation"}})
    )
    assert not np.allclose(plain.maps, weighted.maps)
    assert plain.settings["weights"] == "none" and weighted.settings["weights"] == "activation"


@pytest.mark.parametrize(
    ("methods", "settings", "words"),
    [
        (["grad_camm"], {}, "grad_cam"), (["grad_cam"], {"grad_cam": {"tapp": "layer1"}}, r"\[explain\.grad_cam\].*tap"),
        (["average_feature_map"], {"average_feature_map": {"weights": "all"}}, "weights"),
        (["average_feature_map"], {"grad_kam": {}}, "nor one of the explainers"),
    ],
)  # fmt: skip
def test_unknown_methods_and_settings_are_refused(methods, settings, words):
    with pytest.raises(SettingError, match=words):
        explain(network(), subset(), methods=methods, settings=settings)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": None}, "methods must be a list"), ({"methods": "grad_cam"}, "methods must be a list"), ({"methods": []}, "methods must be a list"),
        ({"methods": [3]}, "methods must be a list"), ({"tap": 3}, "tap must be a name"), ({"settings": [1]}, "settings must be a dict"),
        ({"batch_size": 0}, "batch_size must be"), ({"batch_size": 1.5}, "batch_size must be"),
    ],
)  # fmt: skip
def test_arguments_of_another_type_are_refused_in_words(given, words):
    with pytest.raises(SettingError, match=words):
        explain(network(), subset(), **given)


@pytest.mark.parametrize("networks", [None, [], {}, {"a": None}])
def test_what_are_no_networks_is_said(networks):
    with pytest.raises(ModelError, match="networks must be a Network"):
        explain(networks, subset())


def test_all_classes_of_networks_that_have_other_classes_are_refused():
    several = {"a": build("cnn5", n_classes=2, channels=3, size=32), "b": build("cnn5", n_classes=4, channels=3, size=32)}
    with pytest.raises(TargetError, match="other numbers of classes"):
        explain(several, torch.zeros(1, 3, 32, 32), methods=["grad_cam"], target="all")


@pytest.mark.parametrize(
    "gives", [lambda logits: {"logits": logits}, lambda logits: (logits, 1), lambda logits: logits[:, 0], lambda logits: logits[:, :0]]
)
@pytest.mark.parametrize("method", ["occlusion", "grad_cam"])
def test_what_gives_no_logits_is_refused_by_every_method(method, gives):
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build("cnn5", n_classes=2, channels=3, size=32)

        def forward(self, images):
            return gives(self.inner(images))

    with pytest.raises(ModelError, match="logits"):
        explain(Odd(), torch.rand(2, 3, 32, 32), methods=[method])


def test_networks_without_gradients_are_refused_in_words():
    with torch.inference_mode():
        made_there = build("cnn5", n_classes=2, channels=3, size=32)
    with pytest.raises(ModelError, match=r"made inside torch.inference_mode.*copy.deepcopy"):
        explain(made_there, torch.zeros(1, 3, 32, 32))


def test_networks_are_left_as_they_were():
    """A model in train mode stays in train mode, each module in its own, without hooks or gradients, also after an error."""
    its = network()
    its.model.train()
    its.model.layer3.eval()
    modes = [module.training for module in its.model.modules()]
    state = {name: tensor.clone() for name, tensor in its.model.state_dict().items()}
    explain(its, subset())
    with pytest.raises(TargetError):
        explain(its, subset(), target=[9] * 5)
    assert [module.training for module in its.model.modules()] == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in its.model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in its.model.modules())
    assert all(parameter.grad is None for parameter in its.model.parameters())


def test_dead_and_broken_maps_are_flagged():
    """A silent last layer gives maps that say nothing, a NaN weight maps that aren't numbers: both are dead, not quiet."""
    silent, broken = network(), network()
    nn.init.zeros_(silent.model.layer5[1].weight)
    with torch.no_grad():
        broken.model.layer5[0].weight[0, 0, 0, 0] = torch.nan
    for its in (silent, broken):
        for explanation in explain(its, subset(), target="label"):
            assert explanation.dead.all()
    assert not any(explanation.dead.any() for explanation in explain(network(), subset(), methods=["average_feature_map"]))


def test_plain_module_with_a_subset_is_refused_in_words():
    with pytest.raises(ModelError, match="doesn't say how images must be prepared"):
        explain({"mine": network().model}, subset())


@pytest.mark.parametrize(
    ("images", "given"),
    [
        (torch.rand(3, 32, 32), r"Tensor torch.float32 \[3, 32, 32\]"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "Tensor torch.uint8"),
        (np.zeros((2, 3, 32, 32)), "ndarray float64"),
        ([], "list"),
    ],
)
def test_what_are_no_images_is_said(images, given):
    """One image without its batch, bytes that nobody has normalised, arrays."""
    with pytest.raises(ModelError, match=f"must be a Subset or a float tensor .N, C, H, W.*; given is {given}"):
        explain(build("cnn5", n_classes=2, channels=3, size=32), images)


def test_no_images_is_said():
    with pytest.raises(ModelError, match="no images to explain"):
        explain(network(), subset()[:0])


def test_explain_layers_gives_every_layer_of_every_network():
    networks, images = {"base": network(seed=1), "student": network(seed=2)}, subset()
    found = explain_layers(networks, images, batch_size=2)
    assert [(e.model, e.layer) for e in found] == [(name, f"layer{i}") for name in networks for i in range(1, 6)]
    expected = average_feature_maps(networks["student"].model, to_input(images.pixels, networks["student"].spec))
    for explanation in found[5:]:
        np.testing.assert_allclose(explanation.maps, expected[explanation.layer].numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(explanation.targets, networks["student"].logits(images).argmax(1))
        assert explanation.method == "average_feature_map" and not explanation.signed


def test_baselines_are_prepared_for_each_network_as_its_own_spec_says():
    """Two sizes and one training subset: single images for GradientShap, their mean for KernelShap; grids are the networks' own."""
    networks, images, train = {"teacher": network(24, seed=1), "student": network(16, seed=2)}, subset()[:2], subset()[2:]
    settings = {"gradient_shap": {"samples": 4}, "kernel_shap": {"samples": 30, "segments": 9}}
    found = explain(networks, images, methods=list(settings), target="label", settings=settings, baselines=train)
    for explanation in found:
        its = networks[explanation.model]
        seen, others = to_input(images.pixels, its.spec), to_input(train.pixels, its.spec)
        others = others.mean(0, keepdim=True) if explanation.method == "kernel_shap" else others
        explainer = {"gradient_shap": gradient_shap, "kernel_shap": kernel_shap}[explanation.method]
        expected = explainer(its.model, seen, torch.from_numpy(images.targets), others, **settings[explanation.method])
        np.testing.assert_allclose(explanation.maps, expected.numpy(), rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        assert explanation.maps.shape[1:] == explanation.image_size == (its.spec.size, its.spec.size)
        assert explanation.layer == "" and explanation.signed and explanation.settings["seed"] == 0


@pytest.mark.parametrize("method", ["gradient_shap", "kernel_shap"])
def test_expected_is_the_class_logit_beyond_the_baselines(method):
    """f(x) - mean f(baseline) where single images are compared, f(x) - f(mean baseline) where their mean is."""
    its, images, train = network(16), subset()[:3], subset()[3:]
    settings = {method: {"samples": 30} | ({"segments": 9} if method == "kernel_shap" else {})}
    (found,) = explain(its, images, methods=[method], target=[2, 0, 1], settings=settings, baselines=train)
    others = to_input(train.pixels, its.spec)
    beyond = its.logits(others if method == "gradient_shap" else others.mean(0, keepdim=True)).mean(0)
    np.testing.assert_allclose(found.expected, (its.logits(images) - beyond)[[0, 1, 2], [2, 0, 1]], atol=1e-5)
    assert found.expected.dtype == np.float64
    assert explain(its, images, methods=["grad_cam"])[0].expected is None


def test_at_most_32_baselines_are_taken_evenly():
    """Of 100 training images the first, the last and 30 between; their mean is that of all 100."""
    train = torch.arange(100.0).reshape(100, 1, 1, 1)
    plain = _Plain(nn.Flatten())
    each = prepare("each", "gradient_shap", plain, train).flatten()
    assert len(each) == 32 and each[0] == 0 and each[-1] == 99 and set(each.diff().tolist()) == {3.0, 4.0}
    assert prepare("each", "gradient_shap", plain, train[:5]).flatten().tolist() == [0, 1, 2, 3, 4]
    assert prepare("mean", "kernel_shap", plain, train).flatten().tolist() == [49.5]


def test_missing_baselines_are_said_before_anything_is_computed():
    """The line names the method and the argument; an empty subset is none."""
    for baselines in (None, subset()[:0]):
        with pytest.raises(SettingError, match=r"kernel_shap compares with training images, and none are given.*baselines=data\.train"):
            explain(network(), subset(), methods=["grad_cam", "kernel_shap"], baselines=baselines)
    with pytest.raises(ModelError, match="baselines as a tensor"):
        explain(network().model, torch.zeros(1, 1, 32, 32), methods=["gradient_shap"], baselines=subset())
    with pytest.raises(ModelError, match=r"must be a Subset or a float tensor.*not ndarray"):
        explain(network(), subset(), methods=["kernel_shap"], baselines=np.zeros((2, 1, 32, 32), np.float32))


def test_network_without_any_map_can_be_explained_at_its_input():
    """A linear network has no tap; methods that read none don't ask for one."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    nn.init.constant_(model[1].weight, 0.1)  # the image and black are far apart: a gap relative to nothing is undefined
    (found,) = explain(model, torch.rand(2, 1, 8, 8), methods=["gradient_shap"], target=[0, 1], baselines=torch.zeros(1, 1, 8, 8))
    assert found.maps.shape == (2, 8, 8) and found.gap.max() < 1e-5
