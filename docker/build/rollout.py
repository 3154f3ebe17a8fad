"""From the containers that run to those that are wanted.

Compose has made a whole new set and started none of it. A new container that is made as an old one is thrown away.
The others take the places of old ones, which are stopped and kept until all is well: going back is starting them.
"""

import os
import sys
import time

from balancer import Balancer
from engine import Failed
from handover import forget_other_credentials

#: Seconds in which a container has to be healthy.
LIMIT = float(os.environ.get("BUILD_WAIT_SECONDS", "180"))


class Rollout:
    """`before` are all containers of the installation, `made` the new set; `undo` gets how to take each step back."""

    def __init__(self, engine, settled, before, made, undo):
        self._engine, self._settled, self._before, self._undo = engine, settled, before, undo
        self.kept, self.new, self.old = {}, {}, {}
        spare = []
        for service in settled.services:
            wanted = [one for one in made if one.service == service]
            there = [one for one in before if one.service == service]
            alike = [one for one in there if one.made == wanted[0].made]
            self.kept[service] = [one for one in alike if one.runs][: len(wanted)]
            # One that rests, of a build that was killed for example, takes its turn as a new one does.
            resting = [one for one in alike if not one.runs]
            self.new[service] = [*resting, *wanted][: len(wanted) - len(self.kept[service])]
            spare += [one for one in wanted if one not in self.new[service]]
            self.old[service] = [one for one in there if one not in (*self.kept[service], *self.new[service])]
        engine.remove(spare)
        # Services that are not needed any more, and those of other releases.
        self._unwanted = [one for one in before if one.service not in settled.services]
        found = [Balancer(engine, one) for one in before if one.service == "balancer" and one.runs]
        self._balancer = next((one for one in found if one.answers), None)

    def changes(self, service):
        """Does a container of it come or go?"""
        return bool(self.new[service] or self.old[service])

    def stays(self, service):
        """Does it run, and will it as it is?"""
        return any(one.runs for one in self.kept.get(service, ()))

    def _one_by_one(self):
        """Can a balancer keep answering, before and after, at the same port and for the same data?"""
        if not (self._balancer and "balancer" in self._settled.services):
            return False
        places = {port for one in self._before if one.service == "balancer" for port in one.ports}
        return (
            places == {self._settled.port}
            and not self._other_data()
            and any(one.runs for one in self._before if one.service == "vmsvc")
        )

    def _other_data(self):
        """Is the database to be another cloud's? Then no replica may see both."""
        data = {one.volumes for one in self._before if one.service == "database"}
        return data != {one.volumes for one in (*self.new["database"], *self.kept["database"])}

    def apply_decision(self, reload_balancer):
        """Raises Failed when one does not become healthy."""
        services = self._settled.services
        self._undo.add("wait for what runs again", self._wait_for_those_before)
        if self._other_data():
            for each in (self._unwanted, *(self.old[service] for service in reversed(services))):
                self._stop(each)
        for service in services[: services.index("vmsvc")]:
            self._replace(service)
        if reload_balancer and self.stays("balancer"):
            self.reload_balancer()
        if self._one_by_one():
            self._roll()
        else:
            self._all_at_once()
        self._stop(self._unwanted)
        if "balancer" in services:
            self._replace("balancer")

    def _all_at_once(self):
        """What has the ports makes way for the new replicas; other old ones go on until those are healthy."""
        ports = set(self._settled.replica_ports)
        old = [*self.old["vmsvc"], *self.old.get("balancer", ()), *self._unwanted]
        self._stop([one for one in old if one.ports & ports])
        self._begin("vmsvc")
        self._stop(self.old["vmsvc"])

    def _replace(self, service):
        self._stop(self.old[service])
        self._begin(service)

    def _begin(self, service):
        self._start([*self.kept[service], *self.new[service]])

    def reload_balancer(self):
        """The one that runs takes up the configuration in its volume."""
        if self._balancer:
            self._balancer.reload([one for one in self._engine.containers() if one.service == "vmsvc" and one.runs])

    def _roll(self):
        """Replicas: additional ones first, then those that are too many, then one for one."""
        ports = self._settled.replica_ports
        # A port that the new ones may have comes free only with its owner.
        old = sorted(self.old["vmsvc"], key=lambda one: bool(one.ports & set(ports)))
        old.sort(key=lambda one: one.runs)
        new = list(self.new["vmsvc"])
        more = max(0, len(new) - len(old))
        self._serve([*self.kept["vmsvc"], *new[:more]])
        new = new[more:]
        for one in old[: len(old) - len(new)]:
            self._retire(one)
        for number, (before, after) in enumerate(zip(old[len(old) - len(new) :], new), 1):
            print(f"vmsvc: replica {number} of {len(new)} is replaced", flush=True)
            self._retire(before)
            self._serve([after])

    def _retire(self, replica):
        """Stop it when nothing new comes to it: what it has under way it ends."""
        if replica.runs:
            self._undo.add(
                "let the balancer send requests to every replica",
                lambda: self._balancer.wait_for(self._engine.look([replica])),
            )
            self._balancer.drain(replica)
        self._stop([replica])

    def _serve(self, replicas):
        self._start(replicas)
        self._balancer.wait_for(self._engine.look(replicas))

    # ---------------------------------------------------------------- one step and its way back

    def _stop(self, containers):
        running = [one for one in self._engine.look(containers) if one.status in ("running", "restarting", "paused")]
        if running:
            self._undo.add("start what was stopped", lambda: self._engine.start(running))
            self._engine.stop(running)

    def _start(self, containers):
        resting = [one for one in self._engine.look(containers) if not one.runs]
        if resting:
            self._undo.add("stop what was started", lambda: self._engine.stop(resting))
            self._engine.start(resting)
        self._wait(containers)

    def _wait(self, containers, limit=LIMIT):
        deadline = time.monotonic() + limit
        restarts = {one.id: one.restarts for one in containers}
        while True:
            now = self._engine.look(containers)
            if len(now) == len(containers) and all(one.runs and one.health == "healthy" for one in now):
                return
            dead = [one for one in now if one.status in ("exited", "dead") or one.restarts > restarts[one.id]]
            if dead or time.monotonic() > deadline:
                ill = dead or [one for one in now if not (one.runs and one.health == "healthy")]
                self._show(ill[0])
                states = ", ".join(f"{one.name} {one.status} {one.health}".strip() for one in ill)
                trouble = "it does not stay up" if dead else f"not healthy after {limit:.0f} s"
                raise Failed(f"{trouble}: {states}; what ran before runs again")
            time.sleep(0.5)

    def _show(self, container):
        """What it says of itself."""
        print(f"The log of {container.name}:\n{self._engine.log_of(container)}", file=sys.stderr)
        if container.service == "vmsvc" and container.runs:
            _, words = self._engine.try_docker("exec", container.id, "python", "-m", "vmsvc", "check")
            print(f"What 'python -m vmsvc check' says there:\n{words}", file=sys.stderr)

    def _wait_for_those_before(self):
        self._wait([one for one in self._before if one.runs and one.health == "healthy"])

    def tidy(self):
        """Remove what has been replaced."""
        self._engine.remove([*self._unwanted, *(one for each in self.old.values() for one in each)])
        if self._settled.credentials:
            forget_other_credentials(self._engine, self._settled)
