"""Settings: name, default, meaning. Each is an environment variable and a flag of the same name.

`VMSVC_GRACE_SECONDS=10` and `--grace-seconds 10` say the same; the flag wins. An unknown `VMSVC_*` is an error, so that
a typing mistake is found at start and not at three in the morning. The OS_* variables are openstacksdk's own business.
"""

import argparse
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from vmsvc.domain.resources import Resources
from vmsvc.store.address import BadAddress, parse_url
from vmsvc.web.http.settings import is_loopback

PREFIX = "VMSVC_"
#: Variables that other programs read from the same shell: the demo, and the tests.
OTHERS = frozenset({"VMSVC_URL", "VMSVC_TOKEN", "VMSVC_TEST_CLOUD"})

#: One part of a host name; `_` occurs in names of containers. The last part has to begin with a letter, so that no text
#: that the C library takes for an address (`127.1`, `0x7f000001`) counts as a name.
_PART = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$)(?:{_PART}\.)*(?=[a-z]){_PART}", re.IGNORECASE | re.ASCII)
#: What Placement takes as the name of a resource class.
_RESOURCE_CLASS = re.compile(r"[A-Z0-9_]{1,255}", re.ASCII)


class ConfigError(Exception):
    """A setting is unknown or has a value that cannot be; the message names it."""


@dataclass(frozen=True, slots=True)
class About:
    """What a setting means and may be."""

    meaning: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()


