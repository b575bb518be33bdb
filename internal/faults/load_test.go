//go:build linux

package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// receiver is a real HTTP server that keeps account of what it is sent.
type receiver struct {
	*httptest.Server
	name string
	// endpoint is its id, where somebody asks for it.
	endpoint string
	// answers says how to answer the n-th arrival (0 first) of a webhook-id,
	// and how long that takes.
	answers func(id string, n int) (status int, after time.Duration)

	mu   sync.Mutex
	hits map[string]*hit // by webhook-id
}

type hit struct {
	event    string // the producer's id
	arrivals []arrival
}

type arrival struct {
	at, answered time.Time
	status       int
}

func newReceiver(t *testing.T, name string, answers func(id string, n int) (int, time.Duration)) *receiver {
	r := &receiver{name: name, answers: answers, hits: map[string]*hit{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	at := time.Now()
	var body struct {
		Data struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(q.Body).Decode(&body); err != nil {
		return // cut off by a kill: not received
	}
	id := q.Header.Get("webhook-id")
	r.mu.Lock()
	h := r.hits[id]
	if h == nil {
		h = &hit{event: body.Data.ID}
		r.hits[id] = h
	}
	n := len(h.arrivals)
	h.arrivals = append(h.arrivals, arrival{at: at})
	r.mu.Unlock()
	status, takes := r.answers(id, n)
	if takes > 0 {
		<-time.After(takes)
	}
	r.mu.Lock()
	h.arrivals[n].status, h.arrivals[n].answered = status, time.Now()
	r.mu.Unlock()
	w.WriteHeader(status)
}

// prompt answers at once.
func prompt(string, int) (int, time.Duration) { return http.StatusOK, 0 }

// slow takes its time.
func slow(string, int) (int, time.Duration) { return http.StatusNoContent, 15 * time.Millisecond }

// flaky fails the first try of one in twenty.
func flaky(id string, n int) (int, time.Duration) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	if n == 0 && h.Sum32()%20 == 0 {
		return http.StatusInternalServerError, 0
	}
	return http.StatusOK, 0
}

// stubborn fails every try of some, for good, but never so many in a row that
// the breaker opens: tries that come together after a fault would.
func stubborn() func(id string, n int) (int, time.Duration) {
	var mu sync.Mutex
	good := 0                 // since the last failure
	tries := map[string]int{} // of those that fail
	open := 0                 // how many of them are to be tried again
	return func(id string, n int) (int, time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if tries[id] == 0 && (n > 0 || good < 20 || open == 2) {
			good++
			return http.StatusOK, 0
		}
		good = 0
		switch tries[id]++; tries[id] {
		case 1:
			open++
		case 2:
			open--
		}
		return http.StatusBadRequest, 0
	}
}

// received is, for each event, how many different webhook-ids were answered
// with success.
func (r *receiver) received() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := map[string]int{}
	for _, h := range r.hits {
		if slices.ContainsFunc(h.arrivals, func(a arrival) bool { return a.status/100 == 2 }) {
			got[h.event]++
		}
	}
	return got
}

// refused is, for each event that was never answered with success, its
// webhook-id.
func (r *receiver) refused() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := map[string]string{}
	for id, h := range r.hits {
		if !slices.ContainsFunc(h.arrivals, func(a arrival) bool { return a.status/100 == 2 }) {
			ids[h.event] = id
		}
	}
	return ids
}

// repeat is an arrival after one that was answered with success.
type repeat struct {
	event         string
	first, second arrival
}

func (r *receiver) repeats() (rs []repeat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hits {
		for i := 1; i < len(h.arrivals); i++ {
			if h.arrivals[i-1].status/100 == 2 {
				rs = append(rs, repeat{h.event, h.arrivals[i-1], h.arrivals[i]})
			}
		}
	}
	return rs
}

// sent is an event as its producer knows it.
type sent struct {
	ID     string            `json:"id"`
	Source string            `json:"source"`
	Type   string            `json:"type"`
	Object string            `json:"object"`
	Data   map[string]string `json:"data"`

	evt string // from the 202; empty = no answer yet
}

