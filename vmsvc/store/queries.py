"""The statements that have to be SQL, each with what it does, who sends it and why Peewee does not write it.

All else in the store is Peewee expressions. Values are psycopg2's `%(name)s`, so a percent sign is written twice.
Times are the database's clock: `clock_timestamp()`, or `%(now)s` where one moment has to hold for a whole unit.
"""

from vmsvc.domain.lifecycle import BOOTABLE, RESTARTABLE

#: Keys of our advisory locks share this first half, so that they meet no other program's.
LOCK_SPACE = 0x766D7376

# ---------------------------------------------------------------- db: transactions and events

#: Wait for an advisory lock and keep it to the end of the transaction. By `Unit.lock`, and by `unit()` as text before
#: its first statement.
LOCK = "SELECT pg_advisory_xact_lock(%(space)s, %(lock)s)"
#: Set the sequence of events to follow the newest number ever given. A sequence does not take numbers back: without
#: this a rollback would leave a gap that looks like a lost event. By `Unit.commit`, under the lock OUTBOX.
NUMBER_EVENTS = """
SELECT setval(pg_get_serial_sequence('event', 'seq'), 1 + greatest(
    coalesce((SELECT max(seq) FROM event), 0), (SELECT removed_seq FROM watermark)), false)"""
#: Write events in their order. Each has the time of its writing: that is the order of `seq`, which the transaction's
#: time is not. By `Unit.commit`; one text for any number of events, so that it can be sent with the commit.
WRITE_EVENTS = """
INSERT INTO event (type, state, vm_id, subject, is_preemptible, data, time)
SELECT type, state, vm_id, subject, is_preemptible, data, clock_timestamp()
FROM unnest(%(type)s::text[], %(state)s::text[], %(vm_id)s::text[], %(subject)s::text[], %(is_preemptible)s::bool[],
            %(data)s::jsonb[]) AS new (type, state, vm_id, subject, is_preemptible, data)"""
#: The database's clock. By `vms.clock`.
CLOCK = "SELECT clock_timestamp()"
#: A text that changes whenever a transaction that wrote anything ends. By `db.changes`.
SNAPSHOT = "SELECT pg_current_snapshot()::text"
#: How many sessions of vmsvc there are besides this one. By `outbox.other_sessions`.
OTHER_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'vmsvc') AND pid <> pg_backend_pid()"""

# ---------------------------------------------------------------- vm_cache

#: A transaction id, the start of the server, and whether our own transaction has written something. All transactions
#: with lower ids have ended, and their writes are visible. A server that was restarted or replaced may number its
#: transactions from elsewhere.
TRANSACTIONS = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_postmaster_start_time(),
       pg_current_xact_id_if_assigned() IS NOT NULL"""

# ---------------------------------------------------------------- intents

#: Claim due intents that no replica holds, oldest first; replicas that claim at once skip each other's rows.
CLAIM = """
UPDATE intent SET lease_owner = %(owner)s, lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
                  attempts = attempts + 1
WHERE id IN (SELECT id FROM intent
             WHERE done_at IS NULL AND not_before <= clock_timestamp()
               AND (lease_until IS NULL OR lease_until < clock_timestamp())
             ORDER BY not_before, id LIMIT %(most)s FOR UPDATE SKIP LOCKED)
RETURNING id, kind, vm_id, attempts, wishes"""
#: Write down many fulfilled intents at once; one that was enqueued again since it was claimed is free instead.
FULFIL = """
UPDATE intent SET done_at = CASE WHEN wishes = seen THEN %(now)s ELSE done_at END,
                  lease_owner = CASE WHEN wishes = seen THEN lease_owner END, lease_until = NULL
FROM unnest(%(ids)s::bigint[], %(seen)s::int[]) AS done (intent_id, seen)
WHERE id = intent_id AND lease_owner = %(owner)s"""
#: Seconds until the next open intent that no replica holds is due.
NEXT_DUE = """
SELECT extract(epoch FROM min(greatest(not_before, coalesce(lease_until, not_before))) - clock_timestamp())::float8
FROM intent WHERE done_at IS NULL"""

