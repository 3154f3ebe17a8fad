"""Write what the documents take from the code: `make reference`.

A page has pairs of markers, `<!-- generated: NAME -->` and `<!-- end -->`. The script replaces the text between them by
what `PARTS[NAME]` returns. `tests/unit/test_reference.py` fails while a page differs from the code.
"""

import argparse
import dataclasses
import importlib
import json
import re
import tomllib
from pathlib import Path
from unittest.mock import AsyncMock, MagicMock

import yaml
from prometheus_client import CollectorRegistry

from tests.broken_promises import HELD, TESTS
from vmsvc import config
from vmsvc.domain import errors
from vmsvc.domain.lifecycle import FINAL, MOVES, STEPS, State
from vmsvc.metrics import GAUGES, CloudMetrics, DeploymentMetrics, ServiceMetrics
from vmsvc.web.app import api_document
from vmsvc.web.channel import close_codes
from vmsvc.web.http.handler import HTTP_REFUSALS, INTERNAL, STATUS
from vmsvc.web.http.metrics import WebMetrics
from vmsvc.web.openapi import responses

DOCS = Path(__file__).resolve().parent
DEPLOY = DOCS.parent / "deploy"
RULES = DEPLOY / "prometheus" / "vmsvc.rules.yml"
KUBERNETES_RULES = DEPLOY / "kubernetes" / "monitoring" / "prometheusrule.yaml"
_PART = re.compile(r"(?<=<!-- generated: )(?P<name>\w+)( -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)


def table(head: str, rows: list[tuple]) -> str:
    """A Markdown table. `head` has the titles of its columns, with bars between."""
    columns = head.split("|")
    return "\n".join(
        [
            "| " + " | ".join(columns) + " |",
            "|" + "---|" * len(columns),
            *("| " + " | ".join(map(str, row)) + " |" for row in rows),
        ]
    )


def settings() -> str:
    """Every setting with its default, its limits and its meaning."""
    rows = []
    for item in dataclasses.fields(config.Settings):
        about = config.about(item.name)
        default = f"`{item.default:g}`" if isinstance(item.default, float) else f"`{item.default}`"
        values = [*(f"`{choice}`" for choice in about.choices)]
        if about.least is not None:
            values.append(f"{about.least:g} or more" if about.most is None else f"{about.least:g} to {about.most:g}")
        rows.append(
            (f"`{config.variable(item.name)}`", default if str(item.default) else "", ", ".join(values), about.meaning)
        )
    return table("name|default|values|meaning", rows)


class _Recorder(CollectorRegistry):
    """Keeps the instruments that are registered; it never reads their values."""

    def __init__(self) -> None:
        super().__init__()
        self.instruments: list = []

    def register(self, collector) -> None:
        """The instruments in the order in which they are made."""
        self.instruments.append(collector)


def metrics() -> str:
    """Every instrument of `/metrics` with its kind, its labels and its help text."""
    registry = _Recorder()
    service = ServiceMetrics(registry)
    for name in GAUGES:
        service.add_gauge(name, lambda: 0.0)
    CloudMetrics(registry)
    DeploymentMetrics(registry)
    WebMetrics(registry, MagicMock(), MagicMock(), MagicMock(), AsyncMock())
    rows = []
    for instrument in registry.instruments:
        # The client library shows the names of labels nowhere else while nothing is counted.
        labels = ", ".join(f"`{label}`" for label in vars(instrument).get("_labelnames", ()))
        families = getattr(instrument, "describe", instrument.collect)()  # the process's are not described
        for family in families:
            name = f"`{family.name}{'_total' if family.type == 'counter' else ''}`"
            rows.append((name, family.type, labels, family.documentation.rstrip(".")))
    return table("name|kind|labels|meaning", sorted(rows))


def alarms() -> str:
    """The alarms of deploy/prometheus, the worst first as they are there."""
    rows = []
    for rule in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]:
        notes = rule["annotations"]
        waits = f"for {rule['for']}" if "for" in rule else "at once"
        rows.append((f"`{rule['alert']}`", rule["labels"]["severity"], notes["summary"], waits, notes["action"]))
    return table("alarm|severity|when|how long|what to do", rows)


