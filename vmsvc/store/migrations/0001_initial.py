"""The tables of the first release. Models here are frozen: they never change again."""

STATEMENTS = """
CREATE TABLE deployment (
    id text PRIMARY KEY,
    created_at timestamptz NOT NULL
);
CREATE TABLE vm (
    id text PRIMARY KEY,
    cloud_id text,
    name text NOT NULL,
    is_preemptible boolean NOT NULL,
    state text NOT NULL,
    priority integer NOT NULL,
    min_run_seconds integer NOT NULL,
    group_name text,
    max_unavailable integer,
    principal text NOT NULL,
    flavor text NOT NULL,
    image text NOT NULL,
    network text,
    boot jsonb NOT NULL,
    quota jsonb NOT NULL,
    room jsonb NOT NULL,
    host text,
    host_id text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    launched_at timestamptz,
    ended_at timestamptz,
    evict_at timestamptz,
    acknowledged_at timestamptz,
    evicted_for text,
    notice jsonb,
    refusal jsonb,
    avoid jsonb NOT NULL,
    rounds integer NOT NULL,
    outcome jsonb
);
CREATE UNIQUE INDEX vm_cloud_id ON vm (cloud_id);
-- The states in which work is left: the loops read these and never the ended ones.
CREATE INDEX vm_open ON vm (state) WHERE state NOT IN ('evicted', 'deleted', 'failed', 'lost');
CREATE INDEX vm_ended_at ON vm (ended_at);
CREATE TABLE idempotency (
    id serial PRIMARY KEY,
    principal text NOT NULL,
    key text NOT NULL,
    body_hash text NOT NULL,
    vm_id text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX idempotency_principal_key ON idempotency (principal, key);
CREATE TABLE intent (
    id bigserial PRIMARY KEY,
    kind text NOT NULL,
    vm_id text NOT NULL,
    not_before timestamptz NOT NULL,
    lease_owner text,
    lease_until timestamptz,
    attempts integer NOT NULL,
    wishes integer NOT NULL,
    created_at timestamptz NOT NULL,
    done_at timestamptz
);
-- One open wish of a kind for a VM: two requests cannot both make somebody's victim of it.
CREATE UNIQUE INDEX intent_open ON intent (vm_id, kind) WHERE done_at IS NULL;
CREATE INDEX intent_due ON intent (not_before) WHERE done_at IS NULL;
CREATE TABLE reservation (
    id bigserial PRIMARY KEY,
    vm_id text NOT NULL,
    bin_kind text NOT NULL,
    bin text NOT NULL,
    members jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    released_at timestamptz
);
-- A request holds room in one place at a time.
CREATE UNIQUE INDEX reservation_open ON reservation (vm_id) WHERE released_at IS NULL;
CREATE TABLE cooldown (
    id bigserial PRIMARY KEY,
    host text NOT NULL,
    flavor_id text NOT NULL,
    image_id text NOT NULL,
    reason text NOT NULL,
    until_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX cooldown_kind ON cooldown (flavor_id, image_id, host);
CREATE TABLE eviction (
    id bigserial PRIMARY KEY,
    vm_id text NOT NULL,
    owner text NOT NULL,
    reason text NOT NULL,
    simulated boolean NOT NULL,
    request_vm_id text,
    round integer NOT NULL,
    bin text,
    criterion text,
    cost jsonb NOT NULL,
    runner_up jsonb,
    optimal boolean NOT NULL,
    planned_at timestamptz NOT NULL,
    evict_at timestamptz NOT NULL,
    noticed_at timestamptz,
    acknowledged_at timestamptz,
    reprieved_at timestamptz,
    evicting_at timestamptz,
    stopped_at timestamptz,
    deleted_at timestamptz,
    freed_at timestamptz,
    fulfilled_at timestamptz,
    wasted text
);
CREATE INDEX eviction_vm_id ON eviction (vm_id);
CREATE INDEX eviction_request_vm_id ON eviction (request_vm_id);
-- What an owner lost lately is a cost of taking more.
CREATE INDEX eviction_evicting_at ON eviction (evicting_at);
CREATE TABLE event (
    seq bigserial PRIMARY KEY,
    type text NOT NULL,
    state text NOT NULL,
    vm_id text NOT NULL,
    subject text NOT NULL,
    is_preemptible boolean NOT NULL,
    time timestamptz NOT NULL,
    data jsonb NOT NULL
);
CREATE INDEX event_vm_id ON event (vm_id);
CREATE INDEX event_subject ON event (subject);
CREATE INDEX event_time ON event (time);
CREATE TABLE watermark (
    id integer PRIMARY KEY,
    removed_seq bigint NOT NULL
);
INSERT INTO watermark (id, removed_seq) VALUES (1, 0);
"""


def up(migrator, db):
    """Make them all."""
    del migrator
    db.execute_sql(STATEMENTS)
