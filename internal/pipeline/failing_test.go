package pipeline

import (
	"context"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: PEER-5
func TestFailuresAreRememberedOverRestarts(t *testing.T) {
	db := sqlite(t)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	start := now
	d := &belfry.Delivery{Tenant: belfry.DefaultTenant, Channel: belfry.ChannelWebhook, Address: "ep_1", Destination: "ep_1"}
	f := &Failures{Store: db, Now: func() time.Time { return now }}
	note := func(kind belfry.OutcomeKind, want time.Time) {
		t.Helper()
		got, err := f.Note(context.Background(), d, belfry.Outcome{Kind: kind})
		if err != nil || !got.Equal(want) {
			t.Errorf("failing since %v, want %v (%v)", got, want, err)
		}
	}
	note(belfry.OutcomeDelivered, time.Time{})
	note(belfry.OutcomeRetry, start)
	now = now.Add(time.Hour)
	note(belfry.OutcomeRefused, start)
	f = &Failures{Store: db, Now: func() time.Time { return now }} // another process
	now = now.Add(time.Hour)
	note(belfry.OutcomeRetry, start)
	note(belfry.OutcomeAccepted, time.Time{})
	now = now.Add(time.Hour)
	note(belfry.OutcomeRetry, now)
}

// feature: PEER-5
func TestFailedTooLong(t *testing.T) {
	now := time.Date(2030, 1, 10, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, c := range []struct {
		name   string
		e      belfry.Endpoint
		since  time.Time
		period time.Duration
		want   bool
	}{
		{"long", belfry.Endpoint{State: belfry.EndpointActive}, now.Add(-5 * day), 5 * day, true},
		{"not long", belfry.Endpoint{State: belfry.EndpointActive}, now.Add(-4 * day), 5 * day, false},
		{"working", belfry.Endpoint{State: belfry.EndpointActive}, time.Time{}, 5 * day, false},
		{"never", belfry.Endpoint{State: belfry.EndpointActive}, now.Add(-50 * day), 0, false},
		{"its own", belfry.Endpoint{State: belfry.EndpointActive, DisableAfter: "24h"}, now.Add(-2 * day), 5 * day, true},
		{"never by its own", belfry.Endpoint{State: belfry.EndpointActive, DisableAfter: "0s"}, now.Add(-20 * day), 5 * day, false},
		{"resumed lately", belfry.Endpoint{State: belfry.EndpointActive, Resumed: now.Add(-day)}, now.Add(-20 * day), 5 * day, false},
		{"disabled already", belfry.Endpoint{State: belfry.EndpointDisabled}, now.Add(-20 * day), 5 * day, false},
	} {
		if got := FailedTooLong(&c.e, c.since, now, c.period); (got != "") != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
