"""What a request asks of its host besides resources, traits and a zone, as Nova's filters judge it.

Nova's default ImagePropertiesFilter compares the image's architecture, hypervisor type and VM mode with the host's
`supported_instances`, which no API shows. This module compares them with what `/os-hypervisors` shows instead: the
host's CPU architecture, and its hypervisor's type and version. It never excludes a host of which nothing is known.

Any extra spec and any image property may exclude a host: Nova's filters and aggregates can compare them all. Which of
them do so depends on the cloud's configuration, which no API shows. So `conditions_of` lists all of them, except those
that Nova only passes to the guest or only stores, as sentences for people.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vmsvc.domain.host import Hypervisor

#: Names that Nova takes for the same architecture (nova.objects.fields.Architecture).
_ARCHITECTURES = {"i386": "i686", "i486": "i686", "i586": "i686", "amd64": "x86_64", "arm64": "aarch64"}
#: What CPUs run besides their own architecture without emulation: libvirt lists these guests as well.
_ALSO_RUNS = {
    "x86_64": frozenset({"i686"}),
    "aarch64": frozenset({"armv7l", "armv6l", "armv7b"}),
    "ppc64le": frozenset({"ppc64", "ppc"}),
    "ppc64": frozenset({"ppc64le", "ppc"}),
    "s390x": frozenset({"s390"}),
    "mips64": frozenset({"mips"}),
    "mips64el": frozenset({"mipsel"}),
}
#: hypervisor_type of a host -> the types of guests that it has. libvirt says QEMU of hosts with KVM too.
_GUESTS = {"qemu": frozenset({"qemu", "kvm"}), "kvm": frozenset({"qemu", "kvm"}), "fake": frozenset({"fake"})}
_MODES = {"hv": "hvm", "baremetal": "hvm", "pv": "xen"}
_CONDITION = re.compile(r"^\s*(<=|>=|<|>|!=|==)\s*([0-9][0-9.]*)\s*$")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "!=": operator.ne,
}
#: Attributes of Nova's HostState that `/os-hypervisors` shows and that do not change from hour to hour.
_SHOWN = ("hypervisor_type", "hypervisor_version", "hypervisor_hostname", "vcpus_total", "cpu_info")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a request asks of its host; empty (and false) for most requests. `capabilities`: pairs of an attribute of
    the host and the condition on it, both as the flavor's extra specs write them."""

    architecture: str | None = None
    hypervisor_type: str | None = None
    hypervisor_version: str | None = None  # '>=6.0,<7'; Nova looks at it only beside one of the other three
    vm_mode: str | None = None
    address_bits: int | None = None
    capabilities: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return self != Requirements()

    @property
    def telling_traits(self) -> frozenset[str]:
        """The traits with which a host shows that it runs this architecture, natively or by emulation."""
        if self.architecture is None:
            return frozenset()
        name = self.architecture.upper()
        return frozenset({f"HW_ARCH_{name}", f"COMPUTE_ARCH_{name}"})

    def unmet(self, hypervisor: Hypervisor | None, traits: frozenset[str]) -> str | None:
        """Why Nova would not choose a host with this hypervisor and these traits; None when Nova would, or when too
        little is known of the host."""
        if not self or hypervisor is None:
            return None
        kind = hypervisor.type.lower()
        runs = _architecture(str(hypervisor.cpu.get("arch") or ""))
        # The fake driver has guests of its own architecture alone (measured).
        also = _ALSO_RUNS.get(runs, frozenset()) if kind != "fake" else frozenset()
        if self.architecture and runs and not self.telling_traits & traits and self.architecture not in {runs, *also}:
            return f"the image is for {self.architecture}, and the host's CPU is {runs}"
        if self.hypervisor_type and kind in _GUESTS and self.hypervisor_type not in _GUESTS[kind]:
            return f"the image is for the hypervisor {self.hypervisor_type}, and the host's is {hypervisor.type}"
        if self.vm_mode and kind in _GUESTS and self.vm_mode != "hvm":
            return f"the image is for the VM mode {self.vm_mode}, and the host has hvm"
        return self._version_unmet(hypervisor) or self._capability_unmet(hypervisor)

    def _version_unmet(self, hypervisor: Hypervisor) -> str | None:
        if not (self.architecture or self.hypervisor_type or self.vm_mode):
            return None
        if (
            self.hypervisor_version
            and hypervisor.version
            and not _satisfies(hypervisor.version, self.hypervisor_version)
        ):
            return f"the image is for hypervisor versions {self.hypervisor_version}, and the host's is another"
        bits = hypervisor.shown(["cpu_info", "maxphysaddr", "bits"])
        if self.address_bits and isinstance(bits, int) and bits < self.address_bits:
            return f"the image needs {self.address_bits} bits of physical address, and the host has {bits}"
        return None

    def _capability_unmet(self, hypervisor: Hypervisor) -> str | None:
        for name, wanted in self.capabilities:
            has = hypervisor.shown(name.split(":"))
            if has is not None and not _matches(str(has), wanted):
                return f"the flavor wants a host whose {name} is {wanted!r}, and this host's is not"
        return None


