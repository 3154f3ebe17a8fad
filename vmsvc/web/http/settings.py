"""The numbers and names that the web layer needs of the configuration."""

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from vmsvc.web.http.proxies import TrustedProxies

#: The largest body that is read as one (1 MiB).
MAX_BODY = 1024 * 1024
#: Bytes of a larger body that are read and thrown away, so that its sender reads the 413.
MAX_DRAIN = 16 * 1024 * 1024

#: WebSockets, and connections that are none.
MAX_SOCKETS = 5000
MAX_CONNECTIONS = 4096


def _static() -> Path:
    """The dashboard's files: an installed package has them in itself, a checkout and the image beside the package."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "static"
    return inside if inside.is_dir() else package.parent / "static"


STATIC = _static()


@lru_cache(64)
def is_loopback(name: str) -> bool:
    """True for `localhost` and the loopback addresses."""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Times are seconds. `hosts` are the names, besides loopback's, by which clients may call the service.
    `trusted_origins` are origins (`https://name`) of other sites whose pages may call it. `trusted_proxies` are the
    proxies whose X-Forwarded headers count. `local_peers` are addresses, besides loopback's, from which this machine
    itself calls."""

    address: str = "127.0.0.1"
    hosts: frozenset[str] = frozenset()
    trusted_origins: frozenset[str] = frozenset()
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    local_peers: frozenset[str] = frozenset()
    static_path: Path = STATIC
    request_timeout: float = 300.0
    ping_interval: float = 20.0  # of WebSockets; one that has not answered by the next ping is closed
    stream_heartbeat: float = 15.0  # of event streams
    header_timeout: float = 60.0  # also: how long an idle connection is kept
    body_timeout: float = 30.0
    answer_timeout: float = 60.0  # in which a peer has to take a response
    max_connections: int = MAX_CONNECTIONS  # WebSockets not counted; more than `max_in_flight`
    max_sockets: int = MAX_SOCKETS
    max_queue: int = 512 * 1024  # bytes that a WebSocket may lag behind
    max_in_flight: int = 2000
    max_unsent: int = 32 * 1024 * 1024  # bytes of all responses that peers have not taken yet
    write_rate: float = 100.0  # POSTs and DELETEs a second, for each client, in the long run
    write_burst: int = 1000
    read_rate: float = 100.0  # the same for GETs that ask the cloud or the database
    read_burst: int = 200

    def allows_host(self, name: str) -> bool:
        """True when a request with this name (no port) in its Host header is meant for this service.

        A page of another site can make its own name resolve to a loopback address (DNS rebinding), and a browser then
        counts its requests as same-origin. The Host header still carries the page's own name.
        """
        if name in self.hosts:
            return True
        if is_loopback(self.address):
            return is_loopback(name)
        return not self.hosts
