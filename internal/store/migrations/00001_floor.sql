-- The floor of the house. One text for both engines: see migrate.go for the
-- words that differ on PostgreSQL (TEXT, BLOB, WITHOUT ROWID) and for the
-- lines that are for it alone.
--
-- Every key begins with the tenant. Times are microseconds since 1970 (UTC),
-- 0 = none. Flags are 0 or 1. JSON is kept as text or bytes and never looked
-- into by a WHERE.
--
-- WITHOUT ROWID (SQLite) is for tables of short rows and for those written in
-- the order of their key. The others keep their long rows in the order they
-- come and their keys in an index beside them: a key's place is random, and in
-- a tree of long rows each touches a page or more of its own.

-- +goose Up

-- The number of the last edit of each tenant; events are bound to it (as_of).
CREATE TABLE versions (
    tenant  TEXT   NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (tenant)
) WITHOUT ROWID;

-- What each edit touched; snapshots and caches follow it.
CREATE TABLE changes (
    tenant  TEXT   NOT NULL,
    version BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    item    TEXT   NOT NULL,
    PRIMARY KEY (tenant, version, kind, item)
) WITHOUT ROWID;

-- ---------------------------------------------------------------- directory

CREATE TABLE objects (
    tenant  TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    parent  TEXT   NOT NULL, -- '' = the root
    deleted BIGINT NOT NULL, -- when it was tombstoned
    version BIGINT NOT NULL,
    body    BLOB   NOT NULL, -- belfry.Object
    PRIMARY KEY (tenant, id)
);
CREATE INDEX objects_by_parent ON objects (tenant, parent, id);

CREATE TABLE users (
    tenant      TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    profile     BLOB   NOT NULL, -- belfry.User with its contacts
    settings    BLOB   NOT NULL, -- belfry.Settings
    preferences BLOB   NOT NULL, -- array of belfry.Preference
    PRIMARY KEY (tenant, id)
);

-- Normalised e-mail addresses of living users, to recognise a bare address.
CREATE TABLE user_emails (
    tenant  TEXT NOT NULL,
    email   TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (tenant, email, user_id)
) WITHOUT ROWID;

