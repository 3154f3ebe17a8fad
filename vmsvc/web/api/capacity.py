"""`/api/v1/capacity`, `/usage`, `/advice` and `/catalog`: what there is, what was, and what a request may name."""

from functools import partial

from marshmallow import RAISE, Schema, fields, validate

from vmsvc.domain.errors import CloudError, CloudUnavailable, InvalidRequest, Timeout
from vmsvc.web.api.handler import ApiHandler
from vmsvc.web.api.requests import QueryInteger
from vmsvc.web.http.handler import route
from vmsvc.web.openapi.operations import Response, describe
from vmsvc.web.openapi.responses import OpenObject

_QUOTA = {"instances": 10, "cores": 20, "ram": 40960}
_CAPACITY = {"VCPU": 4, "MEMORY_MB": 8192, "DISK_GB": 100}


class Amounts(fields.Dict):
    """An amount of each quota item (`instances`, `cores`, `ram` in MiB) or of each of Placement's resource classes. One
    that is missing is 0."""

    def __init__(self, about: str, nullable: bool = False):
        super().__init__(
            keys=fields.String(),
            values=fields.Integer(allow_none=nullable),
            required=True,
            metadata={"description": about},
        )


class QuotaCapacity(OpenObject):
    """The project's quota."""

    component = "QuotaRoom"  # its name in the document

    limit = Amounts("null: this item has no limit", nullable=True)
    used = Amounts("by every server of the project, as the cloud counts")
    free = Amounts("limit less used, less what is reserved; of items with a limit")
    standard = Amounts("held by standard VMs that vmsvc made")
    preemptible = Amounts("held by preemptible VMs that vmsvc made")
    reserved = Amounts("reserved for standard VMs whose victims leave")
    reclaimable = Amounts(
        "held by preemptible VMs that could all be evicted now: of an eviction group as many as its "
        "budget allows, the largest ones"
    )


class HeldEvidence(OpenObject):
    """Evidence of what a host can hold for the project."""

    resources = Amounts("what the project's servers held there together, or what is declared")
    declared = fields.Boolean(
        required=True, metadata={"description": "true: `VMSVC_HOST_CAPACITY` says so; nobody has seen it"}
    )
    seen_at = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "the latest moment at which they held so much"}
    )
    words = fields.String(required=True, metadata={"description": "the same in a sentence"})


class RefusalEvidence(OpenObject):
    """The cloud refused a request that fitted by the evidence: for a request as large, what was seen before counts no
    more."""

    need = Amounts("what the request needed")
    total = Amounts("that and what the project's servers held there then, in the classes that may be the cause")
    at = fields.DateTime(required=True, metadata={"description": "when it was refused"})


class HostCapacity(OpenObject):
    """One compute host, in Placement's resource classes. In tenant mode a host is a `hostId`, and its capacity is what
    there is evidence for."""

    component = "HostRoom"

    name = fields.String(required=True, metadata={"description": "the name of the host; tenant: its `hostId`"})
    available = fields.Boolean(
        required=True, metadata={"description": "its compute service is up and enabled; true where a tenant asks"}
    )
    availability_zone = fields.String(
        required=True, allow_none=True, metadata={"description": "its zone; null: the cloud does not tell"}
    )
    capacity = Amounts(
        "(total - reserved) x allocation ratio; tenant: the largest vector of `evidence` that no refusal contradicts"
    )
    used = Amounts("by anybody; tenant: by the project's servers")
    free = Amounts("capacity less used, less what is reserved")
    standard = Amounts("held by standard VMs that vmsvc made")
    preemptible = Amounts("held by preemptible VMs that vmsvc made")
    foreign = Amounts("held by servers that vmsvc did not make")
    reserved = Amounts("reserved for standard VMs whose victims leave")
    reclaimable = Amounts(
        "held by preemptible VMs that could all be evicted here now; a group's budget is one for all hosts"
    )
    host_id = fields.String(metadata={"description": "tenant: the `hostId`, as servers of the project show it"})
    held = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "tenant: what all servers of the project hold there now"},
    )
    evidence = fields.List(
        fields.Nested(HeldEvidence),
        metadata={"description": "tenant: each vector stood there at one moment, or is declared"},
    )
    refusals = fields.List(
        fields.Nested(RefusalEvidence), metadata={"description": "tenant: what the cloud has refused in spite of it"}
    )


