"""A replica that only writes: `python -m tests.integration.writer URL NAME SEED COUNT`, a process of its own.

Four threads commit events. `TRIGGER` makes some transactions linger between the number and the commit, and fail some
after they had a number: the two ways in which a reader that remembers the highest number could miss something.
"""

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from peewee import InternalError

from vmsvc.domain.events import TYPES
from vmsvc.store import db

THREADS = 4
TRIGGER = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.1 THEN PERFORM pg_sleep(random() * 0.04); END IF;
    IF random() < 0.1 AND NEW.vm_id LIKE 'w%' THEN RAISE 'given up'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER linger AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION linger();
"""


def emit(work: db.Unit, vm_id: str, kind: str, preemptible: bool) -> None:
    """One event of a VM."""
    work.emit(
        type=kind,
        state="pending",
        vm_id=vm_id,
        subject=vm_id,
        is_preemptible=preemptible,
        data={"vm": {"id": vm_id, "vmsvc_id": vm_id, "name": "x", "is_preemptible": preemptible}},
    )


def write(name: str, chance: random.Random, count: int) -> None:
    """That many transactions of one to three events."""
    for number in range(count):
        with suppress(InternalError), db.unit() as work:
            for part in range(chance.randint(1, 3)):
                emit(work, f"{name}-{number}-{part}", chance.choice(sorted(TYPES)), chance.random() < 0.5)
        time.sleep(chance.random() * 0.004)


def main(url: str, name: str, seed: str, count: str) -> None:
    """Write, with all threads at once."""
    pool = db.open_database(url, THREADS)
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [
            threads.submit(write, f"{name}-{number}", random.Random(f"{seed} {number}"), int(count))
            for number in range(THREADS)
        ]:
            done.result()
    pool.close_all()


if __name__ == "__main__":
    main(*sys.argv[1:])
