"""Makes the parts that decide on access from the settings: authentication, limits, trusted proxies and TLS."""

import logging
import resource
import socket
import ssl
import struct
from pathlib import Path

from vmsvc.cloud.port import Cloud
from vmsvc.config import ConfigError, Settings, listed, networks_and_names
from vmsvc.service.identity.keystone import Keystone
from vmsvc.service.identity.tokens import TokenFile
from vmsvc.web.http.auth import Auth, KeystoneAuth, NoAuth, TokenAuth
from vmsvc.web.http.proxies import TrustedProxies
from vmsvc.web.http.settings import MAX_CONNECTIONS, MAX_SOCKETS, WebSettings, is_loopback

log = logging.getLogger(__name__)

_BURST_SECONDS = 10.0  # a principal that was quiet may ask for so many seconds' worth of changes at once ...
_READ_BURST_SECONDS = 2.0  # ... and of reads: what comes beside them waits until they are through

_RTF_GATEWAY = 0x2  # <linux/route.h>

_OWN_FILES = 256  # of the process's open files: for the database, the cloud, and all that is no client


def web_settings(settings: Settings) -> WebSettings:
    """The settings of the web layer. The number of connections is limited by the files that the process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    half = MAX_SOCKETS if files == resource.RLIM_INFINITY else max(64, (files - _OWN_FILES) // 2)
    return WebSettings(
        max_sockets=min(MAX_SOCKETS, half),
        max_connections=min(MAX_CONNECTIONS, half),
        address=settings.address,
        hosts=settings.host_names,
        request_timeout=settings.request_timeout,
        local_peers=gateways() if settings.gateway_is_local == "yes" else frozenset(),
        trusted_proxies=TrustedProxies(*networks_and_names(settings.trusted_proxies)),
        write_rate=settings.write_rate,
        write_burst=max(1, int(_BURST_SECONDS * settings.write_rate)),
        read_rate=settings.read_rate,
        read_burst=max(1, int(_READ_BURST_SECONDS * settings.read_rate)),
    )


def gateways(table: Path = Path("/proc/net/route")) -> frozenset[str]:
    """The addresses of this machine's, or container's, default gateways; empty where Linux does not show them.

    Docker's proxy and its address translation both pass a published port's connections on from the bridge's own
    address, and that is the container's gateway. A client on another machine keeps its own address.
    """
    try:
        routes = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
    except OSError:
        return frozenset()
    # Iface Destination Gateway Flags ...; addresses in hexadecimal, in the machine's order of bytes.
    return frozenset(
        socket.inet_ntoa(struct.pack("=I", int(gateway, 16)))
        for _, destination, gateway, flags, *_ in routes
        if int(destination, 16) == 0 and int(flags, 16) & _RTF_GATEWAY
    )


def auth_of(settings: Settings, cloud: Cloud) -> Auth:
    """The way of authentication. Raises BadTokenFile."""
    match settings.auth:
        case "token":
            return TokenAuth(_tokens(settings))
        case "keystone":
            return KeystoneAuth(
                Keystone(
                    cloud,
                    listed(settings.member_roles),
                    listed(settings.reader_roles),
                    admin_roles=listed(settings.admin_roles),
                )
            )
    return NoAuth()


def _tokens(settings: Settings) -> TokenFile:
    tokens = TokenFile(settings.tokens)
    tokens.load()
    return tokens


def require(settings: Settings) -> None:
    """Raises BadTokenFile or ConfigError for what would keep every replica from listening."""
    if settings.auth == "token":
        _tokens(settings)
    tls_of(settings)
    if settings.auth != "none" and not (is_loopback(settings.address) or settings.tls_cert or settings.trusted_proxies):
        log.warning("tokens come over the network in the clear: set VMSVC_TLS_CERT, or put a proxy with TLS in front")


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """What HTTPS needs; None for HTTP. Raises ConfigError."""
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)  # TLS 1.2 and later
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key or None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"VMSVC_TLS_CERT={settings.tls_cert} cannot be used ({error.strerror or error})") from None
    return context
