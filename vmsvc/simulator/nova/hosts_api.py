"""Nova over HTTP: hypervisors, services, aggregates and availability zones (measured at 2.1 and 2.93)."""

import json
import uuid
from collections.abc import Callable
from typing import Any

from vmsvc.simulator.clock import micros_text
from vmsvc.simulator.errors import bad_request, not_found
from vmsvc.simulator.nova import schemas
from vmsvc.simulator.nova.api import ComputeHandler
from vmsvc.simulator.nova.create import TRUE
from vmsvc.simulator.nova.scheduling import Host
from vmsvc.simulator.paging import next_page, page

CPU_INFO = {
    "arch": "x86_64",
    "model": "Nehalem",
    "vendor": "Intel",
    "features": ["pge", "clflush"],
    "topology": {"cores": 1, "threads": 1, "sockets": 4},
}


class Hypervisors(ComputeHandler):
    """GET /os-hypervisors, /detail, /{id}."""

    def get(self, key: str | None = None) -> None:
        rule = "list" if key is None else "list-detail" if key == "detail" else "show"
        self.require_admin(f"os_compute_api:os-hypervisors:{rule}")
        if key in (None, "detail"):
            self._list(key)
        else:
            assert key is not None
            self.require_uuid(key)
            hosts = self.cloud.hosts.all.values()
            found = [host for host in hosts if key in (host.provider_id, str(host.number))]
            if not found:
                raise not_found(f"Hypervisor with ID '{key}' could not be found.")
            self.reply(200, {"hypervisor": self._whole(found[0])})

    def _list(self, part: str | None) -> None:
        """Answer with a page of hypervisors; they are paged from 2.33 on."""
        schemas.check_query(schemas.query_of("hypervisors", self.version), self.queries)
        query, hosts = self.query, list(self.cloud.hosts.all.values())
        if self.version >= (2, 53) and "hypervisor_hostname_pattern" in query:
            pattern = query["hypervisor_hostname_pattern"]
            if "limit" in query or "marker" in query:
                raise bad_request(
                    "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
                )
            hosts = [host for host in hosts if pattern in host.node]
            if not hosts:
                raise not_found(f"No hypervisor matching '{pattern}' could be found.")
        key = (lambda host: host.provider_id) if self.version >= (2, 53) else (lambda host: str(host.number))
        shown, full = page(hosts, query if self.version >= (2, 33) else {}, key)
        view = self._whole if part else self._brief
        body: dict[str, Any] = {"hypervisors": [view(host) for host in shown]}
        if full and self.version >= (2, 33):
            path = f"{self.address}/v2.1/os-hypervisors{'/detail' if part else ''}"
            body["hypervisors_links"] = [{"rel": "next", "href": next_page(path, query, key(shown[-1]))}]
        self.reply(200, body)

    def _brief(self, host: Host) -> dict[str, Any]:
        view: dict[str, Any] = {
            "id": host.provider_id if self.version >= (2, 53) else host.number,
            "hypervisor_hostname": host.node,
            "state": "up" if self.cloud.hosts.is_up(host) else "down",
            "status": "disabled" if host.disabled else "enabled",
        }
        servers = self._servers(host)
        if self.version >= (2, 53) and self.query.get("with_servers") in TRUE and (servers or self.version >= (2, 75)):
            view["servers"] = servers
        return view

    def _whole(self, host: Host) -> dict[str, Any]:
        service = {
            "id": host.service_id if self.version >= (2, 53) else host.number,
            "host": host.name,
            "disabled_reason": host.disabled_reason,
        }
        view = {
            **self._brief(host),
            "hypervisor_type": "fake",
            "hypervisor_version": 1000,
            "host_ip": "127.0.0.1",
            "service": service,
        }
        if self.version >= (2, 88):
            view["uptime"] = None
            return view
        cpu_info = {**CPU_INFO, "arch": host.arch}
        return {
            **view,
            **self._sizes(host),
            "current_workload": 0,
            "disk_available_least": 0,
            "cpu_info": cpu_info if self.version >= (2, 28) else json.dumps(cpu_info),
        }

    def _servers(self, host: Host) -> list[dict[str, Any]]:
        servers = map(self.cloud.servers.all.__getitem__, self.cloud.servers.on_host.get(host.name, ()))
        return [{"uuid": server.id, "name": f"instance-{server.number:08x}"} for server in servers]

    def _sizes(self, host: Host) -> dict[str, Any]:
        provider = self.cloud.placement.providers[host.provider_id]
        used = self.cloud.placement.used[host.provider_id]
        view = {"running_vms": len(self.cloud.servers.on_host.get(host.name, ()))}
        for resource, name in (("VCPU", "vcpus"), ("MEMORY_MB", "memory_mb"), ("DISK_GB", "local_gb")):
            view[name] = provider.inventories.get(resource, {}).get("total", 0)
            view[f"{name}_used"] = used.get(resource, 0)
        view["free_ram_mb"] = view["memory_mb"] - view["memory_mb_used"]
        view["free_disk_gb"] = view["local_gb"] - view["local_gb_used"]
        return view


class Statistics(ComputeHandler):
    """GET /os-hypervisors/statistics, up to 2.87: sums over all hosts."""

    def get(self) -> None:
        self.require_admin("os_compute_api:os-hypervisors:statistics")
        if self.version >= (2, 88):
            raise not_found("The resource could not be found.")
        totals = {
            "count": len(self.cloud.hosts.all),
            "current_workload": 0,
            "disk_available_least": 0,
            "running_vms": sum(map(len, self.cloud.servers.on_host.values())),
        }
        for resource, name in (("VCPU", "vcpus"), ("MEMORY_MB", "memory_mb"), ("DISK_GB", "local_gb")):
            totals[name] = sum(each.inventories[resource]["total"] for each in self.cloud.placement.providers.values())
            totals[f"{name}_used"] = sum(each.get(resource, 0) for each in self.cloud.placement.used.values())
        totals["free_ram_mb"] = totals["memory_mb"] - totals["memory_mb_used"]
        totals["free_disk_gb"] = totals["local_gb"] - totals["local_gb_used"]
        self.reply(200, {"hypervisor_statistics": totals})