# ---------------------------------------------------------------- waiting

#: Every VM on its way in or out, every open reservation, and whether requests wait in the queue: one view of all that a
#: decision may concern, read at each notification. The condition is that of the index vm_moving.
MOVING_ROWS = """
SELECT id, state, updated_at, evicted_for, CASE state WHEN 'pending' THEN boot -> 'traits' END,
    CASE state WHEN 'pending' THEN boot -> 'requirements' END, host,
    CASE state WHEN 'pending' THEN boot #>> '{options,server_group}' END
FROM vm WHERE state IN ('pending', 'building', 'noticed', 'evicting', 'deleting') AND queued_why IS NULL
    AND (not_before IS NULL OR state <> 'pending' OR not_before <= clock_timestamp())
UNION ALL SELECT vm_id, NULL, NULL, NULL, NULL, NULL, CASE bin_kind WHEN 'host' THEN bin END, NULL
FROM reservation WHERE released_at IS NULL
UNION ALL (SELECT id, 'queued', NULL, NULL, NULL, NULL, NULL, NULL
           FROM vm WHERE state = 'pending' AND queued_why IS NOT NULL LIMIT 1)"""
#: Requests of the queue, in the order of `waiting.QueuedRow`.
QUEUED_ROWS = """
SELECT id, is_preemptible, priority, principal, principal_id, group_name, quota, room,
    boot - '{user_data,asked}'::text[], refusal, avoid, rounds, attempt, created_at, updated_at, wait_until,
    patience_until, queued_why
FROM vm WHERE id = ANY(%(ids)s) AND state = 'pending' AND queued_why IS NOT NULL"""
#: How many requests of the queue come before this one. Only their number leaves PostgreSQL.
AHEAD = """
SELECT count(*) FROM vm
LEFT JOIN unnest(%(owners)s::text[], %(shares)s::float8[]) AS held (owner, share)
    ON owner = coalesce(principal_id, principal)
WHERE state = 'pending' AND queued_why IS NOT NULL
    AND (is_preemptible, -priority, coalesce(share, 0), created_at, id COLLATE "C")
        < (%(is_preemptible)s, -%(priority)s, %(share)s, %(came)s::timestamptz, %(id)s COLLATE "C")"""
#: The condition for a request about which the scheduler has to decide anew, because it fell back or its patience is
#: over, and has not decided yet. (`updated_at` is that moment, the one of its creation, or that of the last refusal.)
GIVEN_BACK = """(queued_why IS NULL AND updated_at > created_at
    AND coalesce((refusal ->> 'at')::timestamptz < updated_at, true)
    AND updated_at > clock_timestamp() - interval '30 seconds')"""
#: Seconds until the next moment at which something is due for a request that waits. Each moment has an index.
NEXT_DEADLINE = f"""
SELECT extract(epoch FROM least(
    (SELECT wait_until FROM vm WHERE state = 'pending' AND wait_until IS NOT NULL AND NOT {GIVEN_BACK} AND NOT EXISTS (
         SELECT FROM reservation WHERE vm_id = vm.id AND released_at IS NULL) ORDER BY wait_until LIMIT 1),
    (SELECT min(fallback_at) FROM vm WHERE state = 'pending' AND fallback_at IS NOT NULL),
    (SELECT min(patience_until) FROM vm WHERE state = 'pending' AND patience_until IS NOT NULL),
    (SELECT min(not_before) FROM vm WHERE state = 'pending' AND not_before > clock_timestamp())
) - clock_timestamp())::float8"""

# ---------------------------------------------------------------- ledger

