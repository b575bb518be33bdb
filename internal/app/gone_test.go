package app_test

import (
	"net/http"
	"strings"
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
	w.call("PUT", "/v1/users/ben", map[string]any{"name": "Ben"}, nil)
	w.call("PUT", "/v1/objects/hall", map[string]any{"type": "room", "title": "Hall"}, nil)
	var sub belfry.Subscription
	w.call("POST", "/v1/subscriptions", map[string]any{"title": "The hall", "scope": map[string]any{"object": "hall"}, "owner": "ada",
		"recipients": []any{map[string]any{"explicit": map[string]any{"users": []string{"ada"}}}}}, &sub)
	w.call("PATCH", "/v1/subscriptions/"+sub.ID, map[string]any{"joining": map[string]any{"who": "anyone"}}, nil)
	w.call("POST", "/v1/subscriptions/"+sub.ID+"/join", map[string]any{"user": "ben"}, nil)
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
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, who := range []string{"ada", "ben"} {
		var box struct {
			Items []struct{ Type, Title, Text string }
		}
		heard := func() (n int) {
			w.call("GET", "/v1/users/"+who+"/inbox", nil, &box)
			for _, item := range box.Items {
				if item.Type == "belfry.subscription_ended" {
					if n++; !strings.Contains(item.Text, "Hall was deleted") {
						t.Errorf("%s reads %q", who, item.Text)
					}
				}
			}
			return n
		}
		for deadline := time.Now().Add(30 * time.Second); heard() == 0; <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("%s hears nothing", who)
			}
		}
		if n := heard(); n != 1 {
			t.Errorf("%s hears %d times", who, n)
		}
	}
}
