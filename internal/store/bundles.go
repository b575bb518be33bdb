package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// slotOf names what has one open bundle at a time: a person (or a bare address),
// a channel and a key.
func slotOf(d *belfry.Delivery) string {
	who := d.Principal
	if who == "" {
		who = "\x00" + d.Address
	}
	sum := sha256.Sum256([]byte(who + "\x00" + d.Channel + "\x00" + d.Digest.Key))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// slot is what a transaction puts into one bundle.
type slot struct {
	name   string
	first  *belfry.Delivery
	due    time.Time
	oldest string
	items  []*belfry.Delivery
}

var (
	insertBundle = insert("bundles", `tenant:t id:t slot:t principal:t channel:t address:t destination:t shard:n bundle_key:t frequency:t held:n counts:n
		locale:t due:n opened:n oldest:t state=0 sealed=0 ended=0 message='' because=''`, "ON CONFLICT DO NOTHING")
	takeSlot = with("tenant:t id:t slot:t address:t bundle_key:t frequency:t held:n counts:n locale:t due:n opened:n",
		`UPDATE bundles SET slot = a.slot, address = a.address, bundle_key = a.bundle_key, frequency = a.frequency, held = a.held, counts = a.counts,
		locale = a.locale, due = a.due, opened = a.opened, because = '' FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id AND bundles.state + 0 = 0`)
	insertItem = insert("bundle_items", "tenant:t bundle:t id:t event_id:t run:n subscription:t template:t because:t state=0 ended=''", "ON CONFLICT DO NOTHING")
	// An item may be due before those it joins, or be older.
	hastenBundle = with("tenant:t id:t due:n oldest:t", `UPDATE bundles SET due = CASE WHEN a.due < bundles.due THEN a.due ELSE bundles.due END,
		oldest = CASE WHEN a.oldest < bundles.oldest THEN a.oldest ELSE bundles.oldest END FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id`)
)

// putItems puts what waits for a digest into the open bundles, which are begun
// where there are none. A bundle that is being sealed on PostgreSQL is waited
// for: what it did not take goes into the next.
func (s *session) putItems(tenant string, items []*belfry.Delivery) error {
	slots, into, err := s.places(tenant, items, nil)
	if err != nil {
		return err
	}
	rows := s.rows(insertItem)
	for _, sl := range slots {
		for _, d := range sl.items {
			rows.text(tenant).text(into[sl.name]).text(d.ID).text(d.EventID).num(int64(d.Run)).text(d.Subscription).text(d.Template).text(s.because(tenant, d.EventID, d.Because))
		}
	}
	_, err = rows.flush()
	return err
}

// places finds, or begins, the open bundle of each slot that items go to. Where
// there is none, a bundle of which all goes there takes the slot: whole are those,
// by slot.
func (s *session) places(tenant string, items []*belfry.Delivery, whole map[string]wholeBundle) (slots []*slot, into map[string]string, err error) {
	byName := map[string]*slot{}
	for _, d := range items {
		name := slotOf(d)
		sl := byName[name]
		if sl == nil {
			sl = &slot{name: name, first: d, oldest: d.ID}
			byName[name] = sl
			slots = append(slots, sl)
		}
		sl.oldest = min(sl.oldest, d.ID)
		sl.items = append(sl.items, d)
	}
	// In one order everywhere, so that transactions do not wait for each other.
	slices.SortFunc(slots, func(a, b *slot) int { return strings.Compare(a.name, b.name) })
	into = make(map[string]string, len(slots)) // slot -> bundle
	if err := s.dues(tenant, slots); err != nil {
		return nil, nil, err
	}
	for left := slots; len(left) > 0; {
		if err := s.openBundles(tenant, left, byName, into); err != nil {
			return nil, nil, err
		}
		if left = slices.DeleteFunc(slices.Clone(left), func(sl *slot) bool { return into[sl.name] != "" }); len(left) == 0 {
			break
		}
		if err := s.takeSlots(tenant, left, whole, into); err != nil {
			return nil, nil, err
		}
		left = slices.DeleteFunc(left, func(sl *slot) bool { return into[sl.name] != "" })
		if err := s.beginBundles(tenant, left, into); err != nil {
			return nil, nil, err
		}
		// Begun by somebody else meanwhile: found when looked for again.
		left = slices.DeleteFunc(left, func(sl *slot) bool { return into[sl.name] != "" })
	}
	return slots, into, nil
}

// dues says when a bundle of each slot goes out that is begun now: for some by
// when the last one went.
func (s *session) dues(tenant string, slots []*slot) error {
	lasts := map[string]time.Time{}
	var counting []string
	for _, sl := range slots {
		if sl.first.Digest.Counts() {
			counting = append(counting, sl.name)
		}
	}
	err := queryIn(s, func(rows *sql.Rows) error {
		var name string
		var at int64
		err := rows.Scan(&name, &at)
		lasts[name] = fromMicros(at)
		return err
	}, "SELECT slot, at FROM bundle_lasts WHERE tenant = $1 AND slot IN_LIST", counting, tenant)
	if err != nil {
		return err
	}
	for _, sl := range slots {
		for i, d := range sl.items {
			if due := d.Digest.DueAfter(lasts[sl.name]); i == 0 || due.Before(sl.due) {
				sl.due = due
			}
		}
	}
	return nil
}

// querySlots reads columns of the open bundles of slots, which are in order; on
// PostgreSQL it locks each in that order, and asks in words that one index answers
// to: see migration 00022.
func (s *session) querySlots(scan func(*sql.Rows) error, columns, lock, tenant string, slots []string) error {
	open := "state = 0"
	if s.db.pg {
		open = "-state = 0"
	}
	return s.queryEach(scan, "SELECT "+columns+" FROM bundles WHERE tenant = $1 AND "+open+" AND slot IN_LIST FOR "+lock, slots, tenant)
}

// openBundles finds the open bundles of slots.
func (s *session) openBundles(tenant string, slots []*slot, byName map[string]*slot, into map[string]string) error {
	names := make([]string, len(slots))
	for i, sl := range slots {
		names[i] = sl.name
	}
	hasten := s.rows(hastenBundle)
	err := s.querySlots(func(rows *sql.Rows) error {
		var name, id, oldest string
		var due int64
		if err := rows.Scan(&name, &id, &due, &oldest); err != nil {
			return err
		}
		into[name] = id
		if sl := byName[name]; micros(sl.due) < due || sl.oldest < oldest {
			hasten.text(tenant).text(id).num(micros(sl.due)).text(sl.oldest)
		}
		return nil
	}, "slot, id, due, oldest", "SHARE", tenant, names) // nobody seals them before this is committed
	if err == nil {
		_, err = hasten.flush()
	}
	return err
}

// wholeBundle is a bundle with so many items that wait, all of which go on.
type wholeBundle struct {
	id    string
	items int
}

// takeSlots gives free slots to bundles of which all goes there: neither items
// nor what finds them by their bundle are written again.
func (s *session) takeSlots(tenant string, slots []*slot, whole map[string]wholeBundle, into map[string]string) error {
	if len(whole) == 0 || s.careful {
		return nil
	}
	now := s.db.now()
	rows := s.rows(takeSlot)
	for _, sl := range slots {
		b, d := whole[sl.name], sl.first
		if b.id == "" || b.items != len(sl.items) { // or something else comes with it
			continue
		}
		frequency, err := json.Marshal(d.Digest.Frequency)
		if err != nil {
			return err
		}
		rows.text(tenant).text(b.id).text(sl.name).text(d.Address).text(d.Digest.Key).text(string(frequency)).num(bit(d.Digest.Held)).num(bit(d.Digest.Counts())).
			text(d.Locale).num(micros(sl.due)).num(micros(now))
		into[sl.name] = b.id
	}
	want := int64(rows.n)
	n, err := rows.flush()
	if isDuplicate(err) || err == nil && n != want {
		return errCareful // somebody else has begun one there meanwhile
	}
	return err
}

func (s *session) beginBundles(tenant string, slots []*slot, into map[string]string) error {
	now := s.db.now()
	rows := s.rows(insertBundle)
	for _, sl := range slots {
		d := sl.first
		id := belfry.NewID(belfry.BundlePrefix, now)
		frequency, err := json.Marshal(d.Digest.Frequency)
		if err != nil {
			return err
		}
		rows.text(tenant).text(id).text(sl.name).text(d.Principal).text(d.Channel).text(d.Address).text(d.Destination).num(int64(d.Shard)).
			text(d.Digest.Key).text(string(frequency)).num(bit(d.Digest.Held)).num(bit(d.Digest.Counts())).text(d.Locale).
			num(micros(sl.due)).num(micros(now)).text(sl.oldest)
		if !s.db.pg {
			into[sl.name] = id
		}
	}
	if !s.db.pg {
		_, err := rows.flush()
		return err
	}
	return rows.query(func(r *sql.Rows) error {
		var name, id string
		err := r.Scan(&name, &id)
		into[name] = id
		return err
	}, " RETURNING slot, id")
}

const bundleCols = `id, principal, channel, address, destination, shard, bundle_key, frequency, held, counts, locale, due, state, opened, sealed, ended,
	message, because`

func scanBundle(rows *sql.Rows, tenant string) (b belfry.Bundle, err error) {
	var frequency, because string
	var due, opened, sealed, ended int64
	b.Tenant = tenant
	if err := rows.Scan(&b.ID, &b.Principal, &b.Channel, &b.Address, &b.Destination, &b.Shard, &b.Key, &frequency, &b.Held, &b.Counts, &b.Locale,
		&due, &b.State, &opened, &sealed, &ended, &b.Message, &because); err != nil {
		return b, err
	}
	b.Due, b.Opened, b.Sealed, b.Ended = fromMicros(due), fromMicros(opened), fromMicros(sealed), fromMicros(ended)
	if because != "" {
		b.Because = new(belfry.Reason)
		if err := json.Unmarshal([]byte(because), b.Because); err != nil {
			return b, err
		}
	}
	return b, json.Unmarshal([]byte(frequency), &b.Frequency)
}

// DueBundles lists open bundles that are due by until, the earliest first.
// shards are the delivery shards that are meant, nil all of them.
func (db *DB) DueBundles(ctx context.Context, tenant string, until time.Time, limit int, shards []int) (list []belfry.Bundle, err error) {
	err = db.queryShards(ctx, func(rows *sql.Rows) error {
		b, err := scanBundle(rows, tenant)
		list = append(list, b)
		return err
	}, "SELECT "+bundleCols+" FROM bundles WHERE tenant = $1 AND "+andShards(shards)+"state = 0 AND due <= $2 ORDER BY due, id LIMIT $3", shards,
		tenant, micros(until), orDefault(limit, 100))
	return list, err
}

// NextBundle is when the next open bundle of the shards (nil = all) falls due,
// false when there is none.
func (db *DB) NextBundle(ctx context.Context, tenant string, shards []int) (at time.Time, ok bool, err error) {
	err = db.queryShards(ctx, func(rows *sql.Rows) error {
		var due int64
		err := rows.Scan(&due)
		at, ok = fromMicros(due), true
		return err
	}, "SELECT due FROM bundles WHERE tenant = $1 AND "+andShards(shards)+"state = 0 ORDER BY due LIMIT 1", shards, tenant)
	return at, ok, err
}

// NextBundles is NextBundle of every tenant that has one, in one statement.
func (db *DB) NextBundles(ctx context.Context, shards []int) (map[string]time.Time, error) {
	return db.nexts(ctx, shards, "bundles WHERE state = 0 AND ")
}

// itemCols are the columns scanItem reads.
var itemCols = "bundle, id, event_id, run, subscription, template, state, " + becauseOf("bundle_items") + ", ended"

func (db *DB) scanItem(rows *sql.Rows) (it belfry.BundleItem, err error) {
	var because, ended string
	if err := rows.Scan(&it.Bundle, &it.ID, &it.EventID, &it.Run, &it.Subscription, &it.Template, &it.State, &because, &ended); err != nil {
		return it, err
	}
	it.Because, err = db.known.read(because, ended)
	return it, err
}

// waitingCols are the columns scanWaiting reads, of items that wait: few, as each
// costs SQLite's driver several calls, and these rows are the most that digests
// read.
var waitingCols = "bundle, id, event_id, run, subscription || '" + unitSeparator + "' || template || '" + unitSeparator + "' || " + becauseOf("bundle_items")

// unitSeparator is in no name, and in no JSON.
const unitSeparator = "\x1f"

func (db *DB) scanWaiting(rows *sql.Rows) (it belfry.BundleItem, err error) {
	var rest string
	if err := rows.Scan(&it.Bundle, &it.ID, &it.EventID, &it.Run, &rest); err != nil {
		return it, err
	}
	it.Subscription, rest, _ = strings.Cut(rest, unitSeparator)
	it.Template, rest, _ = strings.Cut(rest, unitSeparator)
	it.Because, err = db.known.read(rest, "")
	return it, err
}

// BundleItems reads the items of bundles, by bundle in the order of their ids,
// at most limit of each; 0 = all. Reasons may be shared between them: read only.
func (db *DB) BundleItems(ctx context.Context, tenant string, bundles []string, limit int) (map[string][]belfry.BundleItem, error) {
	return db.bundleItems(ctx, tenant, bundles, limit, db.scanItem, "SELECT "+itemCols+" FROM bundle_items WHERE tenant = $1 AND bundle IN_LIST")
}

// WaitingOf is BundleItems of those that wait.
func (db *DB) WaitingOf(ctx context.Context, tenant string, bundles []string, limit int) (map[string][]belfry.BundleItem, error) {
	return db.bundleItems(ctx, tenant, bundles, limit, db.scanWaiting, "SELECT "+waitingCols+" FROM bundle_items WHERE tenant = $1 AND state = 0 AND bundle IN_LIST")
}

func (db *DB) bundleItems(ctx context.Context, tenant string, bundles []string, limit int, scan func(*sql.Rows) (belfry.BundleItem, error), text string) (map[string][]belfry.BundleItem, error) {
	out := make(map[string][]belfry.BundleItem, len(bundles))
	err := db.queryEach(ctx, func(rows *sql.Rows) error {
		it, err := scan(rows)
		if limit == 0 || len(out[it.Bundle]) < limit {
			out[it.Bundle] = append(out[it.Bundle], it)
		}
		return err
	}, text, bundles, tenant)
	for _, items := range out {
		slices.SortFunc(items, func(a, b belfry.BundleItem) int { return strings.Compare(a.ID, b.ID) })
	}
	return out, err
}

// WaitingItems reads up to limit items of a bundle that wait, after one, in the
// order of their ids.
func (db *DB) WaitingItems(ctx context.Context, tenant, bundle, after string, limit int) (list []belfry.BundleItem, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		it, err := db.scanItem(rows)
		list = append(list, it)
		return err
	}, "SELECT "+itemCols+" FROM bundle_items WHERE tenant = $1 AND bundle = $2 AND id > $3 AND state = 0 ORDER BY id LIMIT $4", tenant, bundle, after, limit)
	return list, err
}