#: The newest build that failed because the network gave no address (Nova's words, measured), unless a VM was built on
#: that network since.
UNPLUGGED = """
SELECT outcome ->> 'message' FROM vm failed
WHERE state = 'failed' AND ended_at > clock_timestamp() - make_interval(secs => %(seconds)s)
    AND boot ->> 'network_id' = %(network)s AND coalesce(jsonb_array_length(boot #> '{options,nics}'), 0) <= 1
    AND boot #> '{options,nics,0,fixed_ip}' IS NULL
    AND outcome ->> 'message' LIKE '%%Failed to allocate the network%%' AND NOT EXISTS (
        SELECT FROM vm later WHERE later.state NOT IN ('evicted', 'deleted', 'failed', 'lost')
            AND later.boot ->> 'network_id' = failed.boot ->> 'network_id' AND later.launched_at > failed.ended_at)
ORDER BY ended_at DESC LIMIT 1"""
#: VMs exempted lately, and VMs exempted for a request that still waits. Each half has an index of its own.
EXEMPT = """
SELECT vm_id FROM eviction
WHERE exempt IS NOT NULL AND reprieved_at > clock_timestamp() - make_interval(secs => %(seconds)s)
UNION SELECT eviction.vm_id FROM vm JOIN eviction ON request_vm_id = vm.id
WHERE vm.state = 'pending' AND exempt IS NOT NULL"""
_NEWEST = "(SELECT max(id) FROM eviction WHERE vm_id = %(vm)s)"
#: When the first event of a VM's newest notice was written.
NOTICED_EVENT_AT = f"""
SELECT min(event.time) FROM event JOIN eviction ON eviction.id = {_NEWEST}
WHERE event.vm_id = %(vm)s AND event.type = 'evict' AND event.state = 'noticed' AND event.time >= planned_at"""
#: The round of a VM's newest eviction does not count for its request, unless another victim of that round left.
ROUND_IS_NONE = f"""
UPDATE vm SET rounds = rounds - 1 FROM eviction AS mine
WHERE mine.id = {_NEWEST} AND vm.id = mine.request_vm_id AND vm.rounds = mine.round AND NOT EXISTS (
    SELECT FROM eviction AS other
    WHERE other.request_vm_id = vm.id AND other.round = mine.round AND other.evicting_at IS NOT NULL)"""
#: The round of a VM's newest eviction counts for its request.
ROUND_COUNTS = f"""
UPDATE vm SET rounds = mine.round FROM eviction AS mine
WHERE mine.id = {_NEWEST} AND vm.id = mine.request_vm_id AND vm.rounds < mine.round"""

# ---------------------------------------------------------------- request_classes

#: The requests with these conditions that have a reservation, or that wait for their decision after the cloud refused
#: them in spite of their evictions.
TRIED_BY = """
SELECT vm.id FROM reservation JOIN vm ON vm.id = reservation.vm_id
WHERE released_at IS NULL AND vm.boot -> 'conditions' = %(conditions)s::jsonb
UNION SELECT id FROM vm
WHERE state = 'pending' AND (refusal ->> 'rounds')::int > 0 AND boot -> 'conditions' = %(conditions)s::jsonb"""
#: Requests without conditions to which the cloud said a short while ago that no host has capacity for them. (Where
#: other servers decide on the hosts, the refusal says nothing about capacity.)
REFUSED = """
SELECT room, (refusal ->> 'at')::timestamptz FROM vm
WHERE (state = 'pending' OR state = 'failed' AND ended_at > %(since)s) AND refusal ->> 'error' = 'no_capacity'
    AND coalesce(boot -> 'conditions', '[]') = '[]'
    AND NOT coalesce(boot -> 'options', '{}') ?| array['server_group', 'same_host', 'different_host']
ORDER BY 2 DESC LIMIT 1000"""

# ---------------------------------------------------------------- outbox

