"""Webhooks: the endpoints, and the deliveries on their way to them."""

STATEMENTS = """
CREATE TABLE webhook (
    id text PRIMARY KEY,
    owner text NOT NULL,
    owner_id text NOT NULL,
    url text NOT NULL,
    types jsonb NOT NULL,
    states jsonb NOT NULL,
    preemptible boolean,
    vm text,
    description text NOT NULL,
    secret text NOT NULL,
    old_secret text,
    old_secret_until timestamptz,
    verified_at timestamptz,
    off_at timestamptz,
    off_reason text,
    after_seq bigint NOT NULL,
    failures integer NOT NULL,
    failing_since timestamptz,
    not_before timestamptz,
    last_success_at timestamptz,
    last_code integer,
    last_error text,
    created_at timestamptz NOT NULL
);
CREATE INDEX webhook_owner_id ON webhook (owner_id);
CREATE TABLE delivery (
    id bigserial PRIMARY KEY,
    webhook_id text NOT NULL,
    seq bigint NOT NULL,
    vm_id text NOT NULL,
    status text NOT NULL,
    blocked boolean NOT NULL,
    attempts integer NOT NULL,
    step integer NOT NULL,
    next_at timestamptz NOT NULL,
    urgent_until timestamptz,
    lease_owner text,
    lease_until timestamptz,
    last_code integer,
    last_error text,
    created_at timestamptz NOT NULL,
    done_at timestamptz
);
CREATE UNIQUE INDEX delivery_webhook_id_seq ON delivery (webhook_id, seq);
-- What may be sent: the first pending event of each VM.
CREATE INDEX delivery_due ON delivery (webhook_id, next_at) WHERE status = 'pending' AND NOT blocked;
CREATE INDEX delivery_of_vm ON delivery (webhook_id, vm_id, seq) WHERE status = 'pending';
CREATE INDEX delivery_leased ON delivery (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX delivery_ended ON delivery (done_at) WHERE done_at IS NOT NULL;
"""


def up(migrator, db):
    """Make the tables."""
    del migrator
    db.execute_sql(STATEMENTS)
