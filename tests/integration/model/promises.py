"""What is promised of evictions, checked after every transaction and before whatever the cloud does to a server."""

from collections import Counter

from tests.integration.model.clock import Clock
from tests.integration.model.cloud import Machine, ModelCloud, Watch
from tests.system import invariants
from vmsvc.cloud.port import MARK
from vmsvc.domain.lifecycle import FINAL

_OPEN = (
    "SELECT id, state, is_preemptible, evict_at, acknowledged_at, evicted_for, group_name, max_unavailable, "
    "rounds, cloud_id, host, (quota->>'cores')::int AS cpus FROM vm WHERE state NOT IN %s ORDER BY id"
)
_FINAL = tuple(str(state) for state in FINAL)


class Promises:
    """`interfered`: somebody outside vmsvc took room or meddled with servers, so plans may fail honestly."""

    def __init__(self, clock: Clock, cloud: ModelCloud):
        self._clock = clock
        self._cloud = cloud
        self.interfered = False
        cloud.watch = Watch(self._removed, self._claimed)

    # ------------------------------------------------------------ in the cloud

    def _removed(self, machine: Machine) -> None:
        """Nobody's server is touched but for a reason on record, and no victim's before its time."""
        assert machine.ours and MARK in machine.metadata, f"{machine} is not ours"
        rows = self._clock.rows("SELECT * FROM vm WHERE id = %s", machine.metadata[MARK])
        (row,) = rows
        if row["state"] in ("active", "noticed"):
            assert row["cloud_id"] != machine.id, f"a server is removed under {dict(row)}"
        if row["state"] == "building" and row["cloud_id"] in (machine.id, None):
            assert machine.status == "ERROR" or self.interfered, f"a build is removed: {dict(row)}"
        if row["state"] == "evicting":
            assert row["evict_at"] <= self._clock.now or row["acknowledged_at"], f"too early: {dict(row)}"
            self._was_told(row)

    def _was_told(self, row) -> None:
        """A guest that ran could read its notice for as long as it was promised, unless it let itself go."""
        told = self._clock.rows("SELECT noticed_at FROM eviction WHERE vm_id = %s ORDER BY id DESC LIMIT 1", row["id"])
        since = told[0]["noticed_at"] or self._clock.now
        readable = (self._clock.now - since).total_seconds() >= row["notice"]["grace_seconds"]
        assert readable or row["acknowledged_at"] or not row["notice"]["running"], f"it was not told: {dict(row)}"

    def _claimed(self, machine: Machine, host: str) -> None:
        """A server of ours gets a place: it must not be one that somebody else was promised."""
        if self.interfered or self._cloud.mode != "operator":
            return
        rows = {row["id"]: row for row in self._clock.rows(_OPEN, _FINAL)}
        mine = machine.metadata.get(MARK)
        kept = [
            rows[each["vm_id"]]
            for each in self._clock.rows(
                "SELECT vm_id FROM reservation WHERE released_at IS NULL AND bin_kind = 'host' AND bin = %s", host
            )
            if each["vm_id"] != mine and each["vm_id"] in rows and rows[each["vm_id"]]["state"] == "pending"
        ]
        promised = sum(row["cpus"] for row in kept)
        leaving = {row["cloud_id"] for row in rows.values() if row["state"] in ("noticed", "evicting", "deleting")}
        soon = self._cloud.free(host) + sum(
            each.cpus
            for each in self._cloud.machines.values()
            if each.holds and each.host == host and (each.id in leaving or each.task_state == "deleting")
        )
        assert soon - machine.cpus >= promised or soon < promised, (
            f"{machine.id} of {mine} takes room on {host} ({soon} VCPUs soon free) that is kept for "
            f"{[row['id'] for row in kept]}"
        )

    # ------------------------------------------------------------ in the database

    def hold(self, step: str) -> None:
        """After a transaction."""
        rows = self._clock.rows(_OPEN, _FINAL)
        by_id = {row["id"]: row for row in rows}
        away = Counter(row["group_name"] for row in rows if row["state"] in ("noticed", "evicting"))
        for row in rows:
            if row["group_name"]:
                assert away[row["group_name"]] <= row["max_unavailable"], f"{step}: group {row['group_name']}"
            if row["state"] == "noticed":
                assert row["is_preemptible"] and row["evict_at"], f"{step}: {dict(row)}"
            assert row["rounds"] <= 2, f"{step}: {dict(row)}"
        if step == "_decide_and_apply":
            for row in rows:
                if row["state"] == "noticed" and row["evicted_for"]:
                    asker = by_id.get(row["evicted_for"])
                    assert asker and asker["state"] == "pending", f"{row['id']} is noticed for nobody: {asker}"

    def at_rest(self) -> None:
        """When everybody has what they get."""
        invariants.of_the_database(self._clock)
        rows = self._clock.rows("SELECT id, cloud_id FROM vm WHERE state = 'active'")
        ours = {
            each.id: each.metadata[MARK]
            for each in self._cloud.machines.values()
            if each.ours and MARK in each.metadata
        }
        assert ours == {row["cloud_id"]: row["id"] for row in rows}
        assert not [each for each in self._cloud.machines.values() if "vmsvc_evict_at" in each.metadata]
        unsettled = self._clock.rows(
            "SELECT * FROM eviction WHERE reprieved_at IS NULL AND fulfilled_at IS NULL "
            "AND wasted IS NULL AND freed_at IS NOT NULL AND request_vm_id IS NOT NULL"
        )
        assert not unsettled, unsettled
        if not self.interfered:
            self._nothing_was_wasted()

    def _nothing_was_wasted(self) -> None:
        """Without interference only an owner who takes the request back makes an eviction vain."""
        # A round that ended in reprieves cost nobody anything; one that was carried out has to be the last.
        vain = self._clock.rows(
            "SELECT eviction.*, vm.state FROM eviction JOIN vm ON vm.id = eviction.request_vm_id "
            "WHERE vm.state <> 'deleted' AND (wasted IS NOT NULL OR EXISTS (SELECT 1 FROM eviction AS earlier "
            "WHERE earlier.request_vm_id = vm.id AND earlier.round < eviction.round "
            "AND earlier.evicting_at IS NOT NULL))"
        )
        if self._cloud.mode == "tenant":
            # Nova looks at the quota first: whether a host has room shows only when the quota's victims have gone.
            blind = {
                row["request_vm_id"]
                for row in self._clock.rows(
                    "SELECT request_vm_id FROM eviction WHERE bin = 'quota project' AND reprieved_at IS NULL"
                )
            }
            vain = [row for row in vain if row["request_vm_id"] not in blind]
        assert not vain, vain
