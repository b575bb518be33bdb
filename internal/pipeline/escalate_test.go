package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// timersOf are the timers of a house at some time, acting on escalations.
func (h *house) timers(now func() time.Time) *Timers {
	escalations := &Escalations{Subscriptions: h.subs, Now: now}
	return &Timers{
		Store: h.db, Shards: Alone{}, Ordered: h.plan.Wake, Log: slog.New(slog.DiscardHandler), Now: now,
		Kinds: map[string]TimerKind{belfry.TimerEscalation: escalations.Act},
	}
}

// pass acts on what is due after some time.
func (h *house) pass(after time.Duration) {
	h.t.Helper()
	now := clock().Add(after)
	if _, err := h.timers(func() time.Time { return now }).look(context.Background()); err != nil {
		h.t.Fatal(err)
	}
	h.everythingPlanned()
}

func (h *house) trace(event string) belfry.Answer {
	h.t.Helper()
	a, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: event})
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// called is a subscription to ada that wants to be acknowledged: by ben after a
// quarter of an hour, and by all again after another.
func (h *house) called(id string) {
	h.apply(belfry.Changes{
		Users: []belfry.User{
			{ID: "ada", Email: "ada@example.org", State: belfry.UserActive},
			{ID: "ben", Email: "ben@example.org", State: belfry.UserActive},
			{ID: "eve", Email: "eve@example.org", State: belfry.UserActive},
		},
		Members: []belfry.Member{{Subscription: id, Principal: "eve", Object: "elsewhere"}},
		Subscriptions: []belfry.Subscription{{
			ID: id, Types: []string{"alarm.*"}, State: belfry.SubscriptionActive, Created: clock(),
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada"}}}},
			Acknowledge: &belfry.Acknowledge{Escalate: []belfry.EscalationStep{
				{After: "15m", Users: []string{"ben"}, Channels: []string{"email"}}, {After: "15m"},
			}},
		}},
	})
}

