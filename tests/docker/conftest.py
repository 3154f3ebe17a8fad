"""An installation as `make build` makes it, from a copy of the tree, on the Docker of this machine."""

import asyncio
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.docker.installation import Installation, tree_without
from tests.system import invariants

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    """A port of loopback that nobody has now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def pytest_collection_modifyitems(items):
    """Without an engine these tests can prove nothing: that is a failure of the run, said once and in words."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    if ours and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        raise pytest.UsageError("no Docker engine answers here: start one for tests/docker")


@pytest.fixture(name="tree", scope="session")
def fixture_tree(tmp_path_factory):
    """What is under version control, and nothing else: that has to be enough."""
    tree = tmp_path_factory.mktemp("tree")
    for name in tree_without(ROOT):
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return tree


@pytest.fixture(name="installation", scope="session")
def fixture_installation(tree):
    """Service, PostgreSQL and simulated cloud, built and healthy."""
    installation = Installation(tree, f"vmsvctest{os.getpid()}", free_port())
    try:
        installation.build(PORT=str(installation.port))
        yield installation
    finally:
        installation.remove()


@pytest.fixture(name="emptied")
def fixture_emptied(installation):
    """The installation, with every VM of former tests deleted; the world is checked when the test is over."""

    async def wipe():
        client = await installation.ready()
        gone = await asyncio.gather(*map(client.delete, await client.listed()))
        assert {answer.status for answer in gone} <= {200}
        client.close()

    async def settle():
        await invariants.all_settled(installation.database, installation.sim, 60)

    asyncio.run(wipe())
    yield installation
    asyncio.run(settle())
    invariants.check(installation.database, installation.sim)
