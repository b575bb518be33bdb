-- +goose Up

-- At which object a subscription is, for what asks by it: '' = everywhere.
ALTER TABLE subscriptions ADD COLUMN scope TEXT NOT NULL DEFAULT '';
UPDATE subscriptions SET scope = COALESCE(json_extract(CAST(body AS TEXT), '$.scope.object'), ''); -- sqlite
-- postgres: UPDATE subscriptions SET scope = COALESCE(convert_from(body, 'UTF8')::json -> 'scope' ->> 'object', '');
CREATE INDEX subscriptions_at ON subscriptions (tenant, scope, id) WHERE scope <> '' AND state <> 'ended';

-- What was deleted, by when.
CREATE INDEX objects_gone ON objects (tenant, deleted, id) WHERE deleted > 0;
