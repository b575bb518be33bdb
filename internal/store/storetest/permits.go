package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: S3-20
func testPermits(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	start := time.Date(2026, 5, 9, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	take := func(who string, start time.Time, span time.Duration, limit, want, expect int) {
		t.Helper()
		got, err := db.TakePermits(ctx, who, "email", start, span, limit, want)
		if err != nil || got != expect {
			t.Fatalf("took %d of %d (%v), want %d", got, limit, err, expect)
		}
	}

	// Many at once never get more than there is, and all of it.
	var all atomic.Int64
	var takers sync.WaitGroup
	for range 8 {
		takers.Go(func() {
			for {
				got, err := db.TakePermits(ctx, tenant, "email", start, day, 100, 7)
				if err != nil {
					t.Error(err)
				}
				if all.Add(int64(got)); got == 0 {
					return
				}
			}
		})
	}
	takers.Wait()
	if n := all.Load(); n != 100 {
		t.Fatalf("%d were given of 100", n)
	}

	// Another length of window that begins at the same time, another tenant and
	// another channel are apart.
	take(tenant, start, time.Second, 3, 2, 2)
	take(tenant, start, time.Second, 3, 2, 1)
	take(tenant, start, time.Second, 3, 2, 0)
	take(belfry.AllTenants, start, day, 100, 7, 7)

	// What is given back is there for others, never more than was taken.
	back := func(start time.Time, n int) {
		t.Helper()
		if err := db.ReturnPermits(ctx, tenant, "email", start, day, n); err != nil {
			t.Fatal(err)
		}
	}
	back(start, 5)
	take(tenant, start, day, 100, 7, 5)
	take(tenant, start, day, 50, 7, 0) // the limit was lowered
	take(tenant, start, day, 103, 7, 3)

	// The next window begins anew; whose clock is behind shares it, and what is
	// given back of an old one is gone.
	next := start.Add(day)
	take(tenant, next, day, 10, 20, 10)
	back(start, 5)
	take(tenant, next, day, 10, 1, 0)
	take(tenant, start, day, 10, 1, 0)
	take(tenant, start.Add(time.Second), time.Second, 3, 3, 3)
	take(tenant, start, time.Second, 3, 3, 0)

	// A clock that was far ahead stops nobody for long.
	take(tenant, start.Add(time.Hour), time.Second, 3, 3, 3)
	take(tenant, start.Add(2*time.Second), time.Second, 3, 2, 2)
	take(tenant, start.Add(2*time.Second), time.Second, 3, 2, 1)

	// What was taken can be read, of one tenant.
	if _, err := db.TakePermits(ctx, "other", "email", start, day, 5, 5); err != nil {
		t.Fatal(err)
	}
	taken, err := db.Permits(ctx, tenant)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "what was taken", taken, []belfry.Permits{{Channel: "email", Span: time.Second, Start: start.Add(2 * time.Second), Used: 3}, {Channel: "email", Span: day, Start: next, Used: 10}})

	if _, err := db.TakePermits(ctx, tenant, "email", start, day, 0, 1); belfry.KindOf(err) != belfry.Invalid {
		t.Errorf("no limit: %v", err)
	}
}
