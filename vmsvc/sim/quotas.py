"""Quotas per project, and Nova's sentence when one is exceeded."""

from vmsvc.sim.refusal import forbidden
from vmsvc.sim.servers import Servers
from vmsvc.sim.store import Store

#: Nova's defaults (measured); -1 is unlimited.
DEFAULTS = {"cores": 20, "instances": 10, "key_pairs": 100, "metadata_items": 128, "ram": 51200,
            "server_group_members": 10, "server_groups": 10}
#: What the real bed gives to demo (measured).
AMPLE = {"cores": 1000000, "instances": 100000, "key_pairs": 1000, "metadata_items": 128, "ram": 1000000000,
         "server_group_members": 1000, "server_groups": 1000}


class Quotas:
    """The limits of each project, `port` (Neutron's) included."""

    def __init__(self, store: Store, servers: Servers):
        self._store = store
        self._servers = servers
        self._limits = dict(store.load("quota"))

    def limits(self, project_id: str) -> dict[str, int]:
        """All limits of a project."""
        return {**DEFAULTS, **self._limits.get(project_id, {})}

    def port_limit(self, project_id: str) -> int:
        """Neutron's limit on ports, -1 for none."""
        return self._limits.get(project_id, {}).get("port", -1)

    def set(self, project_id: str, values: dict[str, int]) -> None:
        """Change some limits."""
        limits = self._limits.setdefault(project_id, {})
        limits.update(values)
        self._store.put("quota", project_id, limits)

    def reset(self, project_id: str) -> None:
        """Back to the defaults."""
        self._limits.pop(project_id, None)
        self._store.drop("quota", project_id)

    def check(self, project_id: str, wanted: dict[str, int]) -> None:
        """Raise 403 in Nova's words if `instances`, `cores`, `ram` go beyond a limit (measured, section 3)."""
        limits, used = self.limits(project_id), self._servers.used(project_id)
        over = [name for name in sorted(wanted) if 0 <= limits[name] < used[name] + wanted[name]]
        if over:
            names = ", ".join(over)
            requested = ", ".join(str(wanted[name]) for name in over)
            already = ", ".join(str(used[name]) for name in over)
            allowed = ", ".join(str(limits[name]) for name in over)
            raise forbidden(f"Quota exceeded for {names}: Requested {requested}, but already used {already} of "
                            f"{allowed} {names}")
