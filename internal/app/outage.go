package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/store"
)

// outage has the log speak of a database that does not answer once a process,
// however many loops meet it: the first failure as it is said, then at growing
// intervals how long it lasts, and at last that it is over. What is not said then
// is said at level debug.
type outage struct {
	log   *slog.Logger
	began chan struct{}

	mu     sync.Mutex
	since  time.Time // zero = the database answers, as far as is known
	last   error
	unsaid int
}

// How often it is seen whether the database is back, and said that it is not.
const (
	outageLook    = time.Second
	outageTimeout = 5 * time.Second
	outageFirst   = 10 * time.Second
	outageLongest = 10 * time.Minute
)

func newOutage(log *slog.Logger) *outage {
	return &outage{log: log, began: make(chan struct{}, 1)}
}

// meets notes a failure, and reports whether the log has it already.
func (o *outage) meets(err error, at time.Time) (said bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = err
	if !o.since.IsZero() {
		o.unsaid++
		return true
	}
	o.since, o.unsaid = at, 0
	select {
	case o.began <- struct{}{}:
	default:
	}
	return false
}

// lasts is since when the database has not answered, and what was not said.
func (o *outage) lasts() (since time.Time, unsaid int, last error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since, o.unsaid, o.last
}

// over ends it.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since, o.last = time.Time{}, nil
}

// watch sees, whenever a failure was met, when the database answers again, until
// ctx ends.
func (o *outage) watch(ctx context.Context, ping func(context.Context) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.began:
			o.see(ctx, ping)
		}
	}
}

func (o *outage) see(ctx context.Context, ping func(context.Context) error) {
	look := time.NewTicker(outageLook)
	defer look.Stop()
	next := outageFirst
	for lone := true; ; lone = false {
		asked, cancel := context.WithTimeout(ctx, outageTimeout)
		err := ping(asked)
		cancel()
		if ctx.Err() != nil {
			return
		}
		since, unsaid, last := o.lasts()
		lasted := time.Since(since)
		switch {
		case err == nil:
			o.over()
			if !lone { // else one call failed, and the log has it
				o.log.Info("the database answers again", "after", lasted.Round(time.Second), "failures_not_logged", unsaid)
			}
			return
		case lasted >= next:
			o.log.Error("the database does not answer; what failed meanwhile is not logged one by one, and everything goes on when it is back", "for", lasted.Round(time.Second), "failures_not_logged", unsaid, "error", last)
			next = lasted + min(lasted, outageLongest)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// handler is a log's, that leaves out what the outage has said.
func (o *outage) handler(next slog.Handler) slog.Handler { return &outageHandler{next, o} }

type outageHandler struct {
	slog.Handler
	outage *outage
}

// Handle passes on what is said for the first time.
func (h *outageHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var away error
		r.Attrs(func(a slog.Attr) bool {
			if err, is := a.Value.Any().(error); is && store.Away(err) {
				away = err
			}
			return away == nil
		})
		if away != nil && h.outage.meets(away, r.Time) {
			if r.Level = slog.LevelDebug; !h.Enabled(ctx, r.Level) {
				return nil
			}
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs and WithGroup keep what is left out left out.
func (h *outageHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &outageHandler{h.Handler.WithAttrs(attrs), h.outage}
}

// WithGroup is of a group.
func (h *outageHandler) WithGroup(name string) slog.Handler {
	return &outageHandler{h.Handler.WithGroup(name), h.outage}
}
