package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// acceptance is the payload of door 1.
type acceptance struct {
	drafts   []belfry.Draft
	keys     []dedupeKey
	receipts []belfry.Receipt
}

// AcceptEvents is door 1: it stores the drafts and answers with their
// receipts, in order, once they are durable. A draft whose (tenant, source, id)
// was accepted before, or stands earlier in the call, gets the first one's
// receipt with Duplicate set, and is not stored. Event ids rise in the order of
// commit. Objects and event types the drafts imply are created. Either all
// drafts are accepted or none; text with NUL or broken UTF-8 in a keyed field
// is Invalid.
func (db *DB) AcceptEvents(ctx context.Context, drafts []belfry.Draft) ([]belfry.Receipt, error) {
	a, err := newAcceptance(drafts)
	if err != nil || len(drafts) == 0 {
		return nil, err
	}
	if err := db.doors.accept.do(ctx, &job{weight: len(drafts), data: a}); err != nil {
		return nil, err
	}
	return a.receipts, nil
}

// newAcceptance checks the drafts and does what needs no transaction.
func newAcceptance(drafts []belfry.Draft) (*acceptance, error) {
	a := &acceptance{drafts: drafts, keys: make([]dedupeKey, len(drafts)), receipts: make([]belfry.Receipt, len(drafts))}
	for i := range drafts {
		d := &drafts[i]
		e := d.Event
		if err := clean(d.Tenant, e.Source, e.ID, e.Type, e.Object, e.Transition, e.Actor, e.Comment); err != nil {
			return nil, err
		}
		if err := clean(d.Implied...); err != nil {
			return nil, err
		}
		a.keys[i] = keyOf(e.Source, e.ID)
	}
	return a, nil
}

// A dedupeKey stands for a source and an event's id: 4 bytes of the source's
// hash, 12 of the id as it is, and 16 of the hash of both, which alone would
// do. What stands before them puts the events a source numbers in order beside
// each other in the table; by the hash alone each would write a page of its own.
type dedupeKey [32]byte

func keyOf(source, id string) (k dedupeKey) {
	var room [512]byte
	buf := append(append(room[:0], source...), 0)
	sum := sha256.Sum256(buf)
	copy(k[:4], sum[:])
	copy(k[4:16], id)
	sum = sha256.Sum256(append(buf, id...))
	copy(k[16:], sum[:])
	return k
}

var (
	insertDedupe = insert("dedupe", "tenant:t identity:b event_id:t", "ON CONFLICT DO NOTHING")
	insertEvent  = insert("events", "tenant:t id:t at:n as_of:n type:t object:t body:b", "")
	insertPlan   = insert("plans", "tenant:t event_id:t shard:n run=0 cursor=''", "ON CONFLICT DO NOTHING")
)

func commitAcceptances(s *session, jobs []*job) error {
	for _, j := range jobs {
		clear(j.data.(*acceptance).receipts)
	}
	list := make([]*acceptance, len(jobs))
	for i, j := range jobs {
		list[i] = j.data.(*acceptance)
	}
	return s.accept(list)
}

// identity of an event, for finding duplicates within a transaction.
type identity struct {
	tenant string
	key    dedupeKey
}

// accept stores the drafts of several callers.
func (s *session) accept(list []*acceptance) error {
	total := 0
	for _, a := range list {
		total += len(a.drafts)
	}
	now := s.db.now()
	first := make(map[identity]*belfry.Receipt, total)
	dedupe := s.rows(insertDedupe)
	for _, a := range list {
		for i := range a.drafts {
			key := identity{a.drafts[i].Tenant, a.keys[i]}
			r := &a.receipts[i]
			if seen := first[key]; seen != nil {
				r.EventID, r.Duplicate = seen.EventID, true
				continue
			}
			first[key] = r
			r.EventID, r.At = s.db.ids.next(now)
			dedupe.text(key.tenant).blob(a.keys[i][:]).text(r.EventID)
		}
	}
	fresh := dedupe.n
	stored, err := dedupe.flush()
	if err != nil {
		return err
	}
	if int(stored) != fresh {
		if err := s.findDuplicates(first); err != nil {
			return err
		}
	}
	if err := s.learn(list, now); err != nil {
		return err
	}
	versions, err := s.versions(list)
	if err != nil {
		return err
	}
	if err := s.noteCommits(list); err != nil {
		return err
	}
	if err := s.noteProblems(list); err != nil {
		return err
	}
	events, plans := s.rows(insertEvent), s.rows(insertPlan)
	for _, a := range list {
		for i := range a.drafts {
			d, r := &a.drafts[i], &a.receipts[i]
			if r.Duplicate {
				continue
			}
			r.AsOf = versions[d.Tenant]
			object := d.Event.ObjectOrRoot()
			events.text(d.Tenant).text(r.EventID).num(r.At.UnixMicro()).num(r.AsOf).text(d.Event.Type).text(d.Event.Object).blob(d.Body)
			plans.text(d.Tenant).text(r.EventID).num(int64(belfry.Shard(d.Tenant, object)))
		}
	}
	if _, err := events.flush(); err != nil {
		return err
	}
	if _, err := plans.flush(); err != nil {
		return err
	}
	for _, a := range list {
		for i := range a.drafts {
			r := &a.receipts[i]
			if !r.Duplicate {
				s.count(a.drafts[i].Tenant, 1, 0)
				continue
			}
			of := first[identity{a.drafts[i].Tenant, a.keys[i]}]
			r.EventID, r.At, r.AsOf = of.EventID, of.At, of.AsOf
		}
	}
	return nil
}

