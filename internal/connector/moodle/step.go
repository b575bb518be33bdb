package moodle

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// fetch reads the next rows of the log.
func (s *source) fetch(ctx context.Context, p *position) ([]*logRow, error) {
	columns := logColumns
	if s.company {
		columns += ", companyid"
	}
	query, args := pollQuery(p, columns, s.conf.log)
	return sqlread.Select(ctx, s.db, query, args, scanLog(s.company))
}

// pollQuery is the one query of a poll: a range of the log's primary key.
// Ranges of ids that are waited for are asked for in the same query; their
// number is padded to a power of two so that there are few texts to prepare.
func pollQuery(p *position, columns, log string) (query string, args []any) {
	query, args = "SELECT "+columns+" FROM {"+log+"} WHERE id > ?", []any{p.High}
	if len(p.Gaps) > 0 {
		n := 1
		for n < len(p.Gaps) {
			n *= 2
		}
		// The lower bound keeps the scan within the window.
		query += " AND (id > ?" + strings.Repeat(" OR (id >= ? AND id <= ?)", n) + ")"
		args = []any{p.Gaps[0].From - 1, p.High}
		for i := range n {
			g := p.Gaps[min(i, len(p.Gaps)-1)]
			args = append(args, g.From, g.To)
		}
	}
	return query + " ORDER BY id LIMIT " + itoa(pollRows), args
}

// entry is a row on its way to become an event.
type entry struct {
	row    *logRow
	typ    string
	other  json.RawMessage
	fields otherFields
}

// step reads a page of the log and hands what it says; more tells that the
// page was full. Only after the commit is anything remembered.
func (s *source) step(ctx context.Context, sink connector.Sink) (more bool, err error) {
	rows, err := s.fetch(ctx, &s.cur.position)
	if err != nil {
		return false, err
	}
	now := s.deps.Now()
	next := s.cur
	next.position = s.cur.clone()
	page, restored, unreadable := s.sift(rows, &next.position, now)
	next.close(now, s.conf.gap)
	if len(rows) == 0 {
		s.cur = next
		s.report(sink, connector.StateTailing, 0, nil)
		return false, nil
	}
	o := s.outbox(sink)
	if err := s.refresh(ctx, page, o); err != nil {
		return false, err
	}
	events, err := s.events(ctx, page, o)
	if err != nil {
		return false, err
	}
	next.Fresh, err = s.learn(page, o)
	if err != nil {
		return false, err
	}
	if err := o.last(ctx, events, func() ([]byte, error) { return s.encode(next) }); err != nil {
		return false, err
	}
	s.cur, s.stored = next, true
	s.counters[countEvents] += int64(len(events))
	s.counters[countRows] += int64(o.count)
	s.counters[countRestored] += int64(restored)
	s.counters[countUnread] += int64(unreadable)
	more = len(rows) == pollRows
	lag := time.Duration(0)
	if more {
		lag = max(0, now.Sub(time.Unix(rows[len(rows)-1].Created, 0)))
	}
	s.report(sink, connector.StateTailing, lag, nil)
	return more, nil
}

// sift notes the rows as read and keeps those that are news.
func (s *source) sift(rows []*logRow, p *position, now time.Time) (page []entry, restored, unreadable int) {
	behind := int64(s.conf.restored / time.Second)
	for _, r := range rows {
		if !p.wants(r.ID) {
			continue
		}
		p.see(r.ID, now, s.liveFrom)
		// A course restore writes the events of the past under new ids.
		if r.Created < p.Newest-behind {
			restored++
			continue
		}
		p.Newest = max(p.Newest, min(r.Created, now.Unix()))
		e := entry{row: r, typ: typeName(r.EventName)}
		if e.typ == "" {
			unreadable++
			s.deps.Log.Warn("a row of the Moodle log has no event name", "id", r.ID)
			continue
		}
		other, err := decodeOther(r.Other.String)
		if err != nil {
			unreadable++
			s.deps.Log.Warn("the column other of a row of the Moodle log cannot be read; the event goes without it", "id", r.ID, "error", err)
			other = json.RawMessage("null")
		}
		e.other, e.fields = other, fieldsOf(other)
		page = append(page, e)
	}
	return page, restored, unreadable
}