// sealing is the payload of door 4.
type sealing struct {
	seals   []belfry.Seal
	applied []bool
}

// SealBundles is door 4: it ends the gathering of bundles that are open. What
// becomes a message has its items and the message's id for good from then on,
// and the message is an open delivery. What was to wait for what was seen of it
// does not when an item came since. The answer says what was done; nothing is of
// those that were not open any more. When the error is set, those that are true
// are done all the same.
func (db *DB) SealBundles(ctx context.Context, seals []belfry.Seal) ([]bool, error) {
	if len(seals) == 0 {
		return nil, nil
	}
	for i := range seals {
		if m := seals[i].Message; m != nil {
			if err := clean(m.Subscription, m.Channel, m.Principal, m.Address, m.Destination, m.Locale); err != nil {
				return nil, err
			}
		}
	}
	p := &sealing{seals: seals, applied: make([]bool, len(seals))}
	err := db.doors.seal.do(ctx, sealJob(p))
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	return p.applied, err
}

func sealJob(p *sealing) *job {
	j := &job{weight: len(p.seals), data: p, failed: func(error) { clear(p.applied) }}
	if n := len(p.seals); n > 1 {
		j.split = func() []*job {
			return []*job{sealJob(&sealing{p.seals[:n/2], p.applied[:n/2]}), sealJob(&sealing{p.seals[n/2:], p.applied[n/2:]})}
		}
	}
	return j
}

