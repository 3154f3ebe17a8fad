"""The session of requests beneath the SDK: what it sends, which connection and which proxy it takes."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from requests import RequestException

from vmsvc.cloud.openstack.http_session import HttpSession

GIVEN = {
    "stream": True,
    "allow_redirects": False,
    "timeout": (5.0, 5.0),
    "headers": {"X-Auth-Token": "t"},
    "verify": True,
}


@pytest.fixture(name="place")
def fixture_place():
    """A server that remembers: its address, and (method, path, headers, body) of what came."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        """Says yes to everything, and wants a cookie to be kept."""

        protocol_version = "HTTP/1.1"

        def do_POST(self):  # pylint: disable=invalid-name
            """Remember and answer."""
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, self.headers, body, self.client_address))
            self.send_response(302)
            self.send_header("Set-Cookie", "sticky=1")
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "1000000" if self.path == "/endless" else "4")
            self.end_headers()
            self.wfile.write(b"done")

        do_GET = do_POST

        def log_message(self, *_):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.fixture(name="session")
def fixture_session():
    """One that is closed."""
    made = HttpSession(2, 1)
    yield made
    made.close()


def answered(session, method, url, **given):
    """Status, headers, body and what was sent, read to the end."""
    with session.request(method, url, **{**GIVEN, **given}) as answer:
        return answer.status_code, answer.headers, answer.raw.read(decode_content=True), answer.request


def test_a_request_arrives_whole_and_its_answer_too(session, place):
    address, seen = place
    status, headers, body, sent = answered(
        session, "POST", f"{address}/a?b=1", params={"c": "x y", "d": "&"}, data="{}"
    )
    ((method, path, arrived, content, _),) = seen
    assert (status, headers["LOCATION"], body) == (302, "/elsewhere", b"done"), "redirects are the SDK's business"
    assert (method, path, content) == ("POST", "/a?b=1&c=x+y&d=%26", b"{}")
    assert arrived["X-Auth-Token"] == sent.headers["x-auth-token"] == "t" and arrived["Content-Length"] == "2"


def test_a_connection_is_used_again_and_no_cookie_kept(session, place):
    address, seen = place
    for _ in range(3):
        answered(session, "GET", f"{address}/a")
    assert len({where for *_, where in seen}) == 1
    assert not any("Cookie" in arrived for _, _, arrived, _, _ in seen)


def test_the_body_of_a_redirect_is_not_waited_for(session, place):
    began = time.monotonic()
    with session.request("GET", f"{place[0]}/endless", **GIVEN) as answer:
        assert answer.status_code == 302 and time.monotonic() - began < 2


def test_it_goes_by_the_proxy_of_the_environment(session, place, monkeypatch):
    address, seen = place
    monkeypatch.setenv("http_proxy", address)
    monkeypatch.setenv("no_proxy", "other.example")
    answered(session, "GET", "http://cloud.example/a")
    assert seen[0][1] == "http://cloud.example/a"


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_no_proxy_is_asked_for_what_only_this_machine_reaches(session, place, monkeypatch, name):
    address, seen = place
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert answered(session, "GET", f"{address}/a")[0] == 302
    signing_in = session.request("GET", f"{address}/b", timeout=5, allow_redirects=False)
    assert signing_in.status_code == 302
    assert [path for _, path, *_ in seen] == ["/a", "/b"]


def test_a_cloud_that_is_asked_directly_is_asked_through_no_proxy(place, monkeypatch):
    address, seen = place
    monkeypatch.setenv("http_proxy", address)
    with HttpSession(2, 1, direct=True) as session, pytest.raises(RequestException):
        answered(session, "GET", "http://cloud.invalid/a")
    assert not seen


def test_certificates_are_checked_against_those_that_the_environment_names(session, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(OSError, match="none.pem"):
        answered(session, "GET", "https://127.0.0.1:1/a")
