package store

import (
	"context"
	"database/sql"
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

// recording is the payload of door 3: attempts and which were applied.
type recording struct {
	attempts []belfry.Attempt
	applied  []bool
}

// RecordAttempts is door 3: it records outcomes of sends. The answer says for
// each attempt whether it was applied: false when the delivery is closed,
// unknown, or has not seen exactly N-1 attempts before. A send that ended after
// its delivery was cancelled is noted and changes nothing. An attempt with N = 0
// is no send: it changes the state and due time of an open delivery and leaves
// no row. Because, when set, is kept with the delivery. When the error is set,
// attempts that are true are applied all the same.
func (db *DB) RecordAttempts(ctx context.Context, attempts []belfry.Attempt) ([]bool, error) {
	if len(attempts) == 0 {
		return nil, nil
	}
	r := &recording{attempts: attempts, applied: make([]bool, len(attempts))}
	for i := range attempts {
		a := &attempts[i]
		if err := clean(a.Tenant, a.DeliveryID, a.Outcome.Detail); err != nil {
			return nil, err
		}
	}
	if err := db.doors.attempt.do(ctx, recordJob(r)); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return r.applied, err
	}
	return r.applied, nil
}

func recordJob(r *recording) *job {
	j := &job{weight: len(r.attempts), data: r, failed: func(error) { clear(r.applied) }}
	if n := len(r.attempts); n > 1 {
		j.split = func() []*job {
			return []*job{
				recordJob(&recording{r.attempts[:n/2], r.applied[:n/2]}),
				recordJob(&recording{r.attempts[n/2:], r.applied[n/2:]}),
			}
		}
	}
	return j
}

// Moving a delivery on, on PostgreSQL for many at once, on SQLite one by one:
// a send that leaves no reason with the delivery, as nearly all do, and others.
// "state + 0" keeps PostgreSQL from walking an index of open deliveries where
// the primary key is meant.
const (
	attemptCols = "tenant:t id:t n:n state:n due:n ended:t sent:t"
	attemptSet  = `UPDATE deliveries SET state = a.state, due = CASE WHEN a.sent = '' THEN a.due ELSE deliveries.due END,
		ended = CASE WHEN a.ended = '' THEN deliveries.ended ELSE a.ended END,
		sent = CASE WHEN a.sent = '' THEN deliveries.sent ELSE a.sent END,
		attempts = CASE WHEN a.n = 0 THEN deliveries.attempts ELSE a.n END
		FROM a WHERE deliveries.tenant = a.tenant AND deliveries.id = a.id AND deliveries.state + 0 < 3 AND (a.n = 0 OR deliveries.attempts = a.n - 1)`
	attemptSend = "UPDATE deliveries SET state = ?, due = ?, attempts = ? WHERE tenant = ? AND id = ? AND state < 3 AND attempts = ?"
	attemptOnly = "UPDATE deliveries SET state = 3, attempts = 1, sent = ? WHERE tenant = ? AND id = ? AND state < 3 AND attempts = 0"
	attemptLate = "UPDATE deliveries SET attempts = ? WHERE tenant = ? AND id = ? AND state = 6 AND attempts = ?"
	attemptElse = `UPDATE deliveries SET state = ?1, due = ?2, attempts = max(attempts, ?3), ended = CASE WHEN ?6 = '' THEN ended ELSE ?6 END
		WHERE tenant = ?4 AND id = ?5 AND state < 3 AND (?3 = 0 OR attempts = ?3 - 1)`
)

var (
	applyAttempts = with(attemptCols, attemptSet)
	lateAttempts  = with("tenant:t id:t n:n", // PostgreSQL only
		`UPDATE deliveries SET attempts = a.n FROM a
		WHERE deliveries.tenant = a.tenant AND deliveries.id = a.id AND deliveries.state + 0 = 6 AND a.n > 0 AND deliveries.attempts = a.n - 1`)
	insertAttempt = insert("attempts", `tenant:t delivery_id:t n:n at:n took:n kind:n status:n wait:n throttled:n state:n due:n
		detail:t because:t`, "ON CONFLICT DO NOTHING")
)

type attemptRef struct {
	r *recording
	i int
}

func (f attemptRef) attempt() *belfry.Attempt { return &f.r.attempts[f.i] }

func commitAttempts(s *session, jobs []*job) error {
	s.refs = s.refs[:0]
	for _, j := range jobs {
		r := j.data.(*recording)
		clear(r.applied)
		for i := range r.attempts {
			s.refs = append(s.refs, attemptRef{r, i})
		}
	}
	// One statement sees one state of a row: a second attempt of a delivery
	// waits for the next round.
	todo, later := s.refs, []attemptRef(nil)
	for len(todo) > 0 {
		clear(s.seen)
		round := todo[:0]
		later = later[:0]
		for _, f := range todo {
			if id := f.attempt().DeliveryID; !s.seen[id] {
				s.seen[id] = true
				round = append(round, f)
			} else {
				later = append(later, f)
			}
		}
		if err := s.applyRound(round); err != nil {
			return err
		}
		todo = slices.Clone(later)
	}
	return nil
}