// Ending the gathering of a bundle: on PostgreSQL of many at once, on SQLite
// one by one.
const (
	sealOne  = "UPDATE bundles SET state = ?, sealed = ?, ended = ?, message = ?, because = ? WHERE tenant = ? AND id = ? AND state = 0"
	delayOne = `UPDATE bundles SET due = ?, because = ? WHERE tenant = ? AND id = ? AND state = 0
		AND (?5 = 0 OR (SELECT count(*) FROM bundle_items i WHERE i.tenant = bundles.tenant AND i.bundle = bundles.id) = ?5)`
)

var (
	sealMany = with("tenant:t id:t state:n sealed:n ended:n message:t because:t", // PostgreSQL only
		`UPDATE bundles SET state = a.state, sealed = a.sealed, ended = a.ended, message = a.message, because = a.because
		FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id AND bundles.state + 0 = 0`)
	delayMany = with("tenant:t id:t due:n because:t seen:n", // PostgreSQL only
		`UPDATE bundles SET due = a.due, because = a.because FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id AND bundles.state + 0 = 0
		AND (a.seen = 0 OR (SELECT count(*) FROM bundle_items i WHERE i.tenant = a.tenant AND i.bundle = a.id) = a.seen)`)
	noteLasts = with("tenant:t id:t at:n", `INSERT INTO bundle_lasts (tenant, slot, at) SELECT b.tenant, b.slot, a.at FROM a
		JOIN bundles b ON b.tenant = a.tenant AND b.id = a.id WHERE b.counts = 1
		ON CONFLICT (tenant, slot) DO UPDATE SET at = excluded.at WHERE excluded.at > bundle_lasts.at`)
)

