package condition

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

var t0 = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }

// group is a group as the store and the pipeline keep it: observations in a set,
// looked at when something comes and when a look is due.
type group struct {
	spec Spec
	obs  []belfry.Observed
	st   State
	low  time.Time
	due  time.Time
	page int // observations read at once
	all  []Firing
}

func (g *group) come(o belfry.Observed) {
	i, found := slices.BinarySearchFunc(g.obs, o, func(a, b belfry.Observed) int {
		switch {
		case a.Before(b):
			return -1
		case b.Before(a):
			return 1
		}
		return 0
	})
	if !found { // the key of the table is unique
		g.obs = slices.Insert(g.obs, i, o)
	}
	if g.low.IsZero() || o.At.Before(g.low) {
		g.low = o.At
	}
	if look := o.At.Add(g.spec.Wait); g.due.IsZero() || look.Before(g.due) {
		g.due = look
	}
}

// pass looks as often as it is due until now.
func (g *group) pass(t interface{ Fatalf(string, ...any) }, now time.Time) {
	for n := 0; !g.due.IsZero() && !g.due.After(now); n++ {
		if n > 10_000 {
			t.Fatalf("a look is due again and again: %v at %v", g.due, now)
		}
		l := Look{Now: now}
		if !g.low.IsZero() {
			for _, o := range g.obs {
				if from := g.spec.Window(&g.st, g.low); o.At.Before(g.low) && !o.At.Before(from) {
					l.Before = append(l.Before, o)
				}
				if !o.At.Before(g.low) {
					l.Fresh = append(l.Fresh, o)
				}
			}
			for limit := g.page; limit < len(l.Fresh); limit++ {
				if !l.Fresh[0].At.Equal(l.Fresh[limit-1].At) {
					l.Fresh, l.More = l.Fresh[:limit], true
					break
				}
			}
		}
		f := g.spec.Look(g.st, l)
		g.st, g.low, g.due = f.State, f.Low, f.Due
		g.all = append(g.all, f.Firings...)
		if f.Forget {
			g.due = time.Time{}
			if !g.spec.Absence() {
				// Forgotten groups begin anew: nothing may depend on them.
				g.st = State{Fired: g.st.Fired}
				g.obs = nil
			}
		}
	}
}

func text(fs []Firing) string {
	var s string
	for _, f := range fs {
		over := ""
		if f.Over {
			over = " over"
		}
		s += fmt.Sprintf("%d%s@%d:%d%v ", f.N, over, int(f.At.Sub(t0)/time.Second), f.Count, f.Events)
	}
	return s
}

// naiveCount knows all events beforehand and goes through them in their order.
func naiveCount(s Spec, events []belfry.Observed) (fs []Firing) {
	reset, quiet := -1, time.Time{}
	for i, e := range events {
		var in []belfry.Observed
		for k := reset + 1; k <= i; k++ {
			if e.At.Sub(events[k].At) < s.Span {
				in = append(in, events[k])
			}
		}
		if len(in) < s.Count || e.At.Before(quiet) {
			continue
		}
		f := Firing{N: len(fs) + 1, At: e.At, Count: len(in), First: in[0].At, Last: e.At}
		for _, o := range in {
			f.Events = append(f.Events, o.EventID)
		}
		fs = append(fs, f)
		reset, quiet = i, e.At.Add(s.Cooldown)
	}
	return fs
}

// naiveAbsence lets a clock tick from second to second.
func naiveAbsence(s Spec, events []belfry.Observed, end int) (fs []Firing) {
	last, lastID, silent, quiet, fired := 0, "", false, -1, 0
	began := !s.First
	next := 0
	for tick := 0; tick <= end; tick++ {
		for ; next < len(events) && events[next].At.Equal(at(tick)); next++ {
			if silent {
				fs = append(fs, Firing{N: fired, Over: true, At: at(tick), Events: []string{events[next].EventID}})
				silent = false
			}
			last, lastID, began = tick, events[next].EventID, true
		}
		if began && !silent && tick-last >= int(s.Span/time.Second) && tick >= quiet {
			fired++
			f := Firing{N: fired, At: at(tick)}
			if lastID != "" {
				f.Events = []string{lastID}
			}
			fs, silent, quiet = append(fs, f), true, tick+int(s.Cooldown/time.Second)
		}
	}
	return fs
}

