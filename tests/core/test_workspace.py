"""The workspace: one maker per result, a kill frees the lock, what is in use isn't removed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from pellucid.core.errors import StorageError
from pellucid.core.workspace import Workspace

HOLD = """
import sys, time
from pellucid.core.workspace import Workspace
with Workspace(sys.argv[1]).lock("networks", "k") as folder:
    print("held", flush=True)
    sys.stdin.readline()
    folder.mkdir()
"""
WAIT = """
import sys
from pellucid.core.workspace import Workspace
print("asked", flush=True)
with Workspace(sys.argv[1]).lock("networks", "k") as folder:
    print("there" if folder.exists() else "not there", flush=True)
"""


def start(code, folder):
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("end", "found"), [("done", "there"), ("killed", "not there")])
def test_a_second_process_waits_until_the_first_is_done_or_dead(tmp_path, end, found):
    """The waiting process finds the finished result, or the free place of a killed one."""
    first = start(HOLD, tmp_path)
    assert first.stdout.readline() == "held\n"
    second = start(WAIT, tmp_path)
    assert second.stdout.readline() == "asked\n"
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.3)
    if end == "killed":
        first.send_signal(signal.SIGKILL)
        first.wait()
    output, _ = (
        second.communicate(timeout=20) if end == "killed" else (first.communicate("go\n", timeout=20), second.communicate(timeout=20))[1]
    )
    assert output.strip() == found


def test_other_results_arent_locked_and_an_error_frees(tmp_path):
    """Locks are per result; an exception inside gives the lock back."""
    workspace = Workspace(tmp_path)
    with pytest.raises(ZeroDivisionError), workspace.lock("networks", "a"), workspace.lock("networks", "b"), workspace.lock("stores", "a"):
        raise ZeroDivisionError
    with workspace.lock("networks", "a") as folder:
        assert folder == tmp_path / "networks" / "a"
        assert folder.parent.is_dir()
        assert not folder.exists()


def test_entries_are_sorted_by_size_and_can_be_removed(tmp_path):
    """Folders and single files are results; removing one leaves the others."""
    workspace = Workspace(tmp_path)
    assert workspace.entries() == []
    (tmp_path / "stores" / "s" / "deep").mkdir(parents=True)
    (tmp_path / "stores" / "s" / "deep" / "x").write_bytes(bytes(100))
    (tmp_path / "choices").mkdir()
    (tmp_path / "choices" / "c.json").write_bytes(bytes(7))
    assert workspace.entries() == [("stores", "s", 100), ("choices", "c.json", 7)]
    workspace.remove("stores", "s")
    workspace.remove("choices", "c.json")
    assert workspace.entries() == []


def test_a_result_in_use_isnt_removed(tmp_path):
    """While another process makes it, removing says so and leaves it."""
    workspace = Workspace(tmp_path)
    for name in ("k", ".k.part"):  # the second is how it is called while it is written
        workspace.folder("networks", name).mkdir(parents=True)
    holder = start(HOLD, tmp_path)
    assert holder.stdout.readline() == "held\n"
    for name in ("k", ".k.part"):
        with pytest.raises(StorageError, match=r"networks/\.?k(\.part)?: in use by another run"):
            workspace.remove("networks", name)
        assert workspace.folder("networks", name).exists()
    holder.kill()
    holder.communicate()
    workspace.remove("networks", "k")
    assert not workspace.folder("networks", "k").exists()


def test_the_environment_names_the_default(tmp_path, monkeypatch):
    """PELLUCID_WORKSPACE stands in for .pellucid; a path that is given wins."""
    monkeypatch.setenv("PELLUCID_WORKSPACE", str(tmp_path / "w"))
    assert Workspace().path == tmp_path / "w"
    assert Workspace(tmp_path / "v").path == tmp_path / "v"
    monkeypatch.delenv("PELLUCID_WORKSPACE")
    assert str(Workspace().path) == ".pellucid"


def test_a_workspace_that_cant_be_written_is_a_storage_error(tmp_path):
    """A file in the folder's place is told as such, not as a traceback."""
    (tmp_path / "w").write_text("a file")
    with pytest.raises(StorageError, match="w/"), Workspace(tmp_path / "w").lock("stores", "k"):
        pass


def test_an_empty_variable_is_no_workspace(monkeypatch):
    """Else `clean --all` would remove folders of the current one."""
    monkeypatch.setenv("PELLUCID_WORKSPACE", "")
    assert str(Workspace().path) == ".pellucid"
