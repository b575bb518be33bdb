-- +goose Up
-- Who does not want a subscription's messages, whatever rule names them.
CREATE TABLE opt_outs (
    tenant       TEXT   NOT NULL,
    subscription TEXT   NOT NULL,
    who          TEXT   NOT NULL, -- a principal, or a bare normalised address
    since        BIGINT NOT NULL,
    PRIMARY KEY (tenant, subscription, who)
) WITHOUT ROWID;
CREATE INDEX opt_outs_by_who ON opt_outs (tenant, who, subscription);