// events draws events with times of their own, in order and each once.
func events(t *rapid.T, most int) []belfry.Observed {
	times := rapid.SliceOfN(rapid.IntRange(1, most), 0, 40).Draw(t, "times")
	slices.Sort(times)
	out := make([]belfry.Observed, len(times))
	for i, s := range times {
		out[i] = belfry.Observed{At: at(s), EventID: fmt.Sprintf("evt_%03d", i)}
	}
	return out
}

type arrival struct {
	second int
	o      belfry.Observed
}

// arrivals lets each event come once or several times, each time at most delay
// late: so they come in any order.
func arrivals(t *rapid.T, events []belfry.Observed, delay int) []arrival {
	var out []arrival
	for _, e := range events {
		for range rapid.IntRange(1, 3).Draw(t, "times it comes") {
			s := int(e.At.Sub(t0)/time.Second) + rapid.IntRange(0, delay).Draw(t, "delay")
			out = append(out, arrival{s, e})
		}
	}
	slices.SortStableFunc(out, func(a, b arrival) int { return a.second - b.second })
	return out
}

// waitFor is a wait within which everything comes: an event may come in the very
// moment in which others are looked at.
func waitFor(delay int) time.Duration {
	if delay == 0 {
		return 0
	}
	return time.Duration(delay)*time.Second + time.Microsecond
}

// feature: NEW-6, MDL-23 a count finds what a naive evaluator finds that knows
// all events, whatever the order in which they come and however often.
func TestCountAsNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		delay := rapid.IntRange(0, 60).Draw(t, "delay")
		s := Spec{
			Count: rapid.IntRange(1, 5).Draw(t, "count"), Span: time.Duration(rapid.IntRange(1, 60).Draw(t, "span")) * time.Second,
			Cooldown: time.Duration(rapid.SampledFrom([]int{0, 0, 30, 120}).Draw(t, "cooldown")) * time.Second,
			Wait:     waitFor(delay), Late: time.Duration(delay) * time.Second,
		}
		evs := events(t, 400)
		g := &group{spec: s, page: rapid.IntRange(1, 50).Draw(t, "page")}
		for _, a := range arrivals(t, evs, delay) {
			g.pass(t, at(a.second).Add(-time.Microsecond))
			g.come(a.o)
			if rapid.Bool().Draw(t, "looked at once") {
				g.pass(t, at(a.second))
			}
		}
		g.pass(t, at(2000))
		if got, want := text(g.all), text(naiveCount(s, evs)); got != want {
			t.Fatalf("%+v\n got %s\nwant %s", s, got, want)
		}
	})
}

// feature: NEW-6 an absence finds what a clock finds that ticks over all events.
func TestAbsenceAsNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		delay := rapid.IntRange(0, 60).Draw(t, "delay")
		s := Spec{
			Span:     time.Duration(rapid.IntRange(1, 90).Draw(t, "span")) * time.Second,
			Cooldown: time.Duration(rapid.SampledFrom([]int{0, 0, 30, 200}).Draw(t, "cooldown")) * time.Second,
			Wait:     waitFor(delay), Late: time.Duration(delay) * time.Second,
			First: rapid.Bool().Draw(t, "first"),
		}
		evs := events(t, 400)
		g := &group{spec: s, page: rapid.IntRange(1, 50).Draw(t, "page"), due: t0}
		g.pass(t, t0)
		for _, a := range arrivals(t, evs, delay) {
			g.pass(t, at(a.second).Add(-time.Microsecond))
			g.come(a.o)
			if rapid.Bool().Draw(t, "looked at once") {
				g.pass(t, at(a.second))
			}
		}
		const end = 2000
		g.pass(t, at(end).Add(s.Wait))
		if got, want := text(g.all), text(naiveAbsence(s, evs, end)); got != want {
			t.Fatalf("%+v\n got %s\nwant %s", s, got, want)
		}
	})
}

