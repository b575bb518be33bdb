package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/config"
)

// Scripts of the operator's run once an event or once a recipient, through the
// whole program; their failures are attempts as others are.
// feature: CPS-17
func TestScripts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keep := program("keep", `d=$(/bin/mktemp `+dir+`/run.XXXXXX) && /bin/cat > "$d.tmp" && /bin/mv "$d.tmp" "$d.json"`)
	h := newHouse(t, func(_ *testing.T, cfg *config.Config) {
		cfg.Channels["keep"] = map[string]string{"kind": "script", "command": keep}
		cfg.Channels["broken"] = map[string]string{"kind": "script", "command": program("broken", "echo bad input >&2; exit 65")}
		cfg.Channels["flood"] = map[string]string{"kind": "script", "command": "/usr/bin/yes", "max_output": "1000"}
	})
	for _, id := range []string{"ada", "ben", "cy"} {
		h.call(http.MethodPut, "/v1/users/"+id, m{"name": strings.ToUpper(id[:1]) + id[1:], "email": id + "@example.org", "attributes": m{"room": 7}}, nil)
	}
	h.call(http.MethodPut, "/v1/users/cy/preferences", []m{{"level": "none"}}, nil)
	var made struct {
		ID, Readable string
		Warnings     []string
	}
	everybody := []m{{"explicit": m{"users": []string{"ada", "ben", "cy"}, "emails": []string{"x@example.org"}}}}
	h.call(http.MethodPost, "/v1/subscriptions", m{"title": "Doors", "types": []string{"door.opened"}, "recipients": everybody,
		"notify": []m{{"script": "keep"}, {"script": "keep", "per": "recipient"}, {"script": "broken"}, {"script": "flood"}}}, &made)
	if !strings.Contains(made.Readable, "run script keep; run script keep for each of Ada, Ben") {
		t.Errorf("%+v", made)
	}
	var r struct{ IDs []string }
	h.call(http.MethodPost, "/v1/events", m{"source": "/house", "type": "door.opened", "actor": "dan", "flags": []string{"anonymous"}, "data": m{"door": "$(reboot)"}}, &r)
	h.quiet()

	files, err := filepath.Glob(dir + "/run.*.json")
	if err != nil {
		t.Fatal(err)
	}
	var runs []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var in struct {
			ID, Tenant string
			Event      struct {
				Type, Actor string
				Data        map[string]string
			}
			Subscription struct{ ID, Title string }
			Recipient    *struct {
				ID, Name, Email string
				Attributes      map[string]int
			}
		}
		if err := json.Unmarshal(raw, &in); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if in.Tenant != "default" || in.Event.Type != "door.opened" || in.Event.Actor != "" || in.Event.Data["door"] != "$(reboot)" || in.Subscription.ID != made.ID || in.Subscription.Title != "Doors" || !strings.HasPrefix(in.ID, "dlv_") {
			t.Errorf("input %s", raw)
		}
		who := "the event"
		if in.Recipient != nil {
			who = fmt.Sprint(in.Recipient.ID, in.Recipient.Name, in.Recipient.Email, in.Recipient.Attributes["room"])
		}
		runs = append(runs, who)
	}
	slices.Sort(runs)
	if want := []string{"adaAdaada@example.org7", "benBenben@example.org7", "the event", "x@example.org0"}; !slices.Equal(runs, want) {
		t.Errorf("runs for %q, want %q", runs, want)
	}

	got := fates(h.trace(r.IDs[0], ""))
	if !strings.Contains(got["cy"], "level_none") || got["ada"] != "told" {
		t.Errorf("%v", got)
	}
	for script, want := range map[string]string{"broken": "it ended with 65: bad input", "flood": "it wrote more than 1000 bytes"} {
		var page struct {
			Items []struct{ ID, State string }
		}
		h.call(http.MethodGet, "/v1/deliveries?channel="+script, nil, &page)
		if len(page.Items) != 1 || page.Items[0].State != "failed" {
			t.Errorf("%s: %+v", script, page)
			continue
		}
		var d struct {
			Attempts []struct{ Outcome, Detail string }
		}
		h.call(http.MethodGet, "/v1/deliveries/"+page.Items[0].ID, nil, &d)
		if len(d.Attempts) != 1 || d.Attempts[0].Outcome != "refused" || !strings.HasPrefix(d.Attempts[0].Detail, want) {
			t.Errorf("%s: %+v", script, d)
		}
	}

	for body, want := range map[string]string{
		`{"notify":[{"script":"nothing"}]}`:                   "there is no script",
		`{"notify":[{"script":"email"}]}`:                     "there is no script",
		`{"notify":[{"script":"keep","per":"day"}]}`:          "/notify/0/per",
		`{"notify":[{"script":"keep","channels":["inbox"]}]}`: "make two entries",
		`{"notify":[{"channels":["keep"]}]}`:                  "no channel",
		`{"notify":[{"per":"event"}]}`:                        "goes with script",
	} {
		if err := h.api.Call(t.Context(), http.MethodPost, "/v1/subscriptions", json.RawMessage(body), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
	if err := h.api.Call(t.Context(), http.MethodPut, "/v1/channels/mine", m{"kind": "script", "settings": m{"command": "/bin/true"}}, nil); err == nil || !strings.Contains(err.Error(), "/kind") {
		t.Errorf("a tenant sets up a script: %v", err)
	}
	var out struct{ Outcome string }
	h.call(http.MethodPost, "/v1/channels/keep/test", m{}, &out)
	if out.Outcome != "delivered" {
		t.Errorf("the test ended %q", out.Outcome)
	}
}
