package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// InboxMark says what is changed on inbox rows; nil parts stay.
type InboxMark struct {
	Read     *bool
	Archived *bool
	Snooze   *time.Time // hidden until then; the zero time shows it again
}

// MarkInbox marks rows of a person's inbox, all of them when ids is empty, and
// returns how many were changed by it. Rows of other people are not touched
// whatever ids says.
func (db *DB) MarkInbox(ctx context.Context, tenant, principal string, ids []string, set InboxMark) (n int, err error) {
	if err := clean(ids...); err != nil {
		return 0, err
	}
	if err := clean(tenant, principal); err != nil {
		return 0, err
	}
	err = db.doors.inbox.do(ctx, &job{weight: 1 + len(ids), data: func(s *session) error {
		n, err = s.mark(tenant, principal, ids, set)
		return err
	}})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// mark updates once a part, so that a time that is set stays the first one,
// and counts the rows touched by any part.
func (s *session) mark(tenant, principal string, ids []string, set InboxMark) (int, error) {
	now := micros(s.db.now())
	touched := map[string]bool{}
	update := func(column, condition string, value int64) error {
		text := "UPDATE inbox SET " + column + " = $3 WHERE tenant = $1 AND principal = $2 AND " + condition
		scan := func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			touched[id] = true
			return err
		}
		if len(ids) == 0 {
			return s.query(scan, text+" RETURNING id", tenant, principal, value)
		}
		return queryIn(s, scan, text+" AND id IN_LIST RETURNING id", ids, tenant, principal, value)
	}
	if set.Read != nil {
		if err := flag(update, "read_at", *set.Read, now); err != nil {
			return 0, err
		}
	}
	if set.Archived != nil {
		if err := flag(update, "archived_at", *set.Archived, now); err != nil {
			return 0, err
		}
	}
	if set.Snooze != nil {
		if err := update("snoozed_until", "snoozed_until <> $3", micros(*set.Snooze)); err != nil {
			return 0, err
		}
	}
	return len(touched), nil
}

func flag(update func(column, condition string, value int64) error, column string, on bool, now int64) error {
	if on {
		return update(column, column+" = 0", now)
	}
	return update(column, column+" <> 0", 0)
}

// InboxFilter chooses rows of an inbox.
type InboxFilter struct {
	Before   string // a row's id: only older ones; empty = from the newest
	Limit    int    // 0 = 50
	Unread   bool   // only unread ones
	Archived bool   // the archived ones instead of the others
}

// InboxRow is an inbox entry as it is stored; title and text are rendered from
// its event.
type InboxRow struct {
	ID           string
	EventID      string
	Principal    string
	Subscription string
	Locale       string
	Template     string
	Because      []belfry.Reason
	Read         bool
	Archived     bool
	SnoozedUntil time.Time // zero = not snoozed
}

// Inbox lists a person's inbox, newest first, without what is snoozed now. It
// also gives the number of unread rows (neither archived nor snoozed), and
// where the next page begins, empty at the end.
func (db *DB) Inbox(ctx context.Context, tenant, principal string, f InboxFilter) (list []InboxRow, unread int, next string, err error) {
	limit := orDefault(f.Limit, 50)
	now := micros(db.now())
	before := f.Before
	if before == "" {
		before = "~" // after every id
	}
	condition := "archived_at = 0 AND snoozed_until <= $4"
	if f.Archived {
		condition = "archived_at <> 0 AND CAST($4 AS BIGINT) > 0"
	}
	if f.Unread {
		condition += " AND read_at = 0"
	}
	var ids []string
	err = db.query(ctx, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}, "SELECT id FROM inbox WHERE tenant = $1 AND principal = $2 AND id < $3 AND "+condition+" ORDER BY id DESC LIMIT $5",
		tenant, principal, before, now, limit+1)
	if err != nil {
		return nil, 0, "", err
	}
	if len(ids) > limit {
		ids = ids[:limit]
		next = ids[limit-1]
	}
	byID := make(map[string]InboxRow, len(ids))
	err = queryRead(ctx, db, func(rows *sql.Rows) error {
		r, err := scanInbox(rows)
		byID[r.ID] = r
		return err
	}, "SELECT "+inboxCols+" FROM inbox WHERE tenant = $1 AND id IN_LIST", ids, tenant)
	if err != nil {
		return nil, 0, "", err
	}
	for _, id := range ids {
		if r, ok := byID[id]; ok {
			list = append(list, r)
		}
	}
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&unread) },
		"SELECT count(*) FROM inbox WHERE tenant = $1 AND principal = $2 AND read_at = 0 AND archived_at = 0 AND snoozed_until <= $3", tenant, principal, now)
	return list, unread, next, err
}

var inboxCols = "id, event_id, principal, subscription, locale, template, " + becauseOf("inbox") + ", read_at, archived_at, snoozed_until"

func scanInbox(rows *sql.Rows) (r InboxRow, err error) {
	var because string
	var read, archived, snoozed int64
	if err := rows.Scan(&r.ID, &r.EventID, &r.Principal, &r.Subscription, &r.Locale, &r.Template, &because, &read, &archived, &snoozed); err != nil {
		return r, err
	}
	r.Read, r.Archived, r.SnoozedUntil = read != 0, archived != 0, fromMicros(snoozed)
	r.Because, err = readReasons(because, "")
	return r, err
}
