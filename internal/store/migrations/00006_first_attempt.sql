-- +goose Up

-- The first attempt, when it was the last one needed: see firstAttempt. Most
-- deliveries need no more, and so have no row in attempts.
ALTER TABLE deliveries ADD COLUMN sent TEXT NOT NULL DEFAULT '';
