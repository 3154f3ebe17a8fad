"""How late the loop is while many wait: `python -m tests.bench.bench_lag`.

POSTS (1,000) creates are under way and the cloud takes 5 s for every answer of Nova. The service runs as its users run
it, in operator mode; one process has the clients that wait, another asks for /healthz every 10 ms, one after the other,
which is how long anybody else waits. Beside it the service's own measure, `vmsvc_loop_lag_seconds`, each 50 ms.

- quiet: nothing else happens; what the machine itself and the probe add.
- coming: the POSTs arrive, all within two seconds, and are decided about.
- waiting: all are in flight, for SECONDS (20).
- leaving: the cloud is quick again, and all are answered.
"""

import os
import re
import time

from tests.bench.bench_create import done, verdict
from tests.bench.bench_fanout import percentile
from tests.bench.cpu import cpu_of, kilobytes_of
from tests.bench.crowd import Crowd, crowd
from tests.bench.deployment import Deployment

POSTS = int(os.environ.get("POSTS", "1000"))
SECONDS = float(os.environ.get("SECONDS", "20"))
WORKERS = int(os.environ.get("WORKERS", "32"))
ANSWER_SECONDS = 5.0
ARRIVAL_SECONDS = 2.0
GOAL = 20.0  # milliseconds, p99


def lags(deployment: Deployment) -> dict[float, int]:
    """How often the loop was at most so many seconds late, since the start."""
    found = re.findall(r'^vmsvc_loop_lag_seconds_bucket\{le="(.+)"\} (.+)$', deployment.text("/metrics"), re.MULTILINE)
    return {float(bound): int(float(count)) for bound, count in found}


def within(before: dict[float, int], after: dict[float, int], part: int) -> str:
    """The least bound, in milliseconds, under which that many percent of the looks in between were."""
    counts = {bound: after[bound] - before[bound] for bound in after}
    total = counts[float("inf")]
    return f"≤ {1000 * next(bound for bound, count in counts.items() if 100 * count >= part * total):g}"


class Table:
    """A row for each phase."""

    def __init__(self, deployment: Deployment, probe: Crowd):
        self._deployment, self._probe = deployment, probe
        (self._pid,) = deployment.replicas
        self.p99: dict[str, float] = {}
        print(
            "\n| phase | /healthz p50 ms | p99 | most | loop lag p50 ms | p99 | service, cores | MiB | in flight |\n"
            "|---|---|---|---|---|---|---|---|---|",
            flush=True,
        )

    def row(self, phase: str, seconds: float) -> None:
        """Measure for so long and print it."""
        before, spent, began = lags(self._deployment), cpu_of(self._pid), time.monotonic()
        found = self._probe.do("pulse", seconds=seconds)["milliseconds"]
        cores = (cpu_of(self._pid) - spent) / (time.monotonic() - began)
        after = lags(self._deployment)
        p50, p99 = (percentile([each / 1000 for each in found], part) for part in (50, 99))
        self.p99[phase] = p99
        flying = re.search(r"^vmsvc_http_requests_in_flight (.+)$", self._deployment.text("/metrics"), re.MULTILINE)[1]
        print(
            f"| {phase} | {p50:.1f} | {p99:.1f} | {max(found):.1f} | {within(before, after, 50)} | "
            f"{within(before, after, 99)} | {cores:.2f} | {kilobytes_of(self._pid) / 1024:.0f} | "
            f"{float(flying):.0f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    with (
        Deployment(cloud_workers=WORKERS, hosts=50, room=200) as deployment,
        crowd(deployment.port) as clients,
        crowd(deployment.port) as probe,
    ):
        done(clients.do("create", count=40, rate=20), "201")
        table = Table(deployment, probe)
        table.row("quiet", 5)
        deployment.sim.fault(action="delay", service="compute", seconds=ANSWER_SECONDS)
        clients.begin("create", count=POSTS, rate=POSTS / ARRIVAL_SECONDS)
        table.row("coming", ARRIVAL_SECONDS + 3)
        table.row("waiting", SECONDS)
        deployment.sim.clear_faults()
        table.row("leaving", 10)
        print(f"\n{dict(clients.end()['statuses'])} of {POSTS} creates")
    worst = table.p99["waiting"]
    print(f"/healthz while {POSTS} POSTs wait, p99: goal under {GOAL:.0f} ms, {worst:.1f} ms: {verdict(worst < GOAL)}")


if __name__ == "__main__":
    main()
