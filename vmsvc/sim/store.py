"""What survives a restart: every thing of the model as one JSON row in SQLite.

Changes are collected while a request or a timer works and committed before its answer leaves, so that `kill -9`
loses nothing that was answered. The cost of a commit is that of the changed rows, never of all.
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Store:
    """Rows by kind and key. A row is the `vars()` of a plain object."""

    def __init__(self, path: Path | str):
        self._database = sqlite3.connect(path, isolation_level=None)
        # A killed process loses nothing of what it handed to the kernel, so no fsync is waited for.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS thing (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID")
        self._changed: dict[tuple[str, str], Any] = {}

    def put(self, kind: str, key: str, thing: Any) -> None:
        """Keep this object, as it is at the next commit."""
        self._changed[kind, key] = thing

    def drop(self, kind: str, key: str) -> None:
        """Forget it."""
        self._changed[kind, key] = None

    def load(self, kind: str) -> Iterator[tuple[str, dict]]:
        """All (key, body) of a kind."""
        for key, body in self._database.execute("SELECT key, body FROM thing WHERE kind = ?", (kind,)):
            yield key, json.loads(body)

    def commit(self) -> None:
        """Write what changed, all or nothing."""
        if not self._changed:
            return
        kept = [(kind, key, json.dumps(vars(thing) if hasattr(thing, "__dict__") else thing))
                for (kind, key), thing in self._changed.items() if thing is not None]
        dropped = [name for name, thing in self._changed.items() if thing is None]
        self._changed.clear()
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO thing VALUES (?, ?, ?)", kept)
        self._database.executemany("DELETE FROM thing WHERE kind = ? AND key = ?", dropped)
        self._database.execute("COMMIT")

    def clear(self, *kinds: str) -> None:
        """Forget everything of these kinds."""
        self.commit()
        self._database.executemany("DELETE FROM thing WHERE kind = ?", [(kind,) for kind in kinds])

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self._database.close()
