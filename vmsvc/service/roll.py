"""The list of all servers and requests, kept encoded: what changed is joined and encoded again, the rest stands.

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
from vmsvc.service import listing


class Listed(NamedTuple):
    """Those columns of a VM that a list shows."""

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


@dataclass(frozen=True, slots=True)
class Page:
    """A list as clients get it: JSON and its strong entity tag, which is the same wherever the bytes are. It includes
    every event up to `seq`. `missing` are the servers that rows name and the cloud has not shown."""

    body: bytes
    etag: str
    seq: int
    missing: frozenset[str] = frozenset()


def page_of(pieces: Iterable[bytes], seq: int, missing: Iterable[str] = ()) -> Page:
    """The page of these, each a JSON object."""
    # For a long list join() and the hash let other threads run; `%` would not.
    body = b"".join((b'{"servers":[', b",".join(pieces), b'],"seq":%d}' % seq))
    return Page(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"', seq, frozenset(missing))


class Roll:
    """Tell it what changed, then ask for the page. Not for two threads at once."""

    def __init__(self) -> None:
        self._rows: Mapping[str, Listed] = {}
        self._servers: dict[str, Server] = {}
        self._row_of: dict[str, str] = {}                   # server -> row that names it
        self._known: dict[str, str] = {}                    # ... and back
        self._marked: dict[str, tuple[str, ...]] = {}       # mark -> servers that carry it, in order
        self._shown: dict[str, bytes] = {}                  # by server
        self._awaited: dict[str, bytes] = {}                # by row
        self._missing: set[str] = set()
        self._page: Page | None = None

    def update(self, rows: Mapping[str, Listed], changed: Iterable[str], servers: Mapping[str, Server | None],
               seq: int) -> Page:
        """The page after these rows and servers (None: it has gone) changed. `rows` are all that are current, as of
        the event `seq` or later."""
        self._rows = rows
        concerned, anew = dict.fromkeys(changed), dict.fromkeys(servers)
        for server_id, server in servers.items():
            concerned.update(dict.fromkeys(self._take(server_id, server)))
        for row_id in tuple(concerned):
            anew.update(dict.fromkeys(self._name(row_id)))
        # Another row may lose its server to the one that names it, or get it back.
        marks = {self._servers[server_id].vmsvc_id for server_id in anew if server_id in self._servers}
        concerned.update(dict.fromkeys(marks - {None}))
        for row_id in concerned:
            anew.update(dict.fromkeys(self._marked.get(row_id, ())))
        concerned.update(dict.fromkeys(self._row_of[server_id] for server_id in anew if server_id in self._row_of))
        news = [self._encode(self._shown, server_id, self._server_of) for server_id in anew]
        news += [self._encode(self._awaited, row_id, self._request_of) for row_id in concerned]
        if any(news) or self._page is None or self._page.seq != seq or self._page.missing != self._missing:
            self._page = self._assembled(seq)
        return self._page

    def _assembled(self, seq: int) -> Page:
        waiting = sorted(self._awaited, key=lambda row_id: (self._rows[row_id].created_at, row_id))
        return page_of([*self._shown.values(), *map(self._awaited.__getitem__, waiting)], seq, self._missing)

    def _take(self, server_id: str, server: Server | None) -> Iterable[str]:
        """Returns the marks that are concerned."""
        before = self._servers.pop(server_id, None)
        if server is not None:
            self._servers[server_id] = server
        old, new = before and before.vmsvc_id, server and server.vmsvc_id
        if old is not None:
            self._mark(old, {*self._marked[old]} - {server_id})
        if new is not None:
            self._mark(new, {*self._marked.get(new, ()), server_id})
        return {old, new} - {None}

    def _mark(self, mark: str, servers: set[str]) -> None:
        if servers:
            self._marked[mark] = tuple(sorted(servers))
        else:
            del self._marked[mark]

    def _name(self, row_id: str) -> Iterable[str]:
        """Look which server the row names now; returns the servers that are concerned."""
        row, before = self._rows.get(row_id), self._known.pop(row_id, None)
        if before is not None and self._row_of[before] == row_id:      # it may be another's by now
            del self._row_of[before]
        if row is not None and row.cloud_id:
            self._row_of[row.cloud_id], self._known[row_id] = row_id, row.cloud_id
        return {before, row and row.cloud_id} - {None}

    def _encode(self, pieces: dict[str, bytes], key: str, look: Callable[[str], dict[str, Any] | None]) -> bool:
        """Encode one again; True when that changed anything."""
        found = look(key)
        piece = None if found is None else json.dumps(found, separators=(",", ":")).encode("ascii")
        if pieces.get(key) == piece:
            return False
        if piece is None:
            del pieces[key]
        else:
            pieces[key] = piece
        return True

    def _server_of(self, server_id: str) -> dict[str, Any] | None:
        server, row = self._servers.get(server_id), self._row_with(server_id)
        over = row is not None and row.state in FINAL
        if server is None and row is not None and not over:
            self._missing.add(server_id)
        else:
            self._missing.discard(server_id)
        return None if server is None or over else listing.shown(server, row and row._asdict())

    def _row_with(self, server_id: str) -> Listed | None:
        if server_id in self._row_of:
            return self._rows[self._row_of[server_id]]
        mark = self._servers[server_id].vmsvc_id if server_id in self._servers else None
        row = self._rows.get(mark) if mark is not None else None
        return row if row is not None and not row.cloud_id and self._first(row.id) == server_id else None

    def _first(self, row_id: str) -> str | None:
        """Of the servers that carry the mark of a row the one that no other row names."""
        return next((server_id for server_id in self._marked.get(row_id, ()) if server_id not in self._row_of), None)

    def _request_of(self, row_id: str) -> dict[str, Any] | None:
        row = self._rows.get(row_id)
        if row is None or row.state in FINAL:
            return None
        if row.cloud_id:        # the server of one that is still built may have failed and gone: the request goes on
            waits = row.state == State.BUILDING and row.cloud_id not in self._servers
        else:
            waits = self._first(row_id) is None
        return listing.awaited(row._asdict()) if waits else None
