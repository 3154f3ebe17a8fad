"""Placement over HTTP, 1.0 to 1.39. Shapes and refusals measured on the real bed."""

import re
from uuid import uuid4

from vmsvc.sim.clock import http_date
from vmsvc.sim.handler import ServiceHandler
from vmsvc.sim.placement import STANDARD_TRAITS, Provider
from vmsvc.sim.refusal import Refused, bad_request, conflict, not_found

MIN, MAX = (1, 0), (1, 39)
TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
          406: "Not Acceptable", 409: "Conflict", 500: "Internal Server Error"}
LEADS = {400: "The server could not comply with the request since it is either malformed or otherwise incorrect.",
         403: "Access was denied to this resource.", 404: "The resource could not be found.",
         406: "The resource could not be generated that was acceptable to your browser (content of type "
              "application/json. ", 409: "There was a conflict when trying to complete your request."}


class PlacementHandler(ServiceHandler):
    """Base of Placement's handlers: all is the admin's, but for one's own usages."""

    service = "placement"
    version = MIN

    def negotiate(self) -> None:
        """OpenStack-API-Version: placement 1.x; 406 beyond."""
        asked = self.request.headers.get("OpenStack-API-Version", "")
        match = re.search(r"placement\s+(latest|\d+\.\d+)", asked)
        if match:
            text = match[1]
            self.version = MAX if text == "latest" else tuple(int(part) for part in text.split("."))
            if not MIN <= self.version <= MAX:
                self.version = MAX
                raise Refused(406, f"Invalid microversion: Unacceptable version header: {text}")
        self.set_header("openstack-api-version", f"placement {self.version[0]}.{self.version[1]}")
        self.set_header("vary", "openstack-api-version")

    def refuse(self, status: int, message: str) -> None:
        lead = LEADS.get(status, "")
        error = {"status": status, "title": TITLES.get(status, "Error"), "detail": f"{lead}\n\n {message}  ",
                 "request_id": self.request_id}
        if status == 406:
            error.update(detail=f"{lead}\n\n {message}", max_version="1.39", min_version="1.0")
        elif self.version >= (1, 23):
            error["code"] = ("placement.inventory.inuse" if "in use" in message else
                             "placement.concurrent_update" if "generation" in message else "placement.undefined_code")
        self.reply(status, {"errors": [error]})

    def need_admin(self, rule: str) -> None:
        """403 by policy (measured, section 5)."""
        if not self.token.is_admin:
            raise Refused(403, f"Policy does not allow placement:{rule} to be performed.")

    def need_version(self, *version: int) -> None:
        """404 for what an older microversion does not know."""
        if self.version < version:
            raise not_found("")

    def answer(self, body: dict) -> None:
        """200 that is not to be cached."""
        if self.version >= (1, 15):
            self.set_header("Last-Modified", http_date(self.cloud.clock.now()))
            self.set_header("Cache-Control", "no-cache")
        self.reply(200, body)

    def provider(self, uuid: str) -> Provider:
        """The provider, or 404."""
        return self.cloud.placement.provider(uuid)

    def with_generation(self, provider: Provider, body: dict) -> dict:
        """A body with the provider's generation."""
        return {**body, "resource_provider_generation": provider.generation}

    def amounts(self, text: str) -> dict[str, int]:
        """`VCPU:1,MEMORY_MB:1024` as a dictionary."""
        amounts = {}
        for part in text.split(","):
            name, _, amount = part.partition(":")
            if name not in self.cloud.placement.classes():
                raise bad_request(f"Invalid resource class in resources parameter: No such resource class {name}.")
            if amount == "0":
                raise bad_request(f"Requested resource {name} requires amount >= 1. Got: 0.")
            if not amount.isdigit():
                raise bad_request(f"Badly formed resources parameter. Expected resources query string parameter in "
                                  f"form: ?resources=VCPU:2,MEMORY_MB:1024. Got: {text}.")
            amounts[name] = int(amount)
        return amounts

    def select(self, query: dict[str, str]) -> list[Provider]:
        """The providers that pass the filters name, uuid, in_tree, member_of, required, resources."""
        placement = self.cloud.placement
        if "uuid" in query or "in_tree" in query:
            wanted = {query.get("uuid", query.get("in_tree")), query.get("in_tree", query.get("uuid"))}
            found = [placement.providers[uuid] for uuid in wanted if uuid in placement.providers]
            found = found if len(wanted) == 1 else []
        elif "name" in query:
            found = [placement.by_name[query["name"]]] if query["name"] in placement.by_name else []
        else:
            found = list(placement.providers.values())
        if "name" in query:
            found = [each for each in found if each.name == query["name"]]
        request = self.amounts(query["resources"]) if "resources" in query else {}
        return [each for each in found if placement.fits(each, request)
                and self._has_traits(each, query.get("required")) and self._is_member(each, query.get("member_of"))]

    @staticmethod
    def _has_traits(provider: Provider, required: str | None) -> bool:
        if not required:
            return True
        traits = set(provider.traits)
        if required.startswith("in:"):
            return bool(traits & set(required[3:].split(",")))
        return all((name[1:] not in traits) if name.startswith("!") else name in traits
                   for name in required.split(","))

    @staticmethod
    def _is_member(provider: Provider, member_of: str | None) -> bool:
        if not member_of:
            return True
        negated, text = member_of.startswith("!"), member_of.removeprefix("!")
        return bool(set(text.removeprefix("in:").split(",")) & set(provider.aggregates)) != negated


