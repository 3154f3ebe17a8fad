"""What the adapter makes of a cloud that hangs, lies, cuts the line or forgets who we are."""

import asyncio
import base64
import dataclasses
import logging
import time

import pytest

from tests.unit.cloud.conftest import cut, drip, hang, say, slowly
from vmsvc.cloud.port import MARK, REQUEST_ID, BootSpec
from vmsvc.domain.errors import CloudError, CloudUnavailable, Garbled, InvalidRequest, OutcomeUnknown, VmsvcError

SPEC = BootSpec(vmsvc_id="v1", name="n", flavor_id="f", image_id="i", network_id="n", metadata={MARK: "v1"})
SERVER = {"id": "s1", "name": "n", "status": "ACTIVE", "created": "2026-11-23T07:55:03Z", "metadata": {}}
accepted = say(202, {"server": {"id": "s1", "adminPass": "hunter2"}})
listed = say(200, {"servers": [SERVER]})
LIST = "/servers/detail"


@pytest.mark.gen_test
async def test_a_create_that_times_out_is_sent_once_and_its_outcome_is_unknown(rogue, adapter):
    cloud = adapter(timeout=0.5)
    await cloud.connect()
    rogue.on("POST", "/servers", hang)
    with pytest.raises(OutcomeUnknown):
        await cloud.create_server(SPEC)
    assert rogue.count("POST", "/servers") == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "answer",
    [
        say(500, {"computeFault": {"message": "oops"}}),
        say(502, "<html>"),
        cut,
        say(503, {"message": "busy"}),
        say(504, "<html>"),
        say(202, "<html>"),
        say(202, {"server": {}}),
        say(202, []),
    ],
)
async def test_a_create_that_may_have_worked_is_sent_once_and_its_outcome_is_unknown(rogue, adapter, answer):
    cloud = adapter()
    await cloud.connect()
    rogue.on("POST", "/servers", answer)
    with pytest.raises(OutcomeUnknown):
        await cloud.create_server(SPEC)
    assert rogue.count("POST", "/servers") == 1


