-- +goose Up
-- Digests. An item stands in one bundle and is written once; how it ended is
-- what the bundle's message says, unless it was left out before.
DROP TABLE bundles;
CREATE TABLE bundles (
    tenant      TEXT   NOT NULL,
    id          TEXT   NOT NULL, -- bnd_...
    slot        TEXT   NOT NULL, -- of person or address, channel and key: see slotOf
    principal   TEXT   NOT NULL,
    channel     TEXT   NOT NULL,
    address     TEXT   NOT NULL,
    destination TEXT   NOT NULL,
    shard       BIGINT NOT NULL,
    bundle_key  TEXT   NOT NULL,
    frequency   TEXT   NOT NULL, -- belfry.Frequency
    held        BIGINT NOT NULL, -- by quiet hours only
    counts      BIGINT NOT NULL, -- when it goes decides when the next one does
    locale      TEXT   NOT NULL,
    due         BIGINT NOT NULL,
    state       BIGINT NOT NULL, -- belfry.BundleState
    opened      BIGINT NOT NULL,
    sealed      BIGINT NOT NULL,
    ended       BIGINT NOT NULL,
    oldest      TEXT   NOT NULL, -- id of the oldest item: what it needs is kept
    message     TEXT   NOT NULL, -- the delivery it became
    because     TEXT   NOT NULL, -- belfry.Reason, why it is over
    PRIMARY KEY (tenant, id)
);
-- One is open for each slot.
CREATE UNIQUE INDEX bundles_open ON bundles (tenant, slot) WHERE state = 0;
CREATE INDEX bundles_due ON bundles (tenant, due, id) WHERE state = 0;
CREATE INDEX bundles_needed ON bundles (tenant, oldest) WHERE state < 2;
CREATE INDEX bundles_by_destination ON bundles (tenant, destination, id) WHERE destination <> '';

CREATE TABLE bundle_items (
    tenant       TEXT   NOT NULL,
    bundle       TEXT   NOT NULL,
    id           TEXT   NOT NULL, -- dlv_..., begins with the event's accept time
    event_id     TEXT   NOT NULL,
    run          BIGINT NOT NULL,
    subscription TEXT   NOT NULL,
    template     TEXT   NOT NULL,
    state        BIGINT NOT NULL, -- belfry.State: 0, or how it ended before the message did
    because      TEXT   NOT NULL, -- array of belfry.Reason
    ended        TEXT   NOT NULL, -- belfry.Reason
    PRIMARY KEY (tenant, bundle, id)
) WITHOUT ROWID;
-- An item is in one bundle only, ever.
CREATE UNIQUE INDEX bundle_items_by_id ON bundle_items (tenant, id);

-- When the last message of a slot went, where that decides when the next one does.
CREATE TABLE bundle_lasts (
    tenant TEXT   NOT NULL,
    slot   TEXT   NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (tenant, slot)
) WITHOUT ROWID;
