"""The queue, and lineages: requests that wait for capacity until a deadline, and VMs that are started again.

A release that knows nothing of them goes on beside this one: the columns are null, or PostgreSQL fills them in. To it a
request that waits is one of those that it refuses. See docs/explanation/queue.md.
"""

STATEMENTS = """
CREATE TABLE lineage (
    id text PRIMARY KEY,
    owner text NOT NULL,
    owner_id text NOT NULL,
    on_eviction text NOT NULL,
    max_restarts integer NOT NULL,
    restart_within_seconds integer NOT NULL,
    fallback_after_evictions integer,
    keep_address boolean NOT NULL,
    port_id text,
    restarts integer NOT NULL,
    short_lives integer NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text
);
CREATE INDEX lineage_open ON lineage (owner_id) WHERE ended_at IS NULL;
-- Which ports are kept.
CREATE UNIQUE INDEX lineage_port_id ON lineage (port_id);

-- The queue.
ALTER TABLE vm ADD COLUMN wait_until timestamptz;
ALTER TABLE vm ADD COLUMN fallback_at timestamptz;
ALTER TABLE vm ADD COLUMN fell_back_at timestamptz;
ALTER TABLE vm ADD COLUMN patience_until timestamptz;
ALTER TABLE vm ADD COLUMN queued_at timestamptz;
ALTER TABLE vm ADD COLUMN queued_why text;
ALTER TABLE vm ADD COLUMN placed_at timestamptz;
-- The next moment at which something is due is asked for every second.
CREATE INDEX vm_wait_until ON vm (wait_until) WHERE state = 'pending' AND wait_until IS NOT NULL;
CREATE INDEX vm_fallback_at ON vm (fallback_at) WHERE state = 'pending' AND fallback_at IS NOT NULL;
CREATE INDEX vm_patience_until ON vm (patience_until) WHERE state = 'pending' AND patience_until IS NOT NULL;
-- Read at every wakeup of the scheduler: all that moves, without those that wait in the queue.
CREATE INDEX vm_moving ON vm (state)
    WHERE state IN ('pending', 'building', 'noticed', 'evicting', 'deleting') AND queued_why IS NULL;
CREATE INDEX vm_queued ON vm (principal_id) WHERE state = 'pending' AND queued_why IS NOT NULL;

-- The lineage of a VM that is started again.
ALTER TABLE vm ADD COLUMN lineage_id text REFERENCES lineage (id);
ALTER TABLE vm ADD COLUMN restart_of text REFERENCES vm (id);
ALTER TABLE vm ADD COLUMN attempt integer NOT NULL DEFAULT 0;
ALTER TABLE vm ADD COLUMN not_before timestamptz;
CREATE INDEX vm_not_before ON vm (not_before) WHERE state = 'pending' AND not_before IS NOT NULL;
-- Each attempt is made once, each VM has one successor, and one VM of a lineage is there at a time.
CREATE UNIQUE INDEX vm_attempt ON vm (lineage_id, attempt);
CREATE UNIQUE INDEX vm_restart_of ON vm (restart_of);
CREATE UNIQUE INDEX vm_lineage_alive ON vm (lineage_id)
    WHERE state NOT IN ('evicted', 'deleted', 'failed', 'lost') AND lineage_id IS NOT NULL;
"""


def up(migrator, db):
    """Make the table and the columns."""
    del migrator
    db.execute_sql(STATEMENTS)
