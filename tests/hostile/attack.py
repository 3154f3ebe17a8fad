"""All of it at once on one real service, while others want to be served; and what it came to."""

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.sample import Sample, sample_of
from tests.chaos.system_under_test import Result, SystemUnderTest, Watcher, check_end_state
from tests.conftest import Database
from tests.hostile import conformance
from tests.hostile.frames import bad_sockets
from tests.hostile.requests import bad_requests
from tests.hostile.slow import SlowConnections, slow_ones
from tests.hostile.wire import Tally, send_all
from tests.hostile.witness import ControlClient, Probe

#: How much more there may be afterwards. Memory: what the allocators of C and Python keep once they had it.
MAY_GROW = {"rss_mb": 60, "threads": 45, "descriptors": 50, "tasks": 3, "connections": 12, "leases": 0}
#: So quick and so large that whoever wants a VM can be served, however many are made up.
CLOUD = {"boot_seconds": 0.1, "delete_seconds": 0.05, "schedule_seconds": 0.02, "vcpus": 1000, "ram_mb": 2_000_000}
#: Requests before the first sample.
WARM_UP = 200
QUICK_SECONDS = 1.0


@dataclass
class Outcome:
    """What an attack came to; without `problems` all is well."""

    tally: Tally
    probe: Probe
    customer: ControlClient
    before: Sample | None = None
    after: Sample | None = None
    tracebacks: int = 0
    events: Result = field(default_factory=Result)
    problems: list[str] = field(default_factory=list)


async def attack(
    folder: Path, postgres: Database, number: int, idle: int, slow_seconds: float, seed: int, examples: int
) -> Outcome:
    """So many bad requests (a quarter of them over WebSockets), so many idle connections, slow ones for so long, and
    what schemathesis makes up with so many examples (one: without the odd values of each field)."""
    system = SystemUnderTest(
        folder,
        postgres,
        "hostile",
        replicas=1,
        cloud=CLOUD,
        settings={"grace_seconds": 1, "write_rate": 1e6, "read_rate": 1e6},
    )
    try:
        await system.open()
        replica = system.replicas[0]
        port = replica.client.port
        chance, tally = random.Random(seed), Tally()
        await send_all(port, bad_requests(random.Random(0), WARM_UP), Tally())
        # The loops start one after the other; who has made a VM and deleted it has needed them all.
        await replica.client.delete((await replica.client.create(True, flavor="m1.tiny")).id)
        outcome = Outcome(tally, Probe(port), ControlClient(replica.client))
        outcome.before = await sample_of(replica, system.database, 0)
        watcher, over = Watcher(system.replicas, 0), asyncio.Event()
        background = [asyncio.create_task(outcome.probe.run()), asyncio.create_task(watcher.run())]
        served = asyncio.create_task(outcome.customer.run(over))
        cases = itertools.chain(bad_requests(chance, number - number // 4), bad_sockets(chance, number // 4))
        async with SlowConnections(port, idle, tally):
            await asyncio.gather(
                send_all(port, cases, tally), slow_ones(port, slow_seconds, tally), made_up(port, examples, seed, tally)
            )
        over.set()
        await served
        background[0].cancel()
        await check_end_state(system, [watcher], outcome.events)
        background[1].cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await settle(system, outcome)
        judge(system, outcome)
        return outcome
    finally:
        await system.close()


async def made_up(port: int, examples: int, seed: int, tally: Tally) -> None:
    """What schemathesis makes up from the document, good requests too, each answer held against the document."""
    phases = [phase for phase in conformance.PHASES if phase != "coverage" or examples > 1]
    outcome = await asyncio.to_thread(conformance.run, f"http://127.0.0.1:{port}", examples, None, seed, phases)
    for came, times in outcome.answers.items():
        tally.count("schemathesis", came, times=times)
    tally.problems += outcome.failures


async def settle(system: SystemUnderTest, outcome: Outcome) -> None:
    """Look again as soon as it has let go of the descriptors; that takes as long as a close handshake."""
    replica = system.replicas[0]
    samples = []

    def at_rest() -> bool:
        return (
            bool(samples)
            and samples[-1].descriptors <= outcome.before.descriptors + MAY_GROW["descriptors"]
            and samples[-1].tasks <= outcome.before.tasks + MAY_GROW["tasks"]
        )

    for _ in range(40):
        samples.append(
            await sample_of(
                replica, system.database, sum(answers.total() for answers in outcome.tally.answers.values())
            )
        )
        if at_rest():
            break
        await asyncio.sleep(0.5)
    outcome.after = samples[-1]


def judge(system: SystemUnderTest, outcome: Outcome) -> None:
    """Say what is not as it must be."""
    problems = outcome.problems
    problems += outcome.tally.problems + [f"/healthz {failure}" for failure in outcome.probe.failures]
    problems += [f"a customer was not served: {failure}" for failure in outcome.customer.failures]
    for name, more in MAY_GROW.items():
        before, after = getattr(outcome.before, name), getattr(outcome.after, name)
        if after > before + more:
            problems.append(f"{name} grew from {before:.0f} to {after:.0f}")
    defects = system.defects()
    outcome.tracebacks = len(defects)
    problems += defects[:5]
    if outcome.events.lost or outcome.events.doubled or outcome.events.problems:
        problems.append(f"events: {outcome.events}")
    if outcome.probe.share(0.99) > 1000 * QUICK_SECONDS:
        problems.append(f"/healthz took {outcome.probe.share(0.99):.0f} ms (p99)")
    if not outcome.customer.served:
        problems.append("no customer was served")
