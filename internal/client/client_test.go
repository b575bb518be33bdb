package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/client"
)

func TestCalls(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			raw, _ := io.ReadAll(r.Body)
			_ = json.NewEncoder(w).Encode(map[string]string{"body": string(raw), "key": r.Header.Get("Authorization"), "tenant": r.Header.Get("Belfry-Tenant"), "type": r.Header.Get("Content-Type")})
		case "/problem":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"title":"Invalid","detail":"the event is wrong","errors":[{"pointer":"/type","message":"is missing"}]}`)
		case "/away":
			http.Redirect(w, r, "http://example.org/", http.StatusFound)
		case "/text":
			_, _ = io.WriteString(w, "hello")
		default:
			http.Error(w, "nginx", http.StatusBadGateway)
		}
	}))
	defer srv.Close()
	c, err := client.New(strings.TrimPrefix(srv.URL, "http://")+"/", "k", "t")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var echo map[string]string
	if err := c.Call(ctx, http.MethodPost, "/echo", json.RawMessage(`{"a":1}`), &echo); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(echo) != `map[body:{"a":1} key:Bearer k tenant:t type:application/json]` {
		t.Error(echo)
	}
	var p *client.Problem
	if err = c.Call(ctx, http.MethodGet, "/problem", nil, nil); !errors.As(err, &p) || err.Error() != "the event is wrong (422)\n  /type: is missing" {
		t.Error(err)
	}
	for path, want := range map[string]string{"/away": "302", "/other": "no answer of a Belfry server", "/text": "is it a Belfry server?"} {
		var out map[string]string
		if err = c.Call(ctx, http.MethodGet, path, nil, &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	srv.Close()
	if err = c.Call(ctx, http.MethodGet, "/echo", nil, nil); err == nil || !strings.Contains(err.Error(), "start one with belfry serve") {
		t.Error(err)
	}
	for _, bad := range []string{"", "ftp://x", "http://", "http://a b"} {
		if _, err := client.New(bad, "", ""); err == nil {
			t.Errorf("%q is no address", bad)
		}
	}
}
