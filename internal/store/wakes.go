package store

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/belfryhq/belfry/internal/belfry"
)

// wakeChannel is where nodes tell each other that there is something to look
// for. What is said there may be lost; the tables are the truth.
const wakeChannel = "belfry"

// Tell passes a few words (8,000 bytes at most) to all who Listen. The commit
// of a notification takes a lock that all notifying commits share, which is why
// it is a transaction of its own, and does not wait for the disk.
func (db *DB) Tell(ctx context.Context, words string) error {
	_, err := db.tell.ExecContext(ctx, "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)", wakeChannel, words)
	return fault(err)
}

// Listen calls hear for what others tell, until ctx ends or the connection is
// lost; what was told before it called ready, or is told after it returned,
// goes unheard.
func (db *DB) Listen(ctx context.Context, ready func(), hear func(words string)) error {
	conn, err := db.tell.Conn(ctx)
	if err != nil {
		return fault(err)
	}
	defer drop(conn)
	err = conn.Raw(func(dc any) error {
		c := dc.(*stdlib.Conn).Conn()
		if _, err := c.Exec(ctx, "LISTEN "+pgx.Identifier{wakeChannel}.Sanitize()); err != nil {
			return err
		}
		ready()
		for {
			n, err := c.WaitForNotification(ctx)
			if err != nil {
				return err
			}
			hear(n.Payload)
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	if err == driver.ErrBadConn {
		return belfry.Errorf(belfry.Unavailable, "the connection that listens for other nodes is lost")
	}
	return fault(err)
}

// Clock is how far the database's clock is ahead of ours, to within half of the
// time it took to ask.
func (db *DB) Clock(ctx context.Context) (ahead, within time.Duration, err error) {
	if !db.pg {
		return 0, 0, nil
	}
	var micros int64
	asked := db.now()
	if err := db.read.QueryRowContext(ctx, "SELECT "+dbClock).Scan(&micros); err != nil {
		return 0, 0, fault(err)
	}
	within = db.now().Sub(asked) / 2
	return fromMicros(micros).Sub(asked.Add(within)), within, nil
}
