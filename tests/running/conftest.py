"""What the tests of running share: one run that was never stopped, and folders in which one begins."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from whole_run import TINY, pellucid_in


@pytest.fixture(scope="session")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one whole run of the tiny experiment: ``tiny.toml``, its workspace ``ws`` and its run ``runs/tiny``."""
    folder = tmp_path_factory.mktemp("never stopped ü")
    (folder / "tiny.toml").write_text(TINY)
    outcome = pellucid_in(folder, "run", "tiny.toml")
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def beginning(tmp_path: Path, never_stopped: Path) -> Path:
    """Return a folder with the experiment and nothing done.

    Only the machine's choice of number format is there: it is timed, so it may fall out differently, and with it the last bits.
    """
    shutil.copytree(never_stopped / "ws" / "choices", tmp_path / "ws" / "choices")
    shutil.copy(never_stopped / "tiny.toml", tmp_path)
    return tmp_path
