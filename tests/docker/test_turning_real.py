"""A real cloud instead of the simulated one: whose credentials, whose database, and no way back by accident.

It is a simulated cloud too, but one on the machine, of which Docker knows nothing but the address.
"""

import asyncio
import subprocess
import sys
import time
from ipaddress import ip_network

import pytest
import yaml

from tests.docker.installation import docker

REAL = {"OS_CLOUD": "sim-demo", "VMSVC_FLAVOR": "m1.tiny", "VMSVC_GRACE_SECONDS": "1"}
# What the installation was told before is told again, or forgotten.
ALONE = {"REPLICAS": "1", "VMSVC_AUTH": ""}


@pytest.fixture(name="cloud", scope="module")
def fixture_cloud(tmp_path_factory):
    """clouds.yaml of a cloud that containers reach at the address of Docker's own bridge; for its owner's eyes only."""
    folder = tmp_path_factory.mktemp("cloud")
    subnet = ip_network(docker("network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Subnet}}"))
    bridge = str(subnet[1])
    with subprocess.Popen(
        [sys.executable, "-m", "vmsvc.simulator", "--dir", folder, "--address", bridge, "--name", bridge],
        stdout=subprocess.DEVNULL,
    ) as running:
        try:
            deadline = time.monotonic() + 30
            while not (folder / "clouds.yaml").exists():
                assert time.monotonic() < deadline and running.poll() is None
                time.sleep(0.1)
            assert (folder / "clouds.yaml").stat().st_mode & 0o077 == 0
            yield folder / "clouds.yaml"
        finally:
            running.terminate()


def test_with_os_cloud_the_service_works_there_with_those_credentials_and_a_database_of_its_own(installation, cloud):
    said = installation.build(OS_CLIENT_CONFIG_FILE=str(cloud), **REAL, **ALONE)
    assert "the cloud 'sim-demo'" in said

    async def story():
        client = await installation.ready()
        assert (await client.call("GET", "/api/v1/capacity")).json["mode"] == "tenant"
        assert await client.listed() == {} and await client.events() == []
        assert (await client.create(False)).status == 201
        client.close()

    asyncio.run(story())
    assert not installation.containers("cloud") and not installation.containers("balancer")


def test_a_shell_that_names_nothing_changes_nothing(installation):
    before = installation.condition()
    assert "the cloud 'sim-demo'" in installation.build()
    assert installation.condition() == before


def test_credentials_that_do_not_work_change_nothing_and_others_that_do_are_taken_up(installation, cloud, tmp_path):
    wrong = yaml.safe_load(cloud.read_text(encoding="utf-8"))
    wrong["clouds"]["sim-demo"]["auth"]["password"] = "open-sesame"
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    before = installation.condition()
    failed = installation.make("build", OS_CLIENT_CONFIG_FILE=str(tmp_path / "clouds.yaml"), **REAL)
    assert failed.returncode != 0
    assert "does not accept the service's credentials" in failed.stdout + failed.stderr
    assert "open-sesame" not in failed.stdout + failed.stderr
    assert installation.condition() == before

    # Other ones that work, at the place that is remembered: a comment makes them others.
    cloud.write_text(cloud.read_text(encoding="utf-8") + "# new\n", encoding="utf-8")
    installation.build()
    taken_up = installation.condition()
    assert set(taken_up["containers"]) != set(before["containers"])
    assert "# new" in docker("exec", installation.container("vmsvc"), "sh", "-c", "cat $OS_CLIENT_CONFIG_FILE")
    assert len(docker("exec", installation.container("vmsvc"), "ls", "/etc/openstack").split()) == 1
    installation.build(OS_CLIENT_CONFIG_FILE=str(cloud), **REAL)
    assert installation.condition() == taken_up
