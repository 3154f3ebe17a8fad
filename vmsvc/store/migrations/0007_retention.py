"""What shows the requests whose time to be forgotten has come, and user data that nothing needs any more.

The first two hold few rows of a table with many. To make one the table is read once, while those who write it wait.
"""

STATEMENTS = (
    "CREATE INDEX IF NOT EXISTS vm_never_launched ON vm (ended_at) WHERE launched_at IS NULL AND ended_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS vm_user_data ON vm (id) WHERE boot ->> 'user_data' IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS idempotency_vm_id ON idempotency (vm_id)",
)


def up(migrator, db):
    """Make them."""
    del migrator
    for statement in STATEMENTS:
        db.execute_sql(statement)
