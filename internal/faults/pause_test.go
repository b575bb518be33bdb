//go:build linux

package faults_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// What waits of a subscription that is paused on one node is sent when it is
// resumed on another, by whichever node has it then, also after all were
// killed; what waits of one that ends is suppressed. Nothing is sent twice, and
// nothing by what another node does not know yet: a switch that was turned off
// there before the events came, a subscription that was paused before it is
// turned on here.
// feature: NEW-10, NEW-12
func TestPausedSubscriptionsWaitOnEveryNode(t *testing.T) {
	t.Run("telling each other", func(t *testing.T) { pausedEverywhere(t, nodesOn(t)) })
	t.Run("not telling", func(t *testing.T) { pausedEverywhere(t, nodesOn(t, "BELFRY_NODES_NOTIFY=false")) })
}

func pausedEverywhere(t *testing.T, h *home) {
	t.Parallel()
	first, second := h.start(), h.start()
	divided(t, first, 2)
	r := newReceiver(t, "receiver", prompt)
	const subs, events = 12, 10
	ids := make([]string, subs)
	for i := range ids {
		var ep, sub struct{ ID string }
		first.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": r.URL}, &ep)
		first.call(http.MethodPost, "/v1/subscriptions", map[string]any{"types": []string{fmt.Sprint("t.", i)}, "notify": []any{map[string]any{"endpoint": ep.ID}}}, &sub)
		ids[i] = sub.ID
	}
	first.call(http.MethodPut, "/v1/settings", map[string]string{"webhooks": "off"}, nil)
	var batch []map[string]string
	for i := range subs * events {
		batch = append(batch, map[string]string{"id": fmt.Sprint(i), "source": "/x", "type": fmt.Sprint("t.", i%subs), "object": fmt.Sprint("o/", i)})
	}
	second.call(http.MethodPost, "/v1/events", batch, nil)
	open := func(p *process) int {
		return len(list[struct{ ID string }](p, "/v1/deliveries?state=scheduled&limit=1000"))
	}
	await(t, patience, "planned", func() (bool, string) { n := open(first); return n == subs*events, fmt.Sprint(n) })
	for i, id := range ids {
		if i%3 != 0 {
			first.call(http.MethodPost, "/v1/subscriptions/"+id+"/pause", nil, nil)
		}
	}
	second.call(http.MethodPut, "/v1/settings", map[string]string{}, nil)
	waits := func(p *process, n int) {
		t.Helper()
		await(t, patience, "waiting", func() (bool, string) {
			got := open(p)
			return got == n && p.gauge("belfry_deliveries_in_memory") == 0, fmt.Sprintf("%d are open, want %d", got, n)
		})
	}
	waits(first, subs/3*2*events)
	// One of each three is resumed here, the nodes die, one is ended there.
	for i, id := range ids {
		if i%3 == 1 && i < subs/2 {
			second.call(http.MethodPost, "/v1/subscriptions/"+id+"/resume", nil, nil)
		}
	}
	waits(second, (subs/3*2-2)*events)
	first.kill()
	second.kill()
	third := h.start()
	await(t, patience, "alone", func() (bool, string) {
		n := third.gauge("belfry_deliveries_in_memory")
		return n == 0, fmt.Sprint(n)
	})
	<-time.After(lease)
	for i, id := range ids {
		switch {
		case i%3 == 1 && i >= subs/2:
			third.call(http.MethodPost, "/v1/subscriptions/"+id+"/resume", nil, nil)
		case i%3 == 2:
			third.call(http.MethodDelete, "/v1/subscriptions/"+id, nil, nil)
		}
	}
	third.idle()
	got := r.received()
	for i := range subs * events {
		want := 1
		if i%subs%3 == 2 {
			want = 0
		}
		if n := got[fmt.Sprint(i)]; n != want {
			t.Errorf("event %d of subscription %d was told %d times, want %d", i, i%subs, n, want)
		}
	}
	for _, d := range list[struct {
		Because []struct{ Code string }
	}](third, "/v1/deliveries?state=suppressed&limit=1000") {
		if d.Because[len(d.Because)-1].Code != "subscription_gone" {
			t.Errorf("suppressed for %v", d.Because)
		}
	}
}
