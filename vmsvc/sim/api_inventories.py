"""A resource provider of Placement: inventories, usages, allocations, traits, aggregates (measured)."""

from vmsvc.sim.api_placement import PlacementHandler
from vmsvc.sim.placement import Provider
from vmsvc.sim.refusal import Refused, bad_request, not_found


class Inventories(PlacementHandler):
    """/resource_providers/{uuid}/inventories, and of one class."""

    def get(self, uuid: str, name: str | None = None) -> None:
        """What the provider has."""
        self.need_admin("resource_providers:inventories:" + ("show" if name else "list"))
        provider = self.provider(uuid)
        if name is None:
            self.answer(self.with_generation(provider, {"inventories": provider.inventories}))
        elif name not in provider.inventories:
            raise not_found(f"No inventory of class {name} for {uuid}")
        else:
            self.answer(self.with_generation(provider, dict(provider.inventories[name])))

    def put(self, uuid: str, name: str | None = None) -> None:
        """Replace all, or one class. 409 with another generation, or when a used class would go."""
        self.need_admin("resource_providers:inventories:update")
        provider, body = self.provider(uuid), self.body()
        if "resource_provider_generation" not in body:
            raise bad_request("JSON does not validate: 'resource_provider_generation' is a required property")
        if body["resource_provider_generation"] != provider.generation:
            raise Refused(409, "resource provider generation conflict")
        wanted = {name: body} if name else body.get("inventories")
        if not isinstance(wanted, dict) or not all(isinstance(each, dict) and "total" in each
                                                   for each in wanted.values()):
            raise bad_request("JSON does not validate: 'inventories' is a required property")
        self._replace(provider, wanted, keep_rest=name is not None)
        if name:
            self.answer(self.with_generation(provider, dict(provider.inventories[name])))
        else:
            self.answer(self.with_generation(provider, {"inventories": provider.inventories}))

    def _replace(self, provider: Provider, wanted: dict, keep_rest: bool) -> None:
        used = self.cloud.placement.used[provider.uuid]
        gone = [] if keep_rest else [each for each in provider.inventories if each not in wanted and used.get(each)]
        if gone:
            raise Refused(409, f"update conflict: Inventory for '{', '.join(gone)}' on resource provider "
                          f"'{provider.uuid}' in use.")
        unknown = [each for each in wanted if each not in self.cloud.placement.classes()]
        if unknown:
            raise bad_request(f"Unknown resource class in inventory for resource provider {provider.uuid}: No such "
                              f"resource class {unknown[0]}.")
        self.cloud.placement.replace_inventories(provider, wanted, keep_rest)


class Usages(PlacementHandler):
    """GET /resource_providers/{uuid}/usages."""

    def get(self, uuid: str) -> None:
        """What is used of the provider."""
        self.need_admin("resource_providers:usages")
        provider = self.provider(uuid)
        self.answer(self.with_generation(provider, {"usages": self.cloud.placement.usage(provider)}))


class ProviderAllocations(PlacementHandler):
    """GET /resource_providers/{uuid}/allocations."""

    def get(self, uuid: str) -> None:
        """Who holds what of the provider."""
        self.need_admin("resource_providers:allocations:list")
        provider, placement = self.provider(uuid), self.cloud.placement
        views = {}
        for consumer_id in placement.holders[uuid]:
            consumer = placement.consumers[consumer_id]
            views[consumer_id] = {"resources": consumer.allocations[uuid]}
            if self.version >= (1, 28):
                views[consumer_id]["consumer_generation"] = consumer.generation
        self.answer(self.with_generation(provider, {"allocations": views}))


class Traits(PlacementHandler):
    """/resource_providers/{uuid}/traits."""

    def get(self, uuid: str) -> None:
        """The provider's traits."""
        self.need_version(1, 6)
        self.need_admin("resource_providers:traits:list")
        provider = self.provider(uuid)
        self.answer(self.with_generation(provider, {"traits": provider.traits}))

    def put(self, uuid: str) -> None:
        """Replace them."""
        self.need_version(1, 6)
        self.need_admin("resource_providers:traits:update")
        provider, body = self.provider(uuid), self.body()
        if body.get("resource_provider_generation") != provider.generation:
            raise Refused(409, "Resource provider's generation already changed. Please update the generation and try "
                          "again.")
        provider.traits = list(body.get("traits", []))
        self.cloud.placement.changed(provider)
        self.answer(self.with_generation(provider, {"traits": provider.traits}))


class Aggregates(PlacementHandler):
    """/resource_providers/{uuid}/aggregates."""

    def get(self, uuid: str) -> None:
        """The provider's aggregates."""
        self.need_version(1, 1)
        self.need_admin("resource_providers:aggregates:list")
        self._show(self.provider(uuid))

    def put(self, uuid: str) -> None:
        """Replace them."""
        self.need_version(1, 1)
        self.need_admin("resource_providers:aggregates:update")
        provider, body = self.provider(uuid), self.body() if self.version >= (1, 19) else {}
        provider.aggregates = list(body.get("aggregates", []))
        self.cloud.placement.changed(provider)
        self._show(provider)

    def _show(self, provider: Provider) -> None:
        body = {"aggregates": provider.aggregates}
        self.answer(self.with_generation(provider, body) if self.version >= (1, 19) else body)


routes = [
    (r"/placement/resource_providers/([^/]+)/inventories", Inventories),
    (r"/placement/resource_providers/([^/]+)/inventories/([^/]+)", Inventories),
    (r"/placement/resource_providers/([^/]+)/usages", Usages),
    (r"/placement/resource_providers/([^/]+)/allocations", ProviderAllocations),
    (r"/placement/resource_providers/([^/]+)/traits", Traits),
    (r"/placement/resource_providers/([^/]+)/aggregates", Aggregates),
]
