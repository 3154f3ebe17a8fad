"""What an image and a flavor ask of a host, as Nova's filters judge it."""

import pytest

from vmsvc.domain.catalog import Image
from vmsvc.domain.flavors import Flavor, traits_of
from vmsvc.domain.requirements import Hypervisor, Requirements, requirements_of

KVM = Hypervisor("QEMU", 6002000, "node-1", 64, {"arch": "x86_64", "model": "EPYC", "features": ["aes", "avx2"]})
FAKE = Hypervisor("fake", 1000, "bed-1", 4, {"arch": "x86_64"})
ARM = Hypervisor("QEMU", 8000000, "node-2", 64, {"arch": "aarch64"})


def unmet(properties, hypervisor=KVM, traits=(), specs=None):
    """Why not; None when the host would do."""
    return requirements_of(specs or {}, properties).unmet(hypervisor, frozenset(traits))


TAKEN = {
    "nothing asked": ({}, KVM),
    "the host's architecture": ({"hw_architecture": "x86_64"}, KVM),
    "by another name": ({"architecture": "amd64"}, KVM),
    "32 bits on 64": ({"hw_architecture": "i686"}, KVM),
    "KVM where libvirt says QEMU": ({"img_hv_type": "kvm"}, KVM),
    "QEMU there too": ({"hypervisor_type": "qemu"}, KVM),
    "full virtualisation": ({"vm_mode": "HVM"}, KVM),
    "a version that is there": ({"hw_architecture": "x86_64", "img_hv_requested_version": ">=6.0,<7"}, KVM),
    "a version alone: Nova does not look (measured)": ({"hypervisor_version_requires": ">=99"}, FAKE),
    "a host of which nothing is known": ({"hw_architecture": "aarch64"}, Hypervisor()),
    "a hypervisor that we do not know": ({"img_hv_type": "vmware"}, Hypervisor("VMware vCenter Server", 7000000)),
    "today's name of a property wins": ({"hw_architecture": "x86_64", "architecture": "aarch64"}, KVM),
    "an unreadable version is no obstacle": ({"hw_architecture": "x86_64", "img_hv_requested_version": "new"}, KVM),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_host_that_nova_takes_is_not_excluded(case):
    properties, hypervisor = TAKEN[case]
    assert unmet(properties, hypervisor) is None


# Those of the fake driver were measured on the real one: ERROR, "There are not enough hosts available."
REFUSED = {
    "another architecture": ({"hw_architecture": "aarch64"}, FAKE, "aarch64"),
    "... by the old name": ({"architecture": "arm64"}, KVM, "aarch64"),
    "... on the other kind of host": ({"hw_architecture": "x86_64"}, ARM, "x86_64"),
    "32 bits on the fake driver": ({"hw_architecture": "i686"}, FAKE, "i686"),
    "another hypervisor": ({"img_hv_type": "xen"}, KVM, "xen"),
    "KVM on the fake driver": ({"hypervisor_type": "kvm"}, FAKE, "kvm"),
    "paravirtualisation": ({"hw_vm_mode": "xen"}, FAKE, "xen"),
    "a version that is not there": ({"hw_architecture": "x86_64", "img_hv_requested_version": ">=7"}, KVM, ">=7"),
    "... on the fake driver": ({"architecture": "x86_64", "hypervisor_version_requires": ">=99"}, FAKE, ">=99"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_host_that_nova_refuses_is_excluded_with_the_reason(case):
    properties, hypervisor, said = REFUSED[case]
    assert said in unmet(properties, hypervisor)


def test_a_host_that_tells_of_emulation_runs_the_other_architecture():
    assert unmet({"hw_architecture": "aarch64"}, KVM, ["COMPUTE_ARCH_AARCH64"]) is None
    assert Requirements("aarch64").telling_traits == {"COMPUTE_ARCH_AARCH64", "HW_ARCH_AARCH64"}


CAPABILITIES = {
    "equal": ({"capabilities:hypervisor_type": "QEMU"}, True),
    "not equal": ({"capabilities:hypervisor_type": "xen"}, False),
    "without the scope": ({"hypervisor_type": "xen"}, False),
    "in another scope": ({"aggregate_instance_extra_specs:hypervisor_type": "xen"}, True),
    "one of several": ({"capabilities:cpu_info:model": "<or> Nehalem <or> EPYC"}, True),
    "none of several": ({"capabilities:cpu_info:model": "<or> Nehalem <or> Xeon"}, False),
    "a feature": ({"capabilities:cpu_info:features": "<in> avx2"}, True),
    "all features": ({"capabilities:cpu_info:features": "<all-in> aes avx512f"}, False),
    "at least": ({"capabilities:hypervisor_version": ">= 6000000"}, True),
    "less": ({"capabilities:hypervisor_version": ">= 7000000"}, False),
    "nothing is shown of it": ({"capabilities:free_disk_mb": ">= 99999999"}, True),
}


@pytest.mark.parametrize("case", CAPABILITIES)
def test_capabilities_are_compared_as_nova_does(case):
    specs, taken = CAPABILITIES[case]
    assert (unmet({}, KVM, specs=specs) is None) is taken


def test_an_images_traits_are_required_with_the_flavors():
    traits = traits_of(
        {"trait:CUSTOM_SSD": "required", "trait:CUSTOM_OLD": "forbidden"},
        {"trait:HW_CPU_X86_AVX2": "required", "trait:CUSTOM_X": "forbidden", "os_secure_boot": "required"},
    )
    assert traits.required == {"CUSTOM_SSD", "HW_CPU_X86_AVX2", "COMPUTE_SECURITY_UEFI_SECURE_BOOT"}
    assert traits.forbidden == {"CUSTOM_OLD"}, "of an image Nova takes required traits alone"


def test_a_root_disk_in_a_volume_asks_no_host_for_disk():
    flavor = Flavor("f", "f", 1, 512, 20, swap_mb=1024)
    assert dict(flavor.resources) == {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 21}
    device = '{"boot_index": 0, "source_type": "snapshot", "destination_type": "volume"}'
    snapshot = Image("i", "i", properties={"block_device_mapping": f"[{device}]"})
    assert snapshot.boots_volume
    assert flavor.resources_with(snapshot.properties, snapshot.boots_volume)["DISK_GB"] == 1
    assert not Image("i", "i", properties={"block_device_mapping": "[{}]"}).boots_volume
    assert not Image("i", "i", properties={"block_device_mapping": "spoiled"}).boots_volume
