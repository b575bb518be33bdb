package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What cannot be meant is refused when it is saved, at the place where it is
// wrong and with what to do; what shows only when something happens is recorded
// with its reason. Nothing of it ends the program or is told to anybody.
//
// feature: PEER-6, CPS-15, CPS-16, NEW-10
func TestBadInput(t *testing.T) {
	e := newEdges(t)
	e.call(http.MethodPut, "/v1/users/somebody", m{"name": "Somebody"}, nil)
	long := strings.Repeat("x", 9000)
	for _, c := range []struct {
		name, method, path string
		body               any
		want               []string // in the error
	}{
		{"CEL that does not parse", "POST", "/v1/subscriptions", m{"filter": "event.data.x =="}, []string{"/filter", "line 1, column"}},
		{"CEL with an unknown name", "POST", "/v1/subscriptions", m{"filter": "evnt.type == 'a'"}, []string{"/filter", "evnt"}},
		{"a field that events have not", "POST", "/v1/subscriptions", m{"filter": "event.typ == 'a'"}, []string{"/filter", "did you mean type"}},
		{"a filter that is no truth", "POST", "/v1/subscriptions", m{"filter": "1 + 1"}, []string{"/filter", "int"}},
		{"types that do not fit", "POST", "/v1/subscriptions", m{"filter": "event.type > 5"}, []string{"/filter", "string, int"}},
		{"an expression that is too long", "POST", "/v1/subscriptions", m{"filter": "event.type == '" + long + "'"}, []string{"/filter", "8192"}},
		{"a computed rule that gives numbers", "POST", "/v1/subscriptions", m{"recipients": []m{{"computed": m{"expression": "[1, 2]"}}}}, []string{"/recipients/0/computed/expression", "list(int)"}},
		{"a message that is a number", "POST", "/v1/subscriptions", m{"notify": []m{{"message": "1"}}}, []string{"/notify/0/message", "int"}},
		{"a group_by that is a list", "POST", "/v1/subscriptions", m{"condition": m{"count": 2, "within": "1m", "group_by": "event.related"}}, []string{"/condition/group_by", "list"}},
		{"a throttle by an unknown name", "POST", "/v1/subscriptions", m{"throttle": m{"limit": 1, "window": "1h", "key": "evnt.type"}}, []string{"/throttle/key", "evnt"}},
		{"an unknown origin of a role", "POST", "/v1/subscriptions", m{"recipients": []m{{"role": m{"roles": []string{"a"}, "origins": []string{"merge"}}}}}, []string{"/recipients/0/role/origins/0", `did you mean \"merged\"`}},
		{"a role without a name", "POST", "/v1/subscriptions", m{"recipients": []m{{"role": m{"roles": []string{""}}}}}, []string{"/recipients/0/role/roles/0"}},
		{"a pattern of types that is none", "POST", "/v1/subscriptions", m{"types": []string{"a.*_b"}}, []string{"/types/0"}},
		{"an unknown object", "POST", "/v1/subscriptions", m{"scope": m{"object": "nowhere"}}, []string{"/scope/object", "nowhere"}},
		{"an unknown channel", "POST", "/v1/subscriptions", m{"notify": []m{{"channels": []string{"pigeon"}}}}, []string{"/notify/0/channels/0", "pigeon"}},
		{"an unknown template", "POST", "/v1/subscriptions", m{"notify": []m{{"template": "none"}}}, []string{"/notify/0/template", "none"}},
		{"an unknown script", "POST", "/v1/subscriptions", m{"notify": []m{{"script": "rm"}}}, []string{"/notify/0/script", "rm"}},
		{"an unknown frequency", "POST", "/v1/subscriptions", m{"frequency": "dayly"}, []string{"/frequency/every"}},
		{"an unknown time zone", "PUT", "/v1/users/x", m{"name": "X", "time_zone": "Mars/Olympus"}, []string{"/time_zone", "IANA"}},
		{"an unknown locale", "PUT", "/v1/users/x", m{"name": "X", "locale": "not a locale"}, []string{"/locale"}},
		{"a preference for an unknown channel", "PUT", "/v1/users/somebody/preferences", []m{{"channels": []string{"pigeon"}}}, []string{"pigeon"}},
		{"a group in itself", "PUT", "/v1/groups/g", m{"members": []string{"g"}}, []string{"/members"}},
		{"an object under itself", "PUT", "/v1/objects/o", m{"type": "t", "parent": "o"}, []string{"/parent"}},
		{"a template with an unknown variable", "PUT", "/v1/templates/t", m{"subject": "{{evnt.type}}", "body": "b"}, []string{"/subject", "evnt"}},
		{"a template that is not closed", "PUT", "/v1/templates/t", m{"subject": "s", "body": "{{#event}}"}, []string{"/body"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := e.api.Call(context.Background(), c.method, c.path, c.body, nil)
			if err == nil {
				t.Fatal("it was saved")
			}
			for _, want := range append(c.want, "(422)") {
				if !strings.Contains(err.Error(), strings.ReplaceAll(want, `\"`, `"`)) {
					t.Errorf("%v, want %q in it", err, want)
				}
			}
		})
	}

	e.row(t, "an unknown role names nobody, and whoever asks learns so", func(c *edge) {
		c.sub(nil, m{"recipients": []m{{"role": m{"roles": []string{"nobody-has-it"}}}}})
		if a := c.trace(c.happens("set", nil), ""); len(a.People) != 0 || len(a.Subscriptions) != 1 || !a.Subscriptions[0].Matched {
			c.t.Errorf("%+v", a)
		}
		if got := c.fate(c.happens("set", nil)); got != belfry.NobodyNamed {
			c.t.Error(got)
		}
	})
	e.row(t, "a role that nobody has is saved with a warning that names the nearest", func(c *edge) {
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/grants", []m{{"principal": c.who, "role": "curator"}}, nil)
		var made struct {
			ID       string
			Warnings []string
		}
		rules := m{"recipients": []m{{"role": m{"roles": []string{"currator"}}}}}
		c.call(http.MethodPost, "/v1/subscriptions", rules, &made)
		if len(made.Warnings) != 1 || !strings.Contains(made.Warnings[0], "currator: did you mean curator?") {
			c.t.Error(made.Warnings)
		}
		made.Warnings = nil
		c.call(http.MethodPut, "/v1/subscriptions/"+made.ID, rules, &made)
		if len(made.Warnings) != 1 {
			c.t.Error(made.Warnings)
		}
	})
	e.row(t, "an unknown type is saved with a warning", func(c *edge) {
		var made struct{ Warnings []string }
		c.call(http.MethodPost, "/v1/subscriptions", m{"types": []string{c.typ + "unseen"}, "recipients": []m{{"explicit": m{"users": []string{c.who}}}}}, &made)
		if len(made.Warnings) != 1 || !strings.Contains(made.Warnings[0], c.typ+"unseen") {
			c.t.Error(made.Warnings)
		}
	})
	e.row(t, "unknown people, groups and nonsense that a rule computes are recorded", func(c *edge) {
		c.sub(nil, m{"recipients": []m{{"computed": m{"expression": "event.data.to"}}}})
		a := c.trace(c.happens("set", m{"data": m{"to": []any{"nobody", c.who, "x\ny", 7}}}), "")
		got := fates(a)
		if got["nobody"] != "named_computed user_unknown" || got[""] == "" || got[c.who] != belfry.Told {
			c.t.Errorf("%v", got)
		}
		if got := fates(c.trace(c.happens("set", m{"data": m{"to": 7}}), "")); !strings.HasSuffix(got[""], "rule_fault") {
			c.t.Errorf("%v", got)
		}
		c.comes(1)
	})
	e.row(t, "a rule that works without end is stopped", func(c *edge) {
		c.sub(nil, m{"recipients": []m{{"computed": m{"expression": "event.data.l.map(a, event.data.l.map(b, event.data.l.map(c, a + b + c)))"}}}})
		began := time.Now()
		got := fates(c.trace(c.happens("set", m{"data": m{"l": strings.Fields(strings.Repeat("x ", 2000))}}), ""))
		if !strings.HasSuffix(got[""], "rule_fault") || time.Since(began) > 20*time.Second {
			c.t.Errorf("%v after %v", got, time.Since(began))
		}
	})
	e.row(t, "a rule that names more than there may be is cut, and what is left out is counted", func(c *edge) {
		var ids []string
		for n := range 21_000 {
			ids = append(ids, fmt.Sprint(n))
		}
		c.sub(nil, m{"recipients": []m{{"computed": m{"expression": "event.data.to"}}}, "notify": []m{{"channels": []string{"inbox"}}}})
		id := c.happens("set", m{"data": m{"to": ids}})
		a := c.trace(id, "")
		found := false
		for _, p := range a.People {
			for _, r := range p.Because {
				found = found || r.Code == belfry.RuleCut && strings.Contains(r.Text, "1000")
			}
		}
		if !found {
			c.t.Errorf("nothing says that it was cut: %d people", len(a.People))
		}
	})
	e.row(t, "what events bring is words, never markup; a variable they do not have is empty", func(c *edge) {
		const evil = `<script>alert(1)</script><img src=x onerror=alert(1)>](javascript:alert(1))`
		c.sub(nil, m{"notify": []m{{"channels": []string{"email"}, "subject": "{{event.data.title}}", "body": "{{event.data.title}} [{{event.data.none}}]"}}})
		c.happens("set", m{"data": m{"title": evil + "\r\nBcc: all@example.org"}})
		l := c.comes(1)
		if strings.Contains(l.html, "<script") || strings.Contains(l.html, "<img src=x") || strings.Contains(l.html, `href="javascript:`) || !strings.Contains(l.html, "&lt;script&gt;") || !strings.Contains(l.text, "[]") {
			c.t.Errorf("%s\n%s", l.html, l.text)
		}
		if l.head.Get("Bcc") != "" || len(l.envelope) != 1 {
			c.t.Errorf("%v %v", l.head.Map(), l.envelope)
		}
	})
	e.row(t, "a message that would be huge is cut", func(c *edge) {
		c.sub(nil, m{"notify": []m{{"channels": []string{"email"}, "subject": "{{event.data.s}}", "body": "{{#event.data.l}}{{#event.data.l}}{{event.data.s}}{{/event.data.l}}{{/event.data.l}}"}}})
		c.happens("set", m{"data": m{"s": strings.Repeat("long ", 10_000), "l": strings.Split(strings.Repeat("x", 2000), "")}})
		if l := c.comes(1); len(l.raw) > 2<<20 || len(l.subject) > 1000 {
			c.t.Errorf("%d bytes, a subject of %d", len(l.raw), len(l.subject))
		}
	})
	e.row(t, "events of the future and of last year are told once, and kept in order", func(c *edge) {
		c.sub(nil, nil)
		for n, at := range []string{"9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", time.Now().AddDate(-1, 0, 0).Format(time.RFC3339)} {
			if got := c.fate(c.happens("set", m{"time": at})); got != belfry.Told {
				c.t.Errorf("%s: %s", at, got)
			}
			c.comes(n + 1)
		}
	})
	e.row(t, "for a condition, last year's does not count and the future's counts as of now, and the trace says so", func(c *edge) {
		c.sub(nil, m{"condition": m{"count": 2, "within": "10m"}})
		code := func(id string) (codes string) {
			for _, s := range c.trace(id, "").Subscriptions {
				for _, r := range s.Because {
					codes += r.Code + " "
				}
			}
			return codes
		}
		if got := code(c.happens("set", m{"time": time.Now().AddDate(-1, 0, 0).Format(time.RFC3339)})); !strings.Contains(got, belfry.ConditionLate) {
			c.t.Error(got)
		}
		if got := code(c.happens("set", m{"time": time.Now().AddDate(1, 0, 0).Format(time.RFC3339)})); !strings.Contains(got, belfry.ConditionFuture) {
			c.t.Error(got)
		}
		c.none(0)
		c.happens("set", nil)
		c.comes(1)
	})
}
