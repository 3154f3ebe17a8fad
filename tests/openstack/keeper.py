"""What only a cloud's keeper can do to it; all is as before when the `with` is over."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path


class Bed:
    """The real OpenStack."""

    def __init__(self, command: Path):
        self._command = command

    @contextlib.contextmanager
    def slow_deletes(self, seconds: float) -> Iterator[None]:
        """So long each teardown takes."""
        self._run("driver", f"destroy_seconds={seconds}")
        try:
            yield
        finally:
            self._run("driver", "destroy_seconds=0")

    @contextlib.contextmanager
    def soft_deletes(self) -> Iterator[None]:
        """A DELETE leaves a server that holds its host's room until it is reclaimed."""
        self._run("up", BED_RECLAIM_SECONDS="3600")
        try:
            yield
        finally:
            self._run("up", BED_RECLAIM_SECONDS="0")

    def _run(self, *arguments: str, **environment: str) -> None:
        subprocess.run(
            [self._command, *arguments], check=True, timeout=300, capture_output=True, env={**os.environ, **environment}
        )


class Simulator:
    """The simulated cloud. `put` sets its settings."""

    def __init__(self, put: Callable[[dict], None]):
        self._put = put

    @contextlib.contextmanager
    def slow_deletes(self, seconds: float) -> Iterator[None]:
        """So long each teardown takes."""
        self._put({"delete_seconds": seconds})
        try:
            yield
        finally:
            self._put({"delete_seconds": 0.05})

    @contextlib.contextmanager
    def soft_deletes(self) -> Iterator[None]:
        """A DELETE leaves a server that holds its host's room until it is reclaimed."""
        self._put({"reclaim_seconds": 3600})
        try:
            yield
        finally:
            self._put({"reclaim_seconds": 0})
