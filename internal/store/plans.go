package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// planning is the payload of door 2: pages and what became of each. Pages with
// an entry in bad are refused from the start.
type planning struct {
	pages     []belfry.PlanPage
	errs, bad []error
}

// CommitPlans is door 2: it stores pages of plans. The answer has one entry a
// page: nil when it was applied, ErrCursorMoved when the plan's cursor was not
// at From (nothing of the page is stored then), or what is wrong with that
// page alone. The second result is set when none of it can be known to be
// applied (the database is away). Pages of one event in one call are applied
// in the call's order. A delivery that exists already is left as it is; rows of
// the channel inbox go to the inbox, at most one a person and event.
func (db *DB) CommitPlans(ctx context.Context, pages []belfry.PlanPage) ([]error, error) {
	if len(pages) == 0 {
		return nil, nil
	}
	p := &planning{pages: pages, errs: make([]error, len(pages)), bad: make([]error, len(pages))}
	for i := range pages {
		p.bad[i] = checkPage(&pages[i])
	}
	if err := db.doors.plan.do(ctx, planJob(p)); unavailable(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	return p.errs, nil
}

func planJob(p *planning) *job {
	j := &job{data: p, long: len(p.pages) > 0}
	for i := range p.pages {
		page := &p.pages[i]
		j.weight += 1 + len(page.Deliveries) + len(page.Suppressions)
		j.long = j.long && page.From != "" // a plan of several pages goes on
	}
	j.failed = func(err error) {
		for i := range p.errs {
			p.errs[i] = err
		}
	}
	if len(p.pages) > 1 {
		j.split = func() []*job {
			parts := make([]*job, len(p.pages))
			for i := range parts {
				parts[i] = planJob(&planning{p.pages[i : i+1], p.errs[i : i+1], p.bad[i : i+1]})
			}
			return parts
		}
	}
	return j
}

var (
	planDone = with("tenant:t event_id:t run:n cursor:t", // PostgreSQL only
		`DELETE FROM plans USING a
		WHERE plans.tenant = a.tenant AND plans.event_id = a.event_id AND plans.run = a.run AND plans.cursor = a.cursor`)
	planMoved = with("tenant:t event_id:t run:n from_cursor:t to_cursor:t", // PostgreSQL only
		`UPDATE plans SET cursor = a.to_cursor FROM a
		WHERE plans.tenant = a.tenant AND plans.event_id = a.event_id AND plans.run = a.run AND plans.cursor = a.from_cursor`)
	insertMatches  = insert("plan_matches", "tenant:t event_id:t run:n matches:t", "ON CONFLICT DO NOTHING")
	insertDelivery = insert("deliveries", `tenant:t id:t event_id:t run:n subscription:t channel:t principal:t address:t destination:t
		shard:n state:n due:n attempts:n bundle:t priority:n line:n parked:n locale:t template:t because:t ended=''`, "ON CONFLICT DO NOTHING")
	// Most deliveries are of this form: fewer values to bind.
	insertPlain = insert("deliveries", plainCols, "ON CONFLICT DO NOTHING")
	// And of a long page of mail, most are alike in most.
	insertMany = insertAlike("deliveries", "tenant event_id subscription channel state due locale", `id:t principal:t address:t destination:t shard:n because:t
		run=0 attempts=0 bundle='' priority=0 line=0 parked=0 template='' ended=''`, "ON CONFLICT DO NOTHING")
	// Those of a first page are there already only when it was committed before:
	// PostgreSQL need not look for each of them first, nor log that it did.
	insertFresh = insert("deliveries", plainCols, "")
	// A replay's deliveries have the ids of the first run: what is there and over
	// goes again, what is on its way stays; what succeeded only when asked.
	replayDelivery = insert("deliveries", replayCols, replaySet+"deliveries.state > 3")
	resendDelivery = insert("deliveries", replayCols, replaySet+"deliveries.state > 2")
	insertInbox    = insert("inbox", `tenant:t id:t event_id:t principal:t subscription:t locale:t template:t because:t
		read_at=0 archived_at=0 snoozed_until=0`, "ON CONFLICT DO NOTHING")
	insertSuppression = insert("suppressions", "tenant:t event_id:t run:n principal:t address:t channel:t because:t", "ON CONFLICT DO NOTHING")
)

const (
	plainCols = `tenant:t id:t event_id:t subscription:t channel:t principal:t address:t destination:t
		shard:n state:n due:n locale:t because:t run=0 attempts=0 bundle='' priority=0 line=0 parked=0 template='' ended=''`
	replayCols = `tenant:t id:t event_id:t run:n subscription:t channel:t principal:t address:t destination:t
		shard:n state:n due:n attempts:n bundle:t priority:n line:n parked:n locale:t template:t because:t ended=''`
	replaySet = `ON CONFLICT (tenant, id) DO UPDATE SET run = excluded.run, subscription = excluded.subscription, principal = excluded.principal,
		destination = excluded.destination, shard = excluded.shard, state = excluded.state, due = excluded.due, base = deliveries.attempts,
		bundle = excluded.bundle, priority = excluded.priority, line = excluded.line,
		parked = CASE WHEN excluded.parked = 1 THEN 1 ELSE deliveries.parked END, locale = excluded.locale, template = excluded.template,
		because = excluded.because, ended = '' WHERE `
)

type planKey struct {
	tenant, event string
	run           int
}

func commitPlans(s *session, jobs []*job) error {
	for _, j := range jobs {
		p := j.data.(*planning)
		copy(p.errs, p.bad)
	}
	if err := s.late(jobs); err != nil { // first: see there who waits for whom
		return err
	}
	if err := s.moveCursors(jobs); err != nil {
		return err
	}
	if err := s.observe(jobs); err != nil {
		return err
	}
	return s.insertPages(jobs)
}

// checkPage refuses text the database cannot keep.
func checkPage(p *belfry.PlanPage) error {
	if err := clean(p.Tenant, p.EventID, p.From, p.To); err != nil {
		return err
	}
	for i := range p.Deliveries {
		d := &p.Deliveries[i]
		if err := clean(d.ID, d.Subscription, d.Channel, d.Principal, d.Address, d.Destination, d.Bundle, d.Locale, d.Template); err != nil {
			return err
		}
		if d.Digest != nil {
			p.Gathers = true
			if err := clean(d.Digest.Key); err != nil {
				return err
			}
		}
	}
	for i := range p.Suppressions {
		u := &p.Suppressions[i]
		if err := clean(u.Principal, u.Channel, u.Address); err != nil {
			return err
		}
	}
	for i := range p.Observations {
		if err := clean(p.Observations[i].Subscription, p.Observations[i].Group); err != nil {
			return err
		}
	}
	return nil
}

// moveCursors does the compare-and-set of every page: on SQLite of whole plans
// many at once; on PostgreSQL of all pages; and page by page when a cursor was
// not where its page begins or an event has several pages here.
func (s *session) moveCursors(jobs []*job) error {
	if s.careful {
		return eachPage(jobs, s.moveCursor)
	}
	if !s.db.pg {
		return s.endPlans(jobs)
	}
	done, moved := s.rows(planDone), s.rows(planMoved)
	seen := map[planKey]bool{}
	err := eachPage(jobs, func(p *belfry.PlanPage) error {
		key := planKey{p.Tenant, p.EventID, p.Run}
		if seen[key] {
			return errCareful
		}
		seen[key] = true
		if p.Last {
			done.text(p.Tenant).text(p.EventID).num(int64(p.Run)).text(p.From)
		} else {
			moved.text(p.Tenant).text(p.EventID).num(int64(p.Run)).text(p.From).text(p.To)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range []*rows{done, moved} {
		want := int64(r.n)
		n, err := r.flush()
		if err != nil {
			return err
		}
		if n != want {
			return errCareful
		}
	}
	return nil
}

// endPlans is moveCursors on SQLite. Nearly every page is its event's only one:
// of those of one tenant in a row the plans are deleted together.
func (s *session) endPlans(jobs []*job) error {
	tenant, ids := "", s.ids[:0]
	end := func() (err error) {
		err = s.endPlansOf(tenant, ids)
		ids = ids[:0]
		return err
	}
	err := eachPage(jobs, func(p *belfry.PlanPage) error {
		if !p.Last || p.From != "" || p.Run != 0 {
			if err := end(); err != nil { // an event's pages are moved in their order
				return err
			}
			return s.moveCursor(p)
		}
		if p.Tenant != tenant {
			if err := end(); err != nil {
				return err
			}
			tenant = p.Tenant
		}
		ids = append(ids, p.EventID)
		return nil
	})
	if err == nil {
		err = end()
	}
	s.ids = ids
	return err
}

const endPlans = "DELETE FROM plans WHERE tenant = ? AND run = 0 AND cursor = '' AND event_id IN (?"

func (s *session) endPlansOf(tenant string, ids []string) error {
	for len(ids) > 0 {
		size := 1
		for _, n := range sizes {
			if n <= len(ids) {
				size = n
				break
			}
		}
		s.row = append(s.row[:0], driver.NamedValue{Ordinal: 1, Value: tenant})
		for i, id := range ids[:size] {
			s.row = append(s.row, driver.NamedValue{Ordinal: i + 2, Value: id})
		}
		n, err := s.execRaw(batchKey{text: endPlans, size: size}, func() string { return endPlans + strings.Repeat(",?", size-1) + ")" }, s.row)
		if err != nil {
			return err
		}
		if int(n) != size {
			return errCareful
		}
		ids = ids[size:]
	}
	return nil
}

// moveCursor does the compare-and-set of one page.
func (s *session) moveCursor(p *belfry.PlanPage) error {
	var n int64
	var err error
	run := int64(p.Run)
	switch {
	case s.db.pg && p.Last:
		n, err = s.exec("DELETE FROM plans WHERE tenant = $1 AND event_id = $2 AND run = $3 AND cursor = $4", p.Tenant, p.EventID, run, p.From)
	case s.db.pg:
		n, err = s.exec("UPDATE plans SET cursor = $5 WHERE tenant = $1 AND event_id = $2 AND run = $3 AND cursor = $4", p.Tenant, p.EventID, run, p.From, p.To)
	case p.Last:
		n, err = s.execRow("DELETE FROM plans WHERE tenant = ? AND event_id = ? AND run = ? AND cursor = ?", p.Tenant, p.EventID, run, p.From)
	default:
		n, err = s.execRow("UPDATE plans SET cursor = ? WHERE tenant = ? AND event_id = ? AND run = ? AND cursor = ?", p.To, p.Tenant, p.EventID, run, p.From)
	}
	if err == nil && n == 0 {
		return ErrCursorMoved
	}
	return err
}

// eachPage calls f for the pages that are still in the running. ErrCursorMoved
// is noted for the page; other errors end the walk.
func eachPage(jobs []*job, f func(*belfry.PlanPage) error) error {
	for _, j := range jobs {
		p := j.data.(*planning)
		for i := range p.pages {
			if p.errs[i] != nil {
				continue
			}
			switch err := f(&p.pages[i]); {
			case errors.Is(err, ErrCursorMoved):
				p.errs[i] = err
			case err != nil:
				return err
			}
		}
	}
	return nil
}

// isPlain reports whether a delivery of a first run has nothing of its own in
// most columns.
func isPlain(d *belfry.Delivery) bool {
	return d.Attempts == 0 && d.Bundle == "" && d.Priority == 0 && d.Line == 0 && !d.Parked && d.Template == ""
}

// delivery is a row of insertDelivery, and of those of a replay.
func (r *rows) delivery(d *belfry.Delivery, because string) {
	r.text(d.Tenant).text(d.ID).text(d.EventID).num(int64(d.Run)).text(d.Subscription).text(d.Channel).text(d.Principal).text(d.Address).
		text(d.Destination).num(int64(d.Shard)).num(int64(d.State)).num(dueOf(d.State, d.Due)).num(int64(d.Attempts)).text(d.Bundle).
		num(int64(d.Priority)).num(d.Line).num(bit(d.Parked || d.Line != 0)).text(d.Locale).text(d.Template).text(because)
}

// manyAlike reports whether a page is long and its deliveries are alike in what
// insertMany binds once a statement, which on SQLite is half of what they bind.
func (s *session) manyAlike(p *belfry.PlanPage) bool {
	if s.db.pg || p.Run > 0 || len(p.Deliveries) < manyAtLeast {
		return false
	}
	first := &p.Deliveries[0]
	for i := range p.Deliveries {
		d := &p.Deliveries[i]
		if !isPlain(d) || d.Digest != nil || d.Channel == belfry.ChannelInbox || d.Subscription != first.Subscription || d.Channel != first.Channel ||
			d.State != first.State || !d.Due.Equal(first.Due) || d.Locale != first.Locale {
			return false
		}
	}
	return true
}

// manyAtLeast is one batch of SQLite: shorter pages share statements with others.
const manyAtLeast = 256

func (s *session) insertMany(p *belfry.PlanPage, order []int32) (int64, error) {
	first, rows := &p.Deliveries[0], s.rows(insertMany)
	rows.alike(p.Tenant, p.EventID, first.Subscription, first.Channel, int64(first.State), dueOf(first.State, first.Due), first.Locale)
	for _, i := range order {
		d := &p.Deliveries[i]
		rows.text(d.ID).text(d.Principal).text(d.Address).text(d.Destination).num(int64(d.Shard)).text(s.because(p.Tenant, p.EventID, d.Because))
	}
	return rows.flush()
}

func (s *session) insertPages(jobs []*job) error {
	matches, inbox, suppressions := s.rows(insertMatches), s.rows(insertInbox), s.rows(insertSuppression)
	deliveries, plain, fresh := s.rows(insertDelivery), s.rows(insertPlain), s.rows(insertFresh)
	before := len(s.delta)
	var waiting []*belfry.Delivery // for digests, of tenant
	tenant := ""
	err := eachPage(jobs, func(p *belfry.PlanPage) error {
		run := int64(p.Run)
		if len(p.Timers) > 0 {
			if err := s.putTimers(firstTimer, p.Timers); err != nil {
				return err
			}
		}
		if len(p.Matches) > 0 {
			matches.text(p.Tenant).text(p.EventID).num(run).text(s.scribe.notes(p.Matches))
		}
		into, open := deliveries, int64(0)
		if p.Run > 0 {
			into = s.rows(replayDelivery)
			if p.Resend {
				into = s.rows(resendDelivery)
			}
		}
		order := s.order[:0]
		for i := range p.Deliveries {
			order = append(order, int32(i))
		}
		slices.SortFunc(order, func(a, b int32) int { return strings.Compare(p.Deliveries[a].ID, p.Deliveries[b].ID) })
		s.order = order
		if s.manyAlike(p) {
			n, err := s.insertMany(p, order)
			if err != nil {
				return err
			}
			if n != int64(len(order)) {
				s.recount = true
			}
			if p.Deliveries[0].State.Open() {
				open = n
			}
			order = nil
		}
		for _, i := range order {
			d := &p.Deliveries[i]
			because := s.because(p.Tenant, p.EventID, d.Because)
			if d.Channel == belfry.ChannelInbox && d.State != belfry.Held {
				inbox.text(p.Tenant).text(d.ID).text(p.EventID).text(d.Principal).text(d.Subscription).text(d.Locale).text(d.Template).text(because)
				continue
			}
			if d.Digest != nil {
				if tenant != p.Tenant && len(waiting) > 0 {
					if err := s.putItems(tenant, waiting); err != nil {
						return err
					}
					waiting = waiting[:0]
				}
				tenant, waiting = p.Tenant, append(waiting, d)
				continue
			}
			if d.State.Open() {
				open++
			}
			if p.Run == 0 && isPlain(d) {
				plain := plain
				if s.db.pg && !s.careful && p.From == "" {
					plain = fresh
				}
				plain.text(p.Tenant).text(d.ID).text(p.EventID).text(d.Subscription).text(d.Channel).text(d.Principal).text(d.Address).
					text(d.Destination).num(int64(d.Shard)).num(int64(d.State)).num(dueOf(d.State, d.Due)).text(d.Locale).text(because)
				continue
			}
			row := *d
			row.Tenant, row.EventID, row.Run = p.Tenant, p.EventID, p.Run
			into.delivery(&row, because)
		}
		for i := range p.Suppressions {
			u := &p.Suppressions[i]
			suppressions.text(p.Tenant).text(p.EventID).num(run).text(u.Principal).text(u.Address).text(u.Channel).text(s.because(p.Tenant, p.EventID, u.Because))
		}
		if p.Run > 0 {
			var err error
			if open, err = into.flush(); err != nil { // those that are open now and were not
				return err
			}
		}
		plans := int64(0)
		if p.Last {
			plans = -1
		}
		s.count(p.Tenant, plans, open)
		return nil
	})
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		if err := s.putItems(tenant, waiting); err != nil {
			return err
		}
	}
	for _, r := range []*rows{matches, inbox, suppressions} {
		if _, err := r.flush(); err != nil {
			return err
		}
	}
	if _, err := fresh.flush(); isDuplicate(err) {
		return errCareful
	} else if err != nil {
		return err
	}
	for _, r := range []*rows{plain, deliveries} {
		want := int64(r.n)
		n, err := r.flush()
		if err != nil {
			return err
		}
		if n != want { // some existed: how many of whose open ones is not worth asking
			s.delta = s.delta[:before]
			s.recount = true
		}
	}
	return nil
}
