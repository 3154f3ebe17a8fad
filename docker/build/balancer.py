"""The balancer's own word: to which replicas it sends requests, and to which no more. Over HAProxy's runtime socket."""

import time

from engine import Failed

_ASK = """
import socket, sys
admin = socket.socket(socket.AF_UNIX)
admin.settimeout(5)
admin.connect("/tmp/admin.sock")
admin.sendall(sys.argv[1].encode() + b"\\n")
print(b"".join(iter(lambda: admin.recv(65536), b"")).decode())
"""
_BACKENDS = ("ready", "living")
_RUNNING = "2"
_DRAINED, _REMOVED = 0x08, 0x20  # of HAProxy's admin states: by our word, and by the name server's


class Balancer:
    """One that runs. Raises Failed."""

    def __init__(self, engine, container):
        self._engine, self._container = engine, container
        self._leaving = set()  # addresses of replicas that get nothing new

    @property
    def answers(self):
        """Can it be asked? That of a former release cannot."""
        return self._process() is not None

    def _ask(self, *commands):
        return self._engine.docker("exec", self._container.id, "python3", "-c", _ASK, "; ".join(commands))

    def _slots(self):
        """(backend, slot, address, runs, admin state) of each place for a replica."""
        for line in self._ask("show servers state").splitlines():
            words = line.split()
            if len(words) > 6 and words[1] in _BACKENDS:
                yield words[1], words[3], words[4], words[5] == _RUNNING, int(words[6])

    def drain(self, replica):
        """Send it nothing new. What is under way goes on."""
        self._leaving.add(replica.address)
        commands = [
            f"set server {backend}/{slot} state drain"
            for backend, slot, address, _, _ in self._slots()
            if address == replica.address
        ]
        if commands:
            self._ask(*commands)

    def wait_for(self, replicas, limit=60.0):
        """Until it sends requests to each of these, and no place is kept empty by a former `drain`, of this build or of
        one that was killed."""
        wanted, deadline = {one.address for one in replicas}, time.monotonic() + limit
        self._leaving -= wanted
        while True:
            slots = list(self._slots())
            drained = [slot for slot in slots if slot[4] & _DRAINED]
            # A place whose replica has gone is free again once HAProxy knows that it has gone.
            free = [
                f"set server {backend}/{slot} state ready"
                for backend, slot, address, runs, admin in drained
                if address not in self._leaving or admin & _REMOVED or not runs
            ]
            if free:
                self._ask(*free)
            serving = {
                address for backend, _, address, runs, admin in slots if backend == "ready" and runs and not admin
            }
            if wanted <= serving and not drained:
                return
            if time.monotonic() > deadline:
                raise Failed(f"the balancer does not see {', '.join(sorted(wanted - serving)) or 'its replicas'}")
            time.sleep(0.3)

    def reload(self, replicas):
        """Take up the configuration that is in its volume. Connections go on in the process that has them; the new one
        begins with what the old one knows of the replicas."""
        state = self._ask("show servers state")
        self._engine.docker(
            "exec",
            "--interactive",
            self._container.id,
            "sh",
            "-c",
            "cat >/tmp/servers.new && mv /tmp/servers.new /tmp/servers",
            given=state.encode() + b"\n",
        )
        before = self._process()
        self._engine.docker("kill", "--signal", "USR2", self._container.id)
        deadline = time.monotonic() + 30
        while self._process() == before:
            if time.monotonic() > deadline:
                raise Failed("the balancer does not take up its configuration: " + self._engine.log_of(self._container))
            time.sleep(0.2)
        self.wait_for(replicas)

    def _process(self):
        """The number of the process that serves."""
        try:
            return next(line for line in self._ask("show info").splitlines() if line.startswith("Pid:"))
        except (Failed, StopIteration):  # between two of them
            return None