func commitSeals(s *session, jobs []*job) error {
	for _, j := range jobs {
		var err error
		switch p := j.data.(type) {
		case *sealing:
			clear(p.applied)
			err = s.seal(p)
		case *regathering:
			err = s.regather(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *session) seal(p *sealing) error {
	if err := s.closeBundles(p); err != nil {
		return err
	}
	deliveries, lasts := s.rows(insertDelivery), s.rows(noteLasts)
	var want int64
	for i := range p.seals {
		seal := &p.seals[i]
		m := seal.Message
		if !p.applied[i] || m == nil {
			continue
		}
		want++
		row := *m
		row.Tenant, row.EventID, row.Bundle = seal.Tenant, seal.Bundle, seal.Bundle
		deliveries.delivery(&row, s.because(m.Tenant, m.EventID, m.Because))
		lasts.text(seal.Tenant).text(seal.Bundle).num(micros(seal.At))
		s.count(seal.Tenant, 0, 1)
	}
	n, err := deliveries.flush()
	if err != nil {
		return err
	}
	if n != want {
		return belfry.Errorf(belfry.Internal, "a digest's message has an id that another delivery has")
	}
	_, err = lasts.flush()
	return err
}

// sealed is what a seal makes of a bundle.
func (s *session) sealed(seal *belfry.Seal) (state belfry.BundleState, ended int64, message, because string) {
	if seal.Message != nil {
		return belfry.BundleSealed, 0, seal.Message.ID, ""
	}
	return belfry.BundleOver, micros(seal.At), "", s.scribe.reason(seal.Drop)
}

func (s *session) closeBundles(p *sealing) error {
	if s.db.pg {
		return s.closeMany(p)
	}
	for i := range p.seals {
		seal := &p.seals[i]
		var n int64
		var err error
		if !seal.Until.IsZero() {
			n, err = s.execRow(delayOne, micros(seal.Until), s.scribe.reason(seal.Drop), seal.Tenant, seal.Bundle, int64(seal.Seen))
		} else {
			state, ended, message, because := s.sealed(seal)
			n, err = s.execRow(sealOne, int64(state), micros(seal.At), ended, message, because, seal.Tenant, seal.Bundle)
		}
		if err != nil {
			return err
		}
		p.applied[i] = n > 0
	}
	return nil
}

func (s *session) closeMany(p *sealing) error {
	// Whoever puts items into them locks them in this order too.
	byTenant := map[string][]string{}
	for i := range p.seals {
		byTenant[p.seals[i].Tenant] = append(byTenant[p.seals[i].Tenant], p.seals[i].Bundle)
	}
	open := map[string]bool{}
	for tenant, ids := range byTenant {
		err := queryIn(s, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			open[id] = true
			return err
		}, "SELECT id FROM bundles WHERE tenant = $1 AND state + 0 = 0 AND id IN_LIST ORDER BY slot FOR UPDATE", ids, tenant)
		if err != nil {
			return err
		}
	}
	seal, delay := s.rows(sealMany), s.rows(delayMany)
	delayed := map[string]int{}
	for i := range p.seals {
		sl := &p.seals[i]
		switch {
		case !open[sl.Bundle]:
		case !sl.Until.IsZero():
			delay.text(sl.Tenant).text(sl.Bundle).num(micros(sl.Until)).text(s.scribe.reason(sl.Drop)).num(int64(sl.Seen))
			delayed[sl.Tenant+"\x00"+sl.Bundle] = i
		default:
			state, ended, message, because := s.sealed(sl)
			seal.text(sl.Tenant).text(sl.Bundle).num(int64(state)).num(micros(sl.At)).num(ended).text(message).text(because)
			p.applied[i] = true
		}
		delete(open, sl.Bundle) // once
	}
	if _, err := seal.flush(); err != nil {
		return err
	}
	return delay.query(func(r *sql.Rows) error {
		var tenant, id string
		err := r.Scan(&tenant, &id)
		p.applied[delayed[tenant+"\x00"+id]] = true
		return err
	}, " RETURNING bundles.tenant, bundles.id")
}

var (
	// Why it went another way stays known.
	endBundle = with("tenant:t id:t state:n ended:n because:t",
		`UPDATE bundles SET state = a.state, ended = a.ended, because = CASE WHEN a.because = '' THEN bundles.because ELSE a.because END
		FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id AND bundles.state + 0 > 0`)
	// Told in another way: the same items, by another message.
	passBundle = with("tenant:t id:t channel:t address:t message:t because:t",
		`UPDATE bundles SET channel = a.channel, address = a.address, message = a.message, because = a.because
		FROM a WHERE bundles.tenant = a.tenant AND bundles.id = a.id AND bundles.state + 0 > 0`)
	leaveItem = with("tenant:t bundle:t id:t ended:t",
		`UPDATE bundle_items SET state = 5, ended = a.ended FROM a WHERE bundle_items.tenant = a.tenant AND bundle_items.bundle = a.bundle
		AND bundle_items.id = a.id AND bundle_items.state = 0`)
)

// endBundles notes, of attempts that ended the delivery of a digest, how the
// digest ended and what was left out of it.
func (s *session) endBundles(round []attemptRef) error {
	any := false
	for _, f := range round {
		any = any || f.attempt().Bundle != "" && f.r.applied[f.i]
	}
	if !any {
		return nil
	}
	ends, items, pass := s.rows(endBundle), s.rows(leaveItem), s.rows(passBundle)
	for _, f := range round {
		a := f.attempt()
		if a.Bundle == "" || !f.r.applied[f.i] || a.State.Open() {
			continue
		}
		state, because := belfry.BundleOver, a.Because
		if a.State == belfry.Delivered {
			state = belfry.BundleSent
		}
		if d := a.Then; d != nil {
			because = &d.Because[len(d.Because)-1]
			if d.Channel != belfry.ChannelInbox { // which tells by entries of its own
				pass.text(a.Tenant).text(a.Bundle).text(d.Channel).text(d.Address).text(d.ID).text(s.scribe.reason(because))
			}
		}
		if a.Then == nil || a.Then.Channel == belfry.ChannelInbox {
			ends.text(a.Tenant).text(a.Bundle).num(int64(state)).num(micros(a.At)).text(s.scribe.reason(because))
		}
		for i := range a.Dropped {
			items.text(a.Tenant).text(a.Bundle).text(a.Dropped[i].ID).text(s.scribe.reason(&a.Dropped[i].Because))
		}
	}
	for _, r := range []*rows{pass, ends} {
		if _, err := r.flush(); err != nil {
			return err
		}
	}
	_, err := items.flush()
	return err
}

// itemDelivery shows an item as the delivery it would be alone.
func itemDelivery(it *belfry.BundleItem, b *belfry.Bundle, message belfry.State) belfry.Delivery {
	d := belfry.Delivery{
		Tenant: b.Tenant, ID: it.ID, EventID: it.EventID, Run: it.Run, Subscription: it.Subscription, Channel: b.Channel, Principal: b.Principal,
		Address: b.Address, Destination: b.Destination, Shard: b.Shard, State: it.State, Due: b.Due, Bundle: b.ID, Locale: b.Locale,
		Template: it.Template, Because: it.Because,
	}
	if it.State != belfry.Scheduled {
		return d
	}
	switch b.State {
	case belfry.BundleOpen:
		if b.Because != nil { // why it waits longer
			d.Because = append(slices.Clip(d.Because), *b.Because)
		}
	case belfry.BundleSent:
		d.State = belfry.Delivered
	default:
		d.State = message
		if b.Message == "" {
			d.State = belfry.Suppressed
		}
	}
	if b.Because != nil && (d.State == belfry.Suppressed || b.Because.Code == belfry.FellBack) {
		d.Because = append(slices.Clip(d.Because), *b.Because)
	}
	return d
}

// itemSource joins items with their bundles and the messages of those.
const itemSource = ` FROM bundle_items i JOIN bundles b ON b.tenant = i.tenant AND b.id = i.bundle
	LEFT JOIN deliveries m ON m.tenant = b.tenant AND m.id = b.message WHERE i.tenant = $1 AND `

var itemJoined = "i.bundle, i.id, i.event_id, i.run, i.subscription, i.template, i.state, " + becauseOf("i") + ", i.ended, b." + strings.Join(strings.Fields(strings.ReplaceAll(bundleCols, ",", " ")), ", b.") + ", COALESCE(m.state, 4)"

// items reads items as deliveries.
func (db *DB) items(ctx context.Context, tenant, text string, args ...any) (list []belfry.Delivery, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var it belfry.BundleItem
		b := belfry.Bundle{Tenant: tenant}
		var message belfry.State
		var because, ended, frequency, over string
		var due, opened, sealed, end int64
		if err := rows.Scan(&it.Bundle, &it.ID, &it.EventID, &it.Run, &it.Subscription, &it.Template, &it.State, &because, &ended,
			&b.ID, &b.Principal, &b.Channel, &b.Address, &b.Destination, &b.Shard, &b.Key, &frequency, &b.Held, &b.Counts, &b.Locale,
			&due, &b.State, &opened, &sealed, &end, &b.Message, &over, &message); err != nil {
			return err
		}
		var err error
		if it.Because, err = readReasons(because, ended); err != nil {
			return err
		}
		if over != "" {
			b.Because = new(belfry.Reason)
			if err := json.Unmarshal([]byte(over), b.Because); err != nil {
				return err
			}
		}
		b.Due = fromMicros(due)
		list = append(list, itemDelivery(&it, &b, message))
		return nil
	}, "SELECT "+itemJoined+itemSource+text, append([]any{tenant}, args...)...)
	return list, err
}