#: The writes besides the create, each with the method and the path of its call.
WRITES = {
    "delete": ("DELETE", "/servers/s1", lambda cloud: cloud.delete("s1")),
    "force": ("POST", "/servers/s1/action", lambda cloud: cloud.delete("s1", force=True)),
    "stop": ("POST", "/servers/s1/action", lambda cloud: cloud.stop("s1")),
    "set metadata": ("POST", "/servers/s1/metadata", lambda cloud: cloud.set_metadata("s1", {"a": "b"})),
    "unset metadata": ("DELETE", "/servers/s1/metadata/a", lambda cloud: cloud.unset_metadata("s1", "a")),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("write", WRITES)
async def test_a_proxys_page_in_place_of_novas_answer_does_not_pass_for_it(rogue, adapter, write):
    cloud = adapter()
    await cloud.connect()
    method, path, call = WRITES[write]
    rogue.on(method, path, say(200, "<html>It works!</html>"))
    with pytest.raises(OutcomeUnknown):
        await call(cloud)
    for status in (302, 400, 403, 404, 409):
        rogue.on(method, path, say(status, "<html>Sorry</html>"))
        with pytest.raises(Garbled):
            await call(cloud)


@pytest.mark.gen_test
async def test_a_server_has_gone_only_when_nova_says_so(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    rogue.on("GET", "/servers/s1", say(404, "<html>no such address</html>"), say(200, {"server": SERVER}))
    assert (await cloud.server("s1")).id == "s1"
    rogue.on("GET", "/servers/s1", say(404, "<html>no such address</html>"))
    with pytest.raises(Garbled):
        await cloud.server("s1")


@pytest.mark.gen_test
async def test_a_create_that_found_nobody_listening_made_nothing(rogue, adapter):
    cloud = adapter()
    rogue.keep_alive = False
    await cloud.connect()
    rogue.vanish()
    with pytest.raises(CloudUnavailable) as caught:
        await cloud.create_server(SPEC)
    assert not isinstance(caught.value, OutcomeUnknown)


@pytest.mark.gen_test
async def test_a_create_that_gets_retry_after_made_nothing_and_says_when(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    rogue.on("POST", "/servers", say(429, {"overLimit": {"message": "slow down"}}, Retry_After="7"))
    with pytest.raises(CloudUnavailable) as caught:
        await cloud.create_server(SPEC)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.retry_after == 7


#: How clouds, and proxies before them, limit the rate; each did nothing.
LIMITS = {
    "413": say(413, {"overLimit": {"code": 413, "message": "This request was rate-limited."}}, Retry_After="1"),
    "413 by a proxy": say(413, "<html>slow down</html>", Retry_After="1"),
    "429": say(429, {"overLimit": {"message": "slow down"}}, Retry_After="1"),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("limit", LIMITS)
async def test_a_create_and_a_list_that_were_turned_away_are_sent_again_when_the_cloud_said(rogue, adapter, limit):
    cloud = adapter()
    await cloud.connect()
    rogue.on("POST", "/servers", LIMITS[limit], accepted)
    rogue.on("GET", LIST, LIMITS[limit], listed)
    for call in (lambda: cloud.create_server(SPEC), cloud.servers):
        started = time.monotonic()
        assert await call()
        assert time.monotonic() - started >= 0.9
    assert (rogue.count("POST", "/servers"), rogue.count("GET", LIST)) == (2, 2)


@pytest.mark.gen_test
@pytest.mark.parametrize("seconds", ["3600", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_an_absurd_retry_after_silences_a_service_for_a_minute_at_most(rogue, adapter, seconds):
    cloud = adapter(timeout=1.0)
    await cloud.connect()
    rogue.on("POST", "/servers", say(413, {"overLimit": {"message": "no"}}, Retry_After=seconds))
    for _ in range(2):
        with pytest.raises(CloudUnavailable) as caught:
            await cloud.create_server(SPEC)
        assert 50 < caught.value.retry_after <= 60
    assert rogue.count("POST", "/servers") == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("trouble", [cut, say(502, "<html>"), say(500, {"computeFault": {"message": "oops"}})])
async def test_a_read_is_tried_again_after_passing_trouble(rogue, adapter, trouble):
    cloud = adapter()
    await cloud.connect()
    rogue.on("GET", LIST, trouble, listed)
    assert [server.id for server in (await cloud.servers()).servers] == ["s1"]
    assert rogue.count("GET", LIST) == 2


@pytest.mark.gen_test
async def test_a_read_is_given_up_after_three_tries(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    rogue.on("GET", LIST, say(503, "<html>"))
    with pytest.raises(CloudUnavailable):
        await cloud.servers()
    assert rogue.count("GET", LIST) == 3


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "body",
    [
        "<html>welcome</html>",
        '{"servers": [',
        "null",
        [],
        {"other": 1},
        {"servers": [{"id": "s1"}]},
        {"servers": 7},
        {"servers": ["s1"]},
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for_is_a_cloud_error(rogue, adapter, body):
    cloud = adapter()
    await cloud.connect()
    rogue.on("GET", LIST, say(200, body))
    with pytest.raises(CloudError):
        await cloud.servers()


@pytest.mark.gen_test
async def test_a_token_revoked_under_32_calls_costs_one_sign_in_and_no_call(rogue, adapter):
    cloud = adapter(workers=32, rate=1000)
    await cloud.connect()
    rogue.on("GET", LIST, slowly(0.05, listed))
    rogue.valid.clear()
    pages = await asyncio.gather(*(cloud.servers() for _ in range(32)))
    assert all(len(page.servers) == 1 for page in pages)
    assert rogue.sign_ins == 2


@pytest.mark.gen_test
async def test_a_create_refused_for_its_token_is_sent_again_with_a_new_one(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    rogue.on("POST", "/servers", accepted)
    rogue.valid.clear()
    assert await cloud.create_server(SPEC) == "s1"
    assert [seen.token for seen in rogue.seen if seen.method == "POST"] == [
        "token-of-the-rogue-1",
        "token-of-the-rogue-2",
    ]


@pytest.mark.gen_test
async def test_a_service_that_asks_for_a_rest_gets_it(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    rogue.on("GET", LIST, say(503, {"message": "busy"}, Retry_After="1"), listed)
    started = time.monotonic()
    await cloud.servers()
    assert time.monotonic() - started >= 1.0


@pytest.mark.gen_test
@pytest.mark.parametrize("trouble", [hang, drip])
async def test_a_hung_cloud_leaves_the_loop_free_and_gives_the_threads_back(rogue, adapter, trouble):
    cloud = adapter(workers=2, timeout=0.5)
    await cloud.connect()
    rogue.on("GET", LIST, trouble)
    calls = asyncio.gather(*(cloud.servers() for _ in range(6)), return_exceptions=True)
    longest, before = 0.0, time.monotonic()
    while not calls.done():
        await asyncio.sleep(0.01)
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
    assert longest < 0.2
    assert {type(error) for error in await calls} == {CloudUnavailable}
    rogue.on("GET", LIST, listed)
    assert (await cloud.servers()).servers


@pytest.mark.gen_test
async def test_a_create_that_waits_behind_hung_calls_is_never_sent(rogue, adapter):
    cloud = adapter(workers=1, timeout=0.5)
    await cloud.connect()
    rogue.on("DELETE", "/servers/s1", hang)
    rogue.on("POST", "/servers", accepted)
    hung = asyncio.ensure_future(cloud.delete("s1"))
    await asyncio.sleep(0)
    outcomes = await asyncio.gather(hung, *(cloud.create_server(SPEC) for _ in range(3)), return_exceptions=True)
    made = [outcome for outcome in outcomes if outcome == "s1"]
    refused = [outcome for outcome in outcomes[1:] if isinstance(outcome, CloudUnavailable)]
    assert rogue.count("POST", "/servers") == len(made)
    assert not any(isinstance(error, OutcomeUnknown) for error in refused)


@pytest.mark.gen_test
async def test_many_calls_at_once_reuse_their_connections(rogue, adapter, caplog):
    caplog.set_level(logging.DEBUG, "urllib3")
    cloud = adapter(workers=32, rate=1000)
    await cloud.connect()
    rogue.on("GET", LIST, slowly(0.02, listed))
    for _ in range(2):
        await asyncio.gather(*(cloud.servers() for _ in range(32)))
    assert "pool is full" not in caplog.text
    opened = [record for record in caplog.records if "Starting new HTTP connection" in record.getMessage()]
    assert len(opened) <= 33


@pytest.mark.gen_test
async def test_no_secret_is_logged_at_any_level(rogue, adapter, caplog):
    caplog.set_level(logging.DEBUG)
    cloud = adapter()
    await cloud.connect()
    rogue.on("POST", "/servers", accepted)
    await cloud.create_server(SPEC)
    assert "create_server POST /servers 202" in caplog.text
    for secret in ("hunter2", "open sesame", "token-of"):
        assert secret not in caplog.text


@pytest.mark.gen_test
async def test_wrong_credentials_are_reported_without_showing_them(rogue, adapter):
    cloud = adapter(password="wrong one")
    with pytest.raises(CloudUnavailable) as caught:
        await cloud.connect()
    assert "credentials" in caught.value.message
    assert "wrong one" not in str(caught.value)
    assert rogue.sign_ins == 0


@pytest.mark.gen_test
async def test_connect_works_once_the_cloud_is_back(rogue, adapter):
    cloud = adapter()
    rogue.password = "changed"
    with pytest.raises(CloudUnavailable):
        await cloud.connect()
    rogue.password = "open sesame"
    await cloud.connect()
    assert (cloud.mode, cloud.project_id) == ("tenant", "p1")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("newest", "refused", "mode"),
    [
        ("2.100", None, "operator"),
        ("2.72", None, "tenant"),
        ("2.100", "/os-services", "tenant"),
        ("2.100", "/os-hypervisors", "tenant"),
        ("2.100", "/resource_providers", "tenant"),
    ],
)
async def test_operator_mode_needs_every_right_and_a_cloud_that_can_pin(rogue, adapter, newest, refused, mode):
    rogue.placement, rogue.newest = True, newest
    for path in ("/os-services", "/os-hypervisors", "/servers", "/resource_providers"):
        rogue.on("GET", path, say(403, {"forbidden": {"message": "no"}}) if path == refused else say(200, {}))
    cloud = adapter()
    await cloud.connect()
    assert cloud.mode == mode


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [403, 404])
async def test_a_proxys_page_at_the_start_makes_no_tenant_of_an_operator(rogue, adapter, status):
    rogue.placement = True
    for path in ("/os-services", "/os-hypervisors", "/servers", "/resource_providers"):
        rogue.on("GET", path, *([say(status, "<html>Sorry</html>")] if path == "/os-services" else []), say(200, {}))
    cloud = adapter()
    await cloud.connect()
    assert cloud.mode == "operator"


@pytest.mark.gen_test
async def test_a_cloud_that_is_too_old_is_refused_in_plain_words(rogue, adapter):
    rogue.newest = "2.42"
    with pytest.raises(CloudError, match="2.42; 2.53 or later is needed"):
        await adapter().connect()


@pytest.mark.gen_test
async def test_a_call_before_connect_made_nothing(rogue, adapter):
    with pytest.raises(CloudUnavailable):
        await adapter().create_server(SPEC)
    assert rogue.seen == []


@pytest.mark.gen_test
async def test_the_request_id_reaches_the_cloud_when_it_has_openstacks_form(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    rogue.on("GET", LIST, listed)
    good = "req-0a1b2c3d-0000-4000-8000-000000000001"
    for request_id in (good, "something else"):
        REQUEST_ID.set(request_id)
        await cloud.servers()
    sent = [
        {name.lower(): value for name, value in seen.headers.items()}.get("x-openstack-request-id")
        for seen in rogue.seen
        if seen.path == LIST
    ]
    assert sent == [good, None]


@pytest.mark.gen_test
async def test_every_request_is_measured_with_its_outcome(rogue, adapter):
    measured = []
    cloud = adapter(on_call=lambda operation, outcome, seconds: measured.append((operation, outcome, seconds > 0)))
    await cloud.connect()
    rogue.on("GET", LIST, say(502, "<html>"), listed)
    rogue.on("POST", "/servers", say(400, {"badRequest": {"message": "Flavor f could not be found."}}))
    await cloud.servers()
    with pytest.raises(InvalidRequest):
        await cloud.create_server(SPEC)
    assert measured == [
        ("servers", "cloud_unavailable", True),
        ("servers", "ok", True),
        ("create_server", "invalid_request", True),
    ]


@pytest.mark.gen_test
async def test_all_pages_are_read_and_pages_that_go_round_in_circles_end(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    link = {"servers_links": [{"rel": "next", "href": f"{rogue.url}{LIST}?marker=s1"}]}
    rogue.on("GET", LIST, say(200, {"servers": [SERVER], **link}), say(200, {"servers": [{**SERVER, "id": "s2"}]}))
    assert [server.id for server in (await cloud.servers()).servers] == ["s1", "s2"]
    assert rogue.seen[-1].body == "marker=s1"
    rogue.on("GET", LIST, say(200, {"servers": [SERVER], **link}))
    with pytest.raises(CloudError):
        await cloud.servers()


@pytest.mark.gen_test
async def test_the_reason_of_an_error_is_searched_for_once_more(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    failed = {**SERVER, "status": "ERROR"}
    rogue.on(
        "GET",
        "/servers/s1",
        say(200, {"server": failed}),
        say(200, {"server": {**failed, "fault": {"message": "No valid host was found. "}}}),
    )
    assert (await cloud.server("s1")).fault == "No valid host was found. "


@pytest.mark.gen_test
async def test_a_lookup_by_mark_believes_metadata_alone(rogue, adapter):
    cloud = adapter()
    await cloud.connect()
    others = [{**SERVER, "id": "s2", "metadata": {MARK: "v2"}}, {**SERVER, "id": "s3"}]
    rogue.on("GET", LIST, say(200, {"servers": [{**SERVER, "metadata": {MARK: "v1"}}, *others]}))
    assert [server.id for server in await cloud.find_servers("v1")] == ["s1"]


@pytest.mark.gen_test
async def test_calls_after_close_are_refused(adapter, rogue):
    cloud = adapter()
    await cloud.connect()
    await cloud.close()
    with pytest.raises(CloudUnavailable):
        await cloud.servers()
    assert rogue.count("GET", LIST) == 0


@pytest.mark.gen_test
async def test_the_login_of_a_netrc_file_stays_there(rogue, adapter, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password hunter2")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    cloud = adapter()
    await cloud.connect()
    rogue.on("POST", "/servers", accepted)
    await cloud.create_server(SPEC)
    assert rogue.seen and not any("Authorization" in seen.headers for seen in rogue.seen)


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [400, 403, 409, 418, 500, 503])
@pytest.mark.parametrize(
    "shown", ["{data}", "x: '{data}'", "only the start: {start}...", "not for {token}", "X-{token}/{start}"]
)
async def test_a_refusal_that_repeats_user_data_or_the_token_loses_them(rogue, adapter, status, shown):
    data = base64.b64encode(b"#!/bin/sh\necho hunter2\n" * 9).decode()
    cloud = adapter()
    await cloud.connect()

    def repeat(handler):
        token = rogue.seen[-1].token
        text = shown.format(data=data, start=data[:70], token=token)
        say(status, {"computeFault": {"message": f"refused because: {text}"}})(handler)

    rogue.on("POST", "/servers", repeat)
    with pytest.raises(VmsvcError) as caught:
        await cloud.create_server(dataclasses.replace(SPEC, user_data=data))
    assert "refused because: " in caught.value.message
    assert not [secret for secret in (data[:12], "token-of") if secret in caught.value.message]
