"""What tenant mode serves on a full cloud: `python -m tests.bench.bench_tenant [tries]`. Prints a table in Markdown.

A random mix of m1.tiny, m1.small and m1.medium, all preemptible, fills the cloud. Then one standard m1.large is asked
for, which takes a whole host. Other projects' servers hold a share of the cloud; before each try some of them leave and
others come. The tries of all ways have the same seeds. The ways:

- operator: the peer, which knows the hosts.
- declared: tenant mode with VMSVC_HOST_CAPACITY.
- learned: tenant mode; each host has once been full of the project's servers before others came.
- before: tenant mode with VMSVC_TENANT_EVICTION=sure, which is how it was before there was evidence.
"""

import json
import random
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.bench.deployment import Deployment

VCPUS = 4  # of a host, with 2 GiB each: as many as an m1.large has
SIZES = ("m1.tiny", "m1.small", "m1.medium")  # each fits where a later one does
HOSTS, SHARES = (1, 4), (0.0, 0.2, 0.5)
QUICK = {"schedule_seconds": 0.01, "boot_seconds": 0.03, "delete_seconds": 0.01, "stop_seconds": 0.01}
WAYS: dict[str, dict[str, object]] = {
    "operator": {"mode": "operator"},
    "declared": {"mode": "tenant", "host_capacity": f"VCPU={VCPUS},MEMORY_MB={2048 * VCPUS},DISK_GB=100"},
    "learned": {"mode": "tenant"},
    "before": {"mode": "tenant", "tenant_eviction": "sure"},
}
GOAL_DECLARED, GOAL_LEARNED, GOAL_WASTED = 1.0, 0.9, 0.05


@dataclass
class Tally:
    """What came of the tries of one way on one cloud."""

    tries: int = 0
    served: int = 0
    victims: int = 0
    wasted: dict[str, int] = field(default_factory=lambda: {"sure": 0, "likely": 0})

    @property
    def share_wasted(self) -> float:
        """Of all victims, how many left for a request that was then refused."""
        return sum(self.wasted.values()) / self.victims if self.victims else 0.0


class Project:
    """The service and the cloud of one way, and the servers of others there."""

    def __init__(self, deployment: Deployment, hosts: int, others: str, share: float):
        self._deployment = deployment
        self._hosts = [f"sim-{number}" for number in range(1, hosts + 1)]
        self._project, self._share = others, share
        self._others: dict[str, str] = {}

    def _call(self, method: str, path: str, body: object = None) -> tuple[int, dict]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._deployment.port}/api/v1{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def create(self, flavor: str, preemptible: bool) -> tuple[int, dict]:
        """POST one; status and body."""
        return self._call("POST", "/vm", {"is_preemptible": preemptible, "flavor": flavor})

    def others_come_and_go(self, rng: random.Random) -> None:
        """Each server of others leaves by one chance in two; then others come. On average they have their share."""
        sim = self._deployment.sim
        for server in [one for one in sorted(self._others) if rng.random() < 0.5]:
            sim.vanish(server)
            del self._others[server]
        wanted = sum(rng.random() < self._share for _ in range(VCPUS * len(self._hosts)))
        for _ in range(wanted - len(self._others)):
            room = [host for host in self._hosts if [*self._others.values()].count(host) < VCPUS]
            host = rng.choice(room)
            (server,) = sim.foreign(self._project, flavor="m1.tiny", count=1, host=host)
            self._others[server] = host

    def fill(self, rng: random.Random) -> None:
        """Preemptible VMs of a random mix until not even the smallest fits."""
        sizes = list(SIZES)
        while sizes:
            flavor = rng.choice(sizes)
            status, body = self.create(flavor, True)
            if status == 409:
                sizes = sizes[: sizes.index(flavor)]  # a larger one does not fit either
            elif status != 201:
                raise AssertionError(body)

    def empty(self) -> None:
        """None of the project's VMs is left."""
        _, listed = self._call("GET", "/vm")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda vm: self._call("DELETE", f"/vm/{vm['id']}"), listed["servers"]))

    def fill_each_host_once(self) -> None:
        """Each host is full of m1.small for a moment."""
        for _ in range(VCPUS * len(self._hosts)):
            assert self.create("m1.small", True)[0] == 201
        self._call("GET", "/capacity")  # a read of all servers at one moment
        self.empty()

    def record(self) -> list[dict]:
        """The newest 200 evictions of the record, newest first."""
        return self._call("GET", "/evictions?limit=200")[1]["evictions"]


def measured(hosts: int, share: float, way: str, tries: int) -> Tally:
    """What came of so many requests for an m1.large in one way, with the seeds 0 to `tries` - 1."""
    settings = {**WAYS[way]}
    mode = str(settings.pop("mode"))
    tally = Tally()
    size = {"mode": mode, "hosts": hosts, "room": VCPUS, "ram_mb": 2048 * VCPUS, "cloud": QUICK}
    with Deployment(**size, grace_seconds=0, **settings) as deployment:
        project = Project(deployment, hosts, "admin" if mode == "tenant" else "demo", share)
        if way == "learned":
            project.fill_each_host_once()
        seen = 0
        for seed in range(tries):
            rng = random.Random(f"{hosts} {share} {seed}")
            project.others_come_and_go(rng)
            project.fill(rng)
            status, _ = project.create("m1.large", False)
            records = [one for one in project.record() if one["id"] > seen]
            seen = max((one["id"] for one in records), default=seen)
            gone = [one for one in records if one["evicting_at"]]
            tally.tries += 1
            tally.served += status == 201
            tally.victims += len(gone)
            for one in gone:
                if one["wasted"]:
                    tally.wasted[one["certainty"]] += 1
            project.empty()
    return tally


def verdicts(way: str, share: float, tally: Tally, peer: Tally) -> Iterator[str]:
    """What this row was to reach, and whether it did."""
    ratio = tally.served / peer.served if peer.served else 1.0
    if way == "declared" and not share:
        yield f"as operator mode: {'met' if ratio >= GOAL_DECLARED else 'MISSED'}"
    if way == "learned":
        yield f"0.9 of operator mode: {'met' if ratio >= GOAL_LEARNED else 'MISSED'}"
    if way in ("declared", "learned") and share < 0.5:
        most = GOAL_WASTED if share else 0.0
        yield f"wasted at most {most:.0%}: {'met' if tally.share_wasted <= most else 'MISSED'}"
    if tally.wasted["sure"]:
        yield "sure and wasted: MISSED"


def main(tries: int) -> None:
    """Print the table."""
    print(
        f"| hosts | others hold | way | served of {tries} | of operator mode | victims | wasted: likely | sure | goal |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for hosts in HOSTS:
        for share in SHARES:
            peer = Tally()
            for way in WAYS:
                tally = measured(hosts, share, way, tries)
                peer = tally if way == "operator" else peer
                ratio = f"{tally.served / peer.served:.2f}" if peer.served else "–"
                print(
                    f"| {hosts} | {share:.0%} | {way} | {tally.served} | {ratio} | {tally.victims} "
                    f"| {tally.wasted['likely']} | {tally.wasted['sure']} "
                    f"| {'; '.join(verdicts(way, share, tally, peer))} |",
                    flush=True,
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
