package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What people chose may change while digests gather for them. The edit notes
// whose are to be decided anew, in its own transaction; door 2 notes it of what
// it puts into digests that was decided before such an edit. On PostgreSQL both
// go by the row of the tenant's version: an edit holds it until it is
// committed, and door 2 shares it, so that one of the two sees the other.

const (
	// One that is under way begins again.
	lookSet = ` ON CONFLICT (tenant, what, item) DO UPDATE SET version = CASE WHEN excluded.version > bundle_looks.version THEN excluded.version ELSE bundle_looks.version END,
		gone_to = '', until = ''`
	lookAtPeople = `INSERT INTO bundle_looks (tenant, what, item, shard, version)
		SELECT DISTINCT b.tenant, 'person', b.destination, b.shard, CAST($2 AS BIGINT) FROM bundles b
		WHERE b.tenant = $1 AND b.state = 0 AND b.destination <> '' AND b.destination IN_LIST` + lookSet
)

var putLook = insert("bundle_looks", "tenant:t what:t item:t shard:n version:n", lookSet)

// gathering reports whether any digest of the tenant is open.
func (e *edit) gathering() (any bool, err error) {
	if e.gathers != nil {
		return *e.gathers, nil
	}
	err = e.query(func(rows *sql.Rows) error {
		any = true
		var one int
		return rows.Scan(&one)
	}, "SELECT 1 FROM bundles WHERE tenant = $1 AND state = 0 LIMIT 1", e.tenant)
	e.gathers = &any
	return any, err
}

// noteLook notes a look at what is not one person's.
func (e *edit) noteLook(what, item string) {
	e.looks = append(e.looks, belfry.Look{Tenant: e.tenant, What: what, Item: item, Shard: belfry.Shard(e.tenant, item), Version: e.version})
}

// lookAgain stores whose digests are to be decided anew after the edit.
func (e *edit) lookAgain() error {
	for i := range e.ch.Settings {
		e.people = append(e.people, e.ch.Settings[i].User)
	}
	for i := range e.ch.Preferences {
		e.people = append(e.people, e.ch.Preferences[i].User)
	}
	if len(e.people)+len(e.looks) == 0 {
		return nil
	}
	if any, err := e.gathering(); err != nil || !any {
		return err
	}
	if err := e.putLooks(e.looks); err != nil {
		return err
	}
	slices.Sort(e.people)
	_, err := execIn(e.session, lookAtPeople, slices.Compact(e.people), e.tenant, e.version)
	return err
}

func (s *session) putLooks(list []belfry.Look) error {
	rows := s.rows(putLook)
	for _, l := range last(list, func(l *belfry.Look) string { return l.Tenant + "\x00" + l.What + "\x00" + l.Item }) {
		rows.text(l.Tenant).text(l.What).text(l.Item).num(int64(l.Shard)).num(l.Version)
	}
	_, err := rows.flush()
	return err
}