// told lists "who address code…" of those who were told, sorted.
func toldOf(a *belfry.Answer) (out []string) {
	for _, p := range a.People {
		line := p.Principal + " " + p.Outcome
		for _, r := range p.Because {
			line += " " + r.Code
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// feature: NEW-17, S3-28
func TestEscalation(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.called("sub_1")
	h.run()
	event := h.accept(1, "alarm.fire")[0]
	h.r.wait(t, 1)
	h.drained()

	a := h.trace(event)
	if len(a.Escalation) != 1 || a.Escalation[0].Step != 1 || a.Escalation[0].Subscription != "sub_1" {
		t.Fatalf("after the event %+v", a.Escalation)
	}
	if next := a.Escalation[0]; next.Of != 2 || !slices.Equal(next.Users, []string{"ben"}) || !slices.Equal(next.Channels, []string{"email"}) || next.Again {
		t.Errorf("who comes next: %+v", next)
	}
	supposed, err := h.ex.Explain(t.Context(), belfry.DefaultTenant, &belfry.Event{ID: "x", Source: "/s", Type: "alarm.fire"})
	if err != nil || len(supposed.Escalation) != 1 || supposed.Escalation[0].Step != 1 || !slices.Equal(supposed.Escalation[0].Users, []string{"ben"}) {
		t.Errorf("of an event that is only supposed: %+v, %v", supposed.Escalation, err)
	}
	h.pass(14 * time.Minute) // not yet
	if h.r.times(belfry.DeliveryID(event, 0, "email", "ada@example.org")) != 1 || len(h.trace(event).People) != 2 {
		t.Fatalf("too early: %q", toldOf(&a))
	}
	h.pass(16 * time.Minute)
	h.r.wait(t, 2)
	h.drained()
	a = h.trace(event)
	want := []string{
		"ada told named_user by_tenant_default",
		"ben told named_user by_subscription escalated",
		"eve not_told named_member joined_elsewhere",
	}
	if got := toldOf(&a); !slices.Equal(got, want) {
		t.Errorf("after the first step %q, want %q", got, want)
	}
	if len(a.Escalation) != 1 || a.Escalation[0].Step != 2 {
		t.Errorf("what comes next: %+v", a.Escalation)
	}
	if next := a.Escalation[0]; !next.Again || len(next.Users) > 0 {
		t.Errorf("who comes next: %+v", next)
	}
	if n := len(a.Subscriptions); n != 2 || a.Subscriptions[1].Because[0].Code != belfry.Escalated || a.Subscriptions[1].Because[0].Detail != "step 1, after 15m" {
		t.Errorf("the step is not recorded: %+v", a.Subscriptions)
	}

	// Everybody again, under ids of their own: mail programs hide what has the
	// id of a mail that is there.
	h.pass(40 * time.Minute)
	h.r.wait(t, 4)
	h.drained()
	if a = h.trace(event); len(a.Escalation) != 0 {
		t.Errorf("there is a step after the last: %+v", a.Escalation)
	}
	h.r.once(t)
	h.pass(400 * time.Minute)
	if h.r.total != 4 {
		t.Errorf("%d mails, want 4", h.r.total)
	}
}

// feature: NEW-17 whoever acknowledges ends it, is sent nothing more of it, and
// has read it
func TestAcknowledgementEndsEscalation(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.called("sub_1")
	h.run()
	event := h.accept(1, "alarm.fire")[0]
	h.r.wait(t, 1)
	h.drained()
	timers, err := h.db.TimersOf(context.Background(), belfry.DefaultTenant, belfry.TimerEscalation, "", 10)
	if err != nil || len(timers) != 1 {
		t.Fatalf("%+v, %v", timers, err)
	}
	h.apply(belfry.Changes{Acknowledgements: []belfry.Acknowledgement{{EventID: event, Who: "ada", At: clock(), How: belfry.ByLink}}})
	h.pass(time.Hour)
	a := h.trace(event)
	if h.r.total != 1 || len(a.Escalation) != 0 || len(a.Acknowledged) != 1 || a.Acknowledged[0].Who != "ada" || a.Acknowledged[0].How != belfry.ByLink {
		t.Errorf("%d mails, %+v", h.r.total, a)
	}
	_, unread, _, err := h.db.Inbox(context.Background(), belfry.DefaultTenant, "ada", store.InboxFilter{})
	if err != nil || unread != 0 {
		t.Errorf("%d unread, %v", unread, err)
	}

	// A step that was ordered at the same moment tells nobody, and says why.
	terms := belfry.Replay{Escalation: &belfry.Escalation{Subscription: "sub_1", Step: 1}}
	if ok, err := h.db.MoveTimer(context.Background(), timers[0], nil, nil); ok || err != nil {
		t.Fatalf("a timer that was ended was moved: %v", err)
	}
	h.replay(terms, event)
	h.everythingPlanned()
	h.drained()
	a = h.trace(event)
	if got := toldOf(&a); !slices.Contains(got, " not_told escalated acknowledged") || h.r.total != 1 {
		t.Errorf("%q, %d mails", got, h.r.total)
	}

	// What is planned for her all the same is not sent.
	d := h.delivery(belfry.DeliveryID(event, 0, "email", "ada@example.org"))
	h.apply(belfry.Changes{Retries: []belfry.DeliveryRetry{{ID: d.ID, Due: clock(), Resend: true}}})
	h.send.Wake(belfry.DefaultTenant, clock().Add(-time.Minute))
	h.drained()
	if d = h.delivery(d.ID); d.State != belfry.Suppressed || h.r.total != 1 {
		t.Errorf("%s after %d mails", d.State, h.r.total)
	}
}

// feature: NEW-17 a paused subscription, or one without the step, ends it
func TestEscalationOfWhatIsGone(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.called("sub_1")
	h.run()
	event := h.accept(1, "alarm.fire")[0]
	h.r.wait(t, 1)
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{{ID: "sub_1", Types: []string{"alarm.*"}, State: belfry.SubscriptionEnded, Because: "enough", Created: clock()}}})
	h.pass(time.Hour)
	h.replay(belfry.Replay{Escalation: &belfry.Escalation{Subscription: "sub_1", Step: 7}}, event)
	h.everythingPlanned()
	a := h.trace(event)
	if got := toldOf(&a); !slices.Contains(got, " not_told escalated subscription_gone") || len(a.Escalation) != 0 {
		t.Errorf("%q %+v", got, a.Escalation)
	}
}
