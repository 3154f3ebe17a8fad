"""The HTTP beneath the SDK: a session of requests that is quick at the one thing it is here for.

Of the 1.8 ms of CPU that a call took, requests took 0.9 beside sending and reading: it looks through the environment
for a proxy, and prepares for cookies, redirects, hooks and logins, none of which the SDK lets it use. What the SDK
streams, which is all that goes through `Session.exchange`, takes the short way here, 0.45 ms for the same; signing in
and discovery go the usual one. The rules for proxies and certificates are those of requests, looked up once an address.

Imported by `session` when it opens: requests takes a while.
"""

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from keystoneauth1.session import TCPKeepAliveAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.util import Timeout

Address = tuple[str, str, Any, Any]


class HttpSession(requests.Session):
    """For any number of threads. `workers` is how many: requests' own pool of 10 was thrown away and made again."""

    def __init__(self, workers: int, services: int):
        super().__init__()
        self.direct = False     # True: no request goes through a proxy
        self._ways: dict[Address, Any] = {}
        adapter = TCPKeepAliveAdapter(pool_connections=services, pool_maxsize=workers)
        # Keystone's token is the only login: requests would look for a .netrc at each call, and send what is in it.
        self.auth = lambda request: request
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def request(self, method: str, url: str, **given: Any) -> requests.Response:    # pylint: disable=arguments-differ
        """As requests', for what `stream`s without redirects; errors come as urllib3 raises them."""
        if not given.get("stream") or given.get("allow_redirects", True):
            return super().request(method, url, **given)
        sent = requests.PreparedRequest()
        sent.method, sent.url, sent.body = method, _with(url, given.get("params")), given.get("data")
        sent.headers = CaseInsensitiveDict({"Accept-Encoding": "gzip, deflate", "Accept": "*/*", **given["headers"]})
        if sent.body is not None:
            sent.body = sent.body.encode() if isinstance(sent.body, str) else sent.body
            sent.headers["Content-Length"] = str(len(sent.body))
        adapter = self.get_adapter(url)
        pool, proxies = self._way(adapter, sent, given.get("verify"), given.get("cert"))
        connect, read = given["timeout"]
        return _answer(sent, pool.urlopen(
            method, adapter.request_url(sent, proxies), body=sent.body, headers=sent.headers, redirect=False,
            assert_same_host=False, preload_content=False, decode_content=False, retries=adapter.max_retries,
            timeout=Timeout(connect=connect, read=read)))

    def merge_environment_settings(self, url: str, *given: Any) -> dict[str, Any]:  # pylint: disable=arguments-differ
        """As requests does, but without a proxy for addresses that only this machine, or its containers, can reach."""
        found = super().merge_environment_settings(url, *given)
        if self.direct or _is_loopback(urlsplit(url).hostname or ""):
            found["proxies"] = {}
        return found

    def _way(self, adapter: Any, sent: requests.PreparedRequest, verify: Any, cert: Any) -> tuple[Any, dict]:
        """The pool of connections to there, and the proxies by which they go."""
        scheme, place = urlsplit(sent.url)[:2]
        known = self._ways.get((scheme, place, verify, cert))
        if known is None:
            found = self.merge_environment_settings(sent.url, {}, True, verify, cert)
            pool = adapter.get_connection_with_tls_context(sent, found["verify"], found["proxies"], found["cert"])
            adapter.cert_verify(pool, sent.url, found["verify"], found["cert"])
            known = self._ways[scheme, place, verify, cert] = pool, found["proxies"]
        return known

    def close(self) -> None:
        """Close the sockets that are idle."""
        self._ways.clear()
        super().close()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _with(url: str, params: Any) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(params)}" if params else url


def _answer(sent: requests.PreparedRequest, raw: Any) -> requests.Response:
    answer = requests.Response()
    answer.status_code, answer.headers, answer.raw = raw.status, CaseInsensitiveDict(raw.headers), raw
    answer.url, answer.request, answer.reason = sent.url, sent, raw.reason
    return answer
