"""How many heaps a process with many threads has."""

import subprocess
import sys

import pytest

THREADS = """
import ctypes, threading
from vmsvc import tuning
if {shared}:
    tuning.share_heap()
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
met = threading.Barrier(16)
def work():
    met.wait()
    assert c.malloc(100_000)
threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
c.malloc_stats()
"""


@pytest.mark.parametrize("shared, fewest, most", [(True, 1, 2), (False, 3, 1000)])
def test_threads_share_two_heaps_where_each_would_have_its_own(shared, fewest, most):
    done = subprocess.run(
        [sys.executable, "-c", THREADS.format(shared=shared)], capture_output=True, text=True, check=True, timeout=60
    )
    assert fewest <= done.stderr.count("\nArena ") + done.stderr.startswith("Arena ") <= most, done.stderr
