"""`python -m tests.chaos`: the crash matrix, a storm, integrity runs in both modes, a soak, and a table of the results.
`make test_chaos` runs it. Settings, all in the environment: SOAK_MINUTES (30), STORM_FAULTS (10000), MATRIX_RUNS (0:
the whole matrix), INTEGRITY_SECONDS (540, half of it in each mode), CHAOS_SEED (1: another seed tries other faults and
other variants), CHAOS_LANES (runs side by side: 4)."""

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.integrity import both_modes
from tests.chaos.matrix import ALL, Tally, matrix, sample
from tests.chaos.soak import soak
from tests.chaos.storm import storm
from tests.chaos.system_under_test import Result
from tests.conftest import Database, server_with
from tests.report import setting, table

COLUMNS = ("", "faults", "requests", "servers made", "left over", "events lost", "doubled", "longest recovery", "time")


async def crashes(folder: Path, postgres: Database, seed: int) -> Result:
    """The matrix, or a sample of it."""
    began, tally, number = time.monotonic(), Tally(), int(setting("MATRIX_RUNS", 0))
    with matrix(folder, postgres, int(setting("CHAOS_LANES", 4))) as runners:
        cases = await runners.record(ALL, tally, seed)
        await runners.run(sample(cases, number or len(cases), seed), tally)
    # A run whose invariants did not hold counts as something left over: what it was is said below.
    return Result(
        faults=tally.deaths,
        kills=tally.deaths,
        requests=tally.requests,
        servers=tally.servers,
        left_over=len(tally.failures),
        recovery=tally.recovery,
        seconds=time.monotonic() - began,
        problems="\n".join(tally.failures),
    )


def line(name: str, result: Result) -> tuple[str, ...]:
    """A row of the table."""
    return (
        name,
        f"{result.faults} ({result.kills} kills)",
        str(result.requests),
        str(result.servers),
        str(result.left_over),
        str(result.lost),
        str(result.doubled),
        f"{result.recovery:.1f} s",
        f"{result.seconds:.0f} s",
    )


def summary(results: dict[str, Result]) -> str:
    """All of them, with their sum."""
    total = Result(
        *(
            sum(getattr(result, name) for result in results.values())
            for name in ("faults", "kills", "requests", "servers", "left_over", "lost", "doubled")
        ),
        max(result.recovery for result in results.values()),
        sum(result.seconds for result in results.values()),
    )
    return table([COLUMNS, *(line(name, result) for name, result in results.items()), line("total", total)])


def main() -> int:
    """1 when something was left over, lost, doubled or leaked."""
    seed, folder = int(setting("CHAOS_SEED", 1)), Path(tempfile.mkdtemp(prefix="vmsvc-chaos-"))
    results: dict[str, Result] = {}
    try:
        with server_with("template") as postgres:
            for name, run in {
                "crash matrix": lambda: crashes(folder, postgres, seed),
                "storm": lambda: storm(folder, postgres, int(setting("STORM_FAULTS", 10000)), seed),
                "integrity": lambda: both_modes(folder, setting("INTEGRITY_SECONDS", 540), seed),
                "soak": lambda: soak(folder, postgres, 60 * setting("SOAK_MINUTES", 30), seed),
            }.items():
                print(f"{name} ...", file=sys.stderr, flush=True)
                results[name] = asyncio.run(run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(summary(results))
    print(f"integrity:\n{results['integrity'].health}")
    print(
        f"soak: {results['soak'].requests / results['soak'].seconds:.1f} creates and deletes a second, "
        f"memory {results['soak'].memory}; at rest {results['soak'].rest}; "
        f"/healthz {results['soak'].health}"
    )
    problems = {name: result.problems for name, result in results.items() if result.problems}
    for name, problem in problems.items():
        print(f"\n{name}: {problem}")
    return int(bool(problems) or any(result.left_over or result.lost or result.doubled for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
