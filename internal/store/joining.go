package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

const askCols = "tenant, who, subscription, object, kind, id, by_whom, asked, due, until_at"

func scanAsk(rows *sql.Rows) (a belfry.Ask, err error) {
	var asked, due, until int64
	err = rows.Scan(&a.Tenant, &a.Who, &a.Subscription, &a.Object, &a.Kind, &a.ID, &a.By, &asked, &due, &until)
	a.Asked, a.Due, a.Until = fromMicros(asked), fromMicros(due), fromMicros(until)
	return a, err
}

var putAsk = insert("asks", "tenant:t who:t subscription:t object:t kind:n id:t by_whom:t asked:n due:n until_at:n",
	`ON CONFLICT (tenant, who, subscription, object, kind) DO UPDATE SET id = excluded.id, by_whom = excluded.by_whom,
		asked = excluded.asked, due = excluded.due, until_at = excluded.until_at`)

func (r *rows) ask(tenant string, a *belfry.Ask) {
	r.text(tenant).text(a.Who).text(a.Subscription).text(a.Object).num(int64(a.Kind)).text(a.ID).text(a.By).num(micros(a.Asked)).num(micros(a.Due)).num(micros(a.Until))
}

// asks puts asks; one that is there already gives way.
func (e *edit) asks() error {
	if len(e.ch.Asks) == 0 {
		return nil
	}
	rows := e.rows(putAsk)
	for _, a := range last(e.ch.Asks, func(a *belfry.Ask) string {
		return a.Subscription + "\x00" + a.Who + "\x00" + a.Object + "\x00" + string(rune(a.Kind))
	}) {
		rows.ask(e.tenant, a)
	}
	_, err := rows.flush()
	return err
}

// dropAsks takes out asks that were answered. One that is not there, or is
// another by now, makes the edit Stale: it was answered already.
func (e *edit) dropAsks() error {
	for i := range e.ch.DropAsks {
		a := &e.ch.DropAsks[i]
		n, err := e.exec("DELETE FROM asks WHERE tenant = $1 AND who = $2 AND subscription = $3 AND object = $4 AND kind = $5 AND id = $6",
			e.tenant, a.Who, a.Subscription, a.Object, int64(a.Kind), a.ID)
		if err != nil {
			return err
		}
		if n == 0 {
			return belfry.Errorf(belfry.Stale, "the link was used, or took too long")
		}
		// What waited for the answer is looked at now.
		if _, err := e.exec("UPDATE asks SET due = $3 WHERE tenant = $1 AND who = $2 AND due > $3", e.tenant, a.Who, micros(e.db.now())); err != nil {
			return err
		}
	}
	return nil
}

// Ask stores that something was asked for, unless the same waits already, and
// counts it: Overloaded with RetryAfter when one of the counts is full. It does
// the same work whoever is asked, so that nobody learns from it who is known.
func (db *DB) Ask(ctx context.Context, a belfry.Ask, counts []belfry.AskCount) error {
	if err := clean(a.Tenant, a.Who, a.Subscription, a.Object, a.ID, a.By); err != nil {
		return err
	}
	for _, c := range counts {
		if err := clean(c.Who); err != nil {
			return err
		}
	}
	return db.doors.life.do(ctx, &job{weight: 2, data: func(s *session) error {
		now := a.Asked
		for _, c := range counts {
			until, err := s.countAsk(a.Tenant, c, now)
			if err != nil {
				return err
			}
			if !until.IsZero() {
				return &belfry.Error{Kind: belfry.Overloaded, RetryAfter: max(until.Sub(now), time.Second), Msg: "too much was asked for lately: try again later"}
			}
		}
		rows := s.rows(addAsk)
		rows.ask(a.Tenant, &a)
		_, err := rows.flush()
		return err
	}})
}

// keepCounts is longer than any window of a count.
const keepCounts = 48 * time.Hour

