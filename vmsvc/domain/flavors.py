"""What a server of a flavor claims from a host, as Nova translates it for Placement (nova/scheduler/utils.py)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

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


def placement_request(vcpus: int, ram_mb: int, disk_gb: int, *, ephemeral_gb: int = 0, swap_mb: int = 0,
                      boot_from_volume: bool = False, extra_specs: Mapping[str, str] | None = None) -> Resources:
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


def traits_of(extra_specs: Mapping[str, str]) -> Traits:
    """The traits that a flavor requires and forbids, in words or by what it asks of its host."""
    named: dict[str, set[str]] = {"required": set(), "forbidden": set()}
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
    return Traits(frozenset(named["required"]), frozenset(named["forbidden"]))


_IMPLIED: dict[tuple[str, str], tuple[str, ...]] = {
    ("hw:cpu_thread_policy", "require"): ("HW_CPU_HYPERTHREADING",),
    ("hw:cpu_thread_policy", "isolate"): ("!HW_CPU_HYPERTHREADING",),
    ("hw:tpm_version", "1.2"): ("COMPUTE_SECURITY_TPM_1_2",),
    ("hw:tpm_version", "2.0"): ("COMPUTE_SECURITY_TPM_2_0",),
    ("hw:maxphysaddr_mode", "passthrough"): ("COMPUTE_ADDRESS_SPACE_PASSTHROUGH",),
    ("hw:maxphysaddr_mode", "emulate"): ("COMPUTE_ADDRESS_SPACE_EMULATED",),
    ("hw:pci_numa_affinity_policy", "socket"): ("COMPUTE_SOCKET_PCI_NUMA_AFFINITY",),
    ("os:secure_boot", "required"): ("COMPUTE_SECURITY_UEFI_SECURE_BOOT",),
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
