"""`openstack preemptible create` and `plan`: ask for a VM, or what would become of it."""

import argparse
import base64
from pathlib import Path
from typing import Any

from osc_lib.cli import parseractions
from osc_lib.command import command
from osc_lib.exceptions import CommandError

from vmsvc.client import Plan
from vmsvc.osc.commands import ServiceCommand, add_wait, members, show_vm

#: Options whose value goes into the request as it is: name of the field, type, meaning.
_FIELDS = (
    ("flavor", str, "flavor, by name or id"),
    ("image", str, "image, by name or id"),
    ("network", str, "network, by name or id"),
    ("key_name", str, "key pair"),
    ("server_group", str, "server group of Nova, by name or id"),
    ("hostname", str, "the guest's name of itself"),
    ("availability_zone", str, "availability zone"),
    ("priority", int, "of a preemptible VM: higher is evicted later"),
    ("min_run_seconds", int, "a VM that has run for less time is not evicted"),
    ("group", str, "eviction group of a preemptible VM"),
    ("max_unavailable", int, "at most so many VMs of the group in notice or eviction at once"),
    ("wait_seconds", int, "without capacity the request waits in the queue for so long"),
    ("fallback_after_seconds", int, "preemptible: a request that still waits then goes on as a standard one"),
    ("patience_seconds", int, "standard: nobody is evicted for it before so long has passed"),
    ("max_restarts", int, "of --on-eviction restart: how often it is started again"),
    ("restart_within_seconds", int, "of --on-eviction restart: how long a successor may wait for capacity"),
    (
        "fallback_after_evictions",
        int,
        "of --on-eviction restart: after so many evictions it is started as a standard VM",
    ),
)


#: Options that have arguments of their own kind.
_OPTIONS = ("networks", "security_groups", "tags", "config_drive")


def add_fields(parser: argparse.ArgumentParser) -> None:
    """The options that describe a VM."""
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--preemptible", action="store_true", help="a VM that may be evicted")
    kind.add_argument(
        "--standard", action="store_true", help="a VM that is not evicted, and may evict preemptible ones"
    )
    parser.add_argument("name", nargs="?", metavar="<name>", help="name of the VM")
    for name, kind_of_value, meaning in _FIELDS:
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind_of_value, metavar=f"<{name.replace('_', '-')}>", help=meaning
        )
    parser.add_argument("--on-eviction", choices=["end", "restart"], help="what follows an eviction (default: end)")
    parser.add_argument("--keep-address", action="store_true", help="of --on-eviction restart: successors get its port")
    parser.add_argument(
        "--nic",
        dest="networks",
        metavar="<network=…[,fixed_ip=…]|port=…>",
        action=parseractions.MultiKeyValueCommaAction,
        optional_keys=["network", "fixed_ip", "port"],
        help="network interface, instead of --network (repeat option for several)",
    )
    for name, what in (("security-group", "security group, by name or id"), ("tag", "tag of the server")):
        parser.add_argument(
            f"--{name}",
            dest=f"{name.replace('-', '_')}s",
            metavar=f"<{name}>",
            action="append",
            help=f"{what} (repeat option for several)",
        )
    parser.add_argument("--config-drive", action="store_true", default=None, help="the guest has a config drive")
    parser.add_argument("--user-data", metavar="<file>", help="user data file for the guest")
    parser.add_argument(
        "--property",
        dest="metadata",
        metavar="<key=value>",
        action=parseractions.KeyValueAction,
        help="metadata of the server (repeat option to set several)",
    )


def fields_of(parsed_args: argparse.Namespace) -> dict[str, Any]:
    """The fields of the request that the options name. Raises CommandError for a file that cannot be read."""
    names = ("name", "on_eviction", "metadata", *_OPTIONS, *(name for name, _, _ in _FIELDS))
    fields = {name: getattr(parsed_args, name) for name in names}
    if parsed_args.keep_address:
        fields["keep_address"] = True
    if parsed_args.user_data:
        try:
            fields["user_data"] = base64.b64encode(Path(parsed_args.user_data).read_bytes()).decode("ascii")
        except OSError as error:
            raise CommandError(f"{parsed_args.user_data}: {error.strerror}") from None
    return {name: value for name, value in fields.items() if value is not None}


def show_plan(plan: Plan) -> Any:
    """What would happen, for one that is shown; what the plan does not say is left out."""
    names, values = members(plan)
    shown = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
    return tuple(zip(*shown, strict=True))


class CreateVm(ServiceCommand, command.ShowOne):
    """Create a standard or a preemptible VM"""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        add_fields(parser)
        add_wait(parser, "the VM is active")
        parser.add_argument("--dry-run", action="store_true", help="show what would happen, and do nothing")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """The VM; or the plan."""
        fields = fields_of(parsed_args)
        if parsed_args.dry_run:
            return show_plan(self.client.plan(parsed_args.preemptible, **fields))
        outcome = self.client.create(
            parsed_args.preemptible, wait=parsed_args.wait, timeout=parsed_args.timeout, **fields
        )
        if outcome.vm is None:
            raise CommandError(outcome.message)
        return show_vm(outcome.vm, evicted=outcome.evicted)


class PlanVm(ServiceCommand, command.ShowOne):
    """Show whom the creation of a VM would evict, and change nothing"""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        add_fields(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """The plan."""
        return show_plan(self.client.plan(parsed_args.preemptible, **fields_of(parsed_args)))
