"""Nova over HTTP: flavors, their extra specs, and who may use them (measured at 2.1 and 2.93)."""

import uuid
from collections.abc import Callable
from typing import Any

from vmsvc.simulator.errors import bad_request, conflict, not_allowed, not_found
from vmsvc.simulator.nova import schemas
from vmsvc.simulator.nova.api import ComputeHandler
from vmsvc.simulator.nova.create import TRUE
from vmsvc.simulator.nova.flavors import Flavor
from vmsvc.simulator.paging import next_page, page

#: Sort key -> what is compared.
SORTS: dict[str, Callable[[Flavor], Any]] = {
    "flavorid": lambda flavor: flavor.id,
    "name": lambda flavor: flavor.name or flavor.id,
    "memory_mb": lambda flavor: flavor.ram,
    "root_gb": lambda flavor: flavor.disk,
    "vcpus": lambda flavor: flavor.vcpus,
    "swap": lambda flavor: flavor.swap,
    "ephemeral_gb": lambda flavor: flavor.ephemeral,
    "is_public": lambda flavor: flavor.is_public,
    "description": lambda flavor: flavor.description or "",
}


class FlavorsHandler(ComputeHandler):
    """Base of the handlers of flavors."""

    def usable(self, flavor: Flavor) -> bool:
        """True when the user may see the flavor and boot from it."""
        return flavor.is_public or self.token.is_admin or self.token.project_id in flavor.projects

    def flavor(self, flavor_id: str) -> Flavor:
        """A flavor that the user may see. Raises ApiError 404."""
        flavor = self.cloud.flavors.get(flavor_id)
        if flavor is None or not self.usable(flavor):
            raise not_found(f"Flavor {flavor_id} could not be found.")
        return flavor

    def brief(self, flavor: Flavor) -> dict[str, Any]:
        """A flavor without its sizes."""
        name = flavor.name or flavor.id
        view: dict[str, Any] = {"id": flavor.id, "name": name, "links": self.links("flavors", flavor.id)}
        if self.version >= (2, 55):
            view["description"] = flavor.description
        return view

    def whole(self, flavor: Flavor) -> dict[str, Any]:
        """A flavor as Nova shows it."""
        swap = flavor.swap if flavor.swap or self.version >= (2, 75) else ""
        view = {
            **self.brief(flavor),
            "ram": flavor.ram,
            "disk": flavor.disk,
            "swap": swap,
            "vcpus": flavor.vcpus,
            "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral,
            "OS-FLV-DISABLED:disabled": False,
            "os-flavor-access:is_public": flavor.is_public,
            "rxtx_factor": flavor.rxtx_factor,
        }
        if self.version >= (2, 61):
            view["extra_specs"] = flavor.extra_specs
        return view