#: The newest removed `seq` and the events after `since`, as one view; one row also when there is no event. By the feed
#: for each notification: this takes most of the time from a commit to the sockets.
TAIL = """
SELECT removed_seq, rest.* FROM watermark LEFT JOIN (
    SELECT seq, type, state, subject, time, data FROM event WHERE seq > %(since)s ORDER BY seq LIMIT %(limit)s
) AS rest ON true ORDER BY seq"""
#: The next events of some kinds. The next of one kind are neighbours in the index event_kind_seq: for each kind the
#: index is read from there on. (By `type = ... ORDER BY seq` PostgreSQL would walk along the primary key, through all
#: other events where a kind is rare.)
OF_KINDS = """
SELECT seq, type, state, subject, time, data FROM event WHERE seq = ANY(ARRAY(
    SELECT next.seq FROM unnest(%(types)s::text[], %(preemptible)s::bool[]) AS kind (type, preemptible),
        LATERAL (SELECT type, is_preemptible, seq FROM event
                 WHERE (type, is_preemptible, seq) > (kind.type, kind.preemptible, %(since)s::bigint)
                 ORDER BY type, is_preemptible, seq LIMIT %(limit)s) AS next
    WHERE next.type = kind.type AND next.is_preemptible = kind.preemptible
    ORDER BY next.seq LIMIT %(limit)s)) ORDER BY seq"""
#: The next events of one VM: `subject` is the cloud's id once there is one, `vm_id` is ours; each has an index.
OF_VM = """
SELECT seq FROM ((SELECT seq FROM event WHERE subject = %(vm)s AND seq > %(since)s ORDER BY seq LIMIT %(limit)s)
                 UNION (SELECT seq FROM event WHERE vm_id = %(vm)s AND seq > %(since)s ORDER BY seq LIMIT %(limit)s)
                ) AS found
ORDER BY seq LIMIT %(limit)s"""
#: Remove the oldest events and move the watermark: one statement, and so one transaction. The replica that locks the
#: watermark's row removes; others skip their turn.
REMOVE_EVENTS = """
WITH turn AS (SELECT FROM watermark WHERE id = 1 FOR UPDATE SKIP LOCKED),
    old AS (SELECT max(seq) AS seq FROM (
        SELECT seq FROM event
        WHERE time < clock_timestamp() - make_interval(secs => %(seconds)s) AND EXISTS (SELECT FROM turn)
        ORDER BY time LIMIT %(limit)s) AS batch),
    moved AS (UPDATE watermark SET removed_seq = greatest(removed_seq, old.seq) FROM old
              WHERE id = 1 AND old.seq IS NOT NULL)
DELETE FROM event WHERE seq <= (SELECT seq FROM old)"""
#: Seconds since the oldest event was written.
OLDEST_AGE = "SELECT extract(epoch FROM clock_timestamp() - time)::float8 FROM event ORDER BY seq LIMIT 1"
#: Remove all events and raise `seq` by a leap. By `adopt --restored`.
RESTART_HISTORY = """
UPDATE watermark SET removed_seq = greatest(removed_seq, coalesce((SELECT max(seq) FROM event), 0)) + %(leap)s;
DELETE FROM event"""

# ---------------------------------------------------------------- deliveries: the callers hold the endpoints' rows

#: Write deliveries; one that exists stays as it is. Blocked is what follows a pending event of the same VM.
SPREAD = """
INSERT INTO delivery (webhook_id, seq, vm_id, status, blocked, attempts, step, next_at, urgent_until, created_at)
SELECT new.hook, new.seq, new.vm_id, 'pending',
    new.seq > min(new.seq) OVER (PARTITION BY new.hook, new.vm_id) OR EXISTS (
        SELECT FROM delivery AS earlier WHERE earlier.webhook_id = new.hook AND earlier.vm_id = new.vm_id
            AND earlier.status = 'pending' AND earlier.seq < new.seq),
    0, 0, %(now)s, new.urgent_until, %(now)s
FROM unnest(%(webhooks)s::text[], %(seqs)s::bigint[], %(vms)s::text[], %(urgent)s::timestamptz[])
    AS new (hook, seq, vm_id, urgent_until)
ON CONFLICT (webhook_id, seq) DO NOTHING"""
#: What is pending before an urgent event of the same VM is as urgent: the notice cannot be sent before it.
HASTEN = """
UPDATE delivery SET urgent_until = greatest(delivery.urgent_until, new.urgent_until), next_at = least(next_at, %(now)s)
FROM unnest(%(webhooks)s::text[], %(seqs)s::bigint[], %(vms)s::text[], %(urgent)s::timestamptz[])
    AS new (hook, seq, vm_id, urgent_until)
WHERE webhook_id = new.hook AND delivery.vm_id = new.vm_id AND status = 'pending' AND delivery.seq < new.seq
    AND new.urgent_until > %(now)s"""
