"""The commands of the plugin for `openstack`, against a whole service; and what the program asks of the plugin.

`tests/openstack/test_plugin.py` runs the program itself.
"""

import argparse
import asyncio
import importlib
import io
import json
import re
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session
from osc_lib.exceptions import CommandError

from tests.system.client import until
from tests.system.simulated import password_of
from vmsvc.client import Client
from vmsvc.osc import plugin

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
COMMANDS = {name.partition("_")[2]: target for name, target in ENTRY_POINTS["openstack.preemptible.v1"].items()}


def command_of(name, app=None):
    """A command, as the program makes it."""
    module, _, attribute = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)(app, None)


class Program:
    """Runs commands of the plugin, as the program does once it has signed in."""

    def __init__(self, client):
        self.client = client

    async def run(self, name, *arguments):
        """What a command prints. Raises CommandError."""
        out = io.StringIO()
        app = SimpleNamespace(client_manager=SimpleNamespace(preemptible=self.client), stdout=out, options=None)
        command = command_of(name, app)
        parsed = command.get_parser(f"openstack preemptible {name}").parse_args(list(map(str, arguments)))
        assert await asyncio.to_thread(command.run, parsed) == 0
        return out.getvalue()

    async def read(self, name, *arguments):
        """The same with `-f json`, read."""
        return json.loads(await self.run(name, *arguments, "-f", "json"))


@pytest.fixture(name="openstack")
def fixture_openstack(client):
    """The program."""
    with Client(f"http://127.0.0.1:{client.port}", patience=1) as found:
        yield Program(found)


@pytest.mark.gen_test(timeout=60)
async def test_every_command_does_what_it_says(openstack, client, sim, tmp_path):
    (tmp_path / "data").write_text("#!/bin/sh\n", encoding="utf-8")
    about = ["--flavor", "m1.tiny", "--image", "bed-image", "--network", "bed-net", "--priority", 3]
    more = ["--property", "a=b", "--user-data", tmp_path / "data", "--on-eviction", "restart", "--keep-address"]
    plan = await openstack.read("plan", "--preemptible", *about)
    assert plan["result"] == "placed" and "criterion" not in plan
    assert await openstack.read("create", "--preemptible", "--dry-run", *about) == plan and not sim.servers()
    made = await openstack.read("create", "--preemptible", "--wait", *about, *more, "first")
    assert (made["state"], made["name"], made["priority"], made["evicted"]) == ("active", "first", 3, [])
    assert sim.guest_metadata(made["id"])["a"] == "b" and sim.made_with(made["id"])["user_data"]
    shown = await openstack.read("show", made["vmsvc_id"])
    assert (shown["id"], shown["on_eviction"]) == (made["id"], "restart") and len(shown["addresses"]) == 1
    (listed,) = await openstack.read("list", "--long")
    assert (listed["ID"], listed["Kind"], listed["Addresses"]) == (made["id"], "preemptible", shown["addresses"])
    fits = {row["Flavor"]: row for row in await openstack.read("capacity")}
    assert (fits["m1.tiny"]["Fits Now"], fits["m1.large"]["Fits After Evictions"]) == (3, 1)
    assert (await openstack.read("capacity", "--hosts"))[0]["Preemptible"]["VCPU"] == 1
    assert {row["Item"] for row in await openstack.read("capacity", "--quota")} == {"cores", "instances", "ram"}

    asked = ["--nic", "network=bed-net", "--tag", "blue", "--security-group", "default", "--config-drive"]
    second = await openstack.read("create", "--preemptible", "--wait", *asked, "--hostname", "web-1")
    built = sim.shown(second["id"], "admin")
    assert built["config_drive"] == "True" and "blue" in built["tags"]
    assert (await openstack.read("evict", second["id"], "--notice-only"))["state"] == "noticed"
    assert (await openstack.read("ack", second["id"]))["acknowledged_at"].endswith("Z")
    await client.wait_for_event("evict/reprieved", second["id"])
    (eviction,) = await openstack.read("evictions", "--vm", second["id"], "--limit", 1)
    assert (eviction["State"], eviction["Reason"]) == ("reprieved", "simulated")
    rows = await openstack.read("events", "--type", "create", "--vm", made["vmsvc_id"])
    assert [row["State"] for row in rows] == ["pending", "building", "active"]
    assert "| active" in await openstack.run("events") and made["id"] in await openstack.run("list")
    assert await openstack.run("delete", "--wait", made["id"], second["id"]) == "" and not sim.servers()
    with pytest.raises(CommandError, match="1 of 1 VMs were not deleted:\n.* was deleted before"):
        await openstack.run("delete", made["id"])
    with pytest.raises(CommandError, match=r"not_found, request req-"):
        await openstack.run("show", made["id"])


@pytest.mark.gen_test(timeout=60)
async def test_it_follows_events_as_lines_of_text_or_json(openstack, client):
    await client.fill(1)

    class Enough(io.StringIO):
        """Takes three lines, as `head -3` does."""

        def flush(self):
            if self.getvalue().count("\n") == 3:
                raise BrokenPipeError

    for form, pattern in (
        ("table", r"1 \S+Z create pending \S+ preemptible"),
        ("json", r'{"specversion.*"pending".*}'),
    ):
        out = Enough()
        app = SimpleNamespace(client_manager=SimpleNamespace(preemptible=openstack.client), stdout=out)
        command = command_of("events", app)
        parsed = command.get_parser("x").parse_args(["--follow", "--since", "0", "-f", form])
        with pytest.raises(BrokenPipeError):
            await asyncio.to_thread(command.run, parsed)
        assert re.match(pattern, out.getvalue()), out.getvalue()