class Flavors(FlavorsHandler):
    """GET and POST /flavors, GET /flavors/detail."""

    detail = False

    def get(self) -> None:
        schemas.check_query(schemas.query_of("flavors", self.version), self.queries)
        query = self.query
        found = [flavor for flavor in self.cloud.flavors.values() if self._listed(flavor)]
        for name, attribute in (("minRam", "ram"), ("minDisk", "disk")):
            if name in query:
                if not query[name].removeprefix("-").isdigit():
                    raise bad_request(f"Invalid {name} filter [{query[name]}]")
                found = [flavor for flavor in found if getattr(flavor, attribute) >= int(query[name])]
        key = SORTS.get(query.get("sort_key", "flavorid"), SORTS["flavorid"])
        found.sort(key=lambda flavor: (key(flavor), flavor.id), reverse=query.get("sort_dir") == "desc")
        shown, full = page(found, query, lambda flavor: flavor.id)
        view = self.whole if self.detail else self.brief
        body: dict[str, Any] = {"flavors": [view(each) for each in shown]}
        if full:
            path = f"{self.address}/v2.1/flavors{'/detail' if self.detail else ''}"
            body["flavors_links"] = [{"rel": "next", "href": next_page(path, query, shown[-1].id)}]
        self.reply(200, body)

    def _listed(self, flavor: Flavor) -> bool:
        if not self.token.is_admin:
            return flavor.is_public or self.token.project_id in flavor.projects
        wanted = self.query.get("is_public", "true").lower()
        if wanted == "none":
            return True
        if wanted not in ("0", "1", "t", "f", "true", "false", "yes", "no", "y", "n", "on", "off"):
            raise bad_request(f"Invalid is_public filter [{self.query['is_public']}]")
        return flavor.is_public == (wanted in ("1", "t", "true", "yes", "y", "on"))

    def post(self) -> None:
        """For admins."""
        self.require_admin("os_compute_api:os-flavor-manage:create")
        body = self.body()
        schemas.check(schemas.create_flavor(self.version), body)
        values = body["flavor"]
        flavor_id = str(uuid.uuid4()) if values.get("id") in (None, "auto") else str(values["id"])
        if any(values["name"] == (each.name or each.id) for each in self.cloud.flavors.values()):
            raise conflict(f"Flavor with name {values['name']} already exists.")
        if flavor_id in self.cloud.flavors:
            raise conflict(f"Flavor with ID {flavor_id} already exists.")
        flavor = Flavor(
            flavor_id,
            int(values["vcpus"]),
            int(values["ram"]),
            int(values["disk"]),
            int(values.get("OS-FLV-EXT-DATA:ephemeral", 0)),
            int(values.get("swap", 0)),
            name=values["name"],
            description=values.get("description"),
            is_public=values.get("os-flavor-access:is_public", True) in TRUE,
            rxtx_factor=float(values.get("rxtx_factor", 1.0)),
        )
        self.cloud.flavors.save(flavor.id, flavor)
        self.reply(200, {"flavor": self.whole(flavor)})


class FlavorDetails(Flavors):
    """GET /flavors/detail."""

    detail = True

    def post(self) -> None:
        raise not_found("The resource could not be found.")


class OneFlavor(FlavorsHandler):
    """/flavors/{id}: GET, PUT (the description), DELETE."""

    def get(self, flavor_id: str) -> None:
        self.reply(200, {"flavor": self.whole(self.flavor(flavor_id))})

    def put(self, flavor_id: str) -> None:
        if self.version < (2, 55):
            raise not_found("The resource could not be found.")
        self.require_admin("os_compute_api:os-flavor-manage:update")
        body = self.body()
        schemas.check(schemas.UPDATE_FLAVOR, body)
        flavor = self.flavor(flavor_id)
        flavor.description = body["flavor"]["description"]
        self.cloud.flavors.save(flavor_id, flavor)
        self.reply(200, {"flavor": self.whole(flavor)})

    def delete(self, flavor_id: str) -> None:
        self.require_admin("os_compute_api:os-flavor-manage:delete")
        self.cloud.flavors.remove(self.flavor(flavor_id).id)
        self.reply(202)


class SpecsHandler(FlavorsHandler):
    """Base of the handlers of extra specs. Only admins change them."""

    def keep(self, flavor: Flavor, specs: dict[str, str]) -> None:
        """Replace the extra specs. Servers keep the copies that they were made with."""
        flavor.extra_specs = specs
        self.cloud.flavors.save(flavor.id, flavor)


class ExtraSpecs(SpecsHandler):
    """/flavors/{id}/os-extra_specs."""

    def get(self, flavor_id: str) -> None:
        self.reply(200, {"extra_specs": self.flavor(flavor_id).extra_specs})

    def post(self, flavor_id: str) -> None:
        self.require_admin("os_compute_api:os-flavor-extra-specs:create")
        body = self.body()
        schemas.check(schemas.EXTRA_SPECS_BODY, body)
        specs = {name: str(value) for name, value in body["extra_specs"].items()}
        self.keep(self.flavor(flavor_id), {**self.flavor(flavor_id).extra_specs, **specs})
        self.reply(200, {"extra_specs": specs})