// BundleFilter chooses bundles of a list.
type BundleFilter struct {
	State     *belfry.BundleState
	Recipient string // a principal or a bare address; empty = all
	Before    string // a bundle's id: only older ones; empty = from the newest
	Limit     int    // 0 = 50
}

// ListBundles lists bundles, newest first. next is where to go on, empty at the
// end; a page may hold fewer than Limit and have a next.
func (db *DB) ListBundles(ctx context.Context, tenant string, f BundleFilter) (list []belfry.Bundle, next string, err error) {
	if err := clean(f.Recipient, f.Before); err != nil {
		return nil, "", err
	}
	w := window{table: "bundles", cols: bundleCols, prefix: belfry.BundlePrefix, before: f.Before, limit: orDefault(f.Limit, 50)}
	if f.Recipient != "" {
		// The condition on '' lets the planner take the index.
		w.within = append(w.within, filter{"destination <> '' AND destination = ?", f.Recipient})
	}
	if f.State != nil {
		w.filters = append(w.filters, filter{"state = ?", int64(*f.State)})
	}
	next, err = w.run(ctx, db, tenant, func(rows *sql.Rows) (string, error) {
		b, err := scanBundle(rows, tenant)
		list = append(list, b)
		return b.ID, err
	})
	if err != nil {
		return nil, "", err
	}
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	counts := map[string]int{}
	err = queryRead(ctx, db, func(rows *sql.Rows) error {
		var id string
		var n int
		err := rows.Scan(&id, &n)
		counts[id] = n
		return err
	}, "SELECT bundle, count(*) FROM bundle_items WHERE tenant = $1 AND bundle IN_LIST GROUP BY bundle", ids, tenant)
	for i := range list {
		list[i].Items = counts[list[i].ID]
	}
	return list, next, err
}

