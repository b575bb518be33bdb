-- +goose Up
-- What is to be decided anew of digests that gather: something changed that
-- decides how and when they are told. Whoever has the shard does it.
CREATE TABLE bundle_looks (
    tenant  TEXT   NOT NULL,
    what    TEXT   NOT NULL, -- belfry.LookPerson and so on
    item    TEXT   NOT NULL,
    shard   BIGINT NOT NULL, -- of deliveries
    version BIGINT NOT NULL, -- of the last change
    PRIMARY KEY (tenant, what, item)
) WITHOUT ROWID;
