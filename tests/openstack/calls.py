"""Raw requests for two clouds, good and bad: some written by hand, most made from those by chance, always the same.

A text in braces stands for the id of something that each cloud has: `{server}`, `{image}`, ...; `{since}` for the
moment before these were made: what a cloud tells of an earlier time depends on how long it has been in use.
"""

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

UNKNOWN = "0c4f0c4f-0000-4000-8000-000000000000"
LONG = "x" * 256


@dataclass(frozen=True)
class Call:
    """One request. `user` is the member or the admin."""

    method: str
    path: str
    body: Any = None
    service: str = "compute"
    version: str | None = None
    user: str = "demo"

    def __str__(self) -> str:
        body = "" if self.body is None else " " + json.dumps(self.body)[:200]
        return f"{self.user}: {self.method} {self.service} {self.path} {self.version or ''}{body}"

    def filled(self, names: dict[str, str]) -> "Call":
        """The same for a cloud with these ids."""
        text = json.dumps([self.path, self.body])
        for name, value in names.items():
            text = text.replace("{" + name + "}", value)
        path, body = json.loads(text)
        return replace(self, path=path, body=body)


SERVER = {
    "name": "made",
    "flavorRef": "m1.tiny",
    "imageRef": "{image}",
    "networks": [{"uuid": "{network}"}],
    "metadata": {"a": "b"},
    "tags": ["t"],
    "description": "d",
    "user_data": "YQ==",
    "config_drive": True,
    "availability_zone": "nova",
    "accessIPv4": "10.0.0.1",
    "accessIPv6": "::1",
    "OS-DCF:diskConfig": "AUTO",
    "security_groups": [{"name": "default"}],
    "min_count": 1,
    "max_count": 1,
    "hostname": "made",
    "adminPass": "secret",
    "key_name": "pair",
}
#: What a body must not be: each wrong in a way of its own, so that no cloud makes anything of it.
WRONG: tuple[Any, ...] = (None, "", 7, True, [], {}, ["x"], {"x": "y"}, LONG, " blank", "ctrl\x01", "a/b", -1, 1.5)


def bodies() -> dict[tuple[str, str, str, str | None], Any]:
    """By user, method and path: a body that is right, from which wrong ones are made."""
    action = "/servers/{server}/action"
    return {
        ("demo", "POST", "/servers", "2.93"): {"server": SERVER},
        ("demo", "PUT", "/servers/{server}", "2.93"): {
            "server": {"name": "n", "description": "d", "accessIPv4": "1.2.3.4", "hostname": "host"}
        },
        ("demo", "POST", action, "2.93"): {"rebuild": {"imageRef": "{image}", "name": "n", "metadata": {"a": "b"}}},
        ("demo", "POST", action, None): {"resize": {"flavorRef": "m1.small"}},
        ("admin", "POST", action, "2.93"): {"os-migrateLive": {"host": None, "block_migration": "auto"}},
        ("admin", "POST", action, None): {"os-resetState": {"state": "active"}},
        ("demo", "POST", action, "2.95"): {"lock": {"locked_reason": "r"}},
        ("demo", "POST", action, "2.92"): {"createImage": {"name": "n", "metadata": {"a": "b"}}},
        ("demo", "POST", action, "2.90"): {"reboot": {"type": "SOFT"}},
        ("demo", "POST", "/servers/{server}/metadata", None): {"metadata": {"a": "b"}},
        ("demo", "PUT", "/servers/{server}/tags", None): {"tags": ["a", "b"]},
        ("demo", "POST", "/os-keypairs", None): {"keypair": {"name": "n", "type": "ssh", "public_key": "{key}"}},
        ("demo", "POST", "/os-server-groups", None): {
            "server_group": {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 2}}
        },
        ("admin", "POST", "/flavors", None): {
            "flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1, "id": "f", "swap": 0, "rxtx_factor": 1.0}
        },
        ("admin", "PUT", "/os-quota-sets/{project}", None): {"quota_set": {"cores": 10, "force": True}},
        ("admin", "POST", "/os-aggregates", None): {"aggregate": {"name": "a", "availability_zone": "z"}},
    }


QUERIES: dict[tuple[str, str, str, str | None], dict[str, str]] = {
    ("demo", "compute", "/servers", "2.93"): {"limit": "1", "sort_key": "display_name", "sort_dir": "asc", "name": "s"},
    ("demo", "compute", "/servers/detail", "2.60"): {"status": "ACTIVE", "changes-since": "{since}"},
    ("admin", "compute", "/servers", "2.80"): {"all_tenants": "1", "host": "none", "tenant_id": "{project}"},
    ("demo", "compute", "/flavors", None): {"limit": "2", "minRam": "1024", "minDisk": "1", "sort_key": "flavorid"},
    ("demo", "compute", "/flavors/detail", None): {"limit": "2", "is_public": "true", "sort_dir": "desc"},
    ("admin", "compute", "/os-hypervisors", None): {"limit": "2", "hypervisor_hostname_pattern": "-"},
    ("admin", "compute", "/os-hypervisors/detail", "2.80"): {"limit": "2", "with_servers": "true"},
    ("admin", "compute", "/os-services", None): {"binary": "nova-compute", "host": "none"},
    ("demo", "compute", "/os-keypairs", None): {"limit": "1"},
    ("demo", "compute", "/os-server-groups", None): {"limit": "1", "offset": "0"},
    ("admin", "compute", "/os-migrations", "2.80"): {"limit": "1", "status": "done"},
    ("demo", "compute", "/limits", None): {"reserved": "1"},
    ("demo", "network", "/networks", None): {"limit": "1", "sort_key": "name", "sort_dir": "asc", "fields": "id"},
    ("demo", "network", "/ports", None): {"limit": "1", "sort_key": "id", "sort_dir": "asc", "device_owner": "x"},
    ("demo", "network", "/subnets", None): {"fields": "name", "ip_version": "4", "cidr": "10.77.0.0/16"},
    ("demo", "network", "/security-groups", None): {"name": "default", "fields": "id"},
    ("demo", "image", "/images", None): {"limit": "1", "sort_key": "name", "sort_dir": "asc", "status": "active"},
    ("admin", "placement", "/resource_providers", "1.39"): {"resources": "VCPU:1", "required": "COMPUTE_NODE"},
    ("admin", "placement", "/allocation_candidates", "1.39"): {
        "resources": "VCPU:1,MEMORY_MB:512",
        "required": "!CUSTOM_NONE",
        "limit": "2",
    },
    ("admin", "placement", "/traits", "1.39"): {"name": "startswith:HW_CPU_X86_AVX5", "associated": "false"},
    ("admin", "placement", "/usages", "1.36"): {"project_id": "{project}"},
}
#: What a parameter of a query must not be, most of the time.
WRONG_VALUES = ("", "x", "0", "-1", "99999999999", UNKNOWN, "true", "a,b", "*", LONG)


