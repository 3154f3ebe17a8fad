"""What Nova refuses whatever room there is, as far as the flavor, the image and the network tell."""

from dataclasses import replace

import pytest

from vmsvc.cloud.openstack import parse
from vmsvc.domain.acceptance import Objection, Verdict, is_peculiar, objection
from vmsvc.domain.catalog import Addresses, Image, Network
from vmsvc.domain.flavors import Flavor

TINY = Flavor("1", "m1.tiny", 1, 1024, 1)
IMAGE = Image("i", "debian", size_bytes=2**29)
NETWORK = Network("n", "private", ("s",))
VOLUME = {"block_device_mapping": '[{"boot_index": 0, "source_type": "snapshot", "destination_type": "volume"}]'}


def of(flavor=None, image=None, network=None):
    """The field that is named, None for a combination that is taken."""
    found = objection(replace(TINY, **flavor or {}), replace(IMAGE, **image or {}), replace(NETWORK, **network or {}))
    return found and found.field


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({}, None),
        ({"image": {"min_ram_mb": 1024, "min_disk_gb": 1, "size_bytes": 2**30}}, None),
        ({"image": {"min_ram_mb": 1025}}, "flavor"),
        ({"image": {"min_disk_gb": 2}}, "flavor"),
        ({"image": {"size_bytes": 2**30 + 1}}, "flavor"),
        ({"image": {"status": "queued"}}, "image"),
        ({"image": {"properties": {"cinder_encryption_key_id": "k"}}}, "image"),
        ({"network": {"subnets": ()}}, "network"),
        ({"flavor": {"disabled": True}}, "flavor"),
        # Without a root disk of its own nothing is compared (measured): it is as large as the image, or a volume.
        ({"flavor": {"disk_gb": 0}, "image": {"min_disk_gb": 2}}, None),
        ({"image": {"min_disk_gb": 20, "properties": VOLUME}}, None),
    ],
)
def test_what_does_not_go_together_names_the_field_to_mend(changed, field):
    assert of(**changed) == field


@pytest.mark.parametrize(
    ("flavor", "properties", "peculiar"),
    [
        ({}, {}, False),
        ({}, {"os_distro": "debian", "hw_architecture": "x86_64"}, False),
        ({"disk_gb": 0}, {}, True),
        ({"disk_gb": 0}, VOLUME, False),
        ({}, {"hw_numa_nodes": "2"}, True),
        ({"extra_specs": {"hw:cpu_policy": "dedicated"}}, {}, True),
        ({"extra_specs": {"trait:CUSTOM_X": "required"}}, {}, False),
    ],
)
def test_where_nova_alone_knows_it_is_asked(flavor, properties, peculiar):
    assert is_peculiar(replace(TINY, **flavor), replace(IMAGE, properties=properties)) is peculiar


FULL = Addresses(4, 4, frozenset({"a", "b"}))


@pytest.mark.parametrize(
    ("verdict", "leaving", "claims", "refused"),
    [
        (Verdict(), [], 0, None),
        (Verdict(Objection("no", "image")), ["a"], 0, "invalid_request"),
        (Verdict(ports=1), [], 0, None),
        (Verdict(ports=0), [], 0, "quota_exceeded"),
        (Verdict(ports=0), ["x"], 0, None),
        (Verdict(ports=-2), ["x"], 0, "quota_exceeded"),
        (Verdict(ports=0), ["x"], 1, "quota_exceeded"),
        (Verdict(addresses=FULL), ["x"], 0, "invalid_request"),
        (Verdict(addresses=FULL), ["a"], 0, None),
        (Verdict(addresses=FULL), ["a"], 1, "invalid_request"),
        (Verdict(addresses=FULL), ["a", "b"], 1, None),
        (Verdict(addresses=Addresses(4, 3)), [], 0, None),
        (Verdict(addresses=Addresses(4, 3)), [], 1, "invalid_request"),
        (Verdict(unplugged="full"), ["x"], 0, "invalid_request"),
        (Verdict(unplugged="full", addresses=FULL), ["a"], 0, None),
    ],
)
def test_who_leaves_gives_back_a_port_and_its_address(verdict, leaving, claims, refused):
    found = verdict.object_to(leaving, claims)
    assert (found and found.error) == refused


def pool(start, end, **more):
    """A subnet."""
    return {
        "id": start,
        "ip_version": 6 if ":" in start else 4,
        "allocation_pools": [{"start": start, "end": end}],
        **more,
    }


def test_of_a_subnet_count_the_addresses_that_a_server_gets():
    assert parse.subnet(pool("10.0.0.2", "10.0.0.254")) == (("10.0.0.2", 4), 253)
    assert parse.subnet(pool("fd00::1", "fd00::ffff")) == (("fd00::1", 6), 65535)
    assert parse.subnet(pool("fd00::1", "fd00::ffff", ipv6_address_mode="slaac"))[1] is None
    assert parse.subnet(pool("10.0.0.2", "10.0.0.254", service_types=["network:router_gateway"]))[1] is None


def test_the_version_with_fewest_addresses_left_decides():
    """Measured: a port gets an address of each version, and a network whose IPv4 is used up takes no server."""
    pools = {("s4", 4): 3, ("s6", 6): 1000}
    ports = [("a", frozenset({"s4", "s6"})), ("", frozenset({"s4"})), ("b", frozenset({"s6"}))]
    assert parse.tightest(pools, {}, ports) == Addresses(3, 2, frozenset({"a"}))
    assert parse.tightest(pools, {"s4": 3, "s6": 9}, ports) == Addresses(3, 3, frozenset({"a"}))


def test_an_image_as_glance_shows_it():
    raw = {
        "id": "i",
        "name": None,
        "status": "queued",
        "min_ram": 512,
        "min_disk": 3,
        "size": None,
        "owner": "p",
        "disk_format": "raw",
        "hw_architecture": "aarch64",
        "tags": [],
        "os_hidden": False,
    }
    assert parse.image(raw) == Image("i", "", "queued", 512, 3, 0, {"hw_architecture": "aarch64"})