#: Have deliveries that have ended made again, in their order.
REPLAY = """
UPDATE delivery SET status = 'pending', attempts = 0, step = 0, next_at = %(now)s, done_at = NULL, last_code = NULL,
                    last_error = NULL
WHERE webhook_id = %(webhook)s AND seq = ANY(%(seqs)s::bigint[]) AND status <> 'pending'"""
#: Find anew which deliveries of an endpoint are the first of their VM.
ORDER = """
UPDATE delivery SET blocked = ranked.place > 1 FROM (
    SELECT id, row_number() OVER (PARTITION BY vm_id ORDER BY seq) AS place FROM delivery
    WHERE webhook_id = %(webhook)s AND status = 'pending') AS ranked
WHERE delivery.id = ranked.id AND blocked <> (ranked.place > 1)"""
#: Lock the endpoints that have something to send; those that another replica holds have their turn later.
READY = """
SELECT id, url, secret, CASE WHEN old_secret_until > %(now)s THEN old_secret END, failures FROM webhook
WHERE off_at IS NULL AND verified_at IS NOT NULL AND (not_before IS NULL OR not_before <= %(now)s) AND EXISTS (
    SELECT FROM delivery WHERE webhook_id = webhook.id AND status = 'pending' AND NOT blocked AND next_at <= %(now)s)
ORDER BY id FOR UPDATE SKIP LOCKED"""
#: Claim what is due of these endpoints: notices first, then the longest due; as much as each endpoint may have in
#: flight, and of what was tried before a part of that.
CLAIM_DELIVERIES = """
WITH ready AS (SELECT * FROM unnest(%(webhooks)s::text[], %(slots)s::int[], %(again)s::int[]) AS of (id, slots, again)),
    busy AS (SELECT webhook_id, count(*) AS total, count(*) FILTER (WHERE attempts > 1) AS again FROM delivery
             WHERE lease_owner IS NOT NULL AND lease_until >= %(now)s GROUP BY webhook_id),
    chosen AS (
        SELECT due.id FROM ready LEFT JOIN busy ON webhook_id = ready.id, LATERAL (
            SELECT id FROM (
                SELECT id, urgent_until, next_at, seq, attempts > 0 AND row_number() OVER (
                    PARTITION BY attempts > 0 ORDER BY coalesce(urgent_until > %(now)s, false) DESC, next_at, seq
                ) > ready.again - coalesce(busy.again, 0) AS too_many
                FROM delivery
                WHERE delivery.webhook_id = ready.id AND status = 'pending' AND NOT blocked AND next_at <= %(now)s
            ) AS waiting
            WHERE NOT too_many
            ORDER BY coalesce(urgent_until > %(now)s, false) DESC, next_at, seq
            LIMIT greatest(0, ready.slots - coalesce(busy.total, 0))) AS due
        LIMIT %(limit)s)
UPDATE delivery SET lease_owner = %(owner)s, lease_until = %(now)s + make_interval(secs => %(lease)s),
                    next_at = %(now)s + make_interval(secs => %(lease)s), attempts = attempts + 1
FROM chosen WHERE delivery.id = chosen.id
RETURNING delivery.id, webhook_id, seq, vm_id, attempts"""
#: Record deliveries that were made; one that another replica has taken over stays.
DELIVERED = """
UPDATE delivery SET status = 'done', done_at = %(now)s, last_code = code, last_error = NULL, lease_owner = NULL,
                    lease_until = NULL
FROM unnest(%(ids)s::bigint[], %(codes)s::int[]) AS made (made_id, code)
WHERE id = made_id AND lease_owner = %(owner)s AND status = 'pending'
RETURNING id, vm_id"""
#: The next event of each of these VMs may be sent.
UNBLOCK = """
UPDATE delivery SET blocked = false FROM (
    SELECT DISTINCT ON (webhook_id, vm_id) id FROM delivery
    JOIN unnest(%(webhooks)s::text[], %(vms)s::text[]) AS of (hook, vm) ON webhook_id = hook AND vm_id = vm
    WHERE status = 'pending' ORDER BY webhook_id, vm_id, seq) AS first
WHERE delivery.id = first.id AND blocked"""
#: Seconds until the next delivery that may be sent is due. (While one is under way its `next_at` is the end of the
#: lease.)
NEXT_DELIVERY = """
SELECT extract(epoch FROM min(greatest(due.next_at, not_before)) - clock_timestamp())::float8 FROM webhook, LATERAL (
    SELECT next_at FROM delivery WHERE webhook_id = webhook.id AND status = 'pending' AND NOT blocked
    ORDER BY next_at LIMIT 1) AS due
WHERE off_at IS NULL AND verified_at IS NOT NULL"""

