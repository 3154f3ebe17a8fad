"""Statements of which only the values change, so that their text is written once.

Peewee takes 0.2 to 0.5 ms of CPU to write a statement and to wrap what comes back, five times what it takes to send it:
more than half of the 7.3 ms that the database cost a create. So what every create does is kept here as text, by the
columns that it names; the tables, their fields and how values are written stay Peewee's, and so does all else.
"""
# pylint: disable=protected-access; a model's `_meta` is public in Peewee's documentation

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peewee import Model

from vmsvc.store.models import Event

#: What `execute_sql` takes: the text and its values.
Statement = tuple[str, list[Any]]


def insert(model: type[Model], row: Mapping[str, Any], ending: str = "") -> Statement:
    """A row, with the model's defaults for what it does not name; `ending` is RETURNING, say."""
    row = {**model._meta.get_default_dict(), **row}
    return f"{_insert(model, tuple(row))} {ending}", _written(model, row)


def update(model: type[Model], changes: Mapping[str, Any], where: Mapping[str, Any], ending: str = "") -> Statement:
    """Changes of the rows in which these columns have these values (None: are null)."""
    given = {name: value for name, value in where.items() if value is not None}
    text = _update(model, tuple(changes), tuple((name, name in given) for name in where))
    return f"{text} {ending}", _written(model, changes) + _written(model, given)


def outbox_rows(events: Sequence[Mapping[str, Any]]) -> Statement:
    """Events, each with the time of its writing: that is the order of `seq`, which the transaction's time is not."""
    names = ("type", "state", "vm_id", "subject", "is_preemptible", "data")
    places = f"({'%s, ' * len(names)}clock_timestamp())"
    return (f'INSERT INTO event ({_listed(names)}, "time") VALUES {", ".join([places] * len(events))}',
            [value for event in events for value in _written(Event, {name: event[name] for name in names})])


@functools.cache
def columns(model: type[Model]) -> str:
    """All columns that we know of, by name: a newer release may have added some."""
    return _listed(model._meta.fields)


def instance(model: type[Model], values: Iterable[Any]) -> Model:
    """The row of which these are the `columns()`."""
    row = model(__no_default__=True)
    row.__data__ = dict(zip(model._meta.fields, values))
    return row


def _written(model: type[Model], row: Mapping[str, Any]) -> list[Any]:
    fields = model._meta.fields
    return [fields[name].db_value(value) for name, value in row.items()]


@functools.cache
def _insert(model: type[Model], names: tuple[str, ...]) -> str:
    places = ", ".join(["%s"] * len(names))
    return f'INSERT INTO "{model._meta.table_name}" ({_listed(names)}) VALUES ({places})'


@functools.cache
def _update(model: type[Model], names: tuple[str, ...], where: tuple[tuple[str, bool], ...]) -> str:
    changes = ", ".join(f'"{name}" = %s' for name in names)
    conditions = " AND ".join(f'"{name}" = %s' if given else f'"{name}" IS NULL' for name, given in where)
    return f'UPDATE "{model._meta.table_name}" SET {changes} WHERE {conditions}'


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
