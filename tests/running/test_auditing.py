"""The audit of any data, by name or by an experiment file, without training."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pellucid.core.errors import SettingError, SourceError
from pellucid.running.auditing import PROBES, audit_source


@pytest.fixture
def leaking(tmp_path, monkeypatch):
    """A manifest in a folder called 2024 whose split column parts two subjects, and an experiment file that asks for that column."""
    folder = tmp_path / "2024"
    folder.mkdir()
    draws = np.random.default_rng(0)
    lines = ["path,label,subject,side"]
    for i in range(24):
        Image.fromarray(draws.integers(0, 256, (24, 24), dtype=np.uint8)).save(folder / f"{i}.png")
        side = "test" if i in (0, 1, 22, 23) else "val" if i in (20, 21) else "train"
        lines.append(f"{i}.png,{'ab'[i % 2]},s{i // 4},{side}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    (tmp_path / "x.toml").write_text('[data]\nsource = "2024"\nsplit = "column:side"\nsize = 32\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PELLUCID_WORKSPACE", "ws")
    return tmp_path


def test_a_leaking_column_is_reported_and_not_refused(leaking):
    """`run` would refuse this split; the audit counts what crosses: s0 (train, test) and s5 (val, test)."""
    found, table = audit_source("2024", ["data.split=column:side", "data.size=32"], [], None)
    (crossing,) = found["crossing"]
    assert (crossing["column"], crossing["units"]) == ("subject", 2)
    assert found["findings"][0]["level"] == "leak"
    assert "s0" in table
    assert found["counts"]["train"] == {"a": 9, "b": 9}


def test_an_experiment_files_data_are_audited_by_its_settings(leaking):
    """The same findings, from the file, from another folder, and with an override on top."""
    direct, _ = audit_source("2024", ["data.split=column:side", "data.size=32"], [], None)
    by_file, _ = audit_source(str(leaking / "x.toml"), [], [], None)
    assert by_file == direct
    by_subject, _ = audit_source("x.toml", ["data.split=subject"], [], None)
    assert by_subject["crossing"] == []


def test_findings_go_to_json_with_the_probes(leaking):
    """The file holds what the function returns; each probe has its entry."""
    found, _ = audit_source("2024", ["data.size=32"], list(PROBES), leaking / "deep" / "audit.json")
    assert set(found["probes"]) == {"nearest-neighbour", "shuffled-labels"}
    assert json.loads((leaking / "deep" / "audit.json").read_text(encoding="utf-8")) == json.loads(json.dumps(found))


def test_mistakes_are_told_before_any_work(leaking):
    """An unknown probe with its nearest name; data that aren't there; and nothing is written."""
    with pytest.raises(SettingError, match='Did you mean "shuffled-labels"'):
        audit_source("2024", [], ["shuffle-labels"], None)
    with pytest.raises(SourceError, match="no such folder or file"):
        audit_source("2025", [], [], leaking / "audit.json")
    assert not (leaking / "audit.json").exists()
    assert not (leaking / "ws").exists()
