-- +goose Up
-- Deliveries of one line to a destination are sent one after the other, in the
-- order of their ids; 0 = in no line. The index costs only those that are.
ALTER TABLE deliveries ADD COLUMN line BIGINT NOT NULL DEFAULT 0;
CREATE INDEX deliveries_in_line ON deliveries (tenant, destination, line, id) WHERE state < 3 AND line <> 0;
-- What is urgent is found although much else waits for its destination.
CREATE INDEX deliveries_urgent_for ON deliveries (tenant, destination, due, id) WHERE state < 3 AND priority > 0 AND line = 0;
