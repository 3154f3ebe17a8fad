"""Neutron's lists: filters, order, pages and `fields` (measured)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from vmsvc.simulator.errors import ApiError, bad_request
from vmsvc.simulator.paging import next_page

_TIMES = ("created_at", "updated_at", "revision_number", "description")
_TAGS = ("tags", "tags-any", "not-tags", "not-tags-any")
_OWNER = ("id", "name", "project_id", "tenant_id", *_TIMES, *_TAGS)
#: What each kind of item can be filtered and sorted by.
ATTRIBUTES = {
    "networks": (
        *_OWNER,
        *("admin_state_up", "mtu", "status", "shared", "router:external", "provider:network_type", "vlan_transparent"),
        *("provider:physical_network", "provider:segmentation_id", "is_default", "availability_zone_hints", "qinq"),
        *("ipv4_address_scope", "ipv6_address_scope"),
    ),
    "subnets": (
        *_OWNER,
        *("network_id", "ip_version", "cidr", "gateway_ip", "enable_dhcp", "subnetpool_id", "ipv6_ra_mode", "shared"),
        *("ipv6_address_mode", "segment_id", "router:external"),
    ),
    "ports": (
        *_OWNER,
        *("network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner", "fixed_ips"),
        *("security_groups", "binding:host_id", "binding:vnic_type", "binding:vif_type", "ip_address"),
    ),
    "security_groups": (*_OWNER, "stateful", "shared"),
    "security_group_rules": (
        *("id", "project_id", "tenant_id", *_TIMES, "security_group_id", "ethertype", "direction", "protocol"),
        *("port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id", "belongs_to_default_sg"),
    ),
}
_BOOLEANS = ("admin_state_up", "shared", "router:external", "enable_dhcp", "stateful", "is_default")
_NUMBERS = ("mtu", "ip_version", "revision_number", "port_range_min", "port_range_max")
_OTHER = ("fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse")
_UNSORTED = ("tags", "tags-any", "not-tags", "not-tags-any", "fixed_ips", "security_groups")


class Listed(NamedTuple):
    """A page of a list, and its links."""

    items: list[dict[str, Any]]
    links: list[dict[str, str]]


class InvalidInput(ApiError):
    """A value of another type than the attribute's."""

    def __init__(self, text: str):
        super().__init__(400, f"Invalid input for operation: {text}.")


def listed(kind: str, items: list[dict[str, Any]], query: dict[str, list[str]], path: str) -> Listed:
    """The items that a query asks for. Raises ApiError 400 for an unknown attribute or a wrong value."""
    known = ATTRIBUTES[kind]
    filters = {name: values for name, values in query.items() if name not in _OTHER}
    unknown = [name for name in filters if name not in known]
    if unknown:
        raise bad_request(f"{unknown} is invalid attribute for filtering")
    limit = _limit(query)
    items = _sorted([item for item in items if _passes(item, filters)], query, known)
    links: list[dict[str, str]] = []
    if limit:
        items, links = _page(items, query, limit, path)
    return Listed([shown(item, query) for item in items], links)


def shown(item: dict[str, Any], query: dict[str, list[str]]) -> dict[str, Any]:
    """The fields of an item that a query asks for; all without `fields`."""
    wanted = {name for value in query.get("fields", ()) for name in value.split(",")}
    return {name: value for name, value in item.items() if name in wanted} if "fields" in query else item


def _limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", ["0"])[-1]
    if not text.isdigit():
        raise bad_request(f"Bad limit request: Limit must be an integer 0 or greater and not '{text}'.")
    return int(text)


def _passes(item: dict[str, Any], filters: dict[str, list[str]]) -> bool:
    return all(_TESTS.get(name, _equals)(item, name, values) for name, values in filters.items())


def _equals(item: dict[str, Any], name: str, values: list[str]) -> bool:
    """The filter on one attribute: it is one of the values."""
    if name in _BOOLEANS:
        wanted = {_boolean(value) for value in values}
        return bool(item.get(name, False)) in wanted
    if name in _NUMBERS:
        return item.get(name) in {_number(value) for value in values}
    found = item.get(name)
    return ("" if found is None else str(found)) in values


