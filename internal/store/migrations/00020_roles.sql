-- +goose Up

-- Roles that were ever given to somebody: whoever names another in a rule is
-- told so when it is saved. Kept beside the grants, since an index of those by
-- role would be as large as they are. A role is never taken off.
CREATE TABLE roles (
    tenant TEXT NOT NULL,
    role   TEXT NOT NULL,
    PRIMARY KEY (tenant, role)
) WITHOUT ROWID;

INSERT INTO roles (tenant, role) SELECT DISTINCT tenant, role FROM grants;
