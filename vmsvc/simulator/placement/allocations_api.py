"""Placement over HTTP: allocations of a consumer, allocation candidates, and usages of a project (measured)."""

import re
from typing import Any

from vmsvc.simulator.errors import ApiError, bad_request, not_found
from vmsvc.simulator.placement import queries
from vmsvc.simulator.placement.model import Consumer, Provider
from vmsvc.simulator.placement.providers_api import PlacementHandler
from vmsvc.simulator.schema import fields, string


class Allocations(PlacementHandler):
    """/allocations/{consumer}."""

    def get(self, consumer_id: str) -> None:
        """The allocations, {} without any."""
        self.require_admin("allocations:list")
        consumer = self.cloud.placement.consumers.get(consumer_id)
        if consumer is None:
            self.answer({"allocations": {}})
            return
        body: dict[str, Any] = {
            "allocations": {
                uuid: {"resources": amounts, "generation": self.cloud.placement.providers[uuid].generation}
                for uuid, amounts in consumer.allocations.items()
            }
        }
        if self.version >= (1, 12):
            body.update(project_id=consumer.project_id, user_id=consumer.user_id)
        if self.version >= (1, 28):
            body["consumer_generation"] = consumer.generation
        if self.version >= (1, 38):
            body["consumer_type"] = consumer.type
        self.answer(body)

    def put(self, consumer_id: str) -> None:
        """Replace the allocations. Answers 409 without capacity."""
        self.require_admin("allocations:update")
        body, placement = self.body(), self.cloud.placement
        queries.check_body(queries.allocations(self.version), body)
        if not re.fullmatch(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}", consumer_id):
            raise bad_request(f"Malformed consumer_uuid: {consumer_id}")
        allocations = body["allocations"]
        if isinstance(allocations, list):
            allocations = {each["resource_provider"]["uuid"]: each for each in allocations}
        consumer = placement.consumers.get(consumer_id)
        generation = consumer.generation if consumer else None
        if self.version >= (1, 28) and body.get("consumer_generation") != generation:
            raise ApiError(
                409,
                "consumer generation conflict - expected "
                f"{'null' if generation is None else generation} but "
                f"got {body.get('consumer_generation')}",
            )
        missing = [uuid for uuid in allocations if uuid not in placement.providers]
        if missing:
            raise bad_request(f"Allocation for resource provider '{missing[0]}' that does not exist.")
        classes = {name for each in allocations.values() for name in each["resources"]}
        if unknown := sorted(classes - set(placement.classes())):
            raise bad_request(
                f"Unable to allocate inventory for consumer {consumer_id}: No such resource class {unknown[0]}."
            )
        claim = Consumer(
            consumer_id,
            body.get("project_id", ""),
            body.get("user_id", ""),
            {uuid: dict(each["resources"]) for uuid, each in allocations.items()},
            type=body.get("consumer_type", "unknown"),
        )
        if not claim.allocations:
            placement.release(consumer_id, by_claim=True)
        elif not placement.claim(claim):
            raise ApiError(409, self._why_not(claim))
        self.reply(204)

    def _why_not(self, claim: Consumer) -> str:
        """The message of the 409: which class does not fit, and why (measured)."""
        placement = self.cloud.placement
        for uuid, amounts in claim.allocations.items():
            for name, amount in amounts.items():
                if not placement.fits(placement.providers[uuid], {name: amount}):
                    reason = (
                        "exceed the capacity"
                        if placement.admits(placement.providers[uuid], name, amount)
                        else "violate inventory constraints"
                    )
                    return (
                        f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource "
                        f"provider '{uuid}'. The requested amount would {reason}."
                    )
        return "Unable to allocate inventory"

    def delete(self, consumer_id: str) -> None:
        self.require_admin("allocations:delete")
        if not self.cloud.placement.release(consumer_id):
            raise not_found(f"No allocations for consumer '{consumer_id}'")
        self.reply(204)


class Candidates(PlacementHandler):
    """GET /allocation_candidates, which has hosts too that are disabled or that a filter rejects (measured)."""

    def get(self) -> None:
        self.require_version(1, 10)
        self.require_admin("allocation_candidates:list")
        queries.check_query(queries.candidates(self.version), self.queries)
        if not any(name.startswith("resources") for name in self.query):
            raise bad_request("There must be at least one resources or resources[$S] parameter.")
        if suffixed := self._suffixes():
            raise bad_request(
                "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - "
                f"{suffixed}."
            )
        tree = self.query.get("in_tree")
        if tree is not None:
            queries.require_uuid("in_tree", tree)
        placement = self.cloud.placement
        wanted = queries.filters(placement, self.queries, self.version, True)
        request = wanted.resources
        providers = placement.providers.values() if tree is None else placement.tree_at(tree)
        found = [each for each in providers if wanted.passes(placement, each)]
        found = found[: int(self.query.get("limit", 0)) or None]
        self.answer(
            {
                "allocation_requests": [self._request(each, request) for each in found],
                "provider_summaries": {each.uuid: self._summary(each) for each in found},
            }
        )

    def _suffixes(self) -> list[str]:
        """The suffixes of groups of filters that have no resources."""
        kinds = ("required", "member_of", "in_tree")
        suffixes = {name.removeprefix(kind) for kind in kinds for name in self.query if name.startswith(kind)}
        return sorted(suffix for suffix in suffixes if suffix and f"resources{suffix}" not in self.query)

    def _request(self, provider: Provider, request: dict[str, int]) -> dict[str, Any]:
        if self.version < (1, 12):
            return {"allocations": [{"resource_provider": {"uuid": provider.uuid}, "resources": request}]}
        view: dict[str, Any] = {"allocations": {provider.uuid: {"resources": request}}}
        if self.version >= (1, 34):
            view["mappings"] = {"": [provider.uuid]}
        return view

    def _summary(self, provider: Provider) -> dict[str, Any]:
        used = self.cloud.placement.usage(provider)
        view: dict[str, Any] = {
            "resources": {
                name: {"capacity": provider.capacity(name), "used": used[name]} for name in provider.inventories
            }
        }
        if self.version >= (1, 17):
            view["traits"] = provider.traits
        if self.version >= (1, 29):
            view.update(parent_provider_uuid=None, root_provider_uuid=provider.uuid)
        return view


class ProjectUsages(PlacementHandler):
    """GET /usages?project_id=: sums over a project's consumers. A member may read those of the own project
    (measured)."""

    def get(self) -> None:
        self.require_version(1, 9)
        project_id = self.query.get("project_id", "")
        known = {name: string(1) for name in ("project_id", "user_id")}
        if self.version >= (1, 38):
            known["consumer_type"] = string(1, pattern="^[A-Z0-9_]+$|^all$|^unknown$")
        queries.check_query(fields(known, "project_id"), self.queries)
        if project_id != self.token.project_id:
            self.require_admin("usages")
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
    """Any other path: 404."""

    def missing(self) -> None:
        raise not_found("")

    get = post = put = delete = missing


routes = [
    (r"/placement/allocations/([^/]+)", Allocations),
    (r"/placement/allocation_candidates", Candidates),
    (r"/placement/usages", ProjectUsages),
    (r"/placement/.*", Missing),
]