// findDuplicates marks the receipts of events that were stored before.
func (s *session) findDuplicates(first map[identity]*belfry.Receipt) error {
	byTenant := map[string][][]byte{}
	for key := range first {
		byTenant[key.tenant] = append(byTenant[key.tenant], slices.Clone(key.key[:]))
	}
	for tenant, identities := range byTenant {
		known := map[string]*belfry.Receipt{}
		err := queryIn(s, func(rows *sql.Rows) error {
			var key []byte
			var id string
			if err := rows.Scan(&key, &id); err != nil {
				return err
			}
			if r := first[identity{tenant, dedupeKey(key)}]; r.EventID != id {
				made, _ := belfry.IDTime(id)
				*r = belfry.Receipt{EventID: id, Duplicate: true, At: made}
				known[id] = r
			}
			return nil
		}, "SELECT identity, event_id FROM dedupe WHERE tenant = $1 AND identity IN_LIST", identities, tenant)
		if err != nil {
			return err
		}
		err = queryIn(s, func(rows *sql.Rows) error {
			var id string
			var at, asOf int64
			if err := rows.Scan(&id, &at, &asOf); err != nil {
				return err
			}
			known[id].At, known[id].AsOf = fromMicros(at), asOf
			return nil
		}, "SELECT id, at, as_of FROM events WHERE tenant = $1 AND id IN_LIST", keys(known), tenant)
		if err != nil {
			return err
		}
	}
	return nil
}

var (
	insertImplied  = insert("objects", "tenant:t id:t parent:t deleted:n version:n body:b", "ON CONFLICT DO NOTHING")
	insertDocument = insert("documents", "tenant:t kind:t id:t version:n body:b", "ON CONFLICT DO NOTHING")
	insertHistory  = insert("history", "tenant:t object:t at:n id:t document:t transition:t actor:t comment:t variables:b", "ON CONFLICT DO NOTHING")
)

// learn creates what the drafts brought along: objects nobody declared, types
// nobody declared, steps of workflows. When there is any, it is an edit.
func (s *session) learn(list []*acceptance, now time.Time) error {
	found := map[string]*lesson{}
	of := func(tenant string) *lesson {
		l := found[tenant]
		if l == nil {
			l = &lesson{objects: map[string]bool{}, types: map[string]bool{}}
			found[tenant] = l
		}
		return l
	}
	for _, a := range list {
		for i := range a.drafts {
			d, r := &a.drafts[i], &a.receipts[i]
			if r.Duplicate {
				continue
			}
			for _, id := range d.Implied {
				of(d.Tenant).objects[id] = true
			}
			if d.Discovered {
				of(d.Tenant).types[d.Event.Type] = true
			}
			if d.Event.Transition != "" {
				l := of(d.Tenant)
				l.steps = append(l.steps, step{d.Event, r.EventID})
			}
		}
	}
	for tenant, l := range found {
		if err := s.learnFor(tenant, l); err != nil {
			return err
		}
	}
	return nil
}

// lesson is what the events of one tenant bring along.
type lesson struct {
	objects map[string]bool
	types   map[string]bool
	steps   []step
}

type step struct {
	event   *belfry.Event
	eventID string
}

