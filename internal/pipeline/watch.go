package pipeline

import (
	"sync"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Watch wakes whoever looks at an inbox when something was put into it. A wake
// says only "look again": the table is the truth.
type Watch struct {
	mu   sync.Mutex
	subs map[watchKey]map[chan struct{}]struct{}
}

// WakeMarked wakes the watchers of a tenant's inboxes whose bits are set: other
// processes put something into some of them.
func (w *Watch) WakeMarked(tenant string, marks [belfry.WakeInboxes]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.subs {
		if k.tenant != tenant {
			continue
		}
		if i, bit := inboxMark(k.tenant, k.principal); marks[i]&bit != 0 {
			w.wake(k)
		}
	}
}

// WakeAll wakes every watcher.
func (w *Watch) WakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.subs {
		w.wake(k)
	}
}

// marksOf are the marks of the inboxes among ds, and whether there are any.
func marksOf(tenant string, ds []belfry.Delivery) (marks [belfry.WakeInboxes]byte, any bool) {
	for i := range ds {
		if ds[i].Channel == belfry.ChannelInbox {
			n, bit := inboxMark(tenant, ds[i].Principal)
			marks[n] |= bit
			any = true
		}
	}
	return marks, any
}

type watchKey struct{ tenant, principal string }

// NewWatch makes a Watch nobody listens to.
func NewWatch() *Watch { return &Watch{subs: map[watchKey]map[chan struct{}]struct{}{}} }

// Watch gives a channel that receives after changes of a principal's inbox;
// several changes may become one receive. cancel ends it.
func (w *Watch) Watch(tenant, principal string) (woken <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	k := watchKey{tenant, principal}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subs[k] == nil {
		w.subs[k] = map[chan struct{}]struct{}{}
	}
	w.subs[k][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs[k], c)
		if len(w.subs[k]) == 0 {
			delete(w.subs, k)
		}
	}
}

// Wake wakes the watchers of one inbox.
func (w *Watch) Wake(tenant, principal string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake(watchKey{tenant, principal})
}

func (w *Watch) wake(k watchKey) {
	for c := range w.subs[k] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// notify wakes the watchers of the inboxes among ds.
func (w *Watch) notify(tenant string, ds []belfry.Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.subs) == 0 {
		return
	}
	for i := range ds {
		if ds[i].Channel == belfry.ChannelInbox {
			w.wake(watchKey{tenant, ds[i].Principal})
		}
	}
}
