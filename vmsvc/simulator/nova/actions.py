"""DELETE and Nova's actions on a server: a table of the states that allow them, and what each begins.

Statuses and messages are measured."""

import secrets
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import ApiError, bad_request, conflict, not_allowed, not_found
from vmsvc.simulator.glance.model import Image
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.nova import schemas
from vmsvc.simulator.nova.create import action_entry
from vmsvc.simulator.nova.rebuild import rebuild
from vmsvc.simulator.nova.servers import Server

CONSOLE = ("FAKE CONSOLE OUTPUT", "ANOTHER", "LAST LINE")  # of Nova's fake driver (measured)
_OPERATIONAL = ("active", "stopped", "paused", "suspended")


class Answer(NamedTuple):
    """What an action answers: a status, a body and, for a new image, its id, which old microversions have in the header
    Location."""

    status: int = 202
    body: dict[str, Any] | None = None
    image_id: str | None = None
    shows_server: bool = False


class Call(NamedTuple):
    """One POST of an action. `values` is what the body has under the action's name, {} for null."""

    cloud: Cloud
    token: Token
    server: Server
    values: dict[str, Any]
    version: tuple[int, int]


class Rule(NamedTuple):
    """An action. `states` are the vm_states that allow it (None: any). `idle`: only without a task. `launched`: only
    for a server that was ACTIVE once. `policy`: the rule of Nova's policy that leaves it to admins. `verb`: its name in
    messages. `recorded`: its name in os-instance-actions, '' when it is not there. `changes`: for an action that does
    nothing but change the state, the tasks on the way and the vm_state and power_state in the end."""

    verb: str
    states: tuple[str, ...] | None = None
    idle: bool = True
    launched: bool = True
    policy: str = ""
    recorded: str | None = None
    begins: Callable[[Call], Answer | None] | None = None
    changes: tuple[tuple[str, ...], str, int] | None = None
    since: tuple[int, int] = (2, 1)
    until: tuple[int, int] = (2, 999)
    needs_host: bool = False
    checks_lock: bool = True


def check_lock(server: Server, token: Token) -> None:
    """Raise ApiError 409 for a locked server, unless the user is an admin (measured)."""
    if server.locked_by is not None and not token.is_admin:
        raise conflict(f"Instance {server.id} is locked")


def delete_server(cloud: Cloud, token: Token, server: Server, request_id: str) -> None:
    """Delete a server: softly when the setting `reclaim_seconds` is above 0, else for ever."""
    check_lock(server, token)
    if not server.delete_asked:
        _record(cloud, token, server, "delete", request_id)
    reclaim = cloud.settings.reclaim_seconds
    if reclaim and server.host and server.vm_state not in ("soft-delete", "deleted") and not server.delete_asked:
        server.pending = {"vm_state": server.vm_state, "power_state": server.power_state, "action": "restore"}
        server.vm_state, server.task_state, server.power_state = "soft-delete", None, 4
        cloud.servers.touch(server, cloud.clock.now())
        cloud.lifecycle.next_step(server, "reclaim", reclaim)
        return
    if server.vm_state != "soft-delete":
        cloud.deletion.begin(server)


def check_body(body: dict[str, Any], version: tuple[int, int]) -> str:
    """The action that a body names. Raises ApiError 400 for an unknown one, or a wrong form."""
    if len(body) != 1:
        raise bad_request("Malformed request body")
    name = next(iter(body))
    if name not in RULES:
        raise bad_request(f"There is no such action: {name}")
    if not RULES[name].since <= version <= RULES[name].until:
        raise not_found("The resource could not be found.")
    if name != "resetNetwork":
        schemas.check(schemas.action(name, version), body)
    return name


def do_action(
    cloud: Cloud, token: Token, server: Server, name: str, values: object, version: tuple[int, int], request_id: str
) -> Answer:
    """Start an action that `check_body` has accepted. Raises ApiError."""
    rule = RULES[name]
    if rule.policy and not token.is_admin:
        raise not_allowed(rule.policy)
    if rule.checks_lock:
        check_lock(server, token)
    if rule.needs_host and server.host is None:
        raise conflict(f"Instance {server.id} is not ready")
    _check_state(server, rule)
    cloud.moves.settle(server)
    call = Call(cloud, token, server, values if isinstance(values, dict) else {}, version)
    recorded = rule.verb if rule.recorded is None else rule.recorded
    entry = _entry(cloud, token, server, recorded, request_id)
    if rule.changes is not None:
        tasks, outcome, power = rule.changes
        server.actions.append(entry)
        cloud.state_changes.begin(server, tasks, outcome, power, recorded)
        return Answer()
    answer = rule.begins(call) if rule.begins else None
    if recorded:
        server.actions.append(entry)
        cloud.servers.save(server)
    return answer or Answer()


