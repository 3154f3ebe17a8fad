"""Placement over HTTP: resource providers with their inventories, usages, traits and aggregates (measured).

The base of Placement's handlers is here too."""

import re
from typing import Any
from uuid import uuid4

from vmsvc.simulator.clock import http_date
from vmsvc.simulator.errors import ApiError, bad_request, conflict, not_found
from vmsvc.simulator.http import ServiceHandler
from vmsvc.simulator.placement.model import STANDARD_TRAITS, Provider

MIN, MAX = (1, 0), (1, 39)
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    500: "Internal Server Error",
}
ERROR_TEXTS = {
    400: "The server could not comply with the request since it is either malformed or otherwise incorrect.",
    403: "Access was denied to this resource.",
    404: "The resource could not be found.",
    406: "The resource could not be generated that was acceptable to your browser (content of type application/json. ",
    409: "There was a conflict when trying to complete your request.",
}


class PlacementHandler(ServiceHandler):
    """Base of Placement's handlers. All of them are for admins, except the usages of the own project."""

    service = "placement"
    version = MIN

    def negotiate(self) -> None:
        """Read OpenStack-API-Version. Raises ApiError 406 for an unknown version."""
        header = self.request.headers.get("OpenStack-API-Version", "")
        match = re.search(r"placement\s+(latest|(\d+)\.(\d+))", header)
        if match:
            text = match[1]
            self.version = MAX if text == "latest" else (int(match[2]), int(match[3]))
            if not MIN <= self.version <= MAX:
                self.version = MAX
                raise ApiError(406, f"Invalid microversion: Unacceptable version header: {text}")
        self.set_header("openstack-api-version", f"placement {self.version[0]}.{self.version[1]}")
        self.set_header("vary", "openstack-api-version")

    def refuse(self, status: int, message: str) -> None:
        lead = ERROR_TEXTS.get(status, "")
        error = {
            "status": status,
            "title": TITLES.get(status, "Error"),
            "detail": f"{lead}\n\n {message}  ",
            "request_id": self.request_id,
        }
        if status == 406:
            error.update(detail=f"{lead}\n\n {message}", max_version="1.39", min_version="1.0")
        elif self.version >= (1, 23):
            error["code"] = (
                "placement.inventory.inuse"
                if "in use" in message
                else "placement.concurrent_update"
                if "generation" in message
                else "placement.undefined_code"
            )
        self.reply(status, {"errors": [error]})

    def require_admin(self, rule: str) -> None:
        """Raise ApiError 403 when the user is no admin (measured)."""
        if not self.token.is_admin:
            raise ApiError(403, f"Policy does not allow placement:{rule} to be performed.")

    def require_version(self, *version: int) -> None:
        """Raise ApiError 404 in a microversion that is older than this one."""
        if self.version < version:
            raise not_found("")

    def answer(self, body: dict[str, Any]) -> None:
        """Answer 200, with the headers against caching."""
        if self.version >= (1, 15):
            self.set_header("Last-Modified", http_date(self.cloud.clock.now()))
            self.set_header("Cache-Control", "no-cache")
        self.reply(200, body)

    def provider(self, uuid: str) -> Provider:
        return self.cloud.placement.provider(uuid)

    def with_generation(self, provider: Provider, body: dict[str, Any]) -> dict[str, Any]:
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
                raise bad_request(
                    f"Badly formed resources parameter. Expected resources query string parameter in "
                    f"form: ?resources=VCPU:2,MEMORY_MB:1024. Got: {text}."
                )
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
        return [
            each
            for each in found
            if placement.fits(each, request)
            and self._has_traits(each, query.get("required"))
            and self._is_member(each, query.get("member_of"))
        ]

    @staticmethod
    def _has_traits(provider: Provider, required: str | None) -> bool:
        if not required:
            return True
        traits = set(provider.traits)
        if required.startswith("in:"):
            return bool(traits & set(required[3:].split(",")))
        return all((name[1:] not in traits) if name.startswith("!") else name in traits for name in required.split(","))

    @staticmethod
    def _is_member(provider: Provider, member_of: str | None) -> bool:
        if not member_of:
            return True
        negated, text = member_of.startswith("!"), member_of.removeprefix("!")
        return bool(set(text.removeprefix("in:").split(",")) & set(provider.aggregates)) != negated


