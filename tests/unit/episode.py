"""What becomes of requests in a referee's cloud: the service's own decisions, pass after pass, without a database.

The world is put together by the service's code (`WorldBuilder`, `request_of`) and decided about by the service's code.
What a decision changes (`change_world`) is applied here in memory, as `service.scheduling.apply` writes it. What Nova
does is the referee's.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from tests.unit.memory import Memory
from tests.unit.referee import Cloud, Referee, Wanted
from tests.unit.shown import (
    NOW,
    cloud_id,
    held_of,
    policy_of,
    rehearsed,
    request_row,
    row_of,
    row_of_request,
    server_groups,
    shown_host,
    shown_quota,
    shown_server,
    why_not_accepted,
)
from tests.unit.stood import Stood
from vmsvc.cloud.port import Server
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Precedents, Request
from vmsvc.domain.resources import Resources, total
from vmsvc.scheduling.batching import without_unneeded
from vmsvc.scheduling.changes import Change, change_world
from vmsvc.scheduling.decide import decide
from vmsvc.scheduling.decide_all import decide_next, in_turn
from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Refuse, Wait
from vmsvc.scheduling.host_groups import note_refusals
from vmsvc.scheduling.verification import WaitingRequest
from vmsvc.scheduling.world import World
from vmsvc.service.scheduling.apply import kept_basis
from vmsvc.service.scheduling.requests import request_of
from vmsvc.service.scheduling.scheduler import if_refused
from vmsvc.service.scheduling.world_builder import CloudChanges, Commitments, WorldBuilder
from vmsvc.store.vm_cache import VmRow

_MOST_PASSES = 60
#: Of several requests of a tenant: how often a refused one comes back too late for a pass, and how often a build takes
#: longer than a pass.
_TOO_LATE, _SLOW = 0.15, 0.3
_A_MOMENT = timedelta(milliseconds=1)  # from one thing to the next: what is lost by going grows by the second


class Stuck(AssertionError):
    """The requests never came to an end."""


@dataclass
class Outcome:
    """What became of a request. `rounds`: the victims that left, round by round; `refusals`: what the cloud said."""

    error: str = ""
    message: str = ""
    placed: bool = False
    decisions: list[Decision] = field(default_factory=list)
    rounds: list[list[str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    refused_before: int = 0  # so many of them came before the last round began


#: Called before a decision is carried out: (episode, [(request's name, decision)] of those decided together).
Look = Callable[["Episode", list[tuple[str, Decision]]], None]
#: Called when a pass is over: (episode, whom it has noticed, whether it has looked at all and changed nothing).
LookBack = Callable[["Episode", set[str], bool], None]


class Episode:
    """All requests of a cloud, from their coming to their end."""

    def __init__(self, cloud: Cloud, look: Look, look_back: LookBack):
        self.cloud = cloud
        self.referee = Referee(cloud)
        self.wanted = {wanted.name: wanted for wanted in cloud.wanted}
        self.outcomes = {name: Outcome() for name in self.wanted}
        self.known = {server.name: server for server in cloud.servers}
        self.decisions = 0
        self._look, self._look_back = look, look_back
        self._rng = random.Random(cloud.seed)
        self._now = NOW
        self._builder = WorldBuilder(policy_of(cloud))
        self.stood = Stood(cloud)
        self._unread: dict[str, int] = {}  # request -> when the cloud refused it, until a pass reads that
        self.rows: dict[str, VmRow] = {}
        self.requests: dict[str, SimpleNamespace] = {}
        self.reservations: dict[str, SimpleNamespace] = {}
        self._changed: set[str] = set()
        self._shown: dict[str, dict] = {"servers": {}, "hosts": {}}
        self.memory = Memory()
        for host_id, resources in held_of(cloud):
            self.memory.held(host_id, resources, NOW - timedelta(days=1))
        self.exempt: set[str] = set()
        self._round_of: dict[str, int] = {}
        self._thieves = list(cloud.thieves)
        self._ended: datetime | None = None
        for server in cloud.servers:
            if server.kind in ("preemptible", "standard"):
                self._put(row_of(server))
        self._several = cloud.mode == "tenant" and len(cloud.wanted) > 1
        self._later = sorted(cloud.wanted, key=lambda wanted: wanted.late)

    # ------------------------------------------------------------ the story

    def run(self) -> dict[str, Outcome]:
        """To the end of all requests. Raises Stuck."""
        for number in range(_MOST_PASSES):
            while self._later and self._later[0].late <= number:
                wanted = self._later.pop(0)
                self._accept(wanted)
            if not self._later and not any(row.state == State.PENDING for row in self.requests.values()):
                return self.outcomes
            self._now += _A_MOMENT
            world = self._world()
            if locked := [
                name for name, row in self.rows.items() if row.state == State.NOTICED and world.vms[name].locked
            ]:
                for name in locked:
                    self._exempt(name)
                world = self._world()
            with world.trial():
                self._pass(world)
            self._cloud_goes_on()
        raise Stuck(f"still undecided after {_MOST_PASSES} passes")

    def _accept(self, wanted: Wanted) -> None:
        if words := why_not_accepted(self.referee, wanted):
            self.outcomes[wanted.name].error, self.outcomes[wanted.name].message = "invalid_request", words
        else:
            self.requests[wanted.name] = request_row(wanted, self._now)

    def dry_run(self, wanted: Wanted) -> tuple[Decision, Decision | None]:
        """What the service would say beforehand; and, to a tenant, what if no host had room."""
        row = request_row(wanted, self._now)
        row.id = ""
        request = self._request(row, wanted)
        if words := why_not_accepted(self.referee, wanted):
            return Refuse("invalid_request", words), None
        with self._world().trial():
            world = self._builder._world  # pylint: disable=protected-access
            decision = Refuse(request.invalid.error, "") if request.invalid else decide(request, world)
            full = isinstance(decision, Place) and not world.operator
            return decision, decide(if_refused(request), world) if full else None

    def _pass(self, world: World) -> None:
        pending = [row for row in self.requests.values() if row.state == State.PENDING]
        waiting = [
            WaitingRequest(self._request(row, self.wanted[row.id]), row.boot, "")
            for row in sorted(pending, key=lambda row: row.is_preemptible)
            if not self._comes_too_late(row)
        ]
        all_of_them = len(waiting) == len(pending)
        requests, changes = {one.request.id: one.request for one in waiting}, []
        waiting = in_turn(waiting, world)
        self._read_refusals([one.request for one in waiting])
        for host_id, refusal in note_refusals([one.request for one in waiting], world):
            self.memory.refused(host_id, refusal)
        while waiting:
            together = list(decide_next(waiting, world, 0.0))
            self.decisions += len(together)
            self._look(self, [(one.request.id, decision) for one, decision in together])
            for one, decision in together:
                self.outcomes[one.request.id].decisions.append(decision)
                if not isinstance(decision, Wait):
                    changes.append(change_world(world, one.request, decision))
                    self._apply(changes[-1])
        for before, after in zip(changes, without_unneeded(changes, requests, world)):
            self._take_back({one.vm_id for one in before.notices} - {one.vm_id for one in after.notices})
        noticed = {one.vm_id for change in changes for one in change.notices if self.rows[one.vm_id].evicted_for}
        self._look_back(self, noticed, all_of_them and not changes)

    def _take_back(self, victims: set[str]) -> None:
        """The service never notices these. Here they were noticed already."""
        for victim in victims:
            row, number = self.requests[self.rows[victim].evicted_for], self._round_of[victim]
            self._reprieve((victim,))
            others = [name for name, one in self.rows.items() if one.evicted_for == row.id]
            if row.rounds == number and number not in [self._round_of[name] for name in others]:
                row.rounds -= 1

    def _comes_too_late(self, row: Any) -> bool:
        return bool(row.refusal) and self._several and self._rng.random() < _TOO_LATE

    def _request(self, row: Any, wanted: Wanted) -> Request:
        known = (
            Precedents()
            if row.is_preemptible
            else self.memory.precedents(
                row.id, row.boot, Resources(row.room), self.requests.values(), self.reservations
            )
        )
        return request_of(row, self._now, self._ended, self.memory.cooling, known, rehearsed(self.referee, wanted))

    # ------------------------------------------------------------ decisions, as `apply` writes them

    def _apply(self, change: Change) -> None:
        row = self.requests[change.request_id]
        self._reprieve(change.reprieved)
        match change.decision:
            case Place(host=host):
                row.state, row.host = State.BUILDING, host
                self._put(row_of_request(row))
            case Evict(kind=kind, bin=name):
                self._evict(
                    row,
                    SimpleNamespace(
                        vm_id=row.id,
                        bin_kind=kind,
                        bin=name,
                        members=change.members,
                        evidence=change.decision.basis and kept_basis(change.decision.basis),
                    ),
                    [notice.vm_id for notice in change.notices],
                )
            case Postpone():
                self.reservations.pop(row.id, None)
            case Refuse(error=error, message=message):
                self._fail(row, error, message)

    def _evict(self, row: Any, reservation: SimpleNamespace, fresh: list[str]) -> None:
        self.reservations[row.id] = reservation
        if fresh:
            row.rounds += 1
            outcome = self.outcomes[row.id]
            outcome.rounds[row.rounds - 1 :] = [[]]
            outcome.refused_before = len(outcome.refusals)
        for victim in fresh:
            self._round_of[victim] = row.rounds
            self._put(self.rows[victim]._replace(state=State.NOTICED, evicted_for=row.id))

    def _reprieve(self, victims: tuple[str, ...]) -> None:
        for victim in victims:
            self._put(self.rows[victim]._replace(state=State.ACTIVE, evicted_for=None))

    def _exempt(self, victim: str) -> None:
        """It cannot be made to go: as `apply.exempt` has it. A round in which nobody left is no round."""
        row, number = self.requests[self.rows[victim].evicted_for], self._round_of[victim]
        self.exempt.add(victim)
        self._reprieve((victim,))
        if row.rounds == number and not self.outcomes[row.id].rounds[number - 1]:
            row.rounds -= 1

    def _fail(self, row: Any, error: str, message: str) -> None:
        row.state = State.FAILED
        if any(self.outcomes[row.id].rounds):
            self.memory.failed(row, error, message, int(self._now.timestamp()))
        self.reservations.pop(row.id, None)
        self.rows.pop(row.id, None)
        self._changed.add(row.id)
        self.outcomes[row.id].error, self.outcomes[row.id].message = error, message

    # ------------------------------------------------------------ what happens outside

    def _cloud_goes_on(self) -> None:
        """Builds end, and of those that are on their way out some leave."""
        for server in list(self.referee.servers.values()):
            if server.status == "BUILD":
                self.referee.servers[server.name] = server = replace(server, status="ACTIVE")
                self._put(row_of(server))
            elif server.leaving and server.kind in ("outsider", "hidden"):
                del self.referee.servers[server.name]
        leaving = sorted(row.id for row in self.rows.values() if row.state in (State.NOTICED, State.DELETING))
        for victim in leaving:
            if self._rng.random() < 0.7:
                self._leave(self.rows[victim])
        for row in list(self.requests.values()):
            if row.state == State.BUILDING and not (self._several and self._rng.random() < _SLOW):
                self._boot(row)

    def _leave(self, row: VmRow) -> None:
        server = self.referee.servers[row.id]
        if row.state == State.NOTICED and server.stubborn and not server.locked:
            self.referee.servers[row.id] = replace(server, locked=True)
        elif row.state == State.NOTICED and (server.locked or not self.referee.may_go(server)):
            self._exempt(row.id)
        else:
            self._gone(row)

    def _gone(self, row: VmRow) -> None:
        del self.referee.servers[row.id]
        ended = State.EVICTED if row.state == State.NOTICED else State.DELETED
        if row.state == State.NOTICED:
            self._left(row)
        self._ended = self._now
        self._put(row._replace(state=ended, ended_at=self._now, updated_at=self._now))

    def _left(self, row: VmRow) -> None:
        """Its round counts, even if others of it could not be made to go."""
        request, number = self.requests[row.evicted_for], self._round_of[row.id]
        rounds = self.outcomes[request.id].rounds
        rounds.extend([] for _ in range(number - len(rounds)))
        rounds[number - 1].append(row.id)
        request.rounds = max(request.rounds, number)

    def _boot(self, row: Any) -> None:
        wanted, outcome = self.wanted[row.id], self.outcomes[row.id]
        if row.rounds and self._thieves:
            self.referee.steal(self._thieves.pop(0), wanted, row.host)
        slug, words = self.referee.boot(wanted, row.host)
        if not slug:
            row.state, outcome.placed = State.ACTIVE, True
            self.reservations.pop(row.id, None)
            self.memory.built(row.boot)
            self.known[row.id] = self.referee.servers[row.id]
            self._put(row_of(self.known[row.id]))
        elif slug == "invalid_request":
            self._fail(row, slug, words)
        else:
            self._refused(row, slug, words)

    def _refused(self, row: Any, slug: str, words: str) -> None:
        """As service.acting.create_server writes it down."""
        self.outcomes[row.id].refusals.append(slug)
        if slug == "no_capacity" and self.cloud.mode == "tenant":
            if not self.wanted[row.id].server_group:  # its policy may be the cause
                self._unread[row.id] = self.stood.refused(self.referee, self.wanted[row.id], after_round=row.rounds > 0)
        by_host = False
        if row.host and slug != "quota_exceeded":
            row.avoid = [*row.avoid, row.host]
            place = shown_host(self.referee, row.host)
            by_host = place.available and place.free.covers(Resources(row.room))
        if by_host:
            self.memory.cool(row.boot, row.host, words)
        row.refusal = {
            "error": slug,
            "message": words,
            "at": self._now.isoformat(),
            "rounds": row.rounds,
            "count": (row.refusal or {}).get("count", 0) + 1,
            "with_room": by_host,
        }
        row.refused_at = int(self._now.timestamp())
        row.state, row.host, row.updated_at = State.PENDING, None, self._now
        self.rows.pop(row.id)
        self._changed.add(row.id)
        self.reservations.pop(row.id, None)

    # ------------------------------------------------------------ what the service sees

    def _put(self, row: VmRow) -> None:
        self.rows[row.id] = row
        self._changed.add(row.id)

    def _world(self) -> World:
        """As the scheduler reads it: what changed since the last time."""
        servers = {
            cloud_id(one.name): shown_server(self.referee, one, cloud_id(one.name))
            for one in self.referee.servers.values()
            if one.ours
        }
        hosts = (
            {name: shown_host(self.referee, name) for name in self.referee.hosts}
            if self.cloud.mode == "operator"
            else {}
        )
        if self.cloud.mode == "tenant":
            self._see_what_stands(servers.values())
        self._builder.add_changes(CloudChanges(self._news("servers", servers), self._news("hosts", hosts)))
        changed, self._changed = self._changed, set()
        rows = {
            **self.rows,
            **{name: row_of_request(row) for name, row in self.requests.items() if row.state == State.PENDING},
        }
        promises = Commitments(
            self._now, list(self.reservations.values()), {}, frozenset(self.exempt), dict(self.memory.evidence)
        )
        return self._builder.update(
            rows,
            changed | self.requests.keys(),
            shown_quota(self.referee),
            promises,
            operator=self.cloud.mode == "operator",
            server_groups=server_groups(self.referee),
        )

    def _read_refusals(self, waiting: list[Request]) -> None:
        """The service reads the refusals of the requests that wait. It is sure to draw its conclusions from those of
        plain ones, while nothing has changed since."""
        if any(row.state == State.BUILDING for row in (*self.rows.values(), *self.requests.values())):
            return
        for request in waiting:
            when = self._unread.pop(request.id, None)
            if when is not None and not request.conditions and not request.freed_since:
                self.stood.refused(self.referee, self.wanted[request.id], when, request.refused_rounds > 0)

    def _see_what_stands(self, servers: Iterable[Server]) -> None:
        """As service.scheduling.evidence writes it down."""
        self.stood.see(self.referee)
        held: dict[str, list[Resources]] = {}
        for server in servers:
            if server.host_id and server.status in ("ACTIVE", "SHUTOFF"):
                held.setdefault(server.host_id, []).append(server.resources)
        for host_id, vectors in held.items():
            self.memory.held(host_id, total(vectors), self._now)

    def _news(self, kind: str, now: dict) -> dict:
        before, self._shown[kind] = self._shown[kind], now
        return {name: now.get(name) for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def evictable(episode: Episode, known: bool = False) -> set[str]:
    """Whoever could be evicted now; `known`: as far as the service can know."""
    return {
        row.id
        for row in episode.rows.values()
        if row.state in (State.ACTIVE, State.NOTICED)
        and row.id in episode.referee.servers
        and not (known and row.id in episode.exempt)
        and episode.referee.may_go(episode.referee.servers[row.id], known)
    }


def going(episode: Episode) -> set[str]:
    """Whoever is on the way out already: not a victim that was locked meanwhile."""
    return {
        row.id
        for row in episode.rows.values()
        if row.state in (State.NOTICED, State.EVICTING, State.DELETING)
        and row.id in episode.referee.servers
        and not (row.state == State.NOTICED and episode.referee.servers[row.id].locked)
    }
