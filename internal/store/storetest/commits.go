package storetest

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// feature: CPS-22 events of one act of the platform know of each other
func testCommits(t *testing.T, place func(testing.TB) string) {
	var ahead atomic.Int64
	db, err := store.Open(t.Context(), store.Options{URL: place(t), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ctx := context.Background()
	of := func(id, commit, object string, set ...func(*belfry.Event)) belfry.Draft {
		return event(id, func(d *belfry.Draft) {
			d.Event.Commit, d.Event.Object = commit, object
			for _, f := range set {
				f(d.Event)
			}
		})
	}
	rs := accept(t, db, of("1", "c1", "a"), of("2", "c1", "a"), of("3", "c1", "b"), of("4", "c2", "c"), of("5", "", "d"),
		of("6", "c1", "e", func(e *belfry.Event) { e.Source = "/other" }), of("7", "c1", "e", func(e *belfry.Event) { e.Type = "other" }), of("8", "c1", ""))
	accept(t, db, of("1", "c1", "f")) // a repeat of an event is none
	siblings := func(commit string, objects ...string) map[string]string {
		t.Helper()
		e := of("", commit, "")
		return must[map[string]string](t)(db.Siblings(ctx, tenant, e.Event, objects))
	}
	same(t, "the first on each object", siblings("c1", "a", "b", "c", "d", "e", "f", belfry.RootObject),
		map[string]string{"a": rs[0].EventID, "b": rs[2].EventID, belfry.RootObject: rs[7].EventID})
	same(t, "another act", siblings("c2", "a", "c"), map[string]string{"c": rs[3].EventID})
	other := of("", "c1", "").Event
	if first := must[map[string]string](t)(db.Siblings(ctx, "another", other, []string{"a"})); len(first) != 0 {
		t.Errorf("another tenant's: %v", first)
	}
	// Old acts are forgotten when others come.
	ahead.Store(int64(8 * 24 * time.Hour))
	accept(t, db, of("9", "c3", "a"))
	same(t, "an old act", siblings("c1", "a", "b"), map[string]string{})
	same(t, "a new one", len(siblings("c3", "a")), 1)
}
