"""The points at which a service can be killed: before and after each commit that changes something, and before and
after each call to the cloud.

The product knows nothing of this. The launcher wraps two seams that are there anyway: `Unit.commit` commits and
`Unit.after_commit` runs right after it, and all calls to the cloud go through one object, the port.
"""

import fcntl
import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from vmsvc.cloud.openstack.adapter import OpenStack
from vmsvc.store import models
from vmsvc.store.db import Unit

#: Not of interest: they are made once, before there is anything to lose.
_QUIET = ("connect", "close")


class Points:
    """`reach()` writes down each point, numbered among its like over all processes of the run. The process that
    reaches the deadly one first takes the token (a file) and dies of it; whoever comes later lives."""

    def __init__(self, folder: Path, deadly: str | None):
        self._trace = folder / "trace"
        self._token = folder / "token"
        self._deadly = deadly

    def reach(self, step: str) -> None:
        """The process is at this point now."""
        with self._trace.open("a+", encoding="utf-8") as trace:
            fcntl.flock(trace, fcntl.LOCK_EX)
            trace.seek(0)
            number = 1 + sum(line.startswith(f"{step} #") for line in trace)
            trace.write(f"{step} #{number}\n")
        if f"{step} #{number}" == self._deadly:
            try:
                self._token.unlink()
            except FileNotFoundError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def watch_commits(points: Points) -> None:
    """A point on both sides of each commit."""
    commit, after_commit = Unit.commit, Unit.after_commit

    def committing(work: Unit) -> None:
        work.step = _committer() if _has_changed_something() else None
        if work.step:
            points.reach(f"before commit {work.step}")
        commit(work)

    def after_committing(work: Unit) -> None:
        if work.step:
            points.reach(f"after commit {work.step}")
        after_commit(work)

    Unit.commit, Unit.after_commit = committing, after_committing


def _has_changed_something() -> bool:
    cursor = models.database.execute_sql("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
    return cursor.fetchone()[0]


def _committer() -> str:
    """The function whose `with unit()` ends here: the first frame outside the machinery of contexts."""
    frame = sys._getframe(2)  # pylint: disable=protected-access
    while frame.f_code.co_filename.endswith("contextlib.py") or frame.f_code.co_name in ("unit", "committing"):
        frame = frame.f_back
    return frame.f_code.co_name


class WatchedCloud:
    """The port, with a point on both sides of each call."""

    def __init__(self, cloud: OpenStack, points: Points):
        self._cloud = cloud
        self._points = points

    def __getattr__(self, name: str):
        found = getattr(self._cloud, name)
        if name in _QUIET or not inspect.iscoroutinefunction(found):
            return found
        return functools.wraps(found)(functools.partial(self._watched, name, found))

    async def _watched(self, name: str, call: Callable, *args, **kwargs):
        self._points.reach(f"before call {name}")
        answer = await call(*args, **kwargs)
        self._points.reach(f"after call {name}")
        return answer
