"""Ports of vmsvc's own: they keep the address of a VM while it is started again on another server.

A port that a server is created with is only unplugged when Nova deletes the server (read in nova/network/neutron.py); a
port that Nova made goes with the server.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vmsvc.cloud.openstack import parse
from vmsvc.cloud.openstack.calls import Caller
from vmsvc.cloud.openstack.exchange import Answer, CloudRequest, Json
from vmsvc.cloud.port import KeptPort
from vmsvc.domain.catalog import Port
from vmsvc.domain.errors import NotFound


class PortCalls(Caller):
    """The calls on ports. Every one raises CloudUnavailable and CloudError, a write OutcomeUnknown too."""

    project_id: str

    async def create_port(self, network_id: str, name: str, origin: str, security_groups: tuple[str, ...] = ()) -> str:
        """POST /ports, once. Returns the port's id."""
        groups = {"security_groups": [*security_groups]} if security_groups else {}
        body = {"port": {"network_id": network_id, "name": name, "description": origin, **groups}}
        return await self._calls.send(
            CloudRequest("create_port", "network", "POST", "/ports", body=body),
            partial(parse.whole, "a new port", lambda body: str(body["port"]["id"])),
        )

    async def delete_port(self, port_id: str) -> None:
        """DELETE. A port that is absent counts as done."""
        try:
            await self._calls.send(CloudRequest("delete_port", "network", "DELETE", f"/ports/{port_id}"), _status)
        except NotFound:
            pass

    async def find_ports(self, filters: Mapping[str, str]) -> tuple[Port, ...]:
        """The ports that the user sees and that have these values."""
        found, _ = await self._calls.list(
            CloudRequest("find_ports", "network", "GET", "/ports", filters), "ports", _port
        )
        return found

    async def kept_ports(self, name: str) -> tuple[KeptPort, ...]:
        """The project's ports with this name. (An admin sees those of all projects, and their users give any names.)"""
        found, _ = await self._calls.list(
            CloudRequest("kept_ports", "network", "GET", "/ports", {"name": name, "project_id": self.project_id}),
            "ports",
            _kept_port,
        )
        return found

    async def kept_port(self, port_id: str) -> KeptPort | None:
        """GET one of the project's; None for 404."""
        try:
            owner, port = await self._calls.send(
                CloudRequest("kept_port", "network", "GET", f"/ports/{port_id}"),
                partial(parse.whole, "a port", lambda body: (body["port"].get("project_id"), _kept_port(body["port"]))),
            )
        except NotFound:
            return None
        return port if owner == self.project_id else None


def _kept_port(raw: Mapping[str, Any]) -> KeptPort:
    return KeptPort(raw["id"], raw.get("description") or "", raw.get("device_id") or None, raw["network_id"])


def _port(raw: Json) -> Port:
    return Port(
        raw["id"], raw["network_id"], raw.get("project_id") or raw.get("tenant_id") or "", raw.get("device_id") or None
    )


def _status(answer: Answer) -> int:
    return answer.status
