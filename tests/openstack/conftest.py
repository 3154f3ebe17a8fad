"""The clouds that the conformance tests run on: VMSVC_TEST_CLOUD=sim (the simulated one) or bed (a real OpenStack).

Both have the users demo (a member) and admin, four hosts of 4 vCPU and 8 GiB, the flavors m1.*, one image and one
network. What differs between them is in this file and in `keeper` alone.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.openstack.http import Api, Reply, send, until
from tests.openstack.keeper import Bed, Simulator
from tests.openstack.service import USER_OF, Service, set_quota
from vmsvc.cloud.openstack.adapter import OpenStack

BED = Path(__file__).parent / "bed" / "bed"
ROOT = Path(__file__).parents[2]
#: As large as the bed's own: no test meets it unless it asks for less.
LARGE = {"instances": 100000, "cores": 1000000, "ram": 1000000000}


@pytest.fixture(scope="session", name="clouds_yaml")
def running_cloud(tmp_path_factory) -> Iterator[Path]:
    """The clouds.yaml of a cloud that runs. What this starts it stops, and nothing else."""
    kind = os.environ.get("VMSVC_TEST_CLOUD", "sim")
    assert kind in ("sim", "bed"), f"VMSVC_TEST_CLOUD is sim or bed, not {kind}"
    yield from real_cloud() if kind == "bed" else simulated_cloud(tmp_path_factory.mktemp("cloud"))


def real_cloud() -> Iterator[Path]:
    """The real OpenStack of tests/openstack/bed."""
    was_up = subprocess.run([BED, "status"], capture_output=True, check=False, timeout=60).returncode == 0
    if not was_up:
        subprocess.run([BED, "up"], check=True, timeout=900)
    try:
        subprocess.run([BED, "reset"], check=True, timeout=300)
        shown = subprocess.run([BED, "env"], check=True, capture_output=True, text=True, timeout=60).stdout
        yield Path(re.search(r"OS_CLIENT_CONFIG_FILE=(\S+)", shown)[1])
        subprocess.run([BED, "reset"], check=True, timeout=300)
    finally:
        if not was_up:
            subprocess.run([BED, "down"], check=True, timeout=120)


def simulated_cloud(folder: Path) -> Iterator[Path]:
    """The simulated cloud, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "vmsvc.simulator",
        "--dir",
        str(folder),
        "--schedule-seconds",
        "0.05",
        "--boot-seconds",
        "0.1",
        "--delete-seconds",
        "0.05",
        "--stop-seconds",
        "0.05",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            started = process.stdout.readline()  # ends when the process does, so this cannot hang on one that failed
            yield Path(re.search(r"clouds.yaml at (.+)", started)[1])
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="session", name="entries")
def entries_of(clouds_yaml) -> dict:
    """The member's and the admin's entry: ('demo' and 'admin') -> (name in clouds.yaml, entry)."""
    clouds = yaml.safe_load(clouds_yaml.read_text())["clouds"]
    return {entry["auth"]["username"]: (name, entry) for name, entry in clouds.items()}


@pytest.fixture(scope="session", name="keeper")
def keeper_of_the_cloud(entries) -> Bed | Simulator:
    """Who can change how the cloud behaves."""
    if os.environ.get("VMSVC_TEST_CLOUD", "sim") == "bed":
        return Bed(BED)
    root = entries["demo"][1]["auth"]["auth_url"].partition("/identity")[0]

    def put(values: dict) -> None:
        assert send("PUT", f"{root}/sim/settings", values).status == 200

    return Simulator(put)


@pytest.fixture(scope="session", name="demo")
def member(entries) -> Api:
    """An ordinary project member."""
    return Api(entries["demo"][1])


@pytest.fixture(scope="session", name="admin")
def operator(entries) -> Api:
    """An admin, in a project of their own."""
    return Api(entries["admin"][1])


@pytest.fixture(scope="session", name="image_id")
def only_image(demo) -> str:
    """The image."""
    [image] = demo("GET", "/images", service="image").body["images"]
    return image["id"]


@pytest.fixture(scope="session", name="network_id")
def only_network(demo) -> str:
    """The network."""
    [network] = demo("GET", "/networks", service="network").body["networks"]
    return network["id"]


@pytest.fixture(name="quota")
def quota_setter(demo, admin) -> Iterator[Callable]:
    """Sets demo's quota; the large one is put back."""

    def put(**limits: int) -> None:
        reply = admin("PUT", f"/os-quota-sets/{demo.project}", {"quota_set": {**limits, "force": True}})
        assert reply.status == 200, reply

    yield put
    put(**LARGE)


