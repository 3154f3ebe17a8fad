"""One of a referee's clouds, and the service on it with its database: what it notices is judged after each pass."""

import json
from dataclasses import replace
from types import SimpleNamespace

from psycopg2.extras import Json

from tests.integration.model.clock import Clock
from tests.integration.model.referee_cloud import RefereeCloud
from tests.integration.model.replica import Replica
from tests.integration.model.stepping import Steps
from tests.unit.episode import Outcome
from tests.unit.promises import Promises
from tests.unit.referee import Cloud, Referee, Server, Wanted
from tests.unit.shown import cloud_id, columns_of, held_of, policy_of, row_of, why_not_accepted
from tests.unit.stood import Stood
from vmsvc.domain.lifecycle import State
from vmsvc.domain.principal import Principal
from vmsvc.scheduling.decisions import Evict, Refuse
from vmsvc.service import commands
from vmsvc.service.scheduling.world_builder import basis_of

_GRACE = 2.0
_MOST_STEPS = 3000
_REST = "('active', 'evicted', 'deleted', 'failed', 'lost')"
_MADE = """UPDATE vm SET state = 'active', cloud_id = %s, host = %s, host_id = %s, launched_at = %s, updated_at = %s,
           outcome = '{}' WHERE id = %s"""
#: A day ago a host held so much.
_HELD = """INSERT INTO evidence (host_id, kind, resources, total, seen_at)
           VALUES (%s, 'held', %s, '{}', clock_timestamp() - interval '1 day') ON CONFLICT DO NOTHING"""


class Books:
    """What `Promises` asks of an episode, as it was in the database after the last transaction."""

    def __init__(self, case: "Case"):
        rows = case.clock.rows("SELECT id, state, evicted_for, host, avoid, boot FROM vm")
        self.referee, self.known, self.wanted = case.cloud.judge, case.cloud.known, case.cloud.wanted
        self.rows = {row["id"]: SimpleNamespace(**row) for row in rows}
        self.requests = {name: self.rows[name] for name in self.wanted if name in self.rows}
        self.reservations = {
            one["vm_id"]: SimpleNamespace(**one)
            for one in case.clock.rows(
                "SELECT vm_id, bin_kind, bin, members, evidence FROM reservation WHERE released_at IS NULL"
            )
        }
        self.exempt = {row["vm_id"] for row in case.clock.rows("SELECT vm_id FROM eviction WHERE exempt IS NOT NULL")}
        cooling: dict[tuple[str, str], dict[str, str]] = {}
        for one in case.clock.rows("SELECT flavor_id, image_id, host, reason FROM cooldown"):
            cooling.setdefault((one["flavor_id"], one["image_id"]), {})[one["host"]] = one["reason"]
        met = {
            one["conditions"]
            for one in case.clock.rows("SELECT conditions FROM request_class WHERE accepted_at IS NOT NULL")
        }
        self.memory = SimpleNamespace(cooling=cooling, accepted=lambda some: json.dumps(sorted(some)) in met)
        self.outcomes = {name: case.outcome(name) for name in self.wanted}
        self.stood = case.stood


