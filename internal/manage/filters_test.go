package manage

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: S3-6 saved filters: a change is in force for all that name one,
// deleting one pauses them and never widens
func TestSavedFilters(t *testing.T) {
	h := open(t).school()
	put := func(f belfry.SavedFilter) {
		t.Helper()
		_, _, _, err := h.PutFilter(h.ctx(), by, f, nil)
		h.ok(err)
	}
	put(belfry.SavedFilter{Name: "cpr", Filter: "event.data.shortname == 'CPR' // by name"})
	put(belfry.SavedFilter{Name: "mine", Filter: "event.actor == 'user/8'", Owner: "user/8"})
	create := func(s belfry.Subscription) belfry.Subscription {
		t.Helper()
		stored, err := h.CreateSubscription(h.ctx(), by, s)
		h.ok(err)
		return stored.Subscription
	}
	read := func(id string) belfry.Subscription {
		t.Helper()
		s, err := h.Subscription(h.ctx(), by.Tenant, id)
		h.ok(err)
		return s.Subscription
	}
	both := create(belfry.Subscription{Filters: []string{"cpr", "mine"}, Filter: "event.type != 'x'", Owner: "user/8", Combined: "true"})
	one := create(belfry.Subscription{Filters: []string{"cpr"}})
	plain := create(belfry.Subscription{Filter: "event.type == 'y'"})
	if want := "(event.data.shortname == 'CPR' // by name\n) && (event.actor == 'user/8'\n) && (event.type != 'x'\n)"; both.Combined != want {
		t.Errorf("combined:\n%s\nwant\n%s", both.Combined, want)
	}
	stored, err := h.Subscription(h.ctx(), by.Tenant, both.ID)
	h.ok(err)
	if !strings.Contains(stored.Readable, `shortname is "CPR"`) || !strings.Contains(stored.Readable, "user/8") {
		t.Errorf("readable: %s", stored.Readable)
	}

	put(belfry.SavedFilter{Name: "cpr", Filter: "event.data.shortname == 'ECG'"})
	for _, id := range []string{both.ID, one.ID} {
		if s := read(id); !strings.Contains(s.Combined, "ECG") || strings.Contains(s.Combined, "CPR") {
			t.Errorf("after the filter was changed: %s", s.Combined)
		}
	}
	if s := read(plain.ID); s.Version != plain.Version {
		t.Error("a subscription that names no filter was touched")
	}

	_, err = h.CreateSubscription(h.ctx(), by, belfry.Subscription{Filters: []string{"mine", "gone"}, Owner: "user/9"})
	h.refused(err, belfry.Invalid, "/filters/0: somebody else", "/filters/1: gone")
	_, _, _, err = h.PutFilter(h.ctx(), by, belfry.SavedFilter{Name: "cpr", Filter: "true", Owner: "user/9"}, nil)
	h.refused(err, belfry.Invalid, "/owner: of another owner names it")
	_, _, _, err = h.PutFilter(h.ctx(), by, belfry.SavedFilter{Name: "cpr", Filter: strings.Repeat("true && ", 1000) + "true"}, nil)
	h.refused(err, belfry.Invalid, "/filter")

	h.ok(h.DeleteFilter(h.ctx(), by, "cpr", nil))
	for _, id := range []string{both.ID, one.ID} {
		if s := read(id); s.State != belfry.SubscriptionPaused || !strings.Contains(s.Because, "saved filter cpr was deleted") {
			t.Errorf("after the filter was deleted: %s, %s", s.State, s.Because)
		}
		_, err := h.ResumeSubscription(h.ctx(), by, id)
		h.refused(err, belfry.Conflict)
	}
	if s := read(plain.ID); s.State != belfry.SubscriptionActive {
		t.Error("a subscription that names no filter was paused")
	}
	// Another filter of a paused one may still be changed; what is missing is
	// looked at when it is resumed.
	put(belfry.SavedFilter{Name: "mine", Filter: "event.actor == 'user/9'", Owner: "user/8"})
	put(belfry.SavedFilter{Name: "cpr", Filter: "event.data.shortname == 'NEW'"})
	if s := read(one.ID); s.State != belfry.SubscriptionPaused {
		t.Errorf("a filter of the same name resumed it: %s", s.State)
	}
	for _, id := range []string{both.ID, one.ID} {
		s, err := h.ResumeSubscription(h.ctx(), by, id)
		h.ok(err)
		if s.State != belfry.SubscriptionActive || !strings.Contains(s.Combined, "NEW") {
			t.Errorf("resumed: %+v", s)
		}
	}
	if s := read(both.ID); !strings.Contains(s.Combined, "user/9") {
		t.Errorf("resumed: %s", s.Combined)
	}
	h.refused(h.DeleteFilter(h.ctx(), by, "never", nil), belfry.NotFound)
}
