"""What a pass reads before it decides, and what it writes: on a real database."""

import pytest

from tests.integration.conftest import move, new_vm, read
from tests.servers import server_of
from vmsvc.cloud.cache.server_cache import Watch
from vmsvc.cloud.port import MARK, Quota
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import FutileEviction, History, class_of
from vmsvc.domain.resources import Resources
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.candidates import Policy
from vmsvc.scheduling.verification import Verified
from vmsvc.service.scheduling.apply import StaleCommitments, clean_up, fail, find_stale_commitments
from vmsvc.service.scheduling.snapshot import Snapshot
from vmsvc.service.scheduling.world_cache import WorldCache
from vmsvc.store import ledger, request_classes, vms
from vmsvc.store.db import reading, unit

SNAPSHOT = Snapshot(0.0, Quota({}, Resources()), Watch(), Verified())
CONDITIONS = ("an aggregate",)
BOOT = {"asked": {}, "flavor_id": "f", "image_id": "i", "network_id": "net", "conditions": list(CONDITIONS)}

pytestmark = pytest.mark.usefixtures("store")


def noticed(request):
    """A victim of this request during its notice."""
    victim = move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE, cloud_id=None)
    with unit() as work:
        ledger.record_eviction(work, victim, reason="capacity", evict_at=work.now, request_vm_id=request.id)
        ledger.reserve(work, request.id, "host", "sim-1", {})
    return move(victim, State.NOTICED, evicted_for=request.id, evict_at=victim.created_at, cloud_id=victim.id.upper())


def server(row, locked):
    """The server of this row."""
    moment = row.created_at
    return server_of(
        row.cloud_id, locked=locked, created=moment, launched_at=moment, updated=moment, metadata={MARK: row.id}
    )


def stale_commitments_of(cache):
    """Clean up, and return what was left over."""
    with unit() as work, cache.at(SNAPSHOT, work.now, True) as view:
        stale = find_stale_commitments(view)
        clean_up(work, stale)
    return stale


@pytest.mark.parametrize("locked", [False, True])
def test_the_victims_of_a_request_that_was_deleted_stay_also_when_one_is_locked(locked):
    request = new_vm()
    victim = noticed(request)
    move(request, State.DELETING, State.DELETED)
    cache = WorldCache(Policy(), Timing())
    cache.add_changes({victim.cloud_id: server(victim, locked)}, {})
    assert stale_commitments_of(cache) == StaleCommitments((request.id,), (victim.id,))
    assert read(victim.id).state == State.ACTIVE
    assert not stale_commitments_of(cache)


def test_a_victim_that_was_locked_stays_and_is_no_candidate_while_its_request_waits():
    request = new_vm()
    victim = noticed(request)
    cache = WorldCache(Policy(), Timing())
    cache.add_changes({victim.cloud_id: server(victim, True)}, {})
    assert stale_commitments_of(cache) == StaleCommitments(locked=(victim.id,))
    assert read(victim.id).state == State.ACTIVE
    with reading():
        assert victim.id in ledger.exempt_vms(0)
    assert not stale_commitments_of(cache)


def history():
    """As the next transaction reads it."""
    with unit() as work:
        return request_classes.history(work.now, [CONDITIONS, ()])


def test_what_a_pass_knows_of_a_refusal_is_what_the_next_one_reads():
    request, other = new_vm(boot=BOOT), new_vm(boot=BOOT)
    victim = noticed(request)
    with unit():
        ledger.record_step(victim.id, "evicting_at")
        vms.change(
            request,
            refusal={
                "error": "no_capacity",
                "message": "No valid host",
                "rounds": 1,
                "with_room": False,
                "at": request.created_at.isoformat(),
            },
        )
    before = history()
    assert before.tried_by == {CONDITIONS: {request.id}} and not before.accepted and not before.futile
    with reading():
        assert ledger.with_victims([request.id, other.id]) == {request.id}
    key = class_of(BOOT)
    assert before.precedents(other.id, key, CONDITIONS, Resources()).being_tried
    with unit() as work:
        fail(work, vms.of_id(request.id), "no_capacity", "tried in vain")
        at = int(work.now.timestamp())
    after = before.after_refusal(request.id, key, FutileEviction("no_capacity", "No valid host", at))
    assert after == history()
    known = after.precedents(other.id, key, CONDITIONS, Resources())
    assert not known.being_tried and known.futile_reason == "No valid host"


def test_a_refusal_of_a_request_without_conditions_is_remembered_by_its_size():
    for claims, said in (({"VCPU": 1}, "no_capacity"), ({"VCPU": 4}, "no_capacity"), ({"VCPU": 1}, "cloud_error")):
        row = new_vm(room=claims)
        with unit():
            vms.change(row, refusal={"error": said, "at": row.created_at.isoformat()})
    found, key = history(), class_of(BOOT)
    assert [dict(need) for need, _ in found.refused] == [{"VCPU": 4}, {"VCPU": 1}]
    assert found.precedents("w", key, CONDITIONS, Resources({"VCPU": 1})).refused_at == found.refused[1][1]
    assert found.precedents("w", key, CONDITIONS, Resources()).refused_at is None
    with unit() as work:
        request_classes.remember_accepted(work, BOOT)
    assert history() == History(accepted=frozenset({CONDITIONS}))


def test_the_networks_of_vms_are_read_by_their_ids():
    here, nowhere = new_vm(boot=BOOT), new_vm()
    with reading():
        assert vms.networks_by_vm([here.id, nowhere.id, "nobody"]) == {here.id: {"net": 1}}
