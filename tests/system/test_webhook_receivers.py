"""The receivers of docs/how-to/webhooks*.md, as processes, behind a running service."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.system.client import API, until

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
HANDLE = re.compile(r"(?s)def handle\(event\):\n.*?\n\n(?=class)")


def code_of(page):
    """The one program of a page."""
    (code,) = re.findall(r"(?ms)^```python\n(.*?)^```$", (HOW_TO / page).read_text(encoding="utf-8"))
    return code


class StandIn:
    """A chat, an Alertmanager or a RabbitMQ: it notes what is POSTed."""

    def __init__(self):
        received = self.received = []

        class Handler(BaseHTTPRequestHandler):
            """Notes each POST."""

            def do_POST(self):  # pylint: disable=invalid-name
                """Note path, login and body."""
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.append((self.path, self.headers.get("Authorization"), body))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"routed": true}')

            def log_message(self, *args):  # pylint: disable=arguments-differ
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(name="start")
def fixture_start(tmp_path):
    """`start(name, code, secret, port, **environ)`: a receiver with this code; returns the file that it prints to."""
    running = []

    def start(name, code, secret, port, **environ):
        script = tmp_path / f"{name}.py"
        script.write_text(code, encoding="utf-8")
        with (tmp_path / f"{name}.out").open("w", encoding="utf-8") as out:
            running.append(
                subprocess.Popen(  # pylint: disable=consider-using-with
                    [sys.executable, script],
                    env={"PATH": os.environ["PATH"], "PORT": str(port), "WEBHOOK_SECRET": secret, **environ},
                    stdout=out,
                    stderr=subprocess.DEVNULL,
                )
            )
        return tmp_path / f"{name}.out"

    yield start
    for process in running:
        process.terminate()
        process.wait(timeout=10)


def free_port():
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_receiver_is_short():
    assert len([line for line in code_of("webhooks.md").splitlines() if line.strip()]) <= 26


@pytest.mark.parametrize("options", [{"webhook_networks": "127.0.0.0/8", "grace_seconds": 0.3}])
@pytest.mark.gen_test(timeout=60)
async def test_the_receivers_of_the_documents_work(client, start):
    stand_ins, printed = {}, {}
    for name, variable in (
        ("", ""),
        ("chat", "CHAT_URL"),
        ("alertmanager", "ALERTMANAGER_URL"),
        ("queue", "RABBITMQ_URL"),
    ):
        port, environ, code = free_port(), {}, code_of("webhooks.md")
        if name:
            stand_ins[name] = StandIn()
            login = "user:password@" if name == "queue" else ""
            environ = {variable: f"http://{login}127.0.0.1:{stand_ins[name].port}"}
            code = HANDLE.sub(lambda _, name=name: code_of(f"webhooks-{name}.md") + "\n", code)
        made = await client.call("POST", f"{API}/webhooks", {"url": f"http://127.0.0.1:{port}/", "preemptible": True})
        assert made.json["webhook"]["status"] == "unverified"
        printed[name] = start(name or "receive", code, made.json["secret"], port, **environ)
        address = f"{API}/webhooks/{made.json['webhook']['id']}"
        while not (await client.call("POST", f"{address}/test")).json["delivered"]:
            pass
        assert (await client.call("GET", address)).json["webhook"]["status"] == "verified"
    vm = await client.create(True, name="batch")
    await client.practise(vm.id)
    await client.wait_for_event("evict/evicted", vm.id)
    events = await client.events()
    await until(lambda: len(printed[""].read_text().splitlines()) == len(events))
    assert printed[""].read_text().splitlines() == [
        f"{event['type']} {event['data']['state']} {event['subject']}" for event in events
    ]
    for stand_in in stand_ins.values():
        await until(lambda stand_in=stand_in: len(stand_in.received) == len(events))
        stand_in.server.shutdown()
        stand_in.server.server_close()
    noticed = [event["data"]["state"] for event in events].index("noticed")
    end = events[noticed]["data"]["evict_at"]
    assert stand_ins["chat"].received[noticed][2] == {"text": f"batch ({vm.id}): noticed, goes at {end}"}
    path, _, ((alert),) = stand_ins["alertmanager"].received[noticed]
    assert path == "/api/v2/alerts" and "endsAt" not in alert and alert["annotations"]["evict_at"] == end
    assert "endsAt" in stand_ins["alertmanager"].received[-1][2][0]
    path, login, message = stand_ins["queue"].received[-1]
    assert path == "/api/exchanges/%2F/amq.default/publish" and login.startswith("Basic ")
    assert json.loads(message["payload"]) == events[-1]
