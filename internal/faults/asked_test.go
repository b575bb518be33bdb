//go:build linux

package faults_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// asked is a platform's side of an authoriser that misbehaves in every way, and
// keeps account of the yes it has said.
type asked struct {
	*httptest.Server
	elsewhere *httptest.Server // says yes to everything, and is nobody's authoriser

	mu      sync.Mutex
	mode    string
	asked   int                    // in this mode
	yes     map[question]time.Time // since when it may be known
	poured  int64                  // bytes that were taken of an answer without end
	endless int                    // such answers
}

type question struct{ Principal, Address, Object, Type string }

// allowed is what the platform says when it is well: four of five.
func (q question) allowed() bool {
	h := fnv.New32a()
	_, _ = io.WriteString(h, q.Principal+" "+q.Object)
	return h.Sum32()%5 != 0
}

// misbehaviours of an authoriser; each says yes where it counts for nothing.
var misbehaviours = []string{"hangs", "cut off", "half", "one more", "other types", "garbage after", "fails", "redirects", "without end", "leaves open"}

func newAsked(t *testing.T) *asked {
	a := &asked{yes: map[question]time.Time{}}
	a.elsewhere = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		qs := questionsOf(r)
		_, _ = io.WriteString(w, yeses(len(qs)))
	}))
	t.Cleanup(a.elsewhere.Close)
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func questionsOf(r *http.Request) []question {
	var body struct {
		Data struct{ Questions []question }
	}
	_ = json.NewDecoder(r.Body).Decode(&body) // cut off by a kill: none
	return body.Data.Questions
}

// yeses is a whole answer of so many.
func yeses(n int) string {
	return `{"answers":[` + strings.TrimSuffix(strings.Repeat(`{"allow":true},`, n), ",") + `]}`
}

func (a *asked) to(mode string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mode, a.asked = mode, 0
}

func (a *asked) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// since is when a yes was first said; false = never.
func (a *asked) since(q question) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.yes[q]
	return at, ok
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	qs := questionsOf(r)
	n := len(qs)
	if n == 0 {
		return
	}
	a.mu.Lock()
	a.asked++
	mode := a.mode
	a.mu.Unlock()
	switch mode {
	case "hangs":
		_, _ = io.WriteString(w, `{"answers":[`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "cut off":
		_, _ = io.WriteString(w, strings.TrimSuffix(yeses(n), "]}"))
	case "half":
		_, _ = io.WriteString(w, yeses(n/2))
	case "one more":
		_, _ = io.WriteString(w, yeses(n+1))
	case "other types":
		_, _ = io.WriteString(w, strings.ReplaceAll(yeses(n), "true", `"yes"`))
	case "garbage after":
		_, _ = io.WriteString(w, yeses(n)+`{"answers":`)
	case "fails":
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, yeses(n))
	case "redirects":
		http.Redirect(w, r, a.elsewhere.URL, http.StatusTemporaryRedirect)
	case "without end":
		blank := strings.Repeat(" ", 1<<20)
		var poured int64
		for poured < 1<<30 {
			k, err := io.WriteString(w, blank)
			if poured += int64(k); err != nil {
				break
			}
		}
		_, _ = io.WriteString(w, yeses(n))
		a.mu.Lock()
		a.poured, a.endless = a.poured+poured, a.endless+1
		a.mu.Unlock()
	default: // well, or every second question is left open; what more it says of whom is not asked for
		var out strings.Builder
		for i, q := range qs {
			if mode == "leaves open" && i%2 == 1 {
				out.WriteString(",null")
				continue
			}
			if q.allowed() {
				a.mu.Lock()
				if _, before := a.yes[q]; !before {
					a.yes[q] = time.Now()
				}
				a.mu.Unlock()
			}
			fmt.Fprintf(&out, `,{"allow":%v,"because":"not enrolled","principal":%q,"object":%q}`, q.allowed(), qs[n-1-i].Principal, qs[n-1-i].Object)
		}
		_, _ = io.WriteString(w, `{"answers":[`+out.String()[1:]+`]}`)
	}
}

// Whatever the authoriser does, and whenever the process that asked is killed,
// nobody is told without a yes; everybody is told, once, when it has answered.
// feature: NSY-10, NEW-10, NEW-12
func TestNobodyIsToldWithoutAYes(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 0)
		askRounds(t, newHome(t, mailed(office)...), office, 1, len(misbehaviours))
	})
	t.Run("two nodes", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 0)
		askRounds(t, newHome(t, append(append(onPostgres(testdb.Postgres(t)), mailed(office)...), "BELFRY_NODES_LEASE="+lease.String())...), office, 2, 4)
	})
}

