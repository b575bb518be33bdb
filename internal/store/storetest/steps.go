package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-14 local and global history, the latest step first
func testSteps(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	const tenant = belfry.DefaultTenant
	at := func(n int) time.Time { return time.Unix(int64(n), 0).UTC() }
	apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "work", Document: "d1"}, {ID: "copy", Document: "d1"}, {ID: "other"}}})
	first := apply(t, db, belfry.Changes{History: []belfry.HistoryEntry{{Object: "work", Transition: "create", Actor: "u1", Time: at(10)}, {Object: "other", Transition: "create", Time: at(11)}}})
	accept := func(id, object, transition string, n int) belfry.Receipt {
		t.Helper()
		got := must[[]belfry.Receipt](t)(db.AcceptEvents(ctx, []belfry.Draft{{Tenant: tenant, Body: []byte("{}"),
			Event: &belfry.Event{ID: id, Source: "/t", Type: "t", Object: object, Transition: transition, Actor: "u2", Time: at(n)}}}))
		return got[0]
	}
	submit := accept("1", "work", "submit", 20)
	publish := accept("2", "copy", "publish", 30)
	last := apply(t, db, belfry.Changes{History: []belfry.HistoryEntry{{Object: "work", Transition: "imported", Time: at(15)}}})

	steps := func(q belfry.StepQuery) (names []string) {
		t.Helper()
		for {
			list, next, err := db.Steps(ctx, tenant, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range list {
				names = append(names, h.Object+" "+h.Transition)
			}
			if next == "" {
				return names
			}
			q.Before = next
		}
	}
	const later = "evt_z"
	for _, limit := range []int{1, 2, 100} {
		for _, c := range []struct {
			name string
			q    belfry.StepQuery
			want []string
		}{
			{"local", belfry.StepQuery{Object: "work", Event: later, AsOf: last}, []string{"work submit", "work imported", "work create"}},
			{"global", belfry.StepQuery{Document: "d1", Event: later, AsOf: last}, []string{"copy publish", "work submit", "work imported", "work create"}},
			{"before an event", belfry.StepQuery{Document: "d1", Event: publish.EventID, AsOf: last}, []string{"work submit", "work imported", "work create"}},
			{"before the first", belfry.StepQuery{Object: "work", Event: submit.EventID, AsOf: first}, []string{"work create"}},
			{"before any edit", belfry.StepQuery{Object: "work", Event: later, AsOf: first - 1}, []string{"work submit"}},
			{"none", belfry.StepQuery{Object: "copy", Event: publish.EventID, AsOf: last}, nil},
		} {
			c.q.Limit = limit
			same(t, c.name, steps(c.q), c.want)
		}
	}
	list, _, err := db.Steps(ctx, tenant, belfry.StepQuery{Object: "work", Event: later, AsOf: first, Limit: 1})
	if err != nil || len(list) != 1 || list[0].Actor != "u2" || list[0].Document != "d1" || !list[0].Time.Equal(at(20)) {
		t.Errorf("a step: %+v, %v", list, err)
	}
	list, _, err = db.Steps(ctx, "another", belfry.StepQuery{Document: "d1", Event: later, AsOf: last})
	if err != nil || len(list) != 0 {
		t.Errorf("another tenant's steps: %+v, %v", list, err)
	}
	_, _, err = db.Steps(ctx, tenant, belfry.StepQuery{Object: "work", Before: "nonsense"})
	kind(t, err, belfry.Invalid)
}
