"""One experiment: checked before anything is made, keys that follow their inputs, and what was done isn't done again."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tomllib

import numpy as np
import pytest

from pellucid.core import registry
from pellucid.core.errors import GuardError, ModelError, SettingError, TapError, WeightsError
from pellucid.core.settings import parse
from pellucid.explainers import explain as explaining
from pellucid.explainers.explain import explain
from pellucid.running import record
from pellucid.running.experiment import Experiment, check, evenly, open_experiment
from whole_run import TINY, differences, finished


def tiny(**changed):
    content = tomllib.loads(TINY)
    for name, value in changed.items():
        section, _, setting = name.partition("__")
        content.setdefault(section, {})[setting] = value
    return parse(content)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"distill__loss": "kd"}, SettingError, '"kd" is none of the losses'),
        ({"distill__beta": 1}, SettingError, r'\[distill\]: "beta" is no setting'),
        ({"explain__methods": ["gradcam"]}, SettingError, 'Did you mean "grad_cam"'),
        ({"explain__grad_cam": {"tapp": "x"}}, SettingError, r'\[explain\.grad_cam\]: "tapp" is no setting. Did you mean "tap"'),
        ({"explain__grad_cam": 3}, SettingError, r"\[explain\] grad_cam = 3: settings of one part stand in a table"),
        ({"run__seed": 10**20}, SettingError, r"\[run\] seed = 1000+: a seed has at most 64 bits"),
        ({"explain__lime": {"x": 1}}, SettingError, r'\[explain\]: "lime" is no setting, nor one of the explainers'),
        ({"measure__measures": ["speed"]}, SettingError, '"speed" is none of the measures'),
        ({"student__model": "cnn6"}, ModelError, r'no network "cnn6"'),
        ({"student__widht": 3}, SettingError, r'\[student\]: "widht" is no setting'),
        ({"teacher__n_classes": 3}, SettingError, r'\[teacher\]: "n_classes" follows from the data'),
    ],
)
def test_names_of_parts_and_their_settings_are_checked_first(changed, error, message):
    """Without data, without a network, without a folder."""
    with pytest.raises(error, match=message):
        check(tiny(**changed))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"explain__tap": "layer9"}, TapError),
        ({"explain__tap": "pooled"}, TapError),
        ({"explain__methods": ["grad_cam", "attention_rollout"]}, ModelError),
        ({"distill__alpha": 2.0}, SettingError),
        ({"student__weights": "absent.pth"}, WeightsError),
    ],
)
def test_a_mistake_in_the_last_stage_shows_before_the_first_is_trained(changed, error, tmp_path, monkeypatch):
    """A tap, a loss's value and the student's network are checked when the data are there; no run folder, no network is made."""
    monkeypatch.chdir(tmp_path)
    with Experiment(tiny(run__workspace="ws", **changed)) as opened, pytest.raises(error):
        opened.report()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ws"]
    assert not (tmp_path / "ws" / "networks").exists()


def test_a_loss_that_teaches_nothing_is_refused_before_the_student_is_trained(tmp_path, monkeypatch, never_stopped):
    """alpha = 1 leaves the teacher out, which is allowed; a part that sends no gradient isn't, and no epoch is run for it."""
    from pellucid.distillation.losses import logit_kd

    monkeypatch.chdir(tmp_path)
    shutil.copytree(never_stopped / "ws", "ws")
    monkeypatch.setattr(logit_kd, "soft_kl", lambda student, teacher, temperature, **options: teacher.sum() * 0)
    with (
        Experiment(tiny(run__workspace="ws", distill__temperature=3.0)) as opened,
        pytest.raises(GuardError, match='"kl" sends no gradient'),
    ):
        _ = opened.student
    assert not list((tmp_path / "ws" / "networks").glob("*/*.pt"))


