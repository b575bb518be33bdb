package moodle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// sync compares the whole directory with what was handed and hands the
// differences. The first one of a Run has only the cursor's digests to compare
// with: a piece of foldSize ids whose digest differs is handed as a whole.
func (s *source) sync(ctx context.Context, sink connector.Sink) error {
	o := s.outbox(sink)
	root, err := s.site.siteObject(ctx)
	if err != nil {
		return err
	}
	if !s.synced {
		o.changes.Objects, o.rows = append(o.changes.Objects, root), o.rows+1
	}
	types, digest, err := s.types()
	if err != nil {
		return err
	}
	news := !s.stored || !s.synced && s.cur.Types != digest
	if s.cur.Types != digest {
		news = true
		for chunk := range slices.Chunk(types, connector.MaxBatch/2) {
			if err := o.hand(ctx, connector.Batch{Changes: belfry.Changes{Documents: chunk}}); err != nil {
				return err
			}
		}
	}
	for k := range kind(kinds) {
		if s.synced {
			err = s.compareKind(ctx, k, o)
		} else {
			err = s.syncKind(ctx, k, o)
		}
		if err != nil {
			return err
		}
	}
	next := s.cur
	next.Types = digest
	if o.count+o.rows+len(o.deletes) > 1 || s.synced && o.rows > 0 || news {
		err := o.last(ctx, nil, func() ([]byte, error) { return s.encode(next) })
		if err != nil {
			return err
		}
		s.stored = true
	}
	s.cur = next
	s.counters[countRows] += int64(o.count)
	s.counters[countCompares]++
	s.compare = s.deps.Now().Add(s.conf.compare)
	return nil
}

func (s *source) outbox(sink connector.Sink) *outbox {
	return &outbox{sink: marking{sink}, tables: &s.tables, stopped: s.stopped}
}

// marking tells the sink's errors from the database's.
type marking struct{ connector.Sink }

// Hand hands a batch.
func (m marking) Hand(ctx context.Context, b connector.Batch) error {
	if err := m.Sink.Hand(ctx, b); err != nil {
		return fmt.Errorf("%w: %w", errSink, err)
	}
	return nil
}

// encode makes the cursor of a position and of the tables as they are.
func (s *source) encode(c cursor) ([]byte, error) {
	for k := range s.tables {
		c.Folds[k] = s.tables[k].folds()
		c.Last[k] = max(c.Last[k], s.tables[k].last)
	}
	return c.encode()
}

// types makes the catalogue's documents and a digest of them.
func (s *source) types() ([]belfry.Document, uint32, error) {
	modules := s.site.moduleNames()
	h := sha256.New()
	var out []belfry.Document
	for _, name := range slices.Sorted(maps.Keys(s.catalogue)) {
		d, err := document(s.catalogue[name].eventType(modules))
		if err != nil {
			return nil, 0, err
		}
		_, _ = h.Write(d.Body)
		out = append(out, d)
	}
	return out, binary.LittleEndian.Uint32(h.Sum(nil)), nil
}

// compareKind hands the rows whose hash differs, and those that are gone.
func (s *source) compareKind(ctx context.Context, k kind, o *outbox) error {
	after := int64(0)
	last := int64(0) // up to here, what is gone was told
	for {
		units, next, err := s.site.page(ctx, k, after)
		if err != nil {
			return err
		}
		for i := range units {
			u := &units[i]
			if err := s.allGone(ctx, k, last, u.id, o); err != nil {
				return err
			}
			if err := o.put(ctx, k, u, false); err != nil {
				return err
			}
			last = u.id
		}
		if err := s.keepCopies(ctx, k, units); err != nil {
			return err
		}
		if next == 0 {
			return s.allGone(ctx, k, last, 1<<62, o)
		}
		after = next
	}
}

// allGone tells that rows strictly between two ids are no more. Contexts that
// merely lost their last grant are handed with none.
func (s *source) allGone(ctx context.Context, k kind, from, to int64, o *outbox) error {
	ids := s.tables[k].present(from, to)
	if len(ids) == 0 {
		return nil
	}
	if k == kindGrants {
		units, err := s.site.byID(ctx, k, ids)
		if err != nil {
			return err
		}
		for i := range units {
			if units[i].grants != nil {
				if err := o.put(ctx, k, &units[i], true); err != nil {
					return err
				}
			}
			ids = slices.DeleteFunc(ids, func(id int64) bool { return id == units[i].id && units[i].grants != nil })
		}
	}
	for _, id := range ids {
		if err := o.gone(ctx, k, id); err != nil {
			return err
		}
	}
	return nil
}

