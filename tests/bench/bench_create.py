"""What a VM costs the service: `python -m tests.bench.bench_create [cost|pace|memory]`, all of them without a word.

The service runs as its users run it, in operator mode, with its PostgreSQL, the simulated cloud and the clients in
processes of their own. CPU is that of the service's processes alone; what the others took is beside it.

- cost: preemptible VMs are created at an even pace until each is ACTIVE, then deleted until each is gone; CPU of the
  service per VM, and what it asked of the cloud. ROUNDS (5) rounds.
- pace: so many clients at once, each creating VM after VM, and two replicas. All share this machine, so the table says
  who took how much of it, and how many creates a CPU second of the service is good for.
- memory: resident memory while CREATES (10,000) VMs come and go, its slope after a warm-up by least squares. Rows of
  VMs that have ended stay in memory for two minutes: with few creates it shows the warm-up only.
"""

import os
import statistics
import sys

from tests.bench.cpu import kilobytes_of
from tests.bench.crowd import Crowd, crowd
from tests.bench.deployment import Deployment

ROUNDS = int(os.environ.get("ROUNDS", "5"))
CREATES = int(os.environ.get("CREATES", "10000"))
MODE = os.environ.get("MODE", "operator")
RATE = 20
PER_ROUND = 160
AT_ONCE = 90
GOAL_CPU = 25.0  # milliseconds per create
GOAL_PACE = 30.0  # creates a second; Nova itself does fewer
GOAL_SLOPE = 1024.0  # KiB per 10,000 creates: under it, memory is called flat


def main(parts: list[str]) -> None:
    """Print the figures."""
    for name, part in (("cost", cost), ("pace", pace), ("memory", memory)):
        if not parts or name in parts:
            part()


def verdict(met: bool) -> str:
    """Said plainly."""
    return "met" if met else "MISSED"


def spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


class Meter:
    """What each process took, and what the cloud was asked, since it was set."""

    def __init__(self, deployment: Deployment, clients: Crowd):
        self._deployment, self._clients = deployment, clients
        deployment.sim.forget_calls()
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {**self._deployment.cpu(), "clients": self._clients.cpu()}

    def read(self) -> dict[str, float]:
        """Seconds of CPU by who took them."""
        return {name: seconds - self._before[name] for name, seconds in self._now().items()}

    def asked(self, times: int) -> str:
        """Calls to the cloud, each per one of so many."""
        counts = sorted(self._deployment.calls().items(), key=lambda item: -item[1])[:5]
        return ", ".join(f"{count / times:.2f} {name}" for name, count in counts)


def done(result: dict, wanted: str) -> int:
    """How many went well; all have to."""
    assert set(result["statuses"]) == {wanted}, result["statuses"]
    return result["statuses"][wanted]


def cost() -> None:
    """CPU per create and per delete."""
    taken: dict[str, list[dict[str, float]]] = {"create": [], "delete": []}
    asked = {}
    with Deployment(mode=MODE) as deployment, crowd(deployment.port) as clients:
        for number in range(ROUNDS + 1):
            for what, wanted in (("create", "201"), ("delete", "200")):
                meter = Meter(deployment, clients)
                order = {"count": PER_ROUND, "rate": RATE} if what == "create" else {"rate": RATE}
                times = done(clients.do(what, **order), wanted)
                if number:  # the first one warms up
                    taken[what].append({name: 1000 * used / times for name, used in meter.read().items()})
                    asked[what] = meter.asked(times)
    print(
        f"\n| {RATE} a second, {MODE} mode | service, CPU ms each, median (least–most) | PostgreSQL | "
        "simulated cloud | clients | calls to the cloud for each |\n|---|---|---|---|---|---|"
    )
    for what, rounds in taken.items():
        print(
            f"| {what} | "
            + " | ".join(spread([each[name] for each in rounds]) for name in rounds[0])
            + f" | {asked[what]} |"
        )
    middle = statistics.median(each["service"] for each in taken["create"])
    print(f"\nservice CPU per create: goal under {GOAL_CPU:.0f} ms, {middle:.1f} ms: {verdict(middle < GOAL_CPU)}")


def pace() -> None:
    """Creates a second of two replicas, with everything else on the same cores."""
    rounds = []
    with Deployment(mode=MODE, replicas=2) as deployment, crowd(deployment.port) as clients:
        for number in range(ROUNDS + 1):
            meter = Meter(deployment, clients)
            result = clients.do("churn", count=AT_ONCE * 8, at_once=AT_ONCE, keep=True)
            used, times = meter.read(), done(result, "201")
            rounds += (
                [
                    (
                        times / result["seconds"],
                        times / used["service"],
                        {name: seconds / result["seconds"] for name, seconds in used.items()},
                    )
                ]
                if number
                else []
            )
            done(clients.do("delete", rate=RATE * 2), "200")
    rates = [rate for rate, _, _ in rounds]
    print(f"\n| {AT_ONCE} clients, two replicas, {os.cpu_count()} cores for all | median (least–most) |\n|---|---|")
    print(f"| creates a second | {spread(rates)} |")
    print(f"| creates per CPU second of the service | {spread([per for _, per, _ in rounds])} |")
    for name in rounds[0][2]:
        print(f"| cores that {name} took | {statistics.median(shares[name] for _, _, shares in rounds):.2f} |")
    middle = statistics.median(rates)
    print(f"\ncreates a second, two replicas: goal {GOAL_PACE:.0f}, {middle:.1f}: {verdict(middle >= GOAL_PACE)}")


def memory() -> None:
    """Resident memory while VMs come and go."""
    samples: list[tuple[int, int]] = []
    step = max(100, CREATES // 40)
    with Deployment(mode=MODE) as deployment, crowd(deployment.port) as clients:
        (pid,) = deployment.replicas
        for total in range(step, CREATES + 1, step):
            done(clients.do("churn", count=step, at_once=60), "201")
            samples.append((total, kilobytes_of(pid)))
            if total % (step * 10) == 0:
                print(f"after {total:,} creates {samples[-1][1] / 1024:.1f} MiB", flush=True)
    late = samples[len(samples) // 3 :]
    growth = 10_000 * statistics.linear_regression(*zip(*late)).slope
    print(
        f"\nmemory: {late[0][1] / 1024:.1f} MiB after {late[0][0]:,} creates, {late[-1][1] / 1024:.1f} MiB after "
        f"{late[-1][0]:,}; goal: under {GOAL_SLOPE:.0f} KiB per 10,000 creates, {growth:,.0f} KiB: "
        f"{verdict(growth < GOAL_SLOPE)}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