def test_what_lies_beside_the_experiment_file_is_found_from_anywhere(tmp_path, monkeypatch):
    """A source or weights named in a file mean those next to it; the run folder's name comes from the file."""
    inside = tmp_path / "ä b"
    (inside / "bilder" / "a").mkdir(parents=True)
    (inside / "x.toml").write_text('[data]\nsource = "bilder"\n[student]\nmodel = "cnn5"\n')
    monkeypatch.chdir(tmp_path)
    opened = open_experiment("ä b/x.toml")
    assert opened.settings.data.source == "ä b/bilder"
    assert str(opened.folder.path) == "runs/x"
    assert open_experiment("ä b/x.toml", ["data.source=elsewhere"]).settings.data.source == "elsewhere"


def test_a_runs_settings_stand_fixed(never_stopped):
    """Opened by its folder a run takes no overrides."""
    assert open_experiment(never_stopped / "runs" / "tiny").settings.student.epochs == 3
    with pytest.raises(SettingError, match="a run's settings stand fixed"):
        open_experiment(never_stopped / "runs" / "tiny", ["student.epochs=4"])


def test_a_new_measure_setting_redoes_the_measuring_alone(tmp_path, monkeypatch, never_stopped):
    """With another margin in another run folder the trained networks are found; nothing is trained, and the maps are equal."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(never_stopped / "ws", "ws")
    monkeypatch.setattr("pellucid.running.stages.fit", None)  # whoever trains now fails
    with Experiment(tiny(run__workspace="ws", run__out="again", measure__margin=0.1)) as opened:
        record = opened.report()
    assert record.settings["measure"]["margin"] == 0.1
    assert differences(finished(tmp_path / "again"), finished(never_stopped / "runs" / "tiny")) == []
    cached = {stage.name: stage.cached for stage in record.stages}
    assert cached["measure"] is cached["explain"] is False


def test_a_twin_is_a_teacher_of_another_seed_and_changes_no_other_network(tmp_path, monkeypatch, never_stopped):
    """All three are found again under their keys; the twin is trained once, measured beside them, and what is kept is judged."""
    from pellucid.core.rng import derive
    from pellucid.running.stages import train

    monkeypatch.chdir(tmp_path)
    shutil.copytree(never_stopped / "ws", "ws")
    settings = tiny(run__workspace="ws", run__out="twin", measure__twin=True)
    with Experiment(settings) as opened:
        assert not opened.is_trained("twin") and "twin " in opened.outline()
        record = opened.report()
        stages = {stage.name: stage.cached for stage in record.stages}
        assert (stages["teacher"], stages["base"], stages["student"], stages["twin"]) == (True, True, True, False)
        asked = settings.teacher.model_dump(exclude={"seed", "model"})
        by_hand = train(opened.data, settings.teacher.model, workspace=opened.workspace, seed=derive(settings.run.seed, "twin"), **asked)
        assert by_hand.fingerprint == opened.twin.fingerprint != opened.teacher.fingerprint
    names = {(m.name, m.model) for m in record.measurements}
    assert {("similarity", "twin ~ teacher"), ("transfer_gain", "student"), ("accuracy", "twin")} <= names
    assert not {("met", "twin"), ("parameters", "twin")} & names
    assert "no twin" not in record.verdicts[1].details[-1]
    with Experiment(settings) as again:
        kept = {stage.name: stage.cached for stage in again.report().stages}
    assert kept["twin"] and kept["explain"] and kept["measure"]


def test_a_twin_of_a_teacher_that_is_not_trained_is_refused():
    """Weights taken as they are would make the same network twice."""
    with pytest.raises(SettingError, match=r"\[measure\] twin: with teacher\.epochs = 0"):
        check(tiny(teacher__epochs=0, measure__twin=True))


def test_shap_in_a_run_compares_with_the_training_split(tmp_path, monkeypatch, never_stopped):
    """No argument names the baselines: they are the training images, what maps should add up to is kept, and the gap is measured."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(never_stopped / "ws", "ws")
    settings = tiny(run__workspace="ws", run__out="shap", explain__methods=["gradient_shap"], explain__gradient_shap={"samples": 4})
    with Experiment(settings) as opened:
        made, _, facts = opened.explained
        rows = opened.scores.measurements
        given = {"target": "teacher", "settings": {"gradient_shap": {"samples": 4}}, "baselines": opened.data.train}
        expected = explain(dict(opened.networks), opened.data.test[facts["rows"]], methods=["gradient_shap"], **given)
    with Experiment(settings) as again:
        kept = again.explained[0]
    for explanation, other, by_hand in zip(made, kept, expected, strict=True):
        np.testing.assert_array_equal(explanation.expected, other.expected)
        np.testing.assert_allclose(explanation.expected, by_hand.expected, rtol=1e-6)
        np.testing.assert_allclose(explanation.maps, by_hand.maps, rtol=1e-4, atol=1e-7)
    found = {(row.name, row.model) for row in rows if row.value is not None and row.by == "gradient_shap"}
    assert {("completeness_gap", "student"), ("met", "teacher"), ("met_ratio", "teacher / student")} <= found