// stored are the bodies of ids as they are before the edit; none when nothing
// gathers, which spares the read.
func (e *edit) stored(text string, ids []string, args ...any) (map[string][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if any, err := e.gathering(); err != nil || !any {
		return nil, err
	}
	bodies := make(map[string][]byte, len(ids))
	return bodies, queryIn(e.session, func(rows *sql.Rows) error {
		var id string
		var body []byte
		err := rows.Scan(&id, &body)
		bodies[id] = body
		return err
	}, text, ids, append([]any{e.tenant}, args...)...)
}

// differs reports whether two stored forms tell differently; one that cannot be
// read does.
func differs[T any](was, is []byte, telling func(*T) string) bool {
	var a, b T
	for _, side := range []struct {
		body []byte
		into *T
	}{{was, &a}, {is, &b}} {
		if len(side.body) > 0 && json.Unmarshal(side.body, side.into) != nil {
			return true
		}
	}
	return telling(&a) != telling(&b)
}

// lookAtSubscriptions notes which of the subscriptions that are about to be
// stored tell people in another way than before.
func (e *edit) lookAtSubscriptions(bodies map[string][]byte) error {
	have, err := e.stored("SELECT id, body FROM subscriptions WHERE tenant = $1 AND id IN_LIST", slices.Sorted(maps.Keys(bodies)))
	for id, was := range have {
		if differs(was, bodies[id], (*belfry.Subscription).Telling) {
			e.noteLook(belfry.LookSubscription, id)
		}
	}
	return err
}

// lookAtDocuments is lookAtSubscriptions for the documents of a kind; a body of
// nil goes.
func (e *edit) lookAtDocuments(kind string, bodies map[string][]byte) error {
	if kind != belfry.KindEventType && kind != belfry.KindSetting {
		return nil
	}
	have, err := e.stored("SELECT id, body FROM documents WHERE tenant = $1 AND kind = $2 AND id IN_LIST", slices.Sorted(maps.Keys(bodies)), kind)
	if err != nil || have == nil {
		return err
	}
	for id, body := range bodies {
		switch {
		case kind == belfry.KindEventType && differs(have[id], body, (*belfry.EventType).Telling):
			e.noteLook(belfry.LookType, id)
		case kind == belfry.KindSetting && id == belfry.TenantSettingsID && differs(have[id], body, (*belfry.TenantSettings).Telling):
			e.noteLook(belfry.LookAll, "")
		}
	}
	return nil
}

// lookAtMembers notes who joined before and now chooses otherwise; what a group
// chooses is looked at as the subscription is.
func (e *edit) lookAtMembers(members []*belfry.Member) error {
	if len(members) == 0 {
		return nil
	}
	if any, err := e.gathering(); err != nil || !any {
		return err
	}
	bySub := map[string]map[string]string{} // subscription -> principal and object -> what is chosen
	for _, m := range members {
		choice, err := memberChoice(m)
		if err != nil {
			return err
		}
		if bySub[m.Subscription] == nil {
			bySub[m.Subscription] = map[string]string{}
		}
		bySub[m.Subscription][m.Principal+"\x00"+m.Object] = choice
	}
	groups := map[string][]string{} // principal -> subscriptions
	for _, sub := range slices.Sorted(maps.Keys(bySub)) {
		who := map[string]bool{}
		for key := range bySub[sub] {
			principal, _, _ := strings.Cut(key, "\x00")
			who[principal] = true
		}
		err := queryIn(e.session, func(rows *sql.Rows) error {
			var principal, object, was string
			if err := rows.Scan(&principal, &object, &was); err != nil {
				return err
			}
			if is, put := bySub[sub][principal+"\x00"+object]; put && is != was {
				e.people = append(e.people, principal)
				groups[principal] = append(groups[principal], sub)
			}
			return nil
		}, "SELECT principal, object, channels FROM members WHERE tenant = $1 AND subscription = $2 AND principal IN_LIST", slices.Sorted(maps.Keys(who)), e.tenant, sub)
		if err != nil {
			return err
		}
	}
	return queryIn(e.session, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		for _, sub := range groups[id] {
			e.noteLook(belfry.LookSubscription, sub)
		}
		return err
	}, "SELECT id FROM groups WHERE tenant = $1 AND id IN_LIST", slices.Sorted(maps.Keys(groups)), e.tenant)
}

// lookAtLeaving notes who leaves a subscription or opts out of it: what waits
// for them of it goes, also when they are back before it is due.
func (e *edit) lookAtLeaving() error {
	if any, err := e.gathering(); err != nil || !any {
		return err
	}
	for _, m := range e.ch.DropMembers {
		e.people = append(e.people, m.Principal)
	}
	for _, o := range e.ch.OptOuts {
		e.people = append(e.people, o.Who)
	}
	return nil
}

// relevant are the kinds of changes that decide how and when people are told.
var relevant = []string{belfry.KindUser, belfry.KindSubscription, belfry.KindMembers, belfry.KindEventType, belfry.KindSetting, belfry.KindEverything}

// lateChanges is how many changes are looked through for what concerns a page;
// when there are more, all of it is looked at.
const lateChanges = 2000

// agree takes the tenant's version into a transaction of door 2 that puts
// something into digests: edits wait until it is over, or it for them.
func (s *session) agree(tenant string) (version int64, err error) {
	text := "SELECT version FROM versions WHERE tenant = $1"
	if s.db.pg {
		text += " FOR SHARE"
	}
	return version, s.query(func(rows *sql.Rows) error { return rows.Scan(&version) }, text, tenant)
}

