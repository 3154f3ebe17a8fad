"""`.venv/bin/python -m vmsvc adopt`: make rows for servers of vmsvc that a restored database does not have.

They were made with this database, after the backup from which it was restored.

It may run beside a running service. With `--restored` no service may run, because it then also voids the notices and
events of the backup.
"""

import asyncio
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from vmsvc import COMMAND
from vmsvc.cloud.openstack.adapter import OpenStack
from vmsvc.cloud.port import Server
from vmsvc.domain.errors import CloudUnavailable, Conflict
from vmsvc.service import adoption
from vmsvc.store import db, preflight
from vmsvc.store.models import Vm

P = ParamSpec("P")
T = TypeVar("T")

OWNER = "adopted"  # the owner of adopted VMs without `--owner`
_SESSIONS_SECONDS = 3.0  # PostgreSQL takes a moment to end the sessions of a service that has just stopped


async def adopt(
    url: str, cloud: OpenStack, *, owner: str | None, dry_run: bool, restored: bool, say: Callable[[str], None]
) -> bool:
    """Adopt our servers that have no row, unless it is a `dry_run`, and `say` a line for each. False when a person has
    to correct some of them first.

    Raises Conflict for a database that cannot be worked on, and what the cloud raises.
    """
    deployment = await _in_thread(_deployment, url)
    marked = adoption.marked_servers((await cloud.servers()).servers, deployment)
    catalog = await adoption.read_catalog(cloud)
    database = db.open_database(url, 1)
    try:
        for line in (await _in_thread(_reset_after_restore, marked, dry_run)) if restored else ():
            say(line)
        found = await _in_thread(adoption.servers_without_row, marked)
        rows = [] if dry_run else await _in_thread(adoption.adopt, found, catalog, owner or OWNER)
    finally:
        database.close_all()
    for line in _report(found, rows, dry_run):
        say(line)
    return not any(one.problem for one in found)


async def _in_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(function, *arguments, **named)
    except db.DATABASE_ERRORS as error:
        raise CloudUnavailable(f"the database does not answer: {str(error).strip().partition(chr(10))[0]}") from error


def _deployment(url: str) -> str:
    database_state = preflight.examine(url)
    if database_state.pending or database_state.unknown:
        raise Conflict(f"the database's schema is not this release's: run `{COMMAND} migrate` first")
    if database_state.deployment is None:
        raise Conflict("no service has run on this database yet: it has made no servers")
    return database_state.deployment


def _reset_after_restore(marked: list[Server], dry_run: bool) -> list[str]:
    deadline = time.monotonic() + _SESSIONS_SECONDS
    while True:
        try:
            return adoption.reset_after_restore(marked, dry_run)
        except Conflict:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _report(found: list[adoption.ServerWithoutRow], rows: list[Vm], dry_run: bool) -> list[str]:
    """A line for each server, and their numbers."""
    adopted = {row.cloud_id for row in rows}
    lines = []
    for one in found:
        done = (
            "left alone"
            if one.problem
            else "adopted"
            if one.server.id in adopted
            else "would be adopted"
            if dry_run
            else "has a row by now"
        )
        lines.append(
            f"{one.server.id} {one.server.name}: {done}: {one.problem}"
            if one.problem
            else f"{one.server.id} {one.server.name} ({one.kind}, {one.server.flavor.name}): {done}"
        )
    count = sum(one.problem is None for one in found) if dry_run else len(rows)
    return [
        *lines,
        f"{count} servers {'would be' if dry_run else 'were'} adopted, "
        f"{sum(one.problem is not None for one in found)} left alone",
    ]
