package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// takePermits is one statement, so that no two who ask at once are given the
// same. In it "starts BETWEEN $4 AND $7" says that the row's window counts; a row
// that is further ahead is begun anew.
const takePermits = `INSERT INTO permits (tenant, channel, span, starts, used, got) VALUES ($1, $2, $3, $4, $5, $5)
	ON CONFLICT (tenant, channel, span) DO UPDATE SET
		got = CASE WHEN permits.starts BETWEEN $4 AND $7 AND $6 - permits.used < $5
			THEN CASE WHEN $6 > permits.used THEN $6 - permits.used ELSE 0 END ELSE $5 END,
		used = CASE WHEN permits.starts BETWEEN $4 AND $7
			THEN CASE WHEN $6 - permits.used >= $5 THEN permits.used + $5 WHEN $6 > permits.used THEN $6 ELSE permits.used END ELSE $5 END,
		starts = CASE WHEN permits.starts BETWEEN $4 AND $7 THEN permits.starts ELSE $4 END
	RETURNING got`

// TakePermits takes up to want sends of an account out of its limit for the
// window of a length that begins at start: fewer, or none, when the limit has
// no more. One whose clock is a little behind shares the window that others
// are in already.
func (db *DB) TakePermits(ctx context.Context, tenant, channel string, start time.Time, span time.Duration, limit, want int) (int, error) {
	if err := clean(tenant, channel); err != nil {
		return 0, err
	}
	if limit <= 0 || want <= 0 {
		return 0, belfry.Errorf(belfry.Invalid, "a limit and what is taken of it must be above 0")
	}
	want = min(want, limit)
	answer := new(int) // whoever stops waiting does not read it
	err := db.doors.life.do(ctx, &job{weight: 1, data: func(s *session) error {
		return s.query(func(rows *sql.Rows) error { return rows.Scan(answer) }, takePermits,
			tenant, channel, span.Microseconds(), micros(start), want, limit, micros(start.Add(max(span, belfry.PermitsAhead))))
	}})
	if err != nil {
		return 0, err
	}
	return *answer, nil
}

// ReturnPermits gives back n that were taken for a window and not used. When the
// window is over there is nothing to give back.
func (db *DB) ReturnPermits(ctx context.Context, tenant, channel string, start time.Time, span time.Duration, n int) error {
	return db.doors.life.do(ctx, &job{weight: 1, data: func(s *session) error {
		_, err := s.exec("UPDATE permits SET used = CASE WHEN used > $5 THEN used - $5 ELSE 0 END WHERE tenant = $1 AND channel = $2 AND span = $3 AND starts = $4",
			tenant, channel, span.Microseconds(), micros(start), n)
		return err
	}})
}

// Permits lists what was last taken of a tenant's accounts and shares.
func (db *DB) Permits(ctx context.Context, tenant string) (taken []belfry.Permits, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var p belfry.Permits
		var span, start int64
		if err := rows.Scan(&p.Channel, &span, &start, &p.Used); err != nil {
			return err
		}
		p.Span, p.Start = time.Duration(span)*time.Microsecond, fromMicros(start)
		taken = append(taken, p)
		return nil
	}, "SELECT channel, span, starts, used FROM permits WHERE tenant = $1 ORDER BY channel, span", tenant)
	return taken, err
}