def reads() -> Iterator[Call]:
    """Requests that change nothing and are right, or wrong in their path."""
    one = (
        "",
        "/metadata",
        "/tags",
        "/ips",
        "/os-interface",
        "/os-instance-actions",
        "/os-security-groups",
        "/topology",
    )
    for part in one:
        yield Call("GET", "/servers/{server}" + part)
        yield Call("GET", f"/servers/{UNKNOWN}{part}")
    for version in ("2.1", "2.47", "2.75", "2.100"):
        yield Call("GET", "/servers/{server}", version=version)
        yield Call("GET", "/servers/{server}", version=version, user="admin")
        yield Call("GET", "/servers/detail?changes-since={since}&name=gone", version=version)
        yield Call("GET", "/flavors/m1.tiny", version=version)
        yield Call("GET", "/os-hypervisors", version=version, user="admin")
        yield Call("GET", "/os-services?binary=nova-compute", version=version, user="admin")
        yield Call("GET", "/os-keypairs/pair", version=version)
        yield Call("GET", "/limits", version=version)
        yield Call("GET", "/os-quota-sets/{project}", version=version)
        yield Call("GET", "/servers/{gone}/os-instance-actions", version=version)
    for path in ("/servers/{server}/diagnostics", "/os-aggregates", "/os-migrations", "/os-availability-zone/detail"):
        for user in ("demo", "admin"):
            yield Call("GET", path, user=user)
    for path in ("/images", "/images/{image}", f"/images/{UNKNOWN}", "/images/x", "/images?limit=x"):
        yield Call("GET", path, service="image")
    for kind in ("networks", "subnets", "ports", "security-groups", "extensions"):
        yield Call("GET", f"/{kind}", service="network")
        yield Call("GET", f"/{kind}/{UNKNOWN}", service="network")
    for path in ("/resource_classes/VCPU", "/resource_classes/NOPE", "/traits/CUSTOM_NOPE", "/traits/COMPUTE_NODE"):
        yield Call("GET", path, service="placement", user="admin")
    for path in ("", "/inventories", "/usages", "/traits", "/aggregates", "/allocations", "/inventories/PCPU"):
        yield Call("GET", "/resource_providers/{provider}" + path, service="placement", user="admin")
    yield Call("GET", "/allocations/{server}", service="placement", user="admin", version="1.38")
    for path in ("/nothing", "/servers/{server}/nothing"):
        yield Call("GET", path)
    for path in ("/users", "/projects", "/domains", "/role_assignments", "/auth/projects", "/auth/catalog", "/roles"):
        for user in ("demo", "admin"):
            yield Call("GET", path, service="identity", user=user)


def filters() -> Iterator[Call]:
    """Queries, each with one parameter."""
    for (user, service, path, version), parameters in QUERIES.items():
        for name, value in parameters.items():
            needed = {"placement": "resources=VCPU:1&"}.get(service, "") if "candidates" in path else ""
            needed = "" if name in needed else needed
            yield Call("GET", f"{path}?{needed}{name}={value}", service=service, version=version, user=user)


def by_chance(count: int, seed: int) -> Iterator[Call]:
    """Wrong requests: a right body with one field changed, removed or added, or a query with a wrong value."""
    rng = random.Random(seed)
    right = list(bodies().items())
    queries = list(QUERIES.items())
    for number in range(count):
        if number % 3:
            (user, method, path, version), body = right[number % len(right)]
            yield Call(method, path, _spoilt(copy.deepcopy(body), rng), version=version, user=user)
        else:
            (user, service, path, version), parameters = queries[number % len(queries)]
            name = rng.choice([*parameters, "limit", "marker", "nonsense"])
            yield Call("GET", f"{path}?{name}={rng.choice(WRONG_VALUES)}", service=service, version=version, user=user)


def _spoilt(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The body with one thing wrong, most of the time in its inner part."""
    outer = rng.choice(list(body))
    inner = body[outer]
    if not isinstance(inner, dict) or rng.random() < 0.1:
        return {**body, rng.choice([outer, "nonsense"]): rng.choice(WRONG)}
    name = rng.choice([*inner, *inner, "nonsense"])
    if name in inner and rng.random() < 0.2:
        del inner[name]
    else:
        inner[name] = rng.choice(WRONG)
    return body
