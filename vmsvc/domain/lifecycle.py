"""The life of a VM, as a table.

`store.vms.move()` is the only writer of a state, and it writes only what this table allows. A state that no row
leads out of is final. The events that clients see are the third column: (type, data.state).
"""

from enum import StrEnum


class State(StrEnum):
    """Where a VM is in its life. The values are what clients see."""

    PENDING = "pending"      # accepted, no server yet: it waits for room
    BUILDING = "building"    # room was found; the boot intent is on its way, or the server builds
    ACTIVE = "active"        # the server runs
    NOTICED = "noticed"      # a victim that was told when it goes (evict_at)
    EVICTING = "evicting"    # its time is up: stop, delete, wait until the cloud says 404
    EVICTED = "evicted"
    DELETING = "deleting"    # the owner wants it gone
    DELETED = "deleted"
    FAILED = "failed"        # the request was refused or the build failed
    LOST = "lost"            # it vanished from the cloud without us (GET said 404)


#: (from, to) -> (event type, event state); `None` as event state: the move is no news to clients.
MOVES: dict[tuple[State, State], tuple[str, str] | None] = {
    (State.PENDING, State.BUILDING): ("create", "building"),
    (State.BUILDING, State.PENDING): None,                       # the cloud refused: the request waits for room again
    (State.BUILDING, State.ACTIVE): ("create", "active"),
    (State.PENDING, State.FAILED): ("create", "failed"),
    (State.BUILDING, State.FAILED): ("create", "failed"),
    (State.ACTIVE, State.NOTICED): ("evict", "noticed"),
    (State.NOTICED, State.NOTICED): ("evict", "noticed"),        # told late, so it goes later than was said first
    (State.NOTICED, State.ACTIVE): ("evict", "reprieved"),
    (State.NOTICED, State.EVICTING): ("evict", "evicting"),
    (State.EVICTING, State.EVICTED): ("evict", "evicted"),
    (State.PENDING, State.DELETING): ("delete", "deleting"),
    (State.BUILDING, State.DELETING): ("delete", "deleting"),
    (State.ACTIVE, State.DELETING): ("delete", "deleting"),
    (State.NOTICED, State.DELETING): ("delete", "deleting"),
    (State.DELETING, State.DELETED): ("delete", "deleted"),
    (State.BUILDING, State.LOST): ("delete", "lost"),
    (State.ACTIVE, State.LOST): ("delete", "lost"),
    (State.NOTICED, State.LOST): ("delete", "lost"),
}

FINAL = frozenset(state for state in State if not any(source == state for source, _ in MOVES))
#: The states in which a VM may hold a server in the cloud.
LIVE = frozenset({State.BUILDING, State.ACTIVE, State.NOTICED, State.EVICTING, State.DELETING})
#: States in which the server may still have to be created, so that what its boot needs (user data) is kept.
BOOTABLE = frozenset({State.PENDING, State.BUILDING})
#: On the way out by our own hand: the room they hold will be free.
LEAVING = frozenset({State.EVICTING, State.DELETING})


class InvalidTransition(Exception):
    """A move that the table does not know: a defect of vmsvc, never of a client."""


def event_of(source: State, target: State) -> tuple[str, str] | None:
    """The (type, state) of the event for a move, or None for a silent one; raises InvalidTransition."""
    try:
        return MOVES[source, target]
    except KeyError:
        raise InvalidTransition(f"a VM cannot go from {source} to {target}") from None