// load is producers and what they know.
type load struct {
	t   *testing.T
	url atomic.Value // []string: where the program is now

	mu         sync.Mutex
	seq        int
	events     map[string]*sent // by id
	unanswered []*sent
	statuses   map[int]int
	cut        int // requests without an answer
	slowest    time.Duration

	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newLoad(t *testing.T, p *process) *load {
	l := &load{t: t, events: map[string]*sent{}, statuses: map[int]int{}}
	l.to(p)
	return l
}

// to says where the program is from now on: any of the processes takes events.
func (l *load) to(ps ...*process) {
	urls := make([]string, len(ps))
	for i, p := range ps {
		urls[i] = p.url
	}
	l.url.Store(urls)
}

// begin starts producers: of single events and of batches, each posting at a
// steady pace as far as the program answers. The short form of these tests runs
// beside all others, two at a time and each with up to three processes: at a
// quarter of the pace of the long one there is still much under way when a fault
// comes, and not ever more to be worked off, of which nobody learns anything.
func (l *load) begin(singles, batches, size int) {
	slower := time.Duration(1)
	if soak == 0 {
		slower = 4
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for range singles {
		l.wg.Go(func() { l.produce(ctx, 1, slower*8*time.Millisecond) })
	}
	for range batches {
		l.wg.Go(func() { l.produce(ctx, size, slower*40*time.Millisecond) })
	}
	l.t.Cleanup(l.end)
}

// end stops the producers; requests under way are answered first.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

func (l *load) produce(ctx context.Context, size int, pace time.Duration) {
	c := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	defer c.CloseIdleConnections()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.post(c, l.draw(size))
		}
	}
}

// draw makes new events, or, as a good producer does, takes some again that
// nobody answered for.
func (l *load) draw(size int) []*sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := min(size, len(l.unanswered)); n > 0 && rand.IntN(3) == 0 {
		again := slices.Clone(l.unanswered[:n])
		l.unanswered = slices.Delete(l.unanswered, 0, n)
		return again
	}
	events := make([]*sent, size)
	for i := range events {
		l.seq++
		e := &sent{
			ID: fmt.Sprintf("e%06d", l.seq), Source: "/load", Type: "load." + string(rune('a'+l.seq%2)),
			Object: fmt.Sprintf("course/%d", l.seq%5), Data: map[string]string{"text": "what happened, in some words"},
		}
		l.events[e.ID] = e
		events[i] = e
	}
	return events
}

func (l *load) post(c *http.Client, events []*sent) {
	var in any = events
	if len(events) == 1 {
		in = events[0]
	}
	raw, err := json.Marshal(in)
	if err != nil {
		l.t.Error(err)
		return
	}
	begun := time.Now()
	urls := l.url.Load().([]string)
	a, err := do(c, http.MethodPost, urls[rand.IntN(len(urls))]+"/v1/events", "application/json", bytes.NewReader(raw))
	var receipt struct{ IDs []string }
	if err == nil && a.status == http.StatusAccepted {
		if err := json.Unmarshal(a.body, &receipt); err != nil || len(receipt.IDs) != len(events) {
			l.t.Errorf("receipt for %d events: %s", len(events), a.body)
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, time.Since(begun))
	switch {
	case err != nil:
		l.cut++
		l.unanswered = append(l.unanswered, events...)
	case a.status == http.StatusAccepted:
		l.statuses[a.status]++
		for i, e := range events {
			if e.evt != "" && e.evt != receipt.IDs[i] {
				l.t.Errorf("event %s was accepted as %s and as %s", e.ID, e.evt, receipt.IDs[i])
			}
			e.evt = receipt.IDs[i]
		}
	default:
		l.statuses[a.status]++
		l.unanswered = append(l.unanswered, events...)
		a.problem(l.t)
		if a.status != http.StatusServiceUnavailable && a.status != http.StatusTooManyRequests {
			l.t.Errorf("a good event was answered %d: %s", a.status, a.body)
		} else if a.header.Get("Retry-After") == "" {
			l.t.Errorf("%d without Retry-After", a.status)
		}
	}
}

// answered is how many events have a 202.
func (l *load) answered() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.evt != "" {
			n++
		}
	}
	return n
}

func (l *load) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("answers %v, %d requests cut off, slowest %v", l.statuses, l.cut, l.slowest.Round(time.Millisecond))
}

// audience is who is told of the load.
type audience struct {
	every *receiver   // endpoints of all events, the first of them
	all   []*receiver // all of those
	some  *receiver   // endpoint of load.b only
	picky *receiver   // endpoint of course/2 that refuses some for good
	crowd *receiver   // many endpoints of course/4; nil = none
}

// receivers are all of them.
func (a *audience) receivers() []*receiver {
	rs := append(slices.Clone(a.all), a.some, a.picky)
	if a.crowd != nil {
		rs = append(rs, a.crowd)
	}
	return rs
}