def _entry(cloud: Cloud, token: Token, server: Server, name: str, request_id: str) -> dict[str, Any]:
    now = cloud.clock.now()
    return {**action_entry(name, request_id, token, server), "start_time": now, "updated_at": now}


def _record(cloud: Cloud, token: Token, server: Server, name: str, request_id: str) -> None:
    server.actions.append(_entry(cloud, token, server, name, request_id))


def _check_state(server: Server, rule: Rule) -> None:
    """Raise ApiError 409 for a state that does not allow the action (measured)."""
    if rule.states is not None and server.vm_state not in rule.states:
        raise conflict(f"Cannot '{rule.verb}' instance {server.id} while it is in vm_state {server.vm_state}")
    if rule.idle and server.task_state is not None:
        raise conflict(f"Cannot '{rule.verb}' instance {server.id} while it is in task_state {server.task_state}")
    if rule.launched and server.launched_at is None:
        raise conflict(f"Instance {server.id} is in an invalid state for '{rule.verb}'")


def _reboot(call: Call) -> None:
    soft = call.values["type"].upper() == "SOFT"
    _check_state(call.server, Rule("reboot", ("active",) if soft else (*_OPERATIONAL, "error")))
    tasks = ("rebooting", "reboot_pending", "reboot_started") if soft else ("rebooting_hard", "reboot_started_hard")
    call.cloud.state_changes.begin(call.server, tasks, "active", 1, "reboot")


def _lock(call: Call) -> None:
    server, is_owner = call.server, call.token.project_id == call.server.project_id
    if server.locked_by is None or not is_owner:  # A second lock by the owner changes nothing (measured).
        server.locked_by = "owner" if is_owner else "admin"
        server.locked_reason = call.values.get("locked_reason")
    call.cloud.servers.touch(server, call.cloud.clock.now())


def _unlock(call: Call) -> None:
    if call.server.locked_by == "admin" and not call.token.is_admin:
        raise not_allowed("os_compute_api:os-lock-server:unlock:unlock_override")
    call.server.locked_by = call.server.locked_reason = None
    call.cloud.servers.touch(call.server, call.cloud.clock.now())


def _force_delete(call: Call) -> None:
    """A member may do this in any state (measured)."""
    if call.server.vm_state == "soft-delete":
        call.server.step = None
    call.cloud.deletion.begin(call.server)


def _restore(call: Call) -> None:
    server = call.server
    call.cloud.quotas.check(
        server.project_id, {"instances": 1, "cores": server.flavor["vcpus"], "ram": server.flavor["ram"]}
    )
    before, server.pending = server.pending or {}, None
    call.cloud.state_changes.begin(server, ("restoring",), before["vm_state"], before["power_state"], "restore")


def _snapshot(call: Call, name: str, kind: str, **properties: str) -> Image:
    """The image of a server, which has no bytes and stays queued."""
    server = call.server
    image = Image(
        str(uuid.uuid4()),
        name,
        call.cloud.clock.now(),
        "queued",
        call.token.project_id,
        "private",
        properties={
            **call.values.get("metadata", {}),
            "image_type": kind,
            "instance_uuid": server.id,
            "user_id": server.user_id,
            "base_image_ref": server.image_id,
            **properties,
        },
    )
    call.cloud.images.save(image.id, image)
    return image


def _create_image(call: Call) -> Answer:
    image = _snapshot(call, call.values["name"], "snapshot")
    tasks = ("image_snapshot_pending", "image_snapshot")
    call.cloud.state_changes.begin(call.server, tasks, call.server.vm_state, call.server.power_state, "createImage")
    return Answer(image_id=image.id)


def _create_backup(call: Call) -> Answer:
    """Make an image, and delete the oldest ones of the same server and kind beyond `rotation`."""
    kind, images = call.values["backup_type"], call.cloud.images
    image = _snapshot(call, call.values["name"], "backup", backup_type=kind)
    mine = [
        each
        for each in images.values()
        if each.properties.get("instance_uuid") == call.server.id and each.properties.get("backup_type") == kind
    ]
    for old in sorted(mine, key=lambda each: -each.created)[int(call.values["rotation"]) :]:
        images.remove(old.id)
    tasks = ("image_backup",)
    call.cloud.state_changes.begin(call.server, tasks, call.server.vm_state, call.server.power_state, "createBackup")
    return Answer(image_id=image.id)