// refresh reads again what the rows say has changed, and what they speak of
// and is not known yet, and puts the differences out.
func (s *source) refresh(ctx context.Context, page []entry, o *outbox) error {
	t := newTouched()
	for _, e := range page {
		r := e.row
		if r.ID > s.upTo {
			t.row(r, e.typ, e.fields)
		}
		unknown := func(k kind, id int64) {
			if id > 0 && s.tables[k].get(id) == 0 && !s.tables[k].known(id) {
				t.add(k, id)
			}
		}
		switch r.ContextLevel {
		case levelCategory:
			unknown(kindCategory, r.InstanceID)
		case levelCourse:
			unknown(kindCourse, r.InstanceID)
		case levelModule:
			unknown(kindModule, r.InstanceID)
			unknown(kindCourse, r.CourseID.Int64)
		case levelUser:
			unknown(kindUser, r.InstanceID)
		default:
			unknown(kindCourse, r.CourseID.Int64)
		}
		if r.Component == "mod_forum" {
			unknown(kindDiscussion, forumDiscussion(r, e.fields))
		}
		unknown(kindUser, r.UserID)
		unknown(kindUser, r.RelatedID.Int64)
	}
	if t.roles || t.config {
		if err := s.reload(ctx, t, o); err != nil {
			return err
		}
	}
	if err := t.expand(ctx, s.site); err != nil {
		return err
	}
	for k := range kind(kinds) {
		ids := slices.Sorted(maps.Keys(t.ids[k]))
		if len(ids) == 0 {
			continue
		}
		if k == kindModule || k == kindCategory || k == kindCourse {
			s.forget(k, ids)
		}
		units, err := s.site.byID(ctx, k, ids)
		if err != nil {
			return err
		}
		found := make(map[int64]bool, len(units))
		for i := range units {
			if k == kindGrants && units[i].grants == nil {
				continue
			}
			found[units[i].id] = true
			if err := o.put(ctx, k, &units[i], k == kindGrants); err != nil {
				return err
			}
		}
		for _, id := range ids {
			if !found[id] && s.tables[k].get(id) != 0 {
				if err := o.gone(ctx, k, id); err != nil {
					return err
				}
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(t.people), func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) }) {
		if key[1] <= 0 || t.ids[kindGrants][key[0]] {
			continue
		}
		sets, ok, err := s.site.personGrants(ctx, key[0], key[1], t.people[key])
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		for _, p := range sets {
			o.changes.Grants = append(o.changes.Grants, p.set)
			o.rows += 1 + len(p.set.Grants)
			o.marks = append(o.marks, mark{kindGrants, p.context, dirty})
		}
		if err := o.spill(ctx); err != nil {
			return err
		}
	}
	if s.first {
		s.haunt(page, o)
	}
	return nil
}

// forget drops what the cache says of modules that are read again.
func (s *source) forget(k kind, ids []int64) {
	if k == kindModule {
		for _, id := range ids {
			s.modules.Remove(id)
		}
	}
}

// reload reads roles and settings again, and with them the grants of the site
// and its front page, some of which are settings. A role that was renamed or deleted touches grants
// everywhere, so a full comparison is due.
func (s *source) reload(ctx context.Context, t *touched, o *outbox) error {
	if err := s.site.load(ctx); err != nil {
		return err
	}
	special, err := sqlread.Select(ctx, s.db, "SELECT id FROM {context} WHERE contextlevel = 10 OR (contextlevel = 50 AND instanceid IN (SELECT id FROM {course} WHERE category = 0))", nil, sqlread.Int64)
	if err != nil {
		return err
	}
	for _, id := range special {
		t.add(kindGrants, id)
	}
	if t.roles {
		s.compare = s.deps.Now()
	}
	return nil
}