// PruneAsks forgets asks of a tenant that nobody answered in time, and counts
// whose window is over, a bounded number at once, and says how many. Nothing
// looks at either any more.
func (db *DB) PruneAsks(ctx context.Context, tenant string, now time.Time) (n int, err error) {
	_, err = db.tidy(ctx, 1, func(s *session) error {
		asks, err := s.exec(`DELETE FROM asks WHERE tenant = $1 AND (who, subscription, object, kind) IN
			(SELECT who, subscription, object, kind FROM asks WHERE tenant = $1 AND until_at < $2 LIMIT 500)`, tenant, micros(now))
		if err != nil {
			return err
		}
		counts, err := s.exec(`DELETE FROM ask_counts WHERE tenant = $1 AND (who, span) IN
			(SELECT who, span FROM ask_counts WHERE tenant = $1 AND starts < $2 LIMIT 500)`, tenant, micros(now.Add(-keepCounts)))
		n = int(asks + counts)
		return err
	})
	return n, err
}

// addAsk takes the place of one that is over, and of no other.
var addAsk = insert("asks", "tenant:t who:t subscription:t object:t kind:n id:t by_whom:t asked:n due:n until_at:n",
	`ON CONFLICT (tenant, who, subscription, object, kind) DO UPDATE SET id = excluded.id, by_whom = excluded.by_whom,
		asked = excluded.asked, due = excluded.due, until_at = excluded.until_at WHERE asks.until_at < excluded.asked`)

// countAsk counts one more; when there is no room it says until when.
func (s *session) countAsk(tenant string, c belfry.AskCount, now time.Time) (until time.Time, err error) {
	span := c.Span.Microseconds()
	var starts, used int64
	err = s.query(func(rows *sql.Rows) error { return rows.Scan(&starts, &used) },
		`INSERT INTO ask_counts (tenant, who, span, starts, used) VALUES ($1, $2, $3, $4, 1)
		ON CONFLICT (tenant, who, span) DO UPDATE SET
			used = CASE WHEN ask_counts.starts BETWEEN $5 AND $4 THEN ask_counts.used + 1 ELSE 1 END,
			starts = CASE WHEN ask_counts.starts BETWEEN $5 AND $4 THEN ask_counts.starts ELSE $4 END
		RETURNING starts, used`, tenant, c.Who, span, micros(now), micros(now)-span+1)
	if err == nil && used > int64(c.Most) {
		until = fromMicros(starts + span)
	}
	return until, err
}

// DueAsks lists asks of all tenants that are to be looked at by a time, the
// first due first; skip says how many at the beginning are passed over.
func (db *DB) DueAsks(ctx context.Context, until time.Time, skip, limit int) (list []belfry.Ask, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		a, err := scanAsk(rows)
		list = append(list, a)
		return err
	}, "SELECT "+askCols+" FROM asks WHERE due > 0 AND due <= $1 ORDER BY due, tenant, who, subscription, object, kind LIMIT $2 OFFSET $3", micros(until), limit, skip)
	return list, err
}

// FindAsk reads the ask of a's recipient, subscription, object and kind.
func (db *DB) FindAsk(ctx context.Context, a belfry.Ask) (found belfry.Ask, ok bool, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		ok = true
		found, err = scanAsk(rows)
		return err
	}, "SELECT "+askCols+" FROM asks WHERE tenant = $1 AND who = $2 AND subscription = $3 AND object = $4 AND kind = $5",
		a.Tenant, a.Who, a.Subscription, a.Object, int64(a.Kind))
	return found, ok, err
}

// Asks lists what waits to be answered of a subscription, after a recipient.
func (db *DB) Asks(ctx context.Context, tenant, subscription, after string, now time.Time, limit int) (list []belfry.Ask, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		a, err := scanAsk(rows)
		list = append(list, a)
		return err
	}, "SELECT "+askCols+" FROM asks WHERE tenant = $1 AND subscription = $2 AND who > $3 AND kind < $4 AND until_at >= $5 ORDER BY who, object, kind LIMIT $6",
		tenant, subscription, after, int64(belfry.AskWelcome), micros(now), orDefault(limit, 1000))
	return list, err
}