// late notes whose digests are to be looked at since what pages put there was
// decided before an edit that may concern it.
func (s *session) late(jobs []*job) error {
	now := map[string]int64{}
	least := map[string]int64{}
	err := eachPage(jobs, func(p *belfry.PlanPage) error {
		if !p.Gathers {
			return nil
		}
		version, known := now[p.Tenant]
		if !known {
			var err error
			if version, err = s.agree(p.Tenant); err != nil {
				return err
			}
			now[p.Tenant] = version
		}
		if at, known := least[p.Tenant]; p.Decided < version && (!known || p.Decided < at) {
			least[p.Tenant] = p.Decided
		}
		return nil
	})
	if err != nil || len(least) == 0 {
		return err
	}
	changes := map[string][]belfry.Change{}
	for tenant, after := range least {
		list := changes[tenant]
		err := s.query(func(rows *sql.Rows) error {
			var c belfry.Change
			err := rows.Scan(&c.Version, &c.Kind, &c.Key)
			list = append(list, c)
			return err
		}, "SELECT version, kind, item FROM changes WHERE tenant = $1 AND version > $2 ORDER BY version LIMIT $3", tenant, after, lateChanges+1)
		if err != nil {
			return err
		}
		if len(list) > lateChanges {
			list = append(list, belfry.Change{Version: now[tenant], Kind: belfry.KindEverything})
		}
		for _, c := range s.changed { // of this transaction
			if c.tenant == tenant && c.version > after {
				list = append(list, belfry.Change{Version: c.version, Kind: c.kind, Key: c.item})
			}
		}
		changes[tenant] = slices.DeleteFunc(list, func(c belfry.Change) bool { return !slices.Contains(relevant, c.Kind) })
	}
	var looks []belfry.Look
	err = eachPage(jobs, func(p *belfry.PlanPage) error {
		if !p.Gathers {
			return nil
		}
		touched, all := map[string]bool{}, false
		for _, c := range changes[p.Tenant] {
			if c.Version <= p.Decided {
				continue
			}
			switch c.Kind {
			case belfry.KindUser, belfry.KindSubscription, belfry.KindMembers:
				touched[c.Kind+c.Key] = true
			default:
				all = true
			}
		}
		for i := range p.Deliveries {
			d := &p.Deliveries[i]
			if d.Digest != nil && (all || touched[belfry.KindUser+d.Principal] || touched[belfry.KindSubscription+d.Subscription] || touched[belfry.KindMembers+d.Subscription]) {
				looks = append(looks, belfry.Look{Tenant: p.Tenant, What: belfry.LookPerson, Item: d.Destination, Shard: d.Shard, Version: now[p.Tenant]})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.putLooks(looks)
}

// Looks lists looks of the delivery shards (nil = all), those of a tenant
// together.
func (db *DB) Looks(ctx context.Context, shards []int, limit int) (list []belfry.Look, err error) {
	err = db.queryShards(ctx, func(rows *sql.Rows) error {
		var l belfry.Look
		err := rows.Scan(&l.Tenant, &l.What, &l.Item, &l.Shard, &l.Version, &l.After, &l.Until)
		list = append(list, l)
		return err
	}, "SELECT tenant, what, item, shard, version, gone_to, until FROM bundle_looks WHERE "+andShards(shards)+"version > 0 ORDER BY tenant, what, item LIMIT $1", shards, limit)
	return list, err
}

var (
	dropLook = with("tenant:t what:t item:t version:n",
		"DELETE FROM bundle_looks WHERE (tenant, what, item, version) IN (SELECT tenant, what, item, version FROM a)")
	moveLook = with("tenant:t what:t item:t version:n gone_to:t until:t",
		`UPDATE bundle_looks SET gone_to = a.gone_to, until = a.until FROM a WHERE bundle_looks.tenant = a.tenant AND bundle_looks.what = a.what
		AND bundle_looks.item = a.item AND bundle_looks.version = a.version`)
)

// InboxEntries tells which of the ids are entries of an inbox.
func (db *DB) InboxEntries(ctx context.Context, tenant string, ids []string) (map[string]bool, error) {
	out := map[string]bool{}
	return out, queryRead(ctx, db, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		out[id] = true
		return err
	}, "SELECT id FROM inbox WHERE tenant = $1 AND id IN_LIST", ids, tenant)
}

// OpenBundles lists open bundles that are due after now, in the order of their
// ids, after one and up to another ("" = to the end): of some destinations, nil =
// of all.
func (db *DB) OpenBundles(ctx context.Context, tenant string, who []string, after, until string, now time.Time, limit int) (list []belfry.Bundle, err error) {
	scan := func(rows *sql.Rows) error {
		b, err := scanBundle(rows, tenant)
		list = append(list, b)
		return err
	}
	if until == "" {
		until = "~"
	}
	// Not by an index of those that are open, none of which is in this order.
	text := "SELECT " + bundleCols + " FROM bundles WHERE tenant = $1 AND id > $2 AND id <= $3 AND state + 0 = 0 AND due + 0 > $4"
	if who == nil {
		return list, db.query(ctx, scan, text+" ORDER BY id LIMIT $5", tenant, after, until, micros(now), limit)
	}
	err = queryRead(ctx, db, scan, text+" AND destination <> '' AND destination IN_LIST", who, tenant, after, until, micros(now))
	slices.SortFunc(list, func(a, b belfry.Bundle) int { return strings.Compare(a.ID, b.ID) })
	return list[:min(len(list), limit)], err
}

// LastBundle is the last bundle there is, by its id; "" when there is none.
func (db *DB) LastBundle(ctx context.Context, tenant string) (id string, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&id) }, "SELECT id FROM bundles WHERE tenant = $1 ORDER BY id DESC LIMIT 1", tenant)
	return id, err
}

