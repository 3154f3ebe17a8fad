"""The list of all servers and requests, kept encoded: what changed is joined and encoded again, the rest is kept.

A server is shown with the row that names it, or else with the row whose mark it carries: its id may not have been
written down yet. A row that has ended for us is left out, though the cloud may show its server for a moment.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from vmsvc.cloud.port import Server
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.scheduling.queue_order import QueueEntry, Shares, positions
from vmsvc.service.listing import vm_view
from vmsvc.service.server_rows import ServerRows


class ListedVm(NamedTuple):
    """Those columns of a VM, and of its lineage, that a list shows."""

    id: str
    cloud_id: str | None
    name: str
    state: str
    is_preemptible: bool
    flavor: str
    image: str
    network: str | None
    host: str | None
    principal: str
    group_name: str | None
    max_unavailable: int | None
    priority: int
    min_run_seconds: int
    created_at: datetime
    launched_at: datetime | None
    evict_at: datetime | None
    acknowledged_at: datetime | None
    ended_at: datetime | None
    notice: dict[str, Any] | None
    outcome: dict[str, Any] | None
    wait_until: datetime | None = None
    queued_why: str | None = None
    principal_id: str | None = None
    lineage_id: str | None = None
    attempt: int = 0
    restart_of: str | None = None
    on_eviction: str | None = None  # of its lineage, as the next two; None: it has none
    max_restarts: int | None = None
    end_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """A list as clients get it: JSON, and its strong entity tag, which equal bytes share on every replica. It includes
    every event up to `seq`. `missing` are the servers that rows name and the cloud has not shown."""

    body: bytes
    etag: str
    seq: int
    missing: frozenset[str] = frozenset()


def page_of(pieces: Iterable[bytes], seq: int, missing: Iterable[str] = ()) -> ListPage:
    """The page of these, each a JSON object."""
    # For a long list join() and the hash let other threads run; `%` would not.
    body = b"".join((b'{"servers":[', b",".join(pieces), b'],"seq":%d}' % seq))
    return ListPage(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"', seq, frozenset(missing))


class EncodedList:
    """The encoded list; `update` encodes only what changed. Two threads must not use it at once."""

    def __init__(self) -> None:
        self._rows: Mapping[str, ListedVm] = {}
        self._index = ServerRows()
        self._servers: dict[str, bytes] = {}  # by server
        self._requests: dict[str, bytes] = {}  # by row
        self._queue: dict[str, QueueEntry] = {}  # those of them that wait in the queue
        self._shares: Shares = {}
        self._missing: set[str] = set()
        self._page: ListPage | None = None

    def update(
        self,
        rows: Mapping[str, ListedVm],
        changed: Iterable[str],
        servers: Mapping[str, Server | None],
        seq: int,
        shares: Shares | None = None,
    ) -> ListPage:
        """The page after these rows and servers (None: it has gone) changed. `rows` are all that are current, as of
        the event `seq` or later. `shares`: those by which the queue is ordered; None: as in the last update."""
        self._shares = self._shares if shares is None else shares
        self._rows = rows
        affected_rows, affected_servers = dict.fromkeys(changed), dict.fromkeys(servers)
        for server_id, server in servers.items():
            affected_rows.update(dict.fromkeys(self._index.put_server(server_id, server)))
        for row_id in tuple(affected_rows):
            row = rows.get(row_id)
            affected_servers.update(dict.fromkeys(self._index.put_row(row_id, row and row.cloud_id)))
        # Another row may lose its server to the one that names it, or get it back.
        affected_rows.update(dict.fromkeys(filter(None, map(self._index.mark_of, affected_servers))))
        for row_id in affected_rows:
            affected_servers.update(dict.fromkeys(self._index.carrying(row_id)))
        affected_rows.update(dict.fromkeys(filter(None, map(self._index.row_naming, affected_servers))))
        changes = [self._encode(self._servers, server_id, self._view_of_server) for server_id in affected_servers]
        changes += [self._encode(self._requests, row_id, self._view_of_request) for row_id in affected_rows]
        if any(changes) or self._page is None or self._page.seq != seq or self._page.missing != self._missing:
            self._page = self._assembled(seq)
        return self._page

    def _assembled(self, seq: int) -> ListPage:
        waiting = sorted(self._requests, key=lambda row_id: (self._rows[row_id].created_at, row_id))
        place = positions(self._queue.values(), self._shares)
        requests = [
            # A position changes with others: it is the last member, and takes the place of `null}`.
            b"%b%d}" % (self._requests[row_id][: -len(b"null}")], place[row_id])
            if row_id in place
            else self._requests[row_id]
            for row_id in waiting
        ]
        return page_of([*self._servers.values(), *requests], seq, self._missing)

    def _encode(self, pieces: dict[str, bytes], key: str, view_of: Callable[[str], dict[str, Any] | None]) -> bool:
        """Encode one server or request again; True when its bytes changed."""
        view = view_of(key)
        piece = None if view is None else json.dumps(view, separators=(",", ":")).encode("ascii")
        if pieces.get(key) == piece:
            return False
        if piece is None:
            del pieces[key]
        else:
            pieces[key] = piece
        return True

    def _view_of_server(self, server_id: str) -> dict[str, Any] | None:
        server, row = self._index.servers.get(server_id), self._row_of_server(server_id)
        ended = row is not None and row.state in FINAL
        if server is None and row is not None and not ended:
            self._missing.add(server_id)
        else:
            self._missing.discard(server_id)
        return None if server is None or ended else vm_view.server_view(server, row and row._asdict())

    def _row_of_server(self, server_id: str) -> ListedVm | None:
        named_by = self._index.row_naming(server_id)
        if named_by is not None:
            return self._rows[named_by]
        row = self._rows.get(self._index.mark_of(server_id) or "")
        return row if row is not None and not row.cloud_id and self._unnamed_server(row.id) == server_id else None

    def _unnamed_server(self, row_id: str) -> str | None:
        """Of the servers that carry the mark of a row the one that no other row names."""
        return next(
            (server_id for server_id in self._index.carrying(row_id) if self._index.row_naming(server_id) is None), None
        )

    def _view_of_request(self, row_id: str) -> dict[str, Any] | None:
        row = self._rows.get(row_id)
        self._queue.pop(row_id, None)
        if row is None or row.state in FINAL:
            return None
        if row.cloud_id:  # the server of one that is still built may have failed and gone: the request goes on
            waits = row.state == State.BUILDING and row.cloud_id not in self._index.servers
        else:
            waits = self._unnamed_server(row_id) is None
        if row.queued_why is not None:
            owner = row.principal_id or row.principal
            self._queue[row_id] = QueueEntry(
                row_id, row.is_preemptible, row.priority, owner, row.created_at.timestamp()
            )
        return vm_view.request_view(row._asdict()) if waits else None
