package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-22 one act of the platform is told once on each object, and a
// child not beside its parent; acts are told apart by what the platform says,
// not by what came in one request.
func TestOneActOfThePlatform(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.forum("sub_all", "*", 1)
	h.apply(belfry.Changes{Objects: []belfry.Object{{ID: "folder"}, {ID: "sub", Parent: "folder"}, {ID: "doc", Parent: "sub"}, {ID: "other"}}})
	h.run()
	accept := func(events ...belfry.Event) (ids []string) {
		t.Helper()
		drafts := make([]belfry.Draft, len(events))
		accs := make([]belfry.Accepted, len(events))
		for i := range events {
			e := &events[i]
			e.ID, e.Source, e.Time = belfry.NewID("", clock()), "/test", clock()
			drafts[i] = belfry.Draft{Tenant: belfry.DefaultTenant, Event: e, Body: fmt.Appendf(nil, `{"id":%q,"source":"/test","type":%q,"time":%q,"object":%q,"commit":%q}`,
				e.ID, e.Type, e.Time.Format(time.RFC3339Nano), e.Object, e.Commit)}
		}
		receipts, err := h.db.AcceptEvents(context.Background(), drafts)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range receipts {
			ids = append(ids, r.EventID)
			accs[i] = belfry.Accepted{Tenant: belfry.DefaultTenant, EventID: r.EventID, At: r.At, AsOf: r.AsOf, Event: drafts[i].Event}
		}
		h.plan.Handover(accs)
		h.planned(ids...)
		return ids
	}
	outcome := func(id string) string {
		t.Helper()
		tr, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: id})
		if err != nil || len(tr.People) != 1 {
			t.Fatalf("%+v, %v", tr, err)
		}
		if p := tr.People[0]; p.Outcome == belfry.NotTold {
			return p.Because[len(p.Because)-1].Code
		}
		return belfry.Told
	}
	outcomes := func(ids []string) (list []string) {
		for _, id := range ids {
			list = append(list, outcome(id))
		}
		return list
	}
	const gone, made = "deleted", "created"
	ids := accept(
		belfry.Event{Type: gone, Object: "doc", Commit: "1"}, belfry.Event{Type: gone, Object: "sub", Commit: "1"}, belfry.Event{Type: gone, Object: "folder", Commit: "1"},
		belfry.Event{Type: gone, Object: "folder", Commit: "1"}, belfry.Event{Type: made, Object: "doc", Commit: "1"}, belfry.Event{Type: gone, Object: "other", Commit: "1"},
		belfry.Event{Type: gone, Object: "doc", Commit: "2"}, belfry.Event{Type: made, Object: "other"}, belfry.Event{Type: made, Object: "other"})
	want := []string{belfry.ChildInCommit, belfry.ChildInCommit, belfry.Told, belfry.RepeatInCommit, belfry.Told, belfry.Told, belfry.Told, belfry.Told, belfry.Told}
	if got := outcomes(ids); !slices.Equal(got, want) {
		t.Errorf("in one request:\n got %v\nwant %v", got, want)
	}
	// The act goes on in another request.
	if got := outcome(accept(belfry.Event{Type: gone, Object: "other", Commit: "1"})[0]); got != belfry.RepeatInCommit {
		t.Errorf("a repeat in a later request: %s", got)
	}
	answer, err := h.ex.Explain(context.Background(), belfry.DefaultTenant, &belfry.Event{Source: "/test", Type: gone, Object: "sub", Commit: "1"})
	if err != nil || len(answer.People) != 1 || answer.People[0].Because[0].Code != belfry.RepeatInCommit {
		t.Errorf("explained: %+v, %v", answer, err)
	}
}
