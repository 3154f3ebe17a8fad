"""Nova over HTTP: host aggregates, and the migrations of servers; both for admins (measured)."""

from typing import Any

from vmsvc.simulator.clock import micros_text
from vmsvc.simulator.errors import ApiError, bad_request, conflict, not_found
from vmsvc.simulator.nova import schemas
from vmsvc.simulator.nova.aggregates import ZONE, Aggregate
from vmsvc.simulator.nova.api import ComputeHandler
from vmsvc.simulator.nova.migrations import Migration
from vmsvc.simulator.paging import next_page, page

LIVE = "live-migration"
#: The statuses of a live migration that is under way.
IN_PROGRESS = ("queued", "preparing", "running", "post-migrating")


class AggregatesHandler(ComputeHandler):
    """Base of the handlers of aggregates."""

    def view(self, aggregate: Aggregate) -> dict[str, Any]:
        """An aggregate as Nova shows it."""
        view = {
            "id": aggregate.id,
            "name": aggregate.name,
            "availability_zone": aggregate.metadata.get(ZONE),
            "hosts": aggregate.hosts,
            "metadata": aggregate.metadata,
            "created_at": micros_text(aggregate.created),
            "updated_at": micros_text(aggregate.updated),
            "deleted": False,
            "deleted_at": None,
        }
        return view if self.version < (2, 41) else {**view, "uuid": aggregate.uuid}


class Aggregates(AggregatesHandler):
    """/os-aggregates. A zone that the control API has given to hosts shows as an aggregate too."""

    def get(self) -> None:
        self.require_admin("os_compute_api:os-aggregates:index")
        found = list(self.cloud.aggregates.all.values())
        covered = {each.metadata.get(ZONE) for each in found}
        zones = [(name, hosts) for name, hosts in self.cloud.hosts.zones().items() if name not in covered | {"nova"}]
        now = self.cloud.clock.now()
        found += [
            Aggregate(number, hosts[0].provider_id, name, now, None, [host.name for host in hosts], {ZONE: name})
            for number, (name, hosts) in enumerate(zones, 1)
        ]
        self.reply(200, {"aggregates": [self.view(each) for each in found]})

    def post(self) -> None:
        body = self.body()
        schemas.check(schemas.AGGREGATE, body)
        self.require_admin("os_compute_api:os-aggregates:create")
        values = body["aggregate"]
        aggregate = self.cloud.aggregates.add(values["name"], values.get(ZONE), self.cloud.clock.now())
        view = self.view(aggregate)
        del view["hosts"], view["metadata"]
        self.reply(200, {"aggregate": view})


class OneAggregate(AggregatesHandler):
    """/os-aggregates/{id}."""

    def get(self, key: str) -> None:
        self.require_admin("os_compute_api:os-aggregates:show")
        self.reply(200, {"aggregate": self.view(self.cloud.aggregates.get(key))})

    def put(self, key: str) -> None:
        body = self.body()
        schemas.check(schemas.UPDATE_AGGREGATE, body)
        self.require_admin("os_compute_api:os-aggregates:update")
        aggregate, values = self.cloud.aggregates.get(key), body["aggregate"]
        self.cloud.aggregates.rename(aggregate, values.get("name", aggregate.name))
        changes = {ZONE: values[ZONE]} if ZONE in values else {}
        self.cloud.aggregates.set_metadata(aggregate, changes, self.cloud.clock.now())
        self.reply(200, {"aggregate": self.view(aggregate)})

    def delete(self, key: str) -> None:
        self.require_admin("os_compute_api:os-aggregates:delete")
        self.cloud.aggregates.remove(self.cloud.aggregates.get(key))
        self.reply(200)


class AggregateAction(AggregatesHandler):
    """POST /os-aggregates/{id}/action: add_host, remove_host, set_metadata."""

    def post(self, key: str) -> None:
        body = self.body()
        name = next(iter(body), "")
        if name not in schemas.AGGREGATE_ACTIONS or len(body) != 1:
            raise bad_request(f"There is no such action: {name}")
        schemas.check(schemas.AGGREGATE_ACTIONS[name], body)
        self.require_admin(f"os_compute_api:os-aggregates:{name}")
        aggregates, now = self.cloud.aggregates, self.cloud.clock.now()
        aggregate = aggregates.get(key)
        if name == "add_host":
            aggregates.add_host(aggregate, body[name]["host"], now)
        elif name == "remove_host":
            aggregates.remove_host(aggregate, body[name]["host"], now)
        else:
            aggregates.set_metadata(aggregate, body[name]["metadata"], now)
        self.reply(200, {"aggregate": self.view(aggregate)})


class MigrationsHandler(ComputeHandler):
    """Base of the handlers of migrations."""

    def common(self, migration: Migration) -> dict[str, Any]:
        """What both forms of a migration have."""
        view: dict[str, Any] = {
            "id": migration.id,
            "status": migration.status,
            "source_compute": migration.source_compute,
            "source_node": migration.source_node,
            "dest_compute": migration.dest_compute,
            "dest_node": migration.dest_node,
            "dest_host": migration.dest_host,
            "created_at": micros_text(migration.created),
            "updated_at": micros_text(migration.updated),
        }
        if self.version >= (2, 59):
            view["uuid"] = migration.uuid
        if self.version >= (2, 80):
            view.update(user_id=migration.user_id, project_id=migration.project_id)
        return view


