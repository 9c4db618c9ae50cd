"""Jobs on this machine: as many processes as it has cores, one thread each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from pellucid.core.errors import PellucidError, RunError
from pellucid.scale.plan import Job

GIGABYTES_EACH = 2.0  # a process with torch, a large network and its gradients
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PRELOADED = ["timm", "scipy.stats", "sklearn.metrics", "pellucid.running.experiment"]
BEAT = 60.0  # seconds between signs of life


def fitting_processes() -> int:
    """Return how many processes of one thread this machine carries: its cores, fewer where memory is small; one for each GPU."""
    import torch

    if torch.cuda.is_available():
        return max(1, torch.cuda.device_count())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(_gigabytes() / GIGABYTES_EACH)))


def work(
    jobs: Sequence[Job],
    act: Callable[[Job], Any],
    *,
    processes: int,
    finished: Callable[[Job, Any, float], None],
    failed: Callable[[Job, BaseException], None],
    beat: Callable[[list[Job]], None],
) -> list[Job]:
    """Do jobs in processes, each as soon as what it needs is done, in the order given where there is a choice.

    Parameters
    ----------
    jobs : sequence of Job
        A job whose needs are no job of this list is ready.
    act : callable
        Does one job; must be importable in another process, its result be pickled.
    processes : int
    finished : callable (job, result, seconds)
    failed : callable (job, error)
        A job that needs a failed one isn't begun; the others go on.
    beat : callable (running jobs)
        Called about every minute in which nothing was finished.

    Returns
    -------
    list of Job
        Those that were not begun.

    Raises
    ------
    RunError
        A process died without a word, as it does when memory is short.

    Notes
    -----
    The processes end with this one, however it ends: each watches a pipe that only this process holds open.
    """
    waiting, left = list(jobs), list[Job]()
    running: dict[Future[Any], Job] = {}
    broken: set[str] = set()
    unfinished = {job.key for job in jobs}
    with _pool(min(processes, max(1, len(jobs)))) as pool:
        while waiting or running:
            for job in [job for job in waiting if broken & set(job.needs)]:
                waiting.remove(job)
                left.append(job)
                broken.add(job.key)
            ready = [job for job in waiting if not unfinished & set(job.needs)]
            for job in ready[: processes - len(running)]:
                waiting.remove(job)
                with _without_main():  # a process begins when a job is handed in
                    running[pool.submit(_timed, act, job)] = job
            done, _ = wait(running, timeout=BEAT, return_when=FIRST_COMPLETED)
            if not done and running:
                beat(list(running.values()))
            for future in done:
                job = running.pop(future)
                _settle(future, job, finished, failed, broken)
                unfinished.discard(job.key)
    return left


def _settle(future: Future[Any], job: Job, finished: Callable[..., None], failed: Callable[..., None], broken: set[str]) -> None:
    try:
        result, seconds = future.result()
    except BrokenProcessPool:
        raise RunError(
            "a process of the sweep died without a word, which it does when memory is short. Use fewer --processes; nothing finished is lost."
        ) from None
    except Exception as error:
        broken.add(job.key)
        failed(job, error)
    else:
        finished(job, result, seconds)


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    # Processes fork from one that has imported everything and computed nothing: the libraries are loaded once, not once for each.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    watched, held = context.Pipe(duplex=False)
    with _one_thread(), watched, held:
        _begin_server()
        pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(watched, dict(os.environ)))
        try:
            yield pool
        except BaseException:
            held.close()  # whoever still works stops at once
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_server() -> None:
    """Begin the process that the others fork from, deaf to Ctrl-C: it imports for seconds, and would end those with a traceback."""
    resource_tracker.ensure_running()  # or the server would begin it, which lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes begun inside compute on one thread; libraries read these variables when they are loaded."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the caller's script from processes begun inside: they need nothing of it, and would import it anew, sweep and all."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin(watched: Connection, environment: dict[str, str]) -> None:
    """Compute on one thread, and end this process as soon as the pipe's other end is closed: the sweep was stopped or killed."""
    import torch

    os.environ.update(environment)  # what was set after an earlier sweep of the same program began
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(gpu_of(multiprocessing.current_process().name, torch.cuda.device_count()))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which then closes the pipe

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            watched.recv()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def gpu_of(process: str, gpus: int) -> int:
    """Return which of so many GPUs a process computes on; the processes of a pool are numbered one after another in their names."""
    return int(process.rpartition("-")[2]) % gpus


def _timed(act: Callable[[Job], Any], job: Job) -> tuple[Any, float]:
    start = time.perf_counter()
    try:
        return act(job), time.perf_counter() - start
    except PellucidError as error:
        raise RunError(str(error)) from None  # some errors hold what can't be sent to another process
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


def _gigabytes() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError, AttributeError):
        return float("inf")  # this system doesn't tell