func (s *session) applyRound(round []attemptRef) error {
	if err := s.updateDeliveries(round); err != nil {
		return err
	}
	late, err := s.noteLate(round)
	if err != nil {
		return err
	}
	if err := s.planInstead(round, late); err != nil {
		return err
	}
	rows := s.rows(insertAttempt)
	for _, f := range round {
		a, state := f.attempt(), f.attempt().State
		switch {
		case late[f]:
			state = belfry.Cancelled
		case !f.r.applied[f.i]:
			continue
		case !state.Open():
			s.count(a.Tenant, 0, -1)
		}
		if a.N == 0 || !late[f] && withDelivery(a) {
			continue
		}
		rows.text(a.Tenant).text(a.DeliveryID).num(int64(a.N)).num(micros(a.At)).num(a.Took.Microseconds()).num(int64(a.Outcome.Kind)).
			num(int64(a.Outcome.Status)).num(a.Outcome.After.Microseconds()).num(bit(a.Outcome.Throttled)).num(int64(state)).num(micros(a.Due)).
			text(a.Outcome.Detail).text(s.scribe.reason(a.Because))
	}
	if _, err = rows.flush(); err != nil {
		return err
	}
	return s.endBundles(round)
}

// planInstead stores what is told instead of what failed, with the attempts that
// say so.
func (s *session) planInstead(round []attemptRef, late map[attemptRef]bool) error {
	for _, f := range round {
		d := f.attempt().Then
		if d == nil || !f.r.applied[f.i] || late[f] {
			continue
		}
		if d.Channel == belfry.ChannelInbox {
			entries := f.attempt().Entries
			if len(entries) == 0 {
				entries = []belfry.Delivery{*d}
			}
			if err := s.putEntries(entries); err != nil {
				return err
			}
			continue
		}
		rows := s.rows(insertDelivery)
		rows.delivery(d, s.because(d.Tenant, d.EventID, d.Because))
		n, err := rows.flush()
		if err != nil {
			return err
		}
		s.count(d.Tenant, 0, n)
	}
	return nil
}

// putEntries puts entries into inboxes, or, those that the platform is asked about
// first, among what is held.
func (s *session) putEntries(entries []belfry.Delivery) error {
	inbox, held := s.rows(insertInbox), s.rows(insertDelivery)
	for i := range entries {
		d := &entries[i]
		because := s.because(d.Tenant, d.EventID, d.Because)
		if d.State != belfry.Held {
			inbox.text(d.Tenant).text(d.ID).text(d.EventID).text(d.Principal).text(d.Subscription).text(d.Locale).text(d.Template).text(because)
			continue
		}
		row := *d
		row.Bundle = "" // of which it would have told
		held.delivery(&row, because)
	}
	if _, err := inbox.flush(); err != nil {
		return err
	}
	n, err := held.flush()
	if n > 0 {
		s.count(entries[0].Tenant, 0, n)
	}
	return err
}

// noteLate counts the sends that ended after their delivery was cancelled: what
// went out is not hidden.
func (s *session) noteLate(round []attemptRef) (map[attemptRef]bool, error) {
	var late map[attemptRef]bool
	var byID map[string]attemptRef
	rows := s.rows(lateAttempts)
	for _, f := range round {
		a := f.attempt()
		if f.r.applied[f.i] || a.N == 0 {
			continue
		}
		if s.db.pg {
			if byID == nil {
				byID = map[string]attemptRef{}
			}
			byID[a.DeliveryID] = f
			rows.text(a.Tenant).text(a.DeliveryID).num(int64(a.N))
			continue
		}
		n, err := s.execRow(attemptLate, int64(a.N), a.Tenant, a.DeliveryID, int64(a.N-1))
		if err != nil {
			return nil, err
		}
		if n > 0 {
			if late == nil {
				late = map[attemptRef]bool{}
			}
			late[f] = true
		}
	}
	err := rows.query(func(r *sql.Rows) error {
		var id string
		err := r.Scan(&id)
		if late == nil {
			late = map[attemptRef]bool{}
		}
		late[byID[id]] = true
		return err
	}, " RETURNING deliveries.id")
	return late, err
}

// updateDelivery moves one delivery on, on SQLite.
func (s *session) updateDelivery(a *belfry.Attempt) (int64, error) {
	n := int64(a.N)
	switch {
	case withDelivery(a):
		return s.execRow(attemptOnly, s.scribe.firstAttempt(a), a.Tenant, a.DeliveryID)
	case a.N > 0 && a.Because == nil:
		return s.execRow(attemptSend, int64(a.State), micros(a.Due), n, a.Tenant, a.DeliveryID, n-1)
	}
	return s.execRow(attemptElse, int64(a.State), dueOf(a.State, a.Due), n, a.Tenant, a.DeliveryID, s.scribe.reason(a.Because))
}

// updateDeliveries moves the deliveries on and notes which attempts counted:
// one by one on SQLite; on PostgreSQL all at once first, and when fewer rows
// than attempts were touched, asking which.
func (s *session) updateDeliveries(round []attemptRef) error {
	if !s.db.pg {
		for _, f := range round {
			n, err := s.updateDelivery(f.attempt())
			if err != nil {
				return err
			}
			f.r.applied[f.i] = n > 0
		}
		return nil
	}
	rows := s.rows(applyAttempts)
	for _, f := range round {
		a := f.attempt()
		sent := ""
		if withDelivery(a) {
			sent = s.scribe.firstAttempt(a)
		}
		rows.text(a.Tenant).text(a.DeliveryID).num(int64(a.N)).num(int64(a.State)).num(dueOf(a.State, a.Due)).text(s.scribe.reason(a.Because)).text(sent)
	}
	if s.careful {
		byID := make(map[string]attemptRef, len(round))
		for _, f := range round {
			byID[f.attempt().DeliveryID] = f
		}
		return rows.query(func(r *sql.Rows) error {
			var id string
			if err := r.Scan(&id); err != nil {
				return err
			}
			f := byID[id]
			f.r.applied[f.i] = true
			return nil
		}, " RETURNING deliveries.id")
	}
	n, err := rows.flush()
	if err != nil {
		return err
	}
	if int(n) != len(round) {
		return errCareful
	}
	for _, f := range round {
		f.r.applied[f.i] = true
	}
	return nil
}
