"""Placement over HTTP: resource providers with their inventories, usages, traits and aggregates (measured).

The base of Placement's handlers is here too."""

import re
from typing import Any
from uuid import uuid4

from vmsvc.simulator.clock import http_date
from vmsvc.simulator.errors import ApiError, bad_request, conflict, not_found
from vmsvc.simulator.http import ServiceHandler
from vmsvc.simulator.placement import queries
from vmsvc.simulator.placement.model import Provider, standard_traits
from vmsvc.simulator.schema import ANY, fields

MIN, MAX = (1, 0), (1, 39)
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    410: "Gone",
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
        match = re.search(r"placement\s+(latest|(\d+)\.(\d+))\s*(,|$)", header)
        if match is None and (bad := re.search(r"placement\s+(\S+)", header)):
            raise bad_request(f"Invalid microversion: invalid version string: {bad[1]}")
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
        if status == 405:
            error["detail"] = (
                f"The method {self.request.method} is not allowed for this resource. \n\n The method specified is not "
                "allowed for this resource."
            )
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
        queries.check_query(queries.providers(self.version), self.queries)
        wanted = queries.filters(self.cloud.placement, self.queries, self.version, False)
        found = [
            provider
            for provider in self.cloud.placement.providers.values()
            if self.query.get("name") in (None, "", provider.name)
            and self.query.get("uuid") in (None, provider.uuid)
            and self.query.get("in_tree") in (None, *(each.uuid for each in self.cloud.placement.tree_of(provider)))
            and wanted.passes(self.cloud.placement, provider)
        ]
        self.answer({"resource_providers": [self._view(each) for each in found]})

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
        """Make a provider, at the top or nested in another one."""
        self.require_admin("resource_providers:create")
        body, placement = self.body(), self.cloud.placement
        queries.check_body(queries.PROVIDER, body)
        parent = body.get("parent_provider_uuid")
        if not body["name"]:
            raise bad_request('Unable to create resource provider "": Object action create failed: name is required')
        if parent is not None and parent not in placement.providers:
            raise bad_request(f"parent provider UUID provided does not exist: {parent}")
        if body["name"] in placement.by_name or body.get("uuid") in placement.providers:
            raise conflict(f"Conflicting resource provider name: {body['name']} already exists.")
        provider = Provider(body.get("uuid") or str(uuid4()), body["name"], parent, traits=[], generation=0)
        placement.add(provider)
        self.set_header("Location", f"{self.base}/placement/resource_providers/{provider.uuid}")
        if self.version < (1, 20):
            self.reply(201)
        else:
            self.answer(self._view(provider))

    def put(self, uuid: str) -> None:
        """Rename a provider."""
        self.require_admin("resource_providers:update")
        provider, body = self.provider(uuid), self.body()
        queries.check_body(queries.PROVIDER, body)
        if self.cloud.placement.by_name.get(body["name"], provider) is not provider:
            raise conflict(f"Conflicting resource provider name: {body['name']} already exists.")
        self.cloud.placement.rename_provider(provider, body["name"])
        self.answer(self._view(provider))

    def delete(self, uuid: str) -> None:
        """Answers 409 while the provider has allocations."""
        self.require_admin("resource_providers:delete")
        self.cloud.placement.remove(self.provider(uuid).uuid)
        self.reply(204)


class AllTraits(PlacementHandler):
    """GET /traits: the standard ones and those that were made."""

    def get(self) -> None:
        self.require_version(1, 6)
        self.require_admin("traits:list")
        queries.check_query(fields({"name": ANY, "associated": ANY}), self.queries)
        placement, text = self.cloud.placement, self.query.get("name", "startswith:")
        names = [*sorted(standard_traits()), *placement.custom_traits]
        if text.startswith("startswith:"):
            names = [name for name in names if name.startswith(text[11:])]
        elif text.startswith("in:"):
            names = [name for name in names if name in text[3:].split(",")]
        else:
            raise bad_request(
                "Badly formatted name parameter. Expected name query string parameter in form: "
                f'?name=[in|startswith]:[name1,name2|prefix]. Got: "{text}"'
            )
        if "associated" in self.query:
            if self.query["associated"].lower() not in ("true", "false"):
                raise bad_request('The query parameter "associated" only accepts "true" or "false"')
            used = {trait for provider in placement.providers.values() for trait in provider.traits}
            names = [name for name in names if (name in used) == (self.query["associated"].lower() == "true")]
        self.answer({"traits": names})


class OneTrait(PlacementHandler):
    """/traits/{name}: whether there is one; PUT makes and DELETE removes one of a user's own."""

    def get(self, name: str) -> None:
        self.require_version(1, 6)
        self.require_admin("traits:show")
        self._require(name)
        self.reply(204)

    def put(self, name: str) -> None:
        self.require_version(1, 6)
        self.require_admin("traits:update")
        if not re.fullmatch("CUSTOM_[A-Z0-9_]+", name) or len(name) > 255:
            raise bad_request(
                "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
                '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
            )
        known = name in self.cloud.placement.custom_traits
        self.cloud.placement.add_traits([name])
        self.set_header("Location", f"{self.base}/placement/traits/{name}")
        self.reply(204 if known else 201)

    def delete(self, name: str) -> None:
        self.require_version(1, 6)
        self.require_admin("traits:delete")
        self._require(name)
        if name not in self.cloud.placement.custom_traits:
            raise bad_request(f"Cannot delete standard trait {name}.")
        if any(name in provider.traits for provider in self.cloud.placement.providers.values()):
            raise conflict(f"The trait {name} is in use by a resource provider.")
        self.cloud.placement.remove_trait(name)
        self.reply(204)

    def _require(self, name: str) -> None:
        if self.cloud.placement.unknown_traits([name]):
            raise not_found(f"No such trait(s): {name}.")


