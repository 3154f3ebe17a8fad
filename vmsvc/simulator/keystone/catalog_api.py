"""The catalogue over HTTP: services and endpoints, as an admin registers them (measured)."""

import re
from typing import Any

from vmsvc.simulator.errors import bad_request, not_found
from vmsvc.simulator.keystone.api import IdentityHandler
from vmsvc.simulator.keystone.catalog import INTERFACES, REGION, Endpoint, Service

_URL = re.compile(r"[a-zA-Z0-9+.-]+:.+")


class Catalog(IdentityHandler):
    """GET /auth/catalog."""

    def get(self) -> None:
        self.listing("catalog", self.cloud.identity.catalog.view(self.base))


class Regions(IdentityHandler):
    """GET /regions and /regions/{id}: there is one."""

    def get(self, region_id: str | None = None) -> None:
        region = {
            "id": REGION,
            "description": "",
            "parent_region_id": None,
            "links": {"self": f"{self.base}/identity/v3/regions/{REGION}"},
        }
        if region_id is None:
            self.listing("regions", [region])
        elif region_id != REGION:
            raise not_found(f"Could not find region: {region_id}.")
        else:
            self.reply(200, {"region": region})


class AdminHandler(IdentityHandler):
    """Base of the handlers of services and endpoints, which are for admins. It has what a body has to be."""

    def member(self, body: dict[str, Any], name: str, rule: re.Pattern[str] | None = None) -> str:
        """A text of the body. Raises ApiError 400."""
        value = body.get(name)
        if not isinstance(value, str):
            raise bad_request(
                f"Invalid input for field/attribute {name}. Value: {value}. {value} is not of type 'string'"
            )
        if rule and not rule.fullmatch(value):
            raise bad_request(
                f"Invalid input for field/attribute {name}. Value: {value}. '{value}' does not match '^{rule.pattern}'"
            )
        return value

    def registered(self, service_id: str) -> Service:
        """Raises ApiError 404."""
        found = self.cloud.identity.catalog.services.get(service_id)
        if found is None:
            raise not_found(f"Could not find service: {service_id}.")
        return found


class Services(AdminHandler):
    """/services and /services/{id}."""

    def get(self, service_id: str | None = None) -> None:
        """One, or all that an admin registered, with `name` and `type` as filters."""
        self.require_admin("identity:" + ("get_service" if service_id else "list_services"))
        if service_id is not None:
            self.reply(200, {"service": self._view(self.registered(service_id))})
            return
        name, kind = self.query.get("name"), self.query.get("type")
        found = self.cloud.identity.catalog.services.values()
        self.listing(
            "services", [self._view(each) for each in found if name in (None, each.name) and kind in (None, each.type)]
        )

    def post(self) -> None:
        self.require_admin("identity:create_service")
        given = self.body().get("service") or {}
        name = self.member(given, "name") if "name" in given else ""
        service = self.cloud.identity.catalog.add_service(self.member(given, "type"), name, given.get("description"))
        self.reply(201, {"service": self._view(service)})

    def delete(self, service_id: str) -> None:
        self.require_admin("identity:delete_service")
        self.cloud.identity.catalog.remove_service(self.registered(service_id).id)
        self.reply(204)

    def _view(self, service: Service) -> dict[str, Any]:
        links = {"self": f"{self.base}/identity/v3/services/{service.id}"}
        return {**vars(service), "enabled": True, "links": links}


class Endpoints(AdminHandler):
    """/endpoints."""

    def get(self) -> None:
        """All that an admin registered, with `service_id` and `interface` as filters."""
        self.require_admin("identity:list_endpoints")
        service_id, interface = self.query.get("service_id"), self.query.get("interface")
        self.listing(
            "endpoints",
            [
                self._view(each)
                for each in self.cloud.identity.catalog.endpoints.values()
                if service_id in (None, each.service_id) and interface in (None, each.interface)
            ],
        )

    def post(self) -> None:
        self.require_admin("identity:create_endpoint")
        given = self.body().get("endpoint") or {}
        url, interface = self.member(given, "url", _URL), self.member(given, "interface")
        if interface not in INTERFACES:
            raise bad_request(f"Invalid input for field/attribute interface. Value: {interface}.")
        service = self.registered(self.member(given, "service_id"))
        endpoint = self.cloud.identity.catalog.add_endpoint(service.id, interface, url)
        self.reply(201, {"endpoint": self._view(endpoint)})

    def _view(self, endpoint: Endpoint) -> dict[str, Any]:
        links = {"self": f"{self.base}/identity/v3/endpoints/{endpoint.id}"}
        return {**vars(endpoint), "region_id": REGION, "region": REGION, "enabled": True, "links": links}


routes = [
    (r"/identity/v3/auth/catalog", Catalog),
    (r"/identity/v3/regions", Regions),
    (r"/identity/v3/regions/([^/]+)", Regions),
    (r"/identity/v3/services", Services),
    (r"/identity/v3/services/([^/]+)", Services),
    (r"/identity/v3/endpoints", Endpoints),
]
