"""The workspace: decoded stores, trained networks and teacher caches, each under the fingerprint of what went in."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pellucid.core import files
from pellucid.core.errors import StorageError

DEFAULT = ".pellucid"
KINDS = ("stores", "networks", "caches", "choices")


class Workspace:
    """A local folder of results that any run may find again.

    Parameters
    ----------
    path : Path or str
        The folder; made at the first write. ``PELLUCID_WORKSPACE`` changes the default ``.pellucid``.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = Path(path or os.environ.get("PELLUCID_WORKSPACE") or DEFAULT)

    def folder(self, kind: str, key: str) -> Path:
        """Return where the result `key` of a kind lies or will lie."""
        return self.path / kind / key

    @contextlib.contextmanager
    def lock(self, kind: str, key: str) -> Iterator[Path]:
        """Hold the only right to make one result; a second process waits. A kill frees it.

        Yields the result's folder (not made yet).
        """
        folder = self.folder(kind, key)
        with files.storage_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        handle = self._open_lock(kind, key)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(handle)

    def entries(self) -> list[tuple[str, str, int]]:
        """Return (kind, key, bytes) of every result, largest first."""
        found = []
        for kind in KINDS:
            for folder in (self.path / kind).glob("*"):
                paths = [folder, *folder.rglob("*")] if folder.is_dir() else [folder]
                found.append((kind, folder.name, sum(path.stat().st_size for path in paths if path.is_file())))
        return sorted(found, key=lambda entry: -entry[2])

    def remove(self, kind: str, key: str) -> None:
        """Delete one result, unless a running process holds it.

        Raises
        ------
        StorageError
            Another process is making or using it.
        """
        # A store that is being written lies in ".KEY.part", a choice in "KEY.json"; both are guarded by the lock of their key.
        handle = self._open_lock(kind, key.removeprefix(".").removesuffix(".part").removesuffix(".json"))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = self.folder(kind, key)
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink(missing_ok=True)
        except BlockingIOError:
            raise StorageError(f"{self.folder(kind, key)}: in use by another run. Wait for it, or stop it.") from None
        finally:
            os.close(handle)

    def _open_lock(self, kind: str, key: str) -> int:
        lock = self.path / "locks" / f"{kind}-{key}"
        with files.storage_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            return os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
