"""An integrity run: clients send random requests to two replicas while the run kills replicas, restarts and kills
PostgreSQL, injects faults into the cloud and the connection to it, and changes the cloud as its other users do. Then
all disturbances end, the run waits until nothing moves, and `outside.judge` checks what the clients and the cloud saw.

`python -m tests.chaos.integrity` does one run, for INTEGRITY_SECONDS (540), with SEED (1; an odd seed takes an
operator's credentials, an even one a tenant's). A seed repeats the random choices, not the order in which they meet.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from http.client import HTTPException
from pathlib import Path

from tests.chaos.customers import API, Customer, Door, Hearer
from tests.chaos.fleet import Replica
from tests.chaos.matrix import QUICKLY
from tests.chaos.outside import ENDS, HELD, Ear, Evidence, judge, step, told
from tests.chaos.plant import Plant, Result
from tests.conftest import server_of
from tests.report import setting
from tests.system.patience import CLOUD_OF_MODE, QUICK
from vmsvc.simulator.postgres import Postgres, PostgresFailed

CUSTOMERS = 8
HOSTS = 4
GRACE = 0.5  # seconds: VMSVC_GRACE_SECONDS
WAIT = 15.0  # VMSVC_REQUEST_TIMEOUT
LIMIT = WAIT + 15  # seconds in which every request has to be answered
REST = 90.0  # seconds after the last disturbance in which all VMs have to reach a state that stays
MOST_STOLEN = 4
GROUPS = {"batch": 1, "web": 2}
KILL_SECONDS, RESTART_SECONDS, TROUBLE_SECONDS, MEDDLE_SECONDS = 10.0, 15.0, 2.0, 0.7
TROUBLES = ("spawn_fails", "no_valid_host", "delete_fails", "delete_hangs", "metadata_refused", "build_hangs", "thief")
PAGE = "<html><body><h1>Something went wrong</h1></body></html>"
#: Faults of calls to the cloud, each with its share of all calls. A page of HTML is the answer of a proxy in between.
WIRE = (
    *({"action": "status", "status": status, "probability": 0.008} for status in (500, 502, 503)),
    *({"action": action, "probability": 0.008} for action in ("cut", "cut_after", "cut_body", "half_json", "html")),
    *(
        {"action": "status", "status": status, "body": PAGE, "probability": 0.004}
        for status in (200, 302, 400, 403, 404, 409)
    ),
    {"action": "status", "status": 429, "probability": 0.002, "headers": {"Retry-After": "1"}, "service": "compute"},
    {"action": "status_after", "status": 502, "probability": 0.008},
    {"action": "delay", "seconds": 0.4, "probability": 0.01},
    {"action": "hang", "probability": 0.001},
    {"action": "hang_after", "probability": 0.001},
    {"action": "revoke", "probability": 0.002},
)
PATIENCE = {
    **QUICKLY,
    "vmsvc.service.acting.create_server._COOLDOWN_SECONDS": 1.0,
    "vmsvc.service.acting.await_build.LIMIT": 8.0,
    "vmsvc.service.acting.remove_server._RESEND_SECONDS": 3.0,
    "vmsvc.service.reconciler._MARKS_SECONDS": 1.0,
    "vmsvc.service.scheduling.world_cache._EXEMPT_SECONDS": 5,
    "vmsvc.service.scheduling.verdicts._SILENT_SECONDS": (0.3, 2.0),
}


class Integrity:  # pylint: disable=too-many-instance-attributes
    """One run over a plant. `project` is the project of the service's credentials; `done` counts the disturbances."""

    def __init__(self, plant: Plant, server: Postgres, project: str, seed: int):
        self._plant, self._server, self._project = plant, server, project
        self._chance = random.Random(seed)
        self._calm = False
        self._newest_call = 0
        self.done: Counter[str] = Counter()
        self.seen = Evidence(grace=GRACE, limit=LIMIT, budgets=GROUPS)
        self._door = Door(plant.replicas, self.seen)

    async def run(self, seconds: float) -> Evidence:
        """Disturb the service for so many seconds, wait for rest, and return what was seen. Ends early when a task of
        the run fails."""
        chances = [random.Random(self._chance.random()) for _ in range(CUSTOMERS + 4)]
        self.seen.ears = [Ear(kind) for kind in (None, None, None, "evict")]
        hearing = [asyncio.create_task(Hearer(self._door, ear, chances.pop()).run()) for ear in self.seen.ears]
        for fault in WIRE:
            self._plant.sim.fault(seed=self._chance.randrange(10**6), **fault)
        customers = [
            asyncio.create_task(Customer(self._door, str(number), chance, GROUPS, lambda: self._calm).run())
            for number, chance in enumerate(chances)
        ]
        disturbances = [
            asyncio.create_task(task)
            for task in (
                self._kill(),
                self._restart(),
                self._trouble(),
                self._meddle(),
                self._replace_the_dead(),
                self._log(),
            )
        ]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not any(task.done() for task in (*customers, *disturbances, *hearing)):
            await asyncio.sleep(0.5)
        self.done["faults"] = self._plant.injected()
        self._calm = True
        self._still()
        await asyncio.gather(*disturbances)
        await asyncio.gather(*customers)
        await self._rest()
        for task in hearing:
            task.cancel()
        await asyncio.gather(*hearing, return_exceptions=True)
        await self._look()
        self._door.close()
        return self.seen

    # ------------------------------------------------------------ disturbances

    async def _pause(self, seconds: float) -> None:
        """Wait for half to one and a half times `seconds`, at most until the disturbances end."""
        deadline = time.monotonic() + seconds * self._chance.uniform(0.5, 1.5)
        while time.monotonic() < deadline and not self._calm:
            await asyncio.sleep(0.1)

    async def _kill(self) -> None:
        """Kill a replica, or stop it by SIGTERM; sometimes both replicas, one right after the other."""
        while not self._calm:
            await self._pause(KILL_SECONDS)
            for replica in self._plant.replicas[: 2 if self._chance.random() < 0.2 else 1]:
                self._door.doomed.add(replica.pid)
                if self._chance.random() < 0.25 and replica.lives:
                    self.done["replicas told to stop"] += 1
                    replica.tell(signal.SIGTERM)
                    with contextlib.suppress(AssertionError):
                        await replica.end(15)
                else:
                    self.done["replicas killed"] += 1
                await self._plant.replace(replica)

    async def _replace_the_dead(self) -> None:
        """Start a new replica for each that ended by itself, as a supervisor does."""
        while not self._calm:
            await asyncio.sleep(0.5)
            for replica in list(self._plant.replicas):
                if not replica.lives and replica.pid not in self._door.doomed:
                    self.done["replicas that gave up"] += 1
                    self._door.doomed.add(replica.pid)
                    await self._plant.replace(replica)

    async def _restart(self) -> None:
        """Restart PostgreSQL after a stop (SIGINT, SIGQUIT) or a kill, or end all sessions of the database."""
        while not self._calm:
            await self._pause(RESTART_SECONDS)
            how = self._chance.choice([signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, None])
            if how is None:
                self.done["cuts of all sessions"] += self._plant.cut_sessions() > 0
                continue
            self.done[f"ends of PostgreSQL by {how.name}"] += 1
            pid = int((self._server.data / "postmaster.pid").read_text("utf-8").split("\n", 1)[0])
            os.kill(pid, how)
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.05)
            await asyncio.sleep(self._chance.random())
            await running(self._server)

    async def _trouble(self) -> None:
        """Make something fail inside the cloud: a build, a delete, a write of metadata."""
        while not self._calm:
            await self._pause(TROUBLE_SECONDS)
            kind = self._chance.choice(TROUBLES)
            self.done[f"trouble: {kind}"] += 1
            self._plant.sim.fault(kind=kind, count=1)

    async def _meddle(self) -> None:
        """Act as other users of the cloud: take and free capacity, lock, switch off and delete servers, delete
        metadata, change the quota."""
        while not self._calm:
            await self._pause(MEDDLE_SECONDS)
            action = self._chance.choice(
                [
                    self._steal,
                    self._steal,
                    self._give_back,
                    self._lock,
                    self._unlock,
                    self._vanish,
                    self._halt,
                    self._unmark,
                    self._change_quota,
                ]
            )
            # There is no such server, it has just left, or the call met a fault.
            with contextlib.suppress(OSError, IndexError, HTTPException, ValueError):
                await action()
                self.done[action.__name__.strip("_").replace("_", " ")] += 1

    async def _steal(self) -> None:
        if len(self.seen.foreign) > MOST_STOLEN:
            raise IndexError("others have enough")
        self.seen.foreign |= set(
            self._plant.sim.foreign(
                self._chance.choice(["admin", "demo"]), flavor=self._chance.choice(["m1.tiny", "m1.small"])
            )
        )

    async def _give_back(self) -> None:
        server = self._chance.choice(sorted(self.seen.foreign))
        self.seen.foreign.remove(server)
        self._plant.sim.vanish(server)

    async def _lock(self) -> None:
        self._plant.sim.change(self._any("ACTIVE"), locked_by="owner")

    async def _unlock(self) -> None:
        for server in self._plant.sim.servers():
            with contextlib.suppress(urllib.error.HTTPError):
                self._plant.sim.change(server, locked_by=None)

    async def _vanish(self) -> None:
        if self._chance.random() < 0.3:
            server = self._any("ACTIVE")
            self.seen.vanished.add(server)
            self._plant.sim.vanish(server)

    async def _halt(self) -> None:
        """Switch off a VM whose guest has a notice, as the guest itself may do."""
        server = self._any("ACTIVE", "vmsvc_evict_at")
        self.seen.halted.add(server)
        self._plant.sim.power_off(server)

    async def _unmark(self) -> None:
        """Delete a part of vmsvc's mark from a server, as a user of the project can."""
        server = self._any("ACTIVE")
        if server in {event["subject"] for event in self.seen.ears[0].heard[-200:] if step(event) == "create/active"}:
            if token := await asyncio.to_thread(self._plant.sim.token, self._project, self._project):
                await asyncio.to_thread(
                    self._plant.sim.call,
                    "DELETE",
                    f"/compute/v2.1/servers/{server}/metadata/vmsvc_kind",
                    None,
                    {"X-Auth-Token": token},
                )

    async def _change_quota(self) -> None:
        self._plant.sim.quota(self._project, cores=self._chance.choice([12, 1000, 1000, 1000]))

    def _any(self, status: str, key: str = "vmsvc_id") -> str:
        """A random server of vmsvc with this status and this key in its metadata. Raises IndexError without one."""
        return self._chance.choice(
            sorted(
                server
                for server, shown in self._plant.sim.servers().items()
                if shown["status"] == status and key in shown["metadata"]
            )
        )

    def _still(self) -> None:
        """End what disturbs the cloud: faults, the low quota, locks."""
        self._plant.sim.clear_faults()
        self._plant.sim.quota(self._project, cores=1000)
        for server in self._plant.sim.servers():
            with contextlib.suppress(urllib.error.HTTPError):
                self._plant.sim.change(server, locked_by=None)

    # ------------------------------------------------------------ evidence

    async def _log(self) -> None:
        """Record the calls that stop or delete servers, every second: the simulator keeps only its newest calls."""
        while not self._calm:
            await asyncio.sleep(1)
            self._take_log()

    def _take_log(self) -> None:
        said = self._plant.sim.call("GET", f"/sim/calls?service=compute&since={self._newest_call}&limit=20000")
        self._newest_call = said["last"]
        self.seen.touched += [
            call
            for call in said["calls"]
            if (call["method"], call["path"].split("/")[-2]) in (("DELETE", "servers"))
            or call["method"] == "POST"
            and call["path"].endswith("/action")
        ]

    async def _ask(self, replica: Replica, path: str) -> dict:
        answer = await replica.client.call("GET", API + path)
        assert answer.status == 200, (path, answer.json)
        return answer.json

    async def _rest(self) -> None:
        """Wait until no VM is between two states, the cloud agrees with the history, and no new event comes for a
        second. Notes in `seen.hurt` when that takes longer than REST."""
        await running(self._server)
        for replica in list(self._plant.replicas):
            if not replica.lives:
                await self._plant.replace(replica)
        await asyncio.gather(*(replica.ready() for replica in self._plant.replicas))
        deadline = time.monotonic() + REST
        while time.monotonic() < deadline:
            seq = len(self.seen.events)
            await self._read_events()
            if len(self.seen.events) == seq and self._is_still():
                await asyncio.sleep(1.0)
                await self._read_events()
                if len(self.seen.events) == seq:
                    return
            await asyncio.sleep(0.3)
        self.seen.hurt.append(f"there was no rest within {REST:.0f} s")

    async def _read_events(self) -> None:
        """Read the history from the last event that was read to its end."""
        while True:
            since = self.seen.events[-1]["data"]["seq"] if self.seen.events else 0
            page = await self._ask(self._plant.replicas[0], f"/events?since={since}&limit=1000")
            self.seen.events += page["events"]
            self.seen.__dict__.pop("lives", None)
            self.seen.__dict__.pop("vm_of", None)
            if len(page["events"]) < 1000:
                return

    def _is_still(self) -> bool:
        held = {life[-1]["subject"] for vm, life in self.seen.lives.items() if self.seen.last(vm) in HELD}
        servers = self._plant.sim.servers()
        ours = {server for server, shown in servers.items() if "vmsvc_id" in shown["metadata"]}
        return (
            held == ours
            and all(self.seen.last(vm) in HELD | ENDS for vm in self.seen.lives)
            and not any("vmsvc_evict_at" in servers[server]["metadata"] for server in ours)
            and not self._plant.sim.allocated() - servers.keys()
            and all(
                len(ear.heard) == sum(ear.kind in (None, event["type"]) for event in self.seen.events)
                for ear in self.seen.ears
            )
        )

    async def _look(self) -> None:
        """Read the record of evictions, each replica's list, and the cloud's servers, ports, hosts and quota."""
        sim, seen = self._plant.sim, self.seen
        self._take_log()
        before: int | None = None
        while before is not None or not seen.evictions:
            page = await self._ask(
                self._plant.replicas[0], "/evictions?limit=1000" + (f"&before={before}" if before else "")
            )
            seen.evictions += page["evictions"]
            before = page["before"]
            if before is None:
                break
        seen.lists = [(await self._ask(replica, "/vm"))["servers"] for replica in self._plant.replicas]
        seen.servers, seen.ports, seen.consumers = sim.servers(), sim.ports(), sim.allocated()
        for host in sim.call("GET", "/sim/state?servers=0")["hosts"]:
            seen.hosts.append(
                {
                    "name": host["name"],
                    "used": host["used"],
                    "total": {
                        name: int((of["total"] - of.get("reserved", 0)) * of.get("allocation_ratio", 1))
                        for name, of in host["inventories"].items()
                    },
                }
            )
        limits = sim.call(
            "GET", "/compute/v2.1/limits", None, {"X-Auth-Token": sim.token(self._project, self._project)}
        )["limits"]["absolute"]
        seen.quota = {what: (limits[f"total{what}Used"], limits[f"maxTotal{what}"]) for what in ("Cores", "Instances")}


