"""A sweep's runs and jobs: every combination once, every network once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import SettingError
from pellucid.core.settings import varied
from pellucid.scale.plan import cells, training_jobs
from pellucid.scale.summary import settings_of

TINY = {
    "data": {"n_subjects": 20, "slices": 2, "size": 32, "views": 2, "val_share": 0.2, "test_share": 0.2},
    "teacher": {"model": "cnn5", "preset": "small", "epochs": 1},
    "student": {"model": "cnn5", "preset": "small", "epochs": 1},
}


def planned(axes, tmp_path, content=TINY):
    return cells(content, axes, file=Path("x.toml"), out=tmp_path / "sweep")


def jobs_of(axes, tmp_path, monkeypatch, shared_workspace):
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(shared_workspace.path))
    found = planned(axes, tmp_path)
    return training_jobs({cell.name: cell.experiment() for cell in found}, found)


def test_every_combination_is_one_run_in_a_folder_of_its_own(tmp_path):
    found = planned({"distill.alpha": [0.4, 0.7], "distill.temperature": [5, 10, 15]}, tmp_path)
    assert [cell.name for cell in found][:2] == ["alpha=0.4,temperature=5", "alpha=0.4,temperature=10"]
    assert len({cell.out for cell in found}) == 6
    assert [cell.settings.distill.options["alpha"] for cell in found] == [0.4, 0.4, 0.4, 0.7, 0.7, 0.7]


def test_the_section_is_named_where_two_axes_end_alike(tmp_path):
    (cell,) = planned({"teacher.epochs": [1], "student.epochs": [2]}, tmp_path)
    assert cell.name == "teacher.epochs=1,student.epochs=2"


def test_a_value_no_folder_can_bear_is_named_safely(tmp_path):
    """A path as a value makes no folders, and two paths that look alike afterwards stay apart."""
    found = planned({"data.source": ["a/b.zip", "a-b.zip"], "teacher.weights": ["x" * 200, "網" * 90]}, tmp_path)
    assert all("/" not in cell.name and len(cell.name.encode()) <= 100 for cell in found)
    assert found[0].name != found[1].name


def test_a_value_that_a_setting_cannot_have_names_its_run(tmp_path):
    with pytest.raises(SettingError, match=r"with epochs -3.*\[student\] epochs = -3"):
        planned({"student.epochs": [2, -3]}, tmp_path)


def test_seeds_and_folds_repeat_a_setting(tmp_path):
    """They make runs, but no settings to choose among."""
    found = planned({"distill.alpha": [0.4, 0.7], "run.seed": [0, 1, 2], "data.fold": [0, 1]}, tmp_path)
    groups = settings_of(found)
    assert [len(group) for group in groups] == [6, 6]
    assert found[1].setting == {"distill.alpha": 0.4}
    assert found[1].repeat == {"run.seed": 0, "data.fold": 1}


def test_runs_share_the_networks_that_their_axes_do_not_touch(tmp_path, monkeypatch, shared_workspace):
    """Six settings of the loss need one teacher, one base and six students; each student waits for the teacher alone."""
    jobs = jobs_of({"distill.alpha": [0.4, 0.7], "distill.temperature": [5, 10, 15]}, tmp_path, monkeypatch, shared_workspace)
    assert [job.role for job in jobs] == ["teacher", "base"] + ["student"] * 6
    assert {job.needs for job in jobs if job.role == "student"} == {(jobs[0].key,)}
    assert jobs[0].needs == jobs[1].needs == ()


def test_another_depth_of_the_student_keeps_the_teacher(tmp_path, monkeypatch, shared_workspace):
    jobs = jobs_of({"student.depth": [3, 4, 5]}, tmp_path, monkeypatch, shared_workspace)
    assert [job.role for job in jobs] == ["teacher"] + ["base"] * 3 + ["student"] * 3


def test_another_seed_of_the_run_makes_all_networks_anew_and_one_of_the_student_its_own(tmp_path, monkeypatch, shared_workspace):
    everything = jobs_of({"run.seed": [0, 1]}, tmp_path, monkeypatch, shared_workspace)
    students = jobs_of({"student.seed": [0, 1]}, tmp_path, monkeypatch, shared_workspace)
    assert [job.role for job in everything].count("teacher") == 2
    assert [job.role for job in students].count("teacher") == 1


@pytest.mark.parametrize(("axis", "values"), [("data.fold", [0, 1]), ("run.seed", ["1", "01"])])
def test_a_repeat_that_repeats_nothing_is_refused(axis, values, tmp_path, monkeypatch, shared_workspace):
    """Folds without k-fold, or a seed in two spellings: the same figures would count twice."""
    with pytest.raises(SettingError, match="repeat nothing"):
        jobs_of({axis: values}, tmp_path, monkeypatch, shared_workspace)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 half of it"])
def test_damaged_validation_logits_count_as_missing(content, tmp_path):
    (cell,) = planned({"distill.alpha": [0.4]}, tmp_path)
    cell.outputs_path("key").parent.mkdir(parents=True)
    np.savez(cell.outputs_path("key"), logits=np.zeros((2, 2)), seconds=np.array(1.0))
    logits, seconds = cell.outputs("key")
    assert logits.shape == (2, 2) and seconds == 1.0
    cell.outputs_path("key").write_bytes(content)
    assert cell.outputs("key") is None and cell.outputs("other") is None


def test_varying_a_setting_leaves_the_shared_content_alone():
    content = {"distill": {"alpha": 0.1}}
    changed = varied(content, {"distill.alpha": 0.7, "explain.grad_cam.tap": "layer3"})
    assert changed == {"distill": {"alpha": 0.7}, "explain": {"grad_cam": {"tap": "layer3"}}}
    assert content == {"distill": {"alpha": 0.1}}
