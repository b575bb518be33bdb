-- +goose Up

-- How far a look is that goes through all digests that gather, and with which it
-- ends: whoever goes on with it begins there.
ALTER TABLE bundle_looks ADD COLUMN gone_to TEXT NOT NULL DEFAULT '';
ALTER TABLE bundle_looks ADD COLUMN until TEXT NOT NULL DEFAULT '';

-- PostgreSQL takes an index of some rows for empty when there were none as it
-- last analysed the table, as it does when all digests had just gone out. So that
-- it does not find the open one of a slot by reading all that are open, no other
-- index answers to what this one is of.
-- postgres: DROP INDEX bundles_open;
-- postgres: CREATE UNIQUE INDEX bundles_open ON bundles (tenant, slot) WHERE -state = 0;
