"""Why vmsvc cannot reach the cloud, as a sentence for people: which address, what failed, and which setting to check.

keystoneauth wraps its errors around those of requests, urllib3 and Python. The innermost one says what a person can
correct: an unknown host name, a certificate, a port where nobody listens.
"""

import socket
import ssl
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

#: OpenSSL's reasons when the peer speaks plain HTTP.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_EOF")
#: OpenSSL's codes of certificates that no private CA corrects: not valid yet, expired, for another name or address.
_NO_CA_MENDS = (9, 10, 62, 64)
#: Errors of urllib3 and http.client when the peer speaks TLS instead of HTTP.
_NO_HTTP = ("BadStatusLine", "RemoteDisconnected", "ConnectionResetError", "IncompleteRead")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: keystoneauth keeps them as context, requests and urllib3 as first argument."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        current = pending.pop()
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            pending += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]


def place_of(url: str) -> str:
    """Scheme, host and port of a URL, without a login in it: `https://keystone.example:5000`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def connection_trouble(error: BaseException, address: str = "") -> str | None:
    """Why no connection could be made or used, as a sentence; None when the error has another cause. `address` is the
    URL that was asked, for errors that do not contain one."""
    found = list(causes(error))
    place = _asked(found) or (place_of(address) if address else "the cloud")
    if any(type(one).__name__ == "ProxyError" for one in found):
        return (
            f"{place}: the proxy of the environment (http_proxy, https_proxy, all_proxy) cannot be used: "
            f"{_innermost(found)}"
        )
    for one in found:
        if said := _tls_trouble(one, place) or _network_trouble(one, place):
            return said
    if place.startswith("http://") and any(type(one).__name__ in _NO_HTTP for one in found):
        return f"{place} closed the connection without an answer; does its address begin with https://?"
    if any(isinstance(one, TimeoutError) or "Timeout" in type(one).__name__ for one in found):
        return f"{place} does not answer in time"
    return None


def _tls_trouble(error: BaseException, place: str) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"{place}: its certificate cannot be verified ({error.verify_message.rstrip('.')})"
        return (
            said
            if error.verify_code in _NO_CA_MENDS
            else f"{said}; OS_CACERT, or cacert in clouds.yaml, names the file of a private CA"
        )
    if isinstance(error, ssl.SSLError):
        if any(name in (error.reason or str(error)) for name in _NO_TLS):
            return f"{place} does not speak TLS; does its address begin with http://?"
        return f"{place}: TLS failed ({error.reason or error})"
    return None


def _network_trouble(error: BaseException, place: str) -> str | None:
    if isinstance(error, socket.gaierror):
        return f"{place}: the name is not known ({error.strerror})"
    if isinstance(error, ConnectionRefusedError):
        return f"{place} refuses the connection: nobody listens there"
    if (
        isinstance(error, OSError)
        and error.errno
        and error.strerror
        and not isinstance(error, ConnectionError)
        and not error.filename
    ):
        return f"{place} cannot be reached ({error.strerror})"
    return None


def _asked(found: list[BaseException]) -> str | None:
    """The address that was asked: requests' errors contain it, or urllib3's pool of connections."""
    for one in found:
        if url := getattr(getattr(one, "request", None), "url", None):
            return place_of(url)
        pool = getattr(one, "pool", None)
        if host := getattr(pool, "host", None):
            return f"{getattr(pool, 'scheme', 'http')}://{host}:{getattr(pool, 'port', '')}"
    return None


def _innermost(found: list[BaseException]) -> str:
    """The words of the first error of Python's own among these."""
    for one in found:
        if type(one).__module__ in ("builtins", "socket") and isinstance(one, OSError):
            return one.strerror or str(one)
    return type(found[-1]).__name__


def is_secret(name: str) -> bool:
    """True when the value with this name in a cloud's `auth` must not be shown."""
    return any(word in name for word in ("password", "secret", "token", "passcode"))


def unread(paths: Iterable[str]) -> str:
    """Why none of these settings files could be read: what is wrong with those that exist, and which do not exist."""
    wrong, missing = [], []
    for path in dict.fromkeys(paths):
        try:
            with open(path, encoding="utf-8") as file:
                file.read()
            wrong.append(f"{path} is not valid YAML")
        except FileNotFoundError:
            missing.append(path)
        except OSError as error:
            wrong.append(f"{path}: {error.strerror}")
        except ValueError:
            wrong.append(f"{path} is not UTF-8")
    looked = [path for path in missing if path.endswith(".yaml")] or missing
    return "; ".join([*wrong, f"there is no {', '.join(looked)}"] if looked else wrong)
