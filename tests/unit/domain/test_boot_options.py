"""The options of a create, as a row keeps them."""

import json

from vmsvc.domain.boot_options import NO_OPTIONS, BootOptions, Nic, kind_of, new_ports, options_in, options_of
from vmsvc.domain.request import class_of

WHOLE = BootOptions(
    nics=(Nic("n", fixed_ip="10.0.0.9"), Nic("n", port_id="p"), Nic("m")),
    security_groups=("s",),
    tags=("t",),
    server_group="g",
    same_host=("x",),
    different_host=("y",),
    config_drive=False,
    hostname="web-1",
    trusted_image_certificates=("c",),
    block_devices=({"source_type": "volume", "uuid": "v"}, {"source_type": "blank", "volume_size": 1}),
)


def test_options_are_read_as_they_were_written():
    assert options_of(json.loads(json.dumps(WHOLE.body))) == WHOLE
    assert NO_OPTIONS.body == {} and options_in({"flavor_id": "f"}) == NO_OPTIONS
    assert WHOLE.body["config_drive"] is False, "no drive was asked for, which is more than nothing"


def test_what_only_one_server_can_have_is_claimed():
    assert WHOLE.claims == {"port p", "address 10.0.0.9 of network n", "volume v"} and WHOLE.keeps_ports
    assert NO_OPTIONS.claims == frozenset() and not NO_OPTIONS.keeps_ports
    assert BootOptions(keeps_address=True).keeps_ports


def test_nova_makes_a_port_for_each_interface_without_one():
    assert new_ports({"network_id": "n", "options": WHOLE.body}) == {"n": 1, "m": 1}
    assert new_ports({"network_id": "n"}) == {"n": 1} and not new_ports({"network_id": None})
    assert not new_ports({"network_id": "n", "options": BootOptions(nics=(Nic("n", port_id="p"),)).body})


def test_requests_with_other_options_are_of_another_class():
    plain = {"flavor_id": "f", "image_id": "i", "network_id": "n", "availability_zone": None}
    assert class_of(plain) == ("f", "i", "n", ""), "as an earlier release has it"
    named = {**plain, "options": BootOptions(tags=("t",), hostname="web-1").body}
    assert kind_of(named) == "" and class_of(named) == class_of(plain)
    kinds = {kind_of({"options": BootOptions(server_group=group).body}) for group in ("g", "h", None)}
    assert len(kinds) == 3 and len({class_of({**plain, "options": WHOLE.body}), class_of(plain)}) == 2
