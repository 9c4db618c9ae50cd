"""Files are whole or not there: after an exception, after kill -9, and on a full disk."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from pellucid.core import files
from pellucid.core.errors import StorageError


def python(code, folder, *, file_limit=None, **environment):
    """Run a few lines with `folder` as sys.argv[1], perhaps on a "disk" that takes no file above `file_limit` bytes."""
    limit = None if file_limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)], env={**os.environ, **environment}, preexec_fn=limit, capture_output=True, text=True
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    """A planted error in the middle of writing: the file is as before, and no part is left behind."""
    path = tmp_path / "ä b.txt"
    files.write_text(path, "old")
    with pytest.raises(ZeroDivisionError), files.atomic(path) as stream:
        stream.write(b"new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["ä b.txt"]


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path):
    """SIGKILL between the last byte and the rename: the old content stands, and the part is cleared by the next start."""
    files.write_text(tmp_path / "x.txt", "old")
    code = "import sys; from pellucid.core import files; files.write_text(sys.argv[1] + '/x.txt', 'new', kind='planted')"
    killed = python(code, tmp_path, PELLUCID_CRASH="planted:1")
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "x.txt").read_text() == "old"
    assert len(names(tmp_path)) == 2
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["x.txt"]


def test_crash_point_counts_its_visits(tmp_path):
    """``place:3`` dies at the third visit of that place, and at no other place."""
    code = "import sys; from pellucid.core.files import crash_point\nfor i in range(9):\n crash_point('other'); crash_point('here'); print(i, flush=True)"
    killed = python(code, tmp_path, PELLUCID_CRASH="here:3")
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.split() == ["0", "1"]


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(tmp_path):
    """Where no file may grow above 1,000 bytes, the message names the file, and the folder stays empty."""
    code = (
        "import sys; from pellucid.core import files; from pellucid.core.errors import StorageError\n"
        "try: files.write_bytes(sys.argv[1] + '/big.bin', bytes(10_000))\n"
        "except StorageError as error: print(error)"
    )
    done = python(code, tmp_path, file_limit=1000)
    assert done.stdout.strip() == f"{tmp_path}/big.bin: the disk is full. Free some space and start again; nothing is lost."
    assert names(tmp_path) == []


def test_a_full_disk_leaves_no_half_folder(tmp_path):
    """A folder that can't be filled isn't there at all."""
    code = (
        "import sys, pathlib; from pellucid.core import files; from pellucid.core.errors import StorageError\n"
        "def fill(folder): (folder / 'small').write_bytes(bytes(10)); (folder / 'big').write_bytes(bytes(10_000))\n"
        "try: files.write_folder(pathlib.Path(sys.argv[1]) / 'store', fill)\n"
        "except StorageError as error: print(error)"
    )
    done = python(code, tmp_path, file_limit=1000)
    assert "store: the disk is full" in done.stdout
    assert names(tmp_path) == []


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"), (errno.EROFS, "can't be written"), (errno.EACCES, "can't be written")])  # fmt: skip
def test_system_errors_become_storage_errors(tmp_path, number, words):
    """No space, no quota, read-only and not allowed are the user's to mend."""
    with pytest.raises(StorageError, match=words), files.atomic(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["", ".", "a folder", "a file/report.html", "/proc/report.html"])
def test_what_cannot_be_written_is_said_beforehand(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").touch()
    with pytest.raises(StorageError, match=r"is a folder\. Name a file|can't be written"):
        files.check_writable(place)
    files.check_writable("new/folder/report.html")
    assert names(tmp_path) == ["a file", "a folder"]


def test_other_system_errors_pass_as_they_are(tmp_path):
    """A missing input inside the body isn't dressed up as a full disk."""
    with pytest.raises(FileNotFoundError), files.atomic(tmp_path / "x"):
        (tmp_path / "absent").read_bytes()


def test_write_folder_is_whole_or_not_there(tmp_path):
    """An error while filling leaves nothing; a part that a kill left is swept away; success takes its name."""
    final = tmp_path / "store"
    leftover = tmp_path / ".store.part"
    leftover.mkdir()
    (leftover / "stale").touch()

    def broken(folder):
        assert names(folder) == []
        (folder / "x").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        files.write_folder(final, broken)
    assert names(tmp_path) == []
    files.write_folder(final, lambda folder: (folder / "x").touch())
    assert names(tmp_path) == ["store"]
    assert names(final) == ["x"]


def test_a_killed_write_folder_isnt_seen(tmp_path):
    """SIGKILL after filling and before the rename: the folder isn't there, and the next call makes it."""
    code = "import sys, pathlib; from pellucid.core import files; files.write_folder(pathlib.Path(sys.argv[1]) / 'store', lambda f: (f / 'x').touch(), kind='planted')"
    assert python(code, tmp_path, PELLUCID_CRASH="planted").returncode == -signal.SIGKILL
    assert names(tmp_path) == [".store.part"]
    files.write_folder(tmp_path / "store", lambda folder: (folder / "y").touch())
    assert names(tmp_path) == ["store"]
    assert names(tmp_path / "store") == ["y"]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    """An undefined value needs a reason, not a NaN; the file before stands."""
    path = tmp_path / "x.json"
    files.write_json(path, {"ü": [1, 2.5, None]})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"value": float("nan")})
    assert files.read_json(path) == {"ü": [1, 2.5, None]}
    assert "ü" in path.read_text(encoding="utf-8")


def test_npz_comes_back_and_objects_are_refused(tmp_path):
    """Arrays and text round-trip; nothing that needs pickle is ever written."""
    path = tmp_path / "deep" / "x.npz"
    files.write_npz(path, {"a": np.arange(3), "t": np.array(["ä", "bc"])})
    with np.load(path, allow_pickle=False) as content:
        assert content["a"].tolist() == [0, 1, 2]
        assert content["t"].tolist() == ["ä", "bc"]
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        files.write_npz(path, {"a": np.array([{}], dtype=object)})
    with np.load(path) as content:
        assert content["a"].tolist() == [0, 1, 2]


def test_files_are_readable_by_others(tmp_path):
    """A temporary file is private; the finished one has the ordinary mode."""
    files.write_json(tmp_path / "x.json", {})
    assert json.loads((tmp_path / "x.json").read_text()) == {}
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o644
