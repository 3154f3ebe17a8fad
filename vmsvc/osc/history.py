"""`openstack preemptible events` and `evictions`: what happened, and what happens now."""

import argparse
import itertools
import json
from typing import Any

from osc_lib.command import command

from vmsvc.client import Event
from vmsvc.osc.commands import ServiceCommand, printed

_COLUMNS = ("Seq", "Time", "Type", "State", "VM", "Name", "Reason")


def row_of(event: Event) -> tuple[object, ...]:
    """An event as a row."""
    name = event.vm.name if event.vm else ""
    reason = event.reason or event.why or event.message or ""
    return event.seq, printed(event.time), event.type, event.state, event.subject, name, reason


class ListEvents(ServiceCommand, command.Lister):
    """Show the events that vmsvc keeps; with --follow those to come, until Ctrl-C"""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--follow",
            action="store_true",
            help="print each event as it comes: a line of text, with `-f json` a line of JSON",
        )
        parser.add_argument("--since", type=int, metavar="<seq>", help="only events after this one")
        parser.add_argument(
            "--type", action="append", choices=["create", "evict", "delete"], default=[], help="only these (repeatable)"
        )
        parser.add_argument("--vm", metavar="<vm>", help="only those of this VM")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """A row for each event."""
        wanted = {"types": parsed_args.type, "vm": parsed_args.vm}
        if not parsed_args.follow:
            return _COLUMNS, map(row_of, self.client.history(parsed_args.since, **wanted))
        for event in self.client.events(parsed_args.since, **wanted):
            line = json.dumps(event.body) if parsed_args.formatter == "json" else " ".join(map(str, row_of(event)))
            print(line, file=self.app.stdout, flush=True)
        raise AssertionError("the stream has no end")


class ListEvictions(ServiceCommand, command.Lister):
    """List who was evicted for whom and why, newest first"""

    def get_parser(self, prog_name: str) -> Any:
        """The parser of its arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--vm", metavar="<vm>", help="only those of this VM")
        parser.add_argument("--request", metavar="<vm>", help="only those for this VM")
        parser.add_argument(
            "--reason", choices=["capacity", "lifetime", "simulated"], help="only those for this reason"
        )
        parser.add_argument("--limit", type=int, metavar="<number>", help="at most so many")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """A row for each eviction."""
        found = self.client.evictions(vm=parsed_args.vm, request=parsed_args.request, reason=parsed_args.reason)
        return ("ID", "VM", "Name", "State", "Reason", "For", "Criterion", "Certainty", "Evict At", "Freed At"), (
            (
                one.id,
                one.vm.id,
                one.vm.name,
                one.state,
                one.reason,
                one.request.id if one.request else "",
                one.criterion,
                one.certainty,
                printed(one.evict_at),
                printed(one.freed_at),
            )
            for one in itertools.islice(found, parsed_args.limit)
        )
