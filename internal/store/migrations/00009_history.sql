-- +goose Up
-- The history of a document over all its placements.
CREATE INDEX history_by_document ON history (tenant, document, at, id) WHERE document <> '';

-- How subscriptions are looked up at an object, and who is told there.
ALTER TABLE objects ADD COLUMN settings BLOB NOT NULL DEFAULT ''; -- belfry.ObjectSettings; '' = none

-- Events that say which act of the platform they belong to: a repeat of a type
-- on an object, and a child under its parent, are told once an act.
CREATE TABLE commits (
    tenant   TEXT NOT NULL,
    act      BLOB NOT NULL, -- of source and commit: see dedupeKey
    type     TEXT NOT NULL,
    object   TEXT NOT NULL,
    event_id TEXT NOT NULL,
    PRIMARY KEY (tenant, act, type, object, event_id)
) WITHOUT ROWID;
CREATE INDEX commits_by_event ON commits (tenant, event_id); -- the old ones go first