class FlavorCapacity(OpenObject):
    """How many more VMs of a flavor fit."""

    component = "FlavorRoom"

    name = fields.String(required=True, metadata={"description": "the name of the flavor"})
    vcpus = fields.Integer(required=True, metadata={"description": "its vCPUs"})
    ram = fields.Integer(required=True, metadata={"description": "MiB"})
    fits_now = fields.Integer(
        required=True,
        metadata={"description": "by the quota, and in operator mode by the hosts, which a tenant does not see"},
    )
    fits_by_evidence = fields.Integer(
        metadata={
            "description": "tenant: into the quota, and on the hosts for which there is evidence; `fits_now` knows the "
            "quota alone"
        }
    )
    fits_after_evictions = fields.Integer(
        required=True,
        metadata={
            "description": "of standard VMs, within the budgets of eviction groups and the limit of victims per request"
        },
    )


class WaitingView(OpenObject):
    """The queue: the requests that wait for capacity."""

    count = fields.Integer(required=True, metadata={"description": "how many wait"})
    vcpus = fields.Integer(required=True, metadata={"description": "the vCPUs that they need together"})
    oldest = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "when the oldest of them came; null: none waits"}
    )


class CapacityView(OpenObject):
    """Mode, quota, hosts, how many more VMs of each flavor fit, and how many wait."""

    mode = fields.String(
        required=True,
        validate=validate.OneOf(["tenant", "operator"]),
        metadata={"description": "what the service's credentials let it see"},
    )
    quota = fields.Nested(QuotaCapacity, required=True)
    hosts = fields.List(fields.Nested(HostCapacity), required=True, metadata={"description": "tenant: by `hostId`"})
    flavors = fields.List(
        fields.Nested(FlavorCapacity), required=True, metadata={"description": "how many of each flavor fit"}
    )
    waiting = fields.Nested(WaitingView, required=True)


class UsageQuery(Schema):
    """The query of `GET /api/v1/usage`."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    hours = QueryInteger(validate=validate.Range(1, 168), load_default=6)


class UsageView(OpenObject):
    """Slots of equal length; each list has one number a slot, and the last slot is not over yet."""

    since = fields.DateTime(
        required=True,
        metadata={"description": "where the first slot begins: `hours` ago, or when the service was first started"},
    )
    until = fields.DateTime(required=True, metadata={"description": "now"})
    step_seconds = fields.Integer(required=True, metadata={"description": "the length of a slot"})
    standard = fields.List(
        fields.Integer(), required=True, metadata={"description": "vCPUs that standard VMs held at the slot's end"}
    )
    preemptible = fields.List(
        fields.Integer(), required=True, metadata={"description": "vCPUs that preemptible VMs held at the slot's end"}
    )
    evictions = fields.List(
        fields.Integer(), required=True, metadata={"description": "how many evictions began in the slot"}
    )


class AdviceQuery(Schema):
    """The query of `GET /api/v1/advice`."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    flavor = fields.String(
        validate=validate.Length(1, 255),
        metadata={"description": "name or id; left out: the flavor that a request gets which names none"},
    )
    hours = QueryInteger(validate=validate.Range(1, 8760), load_default=720)


class _Basis(OpenObject):
    n = fields.Integer(required=True, metadata={"description": "from so many VMs"})
    too_few = fields.Boolean(
        required=True, metadata={"description": "true: `n` is below 30, so rates and percentiles are null"}
    )


class EvictionRate(_Basis):
    """How often such VMs were evicted."""

    per_hour = fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "evictions for capacity in each hour that one VM runs; practised evictions do not count"
        },
    )
    evicted = fields.Integer(
        required=True,
        metadata={"description": "how many of the `n` were evicted, or deleted by their owner during their notice"},
    )