// regathering is a payload of door 4.
type regathering struct {
	list  []belfry.Regather
	looks []belfry.Look
}

// Regather is door 4, too: it moves items between bundles that gather, and ends
// looks that are done, or notes how far they are. An item that is not there any more, since its bundle was
// sealed or it was cancelled, stays as it is.
func (db *DB) Regather(ctx context.Context, list []belfry.Regather, looks []belfry.Look) error {
	weight := 1 + len(looks)
	for i := range list {
		weight += 1 + len(list[i].Moves)
		for k := range list[i].Moves {
			if to := list[i].Moves[k].To; to != nil {
				if err := clean(to.ID, to.Subscription, to.Channel, to.Principal, to.Address, to.Destination, to.Locale, to.Template); err != nil {
					return err
				}
			}
		}
	}
	return db.doors.seal.do(ctx, &job{weight: weight, data: &regathering{list, looks}})
}

var (
	moveItem = with("tenant:t bundle:t id:t target:t subscription:t template:t because:t",
		`UPDATE bundle_items SET bundle = a.target, subscription = a.subscription, template = a.template, because = a.because FROM a
		WHERE bundle_items.tenant = a.tenant AND bundle_items.bundle = a.bundle AND bundle_items.id = a.id AND bundle_items.state = 0`)
	// Its bundle is the same one, in another slot.
	stayItem = with("tenant:t bundle:t id:t subscription:t template:t because:t",
		`UPDATE bundle_items SET subscription = a.subscription, template = a.template, because = a.because FROM a
		WHERE bundle_items.tenant = a.tenant AND bundle_items.bundle = a.bundle AND bundle_items.id = a.id AND bundle_items.state = 0`)
	againBundle = with("tenant:t id:t due:n frequency:t",
		"UPDATE bundles SET due = a.due, frequency = a.frequency FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id AND bundles.state + 0 = 0")
	// When something came meanwhile, which may be due before the rest, it goes out
	// sooner only.
	againParts = with("tenant:t id:t due:n frequency:t waits:n",
		`UPDATE bundles SET due = a.due, frequency = a.frequency FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id AND bundles.state + 0 = 0
		AND (a.due < bundles.due OR a.waits = (SELECT count(*) FROM bundle_items i WHERE i.tenant = a.tenant AND i.bundle = a.id AND i.state + 0 = 0))`)
	// One that nothing was in but what has moved never was.
	dropBundle = with("tenant:t id:t", `DELETE FROM bundles WHERE (tenant, id) IN (SELECT tenant, id FROM a) AND state + 0 = 0
		AND NOT EXISTS (SELECT 1 FROM bundle_items i WHERE i.tenant = bundles.tenant AND i.bundle = bundles.id)`)
	overBundle = with("tenant:t id:t ended:n because:t",
		`UPDATE bundles SET state = 3, ended = a.ended, because = a.because FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id AND bundles.state + 0 = 0
		AND NOT EXISTS (SELECT 1 FROM bundle_items i WHERE i.tenant = bundles.tenant AND i.bundle = bundles.id AND i.state + 0 = 0)`)  // what came in meanwhile waits on
)

