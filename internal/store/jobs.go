package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

const jobCols = "id, kind, state, params, cursor, done, total, result, error, who, run, created, updated, ended, epoch"

func scanJob(rows *sql.Rows, tenant string) (j belfry.Job, err error) {
	j.Tenant = tenant
	var created, updated, ended int64
	err = rows.Scan(&j.ID, &j.Kind, &j.State, &j.Params, &j.Cursor, &j.Done, &j.Total, &j.Result, &j.Error, &j.Who, &j.Run, &created, &updated, &ended, &j.Epoch)
	j.Created, j.Updated, j.Ended = fromMicros(created), fromMicros(updated), fromMicros(ended)
	return j, err
}

// JobFilter chooses jobs of a list.
type JobFilter struct {
	State  *belfry.JobState
	Kind   string
	Before string // a job's id: only older ones; empty = from the newest
	Limit  int    // 0 = 50
}

// Jobs lists jobs, newest first. next is where to go on, empty at the end.
func (db *DB) Jobs(ctx context.Context, tenant string, f JobFilter) (list []belfry.Job, next string, err error) {
	w := window{table: "jobs", cols: jobCols, prefix: belfry.JobPrefix, before: f.Before, limit: orDefault(f.Limit, 50)}
	if f.Kind != "" {
		w.filters = append(w.filters, equals("kind", f.Kind))
	}
	if f.State != nil {
		w.filters = append(w.filters, filter{"state = ?", int64(*f.State)})
	}
	next, err = w.run(ctx, db, tenant, func(rows *sql.Rows) (string, error) {
		j, err := scanJob(rows, tenant)
		list = append(list, j)
		return j.ID, err
	})
	return list, next, err
}

// Job reads one job, false when there is none.
func (db *DB) Job(ctx context.Context, tenant, id string) (j belfry.Job, ok bool, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		ok = true
		j, err = scanJob(rows, tenant)
		return err
	}, "SELECT "+jobCols+" FROM jobs WHERE tenant = $1 AND id = $2", tenant, id)
	return j, ok, err
}

// openJobs bounds how many jobs one look offers.
const openJobs = 100

// OpenJobs lists jobs with work left that nobody held a moment ago, of all
// tenants, the oldest first: those ClaimJob may give.
func (db *DB) OpenJobs(ctx context.Context) (list []belfry.Job, err error) {
	now, err := db.clock(ctx)
	if err != nil {
		return nil, err
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		var j belfry.Job
		err := rows.Scan(&j.Tenant, &j.ID, &j.Kind)
		list = append(list, j)
		return err
	}, "SELECT tenant, id, kind FROM jobs WHERE state < 2 AND until_at <= $1 ORDER BY id LIMIT $2", now, openJobs)
	return list, err
}

// clock is the time leases are measured by: the database's, where several
// processes share one.
func (db *DB) clock(ctx context.Context) (now int64, err error) {
	if !db.pg {
		return micros(db.now()), nil
	}
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&now) }, "SELECT "+dbClock)
	return now, err
}

// clock is DB.clock within a transaction.
func (s *session) clock() (now int64, err error) {
	if !s.db.pg {
		return micros(s.db.now()), nil
	}
	err = s.query(func(rows *sql.Rows) error { return rows.Scan(&now) }, "SELECT "+dbClock)
	return now, err
}

// ClaimJob takes a job up for some time, false when somebody else holds it or
// nothing is left to do. Whoever held it before can record nothing any more.
func (db *DB) ClaimJob(ctx context.Context, tenant, id, owner string, lease time.Duration) (j belfry.Job, ok bool, err error) {
	err = db.doors.life.do(ctx, &job{weight: 1, data: func(s *session) error {
		ok = false
		now, err := s.clock()
		if err != nil {
			return err
		}
		n, err := s.exec(`UPDATE jobs SET state = 1, owner = $3, epoch = epoch + 1, until_at = $4 WHERE tenant = $1 AND id = $2 AND state < 2 AND until_at <= $5`,
			tenant, id, owner, now+lease.Microseconds(), now)
		if err != nil || n == 0 {
			return err
		}
		ok = true
		return s.query(func(rows *sql.Rows) error {
			j, err = scanJob(rows, tenant)
			return err
		}, "SELECT "+jobCols+" FROM jobs WHERE tenant = $1 AND id = $2", tenant, id)
	}})
	return j, ok, err
}

