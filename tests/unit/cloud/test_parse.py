"""From OpenStack's JSON to the port's values."""

from datetime import UTC, datetime

import pytest

from vmsvc.cloud.openstack import parse
from vmsvc.domain.errors import CloudError
from vmsvc.domain.resources import Inventory, Resources

SERVER = {
    "id": "0c4f",
    "name": "standart",
    "status": "ACTIVE",
    "tenant_id": "p",
    "created": "2026-11-23T07:55:03Z",
    "updated": "2026-11-23T07:55:05Z",
    "hostId": "b830",
    "metadata": {"vmsvc_id": "v1"},
    "image": {"id": "i"},
    "flavor": {
        "vcpus": 2,
        "ram": 4096,
        "disk": 1,
        "ephemeral": 3,
        "swap": 512,
        "original_name": "m1.medium",
        "extra_specs": {"resources:VCPU": "0"},
    },
    "OS-EXT-AZ:availability_zone": "nova",
    "OS-SRV-USG:launched_at": "2026-11-23T07:55:04.000000",
    "OS-EXT-STS:task_state": None,
    "locked": True,
}


def test_a_members_server():
    server = parse.server(SERVER)
    assert (server.id, server.vmsvc_id, server.host_id, server.host) == ("0c4f", "v1", "b830", None)
    assert server.locked
    assert server.launched_at == datetime(2026, 11, 23, 7, 55, 4, tzinfo=UTC)
    assert server.created == datetime(2026, 11, 23, 7, 55, 3, tzinfo=UTC)
    size = server.flavor
    assert (size.id, size.vcpus, size.ram_mb, size.ephemeral_gb, size.swap_mb) == ("m1.medium", 2, 4096, 3, 512)
    assert not server.boot_from_volume


def test_an_admins_answer_is_shown_without_traceback_and_user_data():
    server = parse.server(
        {
            **SERVER,
            "status": "ERROR",
            "OS-EXT-SRV-ATTR:host": "bed-1",
            "OS-EXT-SRV-ATTR:user_data": "c2VjcmV0",
            "fault": {"code": 500, "message": "No valid host was found. ", "details": "Traceback ..."},
        }
    )
    assert server.host == "bed-1"
    assert server.body["fault"] == {"code": 500, "message": "No valid host was found. "}
    assert "c2VjcmV0" not in str(server.body)


def test_a_server_of_a_cell_that_is_down_has_little_to_show():
    server = parse.server(
        {"id": "0c4f", "status": "UNKNOWN", "tenant_id": "p", "created": "2026-11-23T07:55:03Z", "links": []}
    )
    assert (server.status, server.vmsvc_id, server.flavor.vcpus) == ("UNKNOWN", None, 0)


def test_a_server_booted_from_a_volume_has_an_empty_image():
    assert parse.server({**SERVER, "image": ""}).boot_from_volume


def test_a_limit_of_minus_one_is_none_and_a_limit_of_zero_is_a_limit():
    quota = parse.quota(
        {
            "limits": {
                "absolute": {
                    "maxTotalInstances": 0,
                    "totalInstancesUsed": 0,
                    "maxTotalCores": -1,
                    "totalCoresUsed": 3,
                    "maxTotalRAMSize": 4096,
                    "totalRAMUsed": 1024,
                }
            }
        }
    )
    assert quota.limit == {"instances": 0, "ram": 4096}
    assert quota.used == Resources({"cores": 3, "ram": 1024})


@pytest.mark.parametrize("swap", ["", 0, None])
def test_no_swap_is_written_in_more_than_one_way(swap):
    raw = {"id": "1", "name": "m1", "vcpus": 1, "ram": 1, "disk": 1, "swap": swap}
    assert parse.flavor(raw).swap_mb == 0


def test_inventories_and_allocations():
    entry = {"total": 64, "reserved": 2, "allocation_ratio": 4.0, "min_unit": 1, "max_unit": 64, "step_size": 1}
    shown = {"inventories": {"VCPU": entry}, "resource_provider_generation": 7}
    assert parse.inventories(shown) == ({"VCPU": Inventory(64, 2, 4.0, 1, 64, 1)}, 7)
    held = {"allocations": {"s1": {"resources": {"VCPU": 1, "MEMORY_MB": 1024}}}}
    assert parse.allocations(held) == {"s1": Resources({"VCPU": 1, "MEMORY_MB": 1024})}


def test_what_is_not_understood_is_a_cloud_error_that_says_what_it_was_about():
    with pytest.raises(CloudError, match="a flavor"):
        parse.each("a flavor", [{"id": "1"}], parse.flavor)
