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
