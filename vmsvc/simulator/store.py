"""State that survives a restart: each object of the cloud is one JSON row in SQLite.

A request or a timer collects its changes in memory. They are committed before the answer is sent, so `kill -9` loses
nothing that a client was told. A commit costs as much as the rows that changed, however many rows there are.
"""

import json
import sqlite3
from collections.abc import Callable, Hashable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")
#: `field(…, metadata=LATER)` marks a field that earlier releases do not know. It is stored apart, in a row of the kind
#: with a plus sign, so that a release that is taken back can read the folder.
LATER = {"later": True}


@cache
def _later_fields(kind: Any) -> dict[str, Any]:
    """The fields of a class that are marked LATER, with their defaults."""
    marked = [each for each in fields(kind) if each.metadata.get("later")] if is_dataclass(kind) else []
    return {
        each.name: each.default_factory() if each.default_factory is not MISSING else each.default for each in marked
    }


def _parts(item: Any) -> tuple[Any, dict[str, Any]]:
    """What is stored of an object, and apart from it the fields marked LATER that have not their defaults."""
    later = _later_fields(cast(Hashable, type(item)))
    body = vars(item) if hasattr(item, "__dict__") else item
    if not later:
        return body, {}
    more = {name: body[name] for name, default in later.items() if body[name] != default}
    return {name: value for name, value in body.items() if name not in later}, more


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
        #: The rows that have a part of their own for the fields marked LATER.
        self._divided = {
            (kind[:-1], key) for kind, key in self._database.execute("SELECT kind, key FROM thing WHERE kind LIKE '%+'")
        }

    def put(self, kind: str, key: str, item: Any) -> None:
        """Write this object with the next commit, as it is then."""
        self._changed[kind, key] = item

    def drop(self, kind: str, key: str) -> None:
        """Delete the row with the next commit."""
        self._changed[kind, key] = None

    def load(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The key and the content of each committed row of a kind."""
        query = "SELECT key, body FROM thing WHERE kind = ?"
        more = {key: json.loads(body) for key, body in self._database.execute(query, (f"{kind}+",))}
        for key, body in self._database.execute(query, (kind,)):
            yield key, {**json.loads(body), **more.get(key, {})}

    def commit(self) -> None:
        """Write all changes in one transaction."""
        if not self._changed:
            return
        written, dropped = [], []
        for (kind, key), item in self._changed.items():
            body, more = (None, {}) if item is None else _parts(item)
            if more:
                written.append((f"{kind}+", key, json.dumps(more)))
                self._divided.add((kind, key))
            elif (kind, key) in self._divided:
                dropped.append((f"{kind}+", key))
                self._divided.discard((kind, key))
            if item is None:
                dropped.append((kind, key))
            else:
                written.append((kind, key, json.dumps(body)))
        self._changed.clear()
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO thing VALUES (?, ?, ?)", written)
        self._database.executemany("DELETE FROM thing WHERE kind = ? AND key = ?", dropped)
        self._database.execute("COMMIT")

    def clear(self, *kinds: str) -> None:
        """Delete all rows of these kinds, at once."""
        self.commit()
        self._database.executemany(
            "DELETE FROM thing WHERE kind = ?", [(name,) for kind in kinds for name in (kind, f"{kind}+")]
        )

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
