"""The life of a VM, as a table, and the end of its lifetime.

`store.vms.move()` is the only writer of a state, and it writes only what this table allows. A state is final when no
move leads out of it. The values of the table are the events that clients see: (type, data.state).
"""

import hashlib
from datetime import datetime, timedelta
from enum import StrEnum


class State(StrEnum):
    """Where a VM is in its life. The values are what clients see."""

    PENDING = "pending"  # accepted, no server yet: the request waits for capacity
    BUILDING = "building"  # capacity was found; the boot intent waits for a worker, or the server builds
    ACTIVE = "active"  # the server runs
    NOTICED = "noticed"  # a victim whose notice says when it is evicted (evict_at)
    EVICTING = "evicting"  # evict_at has passed: stop, delete, wait until the cloud says 404
    EVICTED = "evicted"
    DELETING = "deleting"  # the owner wants it gone
    DELETED = "deleted"
    FAILED = "failed"  # the request was refused or the build failed
    LOST = "lost"  # its server vanished without vmsvc's doing (GET said 404)


#: (from, to) -> (event type, event state). None: clients get no event.
MOVES: dict[tuple[State, State], tuple[str, str] | None] = {
    (State.PENDING, State.BUILDING): ("create", "building"),
    (State.BUILDING, State.PENDING): None,  # the cloud refused it: it waits for capacity again
    (State.BUILDING, State.ACTIVE): ("create", "active"),
    (State.PENDING, State.FAILED): ("create", "failed"),
    (State.BUILDING, State.FAILED): ("create", "failed"),
    (State.ACTIVE, State.NOTICED): ("evict", "noticed"),
    (State.NOTICED, State.NOTICED): ("evict", "noticed"),  # the notice was late: evict_at moves
    (State.NOTICED, State.ACTIVE): ("evict", "reprieved"),
    (State.NOTICED, State.EVICTING): ("evict", "evicting"),
    (State.EVICTING, State.EVICTED): ("evict", "evicted"),
    (State.PENDING, State.DELETING): ("delete", "deleting"),
    (State.BUILDING, State.DELETING): ("delete", "deleting"),
    (State.ACTIVE, State.DELETING): ("delete", "deleting"),
    (State.NOTICED, State.DELETING): ("delete", "deleting"),
    (State.DELETING, State.DELETED): ("delete", "deleted"),
    (State.ACTIVE, State.LOST): ("delete", "lost"),
    (State.NOTICED, State.LOST): ("delete", "lost"),
}

#: Steps that clients hear of and that change no state -> the states in which a VM may take them.
STEPS: dict[tuple[str, str], frozenset[State]] = {
    ("create", "queued"): frozenset({State.PENDING}),  # there is no capacity for it: it waits in the queue
    ("create", "fell_back"): frozenset({State.PENDING}),  # preemptible until now, it goes on as a standard one
    ("create", "converted"): frozenset({State.ACTIVE}),  # its owner made it standard, or preemptible
}

FINAL = frozenset(state for state in State if not any(source == state for source, _ in MOVES))
#: The states in which a VM may hold a server in the cloud.
LIVE = frozenset({State.BUILDING, State.ACTIVE, State.NOTICED, State.EVICTING, State.DELETING})
#: States in which the server may still have to be created: what that needs (user data) is kept until then.
BOOTABLE = frozenset({State.PENDING, State.BUILDING})
#: States after which a VM of a lineage may be started again: its user data are kept until then.
RESTARTABLE = BOOTABLE | {State.ACTIVE, State.NOTICED, State.EVICTING}
#: On its way out: it has notice, or its server is being removed.
LEAVING = frozenset({State.NOTICED, State.EVICTING, State.DELETING})
#: Its server is being removed, by eviction or by its owner: nothing stops that any more.
REMOVING = frozenset({State.EVICTING, State.DELETING})


class InvalidTransition(Exception):
    """A move that the table does not have. This is a defect of vmsvc, never a fault of a client."""


def event_of(source: State, target: State) -> tuple[str, str] | None:
    """The (type, state) of the event for a move; None when clients get no event. Raises InvalidTransition."""
    try:
        return MOVES[source, target]
    except KeyError:
        raise InvalidTransition(f"a VM cannot go from {source} to {target}") from None


#: A VM ends in this last part of its lifetime, so that a hundred VMs made together do not end together.
SPREAD = 0.1


def earliest_end(lifetime_seconds: float) -> timedelta:
    """For how long every VM runs at least."""
    return timedelta(seconds=lifetime_seconds * (1 - SPREAD))


def end_of_life(vm_id: str, launched_at: datetime, lifetime_seconds: float) -> datetime:
    """When the lifetime of a VM ends: after 90 to 100 % of `lifetime_seconds`. The share is derived from the id, so it
    is the same on every replica and after every restart."""
    share = int.from_bytes(hashlib.sha256(vm_id.encode()).digest()[:8], "big") / 2**64
    return launched_at + timedelta(seconds=lifetime_seconds * (1 - SPREAD * share))