def test_a_stage_that_was_stopped_goes_on_from_its_last_part(tmp_path, monkeypatch, never_stopped):
    """Maps of a network, and what a measure says, are made once, however often it is stopped in between; at the end no part is left."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(never_stopped / "ws", "ws")
    asked = {"explain__methods": ["integrated_gradients", "grad_cam"], "explain__integrated_gradients": {"steps": 4}}
    settings, made, last = tiny(run__workspace="ws", run__out="run", **asked), [], []

    def note(what):
        made.append(what)
        if last and (what, made.count(what)) == last[0]:
            raise KeyboardInterrupt

    one, get = explaining._explain_one, registry.get

    def explained(name, network, images, targets, explainers, *given):
        if images.split == "test":  # transfer explains training images too
            note(f"{name} {','.join(explainers)}")
        return one(name, network, images, targets, explainers, *given)

    def noted(kind, name):
        found = get(kind, name)
        return (lambda judged, **options: (note(name), found(judged, **options))[1]) if kind == "measures" else found

    monkeypatch.setattr(explaining, "_explain_one", explained)
    monkeypatch.setattr("pellucid.running.stages.registry.get", noted)
    left = []
    for where in ("base integrated_gradients", "performance", "faithfulness"):
        last[:] = [(where, 1)]
        with pytest.raises(KeyboardInterrupt), Experiment(settings) as opened:
            opened.report()
        for clock in (tmp_path / "run" / "parts").rglob("teacher.1.json"):
            clock.write_text('{"seconds": 1000}')
        left.append(sorted(path.stem for path in (tmp_path / "run" / "parts").rglob("*.npz")))
    assert left == [["base.0", "teacher.0", "teacher.1"], [], ["performance", "transfer"]]
    last.clear()
    with Experiment(settings) as opened:
        opened.report()
    assert not (tmp_path / "run" / "parts").exists()
    assert 1000 < opened.folder.stage("explain").seconds < 1100  # those before the stop too
    maps = ["teacher grad_cam", "teacher integrated_gradients", "base grad_cam", *["base integrated_gradients"] * 2, "student grad_cam", "student integrated_gradients"]  # fmt: skip
    measures = ["performance", "performance", "transfer", "faithfulness", "faithfulness", "localisation", "explanation_time"]
    assert made == maps + measures
    with Experiment(tiny(run__workspace="ws", run__out="whole", **asked)) as opened:
        opened.report()
    assert differences(finished(tmp_path / "run"), finished(tmp_path / "whole")) == []


def test_a_missing_package_shows_before_anything_is_computed(monkeypatch):
    """The command that installs it, from the check of names and settings."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "captum" else find(name))
    with pytest.raises(SettingError, match=r"gradient_shap needs captum.*pip install 'pellucid\[shap\]'"):
        check(tiny(explain__methods=["gradient_shap"]))


