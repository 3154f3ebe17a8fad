"""Who a principal is, besides how it is shown: names that differ can be shown alike. And who let a victim go early.

Rows from before, and those that the release before goes on writing beside this one, have the name alone: it is their
identity. `idempotency.principal` holds the identity from now on; the names that are there stay good.

Columns without a default are added at once, however many rows there are.
"""

STATEMENTS = (
    "ALTER TABLE vm ADD COLUMN IF NOT EXISTS principal_id text",
    "ALTER TABLE ticket ADD COLUMN IF NOT EXISTS principal_id text",
    "ALTER TABLE eviction ADD COLUMN IF NOT EXISTS owner_id text, ADD COLUMN IF NOT EXISTS acknowledged_by text",
)


def up(migrator, db):
    """Add the columns."""
    del migrator
    for statement in STATEMENTS:
        db.execute_sql(statement)
