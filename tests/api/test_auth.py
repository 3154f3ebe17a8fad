"""Who may come in: the token file, tickets, metrics, and proxies."""

import asyncio
import os
from dataclasses import replace
from ipaddress import ip_network

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.api.standin import UPGRADE, event
from vmsvc.domain.errors import Unauthenticated
from vmsvc.domain.principal import Principal
from vmsvc.service.identity import tokens
from vmsvc.service.identity.tokens import BadTokenFile, TokenFile
from vmsvc.web.app import make_app
from vmsvc.web.http.auth import TokenAuth
from vmsvc.web.http.proxies import TrustedProxies

VMS = "/api/v1/vm"
BODY = {"is_preemptible": True}


class Tickets:
    """As the service's, without a database."""

    def __init__(self):
        self.issued: dict[str, Principal] = {}

    async def issue(self, principal: Principal) -> str:
        """The next one."""
        ticket = f"ticket-{len(self.issued)}"
        self.issued[ticket] = principal
        return ticket

    async def redeem(self, ticket: str) -> Principal:
        """Once."""
        if ticket not in self.issued:
            raise Unauthenticated("this ticket was used")
        return self.issued.pop(ticket)


@pytest.fixture(name="file")
def _file(tmp_path):
    return tmp_path / "folder" / "tokens"


@pytest.fixture(name="member")
def _member(file):
    return tokens.add(file, "alice", "member")


@pytest.fixture(name="reader")
def _reader(file):
    return tokens.add(file, "bob", "reader")


@pytest.fixture(name="known")
def _known(file, member, reader, monkeypatch):
    del member, reader
    monkeypatch.setattr(tokens, "RELOAD_SECONDS", 0.0)
    found = TokenFile(file)
    found.load()
    return found


@pytest.fixture(name="app")
def _app(service, evictions, hub, settings, registry, known):
    return make_app(
        service,
        hub,
        settings,
        TokenAuth(known),
        evictions=evictions,
        tickets=Tickets(),
        webhooks=None,
        registry=registry,
    )


def bearer(token):
    """The header that shows it."""
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        bearer("wrong"),
        bearer("vmsvc-" + "A" * 43),
        {"Authorization": "Basic YWxpY2U6eA=="},
        {"X-Auth-Token": "wrong"},
        bearer("é"),
        bearer("x" * 20_000),
    ],
    ids=lambda headers: repr(headers)[:40],
)
async def test_who_shows_no_good_token_gets_nothing_of_the_api(call, service, headers):
    for method, path, body in (
        ("GET", VMS, None),
        ("POST", VMS, BODY),
        ("DELETE", f"{VMS}/x", None),
        ("GET", "/api/v1/events", None),
        ("GET", "/api/v1/capacity", None),
        ("GET", "/api/v1/evictions", None),
        ("POST", "/api/v1/tickets", None),
    ):
        answer = await call(method, path, json_body=body, headers=headers)
        assert (answer.status, answer.json["error"]) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert not service.calls


@pytest.mark.gen_test
async def test_the_page_the_documents_and_the_probes_are_open(call):
    for path in ("/", "/healthz", "/readyz", "/api/v1/", "/api/v1/openapi.json"):
        assert (await call("GET", path)).status == 200


@pytest.mark.gen_test
async def test_a_reader_reads_and_a_member_creates_by_name(call, service, member, reader):
    assert (await call("GET", VMS, headers=bearer(reader))).status == 200
    for method, path in (("POST", VMS), ("DELETE", f"{VMS}/x"), ("POST", f"{VMS}/x/ack"), ("POST", f"{VMS}/x/evict")):
        answer = await call(method, path, json_body=BODY, headers=bearer(reader))
        assert (answer.status, answer.json["error"]) == (403, "forbidden")
    assert not service.wrote()
    assert (await call("GET", "/api/v1/me", headers=bearer(reader))).json == {"name": "bob", "role": "reader"}
    assert (await call("GET", "/api/v1/me", headers=bearer(member))).json == {"name": "alice", "role": "member"}
    assert (await call("POST", VMS, json_body=BODY, headers=bearer(member))).status == 201
    assert service.calls[1][3] == "alice"


@pytest.mark.gen_test
async def test_the_file_counts_as_it_is_now(call, file, member):
    assert (await call("GET", VMS, headers=bearer(member))).status == 200
    new = tokens.add(file, "carol", "member")
    assert (await call("GET", VMS, headers=bearer(new))).status == 200
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["alice member oops", *lines[1:], "# the end"]))
    assert (await call("GET", VMS, headers=bearer(member))).status == 401
    assert (await call("GET", VMS, headers=bearer(new))).status == 200
    file.unlink()
    assert (await call("GET", VMS, headers=bearer(new))).status == 401


def test_a_token_is_in_the_file_as_a_hash_and_the_file_is_its_owners_alone(file, member):
    assert file.stat().st_mode & 0o777 == 0o600
    assert member not in file.read_text() and tokens.digest_of(member) in file.read_text()
    file.write_text(file.read_text().rstrip("\n"))  # as some editors leave it
    tokens.add(file, "bob", "reader")
    entries, bad = tokens.parse(file.read_text())
    assert ([entry.name for entry in entries], bad) == (["alice", "bob"], ())


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "#a", "ä", "x" * 65])
def test_a_name_that_would_break_the_file_is_refused(file, name):
    with pytest.raises(BadTokenFile):
        tokens.add(file, name, "member")
    assert not file.exists()