func (s *session) regather(p *regathering) error {
	byTenant := map[string][]*belfry.Regather{}
	for i := range p.list {
		byTenant[p.list[i].Tenant] = append(byTenant[p.list[i].Tenant], &p.list[i])
	}
	for _, tenant := range slices.Sorted(maps.Keys(byTenant)) {
		if err := s.regatherOf(tenant, byTenant[tenant]); err != nil {
			return err
		}
	}
	drop, move := s.rows(dropLook), s.rows(moveLook)
	for _, l := range p.looks {
		if l.After == "" {
			drop.text(l.Tenant).text(l.What).text(l.Item).num(l.Version)
		} else {
			move.text(l.Tenant).text(l.What).text(l.Item).num(l.Version).text(l.After).text(l.Until)
		}
	}
	if _, err := drop.flush(); err != nil {
		return err
	}
	_, err := move.flush()
	return err
}

func (s *session) regatherOf(tenant string, list []*belfry.Regather) error {
	// All that is touched, in the one order in which everybody locks.
	names := map[string]bool{}
	for _, r := range list {
		names[slotOf(r.Slot)] = true
		for i := range r.Moves {
			if to := r.Moves[i].To; to != nil && to.Digest != nil {
				names[slotOf(to)] = true
			}
		}
	}
	found := map[string]bool{}
	err := s.querySlots(func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		found[id] = true
		return err
	}, "id", "UPDATE", tenant, slices.Sorted(maps.Keys(names)))
	if err != nil {
		return err
	}
	waits, err := s.waiting(tenant, list, found)
	if err != nil {
		return err
	}
	var to []*belfry.Delivery // what goes to other places
	for _, r := range list {
		for i := range r.Moves {
			if m := &r.Moves[i]; waits[r.Bundle][m.Item] && m.To != nil && m.To.Digest != nil && slotOf(m.To) != slotOf(r.Slot) {
				to = append(to, m.To)
			}
		}
	}
	_, into, err := s.places(tenant, to, wholes(list, waits, to))
	if err != nil {
		return err
	}
	move, leave, stay := s.rows(moveItem), s.rows(leaveItem), s.rows(stayItem)
	put, entries := s.rows(insertItem), []belfry.Delivery(nil)
	again, parts, drop, over := s.rows(againBundle), s.rows(againParts), s.rows(dropBundle), s.rows(overBundle)
	for _, r := range list {
		here := waits[r.Bundle]
		if here == nil {
			continue // was sealed meanwhile
		}
		own, seen := slotOf(r.Slot), len(here) == r.Seen
		var stays *belfry.Bundling // of what waits where it did, the earliest
		moved := 0
		for i := range r.Moves {
			m := &r.Moves[i]
			if !here[m.Item] {
				continue
			}
			same := m.To != nil && m.To.ID == m.Item && m.To.Digest != nil
			switch {
			case same && slotOf(m.To) == own:
				if stays == nil || m.To.Digest.Due.Before(stays.Due) {
					stays = m.To.Digest
				}
				continue
			case same && into[slotOf(m.To)] == r.Bundle: // it takes that slot
				stay.text(tenant).text(r.Bundle).text(m.Item).text(m.To.Subscription).text(m.To.Template).text(s.because(tenant, m.To.EventID, m.To.Because))
				continue
			case same:
				move.text(tenant).text(r.Bundle).text(m.Item).text(into[slotOf(m.To)]).text(m.To.Subscription).text(m.To.Template).text(s.because(tenant, m.To.EventID, m.To.Because))
			default:
				leave.text(tenant).text(r.Bundle).text(m.Item).text(s.scribe.reason(&m.Because))
				switch d := m.To; {
				case d == nil:
				case d.Digest != nil:
					put.text(tenant).text(into[slotOf(d)]).text(d.ID).text(d.EventID).num(int64(d.Run)).text(d.Subscription).text(d.Template).text(s.because(tenant, d.EventID, d.Because))
				default:
					entries = append(entries, *d)
				}
			}
			moved++
		}
		last := r.InPart() && r.To == ""               // the other parts say nothing of the whole
		if last || !r.InPart() && moved == len(here) { // nothing is left that it could say
			drop.text(tenant).text(r.Bundle)
			over.text(tenant).text(r.Bundle).num(micros(r.At)).text(s.scribe.reason(&belfry.Reason{Code: belfry.NothingLeft}))
		}
		if last {
			stays = r.Stays
		}
		if stays == nil || !last && (r.InPart() || !seen || moved == len(here)) {
			continue
		}
		frequency, err := json.Marshal(stays.Frequency)
		if err != nil {
			return err
		}
		if last {
			parts.text(tenant).text(r.Bundle).num(micros(stays.Due)).text(string(frequency)).num(int64(r.Waits))
		} else {
			again.text(tenant).text(r.Bundle).num(micros(stays.Due)).text(string(frequency))
		}
	}
	for _, r := range []*rows{stay, move, leave, put, again, parts, drop, over} {
		if _, err := r.flush(); err != nil {
			return err
		}
	}
	return s.putEntries(entries)
}

