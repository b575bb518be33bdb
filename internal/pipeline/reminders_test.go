package pipeline

import (
	"context"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: NEW-13, PEER-13
func TestReminders(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	night := belfry.Preference{Object: "course/1", Mutes: []belfry.Window{{From: "22:00", To: "07:00"}}, Remind: "1h", Because: "asleep", MutedBy: "ada"}
	h.apply(belfry.Changes{
		Users:       []belfry.User{{ID: "ada", State: belfry.UserActive, TimeZone: "Europe/Berlin"}},
		Preferences: []belfry.UserPreferences{{User: "ada", Preferences: []belfry.Preference{night}}},
	})
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	var told []belfry.Event
	r := &Reminders{Facts: &Facts{Directory: h.dir}, Now: func() time.Time { return now }, Admit: func(_ context.Context, _ string, e belfry.Event) error {
		told = append(told, e)
		return nil
	}}
	timer, any := belfry.MuteTimer(belfry.DefaultTenant, "ada", []belfry.Preference{night}, now, time.UTC)
	if !any || !timer.Due.Equal(time.Date(2026, 3, 3, 6, 0, 0, 0, time.UTC)) {
		t.Fatalf("%+v %v", timer, any)
	}
	act := func(at time.Time, want int, next time.Time) {
		t.Helper()
		now = at
		move, err := r.Act(context.Background(), &timer)
		if err != nil || len(told) != want {
			t.Fatalf("%d reminders, want %d: %v", len(told), want, err)
		}
		if (move.Next == nil) != next.IsZero() || move.Next != nil && !move.Next.Due.Equal(next) {
			t.Fatalf("next %+v, want %v", move.Next, next)
		}
		if move.Next != nil {
			timer = *move.Next
		}
	}
	berlin, _ := belfry.Zone("Europe/Berlin")
	// The zone is that of the profile now: an hour earlier than the timer thought.
	act(time.Date(2026, 3, 3, 6, 0, 1, 0, time.UTC), 0, time.Date(2026, 3, 4, 6, 0, 0, 0, berlin))
	act(timer.Due.Add(time.Second), 1, timer.Due.Add(24*time.Hour))
	if e := told[0]; e.Type != belfry.MuteEnding || e.Related[0] != "ada" || e.Object != "course/1" || string(e.Data) != `{"because":"asleep","ends":"2026-03-04T06:00:00Z","muted_by":"ada"}` {
		t.Errorf("%+v %s", e, e.Data)
	}
	act(timer.Due, 2, timer.Due.Add(24*time.Hour))
	if told[0].ID == told[1].ID {
		t.Error("two reminders are one event")
	}
	// What was not recorded is decided again, to the same event.
	again := told[1]
	timer.Due = timer.Due.Add(-24 * time.Hour)
	act(timer.Due.Add(time.Second), 3, timer.Due.Add(24*time.Hour))
	if told[2].ID != again.ID {
		t.Error("the same reminder is another event")
	}
	// Who was away for days is not reminded of what is over.
	act(timer.Due.Add(50*time.Hour), 3, timer.Due.Add(72*time.Hour))
	h.apply(belfry.Changes{Settings: []belfry.UserSettings{{User: "ada", Settings: belfry.Settings{Stop: true}}}})
	act(timer.Due, 3, timer.Due.Add(24*time.Hour))
	h.apply(belfry.Changes{Preferences: []belfry.UserPreferences{{User: "ada"}}})
	act(timer.Due, 3, time.Time{})
	h.apply(belfry.Changes{DeleteUsers: []string{"ada"}})
	act(timer.Due, 3, time.Time{})
}

// A server that takes no events at present reminds later; what else is due does
// not wait for that.
func TestRemindersBearOverload(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	due := clock()
	timer := func(kind, id string) belfry.Timer {
		return belfry.Timer{Tenant: belfry.DefaultTenant, Kind: kind, ID: id, Due: due, Body: []byte(`{}`)}
	}
	h.apply(belfry.Changes{Timers: []belfry.Timer{timer("full", "a"), timer("full", "b"), timer("plain", "c")}})
	acted := map[string]int{}
	full := true
	timers := h.timers(func() time.Time { return due })
	timers.Kinds = map[string]TimerKind{
		"full": func(_ context.Context, t *belfry.Timer) (Move, error) {
			acted[t.ID]++
			if full {
				return Move{}, belfry.Errorf(belfry.Overloaded, "try again later")
			}
			return Move{}, nil
		},
		"plain": func(_ context.Context, t *belfry.Timer) (Move, error) { acted[t.ID]++; return Move{}, nil },
	}
	look := func() error { _, err := timers.look(context.Background()); return err }
	if err := look(); belfry.KindOf(err) != belfry.Overloaded {
		t.Errorf("said nothing: %v", err)
	}
	full = false
	for range 2 {
		if err := look(); err != nil {
			t.Error(err)
		}
	}
	if acted["a"] != 2 || acted["b"] != 2 || acted["c"] != 1 {
		t.Errorf("%v", acted)
	}
}
