package store

import (
	"context"
	"database/sql"
)

// checkpointRows is about how many rows are committed on SQLite between two
// checkpoints beside the writer: some megabytes of its log.
const checkpointRows = 6144

// A checkpointer copies what SQLite's log holds into the database file while
// the writer goes on. The writer does it too when its log has become long, in
// the middle of somebody's commit; then all that is left to copy is what came
// while this one last did, and nobody waits long.
type checkpointer struct {
	conn  *sql.DB
	rows  int // since the last signal; of the writer's goroutine
	wake  chan struct{}
	since chan struct{} // one token after each checkpoint, for tests
}

func newCheckpointer(path string) (*checkpointer, error) {
	conn, err := sql.Open("sqlite", dsn(path, "synchronous(FULL)", "wal_autocheckpoint(0)", "cache_size(-200)"))
	if err != nil {
		return nil, err
	}
	conn.SetMaxOpenConns(1)
	return &checkpointer{conn: conn, wake: make(chan struct{}, 1), since: make(chan struct{}, 1)}, nil
}

// wrote notes rows that were committed; nil on PostgreSQL.
func (c *checkpointer) wrote(rows int) {
	if c == nil {
		return
	}
	if c.rows += rows; c.rows < checkpointRows {
		return
	}
	c.rows = 0
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run works until stop is closed.
func (c *checkpointer) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-c.wake:
		}
		// A failure costs nothing but this: what is wrong with the disk the
		// next commit says.
		_, _ = c.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
		select {
		case c.since <- struct{}{}:
		default:
		}
	}
}
