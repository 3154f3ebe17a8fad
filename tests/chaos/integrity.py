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
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

from tests.chaos.evidence import FINAL_STEPS, STEPS_WITH_SERVER, Evidence, ReceivedEvents, judge, report, step
from tests.chaos.fleet import Replica
from tests.chaos.matrix import QUICKLY
from tests.chaos.random_clients import API, EventReceiver, RandomClient, RecordingClient
from tests.chaos.system_under_test import Result, SystemUnderTest
from tests.conftest import server_of
from tests.report import setting
from tests.system.timing import CLOUD_OF_MODE, QUICK
from vmsvc.simulator.postgres import Postgres, PostgresFailed

CLIENTS = 8
HOSTS = 4
GRACE = 0.5  # seconds: VMSVC_GRACE_SECONDS
WAIT = 15.0  # VMSVC_REQUEST_TIMEOUT
LIMIT = WAIT + 15  # seconds in which every request has to be answered
REST = 90.0  # seconds after the last disturbance in which all VMs have to reach a state that stays
MOST_STOLEN = 4
GROUPS = {"batch": 1, "web": 2}
KILL_SECONDS, RESTART_SECONDS, FAULT_SECONDS, OTHERS_SECONDS = 10.0, 15.0, 2.0, 0.7
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
TIMING = replace(QUICKLY, cooldown=1.0, resend_delete=3.0, restore_marks=1.0, exempt=5.0, silence=(0.3, 2.0))
CONSTANTS = {"vmsvc.service.acting.await_build.LIMIT": 8.0}


