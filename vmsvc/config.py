"""Settings: name, default, meaning. Each is an environment variable and a flag of the same name.

`VMSVC_GRACE_SECONDS=10` and `--grace-seconds 10` say the same; the flag wins. An unknown `VMSVC_*` is an error, so that
a typing mistake is found at start and not at three in the morning. The OS_* variables are openstacksdk's own business.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "VMSVC_"


class ConfigError(Exception):
    """A setting is unknown or has a value that cannot be; the message names it."""


def _setting(default: Any, meaning: str, *, least: float | None = None, most: float | None = None,
             choices: Sequence[str] = ()) -> Any:
    return field(default=default, metadata={"help": meaning, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked. Durations are seconds."""

    address: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8888, "port to listen on; 0 takes a free one", least=0, most=65535)
    database_url: str = _setting("", "postgresql://…; empty: an embedded PostgreSQL in the data folder")
    data_dir: str = _setting("", "folder of the embedded database and cloud; empty: the user's data folder")
    flavor: str = _setting("", "flavor of a request that names none; empty: the only one there is")
    image: str = _setting("", "image of a request that names none; empty: the only one there is")
    network: str = _setting("", "network of a request that names none; empty: the only one there is")
    grace_seconds: float = _setting(30.0, "notice before an eviction", least=0, most=86400)
    evict_action: str = _setting("stop-delete", "what an eviction does", choices=("stop-delete", "delete"))
    min_run_seconds: int = _setting(0, "a preemptible VM younger than this is no victim", least=0)
    max_victims: int = _setting(20, "victims that one request may take", least=1, most=1000)
    victim_policy: str = _setting("least_lost", "which of equal victims goes first",
                                  choices=("least_lost", "oldest_first", "newest_first"))
    request_timeout: float = _setting(300.0, "how long a POST waits before it turns into 202", least=0, most=86400)
    cloud_workers: int = _setting(32, "calls to the cloud under way at once", least=1, most=256)
    cloud_rate: float = _setting(50.0, "calls to the cloud per second", least=0.1)
    cloud_timeout: float = _setting(30.0, "limit of one call to the cloud", least=0.1, most=600)
    event_retention_hours: float = _setting(168.0, "how long event history is kept", least=0.01)
    sim_hosts: int = _setting(4, "hosts of the simulated cloud", least=1, most=10000)
    sim_vcpus: int = _setting(4, "vCPUs of each simulated host", least=1)
    sim_ram_mb: int = _setting(8192, "MiB of each simulated host", least=1)
    log_format: str = _setting("text", "log lines", choices=("text", "json"))
    allow_remote: str = _setting("no", "listen on other addresses than loopback although nobody has to log in",
                                 choices=("no", "yes, without authentication"))

    @property
    def folder(self) -> Path:
        """Where the embedded parts keep their data."""
        return Path(self.data_dir) if self.data_dir else Path.home() / ".local" / "share" / "vmsvc"


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def parser() -> argparse.ArgumentParser:
    """The flags, one for each setting."""
    flags = argparse.ArgumentParser(prog="python -m vmsvc", add_help=False, argument_default=argparse.SUPPRESS)
    for item in dataclasses.fields(Settings):
        flags.add_argument("--" + item.name.replace("_", "-"), metavar="VALUE",
                           help=f"{item.metadata['help']} (default: {item.default or '–'})")
    return flags


def load(environ: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment and flags (by field name); raises ConfigError."""
    known = {variable(item.name): item for item in dataclasses.fields(Settings)}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise ConfigError(f"unknown setting {', '.join(unknown)}; known are {', '.join(known)}")
    given = {item.name: environ[name] for name, item in known.items() if name in environ}
    given.update(flags or {})
    settings = Settings(**{item.name: _parse(item, given[item.name])
                           for item in known.values() if item.name in given})
    _require_safe_address(settings)
    return settings


def _parse(item: dataclasses.Field, text: str) -> Any:
    name, meta = variable(item.name), item.metadata
    try:
        value = {int: int, float: float, str: str}[type(item.default)](text)
    except ValueError:
        raise ConfigError(f"{name}={text!r} is not a number") from None
    if meta["choices"] and value not in meta["choices"]:
        raise ConfigError(f"{name}={text!r} is none of: {'; '.join(meta['choices'])}")
    if meta["least"] is not None and not value >= meta["least"]:
        raise ConfigError(f"{name}={text} is less than {meta['least']}")
    if meta["most"] is not None and value > meta["most"]:
        raise ConfigError(f"{name}={text} is more than {meta['most']}")
    return value


def is_loopback(address: str) -> bool:
    """True for addresses that only this machine reaches."""
    return address in ("localhost", "::1") or address.startswith("127.")


def _require_safe_address(settings: Settings) -> None:
    if not is_loopback(settings.address) and settings.allow_remote == "no":
        raise ConfigError(
            f"VMSVC_ADDRESS={settings.address} would let everybody who reaches this machine create and delete VMs. "
            f"Listen on 127.0.0.1, or say VMSVC_ALLOW_REMOTE='yes, without authentication'.")
