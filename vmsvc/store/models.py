"""The tables, as Peewee models. `store/migrations` makes them; `store.schema` compares the two at each start.

All times are the database's own clock (timestamptz): the clocks of replicas do not matter.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from peewee import (
    SQL,
    BigAutoField,
    BigIntegerField,
    BooleanField,
    DatabaseProxy,
    Expression,
    Field,
    IntegerField,
    Model,
    ModelSelect,
    TextField,
    Value,
    fn,
)
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

#: Bound by `store.db.open_database`; one database per process.
database = DatabaseProxy()


def moment(index: bool = False) -> "Field[datetime]":
    """A column of moments. (Peewee's stubs have no types of `playhouse`.)"""
    field: "Field[datetime]" = DateTimeTZField(index=index)
    return field


def moment_or_null(index: bool = False) -> "Field[datetime | None]":
    """A column of moments that may be null."""
    field: "Field[datetime | None]" = DateTimeTZField(null=True, index=index)
    return field


class Base(Model):
    """Every table lies in the one database of the deployment."""

    class Meta:
        """Peewee's settings."""

        database = database
        legacy_table_names = False


class Deployment(Base):
    """One row: who we are in the cloud. Servers carry this id, so that two deployments in one project keep apart."""

    id = TextField(primary_key=True)
    created_at = moment()


class Lineage(Base):
    """A preemptible VM and those that are started again after it, one at a time. Whoever starts a successor or ends the
    lineage locks this row first, before any row of its VMs."""

    id = TextField(primary_key=True)  # the origin: the vmsvc id of its first VM, and the handle that stays
    owner = TextField()  # the name of who asked for it, for showing
    owner_id = TextField()  # and who that is
    on_eviction = TextField()  # end, restart; PATCH sets end
    max_restarts = IntegerField()
    restart_within_seconds = IntegerField()  # how long after an eviction a successor may wait for capacity
    fallback_after_evictions = IntegerField(null=True)  # so many in 24 h: the next VM is a standard one
    keep_address = BooleanField()  # vmsvc makes the port, and each successor gets it
    port_id = TextField(null=True, unique=True)  # that port, as long as the cloud may have it
    restarts = IntegerField()  # how many successors were started
    short_lives = IntegerField()  # how many lives in a row were shorter than 600 s: the back-off
    created_at = moment()
    ended_at = moment_or_null()  # no successor from then on
    end_reason = TextField(null=True)  # why: deleted, restarts_used_up, deadline, ...


class Vm(Base):
    """A request for a VM and, once there is one, its server. It is the answer to a retried request. One that became a
    VM is never deleted; one that did not is deleted after a while: see `store.retention`."""

    id = TextField(primary_key=True)  # the vmsvc id, made by us; in the server's metadata
    cloud_id = TextField(null=True, unique=True)  # the server's id, saved the moment it is known
    name = TextField()
    is_preemptible = BooleanField()
    state = TextField()  # domain.lifecycle.State; written by store.vms.move() only
    priority = IntegerField(default=0)
    min_run_seconds = IntegerField(default=0)
    group_name = TextField(null=True)  # its eviction group, and that group's budget
    max_unavailable = IntegerField(null=True)
    principal = TextField()  # the name of who asked for it, for showing
    principal_id = TextField(null=True)  # and who that is; null in a row from before: the name
    flavor = TextField()
    image = TextField()
    network = TextField(null=True)
    boot = BinaryJSONField(index=False)  # what the POST needs: ids, key_name, user_data, ...
    quota = BinaryJSONField(index=False)  # what it counts for in the project's quota
    room = BinaryJSONField(index=False)  # what it claims from a host
    host = TextField(null=True)  # operator mode: the host it is pinned to
    host_id = TextField(null=True)
    created_at = moment()
    updated_at = moment()
    launched_at = moment_or_null()
    ended_at = moment_or_null(index=True)
    evict_at = moment_or_null()  # NOTICED: untouched before this
    acknowledged_at = moment_or_null()  # the guest, or its owner, said that it may go early
    evicted_for = TextField(null=True)  # the preemptor's vmsvc id
    notice = BinaryJSONField(null=True, index=False)  # what decided, for events and lists
    refusal = BinaryJSONField(null=True, index=False)  # PENDING again: what the cloud said and when
    avoid = BinaryJSONField(default=list, index=False)  # hosts that refused it
    rounds = IntegerField(default=0)  # rounds of eviction for it, at most 2
    outcome = BinaryJSONField(null=True, index=False)  # the answer to the POST, the same for every retry
    wait_until = moment_or_null()  # capacity is waited for until then; null: not at all
    fallback_at = moment_or_null()  # preemptible: from then on it goes on as a standard one
    fell_back_at = moment_or_null()  # when it did; `is_preemptible` is false since
    patience_until = moment_or_null()  # standard: nobody is evicted for it before
    queued_at = moment_or_null()  # when it was first found that there is no capacity for it
    queued_why = TextField(null=True)  # PENDING: what it lacks; null: not in the queue, or not decided yet
    placed_at = moment_or_null()  # when its server was last ordered
    lineage_id = TextField(null=True)  # null: it is never started again
    restart_of = TextField(null=True, unique=True)  # the VM that it is the successor of
    attempt = IntegerField(default=0)  # of its lineage: 0 the first VM, n the n-th successor
    not_before = moment_or_null()  # PENDING: it gets no capacity before (the back-off of a restart)
    changed = BigIntegerField(index=True)  # the transaction that wrote it last: PostgreSQL fills it in

    @property
    def options(self) -> dict[str, Any] | None:
        """The options of its create (domain.boot_options); None for none."""
        return self.__data__["boot"].get("options")  # type: ignore[no-any-return]

    @property
    def server_id(self) -> str:
        """The cloud's id of its server. Raises ValueError for a VM without one."""
        if self.cloud_id is None:
            raise ValueError(f"vm {self.id} has no server")
        return self.cloud_id

    @property
    def notice_end(self) -> datetime:
        """Its `evict_at`. Raises ValueError for a VM without notice."""
        if self.evict_at is None:
            raise ValueError(f"vm {self.id} has no notice")
        return self.evict_at


class Idempotency(Base):
    """An Idempotency-Key that was used, and for what."""

    principal = TextField()  # who used it: `Principal.id`; in a row from before, the name
    key = TextField()
    body_hash = TextField()
    vm_id = TextField(index=True)
    created_at = moment()

    class Meta:
        """One use of a key for each principal."""

        indexes = ((("principal", "key"), True),)


class Intent(Base):
    """What is to be done in the cloud, committed before it is done. Claimed under a lease; runs at least once."""

    id = BigAutoField()
    kind = TextField()  # boot, notice, reprieve, evict, delete
    vm_id = TextField()
    not_before = moment()
    lease_owner = TextField(null=True)
    lease_until = moment_or_null()
    attempts = IntegerField(default=0)
    times_enqueued = IntegerField(column_name="wishes", default=1)  # above what a worker claimed: carried out again
    created_at = moment()
    done_at = moment_or_null()


class Reservation(Base):
    """Capacity that is kept for a standard VM while its victims leave, until it is ACTIVE or has finally failed."""

    id = BigAutoField()
    vm_id = TextField()
    bin_kind = TextField()  # quota, host, host_id
    bin = TextField()
    members = BinaryJSONField(default=dict, index=False)  # host_id: who held what there when it was planned
    evidence = BinaryJSONField(null=True, index=False)  # host_id: what else the plan counts on; see store.ledger
    created_at = moment()
    released_at = moment_or_null()


class Cooldown(Base):
    """A host that refused a kind of VM though it had the capacity: not to be tried again for a while."""

    id = BigAutoField()
    host = TextField()
    flavor_id = TextField()
    image_id = TextField()
    reason = TextField()  # what the cloud said
    until_at = moment()

    class Meta:
        """One for each kind of VM on a host."""

        indexes = ((("flavor_id", "image_id", "host"), True),)


class RequestClass(Base):
    """What became of requests for the same flavor, image, network and zone ('' stands for none)."""

    id = BigAutoField()
    flavor_id = TextField()
    image_id = TextField()
    network_id = TextField()
    availability_zone = TextField()
    conditions = TextField(index=True)  # JSON list: what else than capacity they ask of a host
    accepted_at = moment_or_null()  # the cloud built one
    futile_at = moment_or_null()  # an eviction for one did not help: capacity was not the cause
    futile_error = TextField(null=True)
    futile_reason = TextField(null=True)  # what the cloud said

    class Meta:
        """One row a class."""

        indexes = ((("flavor_id", "image_id", "network_id", "availability_zone"), True),)


class Evidence(Base):
    """What the project's servers show of the capacity of a `hostId`: a vector that they held there together at one
    moment, or a request that did not fit there. See domain.evidence."""

    id = BigAutoField()
    host_id = TextField()
    kind = TextField()  # held, refused
    resources = BinaryJSONField(index=False)  # held: the vector; refused: what the request needed
    total = BinaryJSONField(default=dict, index=False)  # refused: what did not fit there together
    seen_at = moment(index=True)  # the latest moment at which that was so

    class Meta:
        """One row for each of them."""

        indexes = ((("host_id", "kind", "resources", "total"), True),)


class Eviction(Base):
    """The record of evictions: which VM was evicted for which request and why, with the time of each step. One row for
    each victim of each round."""

    id = BigAutoField()
    vm_id = TextField(index=True)
    owner = TextField()  # the name of who had asked for the victim, for showing
    owner_id = TextField(null=True)  # and who that is; null in a row from before: the name
    reason = TextField()  # capacity, lifetime, simulated
    simulated = BooleanField()
    request_vm_id = TextField(null=True, index=True)  # the request that needed the capacity
    round = IntegerField()
    bin = TextField(null=True)
    criterion = TextField(null=True)
    cost = BinaryJSONField(index=False)
    runner_up = BinaryJSONField(null=True, index=False)
    optimal = BooleanField()
    planned_at = moment()
    evict_at = moment()
    noticed_at = moment_or_null()  # the guest could read it from then on
    acknowledged_at = moment_or_null()
    acknowledged_by = TextField(null=True)  # who said so; null: the guest, by powering itself off
    reprieved_at = moment_or_null()
    evicting_at = moment_or_null(index=True)
    stopped_at = moment_or_null()
    deleted_at = moment_or_null()  # the cloud has taken the DELETE
    freed_at = moment_or_null()  # the cloud says 404: quota and capacity are free
    fulfilled_at = moment_or_null()  # the request that it was for became ACTIVE
    wasted = TextField(null=True)  # why it was for nothing, if it was
    delivery = TextField(default="metadata")  # of the notice: or event, by the event alone
    exempt = TextField(null=True)  # reprieved, for it could not be made to go: why
    certainty = TextField(null=True)  # of its plan: sure, likely; null in a row from before, and without a plan
    evidence = TextField(null=True)  # likely: what the plan counts on, in words


class Event(Base):
    """The outbox and the history in one. `seq` order is commit order: see `store.db.unit`."""

    seq = BigAutoField()
    type = TextField()
    state = TextField()
    vm_id = TextField()
    subject = TextField()
    is_preemptible = BooleanField()
    time = moment()
    data = BinaryJSONField(index=False)


class Watermark(Base):
    """One row: the newest event that was removed from history, so that a reader from before it gets HistoryGone."""

    id = IntegerField(primary_key=True)
    removed_seq = BigIntegerField()


class Ticket(Base):
    """The right to open one WebSocket, by the hash of the ticket."""

    digest = TextField(primary_key=True)
    principal = TextField()  # its holder's name, for showing
    principal_id = TextField(null=True)  # and who that is; null: the name
    may_write = BooleanField()
    credential = TextField()  # the hash of what its holder showed
    expires_at = moment(index=True)


class Webhook(Base):
    """An endpoint that events are sent to. Who changes its deliveries locks its row first."""

    id = TextField(primary_key=True)
    owner = TextField()  # the name of who made it, for showing
    owner_id = TextField(index=True)
    url = TextField()
    types = BinaryJSONField(default=list, index=False)  # of events; none: all
    states = BinaryJSONField(default=list, index=False)
    preemptible = BooleanField(null=True)
    vm = TextField(null=True)
    description = TextField(default="")
    secret = TextField()  # in clear: it has to sign
    old_secret = TextField(null=True)  # signs along until then
    old_secret_until = moment_or_null()
    verified_at = moment_or_null()  # its receiver has agreed; null: nothing is sent
    off_at = moment_or_null()
    off_reason = TextField(null=True)
    after_seq = BigIntegerField()  # events up to this have their deliveries
    failures = IntegerField(default=0)  # since the last success
    failing_since = moment_or_null()
    not_before = moment_or_null()  # after many failures: nothing is sent to it before this
    last_success_at = moment_or_null()
    last_code = IntegerField(null=True)  # the status of the last answer; null: there was none
    last_error = TextField(null=True)
    created_at = moment()


class Delivery(Base):
    """An event on its way to an endpoint. Claimed under a lease; sent at least once."""

    id = BigAutoField()
    webhook_id = TextField()
    seq = BigIntegerField()
    vm_id = TextField()
    status = TextField()  # domain.webhooks: pending, done, failed
    blocked = BooleanField()  # an earlier event of the same VM is pending
    attempts = IntegerField(default=0)
    step = IntegerField(default=0)  # in the schedule
    next_at = moment()
    urgent_until = moment_or_null()
    lease_owner = TextField(null=True)
    lease_until = moment_or_null()
    last_code = IntegerField(null=True)
    last_error = TextField(null=True)
    created_at = moment()
    done_at = moment_or_null()

    class Meta:
        """One for each event of an endpoint."""

        indexes = ((("webhook_id", "seq"), True),)


# Indexes that hold a part of the rows alone. Two are promises: one open intent of a kind for a VM, one open
# reservation.
Vm.add_index(Vm.state, where=Vm.state.not_in(("evicted", "deleted", "failed", "lost")), name="vm_open")
Intent.add_index(Intent.vm_id, Intent.kind, unique=True, where=Intent.done_at.is_null(), name="intent_open")
Intent.add_index(Intent.not_before, where=Intent.done_at.is_null(), name="intent_due")
Reservation.add_index(Reservation.vm_id, unique=True, where=Reservation.released_at.is_null(), name="reservation_open")
Eviction.add_index(Eviction.reprieved_at, where=Eviction.noticed_at.is_null(), name="eviction_untold")
Eviction.add_index(Eviction.reprieved_at, where=Eviction.exempt.is_null(False), name="eviction_exempt")
Vm.add_index(Vm.ended_at, where=Vm.launched_at.is_null() & Vm.ended_at.is_null(False), name="vm_never_launched")
Vm.add_index(Vm.id, where=SQL("boot ->> 'user_data' IS NOT NULL"), name="vm_user_data")
Delivery.add_index(
    Delivery.webhook_id,
    Delivery.next_at,
    where=SQL("status = 'pending' AND NOT blocked"),
    name="delivery_due",
)
Delivery.add_index(
    Delivery.webhook_id, Delivery.vm_id, Delivery.seq, where=Delivery.status == "pending", name="delivery_of_vm"
)
Delivery.add_index(Delivery.lease_owner, where=Delivery.lease_owner.is_null(False), name="delivery_leased")
Delivery.add_index(Delivery.done_at, where=Delivery.done_at.is_null(False), name="delivery_ended")
Vm.add_index(Vm.wait_until, where=(Vm.state == "pending") & Vm.wait_until.is_null(False), name="vm_wait_until")
Vm.add_index(Vm.fallback_at, where=(Vm.state == "pending") & Vm.fallback_at.is_null(False), name="vm_fallback_at")
Vm.add_index(
    Vm.patience_until, where=(Vm.state == "pending") & Vm.patience_until.is_null(False), name="vm_patience_until"
)
Vm.add_index(Vm.not_before, where=(Vm.state == "pending") & Vm.not_before.is_null(False), name="vm_not_before")
Vm.add_index(
    Vm.state,
    where=Vm.state.in_(("pending", "building", "noticed", "evicting", "deleting")) & Vm.queued_why.is_null(),
    name="vm_moving",
)
Vm.add_index(Vm.principal_id, where=(Vm.state == "pending") & Vm.queued_why.is_null(False), name="vm_queued")
Lineage.add_index(Lineage.owner_id, where=Lineage.ended_at.is_null(), name="lineage_open")
Lineage.add_index(Lineage.id, where=Lineage.keep_address, name="lineage_keeps_address")
# Each attempt of a lineage is made once, and one of its VMs is there at a time.
Vm.add_index(Vm.lineage_id, Vm.attempt, unique=True, name="vm_attempt")
Vm.add_index(
    Vm.lineage_id,
    unique=True,
    where=Vm.state.not_in(("evicted", "deleted", "failed", "lost")) & Vm.lineage_id.is_null(False),
    name="vm_lineage_alive",
)

# What the record and the history are read by, in the order in which they are shown.
Eviction.add_index(Eviction.reason, Eviction.id, name="eviction_reason_id")
Event.add_index(Event.type, Event.is_preemptible, Event.seq, name="event_kind_seq")
Event.add_index(Event.subject, Event.seq, name="event_subject_seq")
Event.add_index(Event.vm_id, Event.seq, name="event_vm_id_seq")


def seconds_from_now(seconds: float) -> Expression:
    """A moment by the database's clock, as an expression; before now for negative seconds."""
    return fn.clock_timestamp() + fn.make_interval(0, 0, 0, 0, 0, 0, seconds)


def any_of(field: Field, values: Collection[str]) -> Expression:
    """The condition that the field has one of these values; one parameter, however many values there are."""
    return field == fn.ANY(Value(values, converter=list, unpack=False))


def tuples_of(query: "ModelSelect[Any]") -> Iterator[tuple[Any, ...]]:
    """The rows of a query as tuples of its columns. (Peewee's stubs say of `tuples()` that it gives models.)"""
    return iter(query.tuples())


def dicts_of(query: "ModelSelect[Any]") -> Iterator[dict[str, Any]]:
    """The rows of a query as mappings from names to values, as `tuples_of`."""
    return iter(query.dicts())


#: Table and trigger. Without `vm_changed` no replica would learn of a row that changed.
TRIGGERS = frozenset({("vm", "vm_changed")})

MODELS = (
    Deployment,
    Lineage,
    Vm,
    Idempotency,
    Intent,
    Reservation,
    Cooldown,
    RequestClass,
    Evidence,
    Eviction,
    Event,
    Watermark,
    Ticket,
    Webhook,
    Delivery,
)
