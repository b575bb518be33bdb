package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/belfryhq/belfry/internal/belfry"
)

// ErrFenced says that this node was declared dead, and what it had is in other
// hands: nothing of the call was stored.
var ErrFenced error = belfry.Errorf(belfry.Conflict, "this node was taken for dead: others work on what it had")

// fencedCode is the SQLSTATE of belfry_fence.
const fencedCode = "BF001"

// fenceSpace is the first of the two numbers of a node's advisory lock, as
// belfry_fence has it ("befr" in ASCII).
const fenceSpace = 1650812518

// burySpace is the first number of the lock that one who buries a node holds.
const burySpace = fenceSpace + 1

// dbClock is the database's clock in microseconds: the only one leases know.
const dbClock = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

// Clustered reports whether other processes may work with the same database.
func (db *DB) Clustered() bool { return db.pg }

// FenceAs makes doors 2 and 3 and the door of connectors work only while the
// node is not declared dead: after that they answer ErrFenced. "" ends it.
func (db *DB) FenceAs(node string) { db.fence.Store(&node) }

func (db *DB) fenceID() string {
	if id := db.fence.Load(); id != nil {
		return *id
	}
	return ""
}

// transact runs f in a transaction of its own, past the doors: for what a few
// times a minute concerns nodes.
func (db *DB) transact(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fault(err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // the first error says what happened
		return fault(err)
	}
	return fault(tx.Commit())
}

// unhurried, in a FROM list, lets the statement's transaction commit without
// waiting for the disk. A crash of the server may take back what the last moments
// (three times wal_writer_delay, by default 0.6 s) brought: a node looks as if it
// had renewed its lease a third of it earlier, and is dead at the earliest when it
// begins no more sends; one that had just joined joins anew.
const unhurried = "(SELECT set_config('synchronous_commit', 'off', true) AS now) AS unhurried"

// JoinNode makes a process known as alive for the length of a lease.
func (db *DB) JoinNode(ctx context.Context, n belfry.Node, lease time.Duration) error {
	if err := clean(n.ID, n.Name, n.Address, n.Version); err != nil {
		return err
	}
	_, err := db.write.ExecContext(ctx, "INSERT INTO nodes (id, name, address, roles, version, started_at, until_at) SELECT $1, $2, $3, $4, $5, "+dbClock+", "+dbClock+" + $6 FROM "+unhurried+" WHERE now = 'off'",
		n.ID, n.Name, n.Address, strings.Join(n.Roles, ","), n.Version, lease.Microseconds())
	return fault(err)
}

