"""What the commands of the plugin share: the client, when a token is needed, and how values are printed."""

import argparse
import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from osc_lib.cli.format_columns import DictColumn, ListColumn
from osc_lib.command import command
from osc_lib.exceptions import CommandError

from vmsvc.client import Client, ClientError, Vm
from vmsvc.osc.plugin import API_NAME, needs_token

#: Seconds for which `--wait` waits unless told otherwise.
WAIT_SECONDS = 600.0


class ServiceCommand(command.Command):  # pylint: disable=abstract-method; it is the base of commands
    """A command that asks vmsvc."""

    @property
    def auth_required(self) -> bool:
        """Read by the program before it runs the command: whether it signs in to the cloud first."""
        return needs_token(self.app.cloud.config)

    @property
    def client(self) -> Client:
        """The client for the service, with the program's session."""
        found: Client = getattr(self.app.client_manager, API_NAME)  # the program makes it by `make_client`
        return found

    def run(self, parsed_args: argparse.Namespace) -> int:
        """The exit status. An error of the service is one line, as the program's own are."""
        try:
            return super().run(parsed_args)
        except (ClientError, ValueError) as error:
            raise CommandError(str(error)) from error


def add_wait(parser: argparse.ArgumentParser, what: str) -> None:
    """The options `--wait` and `--timeout`."""
    parser.add_argument("--wait", action="store_true", help=f"wait until {what}")
    parser.add_argument(
        "--timeout",
        type=float,
        default=WAIT_SECONDS,
        metavar="<seconds>",
        help="with --wait: for so long at most (default: %(default)g)",
    )


def printed(value: object) -> object:
    """A value that tables show as text, and that JSON and YAML have as it is."""
    value = _plain(value)
    if isinstance(value, list):
        return ListColumn(value)
    return DictColumn(value) if isinstance(value, dict) else value


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({name: one for name, one in vars(value).items() if name != "body"})
    return value


def members(thing: Any) -> tuple[tuple[str, ...], tuple[object, ...]]:
    """All members of a result, for one that is shown."""
    names = tuple(one.name for one in dataclasses.fields(thing) if one.name != "body")
    return names, tuple(printed(getattr(thing, name)) for name in names)


def kind_of(vm: Vm) -> str:
    """The kind of a VM; "" for a server that vmsvc did not make."""
    return {True: "preemptible", False: "standard", None: ""}[vm.is_preemptible]


def show_vm(vm: Vm, **more: object) -> Any:
    """A VM and more members, for one that is shown."""
    names, values = members(vm)
    return (*names, "addresses", *more), (*values, printed(vm.addresses), *map(printed, more.values()))
