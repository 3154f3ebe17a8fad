"""A replica that only writes: `python -m tests.integration.writer URL NAME SEED COUNT`, a process of its own.

Four threads commit events. Some transactions linger between the number and the commit, and some are given up after
they had a number: the two ways in which a reader that remembers the highest number could miss something.
"""

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from vmsvc.domain.events import TYPES
from vmsvc.store import db

THREADS = 4


class GivenUp(Exception):
    """A transaction that does not come to its end."""


def emit(work: db.Unit, vm_id: str, kind: str, preemptible: bool) -> None:
    """One event of a VM."""
    work.emit(type=kind, state="pending", vm_id=vm_id, subject=vm_id, is_preemptible=preemptible,
              data={"vm": {"id": vm_id, "vmsvc_id": vm_id, "name": "x", "is_preemptible": preemptible}})


class Lingering(db.Unit):
    """A unit that takes its time between its events' numbers and the commit, or fails there."""

    chance = random.Random()

    def finish(self) -> None:
        super().finish()
        if self.chance.random() < 0.3:
            time.sleep(self.chance.random() * 0.004)
        if self.chance.random() < 0.1:
            raise GivenUp


def write(name: str, chance: random.Random, count: int) -> None:
    """That many transactions of one to three events."""
    for number in range(count):
        with suppress(GivenUp), db.unit() as work:
            for part in range(chance.randint(1, 3)):
                emit(work, f"{name}-{number}-{part}", chance.choice(sorted(TYPES)), chance.random() < 0.5)
        time.sleep(chance.random() * 0.004)


def main(url: str, name: str, seed: str, count: str) -> None:
    """Write, with all threads at once."""
    pool = db.open_database(url, THREADS)
    db.Unit = Lingering
    Lingering.chance.seed(seed)
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(write, f"{name}-{number}", random.Random(f"{seed} {number}"), int(count))
                     for number in range(THREADS)]:
            done.result()
    pool.close_all()


if __name__ == "__main__":
    main(*sys.argv[1:])
