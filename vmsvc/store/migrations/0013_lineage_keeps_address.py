"""An index for what each replica asks once a minute: whether a lineage keeps its address."""

STATEMENTS = """
CREATE INDEX lineage_keeps_address ON lineage (id) WHERE keep_address;
"""


def up(migrator, db):
    """Make the index."""
    del migrator
    db.execute_sql(STATEMENTS)
