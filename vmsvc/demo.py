"""`make demo`: plays an example on a running service, for people who watch its page.

`make empty` is here too, for the same client: it deletes every VM that the service made.

The demo fills the capacity with preemptible VMs, asks by a dry run which of them a standard VM would evict, creates
that VM, waits for the notice and the eviction, deletes, and begins again. It uses only VMs that it made itself: where
another VM would be evicted it ends, and says how to free capacity. At its end, and after Ctrl-C, it deletes what it
made.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Iterable, Iterator, Sequence

from vmsvc.client import (
    AsyncClient,
    ClientError,
    FlavorCapacity,
    NotFound,
    Plan,
    StillPending,
    Unauthenticated,
    Unreachable,
    Vm,
)

URL = "http://127.0.0.1:8888"
_CALL_SECONDS = 90.0
_AWAY_SECONDS = 2.0
_WAIT_SECONDS = 0.5
_OUTCOME_SECONDS = 600.0
_AT_ONCE = 4
_NO_ROOM = ("no_capacity", "quota_exceeded")
#: What somebody can do whose cloud is full of others.
MAKE_ROOM = "Delete some, or all that vmsvc made: make empty, or vmsvc demo --empty"


class DemoFailed(Exception):
    """The service cannot be reached, or gave an answer that the demo does not expect."""


class Stopped(Exception):
    """The user pressed Ctrl-C."""


class DemoClient:
    """The calls of the story, and the vmsvc ids (with the names) of all VMs that it made and that may still be there.

    No call waits for an outcome, and none is broken off: whatever was asked for is known, and can be removed. All raise
    DemoFailed when the service refuses, or is away.
    """

    def __init__(self, url: str, token: str = ""):
        self.url = url.rstrip("/")
        with self._failures():
            self._client = AsyncClient(url, token=token, timeout=_CALL_SECONDS, patience=_AWAY_SECONDS)
        self.made: dict[str, str] = {}

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Unreachable as error:
            message = f"no vmsvc answers at {self.url}/api/v1: start one with `make run` or `vmsvc serve`"
            raise DemoFailed(message) from error
        except Unauthenticated as error:
            raise DemoFailed(f"{error.message}. Name a token of a member: VMSVC_TOKEN=… or --token") from error
        except (ClientError, ValueError) as error:
            raise DemoFailed(str(error)) from error

    async def create(self, name: str, flavor: str, preemptible: bool, priority: int = 0) -> str:
        """Ask for a VM; its vmsvc id."""
        with self._failures():
            asked = await self._client.create(preemptible, wait=False, name=name, flavor=flavor, priority=priority)
            if asked.vm is None or asked.vm.vmsvc_id is None:
                raise DemoFailed(f"{name} was accepted, and cannot be shown")
        self.made[asked.vm.vmsvc_id] = name
        return asked.vm.vmsvc_id

    async def show(self, vm_id: str) -> Vm:
        """A VM that it made."""
        with self._failures():
            return await self._client.show(vm_id)

    async def delete(self, vm_id: str) -> None:
        """Delete a VM of ours and wait until it is gone; one that is gone already is no error."""
        with self._failures(), contextlib.suppress(NotFound, StillPending):
            await self._client.delete(vm_id, timeout=60)
        self.made.pop(vm_id, None)

    async def plan(self, name: str, flavor: str) -> Plan:
        """What a standard VM would do now."""
        with self._failures():
            return await self._client.plan(False, name=name, flavor=flavor)

    async def flavors(self) -> Sequence[FlavorCapacity]:
        """How many of each flavor fit."""
        with self._failures():
            return (await self._client.capacity()).flavors

    async def known(self) -> dict[str, Vm]:
        """All VMs that the service made or is about to make, by their vmsvc ids."""
        with self._failures():
            return {vm.vmsvc_id: vm for vm in (await self._client.list()).vms if vm.vmsvc_id}

    async def take_all(self) -> int:
        """Treat every VM that the service made as one of ours. Returns how many there are."""
        self.made = {vm_id: vm.name for vm_id, vm in (await self.known()).items()}
        return len(self.made)

    async def ours(self) -> set[str]:
        """The cloud's ids of those that are still there; what has gone is forgotten."""
        there = {vm_id: vm.id for vm_id, vm in (await self.known()).items() if vm_id in self.made}
        self.made = {vm_id: name for vm_id, name in self.made.items() if vm_id in there}
        return set(there.values())

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


