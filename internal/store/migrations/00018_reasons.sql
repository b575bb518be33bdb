-- +goose Up
-- Long lists of reasons, once for all rows of an event that have them: those
-- say = and the id instead.
CREATE TABLE reasons (
    tenant   TEXT NOT NULL,
    event_id TEXT NOT NULL,
    id       TEXT NOT NULL, -- = and a hash of the list
    because  TEXT NOT NULL, -- array of belfry.Reason, packed
    PRIMARY KEY (tenant, event_id, id)
); -- with rowids: SQLite reads a key whole, so long texts do not belong in one