// feature: NEW-6 events that come out of order without a wait: each firing has
// the events it needs within its window, none counts twice, and the quiet is
// kept.
func TestCountOutOfOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Spec{Count: rapid.IntRange(1, 4).Draw(t, "count"), Span: 30 * time.Second, Late: 300 * time.Second,
			Cooldown: time.Duration(rapid.SampledFrom([]int{0, 60}).Draw(t, "cooldown")) * time.Second}
		evs := events(t, 200)
		g := &group{spec: s, page: 1 + len(evs)}
		used := map[string]bool{}
		for _, a := range arrivals(t, evs, 100) {
			g.come(a.o)
			g.pass(t, at(a.second))
		}
		last := time.Time{}
		for i, f := range g.all {
			if f.N != i+1 || len(f.Events) < s.Count || f.Last.Sub(f.First) >= s.Span || !last.IsZero() && f.At.Before(last.Add(s.Cooldown)) {
				t.Fatalf("%+v: %+v", s, f)
			}
			for _, e := range f.Events {
				if used[e] {
					t.Fatalf("%s counts twice: %s", e, text(g.all))
				}
				used[e] = true
			}
			last = f.At
		}
		if s.Count == 1 && s.Cooldown == 0 && len(evs) > 0 && len(g.all) == 0 {
			t.Fatalf("none of %d events was told of", len(evs))
		}
	})
}

