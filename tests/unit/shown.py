"""A referee's cloud in the types of the service: as the port `Cloud` shows it, and requests and VMs as rows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from tests.unit import referee
from tests.unit.referee import Cloud, Referee, Server, Wanted
from vmsvc.cloud import port
from vmsvc.cloud.port import MARK
from vmsvc.domain.acceptance import Objection, Verdict, is_peculiar, objection
from vmsvc.domain.boot_options import BootOptions
from vmsvc.domain.catalog import Image as domain_image, Network
from vmsvc.domain.flavors import Flavor as domain_flavor, quota_request
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.requirements import Hypervisor
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.domain.server_group import ServerGroup
from vmsvc.scheduling.candidates import Policy
from vmsvc.service.catalog import ResolvedRequest
from vmsvc.service.commands import Commands
from vmsvc.service.create_vm import CreateVm
from vmsvc.store.vm_cache import VmRow

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DEPLOYMENT = "model"
_MIB = 1024
_COMMANDS = SimpleNamespace(_min_run_seconds=0)


def shown_quota(judge: Referee) -> port.Quota:
    """As GET /limits has it."""
    limit = {
        item: most * (_MIB if item == "ram" else 1)
        for item, most in zip(("instances", "cores", "ram"), judge.cloud.quota)
        if most >= 0
    }
    instances, cores, ram = judge.quota_used()
    return port.Quota(limit, Resources({"instances": instances, "cores": cores, "ram": ram * _MIB}))


def shown_server(judge: Referee, one: Server, server_id: str) -> port.Server:
    """As GET /servers/detail has it."""
    operator, made = judge.cloud.mode == "operator", one.kind in ("preemptible", "standard")
    marks = {MARK: one.name, "vmsvc_deployment": DEPLOYMENT, "vmsvc_kind": one.kind} if made else {}
    metadata = {**marks, **{f"item-{number}": "" for number in range(one.items - len(marks))}}
    place = None if one.status == "ERROR" else one.host
    size = port.Flavor("flavor", "flavor", one.flavor.vcpus, one.flavor.ram * _MIB, one.flavor.disk)
    return port.Server(
        server_id,
        one.name,
        one.status,
        None,
        f"id-of-{place}" if place else "",
        place if operator else None,
        judge.hosts[place].zone if place else None,
        one.locked,
        NOW,
        NOW,
        None,
        None,
        metadata,
        size,
        False,
        size.resources,
        {},
    )


def shown_host(judge: Referee, name: str) -> Host:
    """As Placement and Nova show it to an operator."""
    place = judge.hosts[name]
    inventories = {
        "VCPU": Inventory(place.vcpus, max_unit=place.largest or place.vcpus),
        "MEMORY_MB": Inventory(place.ram * _MIB),
        "DISK_GB": Inventory(place.disk),
    }
    held = {cloud_id(one.name): _room(one.flavor) for one in judge.on(name)}
    return Host(
        name,
        inventories,
        held,
        available=place.up,
        availability_zone=place.zone,
        traits=frozenset(place.traits),
        hypervisor=Hypervisor("QEMU", cpu={"arch": place.arch}),
    )


def policy_of(cloud: Cloud) -> Policy:
    """The settings of the service there."""
    return Policy(
        max_victims=cloud.max_victims,
        declared=_room(cloud.declared) if cloud.declared else Resources(),
        likely=cloud.likely,
    )


def held_of(cloud: Cloud) -> list[tuple[str, Resources]]:
    """By hostId, what the project's servers have held there before."""
    return [(f"id-of-{host}", _room(flavor)) for host, flavor in cloud.held]


def cloud_id(name: str) -> str:
    """The id that the cloud gave a server of this name."""
    return name.upper()


def _room(flavor: referee.Flavor) -> Resources:
    return port.Flavor("", "", flavor.vcpus, flavor.ram * _MIB, flavor.disk).resources