// syncKind is the first comparison of a Run: fold by fold with the cursor's
// digests. Where a fold differs, all its rows are handed, and those ids of it
// that have no row are told to be gone, if there was anything there before.
func (s *source) syncKind(ctx context.Context, k kind, o *outbox) error {
	var pending []unit
	var temp table
	fold := int64(0)
	old := s.cur.Folds[k]
	finish := func() error {
		was := foldAt(old, fold)
		same := was != nil && bytes.Equal(was, temp.fold(fold))
		for i := range pending {
			u := &pending[i]
			switch {
			case same:
				s.tables[k].set(u.id, temp.get(u.id))
				if u.stop {
					s.stopped[u.id] = true
				}
			case temp.get(u.id) == s.tables[k].get(u.id): // handed before this Run's session failed, or nothing to hand
			default:
				if err := o.put(ctx, k, u, true); err != nil {
					return err
				}
			}
		}
		if !same && was != nil && !bytes.Equal(was, make([]byte, 8)) {
			if err := s.foldGone(ctx, k, fold, &temp, o); err != nil {
				return err
			}
		}
		pending, temp = pending[:0], table{}
		fold++
		return nil
	}
	after := int64(0)
	for {
		units, next, err := s.site.page(ctx, k, after)
		if err != nil {
			return err
		}
		for i := range units {
			for units[i].id/foldSize > fold {
				// A jump in the ids skips the folds that never held anything.
				if len(pending) == 0 && foldAt(old, fold) == nil {
					fold = units[i].id / foldSize
					break
				}
				if err := finish(); err != nil {
					return err
				}
			}
			h, err := units[i].hash()
			if err != nil {
				return err
			}
			if h == dirty {
				h++
			}
			if g := units[i].grants; k == kindGrants && (g == nil || len(g.Grants) == 0) {
				h = 0
			}
			temp.set(units[i].id, h)
			pending = append(pending, units[i])
		}
		if err := s.keepCopies(ctx, k, units); err != nil {
			return err
		}
		if next == 0 {
			break
		}
		after = next
	}
	for len(pending) > 0 || foldAt(old, fold) != nil {
		if err := finish(); err != nil {
			return err
		}
	}
	return nil
}

// foldGone tells that the ids of a fold that have no row now are gone, as far
// as ids were ever handed. Most of them were told before; that does no harm.
func (s *source) foldGone(ctx context.Context, k kind, fold int64, have *table, o *outbox) error {
	if k == kindGrants {
		ids, err := sqlread.Select(ctx, s.db, "SELECT id FROM {context} WHERE id >= ? AND id < ? AND contextlevel IN (10, 30, 40, 50, 70) ORDER BY id", []any{fold * foldSize, (fold + 1) * foldSize}, sqlread.Int64)
		if err != nil {
			return err
		}
		ids = slices.DeleteFunc(ids, func(id int64) bool { return have.get(id) != 0 })
		units, err := s.site.byID(ctx, k, ids)
		if err != nil {
			return err
		}
		for i := range units {
			if units[i].grants != nil {
				if err := o.put(ctx, k, &units[i], true); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for id := max(1, fold*foldSize); id < (fold+1)*foldSize && id <= s.cur.Last[k]; id++ {
		if have.get(id) == 0 {
			if err := o.gone(ctx, k, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepCopies keeps copies of the rows of categories and courses, so that their
// deletion can still show them. The cache is bounded; small sites fit.
func (s *source) keepCopies(ctx context.Context, k kind, units []unit) error {
	table := ""
	switch k {
	case kindCategory:
		table = "course_categories"
	case kindCourse:
		table = "course"
	case kindModule, kindDiscussion, kindUser, kindGroup, kindCohort, kindGrants:
	}
	if table == "" || len(units) == 0 || s.records.Len() > 1000 {
		return nil
	}
	ids := make([]int64, 0, len(units))
	for _, u := range units {
		ids = append(ids, u.id)
	}
	_, err := s.readRecords(ctx, table, ids)
	return err
}