// feature: MDL-23 the event monitor's algorithm: strictly within the window,
// counted anew after each message, and no event lost for having come in the
// second of the last message.
func TestEventMonitor(t *testing.T) {
	s := Spec{Count: 3, Span: 10 * time.Minute, Late: time.Hour}
	for name, c := range map[string]struct {
		seconds []int
		want    string
	}{
		"two are not enough":               {[]int{0, 1}, ""},
		"three are":                        {[]int{0, 1, 2}, "1@2:3[e0 e1 e2] "},
		"the window's edge is out":         {[]int{0, 300, 600}, ""},
		"just within":                      {[]int{0, 300, 599}, "1@599:3[e0 e1 e2] "},
		"counted anew":                     {[]int{0, 1, 2, 3, 4}, "1@2:3[e0 e1 e2] "},
		"and told anew":                    {[]int{0, 1, 2, 3, 4, 5}, "1@2:3[e0 e1 e2] 2@5:3[e3 e4 e5] "},
		"those of one second count":        {[]int{0, 0, 0, 0, 0, 0}, "1@0:3[e0 e1 e2] 2@0:3[e3 e4 e5] "},
		"one message however many at once": {[]int{7, 7, 7, 7, 7}, "1@7:3[e0 e1 e2] "},
	} {
		t.Run(name, func(t *testing.T) {
			g := &group{spec: s, page: 100}
			for i, sec := range c.seconds {
				g.come(belfry.Observed{At: at(sec), EventID: fmt.Sprint("e", i)})
				g.pass(t, at(sec))
			}
			if got := text(g.all); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// feature: NEW-6 what goes on during the quiet after a message is told of when
// the quiet is over, with all that counts by then.
func TestCooldown(t *testing.T) {
	s := Spec{Count: 3, Span: 10 * time.Minute, Cooldown: time.Hour, Late: time.Hour}
	g := &group{spec: s, page: 100}
	for i := 0; i <= 70; i++ {
		g.come(belfry.Observed{At: at(60 * i), EventID: fmt.Sprint("e", i)})
		g.pass(t, at(60*i))
	}
	if got, want := text(g.all), "1@120:3[e0 e1 e2] 2@3720:10[e53 e54 e55 e56 e57 e58 e59 e60 e61 e62] "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// feature: NEW-6 no backup for 26 hours
func TestNoBackup(t *testing.T) {
	s := Spec{Span: 26 * time.Hour, Late: 26 * time.Hour}
	g := &group{spec: s, page: 100, due: t0}
	hour := func(n int) int { return 3600 * n }
	g.pass(t, t0)
	for _, c := range []struct {
		comes int // hour; 0 = nothing
		now   int
		all   string
	}{
		{2, 2, ""}, {24, 24, ""}, {0, 49, ""},
		{0, 50, "1@180000:0[e24] "}, {0, 90, "1@180000:0[e24] "}, // once, however long it lasts
		{100, 100, "1@180000:0[e24] 1 over@360000:0[e100] "},
		{0, 126, "1@180000:0[e24] 1 over@360000:0[e100] 2@453600:0[e100] "},
	} {
		if c.comes > 0 {
			g.come(belfry.Observed{At: at(hour(c.comes)), EventID: fmt.Sprint("e", c.comes)})
		}
		g.pass(t, at(hour(c.now)))
		if got := text(g.all); got != c.all {
			t.Fatalf("in hour %d: got %q, want %q", c.now, got, c.all)
		}
	}
	// While its object is hidden nothing can come: it begins anew.
	st, look := s.Hold(g.st, at(hour(200)))
	if want := at(hour(200)).Add(10 * time.Minute); !look.Equal(want) || !s.meets(&st).After(at(hour(225))) {
		t.Errorf("held: %+v, to be looked at at %v", st, look)
	}
}

// feature: NEW-6 events of the future count as of when they came, those of last
// year do not count; both are said.
func TestWhenEventsCount(t *testing.T) {
	s := Spec{Count: 3, Span: time.Minute, Late: time.Hour, Until: at(10_000)}
	for _, c := range []struct {
		happened, accepted time.Time
		at                 time.Time
		code               string
		counts             bool
	}{
		{at(0), at(1), at(0), "", true},
		{at(0), at(3600), at(0), "", true},
		{at(0), at(3601), time.Time{}, belfry.ConditionLate, false},
		{at(0).AddDate(-1, 0, 0), at(0), time.Time{}, belfry.ConditionLate, false},
		{at(100), at(0), at(0), "", true},
		{at(0).AddDate(1, 0, 0), at(0), at(0), belfry.ConditionFuture, true},
		{at(9999), at(10_000), time.Time{}, belfry.ConditionEnded, false},
	} {
		got, odd, counts := s.Counts(c.happened, c.accepted)
		code := ""
		if odd != nil {
			code = odd.Code
		}
		if counts != c.counts || code != c.code || !got.Equal(c.at) {
			t.Errorf("happened %v, came %v: %v %v %q", c.happened, c.accepted, got, counts, code)
		}
	}
}

func TestParse(t *testing.T) {
	past := t0
	for _, c := range []struct {
		c    belfry.Condition
		want string // the first fault
	}{
		{belfry.Condition{Count: 5, Within: "10m", GroupBy: "event.actor", Cooldown: "1h"}, ""},
		{belfry.Condition{Absence: "26h", Wait: "10m", Resolved: true}, ""},
		{belfry.Condition{Absence: "1d", GroupBy: "object", Starts: "first", Until: &past}, ""},
		{belfry.Condition{Change: "event.data.state", GroupBy: "object", Cooldown: "1h", Steps: []belfry.Step{{From: "open", To: "*"}, {To: "failed"}}, First: true}, ""},
		{belfry.Condition{Change: "event.data.n", Within: "1d", Above: number(30), Below: number(28), Steps: []belfry.Step{{To: "above"}}}, ""},
		{belfry.Condition{Change: "x", Within: "400d"}, "/within is 400d"},
		{belfry.Condition{Change: "x", Count: 2}, " asks for a change and for events"},
		{belfry.Condition{Change: "x", Absence: "1d"}, " asks for a change and for events"},
		{belfry.Condition{Change: "x", Starts: "first"}, "/starts is for an absence"},
		{belfry.Condition{Change: "x", Resolved: true}, "/resolved is for an absence"},
		{belfry.Condition{Change: "x", Above: number(1), Below: number(2)}, "/below is 2, more than above (1)"},
		{belfry.Condition{Change: "x", Above: number(math.Inf(1))}, "/above is no number"},
		{belfry.Condition{Change: "x", Steps: []belfry.Step{{To: "b"}, {From: "a", To: "a"}}}, "/transitions/1 is no change"},
		{belfry.Condition{Change: "x", Above: number(1), Steps: []belfry.Step{{From: "open"}}}, `/transitions/0/from "open" is no side`},
		{belfry.Condition{Change: "x", Steps: []belfry.Step{{To: strings.Repeat("a", 256)}}}, "/transitions/0/to has 256 bytes"},
		{belfry.Condition{Change: "x", Steps: make([]belfry.Step, 101)}, "/transitions are 101"},
		{belfry.Condition{Count: 2, Within: "5m", First: true}, "/first is for a change"},
		{belfry.Condition{Absence: "5m", Above: number(0)}, "/above is for a change"},
		{belfry.Condition{}, " says neither"},
		{belfry.Condition{Count: 5}, "/within is missing"},
		{belfry.Condition{Within: "5m"}, "/count is 0"},
		{belfry.Condition{Count: 10_001, Within: "5m"}, "/count is 10001"},
		{belfry.Condition{Count: -1, Within: "5m"}, "/count is -1"},
		{belfry.Condition{Count: 2, Within: "32d"}, "/within is 32d: it must be from 1s to 31d"},
		{belfry.Condition{Count: 2, Within: "soon"}, `/within "soon" is no length of time`},
		{belfry.Condition{Count: 2, Within: "5m", Absence: "5m"}, " asks both"},
		{belfry.Condition{Absence: "0s"}, "/absence is 0"},
		{belfry.Condition{Absence: "1d", Starts: "then"}, `/starts "then" is not known`},
		{belfry.Condition{Absence: "1d", Starts: "saved", GroupBy: "event.actor"}, "/starts must be first"},
		{belfry.Condition{Count: 2, Within: "5m", Starts: "first"}, "/starts is for an absence"},
		{belfry.Condition{Count: 2, Within: "5m", Resolved: true}, "/resolved is for an absence"},
		{belfry.Condition{Count: 2, Within: "5m", Groups: 5}, "/groups is for a condition with group_by"},
		{belfry.Condition{Count: 2, Within: "5m", GroupBy: "event.actor", Groups: 100_001}, "/groups is 100001"},
		{belfry.Condition{Count: 2, Within: "5m", Cooldown: "-1h"}, "/cooldown is -1h"},
		{belfry.Condition{Count: 2, Within: "5m", Late: "40d"}, "/late is 40d"},
		{belfry.Condition{Count: 2, Within: "5m", Wait: "25h"}, "/wait is 25h"},
	} {
		_, faults := Parse(&c.c)
		got := ""
		if len(faults) > 0 {
			got = faults[0].Pointer + " " + faults[0].Message
		}
		if c.want == "" && got != "" || len(got) < len(c.want) || got[:len(c.want)] != c.want {
			t.Errorf("%+v: %q, want %q", c.c, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Second: "1 second", 90 * time.Second: "90 seconds", 10 * time.Minute: "10 minutes", 26 * time.Hour: "26 hours", 24 * time.Hour: "1 day", 14 * 24 * time.Hour: "14 days", 1500 * time.Millisecond: "1.5s"} {
		if got := Words(d); got != want {
			t.Errorf("%v: %q", d, got)
		}
	}
}
