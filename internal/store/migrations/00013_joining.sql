-- +goose Up
-- Messages about joining that are to be sent, or wait to be answered: belfry.Ask.
CREATE TABLE asks (
    tenant       TEXT   NOT NULL,
    who          TEXT   NOT NULL, -- a principal, or a bare normalised address
    subscription TEXT   NOT NULL,
    object       TEXT   NOT NULL,
    kind         BIGINT NOT NULL, -- belfry.AskKind
    id           TEXT   NOT NULL,
    by_whom      TEXT   NOT NULL,
    asked        BIGINT NOT NULL,
    due          BIGINT NOT NULL, -- 0 = it was sent
    until_at     BIGINT NOT NULL,
    PRIMARY KEY (tenant, who, subscription, object, kind)
) WITHOUT ROWID;
CREATE INDEX asks_due ON asks (tenant, due) WHERE due > 0; -- few, in all tenants together
CREATE INDEX asks_of_subscription ON asks (tenant, subscription, who);
CREATE INDEX asks_over ON asks (tenant, until_at);

-- How much was asked for by one caller, for one recipient, or in all.
CREATE TABLE ask_counts (
    tenant TEXT   NOT NULL,
    who    TEXT   NOT NULL,
    span   BIGINT NOT NULL, -- of the window, in microseconds
    starts BIGINT NOT NULL,
    used   BIGINT NOT NULL,
    PRIMARY KEY (tenant, who, span)
) WITHOUT ROWID;
CREATE INDEX ask_counts_over ON ask_counts (tenant, starts);
