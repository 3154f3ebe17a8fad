"""Who a request is really from, when a proxy that we trust has passed it on.

Tornado's own `xheaders` believes whoever connects. Here a header counts only when the peer is one of the trusted
proxies, and of `X-Forwarded-For` only what these have added: the last address that is not one of them. Other headers
(`X-Real-Ip`, `Forwarded`, `X-Forwarded-Host`) count for nothing.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from tornado.httputil import HTTPServerRequest

Networks = Sequence[IPv4Network | IPv6Network]


def look_behind(request: HTTPServerRequest, trusted: Networks) -> None:
    """Put the client's address and protocol into the request."""
    if not _is_in(request.remote_ip or "", trusted):
        return
    for address in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        if not _is_address(address.strip()):
            break
        request.remote_ip = address.strip()
        if not _is_in(request.remote_ip, trusted):
            break
    protocol = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower()
    if protocol in ("http", "https"):
        request.protocol = protocol


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(address: str, trusted: Networks) -> bool:
    if not trusted or not _is_address(address):
        return False
    found = ip_address(address)
    # An IPv4 client of a socket that takes both comes as ::ffff:192.0.2.1.
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in trusted)
