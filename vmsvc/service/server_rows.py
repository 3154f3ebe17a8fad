"""Which rows and servers belong together: by the id that a row names, else by the mark that a server carries."""

from vmsvc.cloud.port import Server


class ServerRows:
    """An index over rows and servers; the caller reports each that changes. Two threads must not use it at once."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self._marked: dict[str, tuple[str, ...]] = {}  # mark -> servers that carry it, in order
        self._row_of: dict[str, str] = {}  # server -> row that names it
        self._server_of: dict[str, str] = {}  # row -> server that it names

    def put_server(self, server_id: str, server: Server | None) -> set[str]:
        """A server changed; None: it has gone. Returns the rows whose marks it carried or carries."""
        before = self.servers.pop(server_id, None)
        if server is not None:
            self.servers[server_id] = server
        old, new = before.vmsvc_id if before else None, server.vmsvc_id if server else None
        if old != new:
            self._mark(old, server_id, False)
            self._mark(new, server_id, True)
        return {mark for mark in (old, new) if mark is not None}

    def put_row(self, row_id: str, server_id: str | None) -> set[str]:
        """A row changed and names this server now, or none. Returns the servers that it named or names."""
        before = self._server_of.pop(row_id, None)
        if before is not None and self._row_of.get(before) == row_id:  # another row may name it by now
            del self._row_of[before]
        if server_id:
            self._row_of[server_id], self._server_of[row_id] = row_id, server_id
        return set(filter(None, (before, server_id)))

    def forget_rows(self) -> None:
        """No row names any server; the servers and their marks stay."""
        self._row_of, self._server_of = {}, {}

    def row_naming(self, server_id: str) -> str | None:
        """The row that names a server."""
        return self._row_of.get(server_id)

    def marks(self) -> set[str]:
        """All rows whose mark some server carries."""
        return set(self._marked)

    def mark_of(self, server_id: str) -> str | None:
        """The row whose mark a server carries."""
        server = self.servers.get(server_id)
        return server.vmsvc_id if server else None

    def carrying(self, row_id: str) -> tuple[str, ...]:
        """The servers that carry a row's mark, in order."""
        return self._marked.get(row_id, ())

    def _mark(self, mark: str | None, server_id: str, carries: bool) -> None:
        if mark is None:
            return
        servers = {*self._marked.get(mark, ())} - {server_id} | ({server_id} if carries else set())
        if servers:
            self._marked[mark] = tuple(sorted(servers))
        else:
            del self._marked[mark]
