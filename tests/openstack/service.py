"""A running vmsvc on a test's cloud, as its users meet it, and what tests ask of it."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from tests.openstack.http import Api, Reply, send, until
from tests.system.warm_start import WarmProcess

#: Of every notice. A host that goes down is seen within ten seconds.
GRACE = 15.0
#: Each fills a host.
STANDARD = {"is_preemptible": False, "flavor": "m1.large"}
PREEMPTIBLE = {"is_preemptible": True, "flavor": "m1.large"}
USER_OF = {"tenant": "demo", "operator": "admin"}


class Service:
    """One vmsvc: a process and its REST interface. See `warm_start` for its start."""

    def __init__(self, clouds: Path, cloud: str, folder: Path, **settings: str):
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("VMSVC_", "OS_"))
        }
        self._environment |= {
            "OS_CLIENT_CONFIG_FILE": str(clouds),
            "OS_CLOUD": cloud,
            "VMSVC_DATA_DIR": str(folder),
            "VMSVC_PORT": "0",
            "VMSVC_GRACE_SECONDS": str(GRACE),
            "VMSVC_FLAVOR": "m1.small",
            **settings,
        }
        self._folder = folder
        self._starts = 0
        self.start()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._starts += 1
        self.log = self._folder / f"service{self._starts}.log"
        self.log.touch()
        self.process = WarmProcess((), self._environment, self.log)
        self.url = until("the service listens", self._address)
        until("the service is ready", lambda: send("GET", f"{self.url}/readyz").status == 200)

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"listening on (http://\S+?)/?$", self.log.read_text(), re.MULTILINE)
        return found and found[1]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It does nothing for a while, as a process that gets no time."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)

    def stop(self) -> None:
        """SIGTERM, and an orderly end."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0, self.log.read_text()

    def __call__(self, method: str, path: str, body: object = None, headers: dict | None = None) -> Reply:
        return send(method, f"{self.url}/api/v1{path}", body, headers, timeout=300)

    def create_many(self, number: int, body: dict, abreast: int = 8) -> list[str]:
        """The ids of so many VMs, made side by side."""
        with ThreadPoolExecutor(abreast) as pool:
            replies = list(pool.map(lambda _: self("POST", "/vm", body), range(number)))
        assert {reply.status for reply in replies} == {201}, [reply.body.get("message") for reply in replies]
        return [reply.body["vm"]["id"] for reply in replies]

    def ask(self, body: dict) -> dict:
        """What would be done where no host has room. (A tenant's cloud says no only when it is asked.)"""
        plan = self("POST", "/vm?dry_run=true", body).body
        return plan.get("if_no_host_has_room", plan)

    def events(self, since: int) -> list[dict]:
        """All events after `since`."""
        return self("GET", f"/events?since={since}&limit=1000").body["events"]

    def evictions(self, since: int, state: str) -> list[dict]:
        """The events of eviction with this state."""
        return [event for event in self.events(since) if event["type"] == "evict" and event["data"]["state"] == state]

    def victims(self, since: int, state: str = "noticed") -> set[str]:
        """Who got so far."""
        return {event["subject"] for event in self.evictions(since, state)}

    def seq(self) -> int:
        """The number of the newest event."""
        return self("GET", "/vm").body["seq"]

    def record(self, query: str = "limit=1000") -> list[dict]:
        """A page of the record."""
        reply = self("GET", f"/evictions?{query}")
        assert reply.status == 200, reply
        return reply.body["evictions"]

    def empty(self) -> None:
        """Delete all that it made, through it."""
        ours = [server["id"] for server in self("GET", "/vm").body["servers"] if "state" in server]
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda server_id: self("DELETE", f"/vm/{server_id}"), ours))
        assert [reply.status for reply in replies] == [200] * len(ours)
        assert [server for server in self("GET", "/vm").body["servers"] if "state" in server] == []


def instant(text: str) -> datetime:
    """The moment that an RFC 3339 text means."""
    return datetime.fromisoformat(text)


def nothing_is_left_of(servers: set[str], admin: Api) -> None:
    """No port and no allocation of theirs."""
    ports = admin("GET", "/ports", service="network").body["ports"]
    assert not servers & {port["device_id"] for port in ports}
    for server_id in servers:
        assert admin("GET", f"/allocations/{server_id}", service="placement").body["allocations"] == {}


def set_quota(admin: Api, project: Api, **limits: int) -> None:
    """Change the project's quota as an admin does."""
    reply = admin("PUT", f"/os-quota-sets/{project.project}", {"quota_set": {**limits, "force": True}})
    assert reply.status == 200, reply
