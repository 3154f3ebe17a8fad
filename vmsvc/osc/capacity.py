"""`openstack preemptible capacity`: how much more fits, now and after evictions."""

import argparse
from typing import Any

from osc_lib.command import command

from vmsvc.osc.commands import ServiceCommand, printed


class ShowCapacity(ServiceCommand, command.Lister):
    """Show how many VMs of each flavor fit now and after evictions"""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        parts = parser.add_mutually_exclusive_group()
        parts.add_argument("--hosts", action="store_true", help="show the hosts instead")
        parts.add_argument("--quota", action="store_true", help="show the quota instead")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """The rows of what was asked for."""
        capacity = self.client.capacity()
        if parsed_args.hosts:
            return ("Host", "Available", "Zone", "Capacity", "Free", "Preemptible", "Reserved", "Reclaimable"), [
                (
                    host.name,
                    host.available,
                    host.availability_zone,
                    printed(host.capacity),
                    printed(host.free),
                    printed(host.preemptible),
                    printed(host.reserved),
                    printed(host.reclaimable),
                )
                for host in capacity.hosts
            ]
        if parsed_args.quota:
            quota = capacity.quota
            return ("Item", "Limit", "Used", "Free", "Reserved", "Reclaimable"), [
                (
                    item,
                    quota.limit.get(item),
                    quota.used.get(item, 0),
                    quota.free.get(item),
                    quota.reserved.get(item, 0),
                    quota.reclaimable.get(item, 0),
                )
                for item in sorted({*quota.limit, *quota.used})
            ]
        return ("Flavor", "vCPUs", "RAM", "Fits Now", "Fits After Evictions"), [
            (one.name, one.vcpus, one.ram, one.fits_now, one.fits_after_evictions) for one in capacity.flavors
        ]
