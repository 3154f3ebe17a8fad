"""A sample of the crash matrix on a cloud: the service is killed at one step and started again. On the simulated cloud
`make test_chaos` tries every step."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.fleet import Launcher
from tests.chaos.scenarios import Clients
from tests.openstack.conftest import LARGE, Api
from tests.system import invariants
from tests.system.client import until
from vmsvc.domain.timing import Timing

LEASE = 2.0
LARGEST = 4  # servers of m1.large that the cloud has room for
PATIENCE = 240.0
POINTS = [
    "after call create_server #2",
    "before commit _record_active #2",
    "after commit _begin_eviction #1",
    f"after call create_server #{LARGEST + 1}",
    "after commit _request_deletion #1",
]
#: The simulated cloud has the whole matrix elsewhere: two points show that this test works.
HERE = POINTS if os.environ.get("VMSVC_TEST_CLOUD") == "bed" else POINTS[::3]
USER_OF = {"tenant": "demo", "operator": "admin"}


class Killed:
    """A service that dies once, at one point, and is started again at once."""

    def __init__(self, folder: Path, environ: dict[str, str], deadly: str):
        self._folder, self._environ, self._deadly = folder, environ, deadly
        self._launcher = Launcher()
        self.replicas = []
        (folder / "token").touch()
        self._start()

    def _start(self) -> None:
        log = self._folder / f"log{len(self.replicas)}"
        self.replicas.append(self._launcher.start(self._environ, log, Timing(lease=LEASE), self._folder, self._deadly))

    @property
    def died(self) -> bool:
        """True once the point was reached."""
        return not (self._folder / "token").exists()

    async def start_again(self) -> None:
        """When it has died."""
        while not self.died:
            await asyncio.sleep(0.1)
        self._start()

    async def close(self) -> None:
        """Leave nothing running."""
        for replica in self.replicas:
            await replica.clean_up()
        self._launcher.close()


@pytest.fixture(name="folder")
def fixture_folder():
    """For logs, and the points that were reached."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-crash-"))
    yield folder
    shutil.rmtree(folder)


def nothing_is_there(admin: Api) -> bool:
    """No server, and no port and no allocation of one."""
    ports = admin("GET", "/ports", service="network").body["ports"]
    providers = admin("GET", "/resource_providers", service="placement").body["resource_providers"]
    held = [
        consumer
        for provider in providers
        for consumer in admin("GET", f"/resource_providers/{provider['uuid']}/allocations", service="placement").body[
            "allocations"
        ]
    ]
    return not (
        admin("GET", "/servers?all_tenants=1").body["servers"]
        or held
        or [port for port in ports if port["device_owner"].startswith("compute:")]
    )


async def a_busy_day(clients: Clients, project: Api) -> None:
    """The cloud is filled, one VM goes for another, all are deleted."""
    filled = await asyncio.gather(*(clients.created(f"filler {number}", True, "m1.large") for number in range(LARGEST)))
    winner = await clients.created("winner", False, "m1.large")
    assert len(winner.json["evicted"]) == 1
    there = {server["id"] for server in project("GET", "/servers").body["servers"]}
    left = {answer.id for answer in filled} - set(winner.json["evicted"])
    assert there == left | {winner.id}
    await asyncio.gather(*(clients.delete(vm) for vm in there))


@pytest.mark.parametrize("deadly", HERE)
@pytest.mark.parametrize("mode", ["tenant", "operator"])
@pytest.mark.gen_test(timeout=900)
async def test_a_kill_at_this_step_costs_time_and_nothing_else(
    mode, deadly, database, clouds_yaml, entries, demo, admin, folder
):
    project = {"tenant": demo, "operator": admin}[mode]
    assert admin("PUT", f"/os-quota-sets/{project.project}", {"quota_set": {**LARGE, "force": True}}).status == 200
    environ = {
        "OS_CLOUD": entries[USER_OF[mode]][0],
        "OS_CLIENT_CONFIG_FILE": str(clouds_yaml),
        "VMSVC_PORT": "0",
        "VMSVC_DATABASE_URL": database.url,
        "VMSVC_GRACE_SECONDS": "3",
        "VMSVC_FLAVOR": "m1.tiny",
    }
    service = Killed(folder, environ, deadly)
    again = asyncio.create_task(service.start_again())
    try:
        await service.replicas[0].ready()
        await a_busy_day(Clients(service.replicas, PATIENCE), project)
        await until(lambda: not database.rows("SELECT id FROM intent WHERE done_at IS NULL"), "rest", 90, 0.2)
        invariants.of_the_database(database)
        await until(lambda: nothing_is_there(admin), "an empty cloud", 60, 0.5)
        assert service.died, "the point was reached"
        assert len(database.rows("SELECT id FROM vm")) == LARGEST + 1
        assert "Traceback" not in "".join(replica.text() for replica in service.replicas)
    finally:
        again.cancel()
        await service.close()
