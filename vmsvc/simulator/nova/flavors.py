"""Nova's flavors, key pairs and quotas, without HTTP."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from vmsvc.simulator.errors import forbidden
from vmsvc.simulator.nova.servers import Servers
from vmsvc.simulator.store import LATER, Store

#: Nova's defaults (measured); -1 is unlimited.
DEFAULT_QUOTA = {
    "cores": 20,
    "instances": 10,
    "key_pairs": 100,
    "metadata_items": 128,
    "ram": 51200,
    "server_group_members": 10,
    "server_groups": 10,
}
#: The quota of the projects admin and demo in a new cloud.
LARGE_QUOTA = {
    "cores": 1000000,
    "instances": 100000,
    "key_pairs": 1000,
    "metadata_items": 128,
    "ram": 1000000000,
    "server_group_members": 1000,
    "server_groups": 1000,
}


@dataclass
class Flavor:
    """A flavor. Without a name, its id is its name as well; `projects` may use a private one. `ram` and `swap` are in
    MiB, `disk` and `ephemeral` in GiB."""

    id: str
    vcpus: int
    ram: int
    disk: int = 1
    ephemeral: int = 0
    swap: int = 0
    extra_specs: dict[str, str] = field(default_factory=dict)
    name: str = field(default="", metadata=LATER)
    description: str | None = field(default=None, metadata=LATER)
    is_public: bool = field(default=True, metadata=LATER)
    projects: list[str] = field(default_factory=list, metadata=LATER)
    rxtx_factor: float = field(default=1.0, metadata=LATER)

    def request(self, from_volume: bool) -> dict[str, int]:
        """The amount of each resource class that a server allocates in Placement (read: nova/scheduler/utils.py)."""
        amounts: dict[str, int] = {}
        for key, value in self.extra_specs.items():
            match = re.match(r"resources([\w-]*):(.+)", key)
            if match:
                amounts[match[2]] = amounts.get(match[2], 0) + int(value)
        if self.extra_specs.get("hw:cpu_policy") == "dedicated":
            amounts["PCPU"] = self.vcpus
        if "VCPU" not in amounts and "PCPU" not in amounts:
            amounts["VCPU"] = self.vcpus
        amounts.setdefault("MEMORY_MB", self.ram)
        amounts.setdefault("DISK_GB", (0 if from_volume else self.disk) + self.ephemeral + -(-self.swap // 1024))
        return {name: amount for name, amount in amounts.items() if amount}

    def embedded(self, from_volume: bool = False) -> dict[str, Any]:
        """The copy of the flavor that a server keeps: its fields, and what the server asks of a host."""
        copied = ("id", "vcpus", "ram", "disk", "ephemeral", "swap", "name")
        return {
            **{name: getattr(self, name) for name in copied},
            "extra_specs": dict(self.extra_specs),
            "request": self.request(from_volume),
            "traits": self.traits("required"),
            "forbidden": self.traits("forbidden"),
        }

    def traits(self, kind: str) -> list[str]:
        """The traits that a host must have ('required') or must not have ('forbidden')."""
        return sorted(
            key.removeprefix("trait:")
            for key, value in self.extra_specs.items()
            if key.startswith("trait:") and value == kind
        )


@dataclass
class KeyPair:
    """A user's public key."""

    user_id: str
    name: str
    public_key: str
    created: float
    type: str = field(default="ssh", metadata=LATER)
    shown: str = field(default="", metadata=LATER)

    @property
    def fingerprint(self) -> str:
        """Nova's fingerprint, or for a text that is no key one in the form of an MD5 fingerprint."""
        if self.shown:
            return self.shown
        digest = hashlib.md5(self.public_key.encode(), usedforsecurity=False).hexdigest()
        return ":".join(digest[i : i + 2] for i in range(0, 32, 2))


def keypair_key(user_id: str, name: str) -> str:
    """The key of a KeyPair in the table of all of them."""
    return f"{user_id}/{name}"


class Quotas:
    """The limits of each project: Nova's, and under `port` Neutron's limit on ports."""

    def __init__(self, store: Store, servers: Servers):
        self._store = store
        self._servers = servers
        self._limits: dict[str, dict[str, int]] = dict(store.load("quota"))

    def limits(self, project_id: str) -> dict[str, int]:
        """All limits of a project; -1 is unlimited."""
        return {**DEFAULT_QUOTA, **self._limits.get(project_id, {})}

    def port_limit(self, project_id: str) -> int:
        """Neutron's limit on ports; -1 is unlimited."""
        return self._limits.get(project_id, {}).get("port", -1)

    def set(self, project_id: str, values: dict[str, int]) -> None:
        """Change some limits."""
        limits = self._limits.setdefault(project_id, {})
        limits.update(values)
        self._store.put("quota", project_id, limits)

    def reset(self, project_id: str) -> None:
        """Give a project the default limits."""
        self._limits.pop(project_id, None)
        self._store.drop("quota", project_id)

    def check(self, project_id: str, wanted: dict[str, int]) -> None:
        """Raise Nova's 403 if these `instances`, `cores` and `ram` in addition would exceed a limit (measured)."""
        limits, used = self.limits(project_id), self._servers.used(project_id)
        exceeded = [name for name in sorted(wanted) if 0 <= limits[name] < used[name] + wanted[name]]
        if exceeded:
            names = ", ".join(exceeded)
            requested = ", ".join(str(wanted[name]) for name in exceeded)
            already = ", ".join(str(used[name]) for name in exceeded)
            allowed = ", ".join(str(limits[name]) for name in exceeded)
            raise forbidden(
                f"Quota exceeded for {names}: Requested {requested}, but already used {already} of {allowed} {names}"
            )
