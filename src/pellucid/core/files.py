"""Files that are whole or not there: written aside, synced to disk, then renamed into place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import signal
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from pellucid.core.errors import StorageError

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
# The last three: a file stands where a folder should be, or the other way.
_FORBIDDEN = {errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
_DAMAGE = (
    FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
Result = TypeVar("Result")
_hits: dict[str, int] = {}
_numbers = itertools.count()


def crash_point(place: str) -> None:
    """Die here as ``kill -9`` would, if ``PELLUCID_CRASH`` says ``place:n`` and this is the n-th visit.

    This is how the tests kill a run at an exact place; without the variable it does nothing.
    """
    wanted = os.environ.get("PELLUCID_CRASH")
    if not wanted:
        return
    name, _, count = wanted.partition(":")
    if name == place:
        _hits[place] = _hits.get(place, 0) + 1
        if _hits[place] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn "disk full" and "not allowed" into a :class:`StorageError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(f"{path}: the disk is full. Free some space and start again; nothing is lost.") from error
        if error.errno in _FORBIDDEN:
            raise StorageError(f"{path}: can't be written ({error.strerror}). Choose a folder you may write to.") from error
        raise


@contextlib.contextmanager
def atomic(path: Path | str, *, kind: str = "file") -> Iterator[IO[bytes]]:
    """Open a binary file that takes its name only when all of it is on disk.

    Parameters
    ----------
    path : Path or str
        The final name. Parent folders are made.
    kind : str
        What sort of write this is, for :func:`crash_point`.

    Raises
    ------
    StorageError
        The disk is full or the folder can't be written. Nothing is left behind.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}.part")
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the person's umask says who may read it
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            crash_point(kind)
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(path: Path | str) -> None:
    """Refuse a file that can't be written, before hours are spent on what goes into it; nothing is made.

    Raises
    ------
    StorageError
        The path is a folder, or the folder it would lie in can't be written or made.
    """
    path = Path(path)
    if not path.name or path.is_dir():
        raise StorageError(f"{str(path)!r} is a folder. Name a file in it.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"{path}: can't be written ({error.strerror}). Choose a folder you may write to.") from error


def write_bytes(path: Path | str, content: bytes, *, kind: str = "file") -> None:
    """Write `content` to `path` atomically."""
    with atomic(path, kind=kind) as stream:
        stream.write(content)


def write_text(path: Path | str, content: str, *, kind: str = "file") -> None:
    """Write `content` to `path` as UTF-8, atomically."""
    write_bytes(path, content.encode(), kind=kind)


def write_json(path: Path | str, content: Any, *, kind: str = "file") -> None:
    """Write `content` to `path` as readable JSON, atomically. NaN is an error: say why a value is undefined."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", kind=kind)


def read_json(path: Path | str) -> Any:
    """Return what :func:`write_json` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def unless_damaged(read: Callable[[], Result]) -> Result | None:
    """Return what `read` reads, or None where a file is gone or damaged; whoever wrote it makes it anew."""
    try:
        return read()
    except _DAMAGE:
        return None


def write_npz(path: Path | str, arrays: dict[str, Any], *, kind: str = "file") -> None:
    """Write named NumPy arrays to `path` (compressed), atomically. Object arrays are refused."""
    import numpy as np

    with atomic(path, kind=kind) as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def remove_leftovers(folder: Path) -> None:
    """Delete the part-written files that a killed process left in `folder`."""
    for leftover in folder.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            leftover.unlink()


def hold(path: Path | str) -> IO[str] | None:
    """Return an open file that only this process holds until it closes it or ends, however that is; None where another one holds it.

    Raises
    ------
    StorageError
        The folder can't be written.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def write_folder(final: Path, fill: Callable[[Path], None], *, kind: str = "folder") -> None:
    """Let `fill` write into a fresh folder beside `final`, then rename it into place.

    A kill leaves only a ``.part`` folder, which nothing reads and the next call removes.
    """
    import shutil

    aside = final.with_name(f".{final.name}.part")
    with storage_errors(final):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            fill(aside)
            crash_point(kind)
            aside.replace(final)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_folder(final.parent)