// Bundle reads one bundle, false when there is none, with up to limit of its
// items after one as the deliveries they would be alone.
func (db *DB) Bundle(ctx context.Context, tenant, id, after string, limit int) (b belfry.Bundle, items []belfry.Delivery, ok bool, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		ok = true
		b, err = scanBundle(rows, tenant)
		return err
	}, "SELECT "+bundleCols+" FROM bundles WHERE tenant = $1 AND id = $2", tenant, id)
	if err != nil || !ok {
		return b, nil, ok, err
	}
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&b.Items) },
		"SELECT count(*) FROM bundle_items WHERE tenant = $1 AND bundle = $2", tenant, id)
	if err != nil {
		return b, nil, ok, err
	}
	items, err = db.items(ctx, tenant, "i.bundle = $2 AND i.id > $3 ORDER BY i.id LIMIT $4", id, after, orDefault(limit, 1000))
	return b, items, ok, err
}

// itemStates adds how items are, of those of ids that are items.
func (db *DB) itemStates(ctx context.Context, tenant string, ids []string, into map[string]belfry.State) error {
	return queryRead(ctx, db, func(rows *sql.Rows) error {
		var it belfry.BundleItem
		var b belfry.Bundle
		var message belfry.State
		if err := rows.Scan(&it.ID, &it.State, &b.State, &b.Message, &message); err != nil {
			return err
		}
		if _, alone := into[it.ID]; !alone {
			into[it.ID] = itemDelivery(&it, &b, message).State
		}
		return nil
	}, "SELECT i.id, i.state, b.state, b.message, COALESCE(m.state, 4)"+itemSource+"i.id IN_LIST", ids, tenant)
}