def test_a_service_does_not_start_with_a_token_file_that_is_missing_or_that_others_may_write(file, member):
    del member
    with pytest.raises(BadTokenFile, match="token new"):
        TokenFile(file.parent / "other").load()
    os.chmod(file, 0o620)
    with pytest.raises(BadTokenFile, match="chmod 600"):
        TokenFile(file).load()
    os.chmod(file, 0o600)
    os.chmod(file.parent, 0o770)
    with pytest.raises(BadTokenFile, match="chmod go-w"):
        TokenFile(file).load()
    os.chmod(file.parent, 0o1777)  # as /tmp: nobody replaces another's file there
    assert TokenFile(file).load() == 1


@pytest.mark.parametrize("others_may_write", [0o666, 0o620])
@pytest.mark.gen_test
async def test_a_token_file_that_others_may_write_from_now_on_lets_nobody_in_until_that_is_mended(
    call, file, member, caplog, others_may_write
):
    assert (await call("GET", VMS, headers=bearer(member))).status == 200
    os.chmod(file, others_may_write)
    assert (await call("GET", VMS, headers=bearer(member))).status == 401
    assert "chmod 600" in caplog.text
    os.chmod(file, 0o600)
    assert (await call("GET", VMS, headers=bearer(member))).status == 200
    os.chmod(file.parent, 0o777)
    assert (await call("GET", VMS, headers=bearer(member))).status == 401
    os.chmod(file.parent, 0o700)
    assert (await call("GET", VMS, headers=bearer(member))).status == 200


def test_a_link_to_a_token_file_in_a_folder_that_others_may_write_is_refused(file, member, tmp_path):
    del member
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "tokens").write_text(file.read_text())
    os.chmod(shared / "tokens", 0o600)
    os.chmod(shared, 0o777)
    file.unlink()
    file.symlink_to(shared / "tokens")
    with pytest.raises(BadTokenFile, match="shared"):
        TokenFile(file).load()


async def opened(http_port, query="", **headers):
    """A WebSocket."""
    return await websocket_connect(HTTPRequest(f"ws://127.0.0.1:{http_port}/api/v1/events{query}", headers=headers))


@pytest.mark.gen_test
async def test_a_socket_needs_a_token_or_a_ticket_and_a_ticket_is_good_once(call, http_port, hub, reader):
    for query in ("", "?ticket=nonsense", "?ticket="):
        assert (await call("GET", f"/api/v1/events{query}", headers=UPGRADE)).status == 401
    answer = await call("POST", "/api/v1/tickets", headers=bearer(reader))
    assert (answer.status, answer.headers["Cache-Control"]) == (201, "no-store")
    ticket = answer.json["ticket"]
    assert (await call("GET", f"/api/v1/events?ticket={ticket}")).status == 401, "it is for a socket alone"
    first = await opened(http_port, f"?ticket={ticket}")
    assert (await call("GET", f"/api/v1/events?ticket={ticket}", headers=UPGRADE)).status == 401
    second = await opened(http_port, **bearer(reader))
    while len(hub) < 2:
        await asyncio.sleep(0.001)
    hub.publish([event(1)])
    for client in (first, second):
        assert '"seq":1' in await client.read_message()
        client.close()


class TestWithPings:
    """A service that looks after its sockets twenty times a second."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, ping_interval=0.05)

    @pytest.mark.gen_test
    @pytest.mark.parametrize("way", ["token", "ticket"])
    async def test_a_socket_ends_when_its_token_does(self, call, http_port, file, member, reader, way):
        query, headers = "", bearer(reader)
        if way == "ticket":
            query, headers = "?ticket=" + (await call("POST", "/api/v1/tickets", headers=headers)).json["ticket"], {}
        ends = await opened(http_port, query, **headers)
        stays = await opened(http_port, **bearer(member))
        file.write_text(file.read_text().splitlines()[0] + "\n")
        assert await ends.read_message() is None
        assert (ends.close_code, ends.close_reason) == (4001, "show who you are: reconnect with since")
        assert stays.close_code is None
        ends.close()
        stays.close()


class TestAtAName:
    """A service behind a proxy of this machine, which it trusts."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(
            settings,
            hosts=frozenset({"vms.example"}),
            trusted_proxies=TrustedProxies([ip_network("127.0.0.0/8")]),
            local_peers=frozenset({"172.18.0.1"}),
            write_burst=2,
            write_rate=1 / 3600,
        )

    @pytest.mark.gen_test
    async def test_metrics_are_not_for_everybody_that_a_proxy_lets_through(self, call, reader):
        for headers in ({"Host": "vms.example"}, {"X-Forwarded-For": "192.0.2.1"}):
            assert (await call("GET", "/metrics", headers=headers)).status == 401
            assert (await call("GET", "/metrics", headers=headers | bearer(reader))).status == 200
        assert (await call("GET", "/metrics")).status == 200

    @pytest.mark.gen_test
    async def test_metrics_are_for_this_machine_too_where_it_comes_through_the_gateway_of_a_container(self, call):
        through = {"X-Forwarded-For": "172.18.0.1"}
        assert (await call("GET", "/metrics", headers=through)).status == 200
        assert (await call("GET", "/metrics", headers=through | {"Host": "vms.example"})).status == 401
        assert (await call("GET", "/metrics", headers={"X-Forwarded-For": "172.18.0.2"})).status == 401
        assert (await call("GET", VMS, headers=through)).status == 401

    @pytest.mark.gen_test
    async def test_a_principal_has_one_bucket_wherever_he_comes_from_and_readers_get_tickets_from_it(
        self, call, member, reader
    ):
        statuses = [
            (
                await call(
                    "POST", VMS, json_body=BODY, headers=bearer(member) | {"X-Forwarded-For": f"192.0.2.{number}"}
                )
            ).status
            for number in range(3)
        ]
        assert statuses == [201, 201, 429]
        assert (await call("POST", "/api/v1/tickets", headers=bearer(reader))).status == 201
