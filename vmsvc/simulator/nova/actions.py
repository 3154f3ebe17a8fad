"""DELETE and Nova's actions on a server. The messages are measured."""

import uuid
from collections.abc import Callable
from typing import Any

from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import bad_request, conflict, not_allowed
from vmsvc.simulator.glance.model import Image
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.nova.create import action_entry
from vmsvc.simulator.nova.servers import Server

#: Action -> the states that allow it, the task state, the state and power state in the end, the name in
#: os-instance-actions.
SIMPLE_ACTIONS = {
    "os-stop": (("active", "error"), "powering-off", "stopped", 4, "stop"),
    "os-start": (("stopped",), "powering-on", "active", 1, "start"),
    "pause": (("active",), "pausing", "paused", 3, "pause"),
    "unpause": (("paused",), "unpausing", "active", 1, "unpause"),
    "suspend": (("active",), "suspending", "suspended", 4, "suspend"),
    "resume": (("suspended",), "resuming", "active", 1, "resume"),
}
#: Actions for admins, and the rules of Nova's policy that say so.
ADMIN_ACTIONS = {
    "migrate": "os_compute_api:os-migrate-server:migrate",
    "os-migrateLive": "os_compute_api:os-migrate-server:migrate_live",
    "evacuate": "os_compute_api:os-evacuate",
    "os-resetState": "os_compute_api:os-admin-actions:reset_state",
    "resetNetwork": "os_compute_api:os-admin-actions:reset_network",
    "injectNetworkInfo": "os_compute_api:os-admin-actions:inject_network_info",
    "shelveOffload": "os_compute_api:os-shelve:shelve_offload",
}


def check_lock(server: Server, token: Token) -> None:
    """Raise ApiError 409 for a locked server, unless the user is an admin (measured)."""
    if server.locked_by is not None and not token.is_admin:
        raise conflict(f"Instance {server.id} is locked")


def delete_server(cloud: Cloud, token: Token, server: Server) -> None:
    """Delete a server: softly when the setting `reclaim_seconds` is above 0, else for ever."""
    check_lock(server, token)
    reclaim = cloud.settings.reclaim_seconds
    if reclaim and server.host and server.vm_state not in ("soft-delete", "deleted") and not server.delete_asked:
        server.pending = {"vm_state": server.vm_state, "power_state": server.power_state, "action": "restore"}
        server.vm_state, server.task_state, server.power_state = "soft-delete", None, 4
        cloud.servers.touch(server, cloud.clock.now())
        cloud.lifecycle.next_step(server, "reclaim", reclaim)
        return
    if server.vm_state != "soft-delete":
        cloud.deletion.begin(server)


def do_action(
    cloud: Cloud, token: Token, server: Server, name: str, values: object, request_id: str
) -> tuple[int, dict[str, Any] | None]:
    """Start an action. Returns the status and the body of the answer. Raises ApiError."""
    if name in ADMIN_ACTIONS and not token.is_admin:
        raise not_allowed(ADMIN_ACTIONS[name])
    action = _ACTIONS.get(name)
    if action is None and name not in SIMPLE_ACTIONS:
        raise bad_request(f"There is no such action: {name}")
    if name not in ("lock", "unlock"):
        check_lock(server, token)
    before = server.vm_state, server.task_state
    entry = action_entry(name.removeprefix("os-"), request_id, token, server)
    entry["start_time"] = entry["updated_at"] = cloud.clock.now()
    if action is None:
        _simple_action(cloud, server, name, entry)
        return 202, None
    answer = action(cloud, token, server, values if isinstance(values, dict) else {})
    if (server.vm_state, server.task_state) != before:
        server.actions.append(entry)
        cloud.servers.save(server)
    return 202, answer


def _require(server: Server, verb: str, states: tuple[str, ...]) -> None:
    """Raise ApiError 409 unless the server is in one of these states and has no task (measured)."""
    if server.vm_state not in states:
        raise conflict(f"Cannot '{verb}' instance {server.id} while it is in vm_state {server.vm_state}")
    if server.task_state is not None:
        raise conflict(f"Cannot '{verb}' instance {server.id} while it is in task_state {server.task_state}")


def _simple_action(cloud: Cloud, server: Server, name: str, entry: dict[str, Any]) -> None:
    states, task, outcome, power, verb = SIMPLE_ACTIONS[name]
    if server.host is None and verb in ("start", "stop"):
        raise conflict(f"Instance {server.id} is not ready")
    _require(server, verb, states)
    server.actions.append({**entry, "action": verb})
    cloud.state_changes.begin(server, task, outcome, power, verb)


