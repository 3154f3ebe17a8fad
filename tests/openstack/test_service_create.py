"""A create with all that Nova takes: as Nova takes it directly, field by field; and what costs nobody a VM."""

import uuid
from collections.abc import Iterator

import pytest

from tests.openstack.http import Api, until
from tests.openstack.offer import Offer
from tests.openstack.service import PREEMPTIBLE, set_quota

NOBODY = str(uuid.uuid4())
#: Differs between two servers, whoever makes them.
OF_ONE_SERVER = {"id", "links", "created", "updated", "OS-SRV-USG:launched_at", "hostId", "OS-EXT-SRV-ATTR:host"} | {
    f"OS-EXT-SRV-ATTR:{name}" for name in ("hypervisor_hostname", "instance_name", "reservation_id")
}


@pytest.fixture(name="offer")
def fixture_offer(admin) -> Iterator[Offer]:
    """Makes networks, ports and groups for the test."""
    made = Offer(admin)
    yield made
    for server in admin("GET", "/servers?all_tenants=1").body["servers"]:
        admin("DELETE", f"/servers/{server['id']}")
    until("no server is left", lambda: admin("GET", "/servers?all_tenants=1").body["servers"] == [], 120)
    made.clear()


def options(offer: Offer, project: Api, network_id: str) -> tuple[dict, dict, str]:
    """The fields of a create with all options, the same for Nova with addresses and ports of its own, and the server
    group."""
    own = offer.network(project, "10.9.0.0/24")
    web = offer.security_group(project, "conformance-web")
    group = offer.server_group(project, "conformance-soft", "soft-anti-affinity")
    ports = [offer.port(project, own)["id"] for _ in range(2)]
    same = {
        "name": "conformance-whole",
        "tags": ["blue", "b c"],
        "metadata": {"a": "b"},
        "config_drive": True,
        "hostname": "web-1",
        "trusted_image_certificates": [NOBODY],
        "user_data": "aGk=",
    }
    ours = {
        "networks": [{"network": own, "fixed_ip": "10.9.0.99"}, {"port": ports[0]}, {"network": network_id}],
        "security_groups": ["conformance-web", "default"],
        "server_group": "conformance-soft",
    }
    novas = {
        "networks": [{"uuid": own, "fixed_ip": "10.9.0.98"}, {"port": ports[1]}, {"uuid": network_id}],
        "security_groups": [{"name": web}, {"name": "default"}],
    }
    return same | ours, same | novas, group


def comparable(api: Api, server_id: str, tags: list[str]) -> dict:
    """A server as Nova shows it, without what differs between two servers and without vmsvc's marks."""
    shown = {name: value for name, value in api.server(server_id).items() if name not in OF_ONE_SERVER}
    shown["metadata"] = {key: value for key, value in shown["metadata"].items() if not key.startswith("vmsvc_")}
    shown["tags"] = [tag for tag in shown["tags"] if tag in tags]
    shown["addresses"] = {name: len(found) for name, found in shown["addresses"].items()}
    shown["security_groups"] = sorted(group["name"] for group in shown["security_groups"])
    return shown


def test_a_vm_with_all_options_equals_one_that_nova_made_directly(offer, service, project, image_id, network_id):
    ours, novas, group = options(offer, project, network_id)
    body = {"is_preemptible": False, "flavor": "m1.tiny", "image": image_id, **ours}
    created = service("POST", "/vm", body)
    assert created.status == 201, created.body
    mine = created.body["vm"]["id"]
    theirs = project(
        "POST",
        "/servers",
        {
            "server": {"flavorRef": "m1.tiny", "imageRef": image_id, **novas},
            "os:scheduler_hints": {"group": group},
        },
    ).body["server"]["id"]
    until("it is ACTIVE", lambda: project.server(theirs)["status"] == "ACTIVE")
    shown = comparable(project, mine, ours["tags"])
    assert shown == comparable(project, theirs, ours["tags"])
    assert shown["server_groups"] == [group] and shown["config_drive"] == "True"
    again = service("POST", "/vm", body)
    assert (again.status, again.body["field"]) == (400, "networks"), "its port and its address are in use"
    port = ours["networks"][1]["port"]
    assert service("DELETE", f"/vm/{mine}").status == 200
    assert project("GET", f"/ports/{port}", service="network").body["port"]["device_id"] == ""
    project("DELETE", f"/servers/{theirs}")


