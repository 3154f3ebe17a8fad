"""What a server of a flavor claims from a host, as Nova translates it for Placement (nova/scheduler/utils.py)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vmsvc.domain.resources import Resources

_YES = frozenset({"1", "t", "true", "on", "y", "yes"})
#: `resources:VCPU`, and with a suffix for what is to come of one nested provider: `resources_GPU:VGPU`.
_GRANULAR = re.compile(r"^(?P<what>resources|trait)(?P<group>[A-Za-z0-9_-]{1,64})?:(?P<name>.+)$")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a host must have and must not have."""

    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()

    def allow(self, traits: frozenset[str]) -> bool:
        """True for a host with these traits."""
        return self.required <= traits and not self.forbidden & traits


@dataclass(frozen=True, slots=True)
class Flavor:
    """A size. `swap_mb` is MiB as Nova has it, `ram_mb` MiB, disks GiB."""

    id: str
    name: str
    vcpus: int
    ram_mb: int
    disk_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    disabled: bool = False

    @property
    def resources(self) -> Resources:
        """What a server of this flavor claims from its host when it boots from an image without properties."""
        return self.resources_with({})

    def resources_with(self, properties: Mapping[str, str], boot_from_volume: bool = False) -> Resources:
        """What a server of this flavor claims from its host when it boots from an image with these properties."""
        return placement_request(
            self.vcpus,
            self.ram_mb,
            self.disk_gb,
            ephemeral_gb=self.ephemeral_gb,
            swap_mb=self.swap_mb,
            boot_from_volume=boot_from_volume,
            extra_specs=effective_specs(self.extra_specs, properties),
        )


