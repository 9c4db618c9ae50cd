"""Jobs in processes: in order, each failure alone, and nothing left running."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from pellucid.core.errors import GuardError, RunError
from pellucid.scale.engines import local
from pellucid.scale.plan import Cell, Job

CELL = Cell("cell", {}, None, Path(), Path("sweep/runs/cell"))  # type: ignore[arg-type]


def job(key, *needs):
    return Job(key, "student", CELL, needs)


def act(job):
    """Do what the job's key says; runs in another process."""
    if job.key.startswith("guard"):
        raise GuardError("loss dfkd: part sal teaches nothing", part="sal")
    if job.key.startswith("broken"):
        raise ZeroDivisionError("by nothing")
    if job.key.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    return job.key, os.environ["OMP_NUM_THREADS"], time.monotonic()


def worked(*jobs, processes=2):
    done, failed = {}, {}
    left = local.work(
        jobs, act, processes=processes, beat=lambda running: None,
        finished=lambda job, result, seconds: done.update({job.key: result}), failed=lambda job, error: failed.update({job.key: str(error)}),
    )  # fmt: skip
    return done, failed, [job.key for job in left]


def test_a_job_begins_after_what_it_needs_and_computes_on_one_thread():
    """The need stands last in the list, and is done first all the same; the caller's environment is as before."""
    before = dict(os.environ)
    done, failed, left = worked(job("student", "teacher"), job("other"), job("teacher"))
    assert done["teacher"][2] < done["student"][2]
    assert {threads for _, threads, _ in done.values()} == {"1"}
    assert failed == {} and left == [] and dict(os.environ) == before


def test_a_failed_job_stops_only_those_that_need_it():
    """An error that can't be sent between processes keeps its message; whatever hangs on it, directly or not, isn't begun."""
    done, failed, left = worked(job("guard"), job("child", "guard"), job("grandchild", "child"), job("broken"), job("fine"))
    assert set(done) == {"fine"} and set(left) == {"child", "grandchild"}
    assert failed == {"guard": "loss dfkd: part sal teaches nothing", "broken": "ZeroDivisionError: by nothing"}


def test_a_process_that_dies_ends_the_sweep_with_one_line():
    with pytest.raises(RunError, match="died without a word"):
        worked(job("die"), job("fine"), processes=1)


def test_a_script_without_a_guard_is_run_once(tmp_path):
    """Its processes don't import it anew: no second sweep begins inside them, and what it writes is written once."""
    script = tmp_path / "careless.py"
    script.write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from pellucid.scale.engines import local\n"
        "from pellucid.scale.plan import Cell, Job\n"
        "import careless_act\n"
        "with Path('begun').open('a') as stream:\n    stream.write('x')\n"
        "os.environ['CAME_LATE'] = 'yes'\n"
        "job = Job('a', 'student', Cell('cell', {}, None, Path(), Path('sweep/runs/cell')))\n"
        "local.work([job], careless_act.act, processes=1, finished=lambda job, result, _: print(result), failed=print, beat=print)\n"
    )
    (tmp_path / "careless_act.py").write_text("import os\ndef act(job):\n    return 'done', os.environ['CAME_LATE']\n")
    outcome = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (outcome.stdout, outcome.stderr, outcome.returncode) == ("('done', 'yes')\n", "", 0)
    assert (tmp_path / "begun").read_text() == "x"


def test_processes_end_with_a_killed_parent(tmp_path):
    """kill -9 of the sweep leaves no process that trains on."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import time, sys\n"
        "from pathlib import Path\n"
        "from pellucid.scale.engines import local\n"
        "from pellucid.scale.plan import Cell, Job\n"
        "import parent_act\n"
        "if __name__ == '__main__':\n"
        "    cell = Cell('cell', {}, None, Path(), Path('sweep/runs/cell'))\n"
        "    local.work([Job('a', 'student', cell)], parent_act.act, processes=1, finished=print, failed=print, beat=print)\n"
    )
    (tmp_path / "parent_act.py").write_text(
        "import os, time\nfrom pathlib import Path\n"
        "def act(job):\n    Path(__file__).with_name('pid').write_text(str(os.getpid()))\n    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path)
    child = _wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    assert _wait_for(lambda: not _runs(child))


def test_the_server_is_deaf_to_ctrl_c_and_this_process_is_not():
    """Stopped while it still imports, it would end with a traceback on the person's terminal."""
    forkserver._forkserver._stop()  # another test's server may not have been begun by this engine
    worked(job("fine"), processes=1)
    status = Path(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read_text()
    blocked = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")), 16)
    assert blocked >> (signal.SIGINT - 1) & 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(("cores", "gigabytes", "processes"), [(8, 64.0, 8), (8, 9.0, 4), (2, 1.0, 1)])
def test_as_many_processes_as_the_machine_carries(cores, gigabytes, processes, monkeypatch):
    """One for each core, fewer where memory is small, and at least one."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(local, "_gigabytes", lambda: gigabytes)
    assert local.fitting_processes() == processes


def _wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    return False


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_of_a_pool_take_turns_over_the_gpus():
    """Three processes on two GPUs: neighbours never share one; numbers go on where an earlier pool stopped."""
    assert [local.gpu_of(f"ForkServerProcess-{number}", 2) for number in (3, 4, 5)] == [1, 0, 1]


def test_processes_are_numbered_in_their_names():
    """What `gpu_of` relies on: the names of a pool's processes end in different numbers."""
    names = {}
    local.work(
        [job("a"), job("b")], name_of_process, processes=2, beat=lambda running: None,
        finished=lambda job, result, seconds: names.update({job.key: result}), failed=lambda job, error: None,
    )  # fmt: skip
    numbers = [int(name.rpartition("-")[2]) for name in names.values()]
    assert len(numbers) == 2 and abs(numbers[0] - numbers[1]) == 1


def name_of_process(job):
    time.sleep(1.0)  # so that one process doesn't do both
    return multiprocessing.current_process().name
