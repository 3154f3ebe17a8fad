"""Where a request could go at all: each reason for which Nova or Placement would say no, by its name."""

import pytest

from tests.unit.worlds import operator, request
from vmsvc.domain.flavors import Traits, placement_request, traits_of
from vmsvc.domain.host import Host
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.scheduling.decide import Evict, Place, Refuse, decide
from vmsvc.scheduling.eligibility import eligible, why_no_host

FLAVOR = {"vcpus": 2, "ram_mb": 2048, "disk_gb": 20}
CLASSES = {"VCPU": Inventory(8), "MEMORY_MB": Inventory(8192), "DISK_GB": Inventory(100)}


def asks(specs=None, **facts):
    """A request for FLAVOR with these extra specs; other sizes where told."""
    sizes = {**FLAVOR, **{key: facts.pop(key) for key in list(facts) if key.endswith(("_mb", "_gb", "vcpus"))}}
    return request(resources=placement_request(**sizes, extra_specs=specs), traits=traits_of(specs or {}), **facts)


def has(*, held=None, available=True, zone="nova", traits=(), **classes):
    """A host with CLASSES, changed as told; a class that is None is taken away."""
    inventories = {name: inventory for name, inventory in {**CLASSES, **classes}.items() if inventory}
    return Host("sim-1", inventories, held or {}, available=available, availability_zone=zone, traits=frozenset(traits))


def test_an_ordinary_host_takes_an_ordinary_request():
    assert eligible(has(), asks())


NO = {
    "a host that is down or disabled": (has(available=False), asks()),
    "another availability zone": (has(zone="mars"), asks(availability_zone="nova")),
    "a required trait that it lacks": (has(), asks({"trait:CUSTOM_SSD": "required"})),
    "a trait that is forbidden": (has(traits=["CUSTOM_OLD"]), asks({"trait:CUSTOM_OLD": "forbidden"})),
    "a forbidden trait that does not exist": (has(traits=["!CUSTOM_NOPE"]), asks({"trait:CUSTOM_NOPE": "forbidden"})),
    "a trait that the flavor implies": (has(), asks({"hw:cpu_thread_policy": "require"})),
    "a class that it has not": (has(), asks({"resources:CUSTOM_GOLD": "1"})),
    "no dedicated CPUs": (has(), asks({"hw:cpu_policy": "dedicated"})),
    "only dedicated CPUs": (has(VCPU=None, PCPU=Inventory(8)), asks()),
    "too few GPUs": (has(VGPU=Inventory(1)), asks({"resources:VGPU": "2"})),
    "fewer than the smallest unit": (has(VCPU=Inventory(8, min_unit=4)), asks()),
    "more than the largest unit": (has(MEMORY_MB=Inventory(8192, max_unit=1024)), asks()),
    "no multiple of the step": (has(MEMORY_MB=Inventory(8192, step_size=4096)), asks()),
    "what is left of what is reserved": (has(MEMORY_MB=Inventory(8192, reserved=7000)), asks()),
    "a ratio below one": (has(VCPU=Inventory(8, allocation_ratio=0.2)), asks()),
    "root disk": (has(DISK_GB=Inventory(10)), asks()),
    "ephemeral disk": (has(DISK_GB=Inventory(20)), asks(ephemeral_gb=1)),
    "swap, rounded up to a GiB": (has(DISK_GB=Inventory(20)), asks(swap_mb=1)),
    "it refused this request": (has(), asks(avoid=frozenset({"sim-1"}))),
    "it refused others like it lately": (has(), asks(cooling={"sim-1": "no"})),
}
YES = {
    "its own availability zone": (has(zone="mars"), asks(availability_zone="mars")),
    "any zone": (has(zone="mars"), asks()),
    "a required trait that it has": (has(traits=["CUSTOM_SSD"]), asks({"trait:CUSTOM_SSD": "required"})),
    "a forbidden trait that it lacks": (has(traits=["CUSTOM_NEW"]), asks({"trait:CUSTOM_OLD": "forbidden"})),
    "a trait that does not exist and is not forbidden": (has(traits=["!CUSTOM_NOPE"]), asks()),
    "a class of its own": (has(CUSTOM_GOLD=Inventory(1)), asks({"resources:CUSTOM_GOLD": "1"})),
    "dedicated CPUs": (has(VCPU=None, PCPU=Inventory(8)), asks({"hw:cpu_policy": "dedicated"})),
    "a GPU": (has(VGPU=Inventory(4)), asks({"resources:VGPU": "1"})),
    "a class that the flavor waives": (has(DISK_GB=None), asks({"resources:DISK_GB": "0"})),
    "over-commit by its ratio": (has(VCPU=Inventory(1, allocation_ratio=16.0)), asks()),
    "exactly the smallest and the largest unit": (has(VCPU=Inventory(8, min_unit=2, max_unit=2)), asks()),
    "swap that just fits": (has(DISK_GB=Inventory(21)), asks(swap_mb=1024)),
    "a host that others of another kind were refused by": (has(), asks(cooling={"sim-2": "no"})),
}


@pytest.mark.parametrize("case", NO)
def test_a_host_is_out_of_the_question_for(case):
    assert not eligible(*NO[case])


@pytest.mark.parametrize("case", YES)
def test_a_host_is_possible_with(case):
    assert eligible(*YES[case])


@pytest.mark.parametrize("case", NO)
def test_no_vm_is_evicted_where_the_request_could_not_run(case):
    host, asked = NO[case]
    decision = decide(asked, operator(hosts=[host]))
    assert isinstance(decision, Refuse) and decision.error == "no_capacity"


@pytest.mark.parametrize(
    "held, expected",
    [
        ({"a": {"VGPU": 4}}, Refuse),
        ({"a": {"VGPU": 3}}, Place),
        ({"a": {"VCPU": 8}}, Refuse),
        ({"migration": {"VCPU": 7, "MEMORY_MB": 512}}, Refuse),
        ({"a": {"VCPU": 12}}, Refuse),
    ],
)
def test_every_resource_class_counts_for_every_consumer(held, expected):
    """A GPU host that is full by its GPUs, or its CPUs; claims of no server; a host that is over-committed."""
    host = has(VGPU=Inventory(4), held={name: Resources(amounts) for name, amounts in held.items()})
    assert isinstance(decide(asks({"resources:VGPU": "1"}), operator(hosts=[host])), expected)


def test_when_no_host_is_left_the_reason_is_reported():
    world = operator(hosts=[has()])
    lately, itself = asks(cooling={"sim-1": "a filter"}), asks(avoid=frozenset({"sim-1"}), cloud_message="a filter")
    assert why_no_host(lately, world) == "every host that could take it has refused such VMs lately (a filter)"
    assert why_no_host(itself, world) == "every host that could take it has refused it (a filter)"
    unknown = operator(hosts=[has(traits=["!CUSTOM_NOPE"])])
    assert why_no_host(asks({"trait:CUSTOM_NOPE": "forbidden"}), unknown) == (
        "no host could take it: Placement knows no trait CUSTOM_NOPE, which its flavor forbids"
    )
    assert why_no_host(asks({"resources:VGPU": "1"}), world) == "no host could take it, even were it empty"


def test_traits_of_requests_that_name_none_allow_every_host():
    assert eligible(has(traits=["ANY"]), request(resources=Resources({"VCPU": 1}), traits=Traits()))
    assert not isinstance(decide(asks(), operator(hosts=[has()])), Evict)
