//go:build linux

package faults_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bigEvent is an event of about n bytes.
func bigEvent(n int) string {
	return `{"id":"big","source":"/h","type":"h.big","data":{"text":"` + strings.Repeat("x", n) + `"}}`
}

// Whatever comes in is answered with the right status and words, and nobody
// else notices.
// feature: NEW-10
func TestHostileInput(t *testing.T) {
	t.Parallel()
	p := newHome(t).start()
	a := furnish(t, p)
	l := newLoad(t, p)
	l.begin(1, 1, 10)
	p.call(http.MethodPut, "/v1/objects/a", map[string]string{"type": "x"}, nil)
	p.call(http.MethodPut, "/v1/objects/b", map[string]string{"type": "x", "parent": "a"}, nil)
	p.call(http.MethodPut, "/v1/groups/g", map[string]any{"members": []string{"ada"}}, nil)
	p.call(http.MethodPut, "/v1/groups/h", map[string]any{"members": []string{"g"}}, nil)

	const (
		post   = http.MethodPost
		put    = http.MethodPut
		js     = "application/json"
		events = "/v1/events"
		subs   = "/v1/subscriptions"
	)
	told := `"notify":[{"channels":["inbox"]}]`
	sound := `{"id":"%s","source":"/h","type":"h.x"}`
	var many strings.Builder
	for i := range 10_001 {
		fmt.Fprintf(&many, ","+sound, fmt.Sprint(i))
	}
	for name, c := range map[string]struct {
		method, path, contentType, body string
		status                          int    // 0 = it may be taken or refused, and must not hurt
		says                            string // in the detail or the faults
	}{
		"malformed":               {post, events, js, `{"id":"1","source":`, 400, "malformed"},
		"no body":                 {post, events, js, ``, 400, ""},
		"not JSON":                {post, events, js, "\x7fELF\x02\x01\x01", 400, ""},
		"two values":              {post, events, js, `{"source":"/h","type":"h.x"} {}`, 400, ""},
		"number":                  {post, events, js, `17`, 400, "an object"},
		"empty list":              {post, events, js, `[]`, 202, `"accepted":0`},
		"unknown field":           {post, events, js, `{"source":"/h","type":"h.x","objct":"a"}`, 422, "object"},
		"wrong types":             {post, events, js, `{"id":5,"source":[],"type":{},"time":"yesterday","related":"ada"}`, 422, "/time"},
		"no type":                 {post, events, js, `{"source":"/h"}`, 422, "/type"},
		"one bad of three":        {post, events, js, `[` + sound + `,{"source":"/h"},` + sound + `]`, 422, "/1/type"},
		"invalid UTF-8":           {post, events, js, "{\"source\":\"/h\",\"type\":\"h.\xff\xfe\"}", 400, "UTF-8"},
		"half a surrogate":        {post, events, js, `{"id":"\ud800","source":"/h","type":"h.x"}`, 0, ""},
		"NUL in an id":            {post, events, js, `{"id":"a\u0000b","source":"/h","type":"h.x"}`, 422, "/id"},
		"NUL in an object":        {post, events, js, `{"source":"/h","type":"h.x","object":"a\u0000"}`, 422, "/object"},
		"raw NUL":                 {post, events, js, "{\"id\":\"a\x00\"}", 400, ""},
		"long id":                 {post, events, js, `{"id":"` + strings.Repeat("i", 5000) + `","source":"/h","type":"h.x"}`, 422, "/id"},
		"deep":                    {post, events, js, `{"source":"/h","type":"h.x","data":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, 0, ""},
		"a large event":           {post, events, js, bigEvent(300 << 10), 413, "262144"},
		"10 MB event":             {post, events, js, bigEvent(10 << 20), 413, ""},
		"10 MB of nothing":        {post, events, js, strings.Repeat(" ", 10<<20), 400, ""},
		"10 MB of brackets":       {post, events, js, strings.Repeat("[", 10<<20), 422, "nested too deeply"},
		"20 MB":                   {post, events, js, `[` + strings.Repeat(" ", 20<<20) + `]`, 413, "16 MiB"},
		"too many":                {post, events, js, `[` + many.String()[1:] + `]`, 413, "10000"},
		"form":                    {post, events, "application/x-www-form-urlencoded", "a=b", 0, "application/json"},
		"CloudEvent without id":   {post, events, "application/cloudevents+json", `{"specversion":"1.0","source":"/h","type":"h.x"}`, 400, "id"},
		"CloudEvent of tomorrow":  {post, events, "application/cloudevents+json", `{"specversion":"9.0","id":"1","source":"/h","type":"h.x"}`, 400, "specversion"},
		"bad query":               {post, events + "?partial=perhaps", js, fmt.Sprintf(sound, "1"), 422, "partial"},
		"bad CEL":                 {post, subs, js, `{"filter":"event.data.x ==",` + told + `}`, 422, "/filter"},
		"CEL of an unknown name":  {post, subs, js, `{"filter":"evnt.type == 'x'",` + told + `}`, 422, "/filter"},
		"CEL that is no question": {post, subs, js, `{"filter":"1 + 1",` + told + `}`, 422, "/filter"},
		"CEL without an end":      {post, subs, js, `{"filter":"` + strings.Repeat("(", 50_000) + `",` + told + `}`, 422, "/filter"},
		"CEL bomb":                {post, subs, js, `{"filter":"` + strings.Repeat("[1,2,3,4,5,6,7,8,9].all(x, ", 30) + "true" + strings.Repeat(")", 30) + `",` + told + `}`, 0, ""},
		"unknown group":           {post, subs, js, `{"recipients":[{"explicit":{"groups":["nobody-knows"]}}],` + told + `}`, 201, "group nobody-knows is not known yet"}, // a source may bring it,
		"unknown object":          {post, subs, js, `{"scope":{"object":"nowhere"},` + told + `}`, 422, "/scope/object"},
		"unknown endpoint":        {post, subs, js, `{"notify":[{"endpoint":"ep_none"}]}`, 422, "ep_none"},
		"unknown template":        {post, subs, js, `{"notify":[{"channels":["inbox"],"template":"none"}]}`, 422, "none"},
		"object in itself":        {put, "/v1/objects/a", js, `{"type":"x","parent":"a"}`, 422, "/parent"},
		"cyclic objects":          {put, "/v1/objects/a", js, `{"type":"x","parent":"b"}`, 422, "/parent"},
		"cyclic batch of objects": {post, "/v1/objects:batch", js, `[{"id":"p","type":"x","parent":"q"},{"id":"q","type":"x","parent":"p"}]`, 422, "parent"},
		"cyclic groups":           {put, "/v1/groups/g", js, `{"members":["h"]}`, 422, "/members"},
		"group in itself":         {put, "/v1/groups/g", js, `{"members":["g"]}`, 422, "/members"},
		"user without sense":      {put, "/v1/users/u", js, `{"email":"not an address","time_zone":"Mars/Olympus","locale":"???","state":"asleep"}`, 422, "/email"},
		"endpoint without sense":  {post, "/v1/endpoints", js, `{"url":"gopher://x","timeout":"long","schedule":["-1s"]}`, 422, "/url"},
		"template without end":    {put, "/v1/templates/t", js, `{"subject":"{{#a}}","body":"{{"}`, 422, ""},
		"schema without sense":    {put, "/v1/event-types/h.s", js, `{"schema":{"type":"objekt"}}`, 422, "/schema"},
		"schema out of the house": {put, "/v1/event-types/h.s", js, `{"schema":{"$ref":"file:///etc/passwd"}}`, 422, "stand on its own"},
		"10 MB user":              {put, "/v1/users/u", js, `{"name":"` + strings.Repeat("n", 10<<20) + `"}`, 413, "1 MiB"},
		"no such call":            {http.MethodGet, "/v1/nothing", "", ``, 404, ""},
		"no such method":          {http.MethodDelete, events, "", ``, 405, ""},
		"NUL in a path":           {http.MethodGet, "/v1/users/a%00b", "", ``, 0, ""},
		"no UTF-8 in a path":      {http.MethodGet, "/v1/users/%ff%fe", "", ``, 0, ""},
		"no such cursor":          {http.MethodGet, "/v1/events?after=%00%ff&limit=5", "", ``, 0, ""},
		"limits":                  {http.MethodGet, "/v1/events?limit=999999999999999999999", "", ``, 422, "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := do(client, c.method, p.url+c.path, c.contentType, strings.NewReader(c.body))
			if err != nil {
				// Who is sent a refusal while still writing may see a reset.
				if c.status == 413 {
					return
				}
				t.Fatal(err)
			}
			if c.status != 0 && got.status != c.status || got.status >= 500 {
				t.Fatalf("%d %s, want %d", got.status, got.body[:min(len(got.body), 500)], c.status)
			}
			words := string(got.body)
			if got.status >= 300 {
				pr := got.problem(t)
				words = pr.Detail + fmt.Sprint(pr.Errors)
			}
			if !strings.Contains(words, c.says) {
				t.Errorf("%d without %q: %s", got.status, c.says, words[:min(len(words), 500)])
			}
		})
	}
	p.alive()
	l.end()
	p.idle()
	settleOwn(l, p, a)
}

// settleOwn is settle for a program that others sent events to as well.
func settleOwn(l *load, p *process, a *audience) {
	l.t.Helper()
	mine := list[stored](p, "/v1/events")
	others := slices.DeleteFunc(slices.Clone(mine), func(e stored) bool { return e.Source == "/load" })
	l.t.Logf("%d events of the load, %d others were taken", len(mine)-len(others), len(others))
	for _, r := range append(slices.Clone(a.all), a.some) {
		got := r.received()
		for _, e := range l.events {
			if want := r != a.some || e.Type == "load.b"; e.evt != "" && (got[e.ID] == 1) != want {
				l.t.Errorf("%s got event %s %d times", r.name, e.ID, got[e.ID])
			}
		}
	}
	l.noRepeats(a)
	if l.cut > 0 || l.statuses[503]+l.statuses[429] > 0 {
		l.t.Errorf("others noticed: %s", l.summary())
	}
	l.t.Logf("%s", l.summary())
}

// Protocol faults: whoever does not speak HTTP, or speaks it slowly, is cut off
// in time, and hundreds of them keep nobody out.
func TestHostileConnections(t *testing.T) {
	t.Parallel()
	p := newHome(t).start()
	a := furnish(t, p)
	addr := strings.TrimPrefix(p.url, "http://")
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	// Idle ones, slow headers, slow bodies: they stay for all of the test.
	auth := "Host: x\r\nAuthorization: Bearer " + rootKey + "\r\nContent-Type: application/json\r\n"
	var headers []net.Conn
	for range 300 {
		dial()
	}
	for range 100 {
		c := dial()
		_, _ = io.WriteString(c, "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		headers = append(headers, c)
	}
	for range 100 {
		_, _ = io.WriteString(dial(), "POST /v1/events HTTP/1.1\r\n"+auth+"Content-Length: 100000\r\n\r\n{\"source\":")
	}
	for range 100 {
		_, _ = io.WriteString(dial(), "POST /v1/events HTTP/1.1\r\n"+auth+"Transfer-Encoding: chunked\r\n\r\n5\r\n[{\"so\r\n")
	}
	begun := time.Now()

	l := newLoad(t, p)
	l.begin(2, 1, 10)
	for name, c := range map[string]struct {
		raw  string
		want []string // begin of the status line; "" = closed without a word
	}{
		"garbage":         {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n", []string{"HTTP/1.1 400", "HTTP/1.0 400", ""}},
		"HTTP/0.9":        {"GET /\r\n\r\n", []string{"HTTP/1.1 400"}},
		"HTTP/7":          {"GET / HTTP/7.0\r\nHost: x\r\n\r\n", []string{"HTTP/1.1 505", "HTTP/1.1 400"}},
		"no host":         {"GET /healthz HTTP/1.1\r\n\r\n", []string{"HTTP/1.1 400"}},
		"long header":     {"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", []string{"HTTP/1.1 431", ""}},
		"many headers":    {"GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 100_000) + "\r\n", []string{"HTTP/1.1 431", ""}},
		"negative length": {"POST /v1/events HTTP/1.1\r\n" + auth + "Content-Length: -5\r\n\r\n", []string{"HTTP/1.1 400"}},
		"two lengths":     {"POST /v1/events HTTP/1.1\r\n" + auth + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", []string{"HTTP/1.1 400"}},
		"bad chunks":      {"POST /v1/events HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", []string{"HTTP/1.1 400"}},
		"huge length":     {"POST /v1/events HTTP/1.1\r\n" + auth + "Content-Length: 99999999999\r\n\r\n{}", []string{"HTTP/1.1 413"}},
		"header attack":   {"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \x00\x01\r\n\r\n", []string{"HTTP/1.1 400", "HTTP/1.1 401"}},
		"many pipelined":  {strings.Repeat("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200), []string{"HTTP/1.1 200"}},
		"escaping path":   {"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", []string{"HTTP/1.1 404", "HTTP/1.1 30", "HTTP/1.1 401"}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			var writing sync.WaitGroup
			writing.Go(func() { _, _ = io.WriteString(conn, c.raw) }) // the other side may hang up in the middle
			line, _ := bufio.NewReader(conn).ReadString('\n')
			_ = conn.Close()
			writing.Wait()
			if !slices.ContainsFunc(c.want, func(w string) bool { return w == "" && line == "" || w != "" && strings.HasPrefix(line, w) }) {
				t.Errorf("answered %q, want one of %q", line, c.want)
			}
		})
	}
	l.grows(p, 100)
	l.end()
	l.settle(p, a)
	if l.cut > 0 || len(l.statuses) != 1 {
		t.Errorf("others noticed: %s", l.summary())
	}
	// Who does not end a header is cut off.
	for _, c := range headers {
		_ = c.SetReadDeadline(begun.Add(patience))
		if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a header that does not end was waited for over %v", time.Since(begun))
		}
	}
	t.Logf("headers that do not end are cut off after %v", time.Since(begun).Round(time.Second))
}
