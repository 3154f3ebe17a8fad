"""What can be set on the simulated cloud: at start, or later by request."""

from dataclasses import dataclass, fields

from vmsvc.sim.refusal import bad_request


@dataclass
class Settings:
    """Durations in seconds of the cloud's clock, and a few switches."""

    schedule_seconds: float = 0.2       # from POST to the choice of a host
    boot_seconds: float = 0.6           # from the choice of a host to ACTIVE
    delete_seconds: float = 0.4         # teardown of a server that has a host
    stop_seconds: float = 0.2           # os-stop until SHUTOFF; other actions take as long
    fault_lag_seconds: float = 0.05     # ERROR shows before its fault (measured, section 2: 7 of 20 first looks)
    token_seconds: float = 3600.0
    service_down_seconds: float = 20.0  # until Nova calls a silent host down (the real bed's value)
    reclaim_seconds: float = 0.0        # reclaim_instance_interval: above 0, DELETE makes SOFT_DELETED
    max_limit: int = 1000               # servers per page
    deleted_kept: int = 10000           # deleted servers that changes-since still knows
    ignores_groups: float = 0           # 1: a Nova that does not look whether a server group exists
    metadata_cache_seconds: float = 0.0  # metadata_cache_expiration: how long the guest may see old metadata

    def change(self, values: dict) -> None:
        """Set some; raises Refused for a name or a type that is not known."""
        known = {field.name: field.type for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise bad_request(f"no such setting: {name}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise bad_request(f"setting {name} must be a number, 0 or more")
        for name, value in values.items():
            setattr(self, name, value)