def _reset_state(call: Call) -> None:
    call.server.vm_state, call.server.task_state = call.values["state"], None
    call.server.fault = None if call.values["state"] == "active" else call.server.fault
    call.cloud.servers.touch(call.server, call.cloud.clock.now())


def _shelve(call: Call) -> None:
    """The server gives up its allocation and keeps its ports (measured with shelved_offload_time = 0)."""
    image = _snapshot(call, f"{call.server.name}-shelved", "snapshot")
    call.server.shelved_image = image.id
    call.cloud.state_changes.shelve(call.server)


def _unshelve(call: Call) -> None:
    host, zone = call.values.get("host"), call.values.get("availability_zone")
    if host is not None:
        if not call.token.is_admin:
            raise not_allowed("os_compute_api:os-shelve:unshelve_to_host")
        if not call.cloud.hosts.matching(host, None):
            raise bad_request(f"Compute host {host} could not be found.")
    if zone is not None and zone not in call.cloud.hosts.zones():
        raise bad_request("The requested availability zone is not available")
    if "availability_zone" in call.values:
        call.server.asked_az = zone
    call.cloud.state_changes.unshelve(call.server, host)


def _rescue(call: Call) -> Answer:
    image_id = call.values.get("rescue_image_ref")
    image = call.cloud.images.get(image_id) if image_id else None
    if image_id and (image is None or not image.usable_by(call.token)):
        raise bad_request(f"Image {image_id} is unacceptable: The image does not exist")
    call.server.pending = None
    call.cloud.state_changes.begin(call.server, ("rescuing",), "rescued", 4, "rescue")
    return Answer(200, {"adminPass": call.values.get("adminPass") or secrets.token_urlsafe(9)})


def _resize(call: Call) -> None:
    flavor_id, server = str(call.values["flavorRef"]), call.server
    flavor = call.cloud.flavors.get(flavor_id)
    if flavor is None:
        raise bad_request(f"Flavor {flavor_id} could not be found.")
    if flavor.disk == 0 and server.flavor["disk"] and not call.token.is_admin:
        raise bad_request("Resize to zero disk flavor is not allowed.")
    if flavor.id == server.flavor["id"]:
        raise bad_request("When resizing, instances must change flavor!")
    more = {"cores": flavor.vcpus - server.flavor["vcpus"], "ram": flavor.ram - server.flavor["ram"]}
    call.cloud.quotas.check(server.project_id, {name: max(0, amount) for name, amount in more.items()})
    call.cloud.moves.resize(server, flavor, None, call.token)


def _target(call: Call) -> str | None:
    """The host that a move names. Raises ApiError 400 for an unknown one."""
    host: str | None = call.values.get("host")
    if host is not None and not call.cloud.hosts.matching(host, None):
        raise bad_request(f"Compute host {host} could not be found.")
    return host


def _migrate(call: Call) -> None:
    host = _target(call)
    if host is not None and host == call.server.host:
        raise bad_request("Cannot migrate to the host where the server exists.")
    call.cloud.moves.resize(call.server, None, host, call.token)


def _migrate_live(call: Call) -> None:
    call.cloud.moves.migrate_live(call.server, _target(call), call.token)


def _evacuate(call: Call) -> None:
    host = call.cloud.hosts.all[call.server.host or ""]
    if call.cloud.hosts.is_up(host):
        raise bad_request(f"Compute service of {host.name} is still in use.")
    call.cloud.moves.evacuate(call.server, _target(call), call.token)


def _confirm(call: Call) -> Answer:
    call.cloud.moves.confirm(call.server)
    return Answer(204)


def _revert(call: Call) -> None:
    call.cloud.moves.revert(call.server)


def _rebuild(call: Call) -> Answer:
    rebuild(call.cloud, call.token, call.server, call.values)
    return Answer(body={"adminPass": call.values.get("adminPass") or secrets.token_urlsafe(9)}, shows_server=True)


def _console(call: Call) -> Answer:
    length = call.values.get("length")
    lines = CONSOLE if length in (None, -1, "-1") else CONSOLE[len(CONSOLE) - min(int(length), len(CONSOLE)) :]
    return Answer(200, {"output": "\n".join(lines)})


def _add_group(call: Call) -> None:
    groups = call.cloud.security_groups
    groups.plug(call.server.id, groups.of_server(call.server.project_id, call.values["name"]))


def _remove_group(call: Call) -> None:
    groups = call.cloud.security_groups
    groups.unplug(call.server.id, groups.of_server(call.server.project_id, call.values["name"]))


def _no_console(call: Call) -> Answer:
    raise bad_request(f"Unavailable console type {call.values['type']}.")


