"""Tickets for WebSockets. A release that knows nothing of them goes on beside this one."""

STATEMENTS = """
CREATE TABLE ticket (
    digest text PRIMARY KEY,
    principal text NOT NULL,
    may_write boolean NOT NULL,
    credential text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX ticket_expires_at ON ticket (expires_at);
"""


def up(migrator, db):
    """Make the table."""
    del migrator
    db.execute_sql(STATEMENTS)
