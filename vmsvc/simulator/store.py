"""State that survives a restart: each object of the cloud is one JSON row in SQLite.

A request or a timer collects its changes in memory. They are committed before the answer is sent, so `kill -9` loses
nothing that a client was told. A commit costs as much as the rows that changed, however many rows there are.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Store:
    """Rows by kind and key. A row holds the `vars()` of an object."""

    def __init__(self, path: Path | str):
        self._database = sqlite3.connect(path, isolation_level=None)
        # The kernel keeps what a killed process has written to it, so no commit waits for an fsync.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS thing (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID"
        )
        self._changed: dict[tuple[str, str], Any] = {}

    def put(self, kind: str, key: str, item: Any) -> None:
        """Write this object with the next commit, as it is then."""
        self._changed[kind, key] = item

    def drop(self, kind: str, key: str) -> None:
        """Delete the row with the next commit."""
        self._changed[kind, key] = None

    def load(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The key and the content of each committed row of a kind."""
        for key, body in self._database.execute("SELECT key, body FROM thing WHERE kind = ?", (kind,)):
            yield key, json.loads(body)

    def commit(self) -> None:
        """Write all changes in one transaction."""
        if not self._changed:
            return
        written = [
            (kind, key, json.dumps(vars(item) if hasattr(item, "__dict__") else item))
            for (kind, key), item in self._changed.items()
            if item is not None
        ]
        dropped = [name for name, item in self._changed.items() if item is None]
        self._changed.clear()
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO thing VALUES (?, ?, ?)", written)
        self._database.executemany("DELETE FROM thing WHERE kind = ? AND key = ?", dropped)
        self._database.execute("COMMIT")

    def clear(self, *kinds: str) -> None:
        """Delete all rows of these kinds, at once."""
        self.commit()
        self._database.executemany("DELETE FROM thing WHERE kind = ?", [(kind,) for kind in kinds])

    def close(self) -> None:
        self.commit()
        self._database.close()


class Table(dict[str, T]):
    """The objects of one kind by key, in the order of their keys after a restart. An object that was changed has to be
    saved again."""

    def __init__(self, store: Store, kind: str, factory: Callable[..., T]):
        super().__init__((key, factory(**body)) for key, body in sorted(store.load(kind), key=lambda row: row[0]))
        self._store = store
        self._kind = kind

    def save(self, key: str, item: T) -> None:
        """Add an object, or store what was changed of it."""
        self[key] = item
        self._store.put(self._kind, key, item)

    def remove(self, key: str) -> None:
        """Raises KeyError when there is no such object."""
        del self[key]
        self._store.drop(self._kind, key)