// keptByDigest finds events that a digest speaks of that was not sent yet.
func (db *DB) keptByDigest(ctx context.Context, tenant string, events []string, kept map[string]bool) error {
	for _, id := range events {
		lo, hi, ok := belfry.DeliveryRange(id)
		if !ok || kept[id] {
			continue
		}
		err := db.query(ctx, func(rows *sql.Rows) error {
			kept[id] = true
			var one int
			return rows.Scan(&one)
		}, `SELECT 1 FROM bundle_items t JOIN bundles b ON b.tenant = t.tenant AND b.id = t.bundle
			WHERE t.tenant = $1 AND t.id >= $2 AND t.id < $3 AND t.event_id = $4 AND b.state < 2 LIMIT 1`, tenant, lo, hi, id)
		if err != nil {
			return err
		}
	}
	return nil
}

// ClearBundles removes up to about n bundles that ended before a time, with
// their items, and says how many rows went. Those whose message was ended by
// other means than a send are over too.
func (db *DB) ClearBundles(ctx context.Context, tenant string, before time.Time, n int) (rows int, err error) {
	_, err = db.tidy(ctx, n, func(s *session) error {
		_, err := s.exec(`UPDATE bundles SET state = 3, ended = sealed WHERE tenant = $1 AND state = 1
			AND NOT EXISTS (SELECT 1 FROM deliveries m WHERE m.tenant = bundles.tenant AND m.id = bundles.message AND m.state + 0 < 3)`, tenant)
		return err
	})
	if err != nil {
		return 0, err
	}
	ids, err := db.strings(ctx, "SELECT id FROM bundles WHERE tenant = $1 AND id < $2 AND state > 1 AND ended < $3 ORDER BY id LIMIT $4",
		tenant, belfry.MinID(belfry.BundlePrefix, before), micros(before), n)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	_, err = db.tidy(ctx, n, func(s *session) error {
		items, err := execIn(s, "DELETE FROM bundle_items WHERE tenant = $1 AND bundle IN_LIST", ids, tenant)
		if err != nil {
			return err
		}
		bundles, err := execIn(s, "DELETE FROM bundles WHERE tenant = $1 AND id IN_LIST", ids, tenant)
		rows = items + bundles
		return err
	})
	return rows, err
}

// Bundles reads bundles by id; unknown ones are absent.
func (db *DB) Bundles(ctx context.Context, tenant string, ids []string) (map[string]belfry.Bundle, error) {
	out := make(map[string]belfry.Bundle, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		b, err := scanBundle(rows, tenant)
		out[b.ID] = b
		return err
	}, "SELECT "+bundleCols+" FROM bundles WHERE tenant = $1 AND id IN_LIST", ids, tenant)
	return out, err
}
