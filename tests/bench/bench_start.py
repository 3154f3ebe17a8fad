"""How long people wait for the service: `python -m tests.bench.bench_start [ROUNDS]`. Prints figures; asserts nothing.

What `make run` starts, with its database and its simulated cloud, on data of an earlier start: from the start of the
process to the first 200 of /readyz. And what importing the service costs, in CPU seconds of a process of its own less
those of a bare interpreter.
"""

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
PORT = 18996
READY_GOAL, IMPORT_GOAL = 5.0, 0.8  # seconds


def cpu_of(statement: str) -> float:
    """CPU seconds of an interpreter that does this."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def until_ready(folder: str) -> tuple[float, float]:
    """Start it, and stop it once it is ready: seconds until it listened, and until it was ready."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VMSVC_", "OS_"))}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "vmsvc"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env={**environment, "VMSVC_DATA_DIR": folder, "VMSVC_PORT": str(PORT)},
    ) as process:
        listened = None
        while not answers("/readyz"):
            if listened is None and answers("/healthz"):
                listened = time.monotonic() - began
            assert process.poll() is None, "it ended"
            time.sleep(0.02)
        ready = time.monotonic() - began
        process.send_signal(signal.SIGTERM)
    return listened or ready, ready


def answers(path: str) -> bool:
    """True when it says 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=10):
            return True
    except urllib.error.URLError:
        return False


def show(what: str, values: list[float], goal: float | None = None) -> None:
    """Median, least and most, beside the goal."""
    beside = "" if goal is None else f", goal under {goal} s: {'kept' if max(values) < goal else 'MISSED'}"
    print(f"{what}: {statistics.median(values):.2f} s ({min(values):.2f}–{max(values):.2f}){beside}", flush=True)


def main(rounds: int = 5) -> None:
    """All of it."""
    show("import of vmsvc, CPU", [cpu_of("import vmsvc.cli") - cpu_of("pass") for _ in range(rounds)], IMPORT_GOAL)
    with tempfile.TemporaryDirectory(prefix="vmsvc-bench-") as folder:
        show("start, the first time, to ready", [until_ready(folder)[1]])
        found = [until_ready(folder) for _ in range(rounds)]
    show("start, after that, to listening", [listened for listened, _ in found])
    show("start, after that, to ready", [ready for _, ready in found], READY_GOAL)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
