-- What keeps the tables from growing for ever.

-- +goose Up

-- How far each piece of housekeeping has come; tenant * = of the whole server.
CREATE TABLE upkeep (
    tenant TEXT   NOT NULL,
    task   TEXT   NOT NULL,
    place  TEXT   NOT NULL, -- where it goes on
    at     BIGINT NOT NULL, -- when it was last done, or last begun anew
    PRIMARY KEY (tenant, task)
) WITHOUT ROWID;

-- On PostgreSQL the tables that grow with every event become ranges of ids, so
-- of time. Nothing is copied or read: the table there is becomes the one
-- partition, from the first id to the last, which needs no check, and brings
-- its indexes along. Cutting it is done while the server works: see
-- partitions.go. The DO block takes whatever indexes the tables have.
-- postgres begin
-- postgres: DO $belfry$
-- postgres: DECLARE
-- postgres:     names CONSTANT text[] := ARRAY['events', 'deliveries', 'attempts', 'suppressions', 'plan_matches', 'inbox'];
-- postgres:     keys  CONSTANT text[] := ARRAY['id', 'id', 'delivery_id', 'event_id', 'event_id', 'id'];
-- postgres:     t text;
-- postgres:     i record;
-- postgres: BEGIN
-- postgres:     FOR n IN 1 .. array_length(names, 1) LOOP
-- postgres:         t := names[n];
-- postgres:         EXECUTE format('ALTER TABLE %I RENAME TO %I', t, t || '_first');
-- postgres:         EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (%I)', t, t || '_first', keys[n]);
-- postgres:         FOR i IN SELECT c.relname AS name, x.indisprimary AS main, pg_get_indexdef(c.oid) AS def, pg_get_constraintdef(k.oid) AS con
-- postgres:             FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype = 'p'
-- postgres:             WHERE x.indrelid = to_regclass(quote_ident(t || '_first')) LOOP
-- postgres:             EXECUTE format('ALTER INDEX %I RENAME TO %I', i.name, i.name || '_first');
-- postgres:             IF i.main THEN
-- postgres:                 EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I %s', t, i.name, i.con);
-- postgres:             ELSE
-- postgres:                 EXECUTE regexp_replace(i.def, ' ON .* USING ', format(' ON %I USING ', t));
-- postgres:             END IF;
-- postgres:         END LOOP;
-- postgres:         EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (MAXVALUE)', t, t || '_first');
-- postgres:     END LOOP;
-- postgres: END
-- postgres: $belfry$;
-- postgres end
