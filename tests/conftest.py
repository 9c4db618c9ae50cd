"""What all tests share: one thread, a workspace of their own, and small generated data."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from pellucid.core.workspace import Workspace

ORACLES = Path(__file__).parent / "oracles"


@pytest.fixture(scope="session")
def shared_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace for the whole test session, so that data are made and networks trained once."""
    return Workspace(tmp_path_factory.mktemp("workspace with ümlaut"))


@pytest.fixture(scope="session")
def phantom(shared_workspace: Workspace):
    """Return 16 generated subjects with 4 slices each at 32 pixels, split by subject."""
    from pellucid.data.load import load

    return load("phantom", n_subjects=24, slices=4, size=32, val_share=0.2, test_share=0.2, workspace=shared_workspace)


@pytest.fixture
def oracle():
    """Return a function that opens a file of tests/oracles as a dict of arrays."""
    import numpy as np

    def open_oracle(name: str) -> dict:
        with np.load(ORACLES / name) as content:
            return dict(content)

    return open_oracle
