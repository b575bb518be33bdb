package ui_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/web/ui"
)

// house is a hand-written Belfry: events are accepted at once, and become
// planned, sent and caught when the test says so.
type house struct {
	mu      sync.Mutex
	events  []belfry.Event
	planned map[string]bool
	down    error
}

func newHouse() *house { return &house{planned: map[string]bool{}} }

func (h *house) Publish(_ context.Context, e belfry.Event) (belfry.Receipt, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down != nil {
		return belfry.Receipt{}, h.down
	}
	for _, old := range h.events {
		if old.ID == e.ID {
			return belfry.Receipt{EventID: eventID(e), Duplicate: true}, nil
		}
	}
	h.events = append(h.events, e)
	return belfry.Receipt{EventID: eventID(e)}, nil
}

func eventID(e belfry.Event) string { return "evt_" + e.ID }

func (h *house) find(id string) (belfry.Event, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if eventID(e) == id {
			return e, h.planned[id]
		}
	}
	return belfry.Event{}, false
}

func (h *house) plan(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.planned[id] = true
}

func (h *house) newest() belfry.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events[len(h.events)-1]
}

var accepted = time.Date(2026, 3, 4, 9, 10, 11, 0, time.UTC)

func inboxID(id string) string { return belfry.DeliveryID(id, 0, belfry.ChannelInbox, "user/1") }
func mailID(id string) string  { return belfry.DeliveryID(id, 0, "email", "ada@school.example") }
func hookID(id string) string  { return belfry.DeliveryID(id, 0, belfry.ChannelWebhook, "ep_1") }

func (h *house) Trace(_ context.Context, id string) (belfry.Answer, error) {
	e, planned := h.find(id)
	if e.ID == "" {
		return belfry.Answer{}, errors.New("there is no such event")
	}
	a := belfry.Answer{Event: belfry.EventView{EventID: id, Accepted: &accepted, Event: e}, Planned: planned}
	if !planned {
		return a, nil
	}
	named := belfry.Reason{Code: belfry.NamedRole, Role: "teacher", Object: "course/1"}
	a.Subscriptions = []belfry.AnswerSubscription{
		{ID: "sub_1", Title: "Everything to teachers", Matched: true, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.ScopeMatched}})},
		{ID: "sub_2", Title: "Something else", Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.FilterFalse}})},
	}
	a.People = []belfry.AnswerPerson{
		{Principal: "user/1", Outcome: belfry.Told, Because: belfry.ViewReasons([]belfry.Reason{named}), Deliveries: []string{mailID(id), inboxID(id)}},
		{Endpoint: "ep_1", Outcome: belfry.Told, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.NamedEndpoint}}), Deliveries: []string{hookID(id)}},
		{Principal: "user/2", Outcome: belfry.NotTold, Because: belfry.ViewReasons([]belfry.Reason{named, {Code: belfry.Muted, Object: "course/1"}})},
		{Principal: "user/3<b>", Channel: "email", Outcome: belfry.NotTold, Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.NotVerified, Detail: "<script>alert(1)</script>"}})},
	}
	return a, nil
}

func (h *house) Deliveries(_ context.Context, id string) ([]ui.Delivery, error) {
	if _, planned := h.find(id); !planned {
		return nil, nil
	}
	return []ui.Delivery{
		{ID: mailID(id), Channel: "email", State: "delivered"}, {ID: hookID(id), Channel: "webhook", State: "delivered"},
	}, nil
}

func (h *house) Inbox(_ context.Context, user string) ([]ui.InboxItem, error) {
	var items []ui.InboxItem
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		items = append(items, ui.InboxItem{
			ID: "in_" + e.ID, Event: eventID(e), Title: "Title of " + e.ID, HTML: "<p><strong>Course changed</strong> in Mechanics</p>",
			Reason: belfry.ViewReasons([]belfry.Reason{{Code: belfry.NamedRole, Object: "course/1"}})[0],
		})
	}
	return items, nil
}

// catcher is a hand-written one that gets what the test gives it.
type catcher struct {
	mu       sync.Mutex
	mails    []ui.Mail
	hooks    []ui.Hook
	refusing bool
	changed  chan struct{}
}

func newCatcher() *catcher { return &catcher{changed: make(chan struct{})} }

func (c *catcher) Mails() []ui.Mail {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mails)
}

func (c *catcher) Hooks() []ui.Hook {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.hooks)
}

func (c *catcher) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *catcher) Refuse(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusing = on
}

func (c *catcher) Refusing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusing
}

func (c *catcher) get(m []ui.Mail, h []ui.Hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mails, c.hooks = append(c.mails, m...), append(c.hooks, h...)
	close(c.changed)
	c.changed = make(chan struct{})
}

func mailOf(id string, n int) ui.Mail {
	return ui.Mail{
		ID: n, At: accepted, From: "belfry@school.example", To: "ada@school.example", Subject: "Course changed: Mechanics",
		MessageID: mailID(id) + "@belfry.example", Headers: []ui.Header{{Name: "Auto-Submitted", Value: "auto-generated"}},
		Text: "Course changed in Mechanics\n", HTML: "<!doctype html><title>Mail</title><p id=inside>Course changed in <b>Mechanics</b></p><script>document.body.textContent='ran'</script>",
	}
}

func hookOf(id string, n, status int) ui.Hook {
	h := ui.Hook{ID: n, At: accepted, Delivery: hookID(id), Head: http.Header{}, Verified: true, Status: status}
	h.Head.Set("webhook-id", h.Delivery)
	h.Head.Set("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=")
	h.Body, _ = json.Marshal(map[string]any{"type": "core.course_updated", "data": map[string]any{"object": "course/1"}})
	return h
}
