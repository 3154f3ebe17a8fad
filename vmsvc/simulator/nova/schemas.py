"""The forms of the bodies and queries that Nova takes, by microversion (read: nova/api/openstack/compute/schemas)."""

from functools import lru_cache
from typing import Any

from vmsvc.simulator.errors import bad_request
from vmsvc.simulator.schema import (
    ANY,
    BOOLEAN,
    NULL,
    UUID,
    Schema,
    array,
    fields,
    first_problem,
    nullable,
    one_of,
    string,
)

Version = tuple[int, int]

_NAME_RULE = "printable characters. Can not start or end with whitespace."
NAME = string(1, format="name")
FQDN = string(1, pattern="^[a-zA-Z0-9-._]*$")
HOSTNAME = string(2, 63, pattern="^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$")
DESCRIPTION = nullable(string(0, 255, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"))
METADATA: Schema = {
    "type": "object",
    "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": string()},
    "additionalProperties": False,
}
TAG = string(1, 60, pattern="^[^,/]*$")
TAGS = array(TAG, maxItems=50)
FLAVOR_REF: Schema = {"type": ["string", "integer"], "minLength": 1}
DISK_CONFIG: Schema = {"type": "string", **one_of("AUTO", "MANUAL")}
IP: Schema = {"type": "string", "oneOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
COUNT: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]*$", "minimum": 1, "minLength": 1}
LIMIT: Schema = {**COUNT, "minimum": 0}
PASSWORD: Schema = {"type": "string"}
IMAGE_OR_EMPTY: Schema = {"oneOf": [UUID, string(0, 0)]}
USER_DATA = string(0, 65535, format="base64")
CERTIFICATES = nullable(array({"type": "string", "minLength": 1}, minItems=1, maxItems=50, uniqueItems=True))
PERSONALITY = array(fields({"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}}))
ACCESS: dict[str, Schema] = {
    "accessIPv4": {"type": "string", "format": "ipv4"},
    "accessIPv6": {"type": "string", "format": "ipv6"},
}
_OLD_DEVICE: dict[str, Schema] = {
    "virtual_name": string(),
    "volume_id": UUID,
    "snapshot_id": UUID,
    "volume_size": {
        "type": ["integer", "string"],
        "pattern": "^[0-9]+$",
        "minimum": 1,
        "maximum": 2**31 - 1,
    },
    "device_name": string(1, pattern="^[a-zA-Z0-9._/-]*$"),
    "delete_on_termination": BOOLEAN,
    "no_device": ANY,
    "connection_info": string(0, 16777215),
}
_DEVICE: dict[str, Schema] = {
    **_OLD_DEVICE,
    "source_type": {"type": "string", **one_of("volume", "image", "snapshot", "blank")},
    "uuid": string(1, pattern="^[a-zA-Z0-9._-]*$"),
    "image_id": UUID,
    "destination_type": {"type": "string", **one_of("local", "volume")},
    "guest_format": string(),
    "device_type": string(),
    "disk_bus": string(),
    "boot_index": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"},
}
_SERVER_IDS: Schema = {"oneOf": [UUID, array(UUID)]}
_HINTS = fields(
    {
        "group": {"oneOf": [array(UUID), UUID]},
        "different_host": _SERVER_IDS,
        "same_host": {"type": ["string", "array"], "items": UUID},
        "query": {"type": ["string", "object"]},
        "target_cell": NAME,
        "different_cell": {"type": ["string", "array"], "items": {"type": "string"}},
        "build_near_host_ip": IP,
        "cidr": {"type": "string", "pattern": "^/[0-9a-f.:]+$"},
    },
    more=True,
)


def check(schema: Schema, value: object) -> None:
    """Raise ApiError 400, with Nova's message, when the body has not the form (measured)."""
    problem = first_problem(schema, value)
    if problem is None:
        return
    if problem.is_name:
        raise bad_request(f"An invalid 'name' value was provided. The name must be: {_NAME_RULE}")
    if not problem.path:
        raise bad_request(problem.text)
    raise bad_request(f"Invalid input for field/attribute {problem.path[-1]}. Value: {problem.value}. {problem.text}")


def check_query(schema: Schema, query: dict[str, list[str]]) -> None:
    """Raise ApiError 400 when a query, with all values of each parameter, has not the form (measured)."""
    problem = first_problem(schema, query)
    if problem is None:
        return
    if not problem.path:
        raise bad_request(problem.text)
    raise bad_request(f"Invalid input for query parameters {problem.path[0]}. Value: {problem.value}. {problem.text}")


def _devices_and_networks(version: Version) -> tuple[dict[str, Schema], Schema]:
    """The form of a block device, and of `networks`."""
    device, network = dict(_DEVICE), {"fixed_ip": IP, "port": nullable(UUID), "uuid": UUID}
    if version < (2, 37):
        network["uuid"] = {"type": "string"}
    if (2, 32) <= version < (2, 37) or version >= (2, 42):
        network["tag"] = TAG
    if version == (2, 32) or version >= (2, 42):
        device["tag"] = TAG
    if version >= (2, 67):
        device["volume_type"] = nullable(string())
    networks: Schema = array(fields(network))
    if version >= (2, 37):
        networks = {"oneOf": [networks, {"type": "string", **one_of("none", "auto")}]}
    return device, networks


@lru_cache(128)
def create(version: Version) -> Schema:
    """The body of POST /servers."""
    device, networks = _devices_and_networks(version)
    server: dict[str, Schema] = {
        "name": NAME,
        "imageRef": IMAGE_OR_EMPTY,
        "flavorRef": FLAVOR_REF,
        "adminPass": PASSWORD,
        "metadata": METADATA,
        "networks": networks,
        "OS-DCF:diskConfig": DISK_CONFIG,
        **ACCESS,
        "availability_zone": NAME,
        "block_device_mapping": array(fields(_OLD_DEVICE)),
        "block_device_mapping_v2": array(fields(device)),
        "config_drive": BOOLEAN,
        "key_name": NAME,
        "min_count": COUNT,
        "max_count": COUNT,
        "return_reservation_id": BOOLEAN,
        "security_groups": array(fields({"name": NAME})),
        "user_data": USER_DATA,
    }
    for since, more in (
        ((2, 19), {"description": DESCRIPTION}),
        ((2, 52), {"tags": TAGS}),
        ((2, 63), {"trusted_image_certificates": CERTIFICATES}),
        ((2, 74), {"host": FQDN, "hypervisor_hostname": FQDN}),
        ((2, 90), {"hostname": HOSTNAME}),
        ((2, 94), {"hostname": FQDN}),
    ):
        server.update(more if version >= since else {})
    if version < (2, 57):
        server["personality"] = PERSONALITY
    required = ("name", "flavorRef", *(["networks"] if version >= (2, 37) else []))
    return fields(
        {
            "server": fields(server, *required),
            "os:scheduler_hints": _HINTS,
            "OS-SCH-HNT:scheduler_hints": _HINTS,
        },
        "server",
    )


@lru_cache(128)
def update(version: Version) -> Schema:
    """The body of PUT /servers/{id}."""
    server: dict[str, Schema] = {"name": NAME, "OS-DCF:diskConfig": DISK_CONFIG, **ACCESS}
    if version >= (2, 19):
        server["description"] = DESCRIPTION
    if version >= (2, 90):
        server["hostname"] = FQDN if version >= (2, 94) else HOSTNAME
    return fields({"server": fields(server)}, "server")


METADATA_BODY = fields({"metadata": METADATA}, "metadata")
META_BODY = fields({"meta": {**METADATA, "maxProperties": 1}}, "meta")
TAGS_BODY = fields({"tags": TAGS}, "tags")

_BLOCK: Schema = {**BOOLEAN, "enum": [*BOOLEAN["enum"], "auto"]}
_TARGET = nullable(FQDN)


def _rebuild(version: Version) -> Schema:
    body: dict[str, Schema] = {
        "name": NAME,
        "imageRef": UUID,
        "adminPass": PASSWORD,
        "metadata": METADATA,
        "preserve_ephemeral": BOOLEAN,
        "OS-DCF:diskConfig": DISK_CONFIG,
        **ACCESS,
    }
    for since, more in (
        ((2, 19), {"description": DESCRIPTION}),
        ((2, 54), {"key_name": {"oneOf": [string(1), NULL]}}),
        ((2, 57), {"user_data": nullable(USER_DATA)}),
        ((2, 63), {"trusted_image_certificates": CERTIFICATES}),
        ((2, 90), {"hostname": HOSTNAME}),
        ((2, 94), {"hostname": FQDN}),
    ):
        body.update(more if version >= since else {})
    if version < (2, 57):
        body["personality"] = PERSONALITY
    return fields(body, "imageRef")


def _live(version: Version) -> Schema:
    body: dict[str, Schema] = {"block_migration": _BLOCK if version >= (2, 25) else BOOLEAN, "host": _TARGET}
    if version < (2, 25):
        return fields({**body, "disk_over_commit": BOOLEAN}, "block_migration", "disk_over_commit", "host")
    if (2, 30) <= version < (2, 68):
        body["force"] = BOOLEAN
    return fields(body, "block_migration", "host")


def _evacuate(version: Version) -> Schema:
    body: dict[str, Schema] = {"host": FQDN, "adminPass": PASSWORD}
    if version < (2, 14):
        return fields({**body, "onSharedStorage": BOOLEAN}, "onSharedStorage")
    return fields({**body, "force": BOOLEAN} if (2, 29) <= version < (2, 68) else body)


def _unshelve(version: Version) -> Schema:
    if version < (2, 77):
        return ANY
    if version < (2, 91):
        return nullable(fields({"availability_zone": NAME}, "availability_zone"))
    return nullable(fields({"availability_zone": {"type": ["string", "null"]}, "host": {"type": "string"}}))


def _lock(version: Version) -> Schema:
    return nullable(fields({"locked_reason": string(1)})) if version >= (2, 73) else ANY


def _migrate(version: Version) -> Schema:
    return nullable(fields({"host": _TARGET})) if version >= (2, 56) else ANY


_ACTIONS: dict[str, Any] = {
    "createImage": fields({"name": NAME, "metadata": METADATA}, "name"),
    "reboot": fields({"type": {"type": "string", **one_of("HARD", "Hard", "hard", "SOFT", "Soft", "soft")}}, "type"),
    "resize": fields({"flavorRef": FLAVOR_REF, "OS-DCF:diskConfig": DISK_CONFIG}, "flavorRef"),
    "rescue": nullable(fields({"adminPass": PASSWORD, "rescue_image_ref": UUID})),
    "os-resetState": fields({"state": {"type": "string", **one_of("active", "error")}}, "state"),
    "createBackup": fields(
        {"name": NAME, "backup_type": {"type": "string"}, "rotation": LIMIT, "metadata": METADATA},
        "name",
        "backup_type",
        "rotation",
    ),
    "os-getConsoleOutput": fields(
        {"length": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$", "minimum": -1}}
    ),
    "changePassword": fields({"adminPass": PASSWORD}, "adminPass"),
    "trigger_crash_dump": NULL,
    "addSecurityGroup": fields({"name": NAME}, "name"),
    "removeSecurityGroup": fields({"name": NAME}, "name"),
    "rebuild": _rebuild,
    "os-migrateLive": _live,
    "evacuate": _evacuate,
    "unshelve": _unshelve,
    "lock": _lock,
    "migrate": _migrate,
}


@lru_cache(1024)
def action(name: str, version: Version) -> Schema:
    """The body of an action."""
    form = _ACTIONS.get(name, ANY)
    return fields({name: form(version) if callable(form) else form}, name)


# Queries

_WORD = array({"type": "string"})
_REGEX = array({"type": "string", "format": "regex"})
_MOMENT = array({"type": "string", "format": "date-time"})
PAGE: dict[str, Schema] = {"limit": array(LIMIT), "marker": _WORD}
SORT_KEYS = (
    *("access_ip_v4", "access_ip_v6", "auto_disk_config", "availability_zone", "config_drive", "created_at"),
    *("display_description", "display_name", "host", "hostname", "image_ref", "instance_type_id", "kernel_id"),
    *("key_name", "launch_index", "launched_at", "locked_by", "node", "power_state", "progress", "project_id"),
    *("ramdisk_id", "root_device_name", "task_state", "terminated_at", "updated_at", "user_id", "uuid", "vm_state"),
)
#: Sort keys that Nova takes below 2.75, and ignores.
IGNORED_SORT_KEYS = (
    *("architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted"),
    *("deleted_at", "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on"),
    *("locked", "memory_mb", "os_type", "reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus"),
    "vm_mode",
)
_WORD_FILTERS = (
    *("user_id", "project_id", "tenant_id", "launch_index", "image_ref", "image", "vm_state", "task_state", "host"),
    *("uuid", "sort_dir", "all_tenants", "soft_deleted", "deleted", "status", "block_device_mapping", "services"),
    *("metadata", "system_metadata", "info_cache", "security_groups", "pci_devices"),
)
_REGEX_FILTERS = (
    *("kernel_id", "ramdisk_id", "hostname", "key_name", "power_state", "node", "flavor", "reservation_id"),
    *("launched_at", "terminated_at", "availability_zone", "name", "display_name", "description"),
    *("display_description", "locked_by", "root_device_name", "config_drive", "access_ip_v4", "access_ip_v6"),
    *("auto_disk_config", "progress", "ip", "ip6", "created_at"),
)


@lru_cache(128)
def list_query(version: Version) -> Schema:
    """The query of GET /servers."""
    keys = [*SORT_KEYS, *(IGNORED_SORT_KEYS if version < (2, 75) else ["locked"])]
    known: dict[str, Schema] = {
        **dict.fromkeys(_WORD_FILTERS, _WORD),
        **dict.fromkeys(_REGEX_FILTERS, _REGEX),
        **PAGE,
        "sort_key": array({"type": "string", **one_of(*keys)}),
        "changes-since": _MOMENT,
    }
    if version >= (2, 26):
        known.update(dict.fromkeys(("tags", "tags-any", "not-tags", "not-tags-any"), _REGEX))
    if version >= (2, 66):
        known["changes-before"] = _MOMENT
    if version >= (2, 73):
        known["locked"] = _WORD
    return {
        "type": "object",
        "properties": known,
        "patternProperties": {"^_": _WORD},
        "additionalProperties": version < (2, 75),
    }


# Flavors, key pairs, groups, quotas and hosts

_SIZE: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "maximum": 2**31 - 1}
_SIZE_OR_NONE: Schema = {**_SIZE, "minimum": 0}
_FLAVOR_DESCRIPTION: Schema = {**DESCRIPTION, "maxLength": 65535}
EXTRA_SPECS: Schema = {
    **METADATA,
    "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": ["string", "number"], "maxLength": 255}},
}
EXTRA_SPECS_BODY = fields({"extra_specs": EXTRA_SPECS}, "extra_specs")
ONE_SPEC: Schema = {**EXTRA_SPECS, "minProperties": 1, "maxProperties": 1}
UPDATE_FLAVOR = fields({"flavor": fields({"description": _FLAVOR_DESCRIPTION}, "description")}, "flavor")
_TENANT = fields({"tenant": string(1)}, "tenant")
FLAVOR_ACCESS = {name: fields({name: _TENANT}, name) for name in ("addTenantAccess", "removeTenantAccess")}
FLAVOR_SORTS = (
    *("created_at", "description", "disabled", "ephemeral_gb", "flavorid", "id", "is_public", "memory_mb", "name"),
    *("root_gb", "rxtx_factor", "swap", "updated_at", "vcpu_weight", "vcpus"),
)


@lru_cache(64)
def create_flavor(version: Version) -> Schema:
    """The body of POST /flavors."""
    flavor: dict[str, Schema] = {
        "name": NAME,
        "id": {
            "type": ["string", "number", "null"],
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^(?! )[a-zA-Z0-9. _-]+(?<! )$",
        },
        "ram": _SIZE,
        "vcpus": _SIZE,
        "disk": _SIZE_OR_NONE,
        "OS-FLV-EXT-DATA:ephemeral": _SIZE_OR_NONE,
        "swap": _SIZE_OR_NONE,
        "rxtx_factor": {
            "type": ["number", "string"],
            "pattern": r"^[0-9]+(\.[0-9]+)?$",
            "minimum": 1e-9,
            "maximum": 3.40282e38,
        },
        "os-flavor-access:is_public": BOOLEAN,
    }
    if version >= (2, 55):
        flavor["description"] = _FLAVOR_DESCRIPTION
    return fields({"flavor": fields(flavor, "name", "ram", "vcpus", "disk")}, "flavor")


@lru_cache(256)
def query_of(kind: str, version: Version) -> Schema:
    """The query of a list; from 2.75 on Nova refuses what it does not know."""
    return fields(_QUERIES.get(kind, {}), more=version < _STRICT.get(kind, (2, 75)))


_QUERIES: dict[str, dict[str, Schema]] = {
    "flavors": {
        **PAGE,
        **dict.fromkeys(("is_public", "minRam", "minDisk"), _WORD),
        "sort_key": array({"type": "string", **one_of(*FLAVOR_SORTS)}),
        "sort_dir": array({"type": "string", **one_of("asc", "desc")}),
    },
    "keypairs": {**PAGE, "user_id": _WORD},
    "keypair": {"user_id": _WORD},
    "server_groups": {"all_projects": _WORD, "limit": array(LIMIT), "offset": array(LIMIT)},
    "limits": {"tenant_id": _WORD},
    "quota_sets": {"user_id": _WORD},
    "services": {"host": _WORD, "binary": _WORD},
    "hypervisors": {**PAGE, "hypervisor_hostname_pattern": _WORD, "with_servers": array(BOOLEAN)},
    "migrations": {
        **PAGE,
        **dict.fromkeys(("hidden", "host", "instance_uuid", "source_compute", "status", "migration_type"), _WORD),
        **dict.fromkeys(("user_id", "project_id"), _WORD),
        **dict.fromkeys(("changes-since", "changes-before"), _MOMENT),
    },
    "instance_actions": {**PAGE, **dict.fromkeys(("changes-since", "changes-before"), _MOMENT)},
}
#: Since when unknown parameters are refused, where that is not 2.75.
_STRICT: dict[str, Version] = {"hypervisors": (2, 53), "migrations": (2, 59), "instance_actions": (2, 58)}

_QUOTA: Schema = {"type": ["integer", "string"], "pattern": "^-?[0-9]+$", "minimum": -1, "maximum": 2**31 - 1}


@lru_cache(64)
def quota_set(version: Version) -> Schema:
    """The body of PUT /os-quota-sets/{project}."""
    names = ["instances", "cores", "ram", "metadata_items", "key_pairs", "server_groups", "server_group_members"]
    if version < (2, 57):
        names += ["injected_files", "injected_file_content_bytes", "injected_file_path_bytes"]
    if version < (2, 36):
        names += ["fixed_ips", "floating_ips", "security_groups", "security_group_rules"]
    return fields({"quota_set": fields({**dict.fromkeys(names, _QUOTA), "force": BOOLEAN})}, "quota_set")


@lru_cache(64)
def key_pair(version: Version) -> Schema:
    """The body of POST /os-keypairs."""
    allowed = r"^[_\-\@\. a-zA-Z0-9]+$" if version >= (2, 92) else r"^[_\- a-zA-Z0-9]+$"
    pair: dict[str, Schema] = {"name": {**NAME, "pattern": allowed}, "public_key": {"type": "string"}}
    if version >= (2, 2):
        pair["type"] = {"type": "string", **one_of("ssh", "x509")}
    if version >= (2, 10):
        pair["user_id"] = string(1)
    required = ("name", "public_key") if version >= (2, 92) else ("name",)
    return fields({"keypair": fields(pair, *required)}, "keypair")


@lru_cache(64)
def server_group(version: Version) -> Schema:
    """The body of POST /os-server-groups."""
    policies = ["anti-affinity", "affinity", *(["soft-anti-affinity", "soft-affinity"] if version >= (2, 15) else [])]
    policy: Schema = {"type": "string", **one_of(*policies)}
    if version < (2, 64):
        group = fields(
            {"name": NAME, "policies": array(policy, minItems=1, maxItems=1, uniqueItems=True)}, "name", "policies"
        )
    else:
        rules = fields({"max_server_per_host": COUNT})
        group = fields({"name": NAME, "policy": policy, "rules": rules}, "name", "policy")
    return fields({"server_group": group}, "server_group")


_ZONE: Schema = {"oneOf": [string(1, 255, format="az_name"), NULL]}
AGGREGATE = fields({"aggregate": fields({"name": NAME, "availability_zone": _ZONE}, "name")}, "aggregate")
UPDATE_AGGREGATE = fields(
    {
        "aggregate": {
            **fields({"name": string(1, 255, format="loose_name"), "availability_zone": _ZONE}),
            "anyOf": [{"required": ["name"]}, {"required": ["availability_zone"]}],
        }
    },
    "aggregate",
)
_NULLABLE_METADATA: Schema = {
    **METADATA,
    "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": ["string", "null"], "maxLength": 255}},
}
AGGREGATE_ACTIONS = {
    "add_host": fields({"add_host": fields({"host": FQDN}, "host")}, "add_host"),
    "remove_host": fields({"remove_host": fields({"host": FQDN}, "host")}, "remove_host"),
    "set_metadata": fields({"set_metadata": fields({"metadata": _NULLABLE_METADATA}, "metadata")}, "set_metadata"),
}
_STATUS: Schema = {"type": "string", **one_of("enabled", "disabled")}
SERVICE = fields({"status": _STATUS, "disabled_reason": string(1), "forced_down": BOOLEAN})