// AskStanding reads what decides whether an ask is sent now. mails counts what
// was sent to its recipient.
func (db *DB) AskStanding(ctx context.Context, a belfry.Ask, mails belfry.AskCount, now time.Time) (st belfry.AskStanding, err error) {
	read := func(scan func(*sql.Rows) error, text string, args ...any) {
		if err == nil {
			err = db.query(ctx, scan, text, args...)
		}
	}
	read(func(rows *sql.Rows) error {
		var object string
		err := rows.Scan(&object)
		st.Anywhere, st.Member = true, st.Member || object == a.Object
		return err
	}, "SELECT object FROM members WHERE tenant = $1 AND subscription = $2 AND principal = $3", a.Tenant, a.Subscription, a.Who)
	read(func(*sql.Rows) error { st.OptedOut = true; return nil },
		"SELECT since FROM opt_outs WHERE tenant = $1 AND subscription = $2 AND who = $3", a.Tenant, a.Subscription, a.Who)
	read(func(rows *sql.Rows) error {
		var until int64
		err := rows.Scan(&until)
		st.Blocked = fromMicros(until)
		return err
	}, "SELECT until_at FROM asks WHERE tenant = $1 AND who = $2 AND due = 0 AND until_at >= $3 AND id <> $4 ORDER BY until_at LIMIT 1", a.Tenant, a.Who, micros(now), a.ID)
	read(func(rows *sql.Rows) error {
		var starts, used int64
		err := rows.Scan(&starts, &used)
		if end := fromMicros(starts).Add(mails.Span); used >= int64(mails.Most) && end.After(now) {
			st.Spent = end
		}
		return err
	}, "SELECT starts, used FROM ask_counts WHERE tenant = $1 AND who = $2 AND span = $3", a.Tenant, mails.Who, mails.Span.Microseconds())
	return st, err
}

// SettleAsk notes what was decided of an ask that was due: a.Due and a.Until
// take the place of what is stored, or, with drop, it goes. sent counts a
// message to its recipient. What came in its place meanwhile stays.
func (db *DB) SettleAsk(ctx context.Context, a belfry.Ask, drop bool, sent *belfry.AskCount, now time.Time) error {
	return db.doors.life.do(ctx, &job{weight: 2, data: func(s *session) error {
		const here = " WHERE tenant = $1 AND who = $2 AND subscription = $3 AND object = $4 AND kind = $5 AND id = $6"
		args := []any{a.Tenant, a.Who, a.Subscription, a.Object, int64(a.Kind), a.ID}
		text := "DELETE FROM asks" + here
		if !drop {
			text = "UPDATE asks SET due = $7, until_at = $8" + here
			args = append(args, micros(a.Due), micros(a.Until))
		}
		if _, err := s.exec(text, args...); err != nil || sent == nil {
			return err
		}
		_, err := s.countAsk(a.Tenant, *sent, now)
		return err
	}})
}

// joinsAtOnce is how many pairs one statement of SQLite looks up.
const joinsAtOnce = 100

