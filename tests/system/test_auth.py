"""Who may do what, on the whole service: token file, Keystone, tickets across replicas, and no secret anywhere."""

import asyncio
import json
import logging
import sys
import urllib.error

import pytest
from tornado.websocket import websocket_connect

from vmsvc import log
from vmsvc.service.identity import keystone, tokens

VMS = "/api/v1/vm"


@pytest.fixture(name="secrets")
def _secrets():
    """Whatever must turn up nowhere."""
    return []


@pytest.fixture(name="file")
def _file(tmp_path):
    return tmp_path / "tokens"


@pytest.fixture(name="alice")
def _alice(file, secrets):
    secrets.append(tokens.add(file, "alice", "member"))
    return {"Authorization": f"Bearer {secrets[-1]}"}


@pytest.fixture(name="bob")
def _bob(file, secrets):
    secrets.append(tokens.add(file, "bob", "member"))
    return {"Authorization": f"Bearer {secrets[-1]}"}


class TestTokens:
    """`VMSVC_AUTH=token`."""

    @pytest.fixture(name="options")
    def _options(self, file, alice, bob):
        del alice, bob
        return {"auth": "token", "token_file": file}

    @pytest.mark.gen_test(timeout=40)
    async def test_events_and_the_log_say_who_did_what(self, client, alice, bob, caplog):
        made = await client.create(True, headers=alice | {"X-Request-Id": "mine"})
        assert (made.status, made.json["vm"]["owner"]) == (201, "alice")
        noticed = await client.call("POST", f"{VMS}/{made.id}/evict", {"notice_only": True}, bob)
        assert noticed.status == 202
        assert (await client.delete(made.id, bob)).status == 200
        events = (await client.call("GET", "/api/v1/events?since=0", headers=alice)).json["events"]
        said = {f"{event['type']}/{event['data']['state']}": event["data"].get("by") for event in events}
        assert said == {
            "create/pending": "alice",
            "create/building": "alice",
            "create/active": "alice",
            "evict/noticed": "bob",
            "delete/deleting": "bob",
            "delete/deleted": "bob",
        }
        deleting = next(event for event in events if event["data"]["state"] == "deleting")
        assert (deleting["data"]["reason"], deleting["data"]["vm"]["owner"]) == ("deleted by bob", "alice")
        lines = [record.getMessage() for record in caplog.records if record.name == "vmsvc.access"]
        assert [line for line in lines if line.endswith(" alice mine")]

    @pytest.mark.gen_test(timeout=40)
    async def test_who_let_a_vm_go_early_is_on_record(self, client, alice, bob):
        vm = (await client.create(True, headers=alice)).id
        assert (await client.call("POST", f"{VMS}/{vm}/evict", {}, alice)).status == 202
        assert (await client.call("POST", f"{VMS}/{vm}/ack", {}, bob)).status == 200
        assert (await client.call("POST", f"{VMS}/{vm}/ack", {}, alice)).status == 200
        found = (await client.call("GET", f"/api/v1/evictions?vm={vm}", headers=alice)).json["evictions"]
        assert [one["acknowledged_by"] for one in found] == ["bob"], "the first one let it go"

    @pytest.mark.gen_test(timeout=40)
    async def test_an_idempotency_key_is_its_principals_own(self, client, alice, bob):
        answers = [await client.create(True, headers=who | {"Idempotency-Key": "one"}) for who in (alice, alice, bob)]
        first, again, other = (answer.id for answer in answers)
        assert first == again != other

    @pytest.mark.gen_test(timeout=60)
    async def test_no_secret_is_in_any_log_error_metric_page_or_table(self, client, alice, secrets, database, caplog):
        caplog.set_level(logging.DEBUG, "vmsvc")
        ticket = (await client.call("POST", "/api/v1/tickets", headers=alice)).json["ticket"]
        wrong = "vmsvc-" + "W" * 43
        secrets += [ticket, wrong, "hunter2", "c2VjcmV0LXVzZXItZGF0YQ=="]
        bodies = []
        for method, path, body, headers in (
            ("POST", VMS, {"is_preemptible": True, "user_data": "c2VjcmV0LXVzZXItZGF0YQ=="}, alice),
            ("POST", VMS, {"is_preemptible": True}, {"Authorization": f"Bearer {wrong}"}),
            ("POST", VMS, {"is_preemptible": True, "flavor": "none"}, alice | {"X-Auth-Token": wrong}),
            ("GET", f"{VMS}/nobody?password=hunter2", None, alice),
            ("GET", f"{VMS}/nobody", None, alice),
            ("GET", f"/api/v1/events?since=0&ticket={ticket}", None, alice),
            ("GET", VMS, None, alice),
            ("GET", "/api/v1/capacity", None, alice),
            ("GET", "/readyz", None, {}),
            ("GET", "/nowhere?token=" + wrong, None, {}),
        ):
            bodies.append((await client.call(method, path, body, headers)).json)
        socket = await websocket_connect(f"ws://127.0.0.1:{client.port}/api/v1/events?since=0&ticket={ticket}")
        bodies.append(await socket.read_message())
        socket.close()
        places = {
            "answers": json.dumps(bodies),
            "metrics": await client.text("/metrics"),
            "page": await client.text("/"),
            "log": "\n".join(log.TextFormatter().format(record) for record in caplog.records),
            "raw log": "\n".join(record.getMessage() for record in caplog.records if record.name[:5] == "vmsvc"),
        }
        tables = [
            row["tablename"] for row in database.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        places["tables"] = "\n".join(str(database.rows(f"SELECT to_jsonb({table}) FROM {table}")) for table in tables)
        found = [(place, secret) for place, text in places.items() for secret in secrets if secret in text]
        assert not found


@pytest.mark.gen_test(timeout=60)
async def test_a_token_is_made_on_the_command_line_and_shown_once(tmp_path, file):
    async def new(*arguments):
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "vmsvc",
            "token",
            *arguments,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "VMSVC_TOKEN_FILE": str(file)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complained = await asyncio.wait_for(running.communicate(), 40)
        return running.returncode, said.decode().strip(), complained.decode()

    status, token, complained = await new("new", "--name", "alice", "--role", "reader")
    assert status == 0 and token not in complained
    assert file.read_text() == f"alice reader {tokens.digest_of(token)}\n"
    for wrong in ((), ("new",), ("new", "--name", "a b"), ("new", "--name", "a", "--role", "root"), ("--name", "a")):
        status, said, complained = await new(*wrong)
        assert (status, said) == (2, "") and "Traceback" not in complained
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "token vmsvc-" + "A" * 43,
        "GET /api/v1/events?since=1&ticket=" + "A" * 43,
        "X-Auth-Token: gAAAA" + "A" * 80,
        "said gAAAA" + "A" * 80,
        "postgresql://vmsvc:" + "A" * 43 + "@db/vmsvc",
        "Authorization: Bearer " + "A" * 43,
        "duplicate key value\nDETAIL:  Key (principal, key)=(alice, AAAA) already exists.\n",
        "no such column\nLINE 1: INSERT INTO vm VALUES ('AAAA')\n                                ^",
    ],
)
def test_a_line_that_was_made_elsewhere_loses_its_secrets(line):
    assert "AAAA" not in log.scrubbed(line)


