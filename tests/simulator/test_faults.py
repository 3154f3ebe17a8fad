"""Faults of calls and of servers: what the client sees, and whether the call took effect."""

import threading
import time

import pytest
import requests


def create(demo):
    return demo.post(name="hit")


@pytest.mark.parametrize("action", ["cut", "cut_after", "cut_body"])
def test_a_cut_connection_is_an_error_before_or_after_the_effect(sim, demo, action):
    sim.add("faults", action=action, service="compute", method="POST", path="/servers$", count=1)
    with pytest.raises(requests.RequestException):
        create(demo)
    assert len(demo.names()) == (0 if action == "cut" else 1)
    assert create(demo).status_code == 202


def test_a_status_is_answered_with_its_headers_and_body_and_without_effect(sim, demo):
    sim.add(
        "faults",
        action="status",
        status=429,
        headers={"Retry-After": "7"},
        body={"overLimit": {"code": 429}},
        method="POST",
        path="/servers$",
        count=2,
    )
    answers = [create(demo) for _ in range(3)]
    assert [each.status_code for each in answers] == [429, 429, 202]
    assert answers[0].headers["Retry-After"] == "7" and answers[0].json() == {"overLimit": {"code": 429}}
    assert len(demo.names()) == 1


def test_an_echo_repeats_what_was_sent(sim, demo):
    sim.add("faults", action="echo", status=400, method="POST", path="/servers$", count=1)
    answer = create(demo)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{answer.request.headers['X-Auth-Token']} {{")
    assert "hit" in answer.json()["error"]["message"] and not demo.names()


def test_a_proxys_502_may_hide_a_server_that_was_made(sim, demo):
    sim.add("faults", action="status_after", status=502, body="Bad Gateway", method="POST", path="/servers$", count=1)
    answer = create(demo)
    assert (answer.status_code, answer.text) == (502, "Bad Gateway") and demo.names() == ["hit"]


def test_half_json_and_html_are_no_answers_but_have_effects(sim, demo):
    sim.add("faults", action="half_json", method="POST", path="/servers$", nth=[1])
    sim.add("faults", action="html", method="POST", path="/servers$", nth=[2])
    half, html = create(demo), create(demo)
    with pytest.raises(ValueError):
        half.json()
    assert html.status_code == 200 and html.headers["Content-Type"] == "text/html"
    assert len(demo.names()) == 2


def test_a_delay_answers_later_and_a_hang_ends_when_the_faults_are_cleared(sim, demo):
    sim.add("faults", action="delay", seconds=0.2, path="/limits", count=1)
    begun = time.monotonic()
    demo.api.get("/compute/v2.1/limits")
    assert time.monotonic() - begun >= 0.2
    sim.add("faults", action="hang_after", method="POST", path="/servers$")
    failures = []

    def hang():
        try:
            create(demo)
        except requests.RequestException as error:
            failures.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    deadline = time.monotonic() + 5
    while not demo.names() and time.monotonic() < deadline:
        pass
    assert demo.names() == ["hit"] and thread.is_alive()
    assert sim("DELETE", "/sim/faults").status_code == 204
    thread.join(5)
    assert len(failures) == 1


def test_revoked_tokens_are_401_and_a_new_login_works(sim, demo, admin):
    sim.add("faults", action="revoke", path="/limits", count=1)
    other = demo.api.login("demo")
    answer = other("GET", "/compute/v2.1/limits")
    assert answer.status_code == 401 and "Keystone uri=" in answer.headers["WWW-Authenticate"]
    assert other("GET", "/image/v2/images").status_code == 401
    for tenant, name in ((demo, "demo"), (admin, "admin")):  # Other tests use these users' tokens.
        tenant.api = demo.api.login(name)
    assert demo.api.get("/compute/v2.1/limits")


def test_a_token_ends_when_its_time_is_over(sim, demo):
    sim.set("settings", token_seconds=60)
    short = demo.api.login("demo")
    assert short("GET", "/compute/v2.1/limits").status_code == 200
    sim.wait(61)
    assert short("GET", "/compute/v2.1/limits").status_code == 401


def test_a_probability_is_drawn_from_its_seed(sim, demo):
    def draw():
        sim("DELETE", "/sim/faults")
        sim.add("faults", action="status", status=503, path="/limits", probability=0.5, seed=4)
        return [demo.api("GET", "/compute/v2.1/limits").status_code for _ in range(20)]

    first = draw()
    assert first == draw() and {200, 503} == set(first)


def test_refused_metadata_is_409_and_counted(sim, demo):
    (server_id,) = sim.add("servers", name="busy")["ids"]
    sim.add("faults", kind="metadata_refused", name="^busy$", count=1)
    path = f"/compute/v2.1/servers/{server_id}/metadata"
    assert [demo.api("POST", path, {"metadata": {"a": "b"}}).status_code for _ in range(2)] == [409, 200]


def test_the_log_of_calls_says_what_was_asked(sim, demo):
    begun = sim.calls()["last"]
    create(demo)
    demo.api.get("/compute/v2.1/limits")
    calls = sim.calls(since=begun, service="compute")
    assert [(call["method"], call["path"], call["status"], call["user"]) for call in calls["calls"]] == [
        ("POST", "/compute/v2.1/servers", 202, "demo"),
        ("GET", "/compute/v2.1/limits", 200, "demo"),
    ]
    server_id = demo.api.get("/compute/v2.1/servers")["servers"][0]["id"]
    demo.show(server_id)
    assert sim.calls()["counts"]["GET /compute/v2.1/servers/{id}"] == 1
    assert sim.calls(method="POST", path="servers$", since=begun)["count"] == 1


@pytest.mark.parametrize(
    "values", [{"action": "explode"}, {"kind": "explode"}, {"action": "cut", "when": 3}, {"action": "cut", "path": "("}]
)
def test_an_unknown_fault_is_refused(sim, values):
    assert sim("POST", "/sim/faults", values).status_code == 400