class ClassHandler(PlacementHandler):
    """Base of the handlers of resource classes."""

    def view(self, name: str) -> dict[str, Any]:
        """A class as Placement shows it."""
        return {"name": name, "links": [{"rel": "self", "href": f"/placement/resource_classes/{name}"}]}


class ResourceClasses(ClassHandler):
    """/resource_classes; POST makes a custom one."""

    def get(self) -> None:
        self.require_version(1, 2)
        self.require_admin("resource_classes:list")
        self.answer({"resource_classes": [self.view(name) for name in self.cloud.placement.classes()]})

    def post(self) -> None:
        self.require_version(1, 2)
        self.require_admin("resource_classes:create")
        body = self.body()
        queries.check_body(fields({"name": queries.CUSTOM}, "name"), body)
        if body["name"] in self.cloud.placement.classes():
            raise conflict(f"Conflicting resource class already exists: {body['name']}")
        self.cloud.placement.add_class(body["name"])
        self.set_header("Location", f"{self.base}/placement/resource_classes/{body['name']}")
        self.reply(201)


class OneClass(ClassHandler):
    """/resource_classes/{name}; PUT makes a custom one."""

    def get(self, name: str) -> None:
        self.require_version(1, 2)
        self.require_admin("resource_classes:show")
        if name not in self.cloud.placement.classes():
            raise not_found(f"No such resource class {name}.")
        self.answer(self.view(name))

    def put(self, name: str) -> None:
        """Answers 201 for a new one, 204 for one that exists."""
        self.require_version(1, 7)
        self.require_admin("resource_classes:update")
        queries.check_body(fields({"name": queries.CUSTOM}), {"name": name})
        known = name in self.cloud.placement.custom_classes
        self.cloud.placement.add_class(name)
        self.reply(204 if known else 201)

    def delete(self, name: str) -> None:
        self.require_version(1, 2)
        self.require_admin("resource_classes:delete")
        if name not in self.cloud.placement.classes():
            raise not_found(f"No such resource class {name}.")
        if name not in self.cloud.placement.custom_classes:
            raise bad_request(f"Error in delete resource class: Cannot delete standard resource class {name}.")
        if any(name in provider.inventories for provider in self.cloud.placement.providers.values()):
            raise conflict(f"Error in delete resource class: Cannot destroy resource class {name}: it is in use.")
        self.cloud.placement.remove_class(name)
        self.reply(204)


class Inventories(PlacementHandler):
    """/resource_providers/{uuid}/inventories, and of one class."""

    def get(self, uuid: str, name: str | None = None) -> None:
        self.require_admin("resource_providers:inventories:" + ("show" if name else "list"))
        provider = self.provider(uuid)
        if name is None:
            self.answer(self.with_generation(provider, {"inventories": provider.inventories}))
        elif name not in provider.inventories:
            raise not_found(f"No inventory of class {name} for resource provider {uuid}")
        else:
            self.answer(self.with_generation(provider, dict(provider.inventories[name])))

    def put(self, uuid: str, name: str | None = None) -> None:
        """Replace all inventories, or that of one class. Answers 409 for another generation, and when a class in use
        would go."""
        self.require_admin("resource_providers:inventories:update")
        provider, body = self.provider(uuid), self.body()
        queries.check_body(queries.PUT_INVENTORY if name else queries.PUT_INVENTORIES, body)
        if body["resource_provider_generation"] != provider.generation:
            raise ApiError(409, "resource provider generation conflict")
        wanted = {name: body} if name else body["inventories"]
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
        queries.check_body(queries.PUT_TRAITS, body)
        if body["resource_provider_generation"] != provider.generation:
            raise ApiError(
                409, "Resource provider's generation already changed. Please update the generation and try again."
            )
        if unknown := self.cloud.placement.unknown_traits(body["traits"]):
            raise bad_request(f"No such trait(s): {', '.join(unknown)}.")
        provider.traits = list(body["traits"])
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
    (r"/placement/traits/([^/]+)", OneTrait),
    (r"/placement/resource_classes", ResourceClasses),
    (r"/placement/resource_classes/([^/]+)", OneClass),
    (r"/placement/resource_providers/([^/]+)/inventories", Inventories),
    (r"/placement/resource_providers/([^/]+)/inventories/([^/]+)", Inventories),
    (r"/placement/resource_providers/([^/]+)/usages", Usages),
    (r"/placement/resource_providers/([^/]+)/allocations", ProviderAllocations),
    (r"/placement/resource_providers/([^/]+)/traits", Traits),
    (r"/placement/resource_providers/([^/]+)/aggregates", Aggregates),
]
