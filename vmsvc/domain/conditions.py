"""What a request asks of its host besides capacity, as a list of sentences for people.

Any extra spec and any image property may exclude a host: Nova's filters and aggregates can compare them all. Which of
them do so depends on the cloud's configuration, which no API shows. So this module counts all of them as conditions but
those that Nova only passes to the guest, or only stores.
"""

from collections.abc import Mapping

_NOT_OF_THE_HOST = ("quota:", "hw_rng:", "hw_video:", "hw:boot_menu", "hw:watchdog_action", "hw:serial_port_count",
                    "hw:hide_hypervisor_id")
_ONLY_WRITTEN_DOWN = ("owner_specified.", "os_hash_", "owner_", "image_", "boot_roles", "base_image_ref",
                      "instance_uuid", "user_id", "clean_attempts", "description", "stores", "os_distro", "os_version",
                      "os_admin_user", "hw_qemu_guest_agent", "hw_boot_menu", "hw_watchdog_action")


def conditions_of(extra_specs: Mapping[str, str], properties: Mapping[str, str], zone: str | None) -> list[str]:
    """The conditions in a flavor's extra specs, an image's properties and an availability zone; sorted, empty for most
    requests."""
    flavor = [f"{name}={value} (flavor)" for name, value in extra_specs.items()
              if not name.startswith(_NOT_OF_THE_HOST)]
    image = [f"{name}={value} (image)" for name, value in properties.items()
             if not name.startswith(_ONLY_WRITTEN_DOWN)]
    return sorted([*flavor, *image, *([zone_condition(zone)] if zone else [])])


def zone_condition(zone: str) -> str:
    """The condition that the host is in this availability zone."""
    return f"availability zone {zone}"