class ExpectedUptime(_Basis):
    """How long such VMs live before they are evicted, by Kaplan and Meier: a VM that still runs, or that its owner
    deleted, counts for as long as it was seen to live."""

    p10 = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "seconds after which 1 VM in 10 is evicted; null: not so many were, or too few"},
    )
    p50 = fields.Float(required=True, allow_none=True, metadata={"description": "the same for every second VM"})
    longest = fields.Float(
        required=True, allow_none=True, metadata={"description": "seconds of the longest life; null: there is none"}
    )


class WaitTime(_Basis):
    """How long requests waited that got a VM."""

    p50 = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "seconds from the request until every second VM was ACTIVE"},
    )
    p90 = fields.Float(required=True, allow_none=True, metadata={"description": "the same for 9 in 10"})


class AdviceView(OpenObject):
    """What to expect of a preemptible VM of a flavor, by those that started within a time."""

    flavor = fields.String(required=True, metadata={"description": "its name"})
    since = fields.DateTime(required=True, metadata={"description": "where the time begins: `hours` ago"})
    until = fields.DateTime(required=True, metadata={"description": "now"})
    eviction_rate = fields.Nested(EvictionRate, required=True)
    expected_uptime_seconds = fields.Nested(ExpectedUptime, required=True)
    wait_seconds = fields.Nested(WaitTime, required=True)


class NamedItem(OpenObject):
    """An image or network, which a request names by id or name."""

    component = "Named"

    id = fields.String(required=True, metadata={"description": "the cloud's id"})
    name = fields.String(required=True, metadata={"description": "the name, which a request may use"})


class FlavorView(NamedItem):
    """A flavor: the size of a VM."""

    vcpus = fields.Integer(required=True, metadata={"description": "its vCPUs"})
    ram = fields.Integer(required=True, metadata={"description": "MiB"})
    disk = fields.Integer(required=True, metadata={"description": "GiB"})


def _default(kind: str) -> fields.String:
    description = f"the name of the {kind}; null: a request has to name one"
    return fields.String(required=True, allow_none=True, metadata={"description": description})


class Defaults(OpenObject):
    """What a request gets that names none; null: a request has to name one."""

    flavor = _default("flavor")
    image = _default("image")
    network = _default("network")


class CatalogView(OpenObject):
    """What a request may name."""

    flavors = fields.List(fields.Nested(FlavorView), required=True, metadata={"description": "smallest first"})
    images = fields.List(fields.Nested(NamedItem), required=True, metadata={"description": "by name"})
    networks = fields.List(fields.Nested(NamedItem), required=True, metadata={"description": "by name"})
    availability_zones = fields.List(fields.String(), required=True, metadata={"description": "their names"})
    key_names = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "the names of the key pairs that the service's user has"},
    )
    defaults = fields.Nested(Defaults, required=True)


class CapacityHandler(ApiHandler):
    """How much is free and reclaimable."""

    address = "/api/v1/capacity"
    tag = "room"

    @describe(
        Response(
            200,
            "The capacity.",
            CapacityView,
            {
                "mode": "operator",
                "quota": {
                    "limit": _QUOTA,
                    "used": {"instances": 4, "cores": 4, "ram": 2048},
                    "reserved": {},
                    "standard": {},
                    "free": {"instances": 6, "cores": 16, "ram": 38912},
                    "preemptible": {"instances": 4, "cores": 4, "ram": 2048},
                    "reclaimable": {"instances": 4, "cores": 4, "ram": 2048},
                },
                "hosts": [
                    {
                        "name": "compute-7",
                        "available": True,
                        "availability_zone": "nova",
                        "capacity": _CAPACITY,
                        "used": {"VCPU": 4, "MEMORY_MB": 2048, "DISK_GB": 4},
                        "free": {"MEMORY_MB": 6144, "DISK_GB": 96},
                        "standard": {},
                        "foreign": {},
                        "reserved": {},
                        "preemptible": {"VCPU": 4, "MEMORY_MB": 2048, "DISK_GB": 4},
                        "reclaimable": {"VCPU": 4, "MEMORY_MB": 2048, "DISK_GB": 4},
                    }
                ],
                "flavors": [{"name": "m1.tiny", "vcpus": 1, "ram": 512, "fits_now": 0, "fits_after_evictions": 4}],
                "waiting": {"count": 2, "vcpus": 3, "oldest": "2026-11-23T11:59:58.000Z"},
            },
        ),
        errors=(CloudError, Timeout),
    )
    async def get(self) -> None:
        """Show mode, quota, hosts, how many VMs of each flavor fit now and after evictions, and how many requests wait
        in the queue."""
        self.finish(await self.commands.capacity())


