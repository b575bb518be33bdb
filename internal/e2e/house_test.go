package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

// patience is how long a test waits for what must happen. It bounds a test that
// fails; one that passes never waits for it.
const patience = 90 * time.Second

// house is a running Belfry with a mail server and a webhook receiver.
type house struct {
	t    *testing.T
	out  io.Writer // for the program's log
	cfg  config.Config
	mail *postOffice
	hook *receiver
	api  *client.Client
	stop func() // ends the program as SIGTERM does
}

const sender = `Belfry <belfry@school.example>`

func newHouse(t *testing.T, change func(*testing.T, *config.Config)) *house {
	t.Helper()
	h := &house{t: t, out: t.Output(), mail: newPostOffice(t), hook: newReceiver(t)}
	h.cfg = config.Default()
	h.cfg.Listen, h.cfg.DataDir = "127.0.0.1:0", t.TempDir()
	h.cfg.BootstrapKey = "the-key-of-this-one-test"
	h.cfg.OutboundAllow = []string{"127.0.0.0/8"}
	h.cfg.Channels = map[string]map[string]string{"email": {"url": h.mail.URL(), "from": sender}}
	change(t, &h.cfg)
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// start starts the program and waits until it is ready.
func (h *house) start() {
	h.t.Helper()
	log := slog.New(slog.NewTextHandler(h.out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := app.New(context.Background(), app.Options{Config: h.cfg, Log: log, Version: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	if h.api, err = client.New(a.URL(), string(h.cfg.BootstrapKey), ""); err != nil {
		h.t.Fatal(err)
	}
	// Its own connections, so that none is left when the program is gone.
	transport := &http.Transport{}
	h.api.HTTP.Transport = transport
	h.stop = func() {
		h.stop = func() {}
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	}
	h.await("the program to be ready", func() string {
		if err := h.api.Call(context.Background(), http.MethodGet, "/readyz", nil, nil); err != nil {
			return err.Error()
		}
		return ""
	})
}

// await asks again and again until missing says nothing is.
func (h *house) await(what string, missing func() string) {
	h.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last := missing()
		if last == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			h.t.Fatalf("waited %v for %s: %s", patience, what, last)
		}
	}
}

// call makes a call that must succeed.
func (h *house) call(method, path string, in, out any) {
	h.t.Helper()
	if err := h.api.Call(context.Background(), method, path, in, out); err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// source connects a platform and gives the source's id.
func (h *house) source(name string, settings map[string]string) string {
	h.t.Helper()
	var made struct{ ID string }
	h.call(http.MethodPost, "/v1/sources", map[string]any{"name": name, "kind": "moodle", "settings": settings}, &made)
	return made.ID
}

// status is what GET /v1/sources/{id}/status answers.
type status struct {
	State, Position, Error string
	LagMS                  int64 `json:"lag_ms"`
	Counters               map[string]int64
}

func (h *house) status(source string) status {
	h.t.Helper()
	var st status
	h.call(http.MethodGet, "/v1/sources/"+source+"/status", nil, &st)
	return st
}

// tailing waits until a source follows the log and has read row id.
func (h *house) tailing(source string, id int64) {
	h.t.Helper()
	h.await(fmt.Sprintf("the source to have read row %d", id), func() string {
		st := h.status(source)
		words := strings.Fields(strings.ReplaceAll(st.Position, ",", " ")) // log id 872, waiting for ...
		if st.State == "tailing" && st.Error == "" && len(words) > 2 {
			if at, err := strconv.ParseInt(words[2], 10, 64); err == nil && at >= id {
				return ""
			}
		}
		return fmt.Sprintf("%+v", st)
	})
}

// quiet waits until all that was accepted is planned and all that was planned
// is sent, as the page of metrics says it.
func (h *house) quiet() {
	h.t.Helper()
	h.await("everything to be planned and sent", func() string {
		resp, err := h.api.Send(context.Background(), http.MethodGet, "/metrics", "", nil)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		left := []string{"belfry_events_pending", "belfry_deliveries_open"}
		var waiting []string
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			for i, name := range left {
				if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
					left[i] = ""
					if value != "0" {
						waiting = append(waiting, lines.Text())
					}
				}
			}
		}
		return strings.TrimSpace(strings.Join(append(waiting, left...), " "))
	})
}

// endpoint makes one at the receiver, which from then on verifies its webhooks.
func (h *house) endpoint(name string) string {
	h.t.Helper()
	var made struct{ ID, Secret string }
	h.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": h.hook.URL(name), "description": name}, &made)
	h.hook.trust(name, made.Secret)
	return made.ID
}

// subscribe makes a subscription and gives its id and what is remarked on it.
func (h *house) subscribe(s belfry.Subscription) (id string, warnings []string) {
	h.t.Helper()
	var made struct {
		ID       string
		Warnings []string
	}
	h.call(http.MethodPost, "/v1/subscriptions", subscriptionBody{s.Title, s.Scope, s.Types, s.ObjectTypes, s.Recipients, s.Notify}, &made)
	return made.ID, made.Warnings
}

// subscriptionBody is what somebody who makes one writes.
type subscriptionBody struct {
	Title       string          `json:"title"`
	Scope       belfry.Scope    `json:"scope,omitzero"`
	Types       []string        `json:"types,omitempty"`
	ObjectTypes []string        `json:"object_types,omitempty"`
	Recipients  []belfry.Rule   `json:"recipients,omitempty"`
	Notify      []belfry.Notify `json:"notify,omitempty"`
}

// all reads every page of a list.
func all[T any](h *house, path string) []T {
	h.t.Helper()
	var items []T
	for after := ""; ; {
		var page struct {
			Items []T
			Next  string
		}
		h.call(http.MethodGet, path+"after="+url.QueryEscape(after)+"&limit=500", nil, &page)
		items = append(items, page.Items...)
		if after = page.Next; after == "" {
			return items
		}
	}
}

// events are all stored events by their own id.
func (h *house) events() map[string]belfry.EventView {
	h.t.Helper()
	out := map[string]belfry.EventView{}
	for _, e := range all[belfry.EventView](h, "/v1/events?") {
		if _, twice := out[e.ID]; twice {
			h.t.Errorf("event %s is stored twice", e.ID)
		}
		out[e.ID] = e
	}
	return out
}

// entry is one of somebody's inbox.
type entry struct {
	ID, Event, Type, Object, Subscription, Title, Text, HTML, URL string
	Reason                                                        belfry.ReasonView
}

func (h *house) inbox(user string) []entry {
	h.t.Helper()
	return all[entry](h, "/v1/users/"+url.PathEscape(user)+"/inbox?")
}

// trace is what became of an event; of one person only when who is not empty.
func (h *house) trace(event, who string) belfry.Answer {
	h.t.Helper()
	var a belfry.Answer
	h.call(http.MethodGet, "/v1/events/"+event+"/trace?limit=1000&principal="+url.QueryEscape(who), nil, &a)
	return a
}

// fates are the outcomes of a trace by person, address or endpoint: "told", or
// the codes of why not, the deciding one last.
func fates(a belfry.Answer) map[string]string {
	out := map[string]string{}
	for _, p := range a.People {
		who := p.Principal + p.Address + p.Endpoint
		fate := p.Outcome
		if p.Outcome == belfry.NotTold {
			fate = codes(p.Because)
		}
		if before := out[who]; before != "" {
			fate = before + "; " + fate
		}
		out[who] = fate
	}
	return out
}

func codes(because []belfry.ReasonView) string {
	var list []string
	for _, r := range because {
		list = append(list, r.Code)
	}
	return strings.Join(list, " ")
}
