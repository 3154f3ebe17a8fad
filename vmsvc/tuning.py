"""How the process uses memory: the C heap and the garbage collector, each setting with its measurement."""

import contextlib
import ctypes
import gc

_M_ARENA_MAX = -8  # of glibc's malloc.h
#: glibc gives up to eight heaps for each core, and each keeps what its longest list of servers took. After 26,000
#: creates with 32 threads the heaps held 228 MB, of which 28 MB were in use, and memory still grew while more threads
#: met long lists. `bench_fleet` takes 144 MB with two heaps, 185 MB without the limit. Threads that wait for each other
#: in malloc cost nothing: they wait for the interpreter anyway.
_ARENAS = 2
#: Python's own values, except the third: a full collection after a hundred of the middle ones, not after ten. With a
#: thousand requests under way it kept the loop for 60 ms each time, six times in half a minute, and found next to
#: nothing: reference counts free all but a few objects of each request.
_THRESHOLDS = 700, 10, 100
#: VMs and hosts. A full collection scans 10,000 hosts with 40,000 VMs for 58 ms of CPU, longer than a decision
#: takes; once they are frozen it takes 0.1 ms.
_LARGE = 10_000


def share_heap() -> None:
    """Have all threads share two heaps of the C library. Call it before there are threads; without glibc it does
    nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def settle_collector() -> None:
    """Leave what is loaded now out of collections, and make full ones seldom. Call it when the start is over: a full
    collection that scans all modules kept the loop for 55 ms of CPU each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


class GrowingWorld:
    """Leaves a large structure, of which next to nothing becomes garbage, out of collections: when it is there for the
    first time, and whenever it has grown by half."""

    def __init__(self) -> None:
        self._frozen = 0

    def has(self, size: int) -> None:
        """Report how many parts the structure has now. Freezes it when it has grown enough."""
        if size > max(_LARGE, self._frozen * 3 // 2):
            self._frozen = size
            gc.freeze()
