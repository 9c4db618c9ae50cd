"""Kill a run at twenty random moments, let it end, and compare it with a run that was never stopped.

``make soak``, or ``python tests/soak.py [SEED [KILLS]]``. Prints one line; ends with 1 where anything differs.
The tests kill at chosen places (tests/running/test_kills.py); this kills by the clock, wherever the run happens to be.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from whole_run import TINY, Outcome, differences, finished, pellucid_in

# Long enough that twenty kills fall into all of its stages.
EXPERIMENT = TINY.replace("epochs = 2", "epochs = 6").replace("epochs = 3", "epochs = 12").replace("n_subjects = 20", "n_subjects = 60")
START_SECONDS = 0.05  # a forked process is running after this


def soak(seed: int, kills: int) -> tuple[list[str], list[Outcome]]:
    """Return what differs in the end, and how each start ended."""
    draws = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak ü ") as name:
        whole, stopped = Path(name, "whole"), Path(name, "stopped")
        for folder in (whole, stopped):
            folder.mkdir()
            (folder / "tiny.toml").write_text(EXPERIMENT)
        pellucid_in(whole, "--help")  # the first call pays for all imports, which would make the run look longer than it is
        reference = _ended(pellucid_in(whole, "run", "tiny.toml"))
        # The number format is timed, so it may fall out differently in another workspace, and with it the last bits.
        shutil.copytree(whole / "ws" / "choices", stopped / "ws" / "choices")
        starts: list[Outcome] = []
        while sum(start.code == -signal.SIGKILL for start in starts) < kills:
            if starts and starts[-1].code == 0:  # it came to its end between two kills: begin anew, and go on killing
                _check(whole, stopped)
                shutil.rmtree(stopped / "runs")
                shutil.rmtree(stopped / "ws" / "networks")
            # Each start gets a few percent of the whole time, so that on average the kills spread over one run.
            moment = START_SECONDS + draws.expovariate(1) * reference.seconds * 3 / kills
            starts.append(pellucid_in(stopped, "run", "tiny.toml", kill_after=moment))
            if starts[-1].code not in (0, -signal.SIGKILL):
                return [f"start {len(starts)} ended with {starts[-1].code}: {starts[-1].err.splitlines()[-1]}"], starts
        starts.append(_ended(pellucid_in(stopped, "run", "tiny.toml")))
        left = [f"left behind: {path.name}" for path in stopped.rglob(".*.part*")]
        return differences(finished(stopped / "runs" / "tiny"), finished(whole / "runs" / "tiny")) + left, starts


def _check(whole: Path, stopped: Path) -> None:
    found = differences(finished(stopped / "runs" / "tiny"), finished(whole / "runs" / "tiny"))
    if found:
        raise SystemExit(f"soak: differs: {found[:3]}")


def _ended(outcome: Outcome) -> Outcome:
    if outcome.code:
        raise SystemExit(f"soak: a run that nobody stopped ended with {outcome.code}: {outcome.err}")
    return outcome


def main() -> None:
    """Run one soak and say in one line how it went."""
    seed, kills = (int(text) for text in [*sys.argv[1:], *["0", "20"][len(sys.argv) - 1 :]])
    found, starts = soak(seed, kills)
    killed = sum(start.code == -signal.SIGKILL for start in starts)
    # How far each start came, by the last line it printed.
    places = sorted({start.err.splitlines()[-1].split(":")[0] if start.err.strip() else "before the first epoch ended" for start in starts})
    print(f"soak, seed {seed}: {killed} kills over {len(starts)} starts ({'; '.join(places)}): {'equal' if not found else 'DIFFERENT'}")
    for difference in found[:20]:
        print(f"  {difference}")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