// Joins says how many principals stand to many subscriptions; who has nothing
// to do with one is not in the answer. invites are looked for when asked for.
func (db *DB) Joins(ctx context.Context, tenant string, keys []belfry.JoinKey, invites bool) (map[belfry.JoinKey]*belfry.Joins, error) {
	out := map[belfry.JoinKey]*belfry.Joins{}
	of := func(subscription, principal string) *belfry.Joins {
		k := belfry.JoinKey{Subscription: subscription, Principal: principal}
		if out[k] == nil {
			out[k] = &belfry.Joins{}
		}
		return out[k]
	}
	err := db.queryJoins(ctx, func(rows *sql.Rows) error {
		m, err := scanMember(rows)
		j := of(m.Subscription, m.Principal)
		j.Members = append(j.Members, m)
		return err
	}, "SELECT m.subscription, m.principal, m.object, m.channels, m.since FROM a JOIN members m ON m.tenant = $1 AND m.subscription = a.subscription AND m.principal = a.who ORDER BY m.object", tenant, keys)
	if err == nil {
		err = db.queryJoins(ctx, func(rows *sql.Rows) error {
			var k belfry.JoinKey
			err := rows.Scan(&k.Subscription, &k.Principal)
			of(k.Subscription, k.Principal).OptedOut = true
			return err
		}, "SELECT o.subscription, o.who FROM a JOIN opt_outs o ON o.tenant = $1 AND o.subscription = a.subscription AND o.who = a.who", tenant, keys)
	}
	if err == nil && invites {
		err = db.queryJoins(ctx, func(rows *sql.Rows) error {
			a, err := scanAsk(rows)
			j := of(a.Subscription, a.Who)
			j.Invited = append(j.Invited, a)
			return err
		}, fmt.Sprintf("SELECT k."+strings.ReplaceAll(askCols, ", ", ", k.")+" FROM a JOIN asks k ON k.tenant = $1 AND k.who = a.who AND k.subscription = a.subscription AND k.kind = %d", belfry.AskInvite), tenant, keys)
	}
	return out, err
}

// queryJoins is query over the rows a (subscription, who) of keys, in which none
// is twice: two arrays on PostgreSQL, and on SQLite lists of so many at a time,
// filled up with keys of nobody.
func (db *DB) queryJoins(ctx context.Context, scan func(*sql.Rows) error, text, tenant string, keys []belfry.JoinKey) error {
	const head = "WITH a (subscription, who) AS ("
	seen := make(map[belfry.JoinKey]bool, len(keys))
	keys = slices.DeleteFunc(slices.Clone(keys), func(k belfry.JoinKey) bool {
		was := seen[k]
		seen[k] = true
		return was
	})
	if db.pg {
		subs, who := make([]string, len(keys)), make([]string, len(keys))
		for i, k := range keys {
			subs[i], who[i] = k.Subscription, k.Principal
		}
		return db.query(ctx, scan, head+"SELECT * FROM unnest($2::text[], $3::text[])) "+text, tenant, subs, who)
	}
	values := make([]string, joinsAtOnce)
	for i := range values { // numbered, for they come before $1
		values[i] = fmt.Sprintf("(?%d, ?%d)", 2*i+2, 2*i+3)
	}
	text = head + "VALUES " + strings.Join(values, ", ") + ") " + strings.Replace(text, "$1", "?1", 1)
	for part := range slices.Chunk(keys, joinsAtOnce) {
		args := make([]any, 0, 1+2*joinsAtOnce)
		args = append(args, tenant)
		for i := range joinsAtOnce {
			var k belfry.JoinKey
			if i < len(part) {
				k = part[i]
			}
			args = append(args, k.Subscription, k.Principal)
		}
		if err := db.query(ctx, scan, text, args...); err != nil {
			return err
		}
	}
	return nil
}

// JoinsOf lists where a principal joined a subscription, and whether it opted
// out of it.
func (db *DB) JoinsOf(ctx context.Context, tenant, subscription, principal string) (list []belfry.Member, optedOut bool, err error) {
	err = db.query(ctx, membersInto(&list), "SELECT "+memberCols+" FROM members WHERE tenant = $1 AND subscription = $2 AND principal = $3 ORDER BY object", tenant, subscription, principal)
	if err != nil {
		return nil, false, err
	}
	err = db.query(ctx, func(*sql.Rows) error { optedOut = true; return nil },
		"SELECT since FROM opt_outs WHERE tenant = $1 AND subscription = $2 AND who = $3", tenant, subscription, principal)
	return list, optedOut, err
}