async def running(server: Postgres) -> None:
    """Start PostgreSQL unless it runs. Tries for a minute, then raises TimeoutError."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(PostgresFailed):  # processes of a killed server may still be ending
                await asyncio.to_thread(server.start)
                return
            await asyncio.sleep(0.2)


async def integrity(folder: Path, seconds: float, seed: int) -> tuple[Result, str]:
    """Do one run of so many seconds. Returns its result, and a text with the counts of disturbances and checks."""
    mode = ("tenant", "operator")[seed % 2]
    credentials, project = CLOUD_OF_MODE[mode]
    began = time.monotonic()
    with server_of(folder / f"postgres{seed}", "template") as (server, postgres):
        plant = Plant(
            folder,
            postgres,
            f"integrity{seed}",
            replicas=2,
            cloud=QUICK,
            hosts=HOSTS,
            patience=PATIENCE,
            credentials=credentials,
            settings={"grace_seconds": GRACE, "cloud_timeout": 1.5, "request_timeout": int(WAIT)},
        )
        try:
            await plant.open()
            run = Integrity(plant, server, project, seed)
            seen = await run.run(seconds)
            defects = plant.defects()
        finally:
            await running(server)
            await plant.close()
    wrong, looked = judge(seen)
    kills = sum(number for what, number in run.done.items() if what.startswith(("replicas", "ends of", "cuts")))
    result = Result(
        faults=run.done["faults"] + kills,
        kills=kills,
        requests=len(seen.attempts),
        servers=sum(step(event) == "create/active" for event in seen.events),
        left_over=sum(one.invariant in ("cloud", "left over") for one in wrong),
        lost=sum(one.invariant in ("seq", "socket") for one in wrong),
        seconds=time.monotonic() - began,
    )
    result.problems = "\n".join([*(told(seen, one) for one in wrong[:10]), *defects[:3]])
    if wrong:
        result.problems += f"\n{len(wrong)} in all: {dict(Counter(one.invariant for one in wrong))}"
    return result, "\n".join(
        [f"seed {seed}, {mode} mode, {seconds:.0f} s", f"  did: {_counts(run.done)}", f"  looked at: {_counts(looked)}"]
    )


async def both_modes(folder: Path, seconds: float, seed: int) -> Result:
    """Two runs of half the time each, with a tenant's and with an operator's credentials. `health` has both texts."""
    runs = [await integrity(folder, seconds / 2, number) for number in (2 * seed, 2 * seed + 1)]
    result = Result(
        *(
            sum(getattr(run, name) for run, _ in runs)
            for name in ("faults", "kills", "requests", "servers", "left_over", "lost", "doubled")
        ),
        seconds=sum(run.seconds for run, _ in runs),
        health="\n".join(said for _, said in runs),
    )
    result.problems = "\n".join(f"{said}\n{run.problems}" for run, said in runs if run.problems)
    return result


def _counts(counts: Counter) -> str:
    return ", ".join(f"{number} {what}" if ":" not in what else f"{what} {number}" for what, number in counts.items())


def main() -> int:
    """The exit status: 1 when an invariant did not hold, else 0."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-integrity-"))
    try:
        result, said = asyncio.run(integrity(folder, setting("INTEGRITY_SECONDS", 540), int(setting("SEED", 1))))
    finally:
        if "KEEP" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(folder)
    print(said)
    print(result.problems or "every invariant held")
    return int(bool(result.problems))


if __name__ == "__main__":
    sys.exit(main())
