-- +goose Up

-- What is used of the limits of provider accounts: a row for each account and
-- length of window, that moves on from window to window. got is what the last
-- one to ask was given.
CREATE TABLE permits (
    tenant  TEXT   NOT NULL, -- "*": the account is the server's
    channel TEXT   NOT NULL,
    span    BIGINT NOT NULL, -- of the window, in microseconds
    starts  BIGINT NOT NULL,
    used    BIGINT NOT NULL,
    got     BIGINT NOT NULL,
    PRIMARY KEY (tenant, channel, span)
) WITHOUT ROWID;