CREATE TABLE groups (
    tenant  TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    version BIGINT NOT NULL,
    name    TEXT   NOT NULL,
    address TEXT   NOT NULL,
    origin  TEXT   NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

CREATE TABLE group_members (
    tenant    TEXT NOT NULL,
    group_id  TEXT NOT NULL,
    principal TEXT NOT NULL,
    origin    TEXT NOT NULL,
    PRIMARY KEY (tenant, group_id, principal, origin)
) WITHOUT ROWID;

CREATE TABLE grants (
    tenant    TEXT   NOT NULL,
    object    TEXT   NOT NULL,
    origin    TEXT   NOT NULL,
    principal TEXT   NOT NULL,
    role      TEXT   NOT NULL,
    seq       BIGINT NOT NULL, -- one origin may grant a role twice, with other validities
    from_at   BIGINT NOT NULL,
    until_at  BIGINT NOT NULL,
    inactive  TEXT   NOT NULL,
    PRIMARY KEY (tenant, object, origin, principal, role, seq)
) WITHOUT ROWID;

CREATE TABLE history (
    tenant     TEXT   NOT NULL,
    object     TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    id         TEXT   NOT NULL, -- of the event, or made from the edit's version
    document   TEXT   NOT NULL,
    transition TEXT   NOT NULL,
    actor      TEXT   NOT NULL,
    comment    TEXT   NOT NULL,
    variables  BLOB   NOT NULL,
    PRIMARY KEY (tenant, object, at, id)
);

-- ------------------------------------------------- subscriptions, documents

CREATE TABLE subscriptions (
    tenant  TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    state   TEXT   NOT NULL,
    version BIGINT NOT NULL,
    body    BLOB   NOT NULL, -- belfry.Subscription
    PRIMARY KEY (tenant, id)
);

CREATE TABLE members (
    tenant       TEXT   NOT NULL,
    subscription TEXT   NOT NULL,
    principal    TEXT   NOT NULL,
    object       TEXT   NOT NULL, -- joined at; '' = the whole scope
    channels     TEXT   NOT NULL, -- JSON array; '' = own choice
    since        BIGINT NOT NULL,
    PRIMARY KEY (tenant, subscription, principal, object)
) WITHOUT ROWID;
CREATE INDEX members_by_principal ON members (tenant, principal, subscription, object);

CREATE TABLE documents (
    tenant  TEXT   NOT NULL,
    kind    TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    version BIGINT NOT NULL,
    body    BLOB   NOT NULL,
    PRIMARY KEY (tenant, kind, id)
);

-- -------------------------------------------------------------- door 1

CREATE TABLE events (
    tenant TEXT   NOT NULL,
    id     TEXT   NOT NULL, -- begins with the accept time
    at     BIGINT NOT NULL,
    as_of  BIGINT NOT NULL,
    type   TEXT   NOT NULL,
    object TEXT   NOT NULL,
    body   BLOB   NOT NULL, -- belfry.Event
    PRIMARY KEY (tenant, id)
);

CREATE TABLE dedupe (
    tenant   TEXT NOT NULL,
    identity BLOB NOT NULL, -- of source and id: see dedupeKey
    event_id TEXT NOT NULL,
    PRIMARY KEY (tenant, identity)
) WITHOUT ROWID;

-- -------------------------------------------------------------- door 2

-- Plans not yet complete: the last page deletes the row.
CREATE TABLE plans (
    tenant   TEXT   NOT NULL,
    event_id TEXT   NOT NULL,
    run      BIGINT NOT NULL,
    shard    BIGINT NOT NULL,
    cursor   TEXT   NOT NULL,
    PRIMARY KEY (tenant, event_id, run)
) WITHOUT ROWID;

-- Rows come and go by the thousand a second: sweep often.
-- postgres: ALTER TABLE plans SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE plan_matches (
    tenant   TEXT   NOT NULL,
    event_id TEXT   NOT NULL,
    run      BIGINT NOT NULL,
    matches  TEXT   NOT NULL, -- array of belfry.MatchNote
    PRIMARY KEY (tenant, event_id, run)
) WITHOUT ROWID;

CREATE TABLE deliveries (
    tenant       TEXT   NOT NULL,
    id           TEXT   NOT NULL, -- begins with the event's accept time
    event_id     TEXT   NOT NULL,
    run          BIGINT NOT NULL,
    subscription TEXT   NOT NULL,
    channel      TEXT   NOT NULL,
    principal    TEXT   NOT NULL,
    address      TEXT   NOT NULL,
    destination  TEXT   NOT NULL,
    shard        BIGINT NOT NULL,
    state        BIGINT NOT NULL, -- belfry.State; open ones are below 3
    due          BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    bundle       TEXT   NOT NULL,
    priority     BIGINT NOT NULL,
    locale       TEXT   NOT NULL,
    template     TEXT   NOT NULL,
    because      TEXT   NOT NULL, -- array of belfry.Reason
    ended        TEXT   NOT NULL, -- belfry.Reason of a final state no send decided
    PRIMARY KEY (tenant, id)
);
CREATE INDEX deliveries_due ON deliveries (tenant, due, id) WHERE state < 3;
CREATE INDEX deliveries_due_for ON deliveries (tenant, destination, due, id) WHERE state < 3;
CREATE INDEX deliveries_by_person ON deliveries (tenant, principal, id) WHERE principal <> '';

-- postgres: ALTER TABLE deliveries SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE suppressions (
    tenant    TEXT   NOT NULL,
    event_id  TEXT   NOT NULL,
    run       BIGINT NOT NULL,
    principal TEXT   NOT NULL,
    address   TEXT   NOT NULL,
    channel   TEXT   NOT NULL,
    because   TEXT   NOT NULL,
    PRIMARY KEY (tenant, event_id, run, principal, address, channel)
) WITHOUT ROWID;

-- The inbox row is the delivery. Its id is that of run 0 whatever run wrote
-- it, so a person has one row an event.
CREATE TABLE inbox (
    tenant        TEXT   NOT NULL,
    id            TEXT   NOT NULL,
    event_id      TEXT   NOT NULL,
    principal     TEXT   NOT NULL,
    subscription  TEXT   NOT NULL,
    locale        TEXT   NOT NULL,
    template      TEXT   NOT NULL,
    because       TEXT   NOT NULL,
    read_at       BIGINT NOT NULL,
    archived_at   BIGINT NOT NULL,
    snoozed_until BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
-- Covers counting and paging, so that only the rows shown are looked up.
CREATE INDEX inbox_by_person ON inbox (tenant, principal, id, read_at, archived_at, snoozed_until);

-- -------------------------------------------------------------- door 3

CREATE TABLE attempts (
    tenant      TEXT   NOT NULL,
    delivery_id TEXT   NOT NULL,
    n           BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    took        BIGINT NOT NULL, -- microseconds
    kind        BIGINT NOT NULL, -- belfry.OutcomeKind
    status      BIGINT NOT NULL,
    wait        BIGINT NOT NULL, -- microseconds the destination asked for
    throttled   BIGINT NOT NULL,
    state       BIGINT NOT NULL, -- of the delivery afterwards
    due         BIGINT NOT NULL,
    detail      TEXT   NOT NULL,
    because     TEXT   NOT NULL,
    PRIMARY KEY (tenant, delivery_id, n)
) WITHOUT ROWID;

-- -------------------------------------------------------------- door 4

CREATE TABLE bundles (
    tenant     TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    principal  TEXT   NOT NULL,
    channel    TEXT   NOT NULL,
    bundle_key TEXT   NOT NULL,
    due        BIGINT NOT NULL,
    state      BIGINT NOT NULL, -- 0 open, 1 sealed, 2 sent
    message_id TEXT   NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- ------------------------------------------------------------ the rest

CREATE TABLE source_cursors (
    tenant TEXT   NOT NULL,
    source TEXT   NOT NULL,
    cursor BLOB   NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (tenant, source)
) WITHOUT ROWID;

-- Who owns which shard, where several processes share a database.
CREATE TABLE leases (
    kind     TEXT   NOT NULL, -- plan | delivery | source
    shard    BIGINT NOT NULL,
    owner    TEXT   NOT NULL,
    epoch    BIGINT NOT NULL,
    until_at BIGINT NOT NULL,
    PRIMARY KEY (kind, shard)
) WITHOUT ROWID;

CREATE TABLE audit (
    tenant TEXT   NOT NULL,
    id     TEXT   NOT NULL,
    at     BIGINT NOT NULL,
    who    TEXT   NOT NULL,
    action TEXT   NOT NULL,
    target TEXT   NOT NULL,
    detail TEXT   NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
