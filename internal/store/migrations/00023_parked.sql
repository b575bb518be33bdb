-- +goose Up

-- Only what the sender has put behind a destination's mark is looked for by its
-- destination. Most deliveries are sent from memory and never are: for them the
-- index is written neither when they are planned nor when they end. What is in a
-- line is always in it, and so is all that was open before.
ALTER TABLE deliveries ADD COLUMN parked BIGINT NOT NULL DEFAULT 1;
DROP INDEX deliveries_due_for;
CREATE INDEX deliveries_due_for ON deliveries (tenant, destination, due, id) WHERE state < 3 AND parked = 1;