// RenewJob keeps a job for some time more, false when it is lost or cancelled.
// Without time it gives the job back, for anybody to take up at once.
func (db *DB) RenewJob(ctx context.Context, j *belfry.Job, lease time.Duration) (ok bool, err error) {
	err = db.doors.life.do(ctx, &job{weight: 1, data: func(s *session) error {
		until := int64(0)
		if lease > 0 {
			now, err := s.clock()
			if err != nil {
				return err
			}
			until = now + lease.Microseconds()
		}
		n, err := s.exec("UPDATE jobs SET until_at = $4 WHERE tenant = $1 AND id = $2 AND epoch = $3 AND state = 1", j.Tenant, j.ID, j.Epoch, until)
		ok = n > 0
		return err
	}})
	return ok, err
}

// StepJob records what a step did, false when the job was lost, cancelled, or
// moved on meanwhile: then nothing is recorded.
func (db *DB) StepJob(ctx context.Context, j *belfry.Job, step belfry.JobStep) (ok bool, err error) {
	err = db.doors.life.do(ctx, &job{weight: 1, data: func(s *session) error {
		ok, err = s.stepJob(j, &step)
		return err
	}})
	return ok, err
}

// stepJob is StepJob within a transaction: together with the step's own
// writes, so that a step is made once whatever happens.
func (s *session) stepJob(j *belfry.Job, step *belfry.JobStep) (bool, error) {
	if err := clean(step.Cursor, step.Error); err != nil {
		return false, err
	}
	now, ended := micros(s.db.now()), int64(0)
	if !step.State.Open() {
		ended = now
	}
	n, err := s.exec(`UPDATE jobs SET cursor = $5, done = $6, total = $7, result = $8, state = $9, error = $10, updated = $11, ended = $12
		WHERE tenant = $1 AND id = $2 AND epoch = $3 AND cursor = $4 AND state = 1`,
		j.Tenant, j.ID, j.Epoch, j.Cursor, step.Cursor, step.Done, step.Total, blobOf(step.Result), int64(step.State), step.Error, now, ended)
	return n > 0, err
}

func blobOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

var insertJob = insert("jobs", `tenant:t id:t kind:t state:n params:b cursor:t done:n total:n result:b error:t who:t run:n created:n updated:n ended:n
	owner:t epoch:n until_at:n`, "ON CONFLICT DO NOTHING")

// jobs stores jobs that an edit orders.
func (e *edit) jobs() error {
	if len(e.ch.Jobs) == 0 {
		return nil
	}
	rows := e.rows(insertJob)
	for i := range e.ch.Jobs {
		j := &e.ch.Jobs[i]
		rows.text(e.tenant).text(j.ID).text(j.Kind).num(int64(belfry.JobWaiting)).blob(j.Params).text("").num(0).num(0).blob(nil).text("").text(j.Who).
			num(e.version).num(micros(j.Created)).num(micros(j.Created)).num(0).text("").num(0).num(0)
		e.note(belfry.KindJob, j.ID)
	}
	if _, err := rows.flush(); err != nil {
		return err
	}
	open := 0
	if err := e.query(func(r *sql.Rows) error { return r.Scan(&open) },
		"SELECT count(*) FROM jobs WHERE tenant = $1 AND state < 2", e.tenant); err != nil {
		return err
	}
	if open > belfry.MaxOpenJobs {
		return belfry.Errorf(belfry.Conflict, "%d jobs are waiting or at work already: wait until some are done, or cancel some", open-len(e.ch.Jobs))
	}
	return nil
}

// cancelJobs ends jobs; what they did stays done.
func (e *edit) cancelJobs() error {
	for _, c := range e.ch.CancelJobs {
		n, err := e.exec("UPDATE jobs SET state = 4, error = $3, updated = $4, ended = $4 WHERE tenant = $1 AND id = $2 AND state < 2",
			e.tenant, c.ID, c.Because.Detail, micros(e.db.now()))
		if err != nil {
			return err
		}
		if n == 0 {
			return belfry.Errorf(belfry.Conflict, "the job %s is over: there is nothing left to cancel", c.ID)
		}
		e.note(belfry.KindJob, c.ID)
	}
	return nil
}

// PruneJobs forgets jobs of a tenant that ended before a time, a bounded
// number at once, and says how many.
func (db *DB) PruneJobs(ctx context.Context, tenant string, before time.Time) (n int, err error) {
	err = db.doors.life.do(ctx, &job{weight: 1, data: func(s *session) error {
		gone, err := s.exec(`DELETE FROM jobs WHERE tenant = $1 AND id IN (SELECT id FROM jobs WHERE tenant = $1 AND id < $2 AND state >= 2 AND ended < $3 ORDER BY id LIMIT 500)`,
			tenant, belfry.MinID(belfry.JobPrefix, before), micros(before))
		n = int(gone)
		return err
	}})
	return n, err
}
