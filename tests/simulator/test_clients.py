"""The ordinary clients: python-openstackclient with osc-placement, and openstacksdk."""

import os
import subprocess
import sys
from pathlib import Path

import openstack
import pytest

CLIENT = Path(sys.executable).with_name("openstack")


def say(clouds: Path, cloud: str, *commands: str, version: str = "2.93") -> str:
    """The output of one openstack client that runs these commands; nothing may be on its stderr."""
    environment = {
        **os.environ,
        "OS_CLIENT_CONFIG_FILE": str(clouds),
        "OS_CLOUD": cloud,
        "PYTHONWARNINGS": "ignore",
        "OS_COMPUTE_API_VERSION": version,
        "OS_PLACEMENT_API_VERSION": "1.39",
    }
    done = subprocess.run(
        [CLIENT],
        input="\n".join(commands) + "\n",
        env=environment,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.fixture(name="clouds")
def _clouds(running, sim) -> Path:
    sim.add("clock", frozen=False)
    sim.set("settings", schedule_seconds=0, boot_seconds=0.05, delete_seconds=0)
    return running.clouds


def test_the_members_client_creates_shows_and_deletes(sim, clouds):
    shown = say(
        clouds,
        "sim-demo",
        "server create --flavor m1.small --image bed-image --network bed-net --property a=b --tag t --wait cli",
        "server list -f csv",
        "port list -f csv",
        "flavor list -f csv",
        "image list -f csv",
        "network list -f csv",
        "availability zone list -f csv",
        "server show cli -f value -c status -c properties",
    )
    # From 2.75 on Nova refuses what this command asks.
    shown += say(clouds, "sim-demo", "limits show --absolute -f csv", version="2.74")
    for text in (
        '"cli","ACTIVE","',
        "{'bed-net': ['10.77.",
        '"m1.large","m1.large",8192',
        '"bed-image","active"',
        '"bed-net"',
        '"total_cores_used",1',
        '"nova","available"',
        "{'a': 'b'}\nACTIVE",
    ):
        assert text in shown
    assert say(clouds, "sim-demo", "server delete --wait cli", "server list -f csv").count("cli") == 0
    assert sim.get("/sim/state")["servers"] == []


def test_the_admins_client_reads_hosts_and_placement(sim, clouds):
    sim.add("servers", name="theirs")
    uuid = sim.get("/sim/state")["hosts"][0]["provider_id"]
    shown = say(
        clouds,
        "sim-admin",
        "hypervisor list -f csv",
        "resource provider list -f csv",
        f"resource provider inventory list {uuid} -f csv",
        "compute service list -f csv",
        "server list --all-projects -f csv",
        "allocation candidate list --resource VCPU=1 -f csv",
        f"resource provider usage show {uuid} -f csv",
    )
    for text in (
        '"sim-1","',
        f'"{uuid}","sim-1"',
        '"VCPU",1.0,1,4,0,1,4',
        '"nova-compute","sim-4","nova","enabled","up"',
        '"theirs","ACTIVE"',
        '"VCPU=1"',
        '"MEMORY_MB",1024',
    ):
        assert text in shown


# openstacksdk 4.22 warns about its own calls.
@pytest.mark.filterwarnings("ignore:Support for InfluxDB", "ignore:The .service_type. parameter", "ignore:The _")
def test_the_sdk_boots_waits_tags_and_deletes(sim, clouds):
    config = openstack.config.OpenStackConfig(config_files=[str(clouds)])
    with openstack.connection.Connection(config=config.get_one("sim-demo")) as cloud:
        image, network = next(cloud.image.images()), next(cloud.network.networks())
        server = cloud.compute.create_server(
            name="sdk", flavor_id="m1.tiny", image_id=image.id, networks=[{"uuid": network.id}], tags=["preemptible"]
        )
        server = cloud.compute.wait_for_server(server, interval=0.05)
        assert server.status == "ACTIVE" and server.addresses["bed-net"][0]["addr"].startswith("10.77.")
        assert [each.id for each in cloud.compute.servers(tags="preemptible")] == [server.id]
        cloud.compute.set_server_metadata(server, note="x")
        assert cloud.compute.get_server(server.id).metadata == {"note": "x"}
        cloud.compute.delete_server(server)
        cloud.compute.wait_for_delete(server, interval=0.05)
    assert sim.get("/sim/state")["ports"] == 0
