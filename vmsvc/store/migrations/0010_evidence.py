"""Capacity by evidence: what the project's servers held on a host, and what plans count on.

A release that knows nothing of it goes on total this one: the columns may be null.
"""

STATEMENTS = """
ALTER TABLE reservation ADD COLUMN evidence jsonb;
ALTER TABLE eviction ADD COLUMN certainty text;
ALTER TABLE eviction ADD COLUMN evidence text;
CREATE TABLE evidence (
    id bigserial PRIMARY KEY,
    host_id text NOT NULL,
    kind text NOT NULL,
    resources jsonb NOT NULL,
    total jsonb NOT NULL,
    seen_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX evidence_key ON evidence (host_id, kind, resources, total);
-- What is too old is looked for once a minute.
CREATE INDEX evidence_seen_at ON evidence (seen_at);
"""


def up(migrator, db):
    """Make the table and the columns."""
    del migrator
    db.execute_sql(STATEMENTS)
