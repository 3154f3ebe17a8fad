"""Who a request is really from, when a proxy that we trust has passed it on.

Tornado's own `xheaders` believes whoever connects. Here a header counts only when the peer is one of the trusted
proxies, and of `X-Forwarded-For` only what these have added: the last address that is not one of them. Other headers
(`X-Real-Ip`, `Forwarded`, `X-Forwarded-Host`) count for nothing.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from tornado.httputil import HTTPServerRequest

Networks = Sequence[IPv4Network | IPv6Network]


def look_behind(request: HTTPServerRequest, trusted: Networks) -> None:
    """Put the client's address and protocol into the request."""
    if not _is_in(_address(request.remote_ip or ""), trusted):
        return
    for text in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        address = _address(text.strip())
        if address is None:
            break
        request.remote_ip = str(address)        # one spelling: a client has one budget, however its address is written
        if not _is_in(address, trusted):
            break
    protocol = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower()
    if protocol in ("http", "https"):
        request.protocol = protocol


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that the text is, and nothing besides: a port, a zone, brackets or a word make it none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if getattr(address, "scope_id", None) is not None:      # `fe80::1%anything`: the client could make up as many
        return None
    # An IPv4 client of a socket that takes both comes as ::ffff:192.0.2.1.
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: IPv4Address | IPv6Address | None, trusted: Networks) -> bool:
    return address is not None and any(address in network for network in trusted)