def authority(address: str, port: int) -> str:
    """Address and port as a URL has them: an IPv6 address stands in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked. Durations are seconds."""

    address: Annotated[
        str, About("address to listen on; `0.0.0.0` is every IPv4 address, `::` every IPv4 and IPv6 address")
    ] = "127.0.0.1"
    port: Annotated[int, About("port to listen on; 0 takes a free one", least=0, most=65535)] = 8888
    replicas: Annotated[
        int, About("processes that serve on this port; one that dies is started again", least=1, most=64)
    ] = 1
    metrics_port: Annotated[
        int,
        About(
            "port where the first replica serves `/metrics`, `/healthz` and `/readyz` alone, in the clear and without "
            "authentication; the second replica has the next port, and so on; 0: none",
            least=0,
            most=65472,
        ),
    ] = 0
    metrics_address: Annotated[str, About("address of these ports: who can connect to it sees the metrics")] = (
        "127.0.0.1"
    )
    database_url: Annotated[
        str,
        About(
            "`postgresql://…` or `host=… dbname=…`, as libpq reads them (several hosts, `sslmode`, `options`); "
            "PostgreSQL 14 or newer; empty: an embedded PostgreSQL in the data folder"
        ),
    ] = ""
    listen_url: Annotated[
        str,
        About("the same database without the pooler in transaction mode, for `LISTEN`; empty: `VMSVC_DATABASE_URL`"),
    ] = ""
    data_dir: Annotated[
        str, About("folder of the embedded database and the simulated cloud; empty: `~/.local/share/vmsvc`")
    ] = ""
    flavor: Annotated[
        str, About("flavor of a request that names none; empty: the only one there is (simulated cloud: `m1.tiny`)")
    ] = ""
    image: Annotated[str, About("image of a request that names none; empty: the only one there is")] = ""
    network: Annotated[str, About("network of a request that names none; empty: the only one there is")] = ""
    grace_seconds: Annotated[
        float, About("seconds from a notice to its eviction (`make run` sets 10)", least=0, most=86400)
    ] = 30.0
    evict_action: Annotated[str, About("what an eviction does to the server", choices=("stop-delete", "delete"))] = (
        "stop-delete"
    )
    min_run_seconds: Annotated[
        int, About("a preemptible VM that has run for fewer seconds is no candidate", least=0)
    ] = 0
    max_lifetime_seconds: Annotated[
        float,
        About(
            "a preemptible VM that has run for so many seconds is evicted with notice; the ends are spread over the "
            "last 10 %; 0: no limit",
            least=0,
        ),
    ] = 0.0
    owner_eviction_cost: Annotated[
        int,
        About(
            "vCPU-seconds that each VM which an owner lost in the last 24 h adds to the cost of evicting another one "
            "of that owner",
            least=0,
        ),
    ] = 3600
    max_victims: Annotated[int, About("most victims of one request", least=1, most=1000)] = 20
    max_waiting: Annotated[
        int, About("most requests of one owner that wait in the queue; the next one gets 429", least=1, most=100_000)
    ] = 100
    victim_policy: Annotated[
        str, About("which of equal candidates is chosen", choices=("least_lost", "oldest_first", "newest_first"))
    ] = "least_lost"
    host_capacity: Annotated[
        str,
        About(
            "tenant mode: what each host has for this project, in Placement's resource classes, as "
            "`VCPU=4,MEMORY_MB=8192,DISK_GB=80`; of a class that is left out nothing counts as free. Empty: vmsvc goes "
            "by what the project's servers held on a host at one moment"
        ),
    ] = ""
    tenant_eviction: Annotated[
        str,
        About(
            "tenant mode: `likely`: evict also where victims and capacity for which there is evidence make up a "
            "request together; `sure`: only where victims alone are as large as the request",
            choices=("likely", "sure"),
        ),
    ] = "likely"
    evidence_hours: Annotated[
        float,
        About("hours for which vmsvc keeps evidence of what hosts can hold (tenant mode)", least=0.01, most=87600),
    ] = 168.0
    request_timeout: Annotated[
        float, About("seconds that a POST waits before the answer is 202", least=0, most=86400)
    ] = 300.0
    cloud_workers: Annotated[int, About("most calls to the cloud at once", least=1, most=256)] = 32
    cloud_rate: Annotated[float, About("most calls to the cloud a second", least=0.1)] = 50.0
    cloud_timeout: Annotated[float, About("most seconds of one call to the cloud", least=0.1, most=600)] = 30.0
    event_retention_hours: Annotated[
        float, About("hours for which events are kept, and requests that never became a VM", least=0.01)
    ] = 168.0
    sim_hosts: Annotated[int, About("hosts of the simulated cloud", least=1, most=10000)] = 4
    sim_vcpus: Annotated[int, About("vCPUs of each simulated host", least=1)] = 4
    sim_ram_mb: Annotated[int, About("MiB of memory of each simulated host", least=1)] = 8192
    traces_url: Annotated[
        str,
        About(
            "where traces go by OTLP over HTTP, as `http://collector:4318/v1/traces`; needs `vmsvc[tracing]`; "
            "empty: nowhere"
        ),
    ] = ""
    log_format: Annotated[str, About("form of the log lines", choices=("text", "json"))] = "text"
    allow_remote: Annotated[
        str,
        About(
            "listen on other addresses than loopback although no client has to authenticate",
            choices=("no", "yes, without authentication"),
        ),
    ] = "no"
    hosts: Annotated[
        str,
        About(
            "names, with commas between, by which clients or a reverse proxy may call the service. Names of loopback "
            "are allowed where it listens on loopback; elsewhere every name is allowed while this is empty"
        ),
    ] = ""

    auth: Annotated[
        str,
        About(
            "which clients are admitted: all; holders of a token in the token file; holders of a Keystone token",
            choices=("none", "token", "keystone"),
        ),
    ] = "none"
    token_file: Annotated[str, About("file of hashed tokens; empty: `tokens` in the data folder")] = ""
    member_roles: Annotated[
        str, About("roles in Keystone, with commas between, whose holders may create and delete")
    ] = "member,admin"
    reader_roles: Annotated[str, About("roles in Keystone, with commas between, whose holders may read")] = "reader"
    admin_roles: Annotated[
        str,
        About(
            "roles in Keystone, with commas between, whose holders may end the notice of "
            "other owners' VMs early (`ack`)"
        ),
    ] = "admin"
    write_rate: Annotated[
        float,
        About(
            "creates and deletes a second that one principal may ask for in the long run; ten seconds' worth at once",
            least=0.01,
        ),
    ] = 100.0
    read_rate: Annotated[
        float,
        About(
            "GETs a second that one principal may ask of the database or the cloud in the long run; two seconds' "
            "worth at once. The list and the catalog do not count",
            least=0.01,
        ),
    ] = 100.0
    trusted_proxies: Annotated[
        str,
        About(
            "addresses, networks or host names, with commas between, of proxies whose `X-Forwarded-For` and "
            "`X-Forwarded-Proto` are believed. vmsvc looks a name up every 5 s. Docker adds the balancer"
        ),
    ] = ""
    gateway_is_local: Annotated[
        str,
        About(
            "`yes`: treat connections from the gateway of this container's network as the machine's own. Only right "
            "while the port is published on the machine's loopback alone. Docker sets `yes`",
            choices=("no", "yes"),
        ),
    ] = "no"
    webhooks_per_owner: Annotated[
        int, About("most webhooks of one owner; 0: there are no webhooks", least=0, most=1000)
    ] = 10
    webhook_networks: Annotated[
        str,
        About(
            "addresses or networks, with commas between, that webhooks may go to besides global addresses, there also "
            "over plain HTTP. Link-local addresses are never allowed"
        ),
    ] = ""
    webhook_hosts: Annotated[
        str,
        About(
            "names or addresses, with commas between, of hosts whose receivers need not answer OPTIONS before vmsvc "
            "sends them events"
        ),
    ] = ""
    tls_cert: Annotated[str, About("file of the certificate and its chain (PEM); with it, HTTPS only")] = ""
    tls_key: Annotated[str, About("file of the certificate's key (PEM), if that is another file")] = ""

    @property
    def declared_capacity(self) -> Resources:
        """What each host has for the project, as `host_capacity` says; empty where it says nothing."""
        return amounts(self.host_capacity)

    @property
    def allowed_networks(self) -> list[IPv4Network | IPv6Network]:
        """The networks in `webhook_networks`. Raises ConfigError."""
        networks, names = networks_and_names(self.webhook_networks, "VMSVC_WEBHOOK_NETWORKS")
        if names:
            raise ConfigError(f"VMSVC_WEBHOOK_NETWORKS: {names[0]!a} is no address or network")
        return networks

    @property
    def host_names(self) -> frozenset[str]:
        """The names in `hosts`."""
        return frozenset(name.lower() for name in listed(self.hosts))

    def authority(self, port: int) -> str:
        """The address with this port, as a URL has them."""
        return authority(self.address, port)

    @property
    def folder(self) -> Path:
        """Where the embedded parts keep their data."""
        if self.data_dir:
            return Path(self.data_dir)
        try:
            return Path.home() / ".local" / "share" / "vmsvc"
        except RuntimeError:
            raise ConfigError("VMSVC_DATA_DIR: this user has no home folder; name a folder for the data") from None

    @property
    def tokens(self) -> Path:
        """The token file."""
        return Path(self.token_file) if self.token_file else self.folder / "tokens"


