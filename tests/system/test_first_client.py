"""The clients of docs/tutorial/first-client.md, while the service they follow is killed and started again."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.client import until

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial" / "first-client.md").read_text(encoding="utf-8")
PROGRAMS = {"python": sys.executable, "bash": "bash"}


class Follower:
    """An example as a process; what it prints goes to a file."""

    def __init__(self, language, folder, url):
        (code,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)
        script, self.printed = folder / f"client.{language}", folder / "printed"
        script.write_text(code, encoding="utf-8")
        environ = {"PATH": os.environ["PATH"], "URL": url}
        with self.printed.open("w", encoding="utf-8") as out:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [PROGRAMS[language], script],
                env=environ,
                stdout=out,
                stderr=subprocess.DEVNULL,
            )

    def events(self):
        """What it has printed: events, or pages of events."""
        text = self.printed.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [event for line in lines for event in line.get("events", [line])]

    def has_printed(self, step):
        """True when it has printed an event such as "create/active"."""
        return any(step == f"{event['type']}/{event['data']['state']}" for event in self.events())

    def stop(self):
        """End the process of the example."""
        self.process.terminate()
        self.process.wait(timeout=10)


@pytest.mark.parametrize("language", PROGRAMS)
@pytest.mark.gen_test(timeout=60)
async def test_a_client_hears_of_every_event_once_though_the_service_is_killed(
    language, new_process, environ, tmp_path
):
    if language == "bash" and not shutil.which("curl"):
        (pytest.fail if os.environ.get("TESTS_REQUIRE_ALL") else pytest.skip)("curl is missing")
    process = new_process(environ)
    client = await process.ready()
    before = (await client.call("GET", "/api/v1/vm")).json["seq"]
    follower = Follower(language, tmp_path, f"http://127.0.0.1:{client.port}")
    try:
        vm = (await client.create(True)).id
        while not follower.has_printed("create/active"):  # the first VMs may come before it has read the list
            await client.delete(vm)
            vm = (await client.create(True)).id
        process.kill()
        client = await new_process({**environ, "VMSVC_PORT": str(client.port)}).ready()
        await client.delete(vm)
        history = await client.events(before)
        await until(
            lambda: follower.events() and follower.events()[-1]["data"]["seq"] == history[-1]["data"]["seq"],
            "the last event",
        )
        heard = follower.events()
        assert heard == history[-len(heard) :]
    finally:
        follower.stop()
