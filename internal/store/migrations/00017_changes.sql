-- +goose Up

-- What a condition that asks for a change looks at; of others it is empty.
ALTER TABLE observations ADD COLUMN value TEXT NOT NULL DEFAULT '';