class Case:
    """`tell` lets all come to rest. Raises Broken, and AssertionError where something never ends."""

    def __init__(self, clock: Clock, cloud: Cloud):
        clock.begin()
        self.clock = clock
        self.steps = Steps()
        self.cloud = RefereeCloud(Referee(cloud), self.steps.gate, clock)
        self.promises = Promises(cloud, dry_run=False)
        self._refused_before = dict.fromkeys(self.cloud.wanted, 0)
        self.stood = Stood(cloud)
        self.cloud.refused = lambda wanted: self.stood.refused(self.cloud.judge, wanted)
        self._replica = Replica(
            "replica", self.steps, self.cloud, _GRACE, cloud.max_victims, self._after, policy_of(cloud)
        )
        for host_id, resources in held_of(cloud):
            self.clock.rows(_HELD, host_id, Json(dict(resources)))
        for server in cloud.servers:
            if server.kind in ("preemptible", "standard"):
                self._put(server)
        self._replica.server_cache.servers = self.cloud.shown()  # read before the scheduler begins, as in a start
        self._not_accepted: set[str] = set()
        self._before = Books(self)
        self._more = list(cloud.wanted)

    def tell(self) -> None:
        """Everybody's story to the end."""
        try:
            self.promises.foreseen(self._before)
            self._not_accepted = {one.name for one in self._more if why_not_accepted(self.cloud.judge, one)}
            self._more = [one for one in self._more if one.name not in self._not_accepted]
            calm = not any(server.leaving for server in self.cloud.known.values())
            foreseen = self._preview() if len(self._more) == 1 and calm else None
            for wanted in self._more:
                self._post(wanted.name, columns_of(wanted))
            self._before = Books(self)
            self._settle()
            self.promises.ended(Books(self))
            if foreseen:
                self._as_foreseen(foreseen, self._more[0].name)
        finally:
            self._replica.crash()
            self.steps.loop.close()

    # ------------------------------------------------------------ the beginning

    def _put(self, server: Server) -> None:
        """A VM that the service made earlier."""
        row = row_of(replace(server, leaving=False))
        kept = {
            name: getattr(row, name)
            for name in ("priority", "min_run_seconds", "group_name", "max_unavailable", "quota", "room")
        }
        wanted = Wanted(server.name, server.flavor, preemptible=server.kind == "preemptible")
        self._post(server.name, {**columns_of(wanted), **kept})
        self.clock.rows(
            _MADE,
            cloud_id(server.name),
            server.host if self.cloud.mode == "operator" else None,
            f"id-of-{server.host}",
            row.launched_at,
            row.updated_at,
            server.name,
        )
        if server.leaving:
            commands._request_deletion(server.name)  # pylint: disable=protected-access

    def _post(self, name: str, columns: dict) -> None:
        commands._accept(name, {**columns, "name": name}, Principal("owner", True), None)  # pylint: disable=protected-access
        self._replica.wake()

    def _preview(self) -> dict:
        task = self.steps.loop.create_task(self._replica.scheduler.preview(columns_of(self._more[0]), "a client"))
        self.steps.turn()
        for _ in range(_MOST_STEPS):
            if task.done():
                return task.result()
            for gate in list(self.steps.waiting):
                if gate in self.steps.waiting:
                    self._step(gate)
        raise AssertionError("the dry run does not end")

    # ------------------------------------------------------------ the story

    def _step(self, gate) -> None:
        self.clock.advance(0.001)
        self.steps.let_on(gate)
        for death in self._replica.died():
            raise death

    def _settle(self) -> None:
        pause = 1.0
        for _ in range(_MOST_STEPS):
            if self.steps.waiting:
                for gate in list(self.steps.waiting):
                    if gate in self.steps.waiting:
                        self._step(gate)
            elif not self.clock.rows(f"SELECT 1 FROM vm WHERE state NOT IN {_REST}"):
                return
            else:
                self.clock.advance(pause)
                self.steps.loop.now += pause
                self.steps.turn()
                pause = min(8.0, pause * 2)
        raise AssertionError(f"no rest: {self.clock.rows(f'SELECT id, state FROM vm WHERE state NOT IN {_REST}')}")

    # ------------------------------------------------------------ judgement

    def _after(self, step: str) -> None:
        """A transaction has ended: whom did the planner notice, upon what was there before it?"""
        now = Books(self)
        before, self._before = self._before, now
        noticed = {name: row.evicted_for for name, row in now.rows.items() if row.state == State.NOTICED}
        fresh = {name for name, request in noticed.items() if before.rows[name].evicted_for != request}
        if step == "_decide_and_apply" and fresh:
            decisions = []
            for name, row in now.requests.items():  # who was placed in the same pass is counted too
                before.requests[name].state, before.requests[name].host = row.state, row.host
                if name not in now.reservations:
                    before.reservations.pop(name, None)
            for request in sorted({noticed[name] for name in fresh}):
                kept, old = now.reservations[request], before.reservations.get(request)
                victims = tuple(sorted(name for name, other in noticed.items() if other == request))
                adds = old is not None and (old.bin, old.members) == (kept.bin, kept.members)
                decisions.append(
                    (
                        request,
                        Evict(
                            kept.bin_kind,
                            kept.bin,
                            victims,
                            "",
                            True,
                            members=kept.members if adds else None,
                            basis=basis_of(kept.evidence),
                        ),
                    )
                )
                self._refused_before[request] = len(self.cloud.refusals[request])
            self.promises.decided(before, decisions, as_one=len(decisions) == 1)
            self.promises.passed(now, fresh)

    def outcome(self, name: str) -> Outcome:
        """What has become of a request so far."""
        if name in self._not_accepted:
            return Outcome("invalid_request")
        row = next(iter(self.clock.rows("SELECT state, outcome FROM vm WHERE id = %s", name)), None)
        ended = (row and row["outcome"]) or {}
        rounds = self.clock.rows(
            "SELECT round, array_agg(vm_id) AS went FROM eviction WHERE request_vm_id = %s "
            "AND evicting_at IS NOT NULL GROUP BY round ORDER BY round",
            name,
        )
        return Outcome(
            ended.get("error") or "",
            ended.get("message", ""),
            bool(row) and row["state"] == "active",
            rounds=[one["went"] for one in rounds],
            refusals=list(self.cloud.refusals[name]),
            refused_before=self._refused_before[name],
        )

    def _as_foreseen(self, said: dict, name: str) -> None:
        """The dry run and the real thing agree, as far as nothing that nobody could know came between."""
        ended, went = (
            self.outcome(name),
            self.clock.rows(
                "SELECT vm.cloud_id FROM eviction JOIN vm ON vm.id = vm_id WHERE request_vm_id = %s "
                "AND planned_at = (SELECT min(planned_at) FROM eviction WHERE request_vm_id = %s)",
                name,
                name,
            ),
        )
        victims = sorted(one["cloud_id"] for one in went)
        if said["result"] == "evicts":
            assert victims == sorted(said["victims"]), f"{said}, then {victims} went"
        if said["result"] == "refused":
            self.promises.decided(self._before, [(name, Refuse(said["error"], said["reason"]))])
            assert (ended.error, victims) == (said["error"], []), f"{said}, then {ended} and {victims} went"
