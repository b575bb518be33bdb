//go:build linux

package faults_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// What an administrator of a tenant writes into a source does not let them look
// around in the operator's network; the operator's own tenant reaches the
// database beside the server as it is.
func TestSourcesOfGuestsStayOutside(t *testing.T) {
	t.Parallel()
	p := newHome(t, "BELFRY_OUTBOUND_ALLOW=").start()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := inner.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = inner.Close(); <-ended })

	as := func(tenant, method, path, body string, out any) {
		t.Helper()
		r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+rootKey)
		r.Header.Set("Belfry-Tenant", tenant)
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %v %d %s", method, path, err, resp.StatusCode, raw)
		}
		if out != nil {
			if err := json.Unmarshal(raw, out); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.call(http.MethodPut, "/v1/tenants/guest", map[string]any{}, nil)
	// failing waits until a source of the tenant has failed, and says how.
	failing := func(tenant, dsn string) string {
		t.Helper()
		var made struct{ ID string }
		as(tenant, http.MethodPost, "/v1/sources", `{"name":"s","kind":"moodle","settings":{"dsn":"`+dsn+`","wwwroot":"https://s.example"}}`, &made)
		var st struct{ State, Error string }
		await(t, patience, "a source that fails", func() (bool, string) {
			as(tenant, http.MethodGet, "/v1/sources/"+made.ID+"/status", "", &st)
			return st.Error != "", st.State
		})
		as(tenant, http.MethodDelete, "/v1/sources/"+made.ID, "", nil)
		return st.Error
	}
	for _, dsn := range []string{"postgres://u:p@" + inner.Addr().String() + "/m", "mysql://u:p@" + inner.Addr().String() + "/m"} {
		if why := failing("guest", dsn); !strings.Contains(why, "is refused: it is a loopback address") {
			t.Errorf("%s: %s", dsn, why)
		}
	}
	for _, dsn := range []string{"postgres://u:p@/m?host=/var/run/postgresql", "mysql://u:p@h/m?socket=/run/mysqld/mysqld.sock"} {
		if why := failing("guest", dsn); !strings.Contains(why, "is refused") {
			t.Errorf("%s: %s", dsn, why)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d connections to an inner address for a guest", n)
	}
	failing("default", "postgres://u:p@"+inner.Addr().String()+"/m")
	if calls.Load() == 0 {
		t.Error("the operator's own source did not reach the database beside the server")
	}
}