# ---------------------------------------------------------------- retention

#: Remove requests that ended some time ago and never became a VM, with their Idempotency-Keys, as one statement. A
#: request that VMs were evicted for is part of their record and stays. A lineage goes with the last of its VMs.
REMOVE_REQUESTS = """
WITH gone AS (
    DELETE FROM vm WHERE id IN (
        SELECT id FROM vm
        WHERE launched_at IS NULL AND ended_at < clock_timestamp() - make_interval(secs => %(seconds)s)
            AND NOT EXISTS (SELECT FROM eviction WHERE request_vm_id = vm.id)
            AND NOT EXISTS (SELECT FROM intent WHERE vm_id = vm.id AND done_at IS NULL)
        ORDER BY ended_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING id, lineage_id),
keys AS (DELETE FROM idempotency WHERE vm_id IN (SELECT id FROM gone)),
lineages AS (
    DELETE FROM lineage WHERE id IN (SELECT lineage_id FROM gone) AND port_id IS NULL AND NOT EXISTS (
        SELECT FROM vm WHERE lineage_id = lineage.id AND id NOT IN (SELECT id FROM gone)))
SELECT count(*) FROM gone"""
#: Remove user data from rows that no boot needs any more, as an older release left them. The VM of an open lineage may
#: be started again.
CLEAR_USER_DATA = f"""
UPDATE vm SET boot = jsonb_set(boot, '{{user_data}}', 'null') #- '{{asked,user_data}}' WHERE id IN (
    SELECT id FROM vm WHERE boot ->> 'user_data' IS NOT NULL
        AND state NOT IN ({", ".join(sorted(repr(str(state)) for state in BOOTABLE))})
        AND NOT (state IN ({", ".join(sorted(repr(str(state)) for state in RESTARTABLE))}) AND EXISTS (
            SELECT FROM lineage WHERE id = vm.lineage_id AND ended_at IS NULL AND on_eviction = 'restart'))
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"""

# ---------------------------------------------------------------- usage

#: Now, and when this deployment was first started, as seconds since 1970.
SPAN = """
SELECT extract(epoch FROM clock_timestamp())::float8,
       extract(epoch FROM (SELECT min(created_at) FROM deployment))::float8"""
_HELD = """
SELECT GREATEST(0, floor((extract(epoch FROM {moment}) - %(first)s) / %(step)s))::int AS slot, is_preemptible,
       sum((quota ->> 'cores')::int)::int
FROM vm
WHERE launched_at IS NOT NULL AND (ended_at IS NULL OR ended_at >= to_timestamp(%(first)s)) AND {moment} IS NOT NULL
GROUP BY 1, 2"""
#: By slot: how many vCPUs VMs began to hold, and how many they gave up. A VM that was launched before the first slot
#: and ended in it or later counts as launched in the first slot.
BEGUN, ENDED = _HELD.format(moment="launched_at"), _HELD.format(moment="ended_at")
#: By owner: the vCPU-seconds that VMs held within the last `seconds`.
SHARES = """
SELECT coalesce(principal_id, principal), sum((quota ->> 'cores')::int * greatest(0, extract(epoch FROM
    least(coalesce(ended_at, %(now)s), %(now)s) - greatest(launched_at, %(now)s - make_interval(secs => %(seconds)s))
)))::float8
FROM vm WHERE launched_at IS NOT NULL
    AND (ended_at IS NULL OR ended_at > %(now)s - make_interval(secs => %(seconds)s)) GROUP BY 1"""
