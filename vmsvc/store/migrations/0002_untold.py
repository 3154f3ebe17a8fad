"""Who was spared because it could not be told is looked for in every pass of the scheduler."""


def up(migrator, db):
    """An index that holds those alone who were never told."""
    del migrator
    db.execute_sql("CREATE INDEX eviction_untold ON eviction (reprieved_at) WHERE noticed_at IS NULL")