def kubernetes_rules() -> str:
    """The alarms as a resource of the Prometheus Operator."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "vmsvc", "labels": {"app.kubernetes.io/name": "vmsvc"}},
        "spec": yaml.safe_load(RULES.read_text(encoding="utf-8")),
    }
    head = "# Made from deploy/prometheus/vmsvc.rules.yml by `make reference`: change that file.\n"
    return head + yaml.safe_dump(resource, sort_keys=False, width=1000)


def error_table() -> str:
    """Every error that a client gets: its status, its word, and what it means."""
    rows = {(status, cls.slug): _first_paragraph(cls) for cls, status in STATUS.items() if cls is not errors.VmsvcError}
    for status, (slug, message) in [*HTTP_REFUSALS.items(), (500, INTERNAL)]:
        rows.setdefault((status, slug), f"{message}.")
    return table(
        "status|`error`|meaning", [(status, f"`{slug}`", text) for (status, slug), text in sorted(rows.items())]
    )


def _first_paragraph(cls: type) -> str:
    return " ".join((cls.__doc__ or "").partition("\n\n")[0].split())


def events() -> str:
    """The type and `data.state` of every event, with the moves of the table that cause it."""
    moves: dict[tuple[str, str], list[str]] = {("create", "pending"): ["a request was accepted"]}
    for (source, target), event in MOVES.items():
        if event:
            moves.setdefault(event, []).append(f"{source.name} → {target.name}")
    for event, states in STEPS.items():
        moves[event] = [f"stays {' or '.join(sorted(state.name for state in states))}"]
    return table(
        "type|`data.state`|move of the VM",
        [(f"`{kind}`", f"`{state}`", ", ".join(causes)) for (kind, state), causes in moves.items()],
    )


def event_fields() -> str:
    """The fields of an event's `data`."""
    return table(
        "field of `data`|meaning",
        [(f"`{name}`", field.metadata["description"]) for name, field in responses.EventData().fields.items()],
    )


def event_example() -> str:
    """An event as a client gets it."""
    return f"```json\n{json.dumps(responses.EVENT, indent=2)}\n```"


def calls() -> str:
    """The table of all calls of the API, from the OpenAPI document."""
    return table(
        "call|what it does",
        [
            (f"`{method.upper()} {path}`", operation["summary"])
            for path, item in api_document()["paths"].items()
            for method, operation in item.items()
            if method != "parameters"
        ],
    )


def openstack_commands() -> str:
    """Every command of the plugin for `openstack`, with its own options."""
    groups = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    parts = []
    for name, target in sorted(groups["openstack.preemptible.v1"].items()):
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)(None, None)
        title = f"openstack {name.replace('_', ' ')}"
        # Groups with a title of their own are the program's: how a table is printed. argparse shows no other list.
        actions = [action for action in vars(command.get_parser(title))["_actions"] if action.dest != "help"]
        own = [action for action in actions if action.container.title in (None, "options", "positional arguments")]
        parts += [f"## {title}", f"{command.get_description()}."]
        if own:
            parts.append(table("argument|meaning", [(f"`{_usage(action)}`", _help(action)) for action in own]))
    return "\n\n".join(parts)


def _usage(action: argparse.Action) -> str:
    value = action.metavar or (f"{{{','.join(action.choices)}}}" if action.choices else "")
    shown = "" if action.nargs == 0 or (action.option_strings and not value) else str(value)
    return " ".join(filter(None, [", ".join(action.option_strings), shown])).replace("|", "\\|")


def _help(action: argparse.Action) -> str:
    return (action.help or "") % vars(action)


def lifecycle() -> str:
    """The life of a VM as a drawing. An arrow has the event that clients get; one without a label makes no event."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> PENDING: create/pending"]
    for (source, target), event in MOVES.items():
        lines.append(f"    {source.name} --> {target.name}" + (f": {'/'.join(event)}" if event else ""))
    lines += [f"    {state.name} --> [*]" for state in State if state in FINAL]
    return "\n".join([*lines, "```"])


def promises() -> str:
    """For each promise the line that holds it, and the test that fails when that line is broken."""
    rows = []
    for held in sorted(HELD, key=lambda held: held.promise):
        line = held.line.strip().splitlines()[0].replace("|", "\\|")
        rows.append((held.promise, f"`{held.file}`", f"`{line}`", f"`{held.test.removeprefix('test_')}`"))
    return f"The tests are in `{TESTS}`.\n\n{table('promise|module|line|test', rows)}"


PARTS = {
    "settings": settings,
    "metrics": metrics,
    "alarms": alarms,
    "errors": error_table,
    "events": events,
    "calls": calls,
    "event_fields": event_fields,
    "event_example": event_example,
    "lifecycle": lifecycle,
    "close_codes": close_codes.markdown_table,
    "openstack_commands": openstack_commands,
    "promises": promises,
}


def generated(text: str) -> str:
    """The text of a page with its generated parts as the code has them now. Raises KeyError for an unknown name."""
    return _PART.sub(lambda match: f"{match['name']}{match[2]}{PARTS[match['name']]()}{match[3]}", text)


def main() -> None:
    """Write every page of docs/ whose generated parts are out of date, and the alarms for Kubernetes."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if generated(text) != text:
            path.write_text(generated(text), encoding="utf-8")
            print(path.relative_to(DOCS))
    KUBERNETES_RULES.write_text(kubernetes_rules(), encoding="utf-8")


if __name__ == "__main__":
    main()
