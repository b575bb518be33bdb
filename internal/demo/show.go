package demo

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/web/ui"
)

// Show is the demonstration. Make it with NewShow, give it to the server as its
// pages, and Run it while the server runs.
type Show struct {
	*Catcher
	log   *slog.Logger
	now   func() time.Time
	pages atomic.Pointer[ui.Demo]
	ready chan struct{}
}

// From is the sender of the school's mail.
const From = "Hillside School <belfry@school.example>"

// NewShow binds the mail server and the webhook receiver. The server it is for
// needs MailURL as its relay and must allow webhooks to 127.0.0.0/8.
func NewShow(log *slog.Logger, now func() time.Time) (*Show, error) {
	c, err := NewCatcher(log, now)
	if err != nil {
		return nil, err
	}
	return &Show{Catcher: c, log: log, now: now, ready: make(chan struct{})}, nil
}

// Run furnishes the school in the server that api speaks to, as a key that may
// do everything, and then shows it until ctx ends. It may be called once, and
// waits for a server that is just starting.
func (s *Show) Run(ctx context.Context, api *client.Client) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Catcher.Run(ctx) })
	g.Go(func() error {
		endpoint, secret, err := furnish(ctx, api, s.now(), s.HookURL())
		if err == nil {
			err = s.Trust(secret)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil // stopped before it was furnished
			}
			return err
		}
		d := ui.NewDemo(ui.DemoOptions{
			House: Client{API: api}, Catcher: s.Catcher,
			Scenes: Scenes(), People: People(endpoint), Places: Places(), Log: s.log, Now: s.now,
		})
		s.pages.Store(d)
		close(s.ready)
		<-ctx.Done()
		d.Drain()
		return nil
	})
	return g.Wait()
}

// Ready is closed when the school is furnished and the page is served.
func (s *Show) Ready() <-chan struct{} { return s.ready }

// Path is where the page is, below the server's address.
const Path = "/demo/"

// ServeHTTP serves the page; the root leads to it.
func (s *Show) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d := s.pages.Load()
	switch {
	case d == nil:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "The school is being furnished; reload in a moment.", http.StatusServiceUnavailable)
	case r.URL.Path == "/":
		http.Redirect(w, r, Path, http.StatusSeeOther)
	default:
		d.ServeHTTP(w, r)
	}
}