// RenewNode prolongs a node's lease, counted from now. ErrFenced means that it
// was declared dead.
//
// It is one statement that commits by itself: in a transaction, a node that is cut
// off in the middle would hold its own row, and could not be buried. And it does
// not wait for the disk: where that is so busy that a commit takes as long as a
// lease, nodes would be dead for all anybody can see.
func (db *DB) RenewNode(ctx context.Context, id string, lease time.Duration) error {
	res, err := db.write.ExecContext(ctx, "UPDATE nodes SET until_at = "+dbClock+" + $2 FROM "+unhurried+" WHERE id = $1 AND now = 'off'", id, lease.Microseconds())
	if err != nil {
		return fault(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return fault(err)
	}
	return ErrFenced
}

// Nodes reads which processes work with the database, and who has what.
func (db *DB) Nodes(ctx context.Context) (table belfry.NodeTable, err error) {
	if !db.pg {
		return table, nil
	}
	var clock int64
	if err := db.write.QueryRowContext(ctx, "SELECT "+dbClock).Scan(&clock); err != nil {
		return table, fault(err)
	}
	table.Clock = fromMicros(clock)
	return table, fault(db.readNodes(ctx, &table))
}

// readNodes reads nodes and leases, which may have changed since the clock was
// read: a lease that was prolonged meanwhile is alive by that clock, too.
func (db *DB) readNodes(ctx context.Context, table *belfry.NodeTable) error {
	rows, err := db.write.QueryContext(ctx, "SELECT id, name, address, roles, version, started_at, until_at FROM nodes ORDER BY id")
	err = each(rows, err, func(rows *sql.Rows) error {
		var n belfry.Node
		var roles string
		var started, until int64
		if err := rows.Scan(&n.ID, &n.Name, &n.Address, &roles, &n.Version, &started, &until); err != nil {
			return err
		}
		if roles != "" {
			n.Roles = strings.Split(roles, ",")
		}
		n.Started, n.Until = fromMicros(started), fromMicros(until)
		table.Nodes = append(table.Nodes, n)
		return nil
	})
	if err != nil {
		return err
	}
	rows, err = db.write.QueryContext(ctx, "SELECT kind, shard, owner, epoch FROM leases ORDER BY kind, shard")
	return each(rows, err, func(rows *sql.Rows) error {
		var l belfry.Lease
		if err := rows.Scan(&l.Kind, &l.Shard, &l.Owner, &l.Epoch); err != nil {
			return err
		}
		table.Leases = append(table.Leases, l)
		return nil
	})
}

// BuryNode declares a node dead whose lease has ended, and frees what it had.
// It waits a little for what the node is committing at this moment, and then
// ends that: a keeper with a short lease has little time. What the node begins
// later fails. False when the node is alive after all, was buried before or is
// being buried by somebody else: who buries is not taken for the dead one.
func (db *DB) BuryNode(ctx context.Context, id string) (buried bool, err error) {
	if buried, err = db.bury(ctx, id); !lockTimeout(err) {
		return buried, fault(err)
	}
	// It hangs in mid-transaction, its connection open: the connection is ended.
	_, err = db.write.ExecContext(ctx, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND classid::bigint = $1 AND objid::bigint = hashtext($2)::bigint & 4294967295`, fenceSpace, id)
	if err != nil {
		return false, fault(err)
	}
	buried, err = db.bury(ctx, id)
	return buried, fault(err)
}

func (db *DB) bury(ctx context.Context, id string) (buried bool, err error) {
	err = db.transact(ctx, func(tx *sql.Tx) error {
		// Whoever is halted while burying holds the others up no longer than that.
		var mine bool
		var limit string
		err := tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1, hashtext($2)), set_config('idle_in_transaction_session_timeout', '2s', true)", burySpace, id).Scan(&mine, &limit)
		if err != nil || !mine {
			return err
		}
		if _, err := tx.ExecContext(ctx, "SELECT set_config('lock_timeout', '200ms', true), pg_advisory_xact_lock($1, hashtext($2))", fenceSpace, id); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "DELETE FROM nodes WHERE id = $1 AND until_at < "+dbClock, id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		buried = true
		return freeLeases(ctx, tx, id)
	})
	return buried && err == nil, err
}

// lockTimeout reports whether a lock was waited for in vain.
func lockTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
}

// LeaveNode ends a node in order: what it had is free at once.
func (db *DB) LeaveNode(ctx context.Context, id string) error {
	return db.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", fenceSpace, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM nodes WHERE id = $1", id); err != nil {
			return err
		}
		return freeLeases(ctx, tx, id)
	})
}

func freeLeases(ctx context.Context, tx *sql.Tx, id string) error {
	_, err := tx.ExecContext(ctx, "UPDATE leases SET owner = '', epoch = epoch + 1 WHERE owner = $1", id)
	return err
}

// ClaimShards takes those of the shards that nobody has, and says which.
func (db *DB) ClaimShards(ctx context.Context, id, kind string, shards []int) (claimed []int, err error) {
	err = db.transact(ctx, func(tx *sql.Tx) error {
		claimed = nil
		// The fence keeps a node that was declared dead from taking anything.
		if _, err := tx.ExecContext(ctx, "SELECT belfry_fence($1)", id); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `UPDATE leases SET owner = $1, epoch = epoch + 1 WHERE kind = $2 AND owner = ''
			AND shard IN (SELECT shard FROM leases WHERE kind = $2 AND shard = ANY($3) ORDER BY shard FOR UPDATE SKIP LOCKED) RETURNING shard`, id, kind, shards)
		return each(rows, err, func(rows *sql.Rows) error {
			var n int
			err := rows.Scan(&n)
			claimed = append(claimed, n)
			return err
		})
	})
	slices.Sort(claimed)
	return claimed, err
}

// ReleaseShards gives back shards that the node has stopped working on.
func (db *DB) ReleaseShards(ctx context.Context, id, kind string, shards []int) error {
	_, err := db.write.ExecContext(ctx, "UPDATE leases SET owner = '', epoch = epoch + 1 WHERE kind = $2 AND shard = ANY($3) AND owner = $1", id, kind, shards)
	return fault(err)
}