class Integrity:  # pylint: disable=too-many-instance-attributes
    """One run over a system. `project` is the project of the service's credentials; `done` counts the disturbances."""

    def __init__(self, system: SystemUnderTest, server: Postgres, project: str, seed: int):
        self._system, self._server, self._project = system, server, project
        self._chance = random.Random(seed)
        self._over = False
        self._newest_call = 0
        self.done: Counter[str] = Counter()
        self.evidence = Evidence(grace=GRACE, limit=LIMIT, budgets=GROUPS)
        self._client = RecordingClient(system.replicas, self.evidence)

    async def run(self, seconds: float) -> Evidence:
        """Disturb the service for so many seconds, wait for rest, and return what was seen. Ends early when a task of
        the run fails."""
        chances = [random.Random(self._chance.random()) for _ in range(CLIENTS + 4)]
        self.evidence.receivers = [ReceivedEvents(kind) for kind in (None, None, None, "evict")]
        receiving = [
            asyncio.create_task(EventReceiver(self._client, received, chances.pop()).run())
            for received in self.evidence.receivers
        ]
        for fault in WIRE:
            self._system.sim.fault(seed=self._chance.randrange(10**6), **fault)
        clients = [
            asyncio.create_task(RandomClient(self._client, str(number), chance, GROUPS, lambda: self._over).run())
            for number, chance in enumerate(chances)
        ]
        disturbances = [
            asyncio.create_task(task)
            for task in (
                self._kill(),
                self._restart(),
                self._inject_faults(),
                self._act_as_others(),
                self._replace_the_dead(),
                self._record_calls(),
            )
        ]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not any(task.done() for task in (*clients, *disturbances, *receiving)):
            await asyncio.sleep(0.5)
        self.done["faults"] = self._system.injected_faults()
        self._over = True
        self._end_disturbances()
        await asyncio.gather(*disturbances)
        await asyncio.gather(*clients)
        await self._wait_until_settled()
        for task in receiving:
            task.cancel()
        await asyncio.gather(*receiving, return_exceptions=True)
        await self._read_end_state()
        self._client.close()
        return self.evidence

    # ------------------------------------------------------------ disturbances

    async def _pause(self, seconds: float) -> None:
        """Wait for half to one and a half times `seconds`, at most until the disturbances end."""
        deadline = time.monotonic() + seconds * self._chance.uniform(0.5, 1.5)
        while time.monotonic() < deadline and not self._over:
            await asyncio.sleep(0.1)

    async def _kill(self) -> None:
        """Kill a replica, or stop it by SIGTERM; sometimes both replicas, one right after the other."""
        while not self._over:
            await self._pause(KILL_SECONDS)
            for replica in self._system.replicas[: 2 if self._chance.random() < 0.2 else 1]:
                self._client.doomed.add(replica.pid)
                if self._chance.random() < 0.25 and replica.lives:
                    self.done["replicas told to stop"] += 1
                    replica.send_signal(signal.SIGTERM)
                    with contextlib.suppress(AssertionError):
                        await replica.end(15)
                else:
                    self.done["replicas killed"] += 1
                await self._system.replace(replica)

    async def _replace_the_dead(self) -> None:
        """Start a new replica for each that ended by itself, as a supervisor does."""
        while not self._over:
            await asyncio.sleep(0.5)
            for replica in list(self._system.replicas):
                if not replica.lives and replica.pid not in self._client.doomed:
                    self.done["replicas that gave up"] += 1
                    self._client.doomed.add(replica.pid)
                    await self._system.replace(replica)

    async def _restart(self) -> None:
        """Restart PostgreSQL after a stop (SIGINT, SIGQUIT) or a kill, or end all sessions of the database."""
        while not self._over:
            await self._pause(RESTART_SECONDS)
            signal_number = self._chance.choice([signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, None])
            if signal_number is None:
                self.done["cuts of all sessions"] += self._system.cut_sessions() > 0
                continue
            self.done[f"ends of PostgreSQL by {signal_number.name}"] += 1
            pid = int((self._server.data / "postmaster.pid").read_text("utf-8").split("\n", 1)[0])
            os.kill(pid, signal_number)
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.05)
            await asyncio.sleep(self._chance.random())
            await running(self._server)

    async def _inject_faults(self) -> None:
        """Make something fail inside the cloud: a build, a delete, a write of metadata."""
        while not self._over:
            await self._pause(FAULT_SECONDS)
            kind = self._chance.choice(TROUBLES)
            self.done[f"trouble: {kind}"] += 1
            self._system.sim.fault(kind=kind, count=1)

    async def _act_as_others(self) -> None:
        """Act as other users of the cloud: take and free capacity, lock, switch off and delete servers, delete
        metadata, change the quota."""
        while not self._over:
            await self._pause(OTHERS_SECONDS)
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
        if len(self.evidence.foreign) > MOST_STOLEN:
            raise IndexError("others have enough")
        self.evidence.foreign |= set(
            self._system.sim.foreign(
                self._chance.choice(["admin", "demo"]), flavor=self._chance.choice(["m1.tiny", "m1.small"])
            )
        )

    async def _give_back(self) -> None:
        server = self._chance.choice(sorted(self.evidence.foreign))
        self.evidence.foreign.remove(server)
        self._system.sim.vanish(server)

    async def _lock(self) -> None:
        self._system.sim.change(self._any("ACTIVE"), locked_by="owner")

    async def _unlock(self) -> None:
        for server in self._system.sim.servers():
            with contextlib.suppress(urllib.error.HTTPError):
                self._system.sim.change(server, locked_by=None)

    async def _vanish(self) -> None:
        if self._chance.random() < 0.3:
            server = self._any("ACTIVE")
            self.evidence.vanished.add(server)
            self._system.sim.vanish(server)

    async def _halt(self) -> None:
        """Switch off a VM whose guest has a notice, as the guest itself may do."""
        server = self._any("ACTIVE", "vmsvc_evict_at")
        self.evidence.halted.add(server)
        self._system.sim.power_off(server)

    async def _unmark(self) -> None:
        """Delete a part of vmsvc's mark from a server, as a user of the project can."""
        server = self._any("ACTIVE")
        if server in {
            event["subject"] for event in self.evidence.receivers[0].events[-200:] if step(event) == "create/active"
        }:
            if token := await asyncio.to_thread(self._system.sim.token, self._project, self._project):
                await asyncio.to_thread(
                    self._system.sim.call,
                    "DELETE",
                    f"/compute/v2.1/servers/{server}/metadata/vmsvc_kind",
                    None,
                    {"X-Auth-Token": token},
                )

    async def _change_quota(self) -> None:
        self._system.sim.quota(self._project, cores=self._chance.choice([12, 1000, 1000, 1000]))

    def _any(self, status: str, key: str = "vmsvc_id") -> str:
        """A random server of vmsvc with this status and this key in its metadata. Raises IndexError without one."""
        return self._chance.choice(
            sorted(
                server
                for server, shown in self._system.sim.servers().items()
                if shown["status"] == status and key in shown["metadata"]
            )
        )

    def _end_disturbances(self) -> None:
        """End what disturbs the cloud: faults, the low quota, locks."""
        self._system.sim.clear_faults()
        self._system.sim.quota(self._project, cores=1000)
        for server in self._system.sim.servers():
            with contextlib.suppress(urllib.error.HTTPError):
                self._system.sim.change(server, locked_by=None)

    # ------------------------------------------------------------ evidence

    async def _record_calls(self) -> None:
        """Record the calls that stop or delete servers, every second: the simulator keeps only its newest calls."""
        while not self._over:
            await asyncio.sleep(1)
            self._read_calls()

    def _read_calls(self) -> None:
        reply = self._system.sim.call("GET", f"/sim/calls?service=compute&since={self._newest_call}&limit=20000")
        self._newest_call = reply["last"]
        self.evidence.removal_calls += [
            call
            for call in reply["calls"]
            if (call["method"], call["path"].split("/")[-2]) in (("DELETE", "servers"))
            or call["method"] == "POST"
            and call["path"].endswith("/action")
        ]

    async def _get(self, replica: Replica, path: str) -> dict:
        answer = await replica.client.call("GET", API + path)
        assert answer.status == 200, (path, answer.json)
        return answer.json

    async def _wait_until_settled(self) -> None:
        """Wait until no VM is between two states, the cloud agrees with the history, and no new event comes for a
        second. Notes in `evidence.unsettled` when that takes longer than REST."""
        await running(self._server)
        for replica in list(self._system.replicas):
            if not replica.lives:
                await self._system.replace(replica)
        await asyncio.gather(*(replica.ready() for replica in self._system.replicas))
        deadline = time.monotonic() + REST
        while time.monotonic() < deadline:
            seq = len(self.evidence.events)
            await self._read_events()
            if len(self.evidence.events) == seq and self._is_settled():
                await asyncio.sleep(1.0)
                await self._read_events()
                if len(self.evidence.events) == seq:
                    return
            await asyncio.sleep(0.3)
        self.evidence.unsettled.append(f"there was no rest within {REST:.0f} s")

    async def _read_events(self) -> None:
        """Read the history from the last event that was read to its end."""
        while True:
            since = self.evidence.events[-1]["data"]["seq"] if self.evidence.events else 0
            page = await self._get(self._system.replicas[0], f"/events?since={since}&limit=1000")
            self.evidence.events += page["events"]
            self.evidence.__dict__.pop("lives", None)
            self.evidence.__dict__.pop("vm_of", None)
            if len(page["events"]) < 1000:
                return

    def _is_settled(self) -> bool:
        held = {
            life[-1]["subject"]
            for vm, life in self.evidence.lives.items()
            if self.evidence.last(vm) in STEPS_WITH_SERVER
        }
        servers = self._system.sim.servers()
        ours = {server for server, shown in servers.items() if "vmsvc_id" in shown["metadata"]}
        return (
            held == ours
            and all(self.evidence.last(vm) in STEPS_WITH_SERVER | FINAL_STEPS for vm in self.evidence.lives)
            and not any("vmsvc_evict_at" in servers[server]["metadata"] for server in ours)
            and not self._system.sim.allocated() - servers.keys()
            and all(
                len(received.events) == sum(received.kind in (None, event["type"]) for event in self.evidence.events)
                for received in self.evidence.receivers
            )
        )

    async def _read_end_state(self) -> None:
        """Read the record of evictions, each replica's list, and the cloud's servers, ports, hosts and quota."""
        sim, evidence = self._system.sim, self.evidence
        self._read_calls()
        before: int | None = None
        while before is not None or not evidence.evictions:
            page = await self._get(
                self._system.replicas[0], "/evictions?limit=1000" + (f"&before={before}" if before else "")
            )
            evidence.evictions += page["evictions"]
            before = page["before"]
            if before is None:
                break
        evidence.lists = [(await self._get(replica, "/vm"))["servers"] for replica in self._system.replicas]
        evidence.servers, evidence.ports, evidence.consumers = sim.servers(), sim.ports(), sim.allocated()
        for host in sim.call("GET", "/sim/state?servers=0")["hosts"]:
            evidence.hosts.append(
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
        evidence.quota = {
            what: (limits[f"total{what}Used"], limits[f"maxTotal{what}"]) for what in ("Cores", "Instances")
        }


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
        system = SystemUnderTest(
            folder,
            postgres,
            f"integrity{seed}",
            replicas=2,
            cloud=QUICK,
            hosts=HOSTS,
            timing=TIMING,
            constants=CONSTANTS,
            credentials=credentials,
            settings={"grace_seconds": GRACE, "cloud_timeout": 1.5, "request_timeout": int(WAIT)},
        )
        try:
            await system.open()
            run = Integrity(system, server, project, seed)
            evidence = await run.run(seconds)
            defects = system.defects()
        finally:
            await running(server)
            await system.close()
    wrong, checked = judge(evidence)
    kills = sum(number for what, number in run.done.items() if what.startswith(("replicas", "ends of", "cuts")))
    result = Result(
        faults=run.done["faults"] + kills,
        kills=kills,
        requests=len(evidence.attempts),
        servers=sum(step(event) == "create/active" for event in evidence.events),
        left_over=sum(one.invariant in ("cloud", "left over") for one in wrong),
        lost=sum(one.invariant in ("seq", "socket") for one in wrong),
        seconds=time.monotonic() - began,
    )
    result.problems = "\n".join([*(report(evidence, one) for one in wrong[:10]), *defects[:3]])
    if wrong:
        result.problems += f"\n{len(wrong)} in all: {dict(Counter(one.invariant for one in wrong))}"
    return result, "\n".join(
        [
            f"seed {seed}, {mode} mode, {seconds:.0f} s",
            f"  did: {_counts(run.done)}",
            f"  looked at: {_counts(checked)}",
        ]
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
        health="\n".join(reply for _, reply in runs),
    )
    result.problems = "\n".join(f"{reply}\n{run.problems}" for run, reply in runs if run.problems)
    return result


def _counts(counts: Counter) -> str:
    return ", ".join(f"{number} {what}" if ":" not in what else f"{what} {number}" for what, number in counts.items())


def main() -> int:
    """The exit status: 1 when an invariant did not hold, else 0."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-integrity-"))
    try:
        result, reply = asyncio.run(integrity(folder, setting("INTEGRITY_SECONDS", 540), int(setting("SEED", 1))))
    finally:
        if "KEEP" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(folder)
    print(reply)
    print(result.problems or "every invariant held")
    return int(bool(result.problems))


if __name__ == "__main__":
    sys.exit(main())
