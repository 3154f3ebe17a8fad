"""What became of requests of one class: same flavor, image, network and zone."""

STATEMENTS = """
CREATE TABLE request_class (
    id bigserial PRIMARY KEY,
    flavor_id text NOT NULL,
    image_id text NOT NULL,
    network_id text NOT NULL,
    availability_zone text NOT NULL,
    conditions text NOT NULL,
    accepted_at timestamptz,
    futile_at timestamptz,
    futile_error text,
    futile_reason text
);
CREATE UNIQUE INDEX request_class_key ON request_class (flavor_id, image_id, network_id, availability_zone);
CREATE INDEX request_class_conditions ON request_class (conditions);
"""


def up(migrator, db):
    """Make the table."""
    del migrator
    db.execute_sql(STATEMENTS)
