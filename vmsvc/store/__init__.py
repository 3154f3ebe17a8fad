"""The database, by Peewee: the only truth. Synchronous; all of it runs in the database pool, never on the loop.

In: plain values and domain types, inside `db.unit()` (the only way to change anything) or `db.reading()`.
Out: model rows, plain values, and domain errors; a commit writes its events and wakes the loops of every replica.
`vms` alone changes a VM's state; `intents` says what is to be done in the cloud, `ledger` what is promised, `outbox` is
the history of events. `queries` has the statements that must be SQL, `schema` and `preflight` check the database.
Begin with `db.unit` and `vms.move`.
"""
