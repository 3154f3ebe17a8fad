"""History is read by the filters that it has: each needs an index that has the order of the answer too.

To make one on a million rows takes a second or two. All migrations are one transaction, in which nobody else writes an
event from the first of these on.
"""

STATEMENTS = (
    "CREATE INDEX IF NOT EXISTS event_kind_seq ON event (type, is_preemptible, seq)",
    "CREATE INDEX IF NOT EXISTS event_subject_seq ON event (subject, seq)",
    "CREATE INDEX IF NOT EXISTS event_vm_id_seq ON event (vm_id, seq)",
    "CREATE INDEX IF NOT EXISTS eviction_reason_id ON eviction (reason, id)",
    # The longer ones do what these did.
    "DROP INDEX IF EXISTS event_subject",
    "DROP INDEX IF EXISTS event_vm_id",
)


def up(migrator, db):
    """Make them."""
    del migrator
    for statement in STATEMENTS:
        db.execute_sql(statement)