def _gone(_call: Call) -> Answer:
    raise ApiError(410, "This resource is no longer available. No forwarding address is given.")


_ADMIN, _MIGRATE = "os_compute_api:os-admin-actions", "os_compute_api:os-migrate-server"
_RUNNING: dict[str, Any] = {"idle": False, "launched": False}
#: Nova's actions (read: the decorators in nova/compute/api.py, and measured).
RULES: dict[str, Rule] = {
    "os-stop": Rule("stop", ("active", "error"), changes=(("powering-off",), "stopped", 4), needs_host=True),
    "os-start": Rule("start", ("stopped",), changes=(("powering-on",), "active", 1), needs_host=True),
    "pause": Rule("pause", ("active",), changes=(("pausing",), "paused", 3)),
    "unpause": Rule("unpause", ("paused",), changes=(("unpausing",), "active", 1)),
    "suspend": Rule("suspend", ("active",), changes=(("suspending",), "suspended", 4)),
    "resume": Rule("resume", ("suspended",), changes=(("resuming",), "active", 1)),
    "unrescue": Rule("unrescue", ("rescued",), changes=(("unrescuing",), "active", 1)),
    "rescue": Rule("rescue", ("active", "stopped", "error"), begins=_rescue),
    "reboot": Rule("reboot", begins=_reboot, idle=False),
    "rebuild": Rule("rebuild", ("active", "stopped", "error"), begins=_rebuild),
    "resize": Rule("resize", ("active", "stopped"), begins=_resize),
    "confirmResize": Rule("confirmResize", ("resized",), begins=_confirm),
    "revertResize": Rule("revertResize", ("resized",), begins=_revert),
    "migrate": Rule("migrate", ("active", "stopped"), policy=f"{_MIGRATE}:migrate", begins=_migrate),
    "os-migrateLive": Rule(
        "os-migrateLive",
        ("active", "paused"),
        policy=f"{_MIGRATE}:migrate_live",
        recorded="live-migration",
        begins=_migrate_live,
    ),
    "evacuate": Rule(
        "evacuate", ("active", "stopped", "error"), idle=False, policy="os_compute_api:os-evacuate", begins=_evacuate
    ),
    "shelve": Rule("shelve", _OPERATIONAL, begins=_shelve),
    "shelveOffload": Rule("shelveOffload", ("shelved",), policy="os_compute_api:os-shelve:shelve_offload"),
    "unshelve": Rule("unshelve", ("shelved", "shelved_offloaded"), begins=_unshelve),
    "createImage": Rule("createImage", _OPERATIONAL, begins=_create_image),
    "createBackup": Rule("createBackup", _OPERATIONAL, begins=_create_backup),
    "changePassword": Rule("changePassword", ("active",), changes=(("updating_password",), "active", 1)),
    "trigger_crash_dump": Rule(
        "trigger_crash_dump", ("active", "paused", "rescued", "resized", "error"), since=(2, 17)
    ),
    "os-getConsoleOutput": Rule("os-getConsoleOutput", idle=False, recorded="", begins=_console, checks_lock=False),
    "os-getVNCConsole": Rule("x", until=(2, 5), begins=_no_console, recorded="", checks_lock=False, **_RUNNING),
    "os-getSPICEConsole": Rule("x", until=(2, 5), begins=_no_console, recorded="", checks_lock=False, **_RUNNING),
    "os-getSerialConsole": Rule("x", until=(2, 5), begins=_no_console, recorded="", checks_lock=False, **_RUNNING),
    "addSecurityGroup": Rule("x", begins=_add_group, recorded="", checks_lock=False, **_RUNNING),
    "removeSecurityGroup": Rule("x", begins=_remove_group, recorded="", checks_lock=False, **_RUNNING),
    "lock": Rule("lock", begins=_lock, checks_lock=False, **_RUNNING),
    "unlock": Rule("unlock", begins=_unlock, checks_lock=False, **_RUNNING),
    "forceDelete": Rule("forceDelete", recorded="delete", begins=_force_delete, **_RUNNING),
    "restore": Rule("restore", ("soft-delete",), begins=_restore),
    "os-resetState": Rule(
        "os-resetState",
        policy=f"{_ADMIN}:reset_state",
        recorded="resetState",
        begins=_reset_state,
        checks_lock=False,
        **_RUNNING,
    ),
    "resetNetwork": Rule("resetNetwork", recorded="", begins=_gone, **_RUNNING),
    "injectNetworkInfo": Rule("x", policy=f"{_ADMIN}:inject_network_info", recorded="", **_RUNNING),
}
