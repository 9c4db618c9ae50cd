"""A weights file named in an experiment is found where its data are."""

from pathlib import Path

import pytest

from pellucid.core.settings import parse
from pellucid.running.experiment import Experiment


@pytest.mark.parametrize("place", ["beside", "here", "data"])
def test_weights_are_found_beside_the_file_here_and_in_pellucid_data(place, tmp_path, monkeypatch):
    """The nearer place wins: beside the experiment file, then the current folder, then PELLUCID_DATA."""
    folders = {name: tmp_path / f"{name} ü" for name in ("beside", "here", "data")}
    order = list(folders)
    for name, folder in folders.items():
        folder.mkdir()
        if order.index(name) >= order.index(place):
            (folder / "w.safetensors").touch()
    monkeypatch.chdir(folders["here"])
    monkeypatch.setenv("PELLUCID_DATA", str(folders["data"]))
    settings = parse({"teacher": {"model": "cnn5", "weights": "w.safetensors"}})
    found = Experiment(settings, beside=folders["beside"]).settings.teacher.weights
    assert Path(found).resolve() == folders[place] / "w.safetensors"
    assert settings.teacher.weights == "w.safetensors"
