-- Several processes on one PostgreSQL. These two tables belong to no tenant:
-- they are small, and stay on one machine when tenants are spread over many.
-- SQLite, which one process has alone, keeps them empty.

-- +goose Up

-- A process at work. It is alive until until_at by the database's clock, and
-- its row is gone once others may take over what it had.
CREATE TABLE nodes (
    id         TEXT   NOT NULL, -- drawn at each start
    name       TEXT   NOT NULL, -- the host's, for people
    address    TEXT   NOT NULL,
    roles      TEXT   NOT NULL, -- with commas between
    version    TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    until_at   BIGINT NOT NULL,
    PRIMARY KEY (id)
) WITHOUT ROWID;

-- Which node works on which shard; '' = none. The epoch counts changes of hand.
DROP TABLE leases;
CREATE TABLE leases (
    kind  TEXT   NOT NULL, -- plan | delivery | source
    shard BIGINT NOT NULL,
    owner TEXT   NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (kind, shard)
) WITHOUT ROWID;
-- postgres: INSERT INTO leases (kind, shard, owner, epoch) SELECT k, s, '', 0 FROM unnest(ARRAY['plan', 'delivery', 'source']) AS k, generate_series(0, 255) AS s;

-- The fence: a transaction that begins with it commits before its node is
-- declared dead, or fails. Whoever declares it dead takes the same lock alone.
-- The row is looked for by a statement of its own, whose snapshot is younger
-- than the lock.
-- postgres: CREATE FUNCTION belfry_fence(node text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1650812518, hashtext(node)); IF NOT EXISTS (SELECT 1 FROM nodes WHERE id = node) THEN RAISE EXCEPTION 'node % is not at work any more', node USING ERRCODE = 'BF001'; END IF; END $$;
