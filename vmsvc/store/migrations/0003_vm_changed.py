"""Which transaction wrote a VM last, so that what changed can be read without reading all.

A time would not do: transactions do not commit in the order in which they began. A release that knows nothing of the
column goes on beside this one, for the trigger fills it in. Rows from before get 0: they are older than every reading.
"""

STATEMENTS = """
ALTER TABLE vm ADD COLUMN changed bigint NOT NULL DEFAULT 0;
CREATE FUNCTION vm_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;
CREATE TRIGGER vm_changed BEFORE INSERT OR UPDATE ON vm FOR EACH ROW EXECUTE FUNCTION vm_changed();
CREATE INDEX vm_changed ON vm (changed);
"""


def up(migrator, db):
    """Make them."""
    del migrator
    db.execute_sql(STATEMENTS)