def listed(text: str) -> frozenset[str]:
    """The words of a list with commas."""
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def amounts(text: str) -> Resources:
    """`VCPU=4,MEMORY_MB=8192` as a vector. Raises ConfigError."""
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, amount = (word.strip() for word in part.partition("="))
        if (
            not _RESOURCE_CLASS.fullmatch(name)
            or not amount.isascii()
            or not amount.isdigit()
            or not 0 < int(amount) < 2**31
        ):
            raise ConfigError(
                f"VMSVC_HOST_CAPACITY: {part!a} is no amount of a resource class; write "
                "VCPU=4,MEMORY_MB=8192,DISK_GB=80"
            )
        if name in found:
            raise ConfigError(f"VMSVC_HOST_CAPACITY names {name} twice")
        found[name] = int(amount)
    return Resources(found)


def networks_and_names(
    text: str, setting: str = "VMSVC_TRUSTED_PROXIES"
) -> tuple[list[IPv4Network | IPv6Network], list[str]]:
    """The networks and the host names (in lower case) of a list in a setting. Raises ConfigError for a word that is
    neither."""
    networks, names = [], []
    for word in sorted(listed(text)):
        try:
            networks.append(ip_network(word.replace("%", " ")))  # refuses a zone: peers are compared without one
        except ValueError:
            if not _HOST_NAME.fullmatch(word):
                raise ConfigError(f"{setting}: {word!a} is no address, network or host name") from None
            names.append(word.lower())
    return networks, names


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def about(name: str) -> About:
    """What the setting of this name is about."""
    found: About = get_type_hints(Settings, include_extras=True)[name].__metadata__[0]
    return found