class ServiceHandler(ComputeHandler):
    """Base of the handlers of nova-compute services."""

    def view(self, host: Host) -> dict[str, Any]:
        """A service as Nova shows it."""
        view = {
            "binary": "nova-compute",
            "host": host.name,
            "id": host.service_id if self.version >= (2, 53) else host.number,
            "zone": host.az,
            "status": "disabled" if host.disabled else "enabled",
            "state": "up" if self.cloud.hosts.is_up(host) else "down",
            "updated_at": micros_text(host.silent_since or self.cloud.clock.now()),
            "disabled_reason": host.disabled_reason,
        }
        return view if self.version < (2, 11) else {**view, "forced_down": host.forced_down}


class Services(ServiceHandler):
    """GET /os-services."""

    def get(self) -> None:
        """nova-compute of every host, nova-scheduler and nova-conductor."""
        self.require_admin("os_compute_api:os-services:list")
        schemas.check_query(schemas.query_of("services", self.version), self.queries)
        views = [self._other("nova-scheduler", 100002), self._other("nova-conductor", 100003)]
        views += [self.view(host) for host in self.cloud.hosts.all.values()]
        self.reply(
            200,
            {
                "services": [
                    view
                    for view in views
                    if all(self.query.get(name) in (None, view[name]) for name in ("binary", "host"))
                ]
            },
        )

    def _other(self, binary: str, number: int) -> dict[str, Any]:
        view = {
            "binary": binary,
            "host": "sim",
            "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, binary)) if self.version >= (2, 53) else number,
            "zone": "internal",
            "status": "enabled",
            "state": "up",
            "disabled_reason": None,
            "updated_at": micros_text(self.cloud.clock.now()),
        }
        return view if self.version < (2, 11) else {**view, "forced_down": False}


class OneService(ServiceHandler):
    """PUT /os-services/{id} from 2.53 on; before that /enable, /disable, /force-down by host."""

    def put(self, key: str) -> None:
        self.require_admin("os_compute_api:os-services:update")
        body = self.body()
        if key in ("enable", "disable", "disable-log-reason", "force-down"):
            host = self._by(lambda each: each.name == body.get("host"), body.get("host"))
            changes = {
                "enable": {"status": "enabled"},
                "force-down": {"forced_down": body.get("forced_down", True)},
            }.get(key, {"status": "disabled", "disabled_reason": body.get("disabled_reason")})
        else:
            self.require_uuid(key)
            schemas.check(schemas.SERVICE, body)
            host, changes = self._by(lambda each: each.service_id == key, key), body
        self._change(host, changes)
        self.reply(200, {"service": self.view(host)})

    def _by(self, test: Callable[[Host], bool], key: object) -> Host:
        found = [host for host in self.cloud.hosts.all.values() if test(host)]
        if not found:
            raise not_found(f"Service {key} could not be found.")
        return found[0]

    def _change(self, host: Host, changes: dict[str, Any]) -> None:
        if changes.get("status") not in (None, "enabled", "disabled"):
            raise bad_request(f"Invalid input for field/attribute status. Value: {changes['status']}.")
        if "status" in changes:
            host.disabled = changes["status"] == "disabled"
            host.disabled_reason = changes.get("disabled_reason") if host.disabled else None
        if "forced_down" in changes:
            host.forced_down = bool(changes["forced_down"])
        self.cloud.hosts.save(host)


class Zones(ComputeHandler):
    """GET /os-availability-zone for all users, /detail with the hosts for admins (measured)."""

    def get(self, detail: str | None = None) -> None:
        if detail:
            self.require_admin("os_compute_api:os-availability-zone:detail")
        zones = [
            {
                "zoneName": name,
                "zoneState": {"available": any(self.cloud.hosts.is_up(host) and not host.disabled for host in hosts)},
                "hosts": {host.name: self._services(host) for host in hosts} if detail else None,
            }
            for name, hosts in self.cloud.hosts.zones().items()
        ]
        if detail:
            zones.insert(
                0,
                {
                    "zoneName": "internal",
                    "zoneState": {"available": True},
                    "hosts": {
                        "sim": {"nova-scheduler": self._state(True, True), "nova-conductor": self._state(True, True)}
                    },
                },
            )
        self.reply(200, {"availabilityZoneInfo": zones})

    def _services(self, host: Host) -> dict[str, Any]:
        return {"nova-compute": self._state(self.cloud.hosts.is_up(host), not host.disabled)}

    def _state(self, available: bool, active: bool) -> dict[str, Any]:
        return {"available": available, "active": active, "updated_at": micros_text(self.cloud.clock.now())}


routes = [
    (r"/compute/v2\.1/os-hypervisors", Hypervisors),
    (r"/compute/v2\.1/os-hypervisors/statistics", Statistics),
    (r"/compute/v2\.1/os-hypervisors/([^/]+)", Hypervisors),
    (r"/compute/v2\.1/os-services", Services),
    (r"/compute/v2\.1/os-services/([^/]+)", OneService),
    (r"/compute/v2\.1/os-availability-zone", Zones),
    (r"/compute/v2\.1/os-availability-zone/(detail)", Zones),
]
