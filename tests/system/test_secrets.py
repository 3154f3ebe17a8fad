"""Whatever goes wrong, no secret is in a log, an answer, a metric, an event, or where `ps` shows it."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.client import Client, until
from vmsvc.service.identity import tokens

PASSWORD, CREDENTIAL, DATABASE = "Hunter2OfTheCloud", "Hunter3OfTheCredential", "Hunter4OfTheDatabase"
USER_DATA = base64.b64encode(b"#!/bin/sh\necho Hunter5OfTheGuest").decode()
KEY = "Hunter6OfIdempotency"
VMS = "/api/v1/vm"


def with_password(url):
    """The database's URL with a password in it, which the server does not ask for."""
    assert "://" in url
    if "@" not in url:
        return url.replace("://", f"://postgres:{DATABASE}@")
    return re.sub(r"://([^:@/]*)@", rf"://\1:{DATABASE}@", url)


def auth_url(sim):
    """Where the simulated cloud's Keystone is."""
    return sim.address("/identity/v3")


@pytest.fixture(name="file")
def _file(tmp_path):
    return tmp_path / "tokens"


@pytest.fixture(name="token")
def _token(file):
    return tokens.add(file, "alice", "member")


def passwords(sim):
    """Sign in by name and a password that is wrong."""
    return {
        "OS_USERNAME": "admin",
        "OS_PASSWORD": PASSWORD,
        "OS_PROJECT_NAME": "admin",
        "OS_AUTH_URL": auth_url(sim),
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "RegionOne",
    }


def credentials(sim):
    """Sign in by an application credential that there is not."""
    return {
        "OS_AUTH_TYPE": "v3applicationcredential",
        "OS_APPLICATION_CREDENTIAL_ID": "none",
        "OS_AUTH_URL": auth_url(sim),
        "OS_APPLICATION_CREDENTIAL_SECRET": CREDENTIAL,
    }


def command_lines():
    """Of every process of this machine that still runs."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(process.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


async def answers_of(port, token):
    """What the service says to all sorts of requests, good and bad."""
    client, said = Client(port), []
    good, bad = {"Authorization": f"Bearer {token}"}, {"Authorization": f"Bearer {token[:-1]}"}
    wish = {"is_preemptible": True, "user_data": USER_DATA}
    try:
        for method, path, body, headers in (
            ("POST", VMS, wish, good | {"Prefer": "respond-async", "Idempotency-Key": KEY}),
            ("POST", VMS, wish, bad),
            ("POST", VMS, wish | {"user_data": USER_DATA + "!"}, good),
            ("POST", VMS, wish | {"ram": 1}, good),
            ("POST", f"{VMS}?ticket={token}", wish, good),
            ("GET", VMS, None, good),
            ("GET", "/api/v1/evictions", None, good),
            ("GET", f"/api/v1/events?since=0&ticket={token}", None, bad),
            ("GET", "/api/v1/capacity", None, good),
            ("GET", "/api/v1/events?since=0", None, good),
            ("GET", "/readyz", None, {}),
        ):
            answer = await client.call(method, path, body, headers)
            said += [json.dumps(answer.json), str(dict(answer.headers))]
        return said + [await client.text("/metrics"), await client.text("/"), await client.text("/api/v1/openapi.json")]
    finally:
        client.close()


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("cloud, log_format", [(passwords, "text"), (credentials, "json")])
async def test_a_service_whose_credentials_are_wrong_tells_nobody_what_they_are(
    new_process, environ, sim, file, token, cloud, log_format
):
    environ = (
        {name: value for name, value in environ.items() if not name.startswith("OS_")}
        | cloud(sim)
        | {
            "VMSVC_DATABASE_URL": with_password(environ["VMSVC_DATABASE_URL"]),
            "VMSVC_AUTH": "token",
            "VMSVC_TOKEN_FILE": str(file),
            "VMSVC_LOG_FORMAT": log_format,
        }
    )
    process = new_process(environ)
    said = await until(lambda: re.search(r"listening on http://[\d.]+:(\d+)/", process.text()), "listening", 30)
    await until(lambda: "cloud" in process.text().lower(), "an attempt to sign in")
    places = {"answers": "\n".join(await answers_of(int(said[1]), token)), "command lines": command_lines()}
    process.tell_to_stop()
    await process.exit_status()
    places["log"] = process.text()
    secrets = (PASSWORD, CREDENTIAL, DATABASE, USER_DATA, "Hunter5", token)
    assert not [(place, secret) for place, text in places.items() for secret in secrets if secret in text]
    assert KEY not in places["log"]


@pytest.mark.parametrize(
    "job, settings",
    [
        ("migrate", {"VMSVC_DATABASE_URL": f"postgresql://vmsvc:{DATABASE}@127.0.0.1:1/vmsvc"}),
        ("check", {"VMSVC_DATABASE_URL": f"postgresql:/vmsvc:{DATABASE}@127.0.0.1:1/vmsvc"}),
        ("migrate", {"VMSVC_DATABASE_URL": f"vmsvc:{DATABASE}@127.0.0.1:1/vmsvc"}),
        ("check", {"VMSVC_DATABASE_URL": f"postgresql://vmsvc:{DATABASE}@127.0.0.1:port/vmsvc"}),
        ("migrate", {"VMSVC_DATABASE_URL": f"postgresql://vmsvc:{DATABASE}@127.0.0.1:1/vmsvc?connect_timeout=x"}),
        ("check", {"VMSVC_DATABASE_URL": f"host=127.0.0.1 port=1 user=vmsvc password={DATABASE}"}),
        ("migrate", {"VMSVC_DATABASE_PASSWORD": DATABASE}),
    ],
)
def test_settings_that_cannot_be_are_refused_without_the_secrets_in_them(sim, tmp_path, settings, job):
    ended = subprocess.run(
        [sys.executable, "-m", "vmsvc", job],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "VMSVC_DATA_DIR": str(tmp_path),
            **passwords(sim),
            **settings,
        },
    )
    assert ended.returncode
    said = ended.stdout + ended.stderr
    assert DATABASE not in said and PASSWORD not in said