// wholes are, by the slot that they go to, bundles of which all that waits goes to
// one slot, and to whose own nothing goes.
func wholes(list []*belfry.Regather, waits map[string]map[string]bool, to []*belfry.Delivery) map[string]wholeBundle {
	out, filled := map[string]wholeBundle{}, map[string]bool{}
	for _, d := range to {
		filled[slotOf(d)] = true
	}
	for _, r := range list {
		if r.InPart() {
			continue
		}
		here, slot, n := waits[r.Bundle], "", 0
		for i := range r.Moves {
			m := &r.Moves[i]
			if !here[m.Item] || m.To == nil || m.To.ID != m.Item || m.To.Digest == nil {
				continue
			}
			if name := slotOf(m.To); n == 0 || name == slot {
				slot = name
				n++
			}
		}
		if own := slotOf(r.Slot); n > 0 && n == len(here) && slot != own && !filled[own] {
			out[slot] = wholeBundle{r.Bundle, n}
		}
	}
	return out
}

// waiting are the items that wait in the bundles that are open, or in the parts of
// them, by bundle.
func (s *session) waiting(tenant string, list []*belfry.Regather, open map[string]bool) (map[string]map[string]bool, error) {
	out := map[string]map[string]bool{}
	var wholes []string
	var parts []*belfry.Regather
	for _, r := range list {
		switch {
		case !open[r.Bundle]:
			continue
		case r.InPart():
			parts = append(parts, r)
		default:
			wholes = append(wholes, r.Bundle)
		}
		out[r.Bundle] = map[string]bool{}
	}
	scan := func(rows *sql.Rows) error {
		var bundle, id string
		err := rows.Scan(&bundle, &id)
		out[bundle][id] = true
		return err
	}
	slices.Sort(wholes)
	err := s.queryEach(scan, "SELECT bundle, id FROM bundle_items WHERE tenant = $1 AND state = 0 AND bundle IN_LIST FOR UPDATE", // who cancels one waits
		wholes, tenant)
	text := "SELECT bundle, id FROM bundle_items WHERE tenant = $1 AND bundle = $2 AND id > $3 AND id <= $4 AND state = 0"
	if s.db.pg {
		text += " FOR UPDATE"
	}
	slices.SortFunc(parts, func(a, b *belfry.Regather) int { return strings.Compare(a.Bundle, b.Bundle) })
	for _, r := range parts {
		if err == nil {
			err = s.query(scan, text, tenant, r.Bundle, r.After, cmp.Or(r.To, "~"))
		}
	}
	return out, err
}
