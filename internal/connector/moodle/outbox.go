package moodle

import (
	"context"
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
)

// outbox gathers directory changes into batches and, once one is committed,
// notes in the tables what was handed. Deletions wait for the last batch: what
// was moved away from under a deleted object must have left it by then.
type outbox struct {
	sink    connector.Sink
	tables  *[kinds]table
	stopped map[int64]bool

	changes belfry.Changes
	rows    int
	deletes []string
	marks   []mark
	stops   map[int64]bool // what stopped becomes once this batch is committed
	count   int            // rows of all batches
}

type mark struct {
	kind kind
	id   int64
	hash uint32
}

// put takes a unit in when it differs from what was handed before; force takes
// it in anyway.
func (o *outbox) put(ctx context.Context, k kind, u *unit, force bool) error {
	h, err := u.hash()
	if err != nil {
		return err
	}
	if h == dirty {
		h++
	}
	if u.grants != nil && len(u.grants.Grants) == 0 {
		h = 0 // not a row of ours any more
	}
	if !force && h == o.tables[k].get(u.id) {
		return nil
	}
	if k == kindUser {
		// A stop is taken back only when the platform's own was seen to end:
		// one that the person set in Belfry stays.
		if u.stop != o.stopped[u.id] {
			o.changes.Settings = append(o.changes.Settings, belfry.UserSettings{User: u.user.ID, Settings: belfry.Settings{Stop: u.stop}})
			o.rows++
			if o.stops == nil {
				o.stops = map[int64]bool{}
			}
			o.stops[u.id] = u.stop
		}
	}
	if u.object != nil {
		o.changes.Objects = append(o.changes.Objects, *u.object)
		o.rows++
		if u.ghost {
			o.deletes = append(o.deletes, u.object.ID)
		}
	}
	if u.user != nil {
		o.changes.Users = append(o.changes.Users, *u.user)
		o.rows++
	}
	if u.group != nil {
		o.changes.Groups = append(o.changes.Groups, *u.group)
		o.rows++
	}
	if u.grants != nil {
		o.changes.Grants = append(o.changes.Grants, *u.grants)
		o.rows += 1 + len(u.grants.Grants)
	}
	o.marks = append(o.marks, mark{k, u.id, h})
	return o.spill(ctx)
}

// gone notes that a row is no more.
func (o *outbox) gone(ctx context.Context, k kind, id int64) error {
	switch k {
	case kindCategory:
		o.deletes = append(o.deletes, categoryID(id))
	case kindCourse:
		o.deletes = append(o.deletes, courseID(id))
	case kindModule:
		o.deletes = append(o.deletes, moduleID(id))
	case kindDiscussion:
		o.deletes = append(o.deletes, discussionID(id))
	case kindUser:
		o.changes.DeleteUsers = append(o.changes.DeleteUsers, userID(id))
		o.deletes = append(o.deletes, profileID(id))
		o.rows++
	case kindGroup:
		o.changes.DropGroups = append(o.changes.DropGroups, groupID(id))
		o.rows++
	case kindCohort:
		o.changes.DropGroups = append(o.changes.DropGroups, cohortID(id))
		o.rows++
	case kindGrants:
		// The context is gone, and its object with it: events about that
		// still resolve against the grants that were known last.
	}
	o.marks = append(o.marks, mark{k, id, 0})
	return o.spill(ctx)
}

// knows reports whether a row was ever handed, or is about to be.
func (o *outbox) knows(k kind, id int64) bool {
	return o.tables[k].known(id) || slices.ContainsFunc(o.marks, func(m mark) bool { return m.kind == k && m.id == id && m.hash != 0 })
}

func (o *outbox) spill(ctx context.Context) error {
	if o.rows < connector.MaxBatch/2 {
		return nil
	}
	return o.hand(ctx, connector.Batch{Changes: o.take()})
}

func (o *outbox) take() belfry.Changes {
	c := o.changes
	o.count += o.rows
	o.changes, o.rows = belfry.Changes{}, 0
	return c
}

func (o *outbox) hand(ctx context.Context, b connector.Batch) error {
	if err := o.sink.Hand(ctx, b); err != nil {
		return err
	}
	for _, m := range o.marks {
		o.tables[m.kind].set(m.id, m.hash)
	}
	for id, stop := range o.stops {
		if stop {
			o.stopped[id] = true
		} else {
			delete(o.stopped, id)
		}
	}
	o.marks, o.stops = o.marks[:0], nil
	return nil
}

// last hands what is left, deletions, and with the very last batch the events
// and the cursor that finish makes once the tables are up to date. With
// nothing at all it hands nothing.
func (o *outbox) last(ctx context.Context, events []belfry.Event, finish func() ([]byte, error)) error {
	o.count += len(o.deletes)
	for len(o.deletes) > connector.MaxBatch/2 {
		c := o.take()
		c.DeleteObjects, o.deletes = o.deletes[:connector.MaxBatch/2], o.deletes[connector.MaxBatch/2:]
		if err := o.hand(ctx, connector.Batch{Changes: c}); err != nil {
			return err
		}
	}
	c := o.take()
	c.DeleteObjects = slices.Clone(o.deletes)
	o.deletes = nil
	// The cursor describes the directory with this batch in it.
	undo := make([]mark, 0, len(o.marks))
	for _, m := range o.marks {
		undo = append(undo, mark{m.kind, m.id, o.tables[m.kind].get(m.id)})
		o.tables[m.kind].set(m.id, m.hash)
	}
	raw, err := finish()
	if err == nil {
		err = o.hand(ctx, connector.Batch{Changes: c, Events: events, Cursor: raw})
	}
	if err != nil {
		for _, m := range slices.Backward(undo) {
			o.tables[m.kind].set(m.id, m.hash)
		}
	}
	return err
}
