"""Victims that cannot be told: by what a notice was delivered, and why a VM was exempt from an eviction.

A release that knows nothing of the columns goes on beside this one. It looks for the index of `0002_untold`, which
stays for it.
"""

STATEMENTS = """
ALTER TABLE eviction ADD COLUMN delivery text NOT NULL DEFAULT 'metadata';
ALTER TABLE eviction ADD COLUMN exempt text;
-- Asked in every pass of the scheduler.
CREATE INDEX eviction_exempt ON eviction (reprieved_at) WHERE exempt IS NOT NULL;
"""


def up(migrator, db):
    """Make them."""
    del migrator
    db.execute_sql(STATEMENTS)
