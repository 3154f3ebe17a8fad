"""Where webhooks may go: which URLs, and which of the addresses that a name stands for.

Whoever may create a webhook makes the service send requests from its own network. So the URL has one plain form, and
each address to which the service would connect is judged: a global one, or one of the networks that the operator named.
An IPv6 address that carries an IPv4 address is judged by that too. Link-local addresses, where clouds keep their
metadata services, are refused whatever the operator named.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from vmsvc.domain.errors import InvalidRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 2048
_PORTS = {"https": 443, "http": 80}
#: What a URL may be made of (RFC 3986). No space, no backslash, no control character.
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
#: A name whose last label begins with a letter, so that no text that the C library takes for an address (`127.1`,
#: `2130706433`, `0x7f.1`, `0177.0.0.1`) counts as a name.
_NAME = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*(?=[a-z]){_LABEL}\.?", re.ASCII)

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL that say where a connection goes. `host` is a name in lower case or an address."""

    scheme: str
    host: str
    port: int


def parse(url: str) -> Target:
    """The target of an endpoint's URL. Raises InvalidRequest for a URL that has another form than
    `https://name[:port]/path?query`."""
    if len(url) > MAX_URL or not _URL.fullmatch(url):
        raise _refused("must be an https URL of at most 2048 ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _refused("has no valid host and port") from None
    if "@" in parts.netloc:
        raise _refused("must have no user and password: the signature says who sends")
    if parts.fragment or url.endswith("#"):
        raise _refused("must have no fragment")
    if port == 0 or parts.netloc.endswith(":"):
        raise _refused("has no valid port")
    if not ("[" not in parts.netloc and _NAME.fullmatch(host) or _is_literal(host, parts.netloc)):
        raise _refused("must name its host by a DNS name, or by an address as RFC 3986 writes it")
    return Target(parts.scheme, host.rstrip("."), port or _PORTS[parts.scheme])


def _is_literal(host: str, netloc: str) -> bool:
    """True for an address in its one usual form; one of IPv6 stands in brackets, without a zone."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return "%" not in host and (address.version == 6) == netloc.startswith("[")


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"url: it {reason}", field="url")


def refusal(scheme: str, addresses: Iterable[str], networks: Collection[Network]) -> str | None:
    """Why a request must not go to a host with these addresses; None when all of them are allowed. Plain `http` goes to
    the operator's `networks` alone."""
    found = [*addresses]
    if not found:
        return "its name stands for no address"
    for text in found:
        try:
            address = ip_address(text)
        except ValueError:  # an address with a zone is link-local
            return "its address is not one that webhooks may go to"
        listed = _is_listed(address, networks)
        if _never(address) or not (listed or _is_global(address)):
            return "its address is not one that webhooks may go to"
        if scheme != "https" and not listed:
            return "it must be https"
    return None


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 address, as IPv4."""
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _carried(address: Address) -> IPv4Address | None:
    """The IPv4 address to which a translator or a tunnel would send what goes to this IPv6 address."""
    if not isinstance(address, IPv6Address):
        return None
    packed = address.packed
    if address in _NAT64 or packed[8:12] in _ISATAP:
        return IPv4Address(packed[12:])
    return IPv4Address(packed[2:6]) if address in _6TO4 else None


def _never(address: Address) -> bool:
    plain = _plain(address)
    carried = _carried(plain)
    return (
        plain.is_link_local or plain.is_multicast or plain.is_unspecified or (carried is not None and _never(carried))
    )


def _is_listed(address: Address, networks: Collection[Network]) -> bool:
    plain = _plain(address)
    carried = _carried(plain)
    listed = any(plain.version == network.version and plain in network for network in networks)
    return listed and (carried is None or _is_listed(carried, networks) or _is_global(carried))


def _is_global(address: Address) -> bool:
    plain = _plain(address)
    if isinstance(plain, IPv4Address):
        return plain.is_global and not plain.is_reserved
    carried = _carried(plain)
    if carried is not None:
        return _is_global(carried) and (plain in _GLOBAL_UNICAST or plain in _NAT64)
    return plain in _GLOBAL_UNICAST and plain.is_global