class Root(PlacementHandler):
    """The discovery document."""

    needs_token = False

    def get(self) -> None:
        """The one version."""
        self.reply(200, {"versions": [{"id": "v1.0", "max_version": "1.39", "min_version": "1.0", "status": "CURRENT",
                                       "links": [{"rel": "self", "href": ""}]}]})


class Providers(PlacementHandler):
    """GET /resource_providers and one of them."""

    def get(self, uuid: str | None = None) -> None:
        """All that pass the filters, or one."""
        self.need_admin("resource_providers:" + ("show" if uuid else "list"))
        if uuid:
            self.answer(self._view(self.provider(uuid)))
            return
        for name in self.query:
            if name not in ("name", "uuid", "member_of", "resources", "in_tree", "required"):
                raise bad_request(f"Invalid query string parameters: Additional properties are not allowed ('{name}' "
                                  "was unexpected)")
        self.answer({"resource_providers": [self._view(each) for each in self.select(self.query)]})

    def _view(self, provider: Provider) -> dict:
        path = f"/placement/resource_providers/{provider.uuid}"
        rels = ["inventories", "usages"]
        for version, names in (((1, 1), ["aggregates"]), ((1, 6), ["traits"]), ((1, 11), ["allocations"])):
            rels += names if self.version >= version else []
        view = {"uuid": provider.uuid, "name": provider.name, "generation": provider.generation,
                "links": [{"rel": "self", "href": path}, *({"rel": rel, "href": f"{path}/{rel}"} for rel in rels)]}
        if self.version >= (1, 14):
            view.update(parent_provider_uuid=provider.parent, root_provider_uuid=provider.parent or provider.uuid)
        return view

    def post(self) -> None:
        """A provider that is nested in a compute node: {"name", "uuid", "parent_provider_uuid"}."""
        self.need_version(1, 14)
        self.need_admin("resource_providers:create")
        body, placement = self.body(), self.cloud.placement
        parent = body.get("parent_provider_uuid")
        if parent not in placement.providers:
            raise bad_request(f"parent provider UUID provided does not exist: {parent}")
        if body.get("name") in placement.by_name:
            raise conflict(f"Conflicting resource provider name: {body['name']} already exists.")
        provider = Provider(body.get("uuid") or str(uuid4()), body["name"], parent, traits=[], generation=0)
        placement.add(provider)
        self.answer(self._view(provider))

    def delete(self, uuid: str) -> None:
        """Take it away; 409 while something is claimed from it."""
        self.need_admin("resource_providers:delete")
        self.cloud.placement.remove(self.provider(uuid).uuid)
        self.reply(204)


class AllTraits(PlacementHandler):
    """GET /traits."""

    def get(self) -> None:
        """The standard ones that matter here, and those that providers have."""
        self.need_version(1, 6)
        self.need_admin("traits:list")
        names = dict.fromkeys(STANDARD_TRAITS)
        for provider in self.cloud.placement.providers.values():
            names.update(dict.fromkeys(provider.traits))
        text = self.query.get("name", "")
        if text.startswith("startswith:"):
            names = {name: None for name in names if name.startswith(text[11:])}
        elif text.startswith("in:"):
            names = {name: None for name in names if name in text[3:].split(",")}
        self.answer({"traits": list(names)})


class ResourceClasses(PlacementHandler):
    """/resource_classes, and PUT of a custom one."""

    def get(self) -> None:
        """All."""
        self.need_version(1, 2)
        self.need_admin("resource_classes:list")
        self.answer({"resource_classes": [{"name": name, "links": [
            {"rel": "self", "href": f"/placement/resource_classes/{name}"}]}
            for name in self.cloud.placement.classes()]})

    def put(self, name: str) -> None:
        """201 for a new one, 204 for a known one."""
        self.need_version(1, 7)
        self.need_admin("resource_classes:update")
        if not re.fullmatch(r"CUSTOM_[A-Z0-9_]+", name):
            raise bad_request(f"JSON does not validate: '{name}' does not match '^CUSTOM\\\\_[A-Z0-9_]+$'")
        known = name in self.cloud.placement.custom_classes
        self.cloud.placement.add_class(name)
        self.reply(204 if known else 201)


routes = [
    (r"/placement/?", Root),
    (r"/placement/resource_providers", Providers),
    (r"/placement/resource_providers/([^/]+)", Providers),
    (r"/placement/traits", AllTraits),
    (r"/placement/resource_classes", ResourceClasses),
    (r"/placement/resource_classes/([^/]+)", ResourceClasses),
]
