//go:build linux

package faults_test

import (
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// What a tenant may send in all by the server's mail relay delays what is more and
// loses nothing, over all nodes; the tenant sees what is used and when it frees.
// feature: S3-20
func TestLimitOfATenant(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 0)
		limitOfATenant(t, newHome(t, mailed(office)...), office, 1)
	})
	t.Run("two nodes", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 0)
		limitOfATenant(t, newHome(t, append(append(onPostgres(testdb.Postgres(t)), mailed(office)...), "BELFRY_NODES_LEASE="+lease.String())...), office, 2)
	})
}

func limitOfATenant(t *testing.T, h *home, office *postOffice, nodes int) {
	const people, limit = 40, 12
	first := h.start() // so that every node knows the limit when the event comes
	first.call(http.MethodPut, "/v1/tenants/default", map[string]any{"limits": map[string]any{"email": map[string]int{"per_day": limit}}}, nil)
	first.signal(syscall.SIGTERM)
	first.exit()
	f := newFleet(t, h, nodes)
	p := f.ps[0]
	var users []map[string]string
	var names, addresses []string
	for i := range people {
		name := "u" + itoa(i)
		names, addresses = append(names, name), append(addresses, name+"@example.org")
		users = append(users, map[string]string{"id": name, "name": name, "email": name + "@example.org"})
	}
	p.call(http.MethodPost, "/v1/users:batch", users, nil)
	p.call(http.MethodPost, "/v1/subscriptions", map[string]any{"types": []string{"news"}, "recipients": []any{map[string]any{"explicit": map[string]any{"users": names}}},
		"notify": []any{map[string]any{"channels": []string{"email"}}}}, nil)
	if left := time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)); left < 30*time.Second {
		<-time.After(left) // the day of the limit is not to end within the test
	}
	day := time.Now().UTC().Truncate(24 * time.Hour)
	arrived := func() (n int) {
		for _, a := range addresses {
			n += len(office.to(a))
		}
		return n
	}
	type waiting struct {
		State   string
		Due     time.Time
		Because []struct{ Code string }
	}
	p.call(http.MethodPost, "/v1/events", map[string]any{"id": "1", "source": "/news", "type": "news"}, nil)
	await(t, patience, "sent up to the limit, the rest put off", func() (bool, string) {
		put := 0
		for _, d := range list[waiting](p, "/v1/deliveries?state=scheduled") {
			if n := len(d.Because); n > 0 && d.Because[n-1].Code == "tenant_limit" && d.Due.Equal(day.Add(24*time.Hour)) {
				put++
			}
		}
		return put == people-limit && arrived() == limit, itoa(put) + " wait, " + itoa(arrived()) + " arrived"
	})

	type usage struct {
		Used, Remaining int
		Frees           time.Time
	}
	var seen struct {
		Usage map[string]struct{ Day *usage }
	}
	var channel struct {
		Limit *struct {
			PerDay int `json:"per_day"`
		}
		Usage *struct{ Day *usage }
	}
	last := f.ps[nodes-1]
	last.call(http.MethodGet, "/v1/tenants/default", nil, &seen)
	last.call(http.MethodGet, "/v1/channels/email", nil, &channel)
	want := usage{Used: limit, Frees: day.Add(24 * time.Hour)}
	if u := seen.Usage["email"].Day; u == nil || *u != want {
		t.Errorf("the tenant says %+v is used, want %+v", u, want)
	}
	if u := channel.Usage; channel.Limit == nil || channel.Limit.PerDay != limit || u == nil || u.Day == nil || *u.Day != want {
		t.Errorf("the channel says %+v of %+v", channel.Usage, channel.Limit)
	}
	used := 0.0
	for _, q := range f.ps {
		used += q.gauge("belfry_tenant_limits_used_up")
		if n := q.gauge("belfry_channels_used_up"); n != 0 {
			t.Errorf("%v channels are used up", n)
		}
	}
	if used < 1 {
		t.Error("no node says in its metrics that a limit is used up")
	}

	// Raised, it lets the rest go when somebody says so, and each came once.
	p.call(http.MethodPut, "/v1/tenants/default", map[string]any{"limits": map[string]any{"email": map[string]int{"per_day": 10 * people}}}, nil)
	p.call(http.MethodPost, "/v1/deliveries:retry", map[string]string{"state": "scheduled", "channel": "email"}, nil)
	p.idle()
	for _, a := range addresses {
		if n := len(office.to(a)); n != 1 {
			t.Errorf("%s had %d letters", a, n)
		}
	}
	if states := list[waiting](p, "/v1/deliveries?channel=email"); len(states) != people || slices.ContainsFunc(states, func(d waiting) bool { return d.State != "delivered" }) {
		t.Errorf("%d deliveries: %+v", len(states), states)
	}
}
