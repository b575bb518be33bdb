-- +goose Up
-- Long work that somebody ordered. owner, epoch and until_at are its lease.
CREATE TABLE jobs (
    tenant   TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    state    BIGINT NOT NULL, -- belfry.JobState; open ones are below 2
    params   BLOB   NOT NULL,
    cursor   TEXT   NOT NULL,
    done     BIGINT NOT NULL,
    total    BIGINT NOT NULL,
    result   BLOB   NOT NULL,
    error    TEXT   NOT NULL,
    who      TEXT   NOT NULL,
    run      BIGINT NOT NULL,
    created  BIGINT NOT NULL,
    updated  BIGINT NOT NULL,
    ended    BIGINT NOT NULL,
    owner    TEXT   NOT NULL,
    epoch    BIGINT NOT NULL,
    until_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX jobs_open ON jobs (tenant, id) WHERE state < 2;

-- What a run of planning may do that somebody ordered: belfry.Replay.
ALTER TABLE plans ADD COLUMN terms TEXT NOT NULL DEFAULT '';

-- Attempts before the last retry by hand: the schedule counts from there.
ALTER TABLE deliveries ADD COLUMN base BIGINT NOT NULL DEFAULT 0;

-- Dead letters are few among many; open ones have indexes of their own.
CREATE INDEX deliveries_ended ON deliveries (tenant, state, id) WHERE state > 3;

-- Endpoints that have only failed since.
CREATE TABLE failing (
    tenant   TEXT   NOT NULL,
    endpoint TEXT   NOT NULL,
    since    BIGINT NOT NULL,
    last     BIGINT NOT NULL,
    detail   TEXT   NOT NULL,
    PRIMARY KEY (tenant, endpoint)
) WITHOUT ROWID;