def row_of(server: Server) -> VmRow:
    """A VM of the service."""
    launched = NOW - timedelta(seconds=server.age)
    return VmRow(
        server.name,
        State.DELETING if server.leaving else State.BUILDING if server.status == "BUILD" else State.ACTIVE,
        cloud_id(server.name),
        server.kind == "preemptible",
        server.priority,
        10**6 if server.young else 0,
        server.group,
        1 if server.group else None,
        "owner",
        dict(quota_request(server.flavor.vcpus, server.flavor.ram * _MIB)),
        dict(_room(server.flavor)),
        None,
        "",
        launched,
        launched,
        None,
        None,
        None,
        options={"server_group": server.server_group} if server.server_group else None,
    )


def chosen(wanted: Wanted) -> ResolvedRequest:
    """What a request names, as the catalog finds it: flavor and image."""
    flavor, image = wanted.flavor, wanted.image
    specs = {
        **{f"trait:{name}": "required" for name in flavor.required},
        **{f"trait:{name}": "forbidden" for name in flavor.forbidden},
    }
    properties = {
        **({"hw_architecture": image.arch} if image.arch else {}),
        **{f"trait:{name}": "required" for name in image.required},
    }
    return ResolvedRequest(
        domain_flavor(repr(flavor), repr(flavor), flavor.vcpus, flavor.ram * _MIB, flavor.disk, extra_specs=specs),
        domain_image(
            repr(image),
            repr(image),
            "active" if image.active else "deactivated",
            image.min_ram * _MIB,
            image.min_disk,
            properties=properties,
        ),
        Network("network", "network", ("subnet",)),
        None,
        wanted.zone,
    )


def columns_of(wanted: Wanted) -> dict[str, Any]:
    """The columns of a request, as the service writes them."""
    wish = CreateVm(wanted.preemptible, wanted.name, availability_zone=wanted.zone, server_group=wanted.server_group)
    options = BootOptions(server_group=wanted.server_group)
    return Commands._columns(_COMMANDS, wish, chosen(wanted), options)  # pylint: disable=protected-access


def server_groups(judge: Referee) -> dict[str, ServerGroup]:
    """As GET /os-server-groups has them, by id."""
    return {
        name: ServerGroup(name, name, policy, frozenset(cloud_id(one.name) for one in judge.members(name)), most)
        for name, policy, most in judge.cloud.groups
    }


def request_row(wanted: Wanted, now: datetime) -> SimpleNamespace:
    """The row of a request that was just accepted."""
    return SimpleNamespace(
        **columns_of(wanted),
        id=wanted.name,
        state=State.PENDING,
        host=None,
        refusal=None,
        avoid=[],
        refused_at=0,
        rounds=0,
        created_at=now,
        updated_at=now,
        principal="owner",
        principal_id="owner",
        wait_until=None,
        patience_until=None,
        queued_why=None,
        queued_at=None,
        attempt=0,
    )


def why_not_accepted(judge: Referee, wanted: Wanted) -> str:
    """Why the service does not take the request at all; nothing when it does. What it leaves to Nova to say at once
    the referee says."""
    found, intact = chosen(wanted), replace(wanted, spoilt=False)
    refused = objection(found.flavor, found.image, found.network)
    return refused.message if refused else judge.unfit(intact) if is_peculiar(found.flavor, found.image) else ""


def rehearsed(judge: Referee, wanted: Wanted) -> Verdict:
    """What Nova says to a rehearsal."""
    words = judge.unfit(wanted)
    return Verdict(Objection(words) if words else None)


def row_of_request(row: Any) -> VmRow:
    """A request, as rows are kept for scheduling."""
    return VmRow(
        row.id,
        row.state,
        None,
        row.is_preemptible,
        0,
        0,
        None,
        None,
        "owner",
        row.quota,
        row.room,
        row.host,
        "",
        row.updated_at,
        None,
        None,
        None,
        None,
        options=row.boot.get("options"),
    )
