"""The catalogue without HTTP: the cloud's own services, and those that an admin registered."""

import uuid
from dataclasses import dataclass
from typing import Any

from vmsvc.simulator.store import Store, Table

REGION = "bed"
INTERFACES = ("public", "internal", "admin")
#: Type, name and path of the cloud's own services.
SERVICES = (
    ("compute", "nova", "/compute/v2.1"),
    ("placement", "placement", "/placement"),
    ("identity", "keystone", "/identity/v3"),
    ("image", "glance", "/image"),
    ("network", "neutron", "/network"),
    ("block-storage", "cinder", "/volume/v3"),
)


@dataclass
class Service:
    """A service that an admin registered."""

    id: str
    type: str
    name: str = ""
    description: str | None = None


@dataclass
class Endpoint:
    """The address of a service for an interface."""

    id: str
    service_id: str
    interface: str
    url: str


class Catalog:
    """What an admin registered; each token shows it beside the cloud's own services."""

    def __init__(self, store: Store):
        self.services = Table(store, "service", Service)
        self.endpoints = Table(store, "endpoint", Endpoint)

    def add_service(self, kind: str, name: str, description: str | None) -> Service:
        service = Service(uuid.uuid4().hex, kind, name, description)
        self.services.save(service.id, service)
        return service

    def add_endpoint(self, service_id: str, interface: str, url: str) -> Endpoint:
        endpoint = Endpoint(uuid.uuid4().hex, service_id, interface, url)
        self.endpoints.save(endpoint.id, endpoint)
        return endpoint

    def remove_service(self, service_id: str) -> None:
        """Remove a service with its endpoints (measured)."""
        for endpoint in self.endpoints_of(service_id):
            self.endpoints.remove(endpoint.id)
        self.services.remove(service_id)

    def endpoints_of(self, service_id: str) -> list[Endpoint]:
        return [each for each in self.endpoints.values() if each.service_id == service_id]

    def view(self, base: str) -> list[dict[str, Any]]:
        """The catalogue as a token has it; the cloud's own services are all under one address."""
        own = [
            {
                "id": f"{name}-service",
                "type": kind,
                "name": name,
                "endpoints": [_entry(f"{name}-{interface}", interface, base + path) for interface in INTERFACES],
            }
            for kind, name, path in SERVICES
        ]
        return own + [
            {
                "id": service.id,
                "type": service.type,
                "name": service.name,
                "endpoints": [_entry(each.id, each.interface, each.url) for each in self.endpoints_of(service.id)],
            }
            for service in self.services.values()
        ]


def _entry(endpoint_id: str, interface: str, url: str) -> dict[str, Any]:
    return {"id": endpoint_id, "interface": interface, "region_id": REGION, "region": REGION, "url": url}