class OneExtraSpec(SpecsHandler):
    """/flavors/{id}/os-extra_specs/{key}."""

    def get(self, flavor_id: str, key: str) -> None:
        self.reply(200, {key: self._value(flavor_id, key)})

    def _value(self, flavor_id: str, key: str) -> str:
        specs = self.flavor(flavor_id).extra_specs
        if key not in specs:
            raise not_found(f"Flavor {flavor_id} has no extra specs with key {key}.")
        return specs[key]

    def put(self, flavor_id: str, key: str) -> None:
        self.require_admin("os_compute_api:os-flavor-extra-specs:update")
        body = self.body()
        schemas.check(schemas.ONE_SPEC, body)
        if list(body) != [key]:
            raise bad_request("Request body and URI mismatch")
        flavor = self.flavor(flavor_id)
        self.keep(flavor, {**flavor.extra_specs, key: str(body[key])})
        self.reply(200, {key: str(body[key])})

    def delete(self, flavor_id: str, key: str) -> None:
        self.require_admin("os_compute_api:os-flavor-extra-specs:delete")
        self._value(flavor_id, key)
        flavor = self.flavor(flavor_id)
        self.keep(flavor, {name: value for name, value in flavor.extra_specs.items() if name != key})
        self.reply(200)


class FlavorAccess(FlavorsHandler):
    """GET /flavors/{id}/os-flavor-access, and the actions that let projects use a private flavor; for admins."""

    def get(self, flavor_id: str) -> None:
        self.require_admin("os_compute_api:os-flavor-access")
        flavor = self.flavor(flavor_id)
        if flavor.is_public:
            raise not_found("Access list not available for public flavors.")
        self._show(flavor)

    def post(self, flavor_id: str) -> None:
        body = self.body()
        name = next(iter(body), "")
        if name not in schemas.FLAVOR_ACCESS or len(body) != 1:
            raise bad_request(f"There is no such action: {name}")
        schemas.check(schemas.FLAVOR_ACCESS[name], body)
        rule = "add_tenant_access" if name == "addTenantAccess" else "remove_tenant_access"
        if not self.token.is_admin:
            raise not_allowed(f"os_compute_api:os-flavor-access:{rule}")
        flavor, project = self.flavor(flavor_id), body[name]["tenant"]
        if self.version >= (2, 7) and flavor.is_public:
            raise conflict("Can not add access to a public flavor.")
        if project not in self.cloud.identity.projects:
            raise bad_request(f"Project ID {project} is not a valid project.")
        if name == "addTenantAccess":
            if project in flavor.projects:
                raise conflict(
                    f"Flavor access already exists for flavor {flavor_id} and project {project} combination."
                )
            flavor.projects = [*flavor.projects, project]
        else:
            if project not in flavor.projects:
                raise not_found(f"Flavor access not found for {flavor_id} / {project} combination.")
            flavor.projects = [each for each in flavor.projects if each != project]
        self.cloud.flavors.save(flavor_id, flavor)
        self._show(flavor)

    def _show(self, flavor: Flavor) -> None:
        self.reply(200, {"flavor_access": [{"flavor_id": flavor.id, "tenant_id": each} for each in flavor.projects]})


routes = [
    (r"/compute/v2\.1/flavors", Flavors),
    (r"/compute/v2\.1/flavors/detail", FlavorDetails),
    (r"/compute/v2\.1/flavors/([^/]+)", OneFlavor),
    (r"/compute/v2\.1/flavors/([^/]+)/os-extra_specs", ExtraSpecs),
    (r"/compute/v2\.1/flavors/([^/]+)/os-extra_specs/([^/]+)", OneExtraSpec),
    (r"/compute/v2\.1/flavors/([^/]+)/(?:os-flavor-access|action)", FlavorAccess),
]
