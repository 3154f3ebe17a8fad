"""The session of requests that keystoneauth makes its HTTP calls with: its pool, its login, its proxies.

Apart from `session`, which imports this module when it signs in: requests takes a while to load.
"""

from http.cookiejar import DefaultCookiePolicy
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from keystoneauth1.session import TCPKeepAliveAdapter


class HttpSession(requests.Session):
    """For `workers` threads that call `services` addresses; `direct`: no request goes through a proxy."""

    def __init__(self, workers: int, services: int, direct: bool = False):
        super().__init__()
        self._direct = direct
        # The default pool of 10 connections is too small for 32 threads: connections were thrown away and made again.
        adapter = TCPKeepAliveAdapter(pool_connections=services, pool_maxsize=workers)
        self.mount("http://", adapter)
        self.mount("https://", adapter)
        # Keystone's token is the only login. Without an `auth`, requests reads .netrc at each call and sends the login
        # that it finds there.
        self.auth = lambda request: request
        # A load balancer's cookie would bind all threads to one of its servers.
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))

    def merge_environment_settings(self, url: str, *given: Any) -> dict[str, Any]:  # pylint: disable=arguments-differ
        """As requests does, but without a proxy for addresses that only this machine, or its containers, can reach."""
        found = super().merge_environment_settings(url, *given)
        if self._direct or _is_loopback(urlsplit(url).hostname or ""):
            found["proxies"] = {}
        return found

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: keystoneauth follows redirects itself. Requests would read all of such an answer first, however long
        the peer takes for it."""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