class TestReplicas:
    """Two processes on one database."""

    @pytest.fixture(name="options")
    def _options(self, file, alice):
        del alice
        return {"auth": "token", "token_file": file}

    @pytest.mark.gen_test(timeout=60)
    async def test_a_ticket_is_good_at_another_replica_and_there_once(self, new_process, environ, alice):
        one, other = new_process(environ), new_process(environ)
        first, second = await one.ready(), await other.ready()
        ticket = (await first.call("POST", "/api/v1/tickets", headers=alice)).json["ticket"]
        socket = await websocket_connect(f"ws://127.0.0.1:{second.port}/api/v1/events?ticket={ticket}")
        socket.close()
        for client in (first, second):
            answer = await client.call(
                "GET",
                f"/api/v1/events?ticket={ticket}",
                headers={
                    "Upgrade": "websocket",
                    "Connection": "Upgrade",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                },
            )
            assert (answer.status, answer.json["error"]) == (401, "unauthenticated")


class TestKeystone:
    """`VMSVC_AUTH=keystone`, with a member's credentials: it needs no right to look at other people's tokens."""

    @pytest.fixture(name="mode")
    def _mode(self):
        return "tenant"

    @pytest.fixture(name="options")
    def _options(self):
        return {"auth": "keystone"}

    @pytest.fixture(name="token")
    def _token(self, sim):
        """`token(user, project, role)`: a new one."""

        def issue(user, project="demo", role="member"):
            sim.call("POST", "/sim/users", {"name": user, "project": project, "role": role})
            return {"X-Auth-Token": sim.token(user, project)}

        return issue

    @pytest.mark.gen_test(timeout=40)
    async def test_project_and_role_decide(self, client, token):
        member, reader, stranger = token("mia"), token("rob", role="reader"), token("eve", "other", "admin")
        made = await client.create(True, headers=member)
        assert (made.status, made.json["vm"]["owner"]) == (201, "mia@Default")
        assert (await client.call("GET", VMS, headers=reader)).status == 200
        assert (await client.create(True, headers=reader)).status == 403
        assert (await client.call("GET", VMS, headers=stranger)).status == 403
        for headers in ({}, {"X-Auth-Token": "gAAAAnonsense"}, {"Authorization": "Bearer " + member["X-Auth-Token"]}):
            answer = await client.call("GET", VMS, headers=headers)
            assert (answer.status, answer.headers["WWW-Authenticate"][:8]) == (401, "Keystone")
        assert (await client.delete(made.id, member)).status == 200

    @pytest.mark.gen_test(timeout=60)
    async def test_two_principals_with_one_name_are_two(self, client, token):
        one, other = token("team one"), token("team_one")
        key = {"Idempotency-Key": "mine"}
        made = [await client.create(True, headers=who | key) for who in (one, other, one)]
        assert [answer.json["vm"]["owner"] for answer in made] == ["team_one@Default"] * 3
        assert made[0].id == made[2].id != made[1].id
        for ref, who, reason in (
            (made[0].id, other, "deleted by team_one@Default"),
            (made[1].id, other, "deleted by its owner"),
        ):
            assert (await client.delete(ref, who)).status == 200
            events = (await client.call("GET", f"/api/v1/events?since=0&vm={ref}", headers=one)).json["events"]
            assert [event["data"]["reason"] for event in events if event["data"]["state"] == "deleting"] == [reason]

    @pytest.mark.gen_test(timeout=60)
    async def test_another_owner_s_vm_is_released_early_only_with_the_role(self, client, token):
        owner, alike, root = token("team one"), token("team_one"), token("root", role="admin")
        vms = [(await client.create(True, headers=owner)).id for _ in range(2)]
        for vm in vms:
            assert (await client.call("POST", f"{VMS}/{vm}/evict", {}, owner)).status == 202
        refused = await client.call("POST", f"{VMS}/{vms[0]}/ack", {}, alike)
        assert (refused.status, refused.json["error"]) == (403, "forbidden")
        assert (await client.call("GET", f"{VMS}/{vms[0]}", headers=alike)).json["acknowledged_at"] is None
        for vm, who in zip(vms, (owner, root)):
            assert (await client.call("POST", f"{VMS}/{vm}/ack", {}, who)).status == 200
        found = (await client.call("GET", "/api/v1/evictions", headers=alike)).json["evictions"]
        assert {one["vm"]["id"]: one["acknowledged_by"] for one in found} == {
            vms[0]: "team_one@Default",
            vms[1]: "root@Default",
        }

    @pytest.mark.gen_test(timeout=40)
    async def test_a_token_that_was_revoked_is_no_longer_good_when_the_answer_is_old(
        self, client, sim, token, monkeypatch
    ):
        monkeypatch.setattr(keystone, "ACCEPTED_SECONDS", 0.0)
        member = token("mia")
        assert (await client.call("GET", VMS, headers=member)).status == 200
        sim.call("DELETE", "/identity/v3/auth/tokens", headers=member | {"X-Subject-Token": member["X-Auth-Token"]})
        assert (await client.call("GET", VMS, headers=member)).status == 401

    @pytest.mark.gen_test(timeout=40)
    async def test_a_token_that_has_expired_is_no_longer_good(self, client, sim, token, monkeypatch):
        monkeypatch.setattr(keystone, "ACCEPTED_SECONDS", 0.0)
        sim.settings(token_seconds=60)
        short = token("mia")
        sim.settings(token_seconds=3600)
        assert (await client.call("GET", VMS, headers=short)).status == 200
        sim.call("POST", "/sim/clock", {"advance": 61})
        assert (await client.call("GET", VMS, headers=short)).status == 401
        assert (await client.call("GET", VMS, headers=token("mia"))).status == 200

    @pytest.mark.gen_test(timeout=40)
    async def test_a_keystone_that_is_away_is_503_and_the_token_is_good_again_afterwards(self, client, sim, token):
        member = token("mia")
        sim.fault(action="status", service="identity", path="/auth/tokens", status=503)
        answer = await client.call("GET", VMS, headers=member)
        assert (answer.status, answer.json["error"]) == (503, "cloud_unavailable")
        assert "Retry-After" in answer.headers and member["X-Auth-Token"] not in json.dumps(answer.json)
        sim.clear_faults()
        assert (await client.call("GET", VMS, headers=member)).status == 200

    @pytest.mark.gen_test(timeout=40)
    async def test_the_cloud_is_asked_once_and_its_log_and_ours_know_no_token(self, client, sim, token, caplog):
        caplog.set_level(logging.DEBUG)
        member = token("mia")
        sim.forget_calls()
        for _ in range(5):
            assert (await client.call("GET", VMS, headers=member)).status == 200
        assert len(sim.calls(service="identity", method="GET", path="/auth/tokens")) == 1
        assert member["X-Auth-Token"] not in caplog.text


def test_the_simulated_keystone_shows_a_token_to_its_own_user_and_to_an_admin_alone(sim):
    sim.call("POST", "/sim/users", {"name": "mia", "project": "demo", "role": "member"})
    mia, demo, admin = sim.token("mia", "demo"), sim.token("demo", "demo"), sim.token("admin", "admin")
    for asker in (mia, admin):
        assert sim.call("GET", "/identity/v3/auth/tokens", headers={"X-Auth-Token": asker, "X-Subject-Token": mia})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        sim.call("GET", "/identity/v3/auth/tokens", headers={"X-Auth-Token": demo, "X-Subject-Token": mia})