// crowded is how many endpoints a crowd is.
const crowded = 16

// gather makes so many endpoints that each of a few nodes has some of them.
func (a *audience) gather(t *testing.T, p *process) {
	t.Helper()
	a.crowd = newReceiver(t, "crowd", prompt)
	p.call(http.MethodPut, "/v1/objects/course%2F4", map[string]string{"type": "course"}, nil)
	var told []any
	for range crowded {
		var ep struct{ ID string }
		p.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": a.crowd.URL}, &ep)
		told = append(told, map[string]any{"endpoint": ep.ID})
	}
	p.call(http.MethodPost, "/v1/subscriptions", map[string]any{"scope": map[string]string{"object": "course/4"}, "notify": told}, nil)
}

// gets is how often a receiver is to be told of an event.
func (a *audience) gets(r *receiver, e *stored) int {
	for _, c := range []struct {
		r    *receiver
		want bool
		n    int
	}{
		{a.some, e.Type == "load.b", 1},
		{a.picky, e.Object == "course/2", 1},
		{a.crowd, e.Object == "course/4", crowded},
	} {
		if r == c.r && c.want {
			return c.n
		} else if r == c.r {
			return 0
		}
	}
	return 1
}

// people of the audience: everything, one course, one type through a group.
var wants = map[string]func(e *sent) bool{
	"ada":  func(*sent) bool { return true },
	"ben":  func(e *sent) bool { return e.Object == "course/1" },
	"cleo": func(e *sent) bool { return e.Type == "load.a" },
	"dan":  func(*sent) bool { return false }, // it is recorded why
}

// furnish makes people, endpoints and subscriptions.
func furnish(t *testing.T, p *process) *audience {
	t.Helper()
	a := &audience{every: newReceiver(t, "prompt", prompt), some: newReceiver(t, "slow", slow), picky: newReceiver(t, "picky", stubborn())}
	a.all = []*receiver{a.every, newReceiver(t, "flaky", flaky)}
	p.call(http.MethodPost, "/v1/users:batch", []map[string]string{{"id": "ada"}, {"id": "ben"}, {"id": "cleo"}, {"id": "dan"}}, nil)
	p.call(http.MethodPost, "/v1/groups:batch", []map[string]any{{"id": "staff", "members": []string{"cleo"}}}, nil)
	for _, course := range []string{"1", "2", "3"} { // the others are implied by events
		p.call(http.MethodPut, "/v1/objects/course%2F"+course, map[string]string{"type": "course"}, nil)
	}
	person := func(sub map[string]any, rule map[string]any) {
		sub["recipients"], sub["notify"] = []any{map[string]any{"explicit": rule}}, []any{map[string]any{"channels": []string{"inbox"}}}
		p.call(http.MethodPost, "/v1/subscriptions", sub, nil)
	}
	person(map[string]any{}, map[string]any{"users": []string{"ada"}})
	person(map[string]any{"scope": map[string]string{"object": "course/1"}}, map[string]any{"users": []string{"ben", "ada"}}) // ada has two reasons, and one entry
	person(map[string]any{"types": []string{"load.a"}}, map[string]any{"groups": []string{"staff"}})
	// Dan has a reason, and wants to hear nothing of it.
	person(map[string]any{"scope": map[string]string{"object": "course/3"}}, map[string]any{"users": []string{"dan"}})
	p.call(http.MethodPut, "/v1/users/dan/preferences", []map[string]string{{"object": "course/3", "level": "none"}}, nil)
	for _, r := range a.all {
		p.subscribe(r.URL, nil)
	}
	p.subscribe(a.some.URL, []string{"load.b"})
	// Two tries, and then it is given up and recorded as failed.
	var ep struct{ ID string }
	p.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": a.picky.URL, "schedule": []string{"200ms"}}, &ep)
	p.call(http.MethodPost, "/v1/subscriptions", map[string]any{"scope": map[string]string{"object": "course/2"}, "notify": []any{map[string]any{"endpoint": ep.ID}}}, nil)
	a.picky.endpoint = ep.ID
	return a
}

// subscribe makes an endpoint and a subscription of it, and gives its id.
func (p *process) subscribe(url string, types []string) string {
	p.t.Helper()
	var ep struct{ ID string }
	waits := slices.Repeat([]string{"300ms"}, 10)
	p.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": url, "schedule": waits}, &ep)
	p.call(http.MethodPost, "/v1/subscriptions", map[string]any{"types": types, "notify": []any{map[string]any{"endpoint": ep.ID}}}, nil)
	return ep.ID
}