def _boolean(value: str) -> bool:
    if value.lower() not in ("true", "1", "false", "0"):
        raise InvalidInput(f"'{value}' cannot be converted to boolean")
    return value.lower() in ("true", "1")


def _number(value: str) -> int:
    if not value.lstrip("-").isdigit():
        raise InvalidInput(f"'{value}' is not an integer")
    return int(value)


def _has_groups(item: dict[str, Any], _name: str, values: list[str]) -> bool:
    return bool(set(values) & set(item["security_groups"]))


def _has_address(item: dict[str, Any], _name: str, values: list[str]) -> bool:
    for value in values:
        key, equal, text = value.partition("=")
        if not equal:
            raise InvalidInput(f"'{value}' is not of the form <key>=[value]")
        if any(_address_matches(each, key, text) for each in item["fixed_ips"]):
            return True
    return False


def _address_matches(address: dict[str, str], key: str, text: str) -> bool:
    if key == "ip_address_substr":
        return text in address["ip_address"]
    return address.get(key) == text


def _tag_test(all_of: bool, negated: bool) -> Callable[[dict[str, Any], str, list[str]], bool]:
    def test(item: dict[str, Any], _name: str, values: list[str]) -> bool:
        wanted, has = {tag for value in values for tag in value.split(",")}, set(item.get("tags", ()))
        return (wanted <= has if all_of else bool(wanted & has)) != negated

    return test


_TESTS: dict[str, Callable[[dict[str, Any], str, list[str]], bool]] = {
    "fixed_ips": _has_address,
    "security_groups": _has_groups,
    "tags": _tag_test(True, False),
    "tags-any": _tag_test(False, False),
    "not-tags": _tag_test(True, True),
    "not-tags-any": _tag_test(False, True),
}


def _sorted(items: list[dict[str, Any]], query: dict[str, list[str]], known: tuple[str, ...]) -> list[dict[str, Any]]:
    """The items in the order that the query asks for, and then in that of their ids."""
    keys, ways = query.get("sort_key", []), query.get("sort_dir", [])
    if len(keys) != len(ways):
        raise bad_request("The number of sort_keys and sort_dirs must be same")
    bad = [key for key in keys if key not in known or key in _UNSORTED]
    if bad:
        raise bad_request(f"{bad} is invalid attribute for sort_keys")
    bad = [way for way in ways if way not in ("asc", "desc")]
    if bad:
        raise bad_request(f"{bad} is invalid value for sort_dirs, valid value is 'asc' and 'desc'")
    items = sorted(items, key=lambda item: str(item["id"])) if keys or "limit" in query else items
    for key, way in reversed(list(zip(keys, ways))):
        items = sorted(items, key=partial(_rank, key), reverse=way == "desc")
    return items


def _rank(key: str, item: dict[str, Any]) -> tuple[bool, Any]:
    """Where an item comes in a list; null comes first."""
    return item.get(key) is not None, item.get(key) or 0


def _page(
    items: list[dict[str, Any]], query: dict[str, list[str]], limit: int, path: str
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """A page after (with page_reverse: before) the marker, with links to the pages beside it."""
    first = {name: values[-1] for name, values in query.items() if name not in ("marker", "page_reverse")}
    marker, back = query.get("marker", [""])[-1], query.get("page_reverse", [""])[-1].lower() == "true"
    ids = [item["id"] for item in items]
    if marker and marker not in ids:
        raise bad_request(f"Invalid input for operation: marker {marker} could not be found.")
    if back:
        end = ids.index(marker) if marker else len(items)
        page = items[max(0, end - limit) : end]
    else:
        start = ids.index(marker) + 1 if marker else 0
        page = items[start : start + limit]
    links = []
    if len(page) >= limit or back and page:
        links.append({"rel": "next", "href": next_page(path, first, page[-1]["id"])})
    if page:
        href = next_page(path, {**first, "page_reverse": "True"}, page[0]["id"])
        links.append({"rel": "previous", "href": href})
    return page, links