// haunt puts out the objects that were gone before Belfry came and that old
// rows speak of, as tombstones with what the rows tell of them. Only in the
// Run that began with an empty store: later, the store knows better where a
// deleted object was.
func (s *source) haunt(page []entry, o *outbox) {
	const most = 10_000
	ghost := func(obj belfry.Object) {
		named, seen := s.ghosts[obj.ID]
		if len(s.ghosts) >= most && !seen || seen && (named || obj.Title == "") {
			return
		}
		s.ghosts[obj.ID] = obj.Title != ""
		obj.Origin = s.deps.Origin()
		o.changes.Objects = append(o.changes.Objects, obj)
		o.deletes = append(o.deletes, obj.ID)
		o.rows++
	}
	gone := func(k kind, id int64) bool { return id > 0 && !o.knows(k, id) }
	for _, e := range page {
		r := e.row
		course := r.CourseID.Int64
		if r.ContextLevel == levelCourse {
			course = r.InstanceID
		}
		if gone(kindCourse, course) {
			ghost(belfry.Object{ID: courseID(course), Type: TypeCourse, Parent: SiteObject, Title: e.fields.text("fullname")})
		}
		switch {
		case r.ContextLevel == levelCategory && gone(kindCategory, r.InstanceID):
			ghost(belfry.Object{ID: categoryID(r.InstanceID), Type: TypeCategory, Parent: SiteObject, Title: e.fields.text("name")})
		case r.ContextLevel == levelModule && gone(kindModule, r.InstanceID):
			m := belfry.Object{ID: moduleID(r.InstanceID), Type: e.fields.text("modulename"), Parent: courseID(course), Title: e.fields.text("name")}
			if name, ok := strings.CutPrefix(r.Component, "mod_"); ok && m.Type == "" {
				m.Type = name
			}
			if !moduleName(m.Type) {
				m.Type = "module"
			}
			ghost(m)
		}
	}
}

// events makes the events of a page.
func (s *source) events(ctx context.Context, page []entry, o *outbox) ([]belfry.Event, error) {
	rows := make([]*logRow, 0, len(page))
	for _, e := range page {
		rows = append(rows, e.row)
	}
	records, err := s.recordsOf(ctx, rows)
	if err != nil {
		return nil, err
	}
	names, err := s.moduleNames(ctx, page)
	if err != nil {
		return nil, err
	}
	out := make([]belfry.Event, 0, len(page))
	for _, e := range page {
		at := place{object: s.objectAt(e, o), module: names[e.row.InstanceID]}
		ev, err := buildEvent(e.row, s.deps.Origin(), e.typ, e.other, s.recordOf(e.row, records), at, s.site.links)
		if err != nil {
			return nil, err
		}
		out = append(out, ev)
	}
	return out, nil
}

// objectAt is the object an event happened on.
func (s *source) objectAt(e entry, o *outbox) string {
	r := e.row
	if r.ContextLevel == levelModule && r.Component == "mod_forum" {
		if d := forumDiscussion(r, e.fields); d > 0 && o.knows(kindDiscussion, d) {
			return discussionID(d)
		}
	}
	if id := objectOf(r.ContextLevel, r.InstanceID); id != "" {
		return id
	}
	if r.CourseID.Int64 > 0 {
		return courseID(r.CourseID.Int64)
	}
	return SiteObject
}

// moduleNames finds the names of the modules of a page's activities, by course
// module.
func (s *source) moduleNames(ctx context.Context, page []entry) (map[int64]string, error) {
	out := map[int64]string{}
	var ask []int64
	for _, e := range page {
		r := e.row
		if r.ContextLevel != levelModule || out[r.InstanceID] != "" {
			continue
		}
		name, isModule := strings.CutPrefix(r.Component, "mod_")
		if !isModule {
			name, _ = s.modules.Get(r.InstanceID)
		}
		if moduleName(name) {
			out[r.InstanceID] = name
		} else if !slices.Contains(ask, r.InstanceID) {
			ask = append(ask, r.InstanceID)
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	_, err := sqlread.Select(ctx, s.db, "SELECT id, module FROM {course_modules} WHERE id IN "+sqlread.In(len(ask)), sqlread.Args(ask), func(rows *sql.Rows) (struct{}, error) {
		var id, module int64
		err := rows.Scan(&id, &module)
		if name := s.site.modules[module]; err == nil && name != "" {
			out[id] = name
			s.modules.Add(id, name)
		}
		return struct{}{}, err
	})
	return out, err
}

// maxFresh bounds the types that are learned from rows.
const maxFresh = 1000

// learn puts out catalogue entries for classes that the catalogue lacks (those
// of plug-ins) the first time one is seen.
func (s *source) learn(page []entry, o *outbox) ([]string, error) {
	fresh := s.cur.Fresh
	for _, e := range page {
		if _, ok := s.catalogue[e.typ]; ok || slices.Contains(fresh, e.typ) || len(fresh) >= maxFresh {
			continue
		}
		d, err := document(unknownClass(e.typ).eventType(nil))
		if err != nil {
			return nil, err
		}
		o.changes.Documents = append(o.changes.Documents, d)
		fresh = append(slices.Clone(fresh), e.typ)
	}
	return fresh, nil
}