def placement_request(
    vcpus: int,
    ram_mb: int,
    disk_gb: int,
    *,
    ephemeral_gb: int = 0,
    swap_mb: int = 0,
    boot_from_volume: bool = False,
    extra_specs: Mapping[str, str] | None = None,
) -> Resources:
    """What a server of this flavor claims from its host.

    Disk is root (0 when booted from a volume) + ephemeral + swap rounded up to GiB. `resources:<CLASS>` extra specs
    take the place of what the flavor says of the class or add one; those of several groups add up; one that is 0
    removes its class. Dedicated CPUs are PCPU instead of VCPU. What an extra spec says that is no number is ignored:
    Nova boots no server of such a flavor.
    """
    specs = extra_specs or {}
    amounts = _asked(specs)
    _pin(amounts, vcpus, specs)
    if not {"VCPU", "PCPU"} & amounts.keys():
        amounts["VCPU"] = vcpus
    amounts.setdefault("MEMORY_MB", ram_mb)
    amounts.setdefault("DISK_GB", (0 if boot_from_volume else disk_gb) + ephemeral_gb + -(-swap_mb // 1024))
    if specs.get("hw:mem_encryption", "").lower() in _YES:
        amounts["MEM_ENCRYPTION_CONTEXT"] = 1
    for label in filter(None, specs.get("hw:pmem", "").split(",")):
        name = "CUSTOM_PMEM_NAMESPACE_" + re.sub(r"[^A-Z0-9]+", "_", label.strip().upper())
        amounts[name] = amounts.get(name, 0) + 1
    return Resources(amounts)


def quota_request(vcpus: int, ram_mb: int) -> Resources:
    """What a server of this flavor counts for in the project's quota: one instance, its cores, its MiB."""
    return Resources({"instances": 1, "cores": vcpus, "ram": ram_mb})


def effective_specs(extra_specs: Mapping[str, str], properties: Mapping[str, str]) -> dict[str, str]:
    """The extra specs of a flavor with those that an image adds as properties: `hw_tpm_model` is `hw:tpm_model`. Where
    both set a value, the flavor's counts (nova/virt/hardware.py); Nova refuses two that contradict each other."""
    specs = dict(extra_specs)
    for key in _OF_IMAGES:
        value = properties.get(key.replace(":", "_"))
        if value and (not specs.get(key) or (key, specs[key]) == ("hw:cpu_thread_policy", "prefer")):
            specs[key] = str(value)
    return specs


def traits_of(extra_specs: Mapping[str, str], properties: Mapping[str, str] | None = None) -> Traits:
    """The traits that a flavor and an image require and that the flavor forbids: by name, or implied by other settings.
    Nova adds more (of the image's disk format, of its buses and models) only where the operator has switched that on:
    `[scheduler] query_placement_for_image_type_support` and `image_metadata_prefilter` are off by default."""
    named: dict[str, set[str]] = {"required": set(), "forbidden": set()}
    properties = properties or {}
    extra_specs = effective_specs(extra_specs, properties)
    # Nova reads only required traits from an image, and none for a request group.
    named["required"] |= {
        key.removeprefix("trait:")
        for key, value in properties.items()
        if key.startswith("trait:") and value == "required"
    }
    if (
        properties.get("hw_firmware_type") == "uefi"
        and str(properties.get("hw_firmware_stateless", "")).lower() in _YES
    ):
        named["required"].add("COMPUTE_SECURITY_STATELESS_FIRMWARE")
    for key, value in extra_specs.items():
        found = _GRANULAR.match(key)
        if found and found["what"] == "trait" and value in named:
            named[value].add(found["name"])
    for (key, value), traits in _IMPLIED.items():
        if extra_specs.get(key) == value:
            for trait in traits:
                named["forbidden" if trait.startswith("!") else "required"].add(trait.removeprefix("!"))
    if "hw:tpm_version" in extra_specs:
        model = extra_specs.get("hw:tpm_model") or "tpm-tis"
        named["required"].add("COMPUTE_SECURITY_TPM_" + model.removeprefix("tpm-").upper())
    if extra_specs.get("hw:virtio_packed_ring", "").lower() in _YES:
        named["required"].add("COMPUTE_NET_VIRTIO_PACKED")
    if extra_specs.get("hw:ephemeral_encryption", "").lower() in _YES:
        named["required"].add("COMPUTE_EPHEMERAL_ENCRYPTION")
        if form := extra_specs.get("hw:ephemeral_encryption_format"):
            named["required"].add(f"COMPUTE_EPHEMERAL_ENCRYPTION_{form.upper()}")
    if extra_specs.get("accel:device_profile"):
        named["required"].add("COMPUTE_ACCELERATORS")
    return Traits(frozenset(named["required"]), frozenset(named["forbidden"]))


#: Extra specs that an image can set too, as a property. `hw:cpu_policy` is not among them: for dedicated CPUs Nova asks
#: Placement for PCPU, and where no host has any, for VCPU (`disable_fallback_pcpu_query` is off by default; measured:
#: such an image boots on hosts without PCPU).
_OF_IMAGES = (
    "hw:cpu_thread_policy",
    "hw:mem_encryption",
    "hw:tpm_version",
    "hw:tpm_model",
    "hw:maxphysaddr_mode",
    "hw:pci_numa_affinity_policy",
    "os:secure_boot",
    "hw:virtio_packed_ring",
    "hw:ephemeral_encryption",
    "hw:ephemeral_encryption_format",
    "hw:sound_model",
)

_IMPLIED: dict[tuple[str, str], tuple[str, ...]] = {
    ("hw:cpu_thread_policy", "require"): ("HW_CPU_HYPERTHREADING",),
    ("hw:cpu_thread_policy", "isolate"): ("!HW_CPU_HYPERTHREADING",),
    ("hw:tpm_version", "1.2"): ("COMPUTE_SECURITY_TPM_1_2",),
    ("hw:tpm_version", "2.0"): ("COMPUTE_SECURITY_TPM_2_0",),
    ("hw:maxphysaddr_mode", "passthrough"): ("COMPUTE_ADDRESS_SPACE_PASSTHROUGH",),
    ("hw:maxphysaddr_mode", "emulate"): ("COMPUTE_ADDRESS_SPACE_EMULATED",),
    ("hw:pci_numa_affinity_policy", "socket"): ("COMPUTE_SOCKET_PCI_NUMA_AFFINITY",),
    ("os:secure_boot", "required"): ("COMPUTE_SECURITY_UEFI_SECURE_BOOT",),
    ("hw:sound_model", "virtio"): ("COMPUTE_SOUND_MODEL_VIRTIO",),
}


def _asked(specs: Mapping[str, str]) -> dict[str, int]:
    """The sums of the `resources` extra specs over their groups."""
    amounts: dict[str, int] = {}
    for key, value in specs.items():
        found = _GRANULAR.match(key)
        if found and found["what"] == "resources" and value.isdecimal():
            amounts[found["name"]] = amounts.get(found["name"], 0) + int(value)
    return amounts


def _pin(amounts: dict[str, int], vcpus: int, specs: Mapping[str, str]) -> None:
    """Turn CPUs that are to be dedicated into PCPU."""
    policy = specs.get("hw:cpu_policy")
    if policy not in ("dedicated", "mixed"):
        return
    pinned = vcpus
    if policy == "mixed":
        mask = specs.get("hw:cpu_dedicated_mask") or specs.get("hw:cpu_realtime_mask") or ""
        pinned = len(_cpus(mask, vcpus))
        amounts["VCPU"] = vcpus - pinned
    amounts["PCPU"] = pinned + (specs.get("hw:emulator_threads_policy") == "isolate")


def _cpus(mask: str, vcpus: int) -> set[int]:
    """`0-3,^1` as CPUs; a mask that begins with an exception starts from all of them."""
    chosen = set(range(vcpus)) if mask.strip().startswith("^") else set()
    for part in filter(None, (part.strip() for part in mask.split(","))):
        low, _, high = part.removeprefix("^").partition("-")
        if not low.isdecimal() or not (high or low).isdecimal():
            continue
        span = set(range(int(low), int(high or low) + 1))
        chosen = chosen - span if part.startswith("^") else chosen | span
    return chosen & set(range(vcpus))
