"""What strangers cost a customer who creates VMs, and the service's memory: measured in pairs, without them and beside
them, in the same run."""

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.system_under_test import SystemUnderTest
from tests.conftest import Database
from tests.hostile.strangers import TokenlessCrowd, UnreadSockets, bad_token, creates, share, unknown
from tests.system.client import API

#: A create may take so many times as long beside an attack.
MOST_TIMES = 2.0
#: MiB that peers who do not read may cost.
MOST_UNREAD = 64
CLOUD = {"boot_seconds": 0.3, "delete_seconds": 0.1, "schedule_seconds": 0.05, "vcpus": 1000, "ram_mb": 2_000_000}
#: Servers that make a list of some 3.2 MB.
MANY = 2700


@dataclass
class Figures:
    """The figures of the scenarios, printed as they come. `problems` are those beyond their bounds."""

    problems: list[str] = field(default_factory=list)

    def held(self, name: str, figure: float, bound: float, unit: str) -> None:
        """Note a figure and whether it is within its bound."""
        line = f"{name}: {figure:.2f} {unit} (at most {bound:.0f})"
        self.note(line)
        if figure > bound:
            self.problems.append(line)

    def note(self, line: str) -> None:
        """Print a line that has no bound to keep."""
        print(line, flush=True)


async def beside_crowds(
    system: SystemUnderTest, crowds: list[TokenlessCrowd], rounds: int, number: int, headers: dict | None = None
) -> tuple[list[float], list[float]]:
    """Creates without a crowd and beside one, in turn; the seconds of both."""
    alone, beside = [], []
    client = system.replicas[0].client
    await creates(client, 2, headers)
    for _ in range(rounds):
        for crowd in crowds:
            alone += await creates(client, number, headers)
            async with crowd.asking():
                await asyncio.sleep(0.5)
                beside += await creates(client, number, headers)
                assert (await client.call("GET", "/readyz")).status == 200
    return alone, beside


async def readers(folder: Path, postgres: Database, rounds: int, figures: Figures) -> None:
    """300 and 1,300 connections that read what nobody has, and some that ask and go."""
    system = SystemUnderTest(
        folder,
        postgres,
        "readers",
        replicas=1,
        cloud=CLOUD,
        settings={"grace_seconds": 1, "read_rate": 100, "cloud_rate": 50},
    )
    try:
        await system.open()
        for number, hasty in ((300, 0), (1300, 0), (100, 200)):
            crowd = TokenlessCrowd(system.replicas[0].client.port, number, unknown, hasty)
            alone, beside = await beside_crowds(system, [crowd], rounds, 5)
            slowest = share(alone, 0.99)
            figures.held(
                f"{number} readers and {hasty} who go: a create, p99",
                share(beside, 0.99) / slowest,
                MOST_TIMES,
                f"times {1000 * slowest:.0f} ms",
            )
            figures.note(f"  the readers heard {dict(crowd.answers)}")
    finally:
        await system.close()


async def bad_tokens(folder: Path, postgres: Database, rounds: int, figures: Figures) -> None:
    """300 connections with a new bad token each time."""
    system = SystemUnderTest(
        folder,
        postgres,
        "tokens",
        replicas=1,
        constants={"vmsvc.service.identity.keystone.ACCEPTED_SECONDS": 2.0},
        cloud=CLOUD,
        settings={"grace_seconds": 1, "auth": "keystone", "cloud_rate": 50, "read_rate": 100},
    )
    try:
        system.sim.call("POST", "/sim/users", {"name": "mia", "project": "admin", "role": "member"})
        await system.open()
        headers = {"X-Auth-Token": system.sim.token("mia", "admin")}
        system.sim.forget_calls()
        began = asyncio.get_running_loop().time()
        crowd = TokenlessCrowd(system.replicas[0].client.port, 300, bad_token)
        alone, beside = await beside_crowds(system, [crowd], rounds, 5, headers)
        seconds = asyncio.get_running_loop().time() - began
        figures.held(
            "300 senders of bad tokens: a create, p99",
            share(beside, 0.99) / share(alone, 0.99),
            MOST_TIMES,
            f"times {1000 * share(alone, 0.99):.0f} ms",
        )
        asked = len(system.sim.calls(service="identity", method="GET", path="/auth/tokens"))
        figures.held(f"  Keystone was asked in {seconds:.0f} s", asked, 60 + 3 * seconds, "times")
    finally:
        await system.close()


async def unread(folder: Path, postgres: Database, number: int, figures: Figures) -> None:
    """Peers that do not read a list of some megabytes: all of them the same one, and each third another one."""
    system = SystemUnderTest(folder, postgres, "unread", replicas=1, cloud=CLOUD, settings={"grace_seconds": 1})
    try:
        await system.open()
        replica = system.replicas[0]
        system.sim.call("PUT", "/sim/quotas/admin", {"instances": 10**6, "cores": 10**6, "ram": 10**9, "port": 10**6})
        system.sim.foreign("admin", count=MANY)
        await until_listed(system)
        size = len(await replica.client.text(f"{API}/vm"))
        before = rss(replica.pid)
        figures.note(f"a list of {size / 1e6:.1f} MB")
        for lists in (1, 3):
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(lists):
                    await stack.enter_async_context(UnreadSockets(replica.client.port, number // lists))
                    await asyncio.sleep(1)
                    await creates(replica.client, 1)
                    figures.held(
                        f"{number // lists} more who do not read: memory", rss(replica.pid) - before, MOST_UNREAD, "MiB"
                    )
    finally:
        await system.close()


async def until_listed(system: SystemUnderTest) -> None:
    """Wait until the service knows them all, and has made the list a few times: what that takes is not the peers'."""
    client = system.replicas[0].client
    while (await client.text(f"{API}/vm")).count('"status"') < MANY:
        await asyncio.sleep(0.2)
    for _ in range(3):
        await creates(client, 1)
        await client.text(f"{API}/vm")


def rss(pid: int) -> float:
    """MiB."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


async def all_of_them(folder: Path, postgres: Database, rounds: int) -> Figures:
    """One after the other."""
    figures = Figures()
    await readers(folder, postgres, rounds, figures)
    await bad_tokens(folder, postgres, rounds, figures)
    await unread(folder, postgres, 300, figures)
    return figures
