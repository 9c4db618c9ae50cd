"""The first experiment file: complete, explained, and such that it runs as it stands."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pellucid.core.errors import SettingError, SourceError
from pellucid.core.settings import Settings, load
from pellucid.core.workspace import Workspace
from pellucid.running.starter import render, write_starter


@pytest.fixture
def images(tmp_path):
    """Two classes of six grey images, most of them 100 px wide."""
    draws = np.random.default_rng(0)
    for name in ("a", 'b "quoted"'):
        (tmp_path / "ä b" / name).mkdir(parents=True)
        for i in range(6):
            side = 40 if i == 0 else 100
            Image.fromarray(draws.integers(0, 256, (side, side + 20), dtype=np.uint8)).save(tmp_path / "ä b" / name / f"{i}.png")
    return tmp_path / "ä b"


def test_the_file_reads_back_as_the_settings_it_was_made_from(images, tmp_path):
    """What was seen is set: the source, the side nearest to the images' from below, grey; all else is at its default."""
    path = tmp_path / "x.toml"
    data = write_starter(str(images), path, workspace=Workspace(tmp_path / "ws"))
    asked = load(path)
    assert (asked.data.source, asked.data.size, asked.data.channels) == (str(images), 96, "grey")
    default = Settings()
    assert asked.student == default.student
    assert asked.data.model_copy(update={"source": "phantom", "channels": "auto"}) == default.data
    assert len(data.dataset) == 12
    assert path.read_text(encoding="utf-8").startswith('# ä b: 12 images, 2 classes (a 6, b "quoted" 6).')


def test_every_setting_stands_in_the_file_under_its_explanation(images, tmp_path):
    """Also those that have no value: they stand as a comment."""
    text = render(Settings(), seen=["seen", "", "more"])
    for section, field in Settings.model_fields.items():
        assert f"[{section}]" in text
        for name, setting in field.annotation.model_fields.items():
            assert f"\n{name} = " in text or f"\n# {name} =" in text, f"{section}.{name}"
            assert (setting.description or "").split()[0] in text
    assert text.startswith("# seen\n#\n# more\n")


def test_a_file_that_exists_is_not_touched(images, tmp_path):
    """The user's work is never overwritten."""
    path = tmp_path / "x.toml"
    path.write_text("mine")
    with pytest.raises(SettingError, match=r"x\.toml: is there already"):
        write_starter(str(images), path)
    assert path.read_text() == "mine"


def test_nothing_is_written_for_data_that_cant_be_used(tmp_path):
    """No images, no file."""
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError):
        write_starter(str(tmp_path / "none"), tmp_path / "x.toml", workspace=Workspace(tmp_path / "ws"))
    assert not (tmp_path / "x.toml").exists()


def test_odd_names_of_classes_cant_break_the_file(tmp_path):
    """A class folder may hold a line break: what was seen stays a comment."""
    lines = render(Settings(), seen=["a class\n[data]\nsource = 1"]).splitlines()
    assert all(line.startswith("#") for line in lines[: lines.index("")])
