"""The whole service, built as `python -m vmsvc` builds it, on a real PostgreSQL and a simulated cloud over HTTP."""

import logging
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests.system import invariants
from tests.system.client import Client, until
from tests.system.processes import Process
from tests.system.simulated import Sim
from tests.system.timing import CLOUD_OF_MODE, QUICK, TIMING
from vmsvc import bootstrap, config
from vmsvc.simulator.process import start


@pytest.fixture(name="template")
def fixture_template(postgres):
    """The server, with a migrated database `template` of which copies are made."""
    postgres.command("CREATE DATABASE template")
    bootstrap.migrate(postgres.url.replace("/postgres?", "/template?"))
    yield postgres
    postgres.command("DROP DATABASE template WITH (FORCE)")


@pytest.fixture(name="sim_process", scope="session")
def fixture_sim_process():
    """One simulated cloud for the whole run."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-sim-"))
    running = start(folder, hosts=1, **QUICK)
    yield Sim(running)
    os.kill(running.pid, signal.SIGTERM)
    os.waitpid(running.pid, 0)
    shutil.rmtree(folder)


@pytest.fixture(name="mode")
def fixture_mode():
    """Whose credentials the service has: an operator's, unless a test says otherwise."""
    return "operator"


@pytest.fixture(name="project")
def fixture_project(mode):
    """The project in which the service works."""
    return CLOUD_OF_MODE[mode][1]


@pytest.fixture(name="hosts")
def fixture_hosts():
    """How many hosts the cloud has, each of 4 vCPUs and 8 GiB."""
    return 1


@pytest.fixture(name="options")
def fixture_options():
    """Settings that differ from the tests' own."""
    return {}


@pytest.fixture(name="sim")
def fixture_sim(sim_process, hosts):
    """The cloud, as new."""
    sim_process.reset()
    for number in range(2, hosts + 1):
        sim_process.add_host(f"sim-{number}")
    sim_process.forget_calls()
    return sim_process


@pytest.fixture(name="environ")
def fixture_environ(database, sim, mode, options):
    """The environment of a service process."""
    settings = {
        "port": 0,
        "database_url": database.url,
        "grace_seconds": 0.5,
        "flavor": "m1.tiny",
        "cloud_rate": 1000,
        **options,
    }
    return {
        "OS_CLOUD": CLOUD_OF_MODE[mode][0],
        "OS_CLIENT_CONFIG_FILE": sim.clouds,
        **{config.variable(name): str(value) for name, value in settings.items()},
    }


class Replica:
    """One service in this process, and a client of it."""

    def __init__(self, io_loop, environ, timing):
        self._loop = io_loop
        settings = config.load({name: value for name, value in environ.items() if name.startswith(config.PREFIX)})
        self.service = bootstrap.service_of(
            settings,
            settings.database_url,
            {"cloud": environ["OS_CLOUD"], "config_file": environ["OS_CLIENT_CONFIG_FILE"]},
            timing=timing,
        )
        self.running = False

    async def start(self) -> Client:
        """Start, and wait until it is ready. (One at a time: a process has one database pool.)"""
        await self.service.start()
        self.running = True
        problems = self.service.runtime.problems
        await until(lambda: "reconciler" in problems and not any(problems.values()), f"readiness: {problems}")
        return Client(self.service.port)

    async def stop(self) -> None:
        """Stop it, once."""
        if self.running:
            self.running = False
            await self.service.stop()


@pytest.fixture(name="timing")
def fixture_timing():
    """How long the service waits, unless a test says otherwise."""
    return TIMING


@pytest.fixture(name="new_replica")
def fixture_new_replica(io_loop, environ, database, sim, timing, caplog):
    """`replica, client = await new_replica()`; all are stopped, and the world is checked, when the test is over."""
    caplog.set_level(logging.INFO, "vmsvc")
    started = []

    async def new_replica():
        replica = Replica(io_loop, environ, timing)
        started.append((replica, None))
        client = await replica.start()
        started[-1] = (replica, client)
        return replica, client

    async def end():
        try:
            await invariants.all_settled(database, sim)
        finally:
            for replica, client in started:
                await replica.stop()
                if client:
                    client.close()

    yield new_replica
    if started:
        io_loop.run_sync(end, timeout=60)
        invariants.check(database, sim)
    defects = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not defects


@pytest.fixture(name="new_process")
def fixture_new_process(tmp_path):
    """`process = new_process(environ)`: the service as a process of its own; none is left behind."""
    started = []

    def new_process(environ, *arguments):
        started.append(Process(environ, tmp_path / f"log{len(started)}", *arguments))
        return started[-1]

    yield new_process
    for process in started:
        process.clean_up()


@pytest.fixture(name="client")
def fixture_client(io_loop, new_replica):
    """A client of one running service."""
    return io_loop.run_sync(new_replica, timeout=30)[1]
