"""Servers that change their host or their flavor: resize, cold and live migration, evacuation (measured).

The room on the source belongs to the migration's uuid while the server's own allocation is on the target, so both are
taken until the end."""

import uuid
from typing import Any

from vmsvc.simulator.clock import micros_text
from vmsvc.simulator.errors import bad_request
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.model import Model
from vmsvc.simulator.nova.flavors import Flavor
from vmsvc.simulator.nova.lifecycle import Lifecycle
from vmsvc.simulator.nova.migrations import Migration
from vmsvc.simulator.nova.scheduling import NoValidHost
from vmsvc.simulator.nova.servers import Server

_ENDING = "live_ended"  # the step of a server that has arrived while its source is not free yet


class Moves:
    """Begins and carries out the moves of servers. A server's `move` is {"migration": id, "flavor": the one before,
    "vm_state": …, "power_state": …, "host": the host that was asked for, "action": …}."""

    def __init__(self, lifecycle: Lifecycle):
        self._lifecycle = lifecycle
        self._model: Model = lifecycle.model
        lifecycle.steps.update(
            {
                "resize_claim": self._resize_claim,
                "resize_next": self._resize_next,
                "resize_confirmed": self._confirmed,
                "resize_reverted": self._reverted,
                "live_begun": self._live_begun,
                "live_claimed": self._live_claimed,
                "live_moved": self._live_moved,
                _ENDING: self._live_ended,
                "evacuated": self._evacuated,
            }
        )

    def resize(self, server: Server, flavor: Flavor | None, host: str | None, token: Token) -> None:
        """Start a resize to a flavor, or without one a cold migration: RESIZE, then VERIFY_RESIZE."""
        kind = "resize" if flavor else "migration"
        self._begin(server, kind, host, token, "resize" if flavor else "migrate")
        assert server.move is not None
        server.move["to"] = flavor.embedded() if flavor else server.flavor
        self._migration(server).new_flavor = flavor.id if flavor else server.flavor["id"]
        server.task_state = "resize_prep"
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "resize_claim", self._model.settings.schedule_seconds)

    def migrate_live(self, server: Server, host: str | None, token: Token) -> None:
        """Start a live migration: MIGRATING, then ACTIVE on another host."""
        self._begin(server, "live-migration", host, token, "live-migration")
        server.task_state = "migrating"
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "live_begun", self._model.settings.schedule_seconds)

    def evacuate(self, server: Server, host: str | None, token: Token) -> None:
        """Start to build a server of a dead host anew on another one."""
        self._begin(server, "evacuation", host, token, "evacuate")
        server.task_state = "rebuilding"
        self._lifecycle.touch(server)
        settings = self._model.settings
        self._lifecycle.next_step(server, "evacuated", settings.schedule_seconds + settings.boot_seconds)

    def confirm(self, server: Server) -> None:
        """Start to give the source's room away: the server is VERIFY_RESIZE without a task until then (measured)."""
        self._set_status(server, "confirming")
        self._lifecycle.next_step(server, "resize_confirmed", self._model.settings.stop_seconds)

    def revert(self, server: Server) -> None:
        """Start to go back to the source and to the flavor before."""
        self._set_status(server, "reverting")
        server.task_state = "resize_reverting"
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "resize_reverted", self._model.settings.stop_seconds)

    def settle(self, server: Server) -> None:
        """End a live migration whose server has arrived, before another action begins."""
        if server.step == _ENDING:
            server.step = None
            self._live_ended(server)

    def abort(self, server: Server) -> None:
        """Stop a live migration under way: the server stays where it is."""
        self._go_back(server, "cancelled", "")

    def complete(self, server: Server) -> None:
        """Let a live migration under way end soon."""
        self._lifecycle.next_step(server, "live_moved", self._model.settings.stop_seconds)

    def _begin(self, server: Server, kind: str, host: str | None, token: Token, action: str) -> None:
        now, source = self._model.clock.now(), self._model.hosts.all[server.host or ""]
        number = 1 + max((int(key) for key in self._model.migrations), default=0)
        migration = Migration(
            id=number,
            uuid=str(uuid.uuid4()),
            instance_uuid=server.id,
            kind=kind,
            status="accepted",
            source_compute=source.name,
            source_node=source.node,
            old_flavor=server.flavor["id"],
            new_flavor=server.flavor["id"],
            user_id=token.user_id,
            project_id=token.project_id,
            created=now,
            updated=now,
        )
        self._model.migrations.save(str(number), migration)
        server.move = {
            "migration": str(number),
            "flavor": server.flavor,
            "vm_state": server.vm_state,
            "power_state": server.power_state,
            "host": host,
            "action": action,
            "tasks": ["resize_migrating", "resize_migrated", "resize_finish"],
        }

    def _migration(self, server: Server) -> Migration:
        return self._model.migrations[(server.move or {})["migration"]]

    def _set_status(self, server: Server, status: str, **changes: Any) -> None:
        migration = self._migration(server)
        migration.status, migration.updated = status, self._model.clock.now()
        for name, value in changes.items():
            setattr(migration, name, value)
        self._model.migrations.save(str(migration.id), migration)

    def _claim(self, server: Server, flavor: dict[str, Any]) -> bool:
        """Give the source's room to the migration and claim room on a target. False when there is none."""
        migration, move = self._migration(server), server.move or {}
        if server.id in self._model.placement.consumers:
            self._model.placement.rename(server.id, migration.uuid)
        try:
            host = self._model.scheduler.place(server, flavor, move["host"], {migration.source_compute})
        except NoValidHost:
            return False
        self._set_status(server, "migrating", dest_compute=host.name, dest_node=host.node, dest_host="192.168.0.1")
        return True

    def _go_back(self, server: Server, status: str, message: str = "Error") -> None:
        """End a move that did not succeed, with the server where it was and without a fault (measured)."""
        migration, move = self._migration(server), server.move or {}
        if migration.uuid in self._model.placement.consumers:
            self._model.placement.release(server.id)
            self._model.placement.rename(migration.uuid, server.id)
        self._set_status(server, status)
        server.task_state, server.move, server.step = None, None, None
        self._lifecycle.finish_action(server, move["action"], message or None)
        self._lifecycle.touch(server)

    def _resize_claim(self, server: Server) -> None:
        if self._lifecycle.host_is_silent(server):
            self._lifecycle.hang(server)
            return
        if not self._claim(server, (server.move or {})["to"]):
            self._go_back(server, "error")
            return
        self._resize_next(server)

    def _resize_next(self, server: Server) -> None:
        """The next task, and after the last one VERIFY_RESIZE."""
        move = server.move or {}
        if move["tasks"]:
            server.task_state = move["tasks"].pop(0)
            self._lifecycle.touch(server)
            self._lifecycle.next_step(server, "resize_next", self._model.settings.migrate_seconds / 3)
            return
        self._set_status(server, "finished")
        self._arrive(server)
        server.flavor = move["to"]
        server.vm_state, server.launched_at = "resized", self._model.clock.now()
        self._lifecycle.finish_action(server, move["action"])
        self._lifecycle.touch(server)

    def _arrive(self, server: Server) -> None:
        """Set the server's host, and its ports', to the migration's target."""
        host = self._model.hosts.all[self._migration(server).dest_compute or ""]
        server.host = server.chosen = host.name
        server.az, server.task_state = host.az, None
        self._bind_ports(server)

    def _bind_ports(self, server: Server) -> None:
        for port in self._model.ports.of(server.id):
            port.host = server.host or ""
            self._model.ports.save(port)

    def _confirmed(self, server: Server) -> None:
        self._set_status(server, "confirmed")
        self._end(server, "confirmResize")

    def _end(self, server: Server, action: str) -> None:
        """The state before the move, and the source's room free."""
        move = server.move or {}
        server.vm_state, server.power_state, server.task_state = move["vm_state"], move["power_state"], None
        self._model.placement.release(self._migration(server).uuid)
        server.move = None
        self._lifecycle.finish_action(server, action)
        self._lifecycle.touch(server)

    def _reverted(self, server: Server) -> None:
        migration, move = self._migration(server), server.move or {}
        self._model.placement.release(server.id)
        if migration.uuid in self._model.placement.consumers:
            self._model.placement.rename(migration.uuid, server.id)
        server.flavor, server.host, server.chosen = move["flavor"], migration.source_compute, migration.source_compute
        self._bind_ports(server)
        self._set_status(server, "reverted")
        self._end(server, "revertResize")

    def _live_begun(self, server: Server) -> None:
        """For a while the server has no allocation; the source's room is the migration's (measured)."""
        if server.id in self._model.placement.consumers:
            self._model.placement.rename(server.id, self._migration(server).uuid)
        self._set_status(server, "preparing")
        self._lifecycle.next_step(server, "live_claimed", self._model.settings.schedule_seconds)

    def _live_claimed(self, server: Server) -> None:
        if not self._claim(server, server.flavor):
            self._go_back(server, "error")
            return
        self._set_status(server, "running")
        self._lifecycle.next_step(server, "live_moved", self._model.settings.migrate_seconds)

    def _live_moved(self, server: Server) -> None:
        """ACTIVE on the target, a moment before the source is free (measured)."""
        self._arrive(server)
        self._lifecycle.finish_action(server, "live-migration")
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, _ENDING, self._model.settings.migrate_seconds / 2)

    def _live_ended(self, server: Server) -> None:
        self._set_status(server, "completed")
        self._model.placement.release(self._migration(server).uuid)
        server.move = None
        self._model.servers.save(server)

    def _evacuated(self, server: Server) -> None:
        migration, move = self._migration(server), server.move or {}
        held = server.id in self._model.placement.consumers
        if held:
            self._model.placement.rename(server.id, migration.uuid)
        if not self._claim(server, server.flavor):
            self._go_back(server, "error")
            server.vm_state = "error"
            self._lifecycle.touch(server)
            return
        self._arrive(server)
        self._set_status(server, "done")
        self._model.placement.release(migration.uuid)
        server.vm_state, server.power_state = ("stopped", 4) if move["vm_state"] == "stopped" else ("active", 1)
        server.move = None
        self._lifecycle.finish_action(server, "evacuate")
        self._lifecycle.touch(server)


def require_live(server: Server, migration: Migration | None, verb: str) -> None:
    """Raise ApiError 400 unless the migration is a live one under way."""
    if migration is None or migration.status not in ("running", "preparing", "queued", "accepted"):
        raise bad_request(f"Instance {server.id} has no live migration under way for '{verb}'")


def times(migration: Migration) -> dict[str, Any]:
    """When a migration was made and changed, as Nova shows it."""
    return {"created_at": micros_text(migration.created), "updated_at": micros_text(migration.updated)}