def _reboot(cloud: Cloud, _token: Token, server: Server, values: dict[str, Any]) -> None:
    if "type" not in values:
        raise bad_request(f"Invalid input for field/attribute reboot. Value: {values}. 'type' is a required property")
    kind = str(values["type"]).upper()
    if kind not in ("SOFT", "HARD"):
        raise bad_request(
            f"Invalid input for field/attribute type. Value: {values.get('type')}. "
            f"'{values.get('type')}' is not one of ['HARD', 'Hard', 'hard', 'SOFT', 'Soft', 'soft']"
        )
    allowed = ("active",) if kind == "SOFT" else ("active", "stopped", "paused", "suspended", "error")
    _require(server, "reboot", allowed)
    cloud.state_changes.begin(server, "rebooting" if kind == "SOFT" else "rebooting_hard", "active", 1, "reboot")


def _lock(cloud: Cloud, token: Token, server: Server, values: dict[str, Any]) -> None:
    is_owner = token.project_id == server.project_id
    if server.locked_by is None or not is_owner:  # A second lock by the owner changes nothing (measured).
        server.locked_by = "owner" if is_owner else "admin"
        server.locked_reason = values.get("locked_reason")
    cloud.servers.touch(server, cloud.clock.now())


def _unlock(cloud: Cloud, token: Token, server: Server, _values: dict[str, Any]) -> None:
    if server.locked_by == "admin" and not token.is_admin:
        raise not_allowed("os_compute_api:os-lock-server:unlock:unlock_override")
    server.locked_by = server.locked_reason = None
    cloud.servers.touch(server, cloud.clock.now())


def _force_delete(cloud: Cloud, _token: Token, server: Server, _values: dict[str, Any]) -> None:
    """A member may do this in any state (measured)."""
    if server.vm_state == "soft-delete":
        server.step = None
    cloud.deletion.begin(server)


def _restore(cloud: Cloud, _token: Token, server: Server, _values: dict[str, Any]) -> None:
    _require(server, "restore", ("soft-delete",))
    cloud.quotas.check(
        server.project_id, {"instances": 1, "cores": server.flavor["vcpus"], "ram": server.flavor["ram"]}
    )
    before, server.pending = server.pending or {}, None
    cloud.state_changes.begin(server, "restoring", before["vm_state"], before["power_state"], "restore")


def _create_image(cloud: Cloud, token: Token, server: Server, values: dict[str, Any]) -> dict[str, Any]:
    _require(server, "createImage", ("active", "stopped", "paused", "suspended"))
    image = Image(str(uuid.uuid4()), str(values.get("name")), cloud.clock.now(), "queued", token.project_id, "private")
    cloud.images.save(image.id, image)
    cloud.state_changes.begin(server, "image_snapshot", server.vm_state, server.power_state, "createImage")
    return {"image_id": image.id}


def _reset_state(cloud: Cloud, _token: Token, server: Server, values: dict[str, Any]) -> None:
    server.vm_state, server.task_state = values.get("state", "error"), None
    cloud.servers.touch(server, cloud.clock.now())


def _shelve(cloud: Cloud, _token: Token, server: Server, _values: dict[str, Any]) -> None:
    """The server gives up its allocation and keeps its ports (measured with shelved_offload_time = 0)."""
    _require(server, "shelve", ("active", "stopped", "paused", "suspended"))
    cloud.state_changes.shelve(server)


def _unshelve(cloud: Cloud, _token: Token, server: Server, _values: dict[str, Any]) -> None:
    _require(server, "unshelve", ("shelved", "shelved_offloaded"))
    cloud.state_changes.unshelve(server)


def _unsupported(_cloud: Cloud, _token: Token, server: Server, _values: dict[str, Any]) -> None:
    raise conflict(f"Cannot 'confirmResize' instance {server.id} while it is in vm_state {server.vm_state}")


_ACTIONS: dict[str, Callable[[Cloud, Token, Server, dict[str, Any]], dict[str, Any] | None]] = {
    "reboot": _reboot,
    "lock": _lock,
    "unlock": _unlock,
    "forceDelete": _force_delete,
    "restore": _restore,
    "createImage": _create_image,
    "os-resetState": _reset_state,
    "shelve": _shelve,
    "unshelve": _unshelve,
    "confirmResize": _unsupported,
    "revertResize": _unsupported,
}
