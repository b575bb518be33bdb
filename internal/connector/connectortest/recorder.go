// Package connectortest holds what tests of sources share: Recorder, a sink
// that keeps everything in memory the way the store would, and Run, the
// promises every source must keep, whatever its platform.
//
// It promises that a batch is applied whole or not at all, in the order of the
// contract, and that what a test looks at is a consistent state.
//
// It refuses to stand in for the store in any test but those of sources.
package connectortest

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
)

// Patience is how long Await waits before the test fails.
const Patience = 30 * time.Second

// Recorded is what a Recorder has taken so far. Deleted objects stay, with
// Deleted set.
type Recorded struct {
	Batches  []connector.Batch
	Cursor   []byte
	Objects  map[string]belfry.Object
	Users    map[string]belfry.User
	Groups   map[string]belfry.Group
	Grants   map[string][]belfry.Grant // by object, sorted by principal and role
	Settings map[string]belfry.Settings
	Types    map[string]belfry.EventType
	Events   []belfry.Event // in the order they were handed
	ByID     map[string]belfry.Event
	Repeats  []string // ids that were handed more than once
	Status   connector.Status
	Reports  int
}

// Count is the number of events of a type.
func (r *Recorded) Count(typ string) int {
	n := 0
	for _, e := range r.Events {
		if e.Type == typ {
			n++
		}
	}
	return n
}

// Ancestors are the ids of an object and of those above it, the highest last.
func (r *Recorded) Ancestors(id string) []string {
	var out []string
	for id != "" && !slices.Contains(out, id) {
		out = append(out, id)
		id = r.Objects[id].Parent
	}
	return out
}

// Holders are the principals with one of the roles on the object or above it,
// sorted; inactive ones only when asked for.
func (r *Recorded) Holders(object string, now time.Time, inactive bool, roles ...string) []string {
	found := map[string]bool{}
	for _, o := range r.Ancestors(object) {
		for _, g := range r.Grants[o] {
			if slices.Contains(roles, g.Role) && (g.InactiveAt(now) != "") == inactive {
				found[g.Principal] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Recorder is a sink in memory.
type Recorder struct {
	mu      sync.Mutex
	state   Recorded
	changed chan struct{} // closed and replaced at every change
	fail    []error
	before  func(connector.Batch) error
}

// NewRecorder makes an empty one.
func NewRecorder() *Recorder {
	return &Recorder{changed: make(chan struct{}), state: Recorded{
		Objects: map[string]belfry.Object{}, Users: map[string]belfry.User{}, Groups: map[string]belfry.Group{}, Grants: map[string][]belfry.Grant{},
		Settings: map[string]belfry.Settings{}, Types: map[string]belfry.EventType{}, ByID: map[string]belfry.Event{},
	}}
}

// FailNext makes the next calls of Hand fail with the errors, one each.
func (r *Recorder) FailNext(errs ...error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = append(r.fail, errs...)
}

// Before is asked before every commit; its error is Hand's.
func (r *Recorder) Before(f func(connector.Batch) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before = f
}

// Look shows the state; f must not keep it.
func (r *Recorder) Look(f func(*Recorded)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.state)
}

// Await waits until cond is true of the state.
func (r *Recorder) Await(t testing.TB, what string, cond func(*Recorded) bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		ok, changed, status := cond(&r.state), r.changed, r.state.Status
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("waited %v for %s; the source's last report: %+v", Patience, what, status)
		}
	}
}

func (r *Recorder) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Cursor gives the last committed cursor.
func (r *Recorder) Cursor(context.Context) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.state.Cursor), nil
}

// Report keeps the status.
func (r *Recorder) Report(s connector.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Status = s
	r.state.Reports++
	r.change()
}

// Hand applies a batch.
func (r *Recorder) Hand(ctx context.Context, b connector.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.change()
	if len(r.fail) > 0 {
		err := r.fail[0]
		r.fail = r.fail[1:]
		return err
	}
	if r.before != nil {
		if err := r.before(b); err != nil {
			return err
		}
	}
	r.state.apply(b)
	return nil
}

func (r *Recorded) apply(b connector.Batch) {
	c := b.Changes
	for _, o := range c.Objects {
		r.Objects[o.ID] = o
	}
	now := time.Now()
	for _, id := range c.DeleteObjects {
		r.tombstone(id, now)
	}
	for _, u := range c.Users {
		if u.Contacts == nil {
			u.Contacts = r.Users[u.ID].Contacts
		}
		r.Users[u.ID] = u
	}
	for _, id := range c.DeleteUsers {
		delete(r.Users, id)
	}
	for _, g := range c.Groups {
		if g.Members == nil {
			g.Members = r.Groups[g.ID].Members
		}
		r.Groups[g.ID] = g
	}
	for _, id := range c.DropGroups {
		delete(r.Groups, id)
	}
	for _, set := range c.Grants {
		kept := slices.DeleteFunc(slices.Clone(r.Grants[set.Object]), func(g belfry.Grant) bool {
			return g.Origin == set.Origin && (set.Principal == "" || g.Principal == set.Principal)
		})
		kept = append(kept, set.Grants...)
		slices.SortFunc(kept, func(a, b belfry.Grant) int {
			if a.Principal != b.Principal {
				return compare(a.Principal, b.Principal)
			}
			return compare(a.Role, b.Role)
		})
		r.Grants[set.Object] = kept
	}
	for _, s := range c.Settings {
		r.Settings[s.User] = s.Settings
	}
	for _, d := range c.Documents {
		var t belfry.EventType
		if d.Kind == belfry.KindEventType && json.Unmarshal(d.Body, &t) == nil {
			r.Types[d.ID] = t
		}
	}
	for _, e := range b.Events {
		if _, seen := r.ByID[e.ID]; seen {
			r.Repeats = append(r.Repeats, e.ID)
			continue
		}
		r.ByID[e.ID] = e
		r.Events = append(r.Events, e)
	}
	if b.Cursor != nil {
		r.Cursor = slices.Clone(b.Cursor)
	}
	r.Batches = append(r.Batches, b)
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (r *Recorded) tombstone(id string, now time.Time) {
	o, ok := r.Objects[id]
	if !ok || o.Deleted != nil {
		return
	}
	o.Deleted = &now
	r.Objects[id] = o
	for child, c := range r.Objects {
		if c.Parent == id {
			r.tombstone(child, now)
		}
	}
}
