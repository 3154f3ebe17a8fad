"""`python -m tests.hostile`: thousands of bad requests, slow peers and idle crowds on a real service, and a table of
what they came to. `make test_hostile` runs it. Settings, all in the environment: HOSTILE_REQUESTS (10000),
HOSTILE_IDLE (2000), HOSTILE_SLOW_SECONDS (75: a little more than the service's limits), HOSTILE_EXAMPLES (60: of each
operation and phase, by schemathesis), HOSTILE_SEED (1), HOSTILE_ROUNDS (4: creates
without and beside each crowd of strangers, in turn, five of each)."""

import asyncio
import resource
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.conftest import server_with
from tests.hostile import scenarios
from tests.hostile.attack import Outcome, attack
from tests.report import setting, table

COLUMNS = ("kind", "requests", "4xx", "closed", "5xx", "other")


def classes(answers: Counter[str]) -> Counter[str]:
    """The answers by their class."""
    found: Counter[str] = Counter()
    for came, number in answers.items():
        name = (
            f"{came[0]}xx"
            if came[0] in "45"
            else "closed"
            if came in ("closed", "hung up on", "101, closed")
            else "other"
        )
        found[name] += number
    return found


def kinds(outcome: Outcome) -> str:
    """The table of all kinds, with their sum."""
    rows = [COLUMNS]
    total: Counter[str] = Counter()
    for kind, answers in outcome.tally.answers.items():
        found = classes(answers)
        total += found
        said = ", ".join(
            f"{number} {came}" for came, number in sorted(answers.items()) if classes(Counter([came]))["other"]
        )
        rows.append((kind, str(found.total()), *(str(found[name]) for name in COLUMNS[2:5]), said))
    rows.append(("total", str(total.total()), *(str(total[name]) for name in COLUMNS[2:5]), str(total["other"])))
    return table(rows, left=(0, len(COLUMNS) - 1))


def report(outcome: Outcome) -> str:
    """The table and what was measured beside it."""
    probe, before, after = outcome.probe, outcome.before, outcome.after
    held = ", ".join(
        f"{name} {getattr(before, name):.0f} -> {getattr(after, name):.0f}"
        for name in ("rss_mb", "descriptors", "threads", "tasks")
    )
    return "\n".join(
        [
            kinds(outcome),
            f"/healthz, asked {len(probe.seconds)} times: p50 {probe.share(0.5):.1f} ms, p99 {probe.share(0.99):.1f} "
            f"ms, max {probe.share(1):.1f} ms, {len(probe.failures)} failures",
            f"before -> after: {held}",
            f"creates with their deletes: {outcome.customer.served}, taken by others {outcome.customer.taken}; "
            f"events missed: {outcome.events.lost}; errors in the log: {outcome.tracebacks}",
        ]
    )


def main() -> int:
    """1 on a 500, a hang, a leak or a missed event."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-hostile-"))
    try:
        with server_with("template") as postgres:
            outcome = asyncio.run(
                attack(
                    folder,
                    postgres,
                    int(setting("HOSTILE_REQUESTS", 10_000)),
                    int(setting("HOSTILE_IDLE", 2000)),
                    setting("HOSTILE_SLOW_SECONDS", 75),
                    int(setting("HOSTILE_SEED", 1)),
                    int(setting("HOSTILE_EXAMPLES", 60)),
                )
            )
            print(report(outcome), flush=True)  # before the scenarios, which may fail
            figures = asyncio.run(scenarios.all_of_them(folder, postgres, int(setting("HOSTILE_ROUNDS", 4))))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    problems = outcome.problems + figures.problems
    for problem in problems:
        print(problem)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