func askRounds(t *testing.T, h *home, office *postOffice, nodes, short int) {
	f := newFleet(t, h, nodes)
	p, l, chance := f.ps[0], f.l, f.chance
	a := newAsked(t)
	people := []string{"ada", "ben", "cleo"}
	for _, id := range people {
		p.call(http.MethodPut, "/v1/users/"+id, map[string]string{"name": id, "email": id + "@example.org"}, nil)
	}
	p.call(http.MethodPut, "/v1/templates/words", map[string]string{"subject": "It", "body": tokenTemplate}, nil)
	p.call(http.MethodPost, "/v1/subscriptions", map[string]any{
		"types": []string{"secret"}, "recipients": []any{map[string]any{"explicit": map[string]any{"users": people}}},
		"notify": []any{map[string]any{"channels": []string{"inbox", "email"}, "template": "words"}},
	}, nil)
	var ep struct{ ID string }
	p.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": a.URL, "timeout": "1s"}, &ep)
	p.call(http.MethodPut, "/v1/settings", map[string]any{"authoriser": map[string]string{"endpoint": ep.ID}}, nil)

	s := &stream{typ: "secret", object: func(n int) string { return "o/" + itoa(n) }, pace: 30 * time.Millisecond}
	order := chance.Perm(len(misbehaviours))
	a.to(misbehaviours[order[0]])
	end := f.send(s)

	var wrong faultList
	of := func(who, object string) question { return question{Principal: who, Object: object, Type: "secret"} }
	// shown holds when inboxes show only what may be shown.
	shown := func(p *process, when string) map[string]map[string]int {
		rows := map[string]map[string]int{}
		for _, who := range people {
			rows[who] = map[string]int{}
			for _, row := range list[struct{ Event, Object string }](p, "/v1/users/"+who+"/inbox") {
				rows[who][row.Event]++
				if _, yes := a.since(of(who, row.Object)); !yes {
					wrong.add("%s: the inbox of %s shows %s at %s, and nobody has said yes", when, who, row.Event, row.Object)
				}
			}
		}
		return rows
	}
	peak := 0
	done := map[string]int{}
	for round := range rounds(t, short) {
		mode := misbehaviours[order[round%len(order)]]
		a.to(mode)
		await(t, patience, "asked while it "+mode, func() (bool, string) {
			f.ps[0].alive()
			return a.times() >= 1+round%2, fmt.Sprint(a.times())
		})
		done[mode] += a.times()
		<-time.After(time.Duration(chance.Int64N(int64(100 * time.Millisecond))))
		peak = max(peak, f.ps[0].peak())
		shown(f.ps[0], mode)
		f.die(nil, nil)
		if round%3 == 2 { // it is well for a moment, and what it was asked may be known
			a.to("")
			<-time.After(time.Duration(chance.Int64N(int64(200 * time.Millisecond))))
		}
	}
	a.to("")
	end()
	p = f.ps[0]
	p.idle()
	deaths := f.deaths
	rows := shown(p, "at the end")
	events := s.all()
	yes, no, repeats := 0, 0, 0
	for _, who := range people {
		var owed []string
		for _, e := range events {
			q := of(who, e.object)
			want := 0
			if q.allowed() {
				want, yes = 1, yes+1
				owed = append(owed, e.id)
			} else if no++; no%10 == 0 { // it is known why not
				p.toldWhyNot(&wrong, e.evt, who)
			}
			if rows[who][e.evt] != want {
				wrong.add("%s has %d inbox rows of event %s, want %d", who, rows[who][e.evt], e.id, want)
			}
		}
		at := who + "@example.org"
		_, again := office.once(&wrong, at, owed, deaths)
		repeats += again
		for _, letter := range office.to(at) {
			for _, id := range letter.events() {
				n, err := strconv.Atoi(strings.TrimPrefix(id, "ax"))
				if err != nil {
					t.Fatalf("event %s", id)
				}
				if since, said := a.since(of(who, "o/"+itoa(n))); !said || letter.at.Before(since) {
					wrong.add("%s was told of %s at %v, and the first yes was at %v (%v)", who, id, letter.at, since, said)
				}
			}
		}
	}
	wrong.tell(t)
	if most := 400 << 10; peak > most {
		t.Errorf("the program has taken %d MB of memory at a time, want %d at most", peak>>10, most>>10)
	}
	if a.endless > 0 && a.poured > int64(a.endless)*(64<<20) {
		t.Errorf("%d MB were taken of %d answers without end", a.poured>>20, a.endless)
	}
	t.Logf("%d deaths; %d events, %d yes and %d no; asked while it %v; %d mails again; %d answers without end gave %d KB, at most %d MB of memory; %s",
		len(deaths), len(events), yes, no, done, repeats, a.endless, a.poured>>10, peak>>10, l.summary())
}

// toldWhyNot holds when the trace of an event says that the platform has said no
// about a person, and in what words.
func (p *process) toldWhyNot(wrong *faultList, evt, who string) {
	p.t.Helper()
	var trace struct {
		People []struct {
			Principal, Outcome string
			Because            []struct{ Code, Detail string }
		}
	}
	p.call(http.MethodGet, "/v1/events/"+evt+"/trace", nil, &trace)
	channels := 0
	for _, one := range trace.People {
		if one.Principal != who {
			continue
		}
		channels++
		if last := one.Because[len(one.Because)-1]; one.Outcome != "not_told" || last.Code != "not_authorised" || last.Detail != "not enrolled" {
			wrong.add("the trace of %s says of %s: %+v", evt, who, one)
		}
	}
	if channels != 2 {
		wrong.add("the trace of %s has %d lines about %s, want one of each of two channels", evt, channels, who)
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak is the most memory the process has had, in KiB.
func (p *process) peak() int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	m := highWater.FindSubmatch(text)
	if err != nil || m == nil {
		p.t.Fatalf("memory of the process: %v\n%s", err, text)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}
