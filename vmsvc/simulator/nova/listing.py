"""GET /servers: filters, order and pages, with the peculiarities of Nova (measured)."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice, zip_longest
from typing import Any

from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import bad_request, forbidden, not_allowed
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.nova import schemas
from vmsvc.simulator.nova.servers import STATUS, TASK_STATUS, Server

STATUSES = {*STATUS.values(), *TASK_STATUS.values()}
#: What any user may filter by, and since which microversion. Nova ignores the other filters when a member uses them
#: (measured: host, uuid, deleted).
MEMBER_FILTERS = {
    (2, 1): ("reservation_id", "name", "status", "image", "flavor", "ip", "changes-since", "all_tenants"),
    (2, 5): ("ip6",),
    (2, 26): ("tags", "tags-any", "not-tags", "not-tags-any"),
    (2, 66): ("changes-before",),
    (2, 73): ("locked",),
    (2, 83): (
        *("availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at"),
        *("power_state", "task_state", "vm_state", "progress", "user_id"),
    ),
    (2, 90): ("hostname",),
}
PAGING = ("limit", "marker", "sort_key", "sort_dir")
#: What Nova joins to its rows of servers; as filters they are refused.
JOINED = (
    *("block_device_mapping", "services", "metadata", "system_metadata", "info_cache", "security_groups"),
    "pci_devices",
)


def _seconds(moment: float | None) -> str | None:
    """A time as the database compares it with a filter."""
    return None if moment is None else datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%d %H:%M:%S")


#: Filter -> the text that it is compared with; None of a server that no filter finds. The first ones have to be equal,
#: the others are regular expressions, which the database compares without case (measured).
EXACT: dict[str, Callable[[Server], str | None]] = {
    "project_id": lambda server: server.project_id,
    "tenant_id": lambda server: server.project_id,
    "user_id": lambda server: server.user_id,
    "image": lambda server: server.image_id,
    "image_ref": lambda server: server.image_id,
    "vm_state": lambda server: server.vm_state,
    "task_state": lambda server: server.task_state,
    "uuid": lambda server: server.id,
    "host": lambda server: server.host,
    "flavor": lambda server: server.flavor["id"],
}
MATCHED: dict[str, Callable[[Server], str | None]] = {
    "name": lambda server: server.name,
    "display_name": lambda server: server.name,
    "display_description": lambda server: server.description,
    "reservation_id": lambda server: server.reservation_id,
    "hostname": lambda server: server.hostname,
    "node": lambda server: server.host,
    "key_name": lambda server: server.key_name,
    "availability_zone": lambda server: server.az or None,
    "config_drive": lambda server: "1" if server.config_drive else "",
    "created_at": lambda server: _seconds(server.created),
    "launched_at": lambda server: _seconds(server.launched_at),
    "terminated_at": lambda server: _seconds(server.terminated_at),
    "power_state": lambda server: str(server.power_state),
    "progress": lambda server: "0",
    "launch_index": lambda server: str(server.launch_index),
    "locked_by": lambda server: server.locked_by,
    "root_device_name": lambda server: "/dev/sda" if server.host else None,
    "access_ip_v4": lambda server: server.access_ip_v4 or None,
    "access_ip_v6": lambda server: server.access_ip_v6 or None,
    "kernel_id": lambda server: "",
    "ramdisk_id": lambda server: "",
}
#: Sort key -> what is compared.
SORTS: dict[str, Callable[[Server], Any]] = {
    "created_at": lambda server: server.number,
    "display_name": lambda server: server.name.lower(),
    "display_description": lambda server: server.description,
    "uuid": lambda server: server.id,
    "updated_at": lambda server: server.updated,
    "vm_state": lambda server: server.vm_state,
    "launched_at": lambda server: server.launched_at,
    "terminated_at": lambda server: server.terminated_at,
    "host": lambda server: server.host,
    "node": lambda server: server.host,
    "power_state": lambda server: server.power_state,
    "project_id": lambda server: server.project_id,
    "user_id": lambda server: server.user_id,
    "task_state": lambda server: server.task_state,
    "key_name": lambda server: server.key_name,
    "availability_zone": lambda server: server.az or None,
    "hostname": lambda server: server.hostname,
    "image_ref": lambda server: server.image_id,
    "instance_type_id": lambda server: server.flavor["id"],
    "launch_index": lambda server: server.launch_index,
    "locked": lambda server: server.locked_by is not None,
    "access_ip_v4": lambda server: server.access_ip_v4 or None,
    "access_ip_v6": lambda server: server.access_ip_v6 or None,
    "config_drive": lambda server: server.config_drive,
}


class Listing:
    """The servers of one GET /servers. `query` has all values of each parameter. Raises ApiError for a bad one."""

    def __init__(
        self, cloud: Cloud, token: Token, query: dict[str, list[str]], version: tuple[int, int], detail: bool = False
    ):
        schemas.check_query(schemas.list_query(version), query)
        self._cloud = cloud
        self._token = token
        self._version = version
        self._statuses = [status.upper() for status in query.get("status", ())]
        self._sort = list(zip_longest(query.get("sort_key", ()), query.get("sort_dir", ())))
        self.given = {name: values[-1] for name, values in query.items()}
        #: The filters that count: a member's others are ignored.
        self.filters = {name: value for name, value in self.given.items() if name not in PAGING and self._counts(name)}
        self._all_projects = self._asks_for_all_projects(detail)
        self.finds_nothing = False
        self._check()

    def _counts(self, name: str) -> bool:
        return self._token.is_admin or any(
            name in names for since, names in MEMBER_FILTERS.items() if self._version >= since
        )

    def _asks_for_all_projects(self, detail: bool) -> bool:
        asked = self.filters.get("all_tenants")
        if asked is None or not (asked == "" or _boolean(asked)):
            return False
        if not self._token.is_admin:
            raise not_allowed(f"os_compute_api:servers:{'detail' if detail else 'index'}:get_all_tenants")
        return True

    def _check(self) -> None:
        """Raise ApiError for what the schema lets pass."""
        for name in self.filters:
            if name in JOINED or name.startswith("_"):
                raise bad_request(f"Invalid filter field: {name}.")
        if self._statuses and not STATUSES & set(self._statuses):
            if self._version >= (2, 38):
                raise bad_request("Invalid status value")
            self.finds_nothing = True
        if set(self._statuses) & STATUSES == {"DELETED"} and not self._token.is_admin:
            raise forbidden("Only administrators may list deleted instances")
        since, before = (_moment(self.filters.get(f"changes-{word}")) for word in ("since", "before"))
        if before and since > before:
            raise bad_request("The value of changes-since must be less than or equal to changes-before.")
        if "locked" in self.filters:
            _boolean(self.filters["locked"])
        for key, direction in self._sort:
            if direction not in (None, "asc", "desc"):
                raise bad_request("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'")
            if key in ("host", "node") and not self._token.is_admin:
                raise forbidden(f"Only administrators can sort servers by {key}")

    @property
    def limit(self) -> int:
        limit = int(self.given.get("limit") or self._cloud.settings.max_limit)
        return min(limit, int(self._cloud.settings.max_limit))

    def page(self) -> tuple[list[Server], bool]:
        """The servers of this page, and whether the answer has a link to a next page."""
        servers = list(islice(self._visible(self._ordered()), self.limit + 1))
        # Nova links to a next page whenever the page is full (measured: limit=1 with one server).
        return servers[: self.limit], len(servers) >= self.limit > 0

    def _candidates(self) -> Iterable[Server]:
        project, filters = None if self._all_projects else self._token.project_id, self.filters
        if self.finds_nothing:
            return ()
        if "changes-since" in filters or "changes-before" in filters:
            return self._cloud.servers.changed_since(project, _moment(filters.get("changes-since")))
        if self._token.is_admin and (
            filters.get("deleted", "").lower() in ("true", "1", "yes", "on", "t", "y") or self._statuses == ["DELETED"]
        ):
            return self._cloud.servers.deleted(project)
        if "tags" in filters and self._version >= (2, 26):
            return self._tagged(project, filters["tags"].split(",")[0])
        return self._cloud.servers.live(project, self._after_marker())

    def _tagged(self, project: str | None, tag: str) -> list[Server]:
        servers = (self._cloud.servers.all[server_id] for server_id in self._cloud.servers.tagged.get(tag, ()))
        return sorted((each for each in servers if project in (None, each.project_id)), key=lambda each: -each.number)

    def _after_marker(self) -> int | None:
        if "marker" not in self.given or self._sort:
            return None
        return self._marker().number

    def _marker(self) -> Server:
        server = self._cloud.servers.all.get(self.given["marker"])
        if server is None:
            raise bad_request(f"marker [{self.given['marker']}] not found")
        return server

    def _ordered(self) -> Iterator[Server]:
        servers = self._candidates()
        keys = [(key, direction or "desc") for key, direction in self._sort if key in SORTS]
        if keys:
            servers = sorted(servers, key=lambda each: -each.number)
        for key, direction in reversed(keys):
            servers = sorted(servers, key=partial(_rank, SORTS[key]), reverse=direction == "desc")
        if "marker" not in self.given:
            yield from servers
            return
        marker, passed = self._marker(), self._after_marker() is not None and isinstance(servers, Iterator)
        for server in servers:
            if passed:
                yield server
            passed = passed or server.id == marker.id

    def _visible(self, servers: Iterable[Server]) -> Iterator[Server]:
        tests = self._tests()
        skips_cells = self._skips_down_cells()
        for server in servers:
            host = self._cloud.hosts.all.get(server.chosen or "")
            if host is not None and host.cell_down and skips_cells:
                continue
            if all(test(server) for test in tests):
                yield server

    def _skips_down_cells(self) -> bool:
        """True when the list leaves out the servers of a cell that is down: with paging, sorting or any filter, and
        below 2.69 (read)."""
        return self._version < (2, 69) or bool({*self.filters, *(set(self.given) & set(PAGING))} - {"all_tenants"})

    def _tests(self) -> list[Callable[[Server], bool]]:
        filters = self.filters
        tests: list[Callable[[Server], bool]] = []
        if self._statuses:
            tests.append(lambda server: server.status in self._statuses)
        if "changes-before" in filters:
            before = _moment(filters["changes-before"])
            tests.append(lambda server: int(server.updated) <= before)
        for name, text in filters.items():
            if name in EXACT and (name != "tenant_id" or self._all_projects):
                tests.append(partial(_equals, EXACT[name], text))
            elif name in MATCHED:
                pattern = re.compile(_boolean_text(text) if name == "config_drive" else text, re.IGNORECASE)
                tests.append(partial(_matches, MATCHED[name], pattern))
        if "ip" in filters or "ip6" in filters:
            tests.append(self._has_address)
        if "locked" in filters and self._version >= (2, 73):
            tests.append(lambda server: (server.locked_by is not None) == _boolean(filters["locked"]))
        return tests + self._tag_tests()

    def _has_address(self, server: Server) -> bool:
        """The filters ip and ip6: a part of an address of the server."""
        addresses = [address for port in self._cloud.ports.of(server.id) for address in port.addresses]
        wanted = [self.filters[name] for name in ("ip", "ip6") if name in self.filters]
        return all(any(part in address for address in addresses) for part in wanted)

    def _tag_tests(self) -> list[Callable[[Server], bool]]:
        """The filters on tags. Below 2.26 Nova ignores them and lists all servers (measured)."""
        if self._version < (2, 26):
            return []
        checks: dict[str, Callable[[frozenset[str], frozenset[str]], bool]] = {
            "tags": lambda wanted, has: wanted <= has,
            "tags-any": lambda wanted, has: bool(wanted & has),
            "not-tags": lambda wanted, has: not wanted <= has,
            "not-tags-any": lambda wanted, has: not wanted & has,
        }
        return [
            partial(_is_tagged, check, frozenset(self.filters[name].split(",")))
            for name, check in checks.items()
            if name in self.filters
        ]


def _equals(value: Callable[[Server], str | None], text: str, server: Server) -> bool:
    """The filter on a field that has to be equal."""
    return value(server) == text


def _matches(value: Callable[[Server], str | None], pattern: re.Pattern[str], server: Server) -> bool:
    """The filter by a regular expression."""
    found = value(server)
    return found is not None and pattern.search(found) is not None


def _rank(value: Callable[[Server], Any], server: Server) -> tuple[bool, Any]:
    """Where a server comes in a list; MariaDB sorts null below all else."""
    found = value(server)
    return found is not None, found if found is not None else 0


def _is_tagged(check: Callable[[frozenset[str], frozenset[str]], bool], wanted: frozenset[str], server: Server) -> bool:
    """The filter on tags; `check` compares the wanted ones with the server's."""
    return check(wanted, frozenset(server.tags))


def _boolean(text: str) -> bool:
    """A boolean of the query. Raises ApiError 400 for another word (measured)."""
    word = text.strip().lower()
    if word not in ("0", "1", "f", "false", "n", "no", "off", "on", "t", "true", "y", "yes"):
        raise bad_request(
            f"Unrecognized value '{text}', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', "
            "'off', 'on', 't', 'true', 'y', 'yes'"
        )
    return word in ("1", "t", "true", "on", "y", "yes")


def _boolean_text(text: str) -> str:
    return {"true": "1", "false": "^$"}.get(text.lower(), text)


def _moment(text: str | None) -> float:
    if text is None:
        return 0.0
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