#: How many VMs were evicted, by slot.
EVICTED = """
SELECT floor((extract(epoch FROM evicting_at) - %(first)s) / %(step)s)::int AS slot, count(*)::int
FROM eviction WHERE evicting_at >= to_timestamp(%(first)s) GROUP BY 1"""

#: The newest preemptible VMs of a flavor that started since a moment: how many seconds each has lived, whether it was
#: evicted for capacity (also where its owner deleted it during its notice: it would have been), and how long its
#: request waited until it ran (null: a successor of a lineage, for which nobody waited).
LIVES = """
SELECT greatest(0, extract(epoch FROM coalesce(evicting_at, ended_at, clock_timestamp()) - launched_at))::float8,
       evicted.vm_id IS NOT NULL,
       CASE WHEN restart_of IS NULL THEN greatest(0, extract(epoch FROM launched_at - created_at))::float8 END
FROM vm LEFT JOIN LATERAL (
    SELECT vm_id, max(evicting_at) AS evicting_at FROM eviction
    WHERE vm_id = vm.id AND reason = 'capacity' AND NOT simulated AND reprieved_at IS NULL AND vm.ended_at IS NOT NULL
    GROUP BY vm_id) AS evicted ON true
WHERE is_preemptible AND flavor = %(flavor)s AND launched_at >= to_timestamp(%(since)s)
ORDER BY launched_at DESC LIMIT %(limit)s"""

# ---------------------------------------------------------------- preflight and schema: the catalogs of PostgreSQL

#: Version, encoding, role and rights of the connection, in the order of `preflight._OF_SERVER`.
SERVER = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
       current_setting('server_encoding'), current_setting('session_replication_role'), current_user,
       current_schema(), clock_timestamp(), coalesce(has_schema_privilege(current_schema(), 'CREATE'),
       false), pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"""
#: The schema that has the history of migrations, or else the first of `search_path`.
LOCATE = """
SELECT coalesce((SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                 WHERE pg_class.oid = to_regclass(%(history)s)), current_schema()),
       current_setting('search_path'), current_database()"""
#: The session that holds an advisory lock of ours.
HOLDER = """
SELECT pg_stat_activity.pid, application_name, coalesce(host(client_addr), 'this machine') FROM pg_locks
JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = %(space)s AND objid = %(lock)s LIMIT 1"""
#: The schema by its oid: a cast to regnamespace would not take every name.
_HERE = "(SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
#: Table, column, type, NOT NULL, whether it is filled in by itself.
COLUMNS = f"""
SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, atthasdef OR attidentity <> ''
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = {_HERE} AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped"""
#: Table, unique, partial, columns in their order.
INDEXES = f"""
SELECT owner.relname, indisunique, indpred IS NOT NULL,
       array(SELECT attname FROM unnest(indkey) WITH ORDINALITY AS key (number, place)
             JOIN pg_attribute ON attrelid = indrelid AND attnum = number ORDER BY place)::text[]
FROM pg_index JOIN pg_class owner ON owner.oid = indrelid
WHERE owner.relnamespace = {_HERE} AND indisvalid"""
#: Table and name of the triggers that run.
TRIGGERS = f"""
SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = {_HERE} AND tgenabled IN ('O', 'A')"""
#: Tables that the user may not read and write.
WITHOUT_RIGHTS = f"""
SELECT relname FROM pg_class WHERE relnamespace = {_HERE} AND relkind IN ('r', 'p')
AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
         AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))"""