def test_a_bad_value_of_each_field_costs_nobody_a_vm(offer, service, project, outsider, admin, network_id):
    """The quota is full of preemptible VMs."""
    own = offer.network(project, "10.9.0.0/24")
    taken = offer.port(project, own)["fixed_ips"][0]["ip_address"]
    for _ in range(2):
        offer.security_group(project, "conformance-twin")
    bad = [
        ("networks", [{"port": offer.port(outsider, network_id)["id"]}]),
        ("networks", [{"network": own}, {"network": NOBODY}]),
        ("networks", [{"network": own, "fixed_ip": taken}]),
        ("networks", [{"network": own, "fixed_ip": "192.0.2.1"}]),
        ("security_groups", ["conformance-twin"]),
        ("security_groups", [NOBODY]),
        ("server_group", offer.server_group(outsider, "conformance-strangers", "affinity")),
        ("scheduler_hints", {"same_host": NOBODY}),
        ("scheduler_hints", {"different_host": [NOBODY]}),
        ("scheduler_hints", {"query": "[]"}),
        ("tags", ["a/b"]),
        ("hostname", "-x"),
        ("config_drive", "on"),
        ("trusted_image_certificates", []),
        # The real cloud has no Cinder, and no volume of the simulated one has this id.
        ("block_device_mapping_v2", [{"boot_index": 0, "source_type": "volume", "uuid": NOBODY}]),
    ]
    set_quota(admin, project, instances=2)
    service.create_many(2, {**PREEMPTIBLE, "flavor": "m1.tiny", "network": network_id})
    since = service.seq()
    for field, value in bad:
        for query in ("?dry_run=true", ""):
            plugged = {} if field == "networks" else {"network": network_id}
            body = {"is_preemptible": False, "flavor": "m1.tiny", **plugged, field: value}
            reply = service("POST", f"/vm{query}", body)
            assert (reply.status, reply.body.get("field")) == (400, field), (value, reply.body)
    assert service.evictions(since, "noticed") == []
    set_quota(admin, project, instances=100000)


def test_a_vm_is_evicted_only_where_the_server_group_lets_nova_use_the_capacity(offer, service, project):
    """The member's host has the cheapest victim; Nova would refuse the VM there."""
    offer.server_group(project, "conformance-apart", "anti-affinity")
    member = {"is_preemptible": False, "flavor": "m1.tiny", "server_group": "conformance-apart"}
    home = project.server(service("POST", "/vm", member).body["vm"]["id"])["hostId"]
    large = service.create_many(3, PREEMPTIBLE)
    service.create_many(3, {**PREEMPTIBLE, "flavor": "m1.tiny"})
    created = service("POST", "/vm", member)
    assert created.status == 201, created.body
    assert len(created.body["evicted"]) == 1 and created.body["evicted"][0] in large
    assert project.server(created.body["vm"]["id"])["hostId"] != home


#: What Nova says of a create that cannot be: what is sent besides, the hints, the status, the end of the message. Text
#: in braces stands for what the test makes.
REFUSED = {
    "port": ({"networks": [{"port": NOBODY}]}, {}, 400, f"Port id {NOBODY} could not be found."),
    "port twice": ({"networks": [{"port": "{port}"}] * 2}, {}, 400, "you cannot attach a port multiple times."),
    "port and address": (
        {"networks": [{"port": "{port}", "fixed_ip": "10.9.0.9"}]},
        {},
        400,
        "the two cannot be specified together.",
    ),
    "address": ({"networks": [{"uuid": "{own}", "fixed_ip": "{taken}"}]}, {}, 400, "is already in use on instance ."),
    "ambiguous": (
        {"security_groups": [{"name": "conformance-twin"}]},
        {},
        409,
        "Multiple security_group matches found for name 'conformance-twin', use an ID to be more specific.",
    ),
    "security group before server group": (
        {"security_groups": [{"name": NOBODY}]},
        {"group": NOBODY},
        400,
        f"Unable to find security_group with name or id '{NOBODY}'",
    ),
    "another project's server group": ({}, {"group": "{strangers}"}, 400, "could not be found."),
}


def test_nova_refuses_these_creates_in_its_own_words(demo, admin, offer, image_id, network_id):
    own = offer.network(demo, "10.9.0.0/24")
    port = offer.port(demo, own)
    names = {
        "{own}": own,
        "{port}": port["id"],
        "{taken}": port["fixed_ips"][0]["ip_address"],
        "{strangers}": offer.server_group(admin, "conformance-strangers", "affinity"),
    }
    for _ in range(2):
        offer.security_group(demo, "conformance-twin")

    def named(value: object) -> object:
        if isinstance(value, dict):
            return {key: named(each) for key, each in value.items()}
        return [named(each) for each in value] if isinstance(value, list) else names.get(value, value)

    usual = {"name": "c", "flavorRef": "m1.tiny", "imageRef": image_id, "networks": [{"uuid": network_id}]}
    for case, (more, hints, status, text) in REFUSED.items():
        reply = demo("POST", "/servers", {"server": {**usual, **named(more)}, "os:scheduler_hints": named(hints)})
        assert reply.status == status and reply.message.endswith(text), (case, reply)
    assert demo("GET", "/servers").body["servers"] == []


def test_neutron_refuses_an_address_during_the_build(demo, boot, offer, network_id):
    """So vmsvc has to judge addresses before it evicts anybody."""
    own = offer.network(demo, "10.9.0.0/24")
    for network, address, text in (
        (network_id, "10.77.250.9", "is disallowed by policy"),
        (own, "192.0.2.1", "Fixed IP 192.0.2.1 is not a valid ip address for network"),
    ):
        server = boot(demo, "ERROR", networks=[{"uuid": network, "fixed_ip": address}])
        fault = until("it has a fault", lambda server=server: demo.server(server["id"]).get("fault"))["message"]
        assert text in fault or fault.startswith("Exceeded maximum number of retries."), fault
