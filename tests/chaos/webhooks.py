"""Webhooks under kill -9: `python -m tests.chaos.webhooks`; WEBHOOK_EVENTS (10000), WEBHOOK_KILLS (10), CHAOS_SEED (1).

Two replicas, each a process with all of a service that has to do with webhooks, on one PostgreSQL. A receiver fails
30 % of its requests. While the events are written, replicas are killed and started again. In the end each event has
arrived, in order for each VM, a repetition has the `webhook-id` of the first time, and each signature is good.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from ipaddress import ip_network

from standardwebhooks import Webhook

from tests.conftest import server_with
from tests.integration.receiver import Receiver
from tests.report import setting
from vmsvc.domain.principal import ANYBODY
from vmsvc.domain.timing import Timing
from vmsvc.service.events.listener import Listener
from vmsvc.service.runtime import Runtime
from vmsvc.service.webhooks.dispatcher import Dispatcher
from vmsvc.service.webhooks.endpoints import WebhookPolicy, Webhooks
from vmsvc.store import db, outbox
from vmsvc.web.outgoing.client import OutgoingClient

LOOPBACK = [ip_network("127.0.0.0/8")]
#: Pauses after failures are short, so that the run ends soon; leases are those of a service, a tenth as long.
TIMING = Timing(webhook_timeout=1.5, webhook_lease=2.0, webhook_retries=(0.2,) * 60, webhook_turn=0.02)
REPLICAS, VMS, BATCH = 2, 200, 20
PATIENCE = 600.0  # seconds from the last event to the last delivery


def emit(*vms: str) -> None:
    """Commit an event of each of these VMs, in one transaction."""
    with db.unit() as work:
        for vm in vms:
            work.emit(
                type="create",
                state="active",
                vm_id=vm,
                subject=vm,
                is_preemptible=True,
                data={"vm": {"id": vm, "vmsvc_id": vm, "name": vm, "is_preemptible": True}},
            )


async def replica(url: str) -> None:
    """What of a service has to do with webhooks, until it is killed."""
    pool = db.open_database(url, 6)
    runtime, client = Runtime(TIMING, 4), OutgoingClient(LOOPBACK, TIMING.webhook_timeout)
    listener = Listener(runtime, url)
    dispatcher = Dispatcher(
        runtime, client, lambda: "vmsvc_chaos", listener.wakeup(), TIMING, lambda result, outcome: None
    )
    runtime.supervise("doorbell", listener.run)
    runtime.supervise("webhooks", dispatcher.run)
    await asyncio.Event().wait()
    pool.close_all()


class Fleet:
    """The replicas, as processes."""

    def __init__(self, url: str):
        self._url = url
        self.processes = [self._start() for _ in range(REPLICAS)]
        self.kills = 0

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", "tests.chaos.webhooks", self._url])

    def kill(self, number: int) -> None:
        """kill -9, and start another in its place."""
        self.processes[number].send_signal(signal.SIGKILL)
        self.processes[number].wait()
        self.processes[number] = self._start()
        self.kills += 1

    def stop(self) -> None:
        """End all of them."""
        for process in self.processes:
            process.kill()
            process.wait()


def faults_of(receiver: Receiver, secret: str, events: list[dict]) -> list[str]:
    """What was not as promised."""
    found = []
    wanted = {event["data"]["seq"]: event for event in events}
    firsts = list(dict.fromkeys(receiver.seqs()))
    if lost := wanted.keys() - set(firsts):
        found.append(f"{len(lost)} events were lost, {min(lost)} the first")
    newest: dict[str, int] = {}
    for seq in firsts:
        vm = wanted[seq]["subject"]
        if seq < newest.get(vm, 0):
            found.append(f"event {seq} of {vm} came after {newest[vm]}")
        newest[vm] = max(seq, newest.get(vm, 0))
    for (event, headers), raw in zip(receiver.posts, receiver.raw, strict=True):
        signed = datetime.fromtimestamp(int(headers["Webhook-Timestamp"]), UTC)
        good = Webhook(secret).sign(headers["Webhook-Id"], signed, raw.decode())
        if headers["Webhook-Id"] != f"vmsvc_chaos_{event['id']}" or headers["Webhook-Signature"] != good:
            found.append(f"the headers of event {event['id']} are wrong")
        if event != wanted[event["data"]["seq"]]:
            found.append(f"event {event['id']} is another than the history has")
    return found


async def run(url: str, count: int, kills: int, chance: random.Random) -> int:
    """Write, kill, wait and judge; 1 when a promise was broken."""
    receiver = Receiver(lambda event, headers: 204 if chance.random() > 0.3 else 500)
    runtime, client = Runtime(TIMING, 4), OutgoingClient(LOOPBACK, TIMING.webhook_timeout)
    policy = WebhookPolicy(10, frozenset(), "vmsvc")
    webhooks = Webhooks(runtime, client, policy, lambda: "vmsvc_chaos", lambda: None)
    view, secret = await webhooks.create({"url": receiver.url()}, None, principal=ANYBODY)
    assert view["status"] == "verified", view
    fleet, began = Fleet(url), time.monotonic()
    try:
        for number in range(0, count, BATCH):
            await asyncio.to_thread(emit, *(f"vm-{chance.randrange(VMS)}" for _ in range(min(BATCH, count - number))))
            await asyncio.sleep(0.05)
            if fleet.kills < kills and (number + BATCH) * (kills + 1) >= count * (fleet.kills + 1):
                await asyncio.to_thread(fleet.kill, chance.randrange(REPLICAS))
        deadline = time.monotonic() + PATIENCE
        while len(set(receiver.seqs())) < count and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
    finally:
        fleet.stop()
    seconds = time.monotonic() - began
    with db.reading():
        events = [event for page in range(0, count, 1000) for event in outbox.page(page, 1000)[0]]
    found = faults_of(receiver, secret, events)
    repeated = sum(number - 1 for number in Counter(receiver.seqs()).values())
    print(
        f"{count:,} events, {fleet.kills} kills, {len(receiver.posts):,} requests of which "
        f"{len(receiver.posts) - len(receiver.taken):,} were refused; {repeated} events came again; {seconds:.0f} s"
    )
    print("\n".join(found[:20]) or "each arrived, in order for each VM, with good signatures")
    await runtime.stop()
    client.close()
    await receiver.close()
    return bool(found)


def main() -> int:
    """1 when a promise was broken."""
    with server_with("webhooks") as maintenance:
        url = maintenance.url.replace("/postgres?", "/webhooks?")
        pool = db.open_database(url, 10)
        chance = random.Random(int(setting("CHAOS_SEED", 1)))
        code = asyncio.run(run(url, int(setting("WEBHOOK_EVENTS", 10_000)), int(setting("WEBHOOK_KILLS", 10)), chance))
        pool.close_all()
    return code


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(replica(sys.argv[1]))
    else:
        os.environ.setdefault("PYTHONUNBUFFERED", "1")
        sys.exit(main())
