"""Several replicas behind one port: a process that only watches over them.

The sockets are bound before the first fork, so that the kernel gives each connection to whichever replica takes it, and
what waits in the sockets' queue outlives a replica that dies. This process starts a replica that ends again, at once or
after a pause, and passes signals on. When this process itself is killed, the replicas see the end of a pipe and stop.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

_RESTART_DELAYS = (0.2, 1.0, 3.0, 10.0)
_SETTLED_SECONDS = 60.0  # who lived this long starts afresh with the shortest delay
_STOP_LIMIT = 40.0  # then whoever is left is killed
_HURRY_LIMIT = 1.0  # and so after a second Ctrl-C: two SIGINT before a busy replica's turn reach it as one
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})


class Supervisor:
    """Runs `serve(parent, which)` in each of `number` processes, on the `sockets`. It returns that process's exit
    status; `parent` is a file descriptor that becomes readable when the supervisor has died, `which` is 1 to `number`.
    Call `run()` before there are threads: it forks."""

    def __init__(self, number: int, sockets: Sequence[socket.socket], serve: Callable[[int, int], int]):
        self._number = number
        self._sockets = sockets
        self._serve = serve
        self._started: dict[int, tuple[int, float]] = {}  # pid -> (which one, when)
        self._due = dict.fromkeys(range(1, number + 1), 0.0)  # which one -> when to start it
        self._failures = dict.fromkeys(self._due, 0)
        self._kill_at: float | None = None  # set once they are told to stop
        self._watched, self._held = os.pipe()

    def run(self) -> None:
        """Keep them running until SIGTERM or SIGINT, which they get too; return when all have ended."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            while self._kill_at is None or self._started:
                self._start_due()
                received = signal.sigtimedwait(_SIGNALS, self._pause())
                if received is not None and received.si_signo != signal.SIGCHLD:
                    self._pass_on(received.si_signo)
                self._bury()
                if self._kill_at is not None and time.monotonic() > self._kill_at:
                    self._send(signal.SIGKILL)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _pause(self) -> float:
        """Seconds to the next thing to do; a second at most, should a signal be lost."""
        return min(1.0, max(0.0, min(self._due.values(), default=1.0) - time.monotonic()) if self._due else 1.0)

    def _start_due(self) -> None:
        for which, when in list(self._due.items()):
            if when <= time.monotonic():
                del self._due[which]
                self._start(which)

    def _start(self, which: int) -> None:
        pid = os.fork()
        if pid:
            self._started[pid] = which, time.monotonic()
            log.info("replica %d of %d is process %d", which, self._number, pid)
            return
        status = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C reaches the supervisor alone, which passes it on: once, not twice
            os.close(self._held)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = self._serve(self._watched, which)
        except BaseException:  # pylint: disable=broad-exception-caught; the child must not go on as the parent
            log.exception("replica %d died", which)
        finally:
            logging.shutdown()
            os._exit(status)  # pylint: disable=protected-access

    def _bury(self) -> None:
        """Take note of those that have ended."""
        for pid, (which, since) in list(self._started.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._started[pid]
            if self._kill_at is None:
                self._again_later(which, time.monotonic() - since, os.waitstatus_to_exitcode(status))

    def _again_later(self, which: int, lived: float, status: int) -> None:
        self._failures[which] = 1 if lived > _SETTLED_SECONDS else self._failures[which] + 1
        delay = _RESTART_DELAYS[min(self._failures[which], len(_RESTART_DELAYS)) - 1]
        self._due[which] = time.monotonic() + delay
        log.warning("replica %d ended with status %d; starting it again in %g s", which, status, delay)

    def _pass_on(self, number: int) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + _STOP_LIMIT
            self._due.clear()
            for listening in self._sockets:  # nobody is to wait in their queue for an answer that will not come
                listening.close()
        elif number == signal.SIGINT:
            self._kill_at = min(self._kill_at, time.monotonic() + _HURRY_LIMIT)
        self._send(number)

    def _send(self, number: int) -> None:
        for pid in self._started:
            os.kill(pid, number)  # not reaped yet, so the number is still its own
