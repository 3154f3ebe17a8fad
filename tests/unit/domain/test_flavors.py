"""What a flavor asks of a host: amounts and traits, as Nova asks Placement for them."""

import pytest

from vmsvc.domain.flavors import Traits, placement_request, quota_request, traits_of


def test_defect_3_disk_is_root_and_ephemeral_and_swap_rounded_up_to_gib():
    request = placement_request(2, 2048, 20, ephemeral_gb=5, swap_mb=1025)
    assert request == {"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 27}


def test_defect_3_a_server_booted_from_a_volume_takes_no_root_disk_but_its_swap_and_ephemeral():
    request = placement_request(1, 512, 20, ephemeral_gb=1, swap_mb=512, boot_from_volume=True)
    assert request["DISK_GB"] == 2


def test_extra_specs_add_and_override_and_remove_classes():
    specs = {"resources:VCPU": "0", "resources:CUSTOM_GOLD": "1", "resources:MEMORY_MB": "64", "hw:numa_nodes": "2"}
    assert placement_request(4, 2048, 1, extra_specs=specs) == {"CUSTOM_GOLD": 1, "MEMORY_MB": 64, "DISK_GB": 1}


def test_a_server_counts_as_one_instance_with_its_cores_and_ram_in_the_quota():
    assert quota_request(4, 8192) == {"instances": 1, "cores": 4, "ram": 8192}


@pytest.mark.parametrize(
    "specs, claimed",
    [
        ({"hw:cpu_policy": "dedicated"}, {"PCPU": 4}),
        ({"hw:cpu_policy": "dedicated", "hw:emulator_threads_policy": "isolate"}, {"PCPU": 5}),
        ({"hw:cpu_policy": "shared"}, {"VCPU": 4}),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-1"}, {"VCPU": 2, "PCPU": 2}),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^3"}, {"VCPU": 1, "PCPU": 3}),
        ({"hw:cpu_policy": "mixed", "hw:cpu_realtime_mask": "1-3,^2"}, {"VCPU": 2, "PCPU": 2}),
        ({"resources:PCPU": "4"}, {"PCPU": 4}),
        ({"resources:PCPU": "2", "resources:VCPU": "2"}, {"PCPU": 2, "VCPU": 2}),
    ],
)
def test_dedicated_cpus_are_pcpu_and_the_others_vcpu(specs, claimed):
    assert placement_request(4, 2048, 1, extra_specs=specs) == {"MEMORY_MB": 2048, "DISK_GB": 1, **claimed}


@pytest.mark.parametrize(
    "specs, claimed",
    [
        ({"resources:VGPU": "1"}, {"VGPU": 1}),
        ({"resources1:VGPU": "1", "resources_B:VGPU": "2"}, {"VGPU": 3}),
        ({"hw:pmem": "6GB,6GB,big-one"}, {"CUSTOM_PMEM_NAMESPACE_6GB": 2, "CUSTOM_PMEM_NAMESPACE_BIG_ONE": 1}),
        ({"hw:mem_encryption": "True"}, {"MEM_ENCRYPTION_CONTEXT": 1}),
        ({"resources:CUSTOM_GOLD": "many"}, {}),
    ],
)
def test_devices_are_classes_of_their_own(specs, claimed):
    assert placement_request(1, 512, 1, extra_specs=specs) == {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1, **claimed}


@pytest.mark.parametrize(
    "specs, required, forbidden",
    [
        ({}, set(), set()),
        ({"trait:CUSTOM_SSD": "required", "trait:CUSTOM_OLD": "forbidden"}, {"CUSTOM_SSD"}, {"CUSTOM_OLD"}),
        ({"trait_GPU:CUSTOM_BIG": "required"}, {"CUSTOM_BIG"}, set()),
        ({"hw:cpu_thread_policy": "require"}, {"HW_CPU_HYPERTHREADING"}, set()),
        ({"hw:cpu_thread_policy": "isolate"}, set(), {"HW_CPU_HYPERTHREADING"}),
        (
            {"hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb"},
            {"COMPUTE_SECURITY_TPM_2_0", "COMPUTE_SECURITY_TPM_CRB"},
            set(),
        ),
        ({"os:secure_boot": "required"}, {"COMPUTE_SECURITY_UEFI_SECURE_BOOT"}, set()),
    ],
)
def test_traits_are_named_or_implied(specs, required, forbidden):
    assert traits_of(specs) == Traits(frozenset(required), frozenset(forbidden))


def test_a_host_needs_all_required_traits_and_none_that_is_forbidden():
    wanted = Traits(frozenset({"A", "B"}), frozenset({"C"}))
    assert wanted.allow(frozenset("ABD"))
    assert not wanted.allow(frozenset("A"))
    assert not wanted.allow(frozenset("ABC"))
