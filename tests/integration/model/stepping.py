"""An event loop whose time stands still, and gates at which every task waits to be let on."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass

#: The replica to which a task belongs.
OWNER: ContextVar[str] = ContextVar("owner", default="")
_TURNS = 8  # of the loop after each step: enough for a wake-up to reach the next gate


class Loop(asyncio.SelectorEventLoop):
    """Its clock moves only when it is told to, so timers fire when the test says so."""

    now = 0.0

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.now


@dataclass(eq=False, slots=True)
class Gate:
    """Where a task waits before it reads or changes anything outside itself."""

    owner: str
    task: str
    label: str
    opened: asyncio.Future


class Steps:
    """All gates at which somebody waits, in the order of arrival."""

    def __init__(self):
        self.loop = Loop()
        self.waiting: list[Gate] = []

    async def gate(self, label: str) -> None:
        """Wait here until the test lets this task on."""
        gate = Gate(OWNER.get(), asyncio.current_task().get_name(), label, self.loop.create_future())
        self.waiting.append(gate)
        try:
            await gate.opened
        finally:
            if gate in self.waiting:
                self.waiting.remove(gate)

    def let_on(self, gate: Gate) -> None:
        """One task goes on to its next gate."""
        self.waiting.remove(gate)
        gate.opened.set_result(None)
        self.turn()

    def turn(self) -> None:
        """Let everybody who can run get to a gate, a timer or a wakeup."""

        async def turns():
            for _ in range(_TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def cancel(self, tasks) -> None:
        """End tasks wherever they are; none of them gets a word in."""
        for task in tasks:
            task.cancel()
        self.turn()
        assert all(task.done() for task in tasks), tasks