class Story:
    """One run of the demo. `pause`: seconds between two steps; `most`: how many VMs it makes at most."""

    def __init__(self, service: DemoClient, pause: float, most: int):
        self._service = service
        self._pause = pause
        self._most = most
        self._number = 0
        self._small = self._large = ""
        self.stop = asyncio.Event()

    async def tell(self, rounds: int) -> None:
        """Play so many rounds (0: for ever), then delete the VMs that were made. Raises DemoFailed."""
        try:
            with contextlib.suppress(Stopped):
                await self.prepare()
                number = 0
                while number < rounds or not rounds:
                    number += 1
                    await self.round()
        finally:
            await self.clear()

    async def wait(self, seconds: float) -> None:
        """Wait for so many seconds. Raises Stopped after Ctrl-C."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)
        if self.stop.is_set():
            raise Stopped

    async def prepare(self) -> None:
        """Print what is there, and choose the smallest and the largest flavor that would fit. Raises DemoFailed when
        other VMs take all the capacity."""
        others = len(await self._service.known())
        sizes = [flavor for flavor in await self._service.flavors() if flavor.fits_after_evictions or flavor.fits_now]
        if not sizes:
            raise DemoFailed("there is no room at all, not even after evictions")
        sizes.sort(key=lambda flavor: (flavor.vcpus, flavor.ram))
        self._small, self._large = sizes[0].name, sizes[-1].name
        say(f"there are {others} VMs that this demo did not make, and room for {sizes[0].fits_now} of {self._small}")
        if not sizes[0].fits_now:
            raise DemoFailed(f"there is no room for a VM of its own, and it has nobody else's evicted. {MAKE_ROOM}")

    async def round(self) -> None:
        """Fill, ask, notice, evict, create, delete."""
        await self.fill()
        await self.wait(self._pause)
        name = self._name("training")
        if await self.ask(name):
            say(f"{name} is asked for: look at the notices")
            ran = await self.outcome(await self._service.create(name, self._large, False))
            before = len(self._service.made)
            await self._service.ours()
            say(f"{name} is active; {before - len(self._service.made)} were evicted" if ran else f"{name} was refused")
        await self.wait(self._pause)
        await self.clear("demo-training")

    async def fill(self) -> None:
        """Preemptible VMs while they fit, by what the service says, or until there are enough."""
        fits = next(flavor.fits_now for flavor in await self._service.flavors() if flavor.name == self._small)
        count = min(fits, self._most - len(self._service.made))
        say(f"filling the room with {count} preemptible VMs of {self._small}")
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                vm_id = await self._service.create(self._name("batch"), self._small, True, self._number % 3)
                await self.outcome(vm_id)

        await together(work() for _ in range(_AT_ONCE))
        say("that is enough" if count < fits else "the room is full")

    async def outcome(self, vm_id: str) -> bool:
        """Wait for a VM: True when it runs, False when it was refused for lack of capacity. Raises DemoFailed for any
        other end."""
        for _ in range(int(_OUTCOME_SECONDS / _WAIT_SECONDS)):
            await self.wait(_WAIT_SECONDS)
            vm = await self._service.show(vm_id)
            if vm.state == "failed" and vm.error in _NO_ROOM:
                self._service.made.pop(vm_id)
                return False
            if vm.state == "failed":
                raise DemoFailed(f"{self._service.made[vm_id]}: {vm.message}")
            if vm.state not in ("pending", "building"):
                return True
        raise DemoFailed(f"{self._service.made[vm_id]} has no outcome after {_OUTCOME_SECONDS:.0f} s")

    async def ask(self, name: str) -> bool:
        """Ask by a dry run which VMs a standard VM would evict. False when no eviction would help. Raises DemoFailed
        when it would evict a VM that the demo did not make."""
        plan = await self._service.plan(name, self._large)
        plans = [plan, *filter(None, [plan.if_no_host_has_room])]
        say(f"who would go for {name} ({self._large})? {plans[-1].reason}")
        if not {victim for one in plans for victim in one.victims} <= await self._service.ours():
            raise DemoFailed(f"VMs that this demo did not make would go, so {name} is not asked for. {MAKE_ROOM}")
        return plans[-1].result != "refused"

    async def clear(self, prefix: str = "demo-") -> None:
        """Delete the demo's VMs whose names begin so. Standard VMs first, so that their victims are reprieved."""
        mine = sorted((name, vm_id) for vm_id, name in self._service.made.items() if name.startswith(prefix))
        if mine:
            say(f"deleting {len(mine)} of its VMs")
        for part in ("demo-training", "demo-batch"):
            await together(self._service.delete(vm_id) for name, vm_id in mine if name.startswith(part))

    def _name(self, kind: str) -> str:
        self._number += 1
        return f"demo-{kind}-{self._number}"


