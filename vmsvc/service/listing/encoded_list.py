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
from vmsvc.service.listing import vm_view as listing
from vmsvc.service.server_rows import ServerRows


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
    """A list as clients get it: JSON, and its strong entity tag, which equal bytes share on every replica. It includes
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


class EncodedList:
    """The encoded list; `update` encodes anew only what changed. Two threads must not use it at once."""

    def __init__(self) -> None:
        self._rows: Mapping[str, Listed] = {}
        self._index = ServerRows()
        self._shown: dict[str, bytes] = {}  # by server
        self._awaited: dict[str, bytes] = {}  # by row
        self._missing: set[str] = set()
        self._page: Page | None = None

    def update(
        self, rows: Mapping[str, Listed], changed: Iterable[str], servers: Mapping[str, Server | None], seq: int
    ) -> Page:
        """The page after these rows and servers (None: it has gone) changed. `rows` are all that are current, as of
        the event `seq` or later."""
        self._rows = rows
        concerned, anew = dict.fromkeys(changed), dict.fromkeys(servers)
        for server_id, server in servers.items():
            concerned.update(dict.fromkeys(self._index.put_server(server_id, server)))
        for row_id in tuple(concerned):
            row = rows.get(row_id)
            anew.update(dict.fromkeys(self._index.put_row(row_id, row and row.cloud_id)))
        # Another row may lose its server to the one that names it, or get it back.
        concerned.update(dict.fromkeys(filter(None, map(self._index.mark_of, anew))))
        for row_id in concerned:
            anew.update(dict.fromkeys(self._index.carrying(row_id)))
        concerned.update(dict.fromkeys(filter(None, map(self._index.row_naming, anew))))
        news = [self._encode(self._shown, server_id, self._server_of) for server_id in anew]
        news += [self._encode(self._awaited, row_id, self._request_of) for row_id in concerned]
        if any(news) or self._page is None or self._page.seq != seq or self._page.missing != self._missing:
            self._page = self._assembled(seq)
        return self._page

    def _assembled(self, seq: int) -> Page:
        waiting = sorted(self._awaited, key=lambda row_id: (self._rows[row_id].created_at, row_id))
        return page_of([*self._shown.values(), *map(self._awaited.__getitem__, waiting)], seq, self._missing)

    def _encode(self, pieces: dict[str, bytes], key: str, look: Callable[[str], dict[str, Any] | None]) -> bool:
        """Encode one server or request again; True when its bytes changed."""
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
        server, row = self._index.servers.get(server_id), self._row_with(server_id)
        over = row is not None and row.state in FINAL
        if server is None and row is not None and not over:
            self._missing.add(server_id)
        else:
            self._missing.discard(server_id)
        return None if server is None or over else listing.shown(server, row and row._asdict())

    def _row_with(self, server_id: str) -> Listed | None:
        named_by = self._index.row_naming(server_id)
        if named_by is not None:
            return self._rows[named_by]
        row = self._rows.get(self._index.mark_of(server_id) or "")
        return row if row is not None and not row.cloud_id and self._first(row.id) == server_id else None

    def _first(self, row_id: str) -> str | None:
        """Of the servers that carry the mark of a row the one that no other row names."""
        return next(
            (server_id for server_id in self._index.carrying(row_id) if self._index.row_naming(server_id) is None), None
        )

    def _request_of(self, row_id: str) -> dict[str, Any] | None:
        row = self._rows.get(row_id)
        if row is None or row.state in FINAL:
            return None
        if row.cloud_id:  # the server of one that is still built may have failed and gone: the request goes on
            waits = row.state == State.BUILDING and row.cloud_id not in self._index.servers
        else:
            waits = self._first(row_id) is None
        return listing.awaited(row._asdict()) if waits else None
