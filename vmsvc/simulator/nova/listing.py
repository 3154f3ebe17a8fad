"""GET /servers: filters, order and pages, with the peculiarities of Nova (measured)."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice

from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import ApiError, bad_request, forbidden, not_allowed
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.nova.servers import REBOOTS, STATUS, Server

STATUSES = {
    *STATUS.values(),
    *REBOOTS.values(),
    "PASSWORD",
    "REBUILD",
    "MIGRATING",
    "RESIZE",
    "REVERT_RESIZE",
    "UNKNOWN",
}
#: What any user may filter by. Nova ignores the other filters when a member uses them (measured: host, uuid,
#: deleted).
MEMBER_FILTERS = {
    "name",
    "status",
    "reservation_id",
    "changes-since",
    "changes-before",
    "image",
    "flavor",
    "ip",
    "ip6",
    "tags",
    "tags-any",
    "not-tags",
    "not-tags-any",
    "locked",
    "availability_zone",
    "config_drive",
    "key_name",
    "created_at",
    "launched_at",
    "terminated_at",
    "power_state",
    "task_state",
    "vm_state",
    "progress",
    "user_id",
    "hostname",
}
ADMIN_FILTERS = {
    "host",
    "node",
    "uuid",
    "project_id",
    "tenant_id",
    "deleted",
    "all_tenants",
    "hypervisor_hostname",
    "metadata",
    "system_metadata",
    "display_name",
    "root_device_name",
    "soft_deleted",
    "access_ip_v4",
    "access_ip_v6",
}
PAGING = {"limit", "marker", "sort_key", "sort_dir"}
SORTS = {
    "created_at": "number",
    "display_name": "name",
    "uuid": "id",
    "updated_at": "updated",
    "vm_state": "vm_state",
    "launched_at": "launched_at",
    "host": "host",
    "power_state": "power_state",
    "project_id": "project_id",
    "task_state": "task_state",
    "key_name": "key_name",
    "availability_zone": "az",
}


class Listing:
    """The servers of one GET /servers. `query` has the last value of each parameter. Raises ApiError for a bad one."""

    def __init__(self, cloud: Cloud, token: Token, query: dict[str, str], version: tuple[int, int]):
        self._cloud = cloud
        self._token = token
        self.query = query
        self._version = version
        self._check()

    def _check(self) -> None:
        query = self.query
        for name in query:
            known = name in MEMBER_FILTERS | ADMIN_FILTERS | PAGING or name.startswith("_")
            if not known and self._version >= (2, 75):
                raise bad_request(f"'{name}' does not match any of the regexes: '^_'")
        if not re.fullmatch("[0-9]*", query.get("limit", "")):
            raise _invalid("limit", query["limit"], f"'{query['limit']}' does not match '^[0-9]*$'")
        if query.get("sort_dir", "asc") not in ("asc", "desc"):
            raise bad_request("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'")
        for name in ("tags", "tags-any", "not-tags", "not-tags-any"):
            if query.get(name) == "":
                raise _invalid(name, "", "'' is not a 'regex'")
        for name in ("locked", "all_tenants"):
            _boolean(query.get(name) or "0")
        if query.get("sort_key", "created_at") not in SORTS:
            raise _invalid("sort_key", query["sort_key"], f"'{query['sort_key']}' is not one of {list(SORTS)}")
        if "metadata" in query and self._token.is_admin:
            raise bad_request("Invalid filter field: metadata.")
        if self._of_all_projects() and not self._token.is_admin:
            raise not_allowed("os_compute_api:servers:index:get_all_tenants")
        if "status" in query and query["status"].upper() not in STATUSES:
            raise bad_request("Invalid status value")
        if query.get("status", "").upper() == "DELETED" and not self._token.is_admin:
            raise forbidden("Only administrators may list deleted instances")

    def _of_all_projects(self) -> bool:
        return self.query.get("all_tenants") == "" or _boolean(self.query.get("all_tenants", "0"))

    @property
    def limit(self) -> int:
        limit = int(self.query.get("limit") or self._cloud.settings.max_limit)
        return min(limit, int(self._cloud.settings.max_limit))

    def page(self) -> tuple[list[Server], bool]:
        """The servers of this page, and whether the answer has a link to a next page."""
        servers = list(islice(self._visible(self._ordered()), self.limit + 1))
        # Nova links to a next page whenever the page is full (measured: limit=1 with one server).
        return servers[: self.limit], len(servers) >= self.limit > 0

    def _candidates(self) -> Iterable[Server]:
        project = None if self._of_all_projects() else self._token.project_id
        if "changes-since" in self.query or "changes-before" in self.query:
            return self._cloud.servers.changed_since(project, _moment(self.query.get("changes-since"), "changes-since"))
        if self._token.is_admin and (
            self.query.get("deleted", "").lower() in ("true", "1") or self.query.get("status", "").upper() == "DELETED"
        ):
            return self._cloud.servers.deleted(project)
        if "tags" in self.query and self._version >= (2, 26):
            return self._tagged(project, self.query["tags"].split(",")[0])
        return self._cloud.servers.live(project, self._after_marker())

    def _tagged(self, project: str | None, tag: str) -> list[Server]:
        servers = (self._cloud.servers.all[server_id] for server_id in self._cloud.servers.tagged.get(tag, ()))
        return sorted((each for each in servers if project in (None, each.project_id)), key=lambda each: -each.number)

    def _after_marker(self) -> int | None:
        if "marker" not in self.query or "sort_key" in self.query:
            return None
        return self._marker().number

    def _marker(self) -> Server:
        server = self._cloud.servers.all.get(self.query["marker"])
        if server is None:
            raise bad_request(f"marker [{self.query['marker']}] not found")
        return server

    def _ordered(self) -> Iterator[Server]:
        servers = self._candidates()
        if "sort_key" in self.query:
            key = SORTS[self.query["sort_key"]]
            servers = sorted(
                servers,
                key=lambda each: (
                    getattr(each, key) is None,
                    getattr(each, key) or 0
                    if key in ("number", "updated", "launched_at", "power_state")
                    else str(getattr(each, key)),
                    each.number,
                ),
                reverse=self.query.get("sort_dir", "desc") == "desc",
            )
        if "marker" not in self.query:
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
        return self._version < (2, 69) or bool(set(self.query) - {"all_tenants"})

    def _tests(self) -> list[Callable[[Server], bool]]:
        query, tests = self.query, []
        if "name" in query:
            try:
                pattern = re.compile(query["name"])
            except re.error:
                raise _invalid("name", query["name"], f"'{query['name']}' is not a 'regex'") from None
            tests.append(lambda server: pattern.search(server.name) is not None)
        if "status" in query:
            tests.append(lambda server: server.status == query["status"].upper())
        if "changes-before" in query:
            before = _moment(query["changes-before"], "changes-before")
            tests.append(lambda server: int(server.updated) <= before)
        for name, attribute in (
            ("vm_state", "vm_state"),
            ("task_state", "task_state"),
            ("key_name", "key_name"),
            ("image", "image_id"),
            ("availability_zone", "az"),
            ("user_id", "user_id"),
            ("power_state", "power_state"),
        ):
            if name in query:
                tests.append(partial(_shows, attribute, query[name]))
        if "flavor" in query:
            tests.append(lambda server: server.flavor["id"] == query["flavor"])
        if "locked" in query and self._version >= (2, 73):
            tests.append(lambda server: (server.locked_by is not None) == _boolean(query["locked"]))
        return tests + self._tag_tests() + self._admin_tests()

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
            partial(_is_tagged, check, frozenset(self.query[name].split(",")))
            for name, check in checks.items()
            if name in self.query
        ]

    def _admin_tests(self) -> list[Callable[[Server], bool]]:
        """The filters for admins. Nova ignores them when a member uses them (measured)."""
        if not self._token.is_admin:
            return []
        return [
            partial(_shows, attribute, self.query[name])
            for name, attribute in (
                ("host", "host"),
                ("node", "host"),
                ("uuid", "id"),
                ("project_id", "project_id"),
                ("tenant_id", "project_id"),
            )
            if name in self.query
        ]


def _shows(attribute: str, text: str, server: Server) -> bool:
    """The filter on a field of servers."""
    return str(getattr(server, attribute)) == text


def _is_tagged(check: Callable[[frozenset[str], frozenset[str]], bool], wanted: frozenset[str], server: Server) -> bool:
    """The filter on tags; `check` compares the wanted ones with the server's."""
    return check(wanted, frozenset(server.tags))


def _invalid(name: str, value: str, text: str) -> ApiError:
    return bad_request(f"Invalid input for query parameters {name}. Value: {value}. {text}")


def _boolean(text: str) -> bool:
    """A boolean of the query. Raises ApiError 400 for another word (measured)."""
    word = text.strip().lower()
    if word not in ("0", "1", "f", "false", "n", "no", "off", "on", "t", "true", "y", "yes"):
        raise bad_request(
            f"Unrecognized value '{text}', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', "
            "'off', 'on', 't', 'true', 'y', 'yes'"
        )
    return word in ("1", "t", "true", "on", "y", "yes")


def _moment(text: str | None, name: str) -> float:
    if text is None:
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(name, text, f"'{text}' is not a 'date-time'") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