def test_another_seed_is_another_network_on_the_same_data(tmp_path, monkeypatch, never_stopped):
    """The store is shared, the keys of teacher, base and student all differ."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(never_stopped / "ws", "ws")
    done = {path.name for path in (tmp_path / "ws" / "networks").iterdir()}
    stores = sorted((tmp_path / "ws" / "stores").iterdir())
    with Experiment(tiny(run__workspace="ws", run__seed=1, run__out="other")) as opened:
        keys = {network.fingerprint for network in opened.networks.values()}
    assert len(keys) == 3
    assert not keys & done
    assert sorted((tmp_path / "ws" / "stores").iterdir()) == stores


def test_the_student_begins_where_the_base_begins(never_stopped):
    """Same initialisation, order, views and epochs: with the teacher's weight at 0 the distilled student is the base, to the bit."""
    import torch

    from pellucid.core.workspace import Workspace
    from pellucid.data.load import load
    from pellucid.running.stages import distill, train

    settings = tiny()
    workspace = Workspace(never_stopped / "ws")
    data = load(settings.data, workspace=workspace)
    asked = {"preset": "small", "epochs": 2, "batch_size": 16, "precision": "fp32"}
    teacher = train(data, "cnn5", workspace=workspace, **{**asked, "epochs": 1})
    base = train(data, "cnn5", workspace=workspace, n_views=settings.data.views, **asked)
    student = distill(data, teacher, "cnn5", workspace=workspace, student_settings=asked, alpha=1.0)
    ours, theirs = student.model.state_dict(), base.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert student.fingerprint != base.fingerprint


def test_the_run_folder_holds_what_its_own_page_names(never_stopped):
    """Every file that the first lines of folder.py promise is there, and readable without Pellucid."""
    run = never_stopped / "runs" / "tiny"
    for name in (
        "settings.toml",
        "log.jsonl",
        "predictions.npz",
        "maps.npz",
        "judgements.npz",
        "measurements.json",
        "student.safetensors",
        "report.html",
    ):
        assert (run / name).stat().st_size > 0, name
    content = json.loads((run / "measurements.json").read_text())
    assert content["interval"] == "95 %"
    names = {entry["name"] for entry in content["measurements"]}
    assert {"balanced_accuracy", "agreement", "kl_teacher", "mask_fidelity", "pointing_game", "similarity"} <= names
    with np.load(run / "predictions.npz", allow_pickle=False) as predictions:
        assert predictions["test.logits.student"].shape == (len(predictions["test.ids"]), 4)


@pytest.mark.parametrize(
    ("targets", "count", "each"),
    [
        ([0] * 90 + [1] * 10, 20, [10, 10]),
        ([0] * 50 + [1] * 3, 10, [7, 3]),
        ([0, 1, 2], 10, [1, 1, 1]),
        ([0] * 6 + [1] * 6 + [2] * 6, 7, [3, 2, 2]),
    ],
)
def test_evenly_takes_as_many_of_each_class_as_there_are(targets, count, each):
    """In ascending order, no image twice, and spread over the class, not its first ones."""
    chosen = evenly(np.array(targets), count)
    assert np.array_equal(chosen, np.unique(chosen))
    assert np.bincount(np.array(targets)[chosen]).tolist() == each
    if len(targets) == 100:
        assert chosen.max() - chosen.min() > 60


def test_versions_of_stages_are_part_of_their_keys(never_stopped, monkeypatch, tmp_path):
    """When the code of a stage changes its results, raising the number by hand makes it anew."""
    copy = tmp_path / "run"
    shutil.copytree(never_stopped / "runs" / "tiny", copy)
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(never_stopped / "ws"))
    found = []
    for version in (record.VERSIONS["measure"], record.VERSIONS["measure"] + 1):
        monkeypatch.setitem(record.VERSIONS, "measure", version)
        with open_experiment(copy) as opened:
            _ = opened.scores
            found.append({stage.name: stage.cached for stage in opened.stages}["measure"])
    assert found == [True, False]