@pytest.fixture(autouse=True)
def no_servers_are_left(admin) -> Iterator[None]:
    """Delete what the test left, whoever owns it, and wait until it is gone."""
    yield
    asked: set[str] = set()

    def gone() -> bool:
        left = {server["id"] for server in admin("GET", "/servers?all_tenants=1").body["servers"]}
        for server_id in left - asked:
            admin("DELETE", f"/servers/{server_id}")
        asked.update(left)
        return not left

    until("no server is left", gone, 120)


@pytest.fixture(name="post")
def poster(image_id, network_id) -> Callable[..., Reply]:
    """POST /servers with what every server needs; keywords add to the body or replace parts of it."""

    def post(api: Api, version: str | None = None, **more: object) -> Reply:
        server = {
            "name": "conformance",
            "flavorRef": "m1.tiny",
            "imageRef": image_id,
            "networks": [{"uuid": network_id}],
            **more,
        }
        return api("POST", "/servers", {"server": server}, version=version)

    return post


@pytest.fixture(name="boot")
def booter(post) -> Callable[..., dict]:
    """Makes a server and waits until it is ACTIVE, or in the status that is asked for; returns it as GET shows it."""

    def boot(api: Api, status: str = "ACTIVE", **more: object) -> dict:
        reply = post(api, **more)
        assert reply.status == 202, reply
        server_id = reply.body["server"]["id"]
        until(f"{server_id} is {status}", lambda: api.server(server_id)["status"] == status)
        return api.server(server_id)

    return boot


@pytest.fixture(name="fill")
def filler(post) -> Callable[..., list[dict]]:
    """Fills the cloud with four of the largest servers, one on each host; returns them."""

    def fill(api: Api) -> list[dict]:
        made = [post(api, flavorRef="m1.large").body["server"]["id"] for _ in range(4)]
        return [
            until(
                f"{server_id} is ACTIVE",
                lambda server_id=server_id: next(
                    (server for server in [api.server(server_id)] if server["status"] == "ACTIVE"), None
                ),
            )
            for server_id in made
        ]

    return fill


@pytest.fixture(name="gone")
def waiter_for_404() -> Callable[[Api, str], Reply]:
    """Waits until GET says 404; returns that answer."""

    def gone(api: Api, server_id: str) -> Reply:
        def look() -> Reply | None:
            reply = api("GET", f"/servers/{server_id}")
            return reply if reply.status == 404 else None

        return until(f"{server_id} is gone", look)

    return gone


@pytest.fixture(name="connect")
def connector(clouds_yaml, entries, io_loop) -> Iterator[Callable]:
    """Makes connected adapters: `await connect('demo')`. They are closed when the test ends."""
    made: list[OpenStack] = []

    async def connect(user: str) -> OpenStack:
        made.append(OpenStack(cloud=entries[user][0], config_file=str(clouds_yaml)))
        await made[-1].connect()
        return made[-1]

    yield connect
    for cloud in made:
        io_loop.run_sync(cloud.close)


@pytest.fixture(scope="module", name="mode", params=["tenant", "operator"])
def fixture_mode(request) -> str:
    """How much the credentials allow."""
    return request.param


@pytest.fixture(scope="module", name="running")
def fixture_running(mode, clouds_yaml, entries, demo, admin, postgres) -> Iterator[Service]:
    """A service on this cloud with a database of its own, in a project whose quota is no limit."""
    set_quota(admin, {"tenant": demo, "operator": admin}[mode], **LARGE)
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-"))
    postgres.command("CREATE DATABASE service")
    url = postgres.url.replace("/postgres?", "/service?")
    service = Service(clouds_yaml, entries[USER_OF[mode]][0], folder, VMSVC_DATABASE_URL=url)
    yield service
    service.stop()
    postgres.command("DROP DATABASE service WITH (FORCE)")
    shutil.rmtree(folder)


@pytest.fixture(name="service")
def fixture_service(running) -> Iterator[Service]:
    """It forgets nothing and leaves nothing: after each test all that it made is deleted through it."""
    yield running
    running.empty()


@pytest.fixture(name="project")
def fixture_project(mode, demo, admin) -> Api:
    """The service's project, without vmsvc in between."""
    return {"tenant": demo, "operator": admin}[mode]


@pytest.fixture(name="outsider")
def fixture_outsider(mode, demo, admin) -> Api:
    """Another project, of which the service is told nothing but that it takes room on hosts; or not even that."""
    return {"tenant": admin, "operator": demo}[mode]
