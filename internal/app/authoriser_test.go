package app

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/config"
)

// example runs examples/authoriser with a secret, and gives its address.
func example(t *testing.T, secret, rules string) string {
	t.Helper()
	if _, err := os.ReadFile("../../examples/authoriser/main.go"); err != nil { // go test keeps no result of another one
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "authoriser")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../examples/authoriser").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-listen", "127.0.0.1:0", "-rules", rules)
	cmd.Env = append(os.Environ(), "AUTHORISER_SECRET="+secret)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
}

// feature: NEW-4, S3-11 the whole way between the real program and the example
// receiver of the documentation: nobody is told before the platform says so
func TestAuthoriserExample(t *testing.T) {
	cfg := config.Default()
	cfg.Listen, cfg.DataDir, cfg.BootstrapKey, cfg.OutboundAllow = "127.0.0.1:0", t.TempDir(), "root-key-of-the-authoriser-test-01", []string{"127.0.0.0/8"}
	a, err := New(t.Context(), Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	call := func(method, path, body string, out any) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, a.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+string(cfg.BootstrapKey))
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode > 299 {
			t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, text, err)
		}
		if out != nil {
			if err := json.Unmarshal(text, out); err != nil {
				t.Fatal(err)
			}
		}
	}
	rules := filepath.Join(t.TempDir(), "rules.json")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(`{"course/41":["user/8"]}`)
	var ep struct{ ID, Secret string }
	call("POST", "/v1/endpoints", `{"url":"http://127.0.0.1:1/"}`, &ep)
	url := example(t, ep.Secret, rules)
	call("PUT", "/v1/endpoints/"+ep.ID, `{"url":"`+url+`"}`, nil)
	call("PUT", "/v1/settings", `{"authoriser":{"endpoint":"`+ep.ID+`","ttl":"1s"}}`, nil)
	call("POST", "/v1/users:batch", `[{"id":"user/8"},{"id":"user/9"}]`, nil)
	call("POST", "/v1/subscriptions", `{"types":["a.b"],"recipients":[{"explicit":{"users":["user/8","user/9"]}}],"notify":[{"channels":["inbox"]}]}`, nil)
	unread := func(user string) int {
		t.Helper()
		var box struct{ Unread int }
		call("GET", "/v1/users/"+strings.ReplaceAll(user, "/", "%2F")+"/inbox", "", &box)
		return box.Unread
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("not within 20 seconds: %s", what)
			}
		}
	}
	type traced struct {
		People []struct {
			Principal, Outcome string
			Because            []struct{ Code, Detail string }
		}
	}
	trace := func(event string) map[string]string {
		t.Helper()
		var answer traced
		call("GET", "/v1/events/"+event+"/trace", "", &answer)
		out := map[string]string{}
		for _, p := range answer.People {
			last := p.Because[len(p.Because)-1]
			out[p.Principal] = p.Outcome + " " + last.Code + " " + last.Detail
		}
		return out
	}
	publish := func(object string) string {
		t.Helper()
		var receipt struct{ IDs []string }
		call("POST", "/v1/events", `{"source":"/x","type":"a.b","object":"`+object+`"}`, &receipt)
		return receipt.IDs[0]
	}
	first := publish("course/41")
	until("the one is told, the other not", func() bool {
		return unread("user/8") == 1 && strings.HasPrefix(trace(first)["user/9"], "not_told not_authorised")
	})
	if got := trace(first)["user/9"]; got != "not_told not_authorised not listed for course/41" {
		t.Errorf("%q", got)
	}
	if unread("user/9") != 0 {
		t.Error("told although the platform said no")
	}
	// No answer: not told now, and asked again.
	second := publish("course/42")
	until("both wait", func() bool {
		return trace(second)["user/8"] == "not_told awaits_authoriser " && trace(second)["user/9"] == "not_told awaits_authoriser "
	})
	put(`{"course/41":["user/8"],"course/42":["user/9"]}`)
	until("the other one is told", func() bool { return unread("user/9") == 1 })
	if unread("user/8") != 1 {
		t.Error("told although the platform said no")
	}
	// Taken away: nobody is asked any more, and nobody waits.
	call("PUT", "/v1/settings", `{}`, nil)
	publish("course/43")
	until("both are told", func() bool { return unread("user/8") == 2 && unread("user/9") == 2 })
}
