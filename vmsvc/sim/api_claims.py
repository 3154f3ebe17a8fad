"""Placement's claims: allocations by consumer, candidates, and usages of a project. Shapes measured."""

from vmsvc.sim.api_placement import PlacementHandler
from vmsvc.sim.placement import Consumer, Provider
from vmsvc.sim.refusal import Refused, bad_request, not_found


class Allocations(PlacementHandler):
    """/allocations/{consumer}."""

    def get(self, consumer_id: str) -> None:
        """What it holds; empty when its room is free."""
        self.need_admin("allocations:list")
        consumer = self.cloud.placement.consumers.get(consumer_id)
        if consumer is None:
            self.answer({"allocations": {}})
            return
        body = {"allocations": {uuid: {"resources": amounts,
                                       "generation": self.cloud.placement.providers[uuid].generation}
                                for uuid, amounts in consumer.allocations.items()}}
        if self.version >= (1, 12):
            body.update(project_id=consumer.project_id, user_id=consumer.user_id)
        if self.version >= (1, 28):
            body["consumer_generation"] = consumer.generation
        if self.version >= (1, 38):
            body["consumer_type"] = consumer.type
        self.answer(body)

    def put(self, consumer_id: str) -> None:
        """Claim; 409 when there is no room."""
        self.need_admin("allocations:update")
        body, placement = self.body(), self.cloud.placement
        asked = body.get("allocations")
        if self.version < (1, 12) and isinstance(asked, list):
            asked = {each["resource_provider"]["uuid"]: each for each in asked}
        if not isinstance(asked, dict):
            raise bad_request("JSON does not validate: 'allocations' is a required property")
        known = placement.consumers.get(consumer_id)
        if self.version >= (1, 28) and body.get("consumer_generation") != (known.generation if known else None):
            raise Refused(409, f"consumer generation conflict - expected {known.generation if known else 'null'} but "
                          f"got {body.get('consumer_generation')}")
        missing = [uuid for uuid in asked if uuid not in placement.providers]
        if missing:
            raise bad_request(f"Allocation for resource provider '{missing[0]}' that does not exist.")
        claim = Consumer(consumer_id, body.get("project_id", ""), body.get("user_id", ""),
                         {uuid: dict(each["resources"]) for uuid, each in asked.items()},
                         type=body.get("consumer_type", "unknown"))
        if not claim.allocations:
            placement.release(consumer_id, by_claim=True)
        elif not placement.claim(claim):
            raise Refused(409, self._why_not(claim))
        self.reply(204)

    def _why_not(self, claim: Consumer) -> str:
        """Which class is too small, and how (measured)."""
        placement = self.cloud.placement
        for uuid, amounts in claim.allocations.items():
            for name, amount in amounts.items():
                if not placement.fits(placement.providers[uuid], {name: amount}):
                    reason = ("exceed the capacity" if placement.admits(placement.providers[uuid], name, amount)
                              else "violate inventory constraints")
                    return (f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource "
                            f"provider '{uuid}'. The requested amount would {reason}.")
        return "Unable to allocate inventory"

    def delete(self, consumer_id: str) -> None:
        """Give it all back."""
        self.need_admin("allocations:delete")
        if not self.cloud.placement.release(consumer_id):
            raise not_found(f"No allocations for consumer '{consumer_id}'")
        self.reply(204)


class Candidates(PlacementHandler):
    """GET /allocation_candidates: it knows nothing of disabled or filtered hosts (measured, section 5)."""

    def get(self) -> None:
        """Who could take such a claim now."""
        self.need_version(1, 10)
        self.need_admin("allocation_candidates:list")
        if "resources" not in self.query:
            raise bad_request("There must be at least one resources or resources[$S] parameter.")
        request = self.amounts(self.query["resources"])
        limit = int(self.query.get("limit", 0)) or None
        filters = {name: self.query[name] for name in ("resources", "required", "member_of", "in_tree")
                   if name in self.query}
        found = self.select(filters)[:limit]
        self.answer({"allocation_requests": [self._request(each, request) for each in found],
                     "provider_summaries": {each.uuid: self._summary(each) for each in found}})

    def _request(self, provider: Provider, request: dict[str, int]) -> dict:
        if self.version < (1, 12):
            return {"allocations": [{"resource_provider": {"uuid": provider.uuid}, "resources": request}]}
        view = {"allocations": {provider.uuid: {"resources": request}}}
        if self.version >= (1, 34):
            view["mappings"] = {"": [provider.uuid]}
        return view

    def _summary(self, provider: Provider) -> dict:
        used = self.cloud.placement.usage(provider)
        view = {"resources": {name: {"capacity": provider.capacity(name), "used": used[name]}
                              for name in provider.inventories}}
        if self.version >= (1, 17):
            view["traits"] = provider.traits
        if self.version >= (1, 29):
            view.update(parent_provider_uuid=None, root_provider_uuid=provider.uuid)
        return view


class ProjectUsages(PlacementHandler):
    """GET /usages?project_id=: a member reads its own (measured, section 5)."""

    def get(self) -> None:
        """Sums over the consumers of a project."""
        self.need_version(1, 9)
        project_id = self.query.get("project_id")
        if project_id is None:
            raise bad_request("Invalid query string parameters: 'project_id' is a required property")
        if project_id != self.token.project_id:
            self.need_admin("usages")
        totals = self.cloud.placement.project_usage(project_id)
        if self.version >= (1, 38):
            self.answer({"usages": totals})
            return
        flat: dict[str, int] = {}
        for total in totals.values():
            for name, amount in total.items():
                flat[name] = flat.get(name, 0) + amount
        flat.pop("consumer_count", None)
        self.answer({"usages": flat})


class Missing(PlacementHandler):
    """Everything else."""

    def missing(self) -> None:
        """404 for any method."""
        raise not_found("")

    get = post = put = delete = missing


routes = [
    (r"/placement/allocations/([^/]+)", Allocations),
    (r"/placement/allocation_candidates", Candidates),
    (r"/placement/usages", ProjectUsages),
    (r"/placement/.*", Missing),
]