class Root(PlacementHandler):
    """The discovery document."""

    requires_token = False

    def get(self) -> None:
        self.reply(
            200,
            {
                "versions": [
                    {
                        "id": "v1.0",
                        "max_version": "1.39",
                        "min_version": "1.0",
                        "status": "CURRENT",
                        "links": [{"rel": "self", "href": ""}],
                    }
                ]
            },
        )


class Providers(PlacementHandler):
    """GET /resource_providers and one of them."""

    def get(self, uuid: str | None = None) -> None:
        self.require_admin("resource_providers:" + ("show" if uuid else "list"))
        if uuid:
            self.answer(self._view(self.provider(uuid)))
            return
        for name in self.query:
            if name not in ("name", "uuid", "member_of", "resources", "in_tree", "required"):
                raise bad_request(
                    f"Invalid query string parameters: Additional properties are not allowed ('{name}' was unexpected)"
                )
        self.answer({"resource_providers": [self._view(each) for each in self.select(self.query)]})

    def _view(self, provider: Provider) -> dict[str, Any]:
        path = f"/placement/resource_providers/{provider.uuid}"
        rels = ["inventories", "usages"]
        for version, names in (((1, 1), ["aggregates"]), ((1, 6), ["traits"]), ((1, 11), ["allocations"])):
            rels += names if self.version >= version else []
        view = {
            "uuid": provider.uuid,
            "name": provider.name,
            "generation": provider.generation,
            "links": [{"rel": "self", "href": path}, *({"rel": rel, "href": f"{path}/{rel}"} for rel in rels)],
        }
        if self.version >= (1, 14):
            view.update(parent_provider_uuid=provider.parent, root_provider_uuid=provider.parent or provider.uuid)
        return view

    def post(self) -> None:
        """Make a provider that is nested in a compute node, from name, uuid and parent_provider_uuid."""
        self.require_version(1, 14)
        self.require_admin("resource_providers:create")
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
        """Answers 409 while the provider has allocations."""
        self.require_admin("resource_providers:delete")
        self.cloud.placement.remove(self.provider(uuid).uuid)
        self.reply(204)


class AllTraits(PlacementHandler):
    """GET /traits."""

    def get(self) -> None:
        """Some standard traits, and those that providers have."""
        self.require_version(1, 6)
        self.require_admin("traits:list")
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
    """/resource_classes; PUT makes a custom one."""

    def get(self) -> None:
        self.require_version(1, 2)
        self.require_admin("resource_classes:list")
        self.answer(
            {
                "resource_classes": [
                    {"name": name, "links": [{"rel": "self", "href": f"/placement/resource_classes/{name}"}]}
                    for name in self.cloud.placement.classes()
                ]
            }
        )

    def put(self, name: str) -> None:
        """Answers 201 for a new one, 204 for one that exists."""
        self.require_version(1, 7)
        self.require_admin("resource_classes:update")
        if not re.fullmatch(r"CUSTOM_[A-Z0-9_]+", name):
            raise bad_request(f"JSON does not validate: '{name}' does not match '^CUSTOM\\\\_[A-Z0-9_]+$'")
        known = name in self.cloud.placement.custom_classes
        self.cloud.placement.add_class(name)
        self.reply(204 if known else 201)


class Inventories(PlacementHandler):
    """/resource_providers/{uuid}/inventories, and of one class."""

    def get(self, uuid: str, name: str | None = None) -> None:
        self.require_admin("resource_providers:inventories:" + ("show" if name else "list"))
        provider = self.provider(uuid)
        if name is None:
            self.answer(self.with_generation(provider, {"inventories": provider.inventories}))
        elif name not in provider.inventories:
            raise not_found(f"No inventory of class {name} for {uuid}")
        else:
            self.answer(self.with_generation(provider, dict(provider.inventories[name])))

    def put(self, uuid: str, name: str | None = None) -> None:
        """Replace all inventories, or that of one class. Answers 409 for another generation, and when a class in use
        would go."""
        self.require_admin("resource_providers:inventories:update")
        provider, body = self.provider(uuid), self.body()
        if "resource_provider_generation" not in body:
            raise bad_request("JSON does not validate: 'resource_provider_generation' is a required property")
        if body["resource_provider_generation"] != provider.generation:
            raise ApiError(409, "resource provider generation conflict")
        wanted = {name: body} if name else body.get("inventories")
        if not isinstance(wanted, dict) or not all(
            isinstance(each, dict) and "total" in each for each in wanted.values()
        ):
            raise bad_request("JSON does not validate: 'inventories' is a required property")
        self._replace(provider, wanted, keep_rest=name is not None)
        if name:
            self.answer(self.with_generation(provider, dict(provider.inventories[name])))
        else:
            self.answer(self.with_generation(provider, {"inventories": provider.inventories}))

    def _replace(self, provider: Provider, wanted: dict[str, Any], keep_rest: bool) -> None:
        used = self.cloud.placement.used[provider.uuid]
        gone = [] if keep_rest else [each for each in provider.inventories if each not in wanted and used.get(each)]
        if gone:
            raise ApiError(
                409,
                f"update conflict: Inventory for '{', '.join(gone)}' on resource provider '{provider.uuid}' in use.",
            )
        unknown = [each for each in wanted if each not in self.cloud.placement.classes()]
        if unknown:
            raise bad_request(
                f"Unknown resource class in inventory for resource provider {provider.uuid}: No such "
                f"resource class {unknown[0]}."
            )
        self.cloud.placement.replace_inventories(provider, wanted, keep_rest)