class UsageHandler(ApiHandler):
    """How much was used over time."""

    address = "/api/v1/usage"
    tag = "room"

    @describe(
        Response(
            200,
            "The use over the last hours.",
            UsageView,
            {
                "since": "2026-11-23T06:00:00.000Z",
                "until": "2026-11-23T12:00:00.000Z",
                "step_seconds": 7200,
                "standard": [4, 4, 8],
                "preemptible": [8, 12, 8],
                "evictions": [0, 0, 4],
            },
        ),
        query=UsageQuery,
        errors=(Timeout,),
    )
    async def get(self) -> None:
        """Show the vCPUs that VMs of vmsvc held, and evictions, over the last hours.

        From the service's own record: other servers of the cloud are not in it.
        """
        self.finish(await self.read_history(partial(self.commands.usage, self.query(UsageQuery)["hours"])))


class AdviceHandler(ApiHandler):
    """What to expect of a preemptible VM."""

    address = "/api/v1/advice"
    tag = "room"

    @describe(
        Response(
            200,
            "What to expect.",
            AdviceView,
            {
                "flavor": "m1.small",
                "since": "2026-10-24T12:00:00.000Z",
                "until": "2026-11-23T12:00:00.000Z",
                "eviction_rate": {"per_hour": 0.042, "evicted": 57, "n": 214, "too_few": False},
                "expected_uptime_seconds": {
                    "p10": 8040.0,
                    "p50": 59400.0,
                    "longest": 310000.0,
                    "n": 214,
                    "too_few": False,
                },
                "wait_seconds": {"p50": 2.4, "p90": 61.0, "n": 190, "too_few": False},
            },
        ),
        query=AdviceQuery,
        errors=(InvalidRequest, CloudUnavailable, Timeout),
    )
    async def get(self) -> None:
        """Show how often preemptible VMs of a flavor were evicted, and how long they lived and waited.

        From the service's own record, of at most the newest 5,000 VMs. It says what was, and promises nothing.
        """
        query = self.query(AdviceQuery)
        self.finish(await self.read_history(partial(self.commands.advice, query.get("flavor"), query["hours"])))


class CatalogHandler(ApiHandler):
    """What a request may name."""

    address = "/api/v1/catalog"
    tag = "room"
    free_reads = True

    @describe(
        Response(
            200,
            "What a request may name.",
            CatalogView,
            {
                "flavors": [{"id": "1", "name": "m1.tiny", "vcpus": 1, "ram": 512, "disk": 1}],
                "images": [{"id": "9d1c2a0e-6a0a-4d0e-8f57-3b9f0f2a7a11", "name": "cirros"}],
                "networks": [{"id": "5c0a6f3b-0d57-4f0c-9a3e-7a3a1f0f6c22", "name": "private"}],
                "availability_zones": ["nova"],
                "key_names": [],
                "defaults": {"flavor": "m1.tiny", "image": "cirros", "network": "private"},
            },
        )
    )
    async def get(self) -> None:
        """Show what a request may name: flavors, images, networks, zones and keys, and what it gets by default.

        As the service read it from the cloud within the last half minute; this request asks the cloud nothing.
        """
        self.finish(self.commands.catalog())


routes = [route(CapacityHandler), route(UsageHandler), route(AdviceHandler), route(CatalogHandler)]