async def together(coroutines: Iterable[Awaitable[None]]) -> None:
    """Run all of them at once. When all have ended, the first error is raised."""
    for error in await asyncio.gather(*coroutines, return_exceptions=True):
        if isinstance(error, BaseException):
            raise error


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


async def empty(url: str, token: str = "", sure: bool = False) -> None:
    """Delete every VM that the service made, and the requests that wait for capacity. Other servers stay. The user has
    to confirm this at the terminal, unless `sure` is true. Raises DemoFailed."""
    service = DemoClient(url, token)
    try:
        count = await service.take_all()
        if not count:
            say("there is no VM that vmsvc made")
            return
        if not sure:
            confirm(f"{count} VMs that vmsvc made at {url} will be deleted")
        left = iter(sorted(service.made))

        async def work() -> None:
            for vm_id in left:
                await service.delete(vm_id)

        await together(work() for _ in range(_AT_ONCE))
        left_over = await service.known()
        say(f"{len(left_over)} are on their way" if left_over else "all of them are deleted")
    finally:
        await service.close()


def confirm(what: str) -> None:
    """Ask the user at the terminal. Raises DemoFailed for any answer but yes."""
    if not sys.stdin.isatty():
        raise DemoFailed(f"{what}. Nobody is at the terminal to say yes: make empty YES=1, or --empty --yes")
    if input(f"{what}. Is that what you want? (yes/no) ") != "yes":
        raise DemoFailed("nothing was deleted")


async def play(url: str, rounds: int, pause: float, most: int, token: str = "") -> None:
    """Play the demo. The first Ctrl-C ends it in order, a second one at once. Raises DemoFailed."""
    service = DemoClient(url, token)
    story = Story(service, pause, most)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        say("stopping")
        story.stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        await story.tell(rounds)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await service.close()


def main(arguments: Sequence[str] | None = None, program: str = ".venv/bin/python -m vmsvc.demo") -> int:
    """The exit status: 0 after a demo, 2 after one line on stderr that says why it cannot be played."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default=os.environ.get("VMSVC_URL", URL), help="where the service is")
    parser.add_argument(
        "--token",
        default=os.environ.get("VMSVC_TOKEN", ""),
        help="of a member, where the service asks who comes (better: VMSVC_TOKEN)",
    )
    parser.add_argument("--empty", action="store_true", help="play nothing: delete every VM that the service made")
    parser.add_argument("--yes", action="store_true", help="with --empty: do not ask first")
    parser.add_argument("--rounds", type=int, default=0, help="how often; 0 (the default): until Ctrl-C")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between two steps")
    parser.add_argument("--most", type=int, default=64, help="VMs that it makes at most")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(
            empty(options.url, options.token, options.yes)
            if options.empty
            else play(options.url, options.rounds, options.pause, options.most, options.token)
        )
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