def requirements_of(extra_specs: Mapping[str, str], properties: Mapping[str, str]) -> Requirements:
    """What a flavor's extra specs and an image's properties ask of the host, by today's names of the properties or by
    the old ones (nova/objects/image_meta.py: today's name wins)."""

    def of_image(*names: str) -> str | None:
        return next((str(properties[name]).strip().lower() for name in names if properties.get(name)), None)

    architecture, mode = of_image("hw_architecture", "architecture"), of_image("hw_vm_mode", "vm_mode")
    bits = of_image("hw_maxphysaddr_bits")
    return Requirements(
        _architecture(architecture) if architecture else None,
        of_image("img_hv_type", "hypervisor_type"),
        of_image("img_hv_requested_version", "hypervisor_version_requires"),
        None if mode is None else _MODES.get(mode, mode),
        int(bits) if bits and bits.isdecimal() else None,
        _capabilities(extra_specs),
    )


def _capabilities(extra_specs: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Nova's ComputeCapabilitiesFilter takes `capabilities:NAME`, and a bare NAME that its HostState has."""
    found = {}
    for key, wanted in sorted(extra_specs.items()):
        name = key.removeprefix("capabilities:")
        if name.partition(":")[0] in _SHOWN and (name != key or ":" not in key):
            found[name] = wanted
    if extra_specs.get("hw:maxphysaddr_bits"):
        found["cpu_info:maxphysaddr:bits"] = f">= {extra_specs['hw:maxphysaddr_bits']}"
    return tuple(found.items())


def _architecture(name: str) -> str:
    name = name.strip().lower()
    return _ARCHITECTURES.get(name, name)


def _satisfies(version: int, predicate: str) -> bool:
    """True when a version, as Nova stores it, meets a list of conditions; a condition that cannot be read is
    ignored."""
    parts: list[int] = []
    while version:
        version, part = divmod(version, 1000)
        parts.insert(0, part)
    for condition in predicate.split(","):
        found = _CONDITION.match(condition)
        if found and not _COMPARE[found[1]](*_aligned(parts, [int(part) for part in found[2].split(".") if part])):
            return False
    return True


def _aligned(one: list[int], other: list[int]) -> tuple[list[int], list[int]]:
    length = max(len(one), len(other))
    return one + [0] * (length - len(one)), other + [0] * (length - len(other))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _matches(value: str, wanted: str) -> bool:
    """As nova/scheduler/filters/extra_specs_ops.py has it."""
    words = wanted.split()
    if not words:
        return value == wanted
    first, *rest = words
    if first == "<or>":
        return value in rest[::2]
    if first in ("<in>", "<all-in>"):
        return bool(rest) and all(word in value for word in (rest if first == "<all-in>" else rest[:1]))
    if first in _NUMERIC:
        one, other = _number(value), _number(rest[0]) if rest else None
        return one is not None and other is not None and _NUMERIC[first](one, other)
    if first.startswith("s") and first[1:] in _COMPARE:
        return bool(rest) and _COMPARE[first[1:]](value, rest[0])
    return value == wanted


_NUMERIC = {**{name: compare for name, compare in _COMPARE.items() if name not in ("<", ">")}, "=": operator.ge}


_NOT_OF_THE_HOST = (
    "quota:",
    "hw_rng:",
    "hw_video:",
    "hw:boot_menu",
    "hw:watchdog_action",
    "hw:serial_port_count",
    "hw:hide_hypervisor_id",
)
_ONLY_WRITTEN_DOWN = (
    "owner_specified.",
    "os_hash_",
    "owner_",
    "image_",
    "boot_roles",
    "base_image_ref",
    "instance_uuid",
    "user_id",
    "clean_attempts",
    "description",
    "stores",
    "os_distro",
    "os_version",
    "os_admin_user",
    "hw_qemu_guest_agent",
    "hw_boot_menu",
    "hw_watchdog_action",
)


def conditions_of(extra_specs: Mapping[str, str], properties: Mapping[str, str], zone: str | None) -> list[str]:
    """The conditions in a flavor's extra specs, an image's properties and an availability zone; sorted, empty for most
    requests."""
    flavor = [
        f"{name}={value} (flavor)" for name, value in extra_specs.items() if not name.startswith(_NOT_OF_THE_HOST)
    ]
    image = [f"{name}={value} (image)" for name, value in properties.items() if not name.startswith(_ONLY_WRITTEN_DOWN)]
    return sorted([*flavor, *image, *([zone_condition(zone)] if zone else [])])


def zone_condition(zone: str) -> str:
    """The condition that the host is in this availability zone."""
    return f"availability zone {zone}"