def parser() -> argparse.ArgumentParser:
    """The flags, one for each setting."""
    flags = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for item in dataclasses.fields(Settings):
        flags.add_argument(
            "--" + item.name.replace("_", "-"),
            metavar="VALUE",
            # argparse formats it: a percent sign is not its own.
            help=f"{about(item.name).meaning} (default: {item.default or '–'})".replace("%", "%%"),
        )
    return flags


def load(environ: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment and flags (by field name); raises ConfigError."""
    known = {variable(item.name): item for item in dataclasses.fields(Settings)}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in {*known, *OTHERS})
    if unknown:
        raise ConfigError(f"unknown setting {', '.join(unknown)}; known are {', '.join(known)}")
    given = {item.name: environ[name] for name, item in known.items() if name in environ}
    given.update(flags or {})
    settings = Settings(**{item.name: _parse(item, given[item.name]) for item in known.values() if item.name in given})
    _require_safe_address(settings)
    _require_sense(settings)
    return settings


def _parse(item: dataclasses.Field[Any], text: str) -> Any:
    name, meant = variable(item.name), about(item.name)
    kind: type[Any] = type(item.default)
    try:
        value = kind(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r} is not a number") from None
    if meant.choices and value not in meant.choices:
        raise ConfigError(f"{name}={text!r} is none of: {'; '.join(meant.choices)}")
    if meant.least is not None and not value >= meant.least:
        raise ConfigError(f"{name}={text} is less than {meant.least}")
    if meant.most is not None and not value <= meant.most:
        raise ConfigError(f"{name}={text} is more than {meant.most}")
    return value


def _require_safe_address(settings: Settings) -> None:
    if not is_loopback(settings.address) and settings.auth == "none" and settings.allow_remote == "no":
        raise ConfigError(
            f"VMSVC_ADDRESS={settings.address} would let everybody who reaches this machine create and delete VMs. "
            f"Listen on 127.0.0.1, ask who comes (VMSVC_AUTH), or say VMSVC_ALLOW_REMOTE='yes, without "
            "authentication'."
        )


def _require_sense(settings: Settings) -> None:
    if settings.tls_key and not settings.tls_cert:
        raise ConfigError("VMSVC_TLS_KEY without VMSVC_TLS_CERT")
    if settings.listen_url and not settings.database_url:
        raise ConfigError("VMSVC_LISTEN_URL needs VMSVC_DATABASE_URL")
    for name in ("database_url", "listen_url"):
        if url := getattr(settings, name):
            try:
                parse_url(url)
            except BadAddress as error:
                raise ConfigError(f"{variable(name)}: {error}") from None
    networks_and_names(settings.trusted_proxies)
    for name in listed(settings.webhook_hosts):
        if not _HOST_NAME.fullmatch(name) and not _is_address(name):
            raise ConfigError(f"VMSVC_WEBHOOK_HOSTS: {name!a} is no host name or address")
    _ = settings.allowed_networks
    amounts(settings.host_capacity)