@pytest.mark.gen_test(timeout=30)
async def test_a_service_that_is_away_and_a_file_that_is_missing_are_errors_in_words(openstack):
    with pytest.raises(CommandError, match="/nowhere/data: No such file"):
        await openstack.run("create", "--preemptible", "--user-data", "/nowhere/data")
    with Client("http://127.0.0.1:1", patience=0) as away:
        with pytest.raises(CommandError, match="no answer from vmsvc: .*refused"):
            await Program(away).run("list")


def test_each_command_of_the_entry_points_is_one_and_describes_itself():
    assert COMMANDS.keys() == set("create list show delete ack evict plan capacity events evictions".split())
    for name in COMMANDS:
        command = command_of(name)
        assert command.get_description() and not command.get_description().endswith(".")
        assert all(action.help for action in command.get_parser(name)._actions)  # pylint: disable=protected-access


def test_the_commands_of_the_documents_can_be_parsed():
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    text = re.sub(r"(?m)^#.*$", "", "".join(path.read_text(encoding="utf-8") for path in pages))
    found = re.findall(r"openstack (?:--os-cloud \S+ )?preemptible (\w+)((?: [^`|#)\n]*)?)(?=[`)\n])", text)
    assert {name for name, _ in found} >= {"plan", "create", "list", "evict", "delete", "events"}
    for name, arguments in found:
        command_of(name).get_parser(name).parse_args(shlex.split(arguments))


class TestWithKeystone:
    """Where the service asks for Keystone's tokens."""

    @pytest.fixture(name="mode")
    def fixture_mode(self):
        return "tenant"

    @pytest.fixture(name="options")
    def fixture_options(self):
        return {"auth": "keystone"}

    @pytest.mark.gen_test(timeout=60)
    async def test_a_token_that_ends_while_events_are_followed_is_renewed(self, new_process, environ, sim):
        process = new_process(environ)
        port = (await process.ready()).port
        login = {"username": "demo", "project_name": "demo", "password": password_of(sim.clouds, "demo")}
        domains = {"user_domain_name": "Default", "project_domain_name": "Default"}
        session = Session(Password(auth_url=sim.address("/identity/v3"), **login, **domains))
        config = {plugin.OVERRIDE: f"http://127.0.0.1:{port}", "auth": {"auth_url": "http://keystone"}}
        instance = SimpleNamespace(get_configuration=lambda: config, verify=True, cert=None, session=session)
        instance.region_name = instance.interface = None
        heard = []

        def follow():
            with plugin.make_client(instance) as client:
                for event in client.events(0):
                    heard.append(event.state)
                    if event.state == "deleted":
                        return

        following = asyncio.create_task(asyncio.to_thread(follow))
        with plugin.make_client(instance) as client:
            vm = (await asyncio.to_thread(client.create, True)).vm
            await until(lambda: heard == ["pending", "building", "active"])
            old = session.get_token()
            sim.call("DELETE", "/sim/tokens")
            process.kill()
            await new_process({**environ, "VMSVC_PORT": str(port)}).ready()
            await asyncio.to_thread(client.delete, vm.id)
        await following
        assert heard[3:] == ["deleting", "deleted"] and session.get_token() != old


class TestOfThePlugin:
    """What the program asks of it."""

    @pytest.mark.parametrize(
        "config, needed",
        [
            ({}, True),  # the program then says which setting it misses
            ({"auth": {"auth_url": "http://keystone"}}, True),
            ({plugin.OVERRIDE: "http://a", "auth": {"auth_url": "http://keystone"}}, True),
            ({plugin.OVERRIDE: "http://a", "auth": {"token": "vmsvc-x", "endpoint": "http://a"}}, True),
            ({plugin.OVERRIDE: "http://a", "auth": {"project_name": ""}}, False),
            ({plugin.OVERRIDE: "http://a"}, False),
        ],
        ids=str,
    )
    def test_it_needs_a_token_unless_only_an_address_is_known(self, config, needed):
        assert plugin.needs_token(config) is needed

    def test_the_environment_names_the_address(self, monkeypatch):
        for value, found in (("http://a", "http://a"), ("", None)):
            monkeypatch.setenv("OS_PREEMPTIBLE_ENDPOINT", value)
            options = plugin.build_option_parser(argparse.ArgumentParser()).parse_args([])
            assert getattr(options, plugin.OVERRIDE) == found

    def test_without_an_address_it_says_what_to_do(self):
        instance = SimpleNamespace(
            get_configuration=lambda: {"auth": {"auth_url": "http://keystone"}},
            is_service_available=lambda *_, **__: False,
            region_name="r",
            interface="public",
        )
        with pytest.raises(CommandError, match="OS_PREEMPTIBLE_ENDPOINT"):
            plugin.make_client(instance)

    def test_the_certificate_is_checked_as_the_program_checks_that_of_the_cloud(self):
        for verify in (True, False):
            instance = SimpleNamespace(
                get_configuration=lambda: {plugin.OVERRIDE: "https://a"}, verify=verify, cert=None, session=None
            )
            instance.region_name = instance.interface = None
            with plugin.make_client(instance) as client:
                assert repr(client) == "Client('https://a/api/v1/')"