func (s *session) learnFor(tenant string, l *lesson) error {
	objects, err := s.missing("SELECT id FROM objects WHERE tenant = $1 AND id IN_LIST", keys(l.objects), tenant)
	if err != nil {
		return err
	}
	types, err := s.missing("SELECT id FROM documents WHERE tenant = $1 AND kind = $2 AND id IN_LIST", keys(l.types), tenant, belfry.KindEventType)
	if err != nil {
		return err
	}
	if len(objects)+len(types)+len(l.steps) == 0 {
		return nil
	}
	version, err := s.bump(tenant)
	if err != nil {
		return err
	}
	rows := s.rows(insertImplied)
	for _, id := range objects {
		body, err := json.Marshal(belfry.Object{ID: id, Implied: true})
		if err != nil {
			return err
		}
		rows.text(tenant).text(id).text("").num(0).num(version).blob(body)
		s.change(tenant, version, belfry.KindObject, id)
	}
	if _, err := rows.flush(); err != nil {
		return err
	}
	rows = s.rows(insertDocument)
	for _, name := range types {
		body, err := json.Marshal(belfry.EventType{Name: name, Discovered: true})
		if err != nil {
			return err
		}
		rows.text(tenant).text(belfry.KindEventType).text(name).num(version).blob(body)
		s.change(tenant, version, belfry.KindEventType, name)
	}
	if _, err := rows.flush(); err != nil {
		return err
	}
	rows = s.rows(insertHistory)
	for _, st := range l.steps {
		e := st.event
		h := belfry.HistoryEntry{Object: e.ObjectOrRoot(), Transition: e.Transition, Actor: e.Actor, Time: e.Time, Comment: e.Comment, Variables: e.Variables}
		if err := s.putHistory(rows, tenant, st.eventID, &h); err != nil {
			return err
		}
		s.change(tenant, version, belfry.KindHistory, h.Object)
	}
	_, err = rows.flush()
	return err
}

// putHistory gathers one step of a workflow; the document it concerns is the
// object's when the step names none.
func (s *session) putHistory(rows *rows, tenant, id string, h *belfry.HistoryEntry) error {
	document := h.Document
	if document == "" {
		err := s.query(func(r *sql.Rows) error {
			var body []byte
			if err := r.Scan(&body); err != nil {
				return err
			}
			var o belfry.Object
			if err := json.Unmarshal(body, &o); err != nil {
				return err
			}
			document = o.Document
			return nil
		}, "SELECT body FROM objects WHERE tenant = $1 AND id = $2", tenant, h.Object)
		if err != nil {
			return err
		}
	}
	rows.text(tenant).text(h.Object).num(h.Time.UnixMicro()).text(id).text(document).text(h.Transition).text(h.Actor).text(h.Comment).blob(h.Variables)
	return nil
}

// missing gives those of ids that the query does not find.
func (s *session) missing(text string, ids []string, args ...any) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	have := map[string]bool{}
	err := queryIn(s, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		have[id] = true
		return err
	}, text, ids, args...)
	if err != nil {
		return nil, err
	}
	out := ids[:0]
	for _, id := range ids {
		if !have[id] {
			out = append(out, id)
		}
	}
	return out, nil
}

// versions gives the current version of each tenant that has drafts, and
// makes tenants known that are new.
func (s *session) versions(list []*acceptance) (map[string]int64, error) {
	out := map[string]int64{}
	for _, a := range list {
		for i := range a.drafts {
			tenant := a.drafts[i].Tenant
			if _, ok := out[tenant]; ok || a.receipts[i].Duplicate {
				continue
			}
			if err := s.know(tenant); err != nil {
				return nil, err
			}
			out[tenant] = 0
		}
	}
	err := queryIn(s, func(rows *sql.Rows) error {
		var tenant string
		var version int64
		err := rows.Scan(&tenant, &version)
		out[tenant] = version
		return err
	}, "SELECT tenant, version FROM versions WHERE tenant IN_LIST", keys(out))
	return out, err
}

// know makes sure that the tenant has a row in versions.
func (s *session) know(tenant string) error {
	if s.known[tenant] {
		return nil
	}
	_, err := s.exec("INSERT INTO versions (tenant, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", tenant)
	s.fresh = append(s.fresh, tenant)
	return err
}

// bump takes the tenant's next version. On PostgreSQL the row stays locked
// until the commit, so versions become visible in their order.
func (s *session) bump(tenant string) (version int64, err error) {
	err = s.query(func(rows *sql.Rows) error { return rows.Scan(&version) },
		"INSERT INTO versions (tenant, version) VALUES ($1, 1) ON CONFLICT (tenant) DO UPDATE SET version = versions.version + 1 RETURNING version", tenant)
	return version, err
}
