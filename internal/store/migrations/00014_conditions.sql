-- +goose Up

-- Events that count for conditions of subscriptions, in the order in which they
-- happened. Rows go once they are out of reach of what may still come.
CREATE TABLE observations (
    tenant       TEXT   NOT NULL,
    subscription TEXT   NOT NULL,
    grp          TEXT   NOT NULL,
    at           BIGINT NOT NULL,
    event_id     TEXT   NOT NULL,
    PRIMARY KEY (tenant, subscription, grp, at, event_id)
) WITHOUT ROWID;

-- Where the condition of a subscription stands in each group. The group '' is
-- there as soon as the subscription is saved.
CREATE TABLE condition_groups (
    tenant       TEXT   NOT NULL,
    subscription TEXT   NOT NULL,
    grp          TEXT   NOT NULL,
    shard        BIGINT NOT NULL, -- plan shard of who looks at it
    born         BIGINT NOT NULL,
    low          BIGINT NOT NULL, -- the earliest observation nobody has looked at; the greatest number = none
    due          BIGINT NOT NULL, -- when it is to be looked at; 0 = when something comes
    as_of        BIGINT NOT NULL, -- with what is known from this version on
    mark         BIGINT NOT NULL, -- counts observations and edits
    version      BIGINT NOT NULL, -- counts looks
    state        BLOB   NOT NULL, -- condition.State; '' = new
    PRIMARY KEY (tenant, subscription, grp)
) WITHOUT ROWID;
CREATE INDEX condition_groups_due ON condition_groups (tenant, due) WHERE due > 0;
-- postgres: ALTER TABLE condition_groups SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- Events that raised a problem nobody has resolved yet.
CREATE TABLE problems (
    tenant   TEXT NOT NULL,
    problem  BLOB NOT NULL, -- of source and problem: see dedupeKey
    event_id TEXT NOT NULL,
    PRIMARY KEY (tenant, problem, event_id)
) WITHOUT ROWID;
CREATE INDEX problems_by_event ON problems (tenant, event_id); -- the old ones go first

-- When a problem was last resolved: what it raised before then, and comes
-- later, is told to nobody.
CREATE TABLE resolutions (
    tenant   TEXT   NOT NULL,
    problem  BLOB   NOT NULL,
    at       BIGINT NOT NULL,
    event_id TEXT   NOT NULL, -- that resolved it
    PRIMARY KEY (tenant, problem)
) WITHOUT ROWID;
CREATE INDEX resolutions_by_event ON resolutions (tenant, event_id);

-- Who wants to hear nothing more of a problem until it is resolved, or when it
-- is. An event without a problem is one of its own.
CREATE TABLE follows (
    tenant   TEXT   NOT NULL,
    who      TEXT   NOT NULL, -- a user
    event_id TEXT   NOT NULL, -- by which she knows of it
    problem  BLOB   NOT NULL,
    muted    BIGINT NOT NULL,
    told     BIGINT NOT NULL, -- when it is resolved
    at       BIGINT NOT NULL,
    PRIMARY KEY (tenant, who, event_id)
) WITHOUT ROWID;
CREATE INDEX follows_by_problem ON follows (tenant, problem, who);