// stored is an event as the program lists it.
type stored struct {
	EventID string `json:"event_id"`
	ID      string
	Source  string
	Type    string
	Object  string
}

// settle waits until the program has nothing left to do and compares what
// everybody has: the producers, the program, the endpoints, the inboxes. Every
// event that was answered 202 is delivered to everybody it was for, or it is
// recorded why not.
// feature: NEW-10
func (l *load) settle(p *process, a *audience) {
	t := l.t
	t.Helper()
	p.idle()
	sum := account{fault: t.Name(), sent: len(l.events), accepted: l.answered()}
	known := map[string]*stored{} // by the producer's id
	byEvt := map[string]*stored{}
	for _, e := range list[stored](p, "/v1/events") {
		if first := known[e.ID]; first != nil {
			t.Errorf("event %s is stored twice: %s and %s", e.ID, first.EventID, e.EventID)
		}
		known[e.ID], byEvt[e.EventID] = &e, &e
	}
	sum.stored = len(known)
	var wrong faultList
	for _, e := range l.events {
		if e.evt != "" && (known[e.ID] == nil || known[e.ID].EventID != e.evt) {
			wrong.add("event %s was answered 202 as %s, and is stored as %v", e.ID, e.evt, known[e.ID])
			sum.lost++
		}
	}
	for id := range known {
		if l.events[id] == nil {
			wrong.add("event %s is stored and nobody sent it", id)
		}
	}
	failed := map[string]bool{} // webhook-ids
	for _, d := range list[struct{ ID, Event, Address string }](p, "/v1/deliveries?state=failed") {
		failed[d.ID] = true
		if e := byEvt[d.Event]; d.Address != a.picky.endpoint || e == nil || a.gets(a.picky, e) == 0 {
			wrong.add("delivery %s of event %s to %s is recorded as failed, and should not", d.ID, d.Event, d.Address)
		}
	}
	for _, r := range a.receivers() {
		got, refused := r.received(), r.refused()
		for id, e := range known {
			want := a.gets(r, e)
			sum.owed += want
			sum.delivered += min(got[id], want)
			if hook := refused[id]; hook != "" && got[id] == 0 && want == 1 {
				if want = 0; failed[hook] {
					sum.failed++
				} else {
					wrong.add("%s refused event %s (%s) for good, and that is not recorded", r.name, id, hook)
					sum.lost++
				}
			}
			if got[id] != want {
				wrong.add("%s got event %s under %d webhook-ids, want %d", r.name, id, got[id], want)
				sum.lost += max(want-got[id], 0)
			}
			delete(got, id)
		}
		if len(got) > 0 {
			wrong.add("%s got events that are not stored: %v", r.name, slices.Sorted(maps.Keys(got)))
		}
		sum.repeats += len(r.repeats())
	}
	if sum.failed != len(failed) {
		wrong.add("%d deliveries are recorded as failed, and %d were refused", len(failed), sum.failed)
	}
	muted := 0
	for who, want := range wants {
		n := map[string]int{}
		for _, row := range list[struct{ Event string }](p, "/v1/users/"+who+"/inbox") {
			n[row.Event]++
		}
		for evt, e := range byEvt {
			rows := 0
			if want(l.events[e.ID]) {
				rows = 1
				sum.owed++
			}
			if who == "dan" && e.Object == "course/3" {
				muted++
			}
			sum.inbox += min(n[evt], rows)
			if n[evt] != rows {
				wrong.add("%s has %d inbox rows of event %s, want %d", who, n[evt], e.ID, rows)
				sum.lost += max(rows-n[evt], 0)
				sum.doubles += max(n[evt]-rows, 0)
			}
			delete(n, evt)
		}
		if len(n) > 0 {
			wrong.add("%s has inbox rows of events that are not stored: %v", who, n)
		}
	}
	sum.owed += muted
	if sum.suppressed = p.suppressions("dan"); sum.suppressed != muted {
		wrong.add("dan was not told of %d events, and it is recorded of %d", muted, sum.suppressed)
		sum.lost += max(muted-sum.suppressed, 0)
	}
	if sum.owed != sum.delivered+sum.inbox+sum.failed+sum.suppressed {
		wrong.add("owed %d, and delivered + recorded is another number", sum.owed)
	}
	wrong.tell(t)
	t.Logf("%s; %s", &sum, l.summary())
	keep(&sum)
}
