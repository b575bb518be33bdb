-- +goose Up
-- Who has said that they have taken notice of an event.
CREATE TABLE acknowledgements (
    tenant   TEXT   NOT NULL,
    event_id TEXT   NOT NULL,
    who      TEXT   NOT NULL, -- a principal, or a bare normalised address
    at       BIGINT NOT NULL,
    how      TEXT   NOT NULL, -- link | inbox | api
    PRIMARY KEY (tenant, event_id, who)
) WITHOUT ROWID;

-- What is to be done at a time: the next step of an escalation, a reminder.
CREATE TABLE timers (
    tenant TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    id     TEXT   NOT NULL,
    shard  BIGINT NOT NULL, -- of planning: its owner acts
    due    BIGINT NOT NULL,
    body   BLOB   NOT NULL,
    PRIMARY KEY (tenant, kind, id)
) WITHOUT ROWID;
CREATE INDEX timers_due ON timers (tenant, due);

-- What people were granted of something that is limited: see store/quotas.go.
CREATE TABLE quotas (
    tenant    TEXT   NOT NULL,
    principal TEXT   NOT NULL,
    name      TEXT   NOT NULL,
    until_at  BIGINT NOT NULL, -- when the last grant ends
    grants    TEXT   NOT NULL, -- JSON
    PRIMARY KEY (tenant, principal, name)
) WITHOUT ROWID;
