package app_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// An hour after an object is deleted the subscriptions there end, and whoever
// owns one hears of it once, however often the house is kept.
//
// feature: CPS-5, MDL-23
func TestOwnersHearThatASubscriptionEnded(t *testing.T) {
	w := open(t)
	w.call("PUT", "/v1/users/ada", map[string]any{"name": "Ada"}, nil)
	w.call("PUT", "/v1/objects/hall", map[string]any{"type": "room", "title": "Hall"}, nil)
	var sub belfry.Subscription
	w.call("POST", "/v1/subscriptions", map[string]any{"title": "The hall", "scope": map[string]any{"object": "hall"}, "owner": "ada",
		"recipients": []any{map[string]any{"explicit": map[string]any{"users": []string{"ada"}}}}}, &sub)
	w.call(http.MethodDelete, "/v1/objects/hall", nil, nil)
	for n, want := range []int{0, 1, 0} {
		later := time.Now().Add(time.Duration(n) * 2 * time.Hour)
		if got, err := w.app.EndGone(t.Context(), belfry.DefaultTenant, later); got != want || err != nil {
			t.Errorf("round %d: %d are ended, %v, want %d", n, got, err, want)
		}
	}
	w.call("GET", "/v1/subscriptions/"+sub.ID, nil, &sub)
	if sub.State != belfry.SubscriptionEnded || sub.Because != "hall was deleted" {
		t.Errorf("%s: %s", sub.State, sub.Because)
	}
	var box struct {
		Items []struct{ Type, Title, Text string }
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); len(box.Items) == 0; <-tick.C {
		w.call("GET", "/v1/users/ada/inbox", nil, &box)
		if time.Now().After(deadline) {
			t.Fatal("ada hears nothing")
		}
	}
	if len(box.Items) != 1 || box.Items[0].Type != "belfry.subscription_ended" {
		t.Errorf("%+v", box.Items)
	}
}
