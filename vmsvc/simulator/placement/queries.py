"""The queries and bodies that Placement takes, by microversion, and the filters of resource providers.

Read in placement/schemas."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from vmsvc.simulator.errors import bad_request
from vmsvc.simulator.placement.model import Placement, Provider
from vmsvc.simulator.schema import UUID, Schema, array, fields, first_problem, nullable, string

Version = tuple[int, int]
#: A group of filters of allocation candidates is marked by this suffix.
_SUFFIX = "([a-zA-Z0-9_-]{1,64})?"
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
CUSTOM = string(0, 255, pattern="^CUSTOM_[A-Z0-9_]+$")
_COUNT: Schema = {"type": ["integer", "string"], "pattern": "^[1-9][0-9]*$", "minimum": 1, "minLength": 1}
_INTEGER: Schema = {"type": "integer"}


def check_query(schema: Schema, query: dict[str, list[str]]) -> None:
    """Raise ApiError 400 when a query has not the form."""
    problem = first_problem(schema, {name: values[-1] for name, values in query.items()})
    if problem is not None:
        raise bad_request(f"Invalid query string parameters: {problem.text}")


def check_body(schema: Schema, body: object) -> None:
    """Raise ApiError 400 when a body has not the form."""
    problem = first_problem(schema, body)
    if problem is not None:
        raise bad_request(f"JSON does not validate: {problem.text}")


@lru_cache(64)
def providers(version: Version) -> Schema:
    """The query of GET /resource_providers."""
    known: dict[str, Schema] = {"name": {"type": "string"}, "uuid": UUID}
    for since, more in (
        ((1, 3), {"member_of": {"type": "string"}}),
        ((1, 4), {"resources": {"type": "string"}}),
        ((1, 14), {"in_tree": UUID}),
        ((1, 18), {"required": {"type": "string"}}),
    ):
        known.update(more if version >= since else {})
    return fields(known)


@lru_cache(64)
def candidates(version: Version) -> Schema:
    """The query of GET /allocation_candidates."""
    known: dict[str, Schema] = {"resources": {"type": "string"}}
    for since, more in (
        ((1, 16), {"limit": _COUNT}),
        ((1, 17), {"required": {"type": "string"}}),
        ((1, 21), {"member_of": {"type": "string"}}),
        ((1, 25), {"group_policy": {"type": "string", "enum": ["none", "isolate"]}}),
        ((1, 31), {"in_tree": {"type": "string"}}),
        ((1, 35), {"root_required": {"type": "string"}}),
        ((1, 36), {"same_subtree": {"type": "string"}}),
    ):
        known.update(more if version >= since else {})
    schema = fields(known)
    if version >= (1, 25):
        names = ("in_tree", "member_of", "required", "resources")
        schema["patternProperties"] = {f"^{name}{_SUFFIX}$": {"type": "string"} for name in names if name in known}
    return schema


_INVENTORY = {
    "reserved": {**_INTEGER, "minimum": 0, "maximum": 2147483647},
    "total": {**_INTEGER, "minimum": 1, "maximum": 2147483647},
    "min_unit": {**_INTEGER, "minimum": 1, "maximum": 2147483647},
    "max_unit": {**_INTEGER, "minimum": 1, "maximum": 2147483647},
    "step_size": {**_INTEGER, "minimum": 1, "maximum": 2147483647},
    "allocation_ratio": {"type": "number", "maximum": 3.40282e38},
}
PUT_INVENTORY = fields(
    {"resource_provider_generation": _INTEGER, **_INVENTORY}, "total", "resource_provider_generation"
)
PUT_INVENTORIES = fields(
    {
        "resource_provider_generation": _INTEGER,
        "inventories": {
            "type": "object",
            "patternProperties": {"^[A-Z0-9_]+$": fields(_INVENTORY, "total")},
            "additionalProperties": False,
        },
    },
    "resource_provider_generation",
    "inventories",
)
_TRAITS = array(string(1, 255, pattern="^[A-Z0-9_]+$"), uniqueItems=True)
PUT_TRAITS = fields(
    {"resource_provider_generation": _INTEGER, "traits": _TRAITS}, "traits", "resource_provider_generation"
)
PROVIDER = fields({"name": string(0, 200), "uuid": UUID, "parent_provider_uuid": nullable(UUID)}, "name")


@lru_cache(64)
def allocations(version: Version) -> Schema:
    """The body of PUT /allocations/{consumer}."""
    resources: Schema = {
        "type": "object",
        "minProperties": 1,
        "patternProperties": {"^[A-Z0-9_]+$": {**_INTEGER, "minimum": 1}},
        "additionalProperties": False,
    }
    if version < (1, 12):
        provider = fields({"uuid": UUID}, "uuid")
        one = fields({"resource_provider": provider, "resources": resources}, "resource_provider", "resources")
        body: dict[str, Schema] = {"allocations": array(one, minItems=1)}
    else:
        one = fields({"generation": _INTEGER, "resources": resources}, "resources")
        body = {
            "allocations": {
                "type": "object",
                "minProperties": 0 if version >= (1, 28) else 1,
                "patternProperties": {"^[0-9a-fA-F-]{36}$": one},
                "additionalProperties": False,
            }
        }
    required = ["allocations"]
    if version >= (1, 8):
        body |= {"project_id": string(1, 255), "user_id": string(1, 255)}
        required += ["project_id", "user_id"]
    if version >= (1, 28):
        body["consumer_generation"] = {"type": ["integer", "null"]}
        required.append("consumer_generation")
    if version >= (1, 34):
        body["mappings"] = {"type": "object"}
    if version >= (1, 38):
        body["consumer_type"] = string(1, 255, pattern="^[A-Z0-9_]+$")
        required.append("consumer_type")
    return fields(body, *required)


@dataclass
class Filters:
    """What a query asks of a provider. `required`: of each set a trait; `members`: of each set an aggregate."""

    resources: dict[str, int] = field(default_factory=dict)
    required: list[set[str]] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    members: list[set[str]] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)

    def passes(self, placement: Placement, provider: Provider) -> bool:
        """True for a provider that the filters let pass."""
        traits, aggregates = set(provider.traits), set(provider.aggregates)
        return (
            placement.fits(provider, self.resources)
            and all(traits & each for each in self.required)
            and not traits & self.forbidden
            and all(aggregates & each for each in self.members)
            and not aggregates & self.foreign
        )


def filters(placement: Placement, query: dict[str, list[str]], version: Version, candidates_of: bool) -> Filters:
    """Read the filters resources, required and member_of. Raises ApiError 400, as for a trait that does not exist
    (measured)."""
    found = Filters()
    if "resources" in query:
        found.resources = amounts(placement, query["resources"][-1])
    for value in query.get("required", ()):
        _read_traits(found, value, version)
    names = {*found.forbidden, *(name for each in found.required for name in each)}
    if unknown := placement.unknown_traits(names):
        lead = "" if candidates_of else 'Invalid trait(s) in "required" parameter: '
        raise bad_request(f"{lead}No such trait(s): {', '.join(unknown)}.")
    if both := sorted(found.forbidden & {next(iter(each)) for each in found.required if len(each) == 1}):
        raise bad_request(
            "Conflicting required and forbidden traits found in the following traits keys: required: "
            f"({', '.join(both)})"
        )
    for value in query.get("member_of", ()):
        _read_members(found, value)
    return found


def _read_traits(found: Filters, value: str, version: Version) -> None:
    if value.startswith("in:") and version >= (1, 39):
        found.required.append(set(value[3:].split(",")))
        return
    for name in value.split(","):
        if not name.removeprefix("!"):
            raise bad_request(
                "Invalid query string parameters: Expected 'required' parameter value of the form: "
                f"HW_CPU_X86_VMX,!CUSTOM_MAGIC. Got an empty trait in: {value} "
            )
        if name.startswith("!"):
            found.forbidden.add(name[1:])
        else:
            found.required.append({name})


def _read_members(found: Filters, value: str) -> None:
    negated, names = value.startswith("!"), set(value.removeprefix("!").removeprefix("in:").split(","))
    if not all(_UUID.fullmatch(name) for name in names):
        raise bad_request(
            f"Invalid query string parameters: Expected 'member_of' parameter to contain valid UUID(s). Got: {value}"
        )
    if negated:
        found.foreign |= names
    else:
        found.members.append(names)


def amounts(placement: Placement, value: str) -> dict[str, int]:
    """`VCPU:1,MEMORY_MB:1024` as a dictionary. Raises ApiError 400 (measured)."""
    found, classes = {}, placement.classes()
    for part in value.split(","):
        name, _, amount = part.partition(":")
        if not amount.isdigit():
            raise bad_request(
                "Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {value or 'empty string'}."
            )
        if int(amount) < 1:
            raise bad_request(f"Requested resource {name} requires amount >= 1. Got: {amount}.")
        if name not in classes:
            raise bad_request(f"Invalid resource class in resources parameter: No such resource class {name}.")
        found[name] = int(amount)
    return found


def require_uuid(name: str, value: Any) -> None:
    """Raise ApiError 400 for a parameter that has to be a uuid and is none."""
    if not _UUID.fullmatch(value):
        raise bad_request(
            f"Invalid query string parameters: Expected '{name}' parameter to be a format of uuid. Got: {value}"
        )
