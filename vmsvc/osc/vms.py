"""`openstack preemptible list`, `show`, `delete`, `ack` and `evict`: the VMs that there are."""

import argparse
from typing import Any

from osc_lib.command import command
from osc_lib.exceptions import CommandError

from vmsvc.client import ClientError, Vm
from vmsvc.osc.commands import ServiceCommand, add_wait, kind_of, printed, show_vm


class ListVms(ServiceCommand, command.Lister):
    """List the servers of the project, with what vmsvc knows of them"""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--long", action="store_true", help="more columns")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """A row for each server."""
        columns: dict[str, Any] = {
            "ID": lambda vm: vm.id,
            "Name": lambda vm: vm.name,
            "Kind": kind_of,
            "State": lambda vm: vm.state or "",
            "Flavor": lambda vm: vm.flavor,
            "Evict At": lambda vm: printed(vm.evict_at),
        }
        if parsed_args.long:
            columns |= {
                "Priority": lambda vm: vm.priority,
                "Owner": lambda vm: vm.owner,
                "Group": lambda vm: vm.group,
                "Host": lambda vm: vm.host,
                "Restarts": lambda vm: vm.restarts,
                "Origin": lambda vm: vm.origin,
                "Addresses": lambda vm: printed(vm.addresses),
            }
        return tuple(columns), [tuple(read(vm) for read in columns.values()) for vm in self.client.list().vms]


class _OneVm(ServiceCommand, command.ShowOne):
    """A command about one VM."""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("vm", metavar="<vm>", help="the VM, by the cloud's id or vmsvc's own")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """The VM."""
        return show_vm(self.act(parsed_args))

    def act(self, parsed_args: argparse.Namespace) -> Vm:
        """Do what the command is for."""
        raise NotImplementedError


class ShowVm(_OneVm):
    """Show a VM"""

    def act(self, parsed_args: argparse.Namespace) -> Vm:
        return self.client.show(parsed_args.vm)


class AckVm(_OneVm):
    """Release a VM that has its notice before its time"""

    def act(self, parsed_args: argparse.Namespace) -> Vm:
        return self.client.ack(parsed_args.vm)


class EvictVm(_OneVm):
    """Practise the eviction of a preemptible VM"""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--notice-only", action="store_true", help="the VM stays when its time is up")
        return parser

    def act(self, parsed_args: argparse.Namespace) -> Vm:
        return self.client.evict(parsed_args.vm, notice_only=parsed_args.notice_only)


class DeleteVm(ServiceCommand):
    """Delete VMs that vmsvc made"""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("vms", nargs="+", metavar="<vm>", help="VMs, by the cloud's id or vmsvc's own")
        add_wait(parser, "they are gone")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Delete each of them. Raises CommandError when one could not be deleted."""
        failed = []
        for vm_id in parsed_args.vms:
            try:
                self.client.delete(vm_id, wait=parsed_args.wait, timeout=parsed_args.timeout)
            except (ClientError, ValueError) as error:
                failed.append(f"{vm_id}: {error}")
        if failed:
            raise CommandError("\n".join([f"{len(failed)} of {len(parsed_args.vms)} VMs were not deleted:", *failed]))