class Usages(PlacementHandler):
    """GET /resource_providers/{uuid}/usages."""

    def get(self, uuid: str) -> None:
        self.require_admin("resource_providers:usages")
        provider = self.provider(uuid)
        self.answer(self.with_generation(provider, {"usages": self.cloud.placement.usage(provider)}))


class ProviderAllocations(PlacementHandler):
    """GET /resource_providers/{uuid}/allocations."""

    def get(self, uuid: str) -> None:
        self.require_admin("resource_providers:allocations:list")
        provider, placement = self.provider(uuid), self.cloud.placement
        views: dict[str, dict[str, Any]] = {}
        for consumer_id in placement.holders[uuid]:
            consumer = placement.consumers[consumer_id]
            views[consumer_id] = {"resources": consumer.allocations[uuid]}
            if self.version >= (1, 28):
                views[consumer_id]["consumer_generation"] = consumer.generation
        self.answer(self.with_generation(provider, {"allocations": views}))


class Traits(PlacementHandler):
    """/resource_providers/{uuid}/traits."""

    def get(self, uuid: str) -> None:
        self.require_version(1, 6)
        self.require_admin("resource_providers:traits:list")
        provider = self.provider(uuid)
        self.answer(self.with_generation(provider, {"traits": provider.traits}))

    def put(self, uuid: str) -> None:
        self.require_version(1, 6)
        self.require_admin("resource_providers:traits:update")
        provider, body = self.provider(uuid), self.body()
        if body.get("resource_provider_generation") != provider.generation:
            raise ApiError(
                409, "Resource provider's generation already changed. Please update the generation and try again."
            )
        provider.traits = list(body.get("traits", []))
        self.cloud.placement.save(provider)
        self.answer(self.with_generation(provider, {"traits": provider.traits}))


class Aggregates(PlacementHandler):
    """/resource_providers/{uuid}/aggregates."""

    def get(self, uuid: str) -> None:
        self.require_version(1, 1)
        self.require_admin("resource_providers:aggregates:list")
        self._show(self.provider(uuid))

    def put(self, uuid: str) -> None:
        self.require_version(1, 1)
        self.require_admin("resource_providers:aggregates:update")
        provider, body = self.provider(uuid), self.body() if self.version >= (1, 19) else {}
        provider.aggregates = list(body.get("aggregates", []))
        self.cloud.placement.save(provider)
        self._show(provider)

    def _show(self, provider: Provider) -> None:
        body = {"aggregates": provider.aggregates}
        self.answer(self.with_generation(provider, body) if self.version >= (1, 19) else body)


routes = [
    (r"/placement/?", Root),
    (r"/placement/resource_providers", Providers),
    (r"/placement/resource_providers/([^/]+)", Providers),
    (r"/placement/traits", AllTraits),
    (r"/placement/resource_classes", ResourceClasses),
    (r"/placement/resource_classes/([^/]+)", ResourceClasses),
    (r"/placement/resource_providers/([^/]+)/inventories", Inventories),
    (r"/placement/resource_providers/([^/]+)/inventories/([^/]+)", Inventories),
    (r"/placement/resource_providers/([^/]+)/usages", Usages),
    (r"/placement/resource_providers/([^/]+)/allocations", ProviderAllocations),
    (r"/placement/resource_providers/([^/]+)/traits", Traits),
    (r"/placement/resource_providers/([^/]+)/aggregates", Aggregates),
]