class Migrations(MigrationsHandler):
    """GET /os-migrations, the newest first."""

    def get(self) -> None:
        schemas.check_query(schemas.query_of("migrations", self.version), self.queries)
        if not self.token.is_admin:
            own = self.query.get("project_id") == self.token.project_id
            self.require_admin("os_compute_api:os-migrations:index" + (":all_projects" if own else ""))
        names = {"instance_uuid": "instance_uuid", "status": "status", "migration_type": "kind", "user_id": "user_id"}
        names |= {"source_compute": "source_compute", "project_id": "project_id"}
        found = [
            each
            for each in sorted(self.cloud.migrations.values(), key=lambda each: -each.id)
            if all(self.query.get(name) in (None, getattr(each, attribute)) for name, attribute in names.items())
            and self.query.get("host") in (None, each.source_compute, each.dest_compute)
        ]
        query = self.query if self.version >= (2, 59) else {}
        shown, full = page(found, query, lambda each: each.uuid, unknown="Marker {} could not be found.".format)
        body: dict[str, Any] = {"migrations": [self._view(each) for each in shown]}
        if full and self.version >= (2, 59):
            href = next_page(f"{self.address}/v2.1/os-migrations", query, shown[-1].uuid)
            body["migrations_links"] = [{"rel": "next", "href": href}]
        self.reply(200, body)

    def _view(self, migration: Migration) -> dict[str, Any]:
        view = {
            **self.common(migration),
            "instance_uuid": migration.instance_uuid,
            "old_instance_type_id": 1,
            "new_instance_type_id": 1 if migration.old_flavor == migration.new_flavor else 2,
        }
        if self.version >= (2, 23):
            view["migration_type"] = migration.kind
            if migration.kind == LIVE and migration.status in IN_PROGRESS:
                view["links"] = self.links(f"servers/{migration.instance_uuid}/migrations", str(migration.id))
        return view


class ServerMigrations(MigrationsHandler):
    """GET /servers/{id}/migrations: the live migrations that are under way; DELETE of one stops it."""

    def get(self, server_id: str, key: str | None = None) -> None:
        self._require((2, 23))
        server = self.server(server_id)
        self.require_admin(f"os_compute_api:servers:migrations:{'show' if key else 'index'}")
        if key is not None:
            migration = self.cloud.migrations.get(key)
            if migration is None or migration.instance_uuid != server.id:
                raise not_found(f"In-progress live migration {key} is not found for server {server_id}.")
            if migration.kind != LIVE:
                raise not_found(f"Migration {key} for server {server_id} is not live-migration.")
            if migration.status not in IN_PROGRESS:
                raise not_found(f"Live migration {key} for server {server_id} is not in progress.")
            self.reply(200, {"migration": self._view(migration)})
            return
        found = [
            self._view(each)
            for each in self.cloud.migrations.values()
            if each.instance_uuid == server.id and each.kind == LIVE and each.status in IN_PROGRESS
        ]
        self.reply(200, {"migrations": found})

    def _require(self, version: tuple[int, int]) -> None:
        if self.version < version:
            raise not_found("The resource could not be found.")

    def _view(self, migration: Migration) -> dict[str, Any]:
        sizes = {
            f"{kind}_{part}_bytes": None for kind in ("disk", "memory") for part in ("processed", "remaining", "total")
        }
        return {**self.common(migration), **sizes, "server_uuid": migration.instance_uuid}

    def delete(self, server_id: str, key: str | None = None) -> None:
        """Answers 202. The server stays where it is."""
        self._require((2, 24))
        server = self.server(server_id)
        self.require_admin("os_compute_api:servers:migrations:delete")
        self._under_way(server_id, key or "", "abort live migration")
        self.cloud.moves.abort(server)
        self.reply(202)

    def _under_way(self, server_id: str, key: str, verb: str) -> None:
        """Raise ApiError unless the server is migrating by this migration (measured)."""
        server, migration = self.server(server_id), self.cloud.migrations.get(key)
        if server.task_state != "migrating":
            raise conflict(f"Instance {server_id} is in an invalid state for '{verb}'")
        if migration is None or migration.instance_uuid != server_id:
            raise not_found(f"Migration {key} not found for instance {server_id}")
        if migration.status not in IN_PROGRESS:
            raise ApiError(400, f"Migration {key} state of instance {server_id} is {migration.status}.")

    def post(self, server_id: str, key: str | None = None) -> None:
        """POST …/action force_complete."""
        self._require((2, 22))
        if self.body() != {"force_complete": None}:
            raise bad_request("Malformed request body")
        server = self.server(server_id)
        self.require_admin("os_compute_api:servers:migrations:force_complete")
        self._under_way(server_id, key or "", "force_complete")
        self.cloud.moves.complete(server)
        self.reply(202)


routes = [
    (r"/compute/v2\.1/os-aggregates", Aggregates),
    (r"/compute/v2\.1/os-aggregates/([^/]+)", OneAggregate),
    (r"/compute/v2\.1/os-aggregates/([^/]+)/action", AggregateAction),
    (r"/compute/v2\.1/os-migrations", Migrations),
    (r"/compute/v2\.1/servers/([^/]+)/migrations", ServerMigrations),
    (r"/compute/v2\.1/servers/([^/]+)/migrations/([^/]+)", ServerMigrations),
    (r"/compute/v2\.1/servers/([^/]+)/migrations/([^/]+)/action", ServerMigrations),
]
