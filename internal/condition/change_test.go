package condition

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

func number(n float64) *float64 { return &n }

func changeText(fs []Firing) string {
	var s string
	for _, f := range fs {
		before := "-"
		if f.Before != nil {
			before = f.Before.Text
		}
		s += fmt.Sprintf("%d@%d:%s>%s%s%v ", f.N, int(f.At.Sub(t0)/time.Second), before, f.After.Text, f.After.Side, f.Events)
	}
	return s
}

// told is an event as somebody sees it who knows them all.
type told struct {
	second int
	id     string
	text   string
	state  string // what must be another for a change; empty = nothing to compare
}

// naiveChange knows all events beforehand and looks back from each for what was
// before.
func naiveChange(s Spec, events []told) string {
	span, cooldown := int(s.Span/time.Second), int(s.Cooldown/time.Second)
	// unbroken is where the events begin that are remembered at event i.
	unbroken := func(i int) int {
		for i > 0 && events[i].second-events[i-1].second <= span {
			i--
		}
		return i
	}
	for i := range events {
		switch events[i].state = events[i].text; {
		case s.Limits():
			events[i].state = ""
			for k := i; k >= unbroken(i) && events[i].state == ""; k-- {
				n, _ := strconv.Atoi(events[k].text)
				switch x := float64(n); {
				case s.Above != nil && s.Below != nil && x <= *s.Above && x >= *s.Below:
				case s.Above != nil && x > *s.Above, s.Above == nil && x >= *s.Below:
					events[i].state = belfry.SideAbove
				default:
					events[i].state = belfry.SideBelow
				}
			}
		}
	}
	one := func(pattern, value string) bool { return pattern == "" || pattern == "*" || pattern == value }
	var fs []Firing
	quiet, within := -1, map[int]bool{} // events within a quiet
	for i, e := range events {
		if e.second < quiet {
			within[i] = true
			continue
		}
		if e.state == "" {
			continue
		}
		from := unbroken(i)
		// What to compare with: the event before, then the last that was not in a quiet.
		compare := []int{}
		for k := i - 1; k >= from; k-- {
			if len(compare) == 0 {
				compare = append(compare, k)
			}
			if !within[k] {
				compare = append(compare, k)
				break
			}
			if k == from && !s.Opening { // nobody knew anything: its first value is none to tell of
				for first := from; first < i; first++ {
					if events[first].state != "" {
						compare = append(compare, first)
						break
					}
				}
			}
		}
		if len(compare) == 0 {
			compare = []int{-1}
		} else if len(compare) == 1 {
			compare = append(compare, -1)
		}
		for _, k := range compare {
			before := told{}
			if k >= 0 {
				before = events[k]
			}
			if first := before.state == ""; first && !s.Opening || !first && before.state == e.state {
				continue
			}
			if len(s.Steps) > 0 && !slices.ContainsFunc(s.Steps, func(step belfry.Step) bool { return one(step.From, before.state) && one(step.To, e.state) }) {
				continue
			}
			f := Firing{N: len(fs) + 1, At: at(e.second), Events: []string{e.id}, After: &Value{Text: e.text}}
			if s.Limits() {
				f.After.Side = e.state
			}
			if before.state != "" {
				f.Before = &Value{Text: before.text}
			}
			fs, quiet = append(fs, f), e.second+cooldown
			break
		}
	}
	return changeText(fs)
}

// feature: NEW-6 a change finds what a naive evaluator finds that knows all
// events, whatever the order in which they come and however often: of values
// and of sides of limits, all changes or some, with and without a quiet.
func TestChangeAsNaive(t *testing.T) {
	fired := 0
	rapid.Check(t, func(t *rapid.T) {
		delay := rapid.IntRange(0, 60).Draw(t, "delay")
		s := Spec{
			Mark: mark("event.data.state"), Span: time.Duration(rapid.SampledFrom([]int{1, 30, 100, 1000}).Draw(t, "remembered")) * time.Second,
			Cooldown: time.Duration(rapid.SampledFrom([]int{0, 0, 30, 120}).Draw(t, "cooldown")) * time.Second,
			Wait:     waitFor(delay), Late: time.Duration(delay) * time.Second,
			Opening: rapid.Bool().Draw(t, "first values"), Grouped: rapid.Bool().Draw(t, "grouped"),
		}
		values := []string{"0", "1", "2", "3", "4"}
		ends := append([]string{"", "*"}, values...)
		if limits := rapid.IntRange(0, 3).Draw(t, "limits"); limits > 0 {
			ends = []string{"", "*", belfry.SideAbove, belfry.SideBelow}
			if limits&1 != 0 {
				s.Above = number(2.5)
			}
			if limits&2 != 0 {
				s.Below = number(float64(rapid.IntRange(1, 2).Draw(t, "below")))
			}
		}
		for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "transitions") {
			s.Steps = append(s.Steps, belfry.Step{From: rapid.SampledFrom(ends).Draw(t, "from"), To: rapid.SampledFrom(ends).Draw(t, "to")})
		}
		evs := events(t, 400)
		var all []told
		for i := range evs {
			text := rapid.SampledFrom(values).Draw(t, "value")
			evs[i].Value = s.Keep(text)
			all = append(all, told{second: int(evs[i].At.Sub(t0) / time.Second), id: evs[i].EventID, text: text})
		}
		g := &group{spec: s, page: rapid.IntRange(1, 50).Draw(t, "page")}
		for _, a := range arrivals(t, evs, delay) {
			g.pass(t, at(a.second).Add(-time.Microsecond))
			g.come(a.o)
			if rapid.Bool().Draw(t, "looked at once") {
				g.pass(t, at(a.second))
			}
		}
		g.pass(t, at(4000))
		fired += len(g.all)
		if got, want := changeText(g.all), naiveChange(s, all); got != want {
			t.Fatalf("%+v\n%v\n got %s\nwant %s", s, all, got, want)
		}
	})
	if fired == 0 {
		t.Error("nothing ever changed")
	}
}

// feature: NEW-6 changes one after the other, as they are told of
func TestChanges(t *testing.T) {
	day := 24 * time.Hour
	type step struct {
		second int
		value  string
	}
	for name, c := range map[string]struct {
		spec  Spec
		steps []step
		want  string
	}{
		"the first value tells nothing":  {Spec{}, []step{{0, "open"}, {1, "open"}}, ""},
		"unless asked":                   {Spec{Opening: true}, []step{{0, "open"}, {1, "open"}}, "1@0:->open[e0] "},
		"each change":                    {Spec{}, []step{{0, "open"}, {1, "closed"}, {2, "closed"}, {3, "open"}}, "1@1:open>closed[e1] 2@3:closed>open[e3] "},
		"some alone":                     {Spec{Steps: []belfry.Step{{From: "*", To: "open"}}}, []step{{0, "open"}, {1, "closed"}, {3, "open"}}, "1@3:closed>open[e2] "},
		"none that comes late":           {Spec{}, []step{{0, "open"}, {5, "closed"}, {3, "open"}, {6, "closed"}}, "1@5:open>closed[e1] "},
		"nothing is remembered for ever": {Spec{Span: 10 * time.Second}, []step{{0, "a"}, {11, "b"}, {21, "c"}}, "1@21:b>c[e2] "},
		"what is taken back in the quiet": {Spec{Cooldown: time.Minute}, []step{{0, "a"}, {1, "b"}, {2, "a"}, {3, "b"}, {70, "b"}},
			"1@1:a>b[e1] "},
		"what lasts after the quiet": {Spec{Cooldown: time.Minute}, []step{{0, "a"}, {1, "b"}, {2, "a"}, {70, "a"}}, "1@1:a>b[e1] 2@70:b>a[e3] "},
		"an alarm right after the quiet": {Spec{Cooldown: time.Minute, Steps: []belfry.Step{{To: "failed"}}}, []step{{0, "ok"}, {1, "failed"}, {2, "ok"}, {70, "failed"}},
			"1@1:ok>failed[e1] 2@70:ok>failed[e3] "},
		"rises and falls": {Spec{Above: number(30), Below: number(28)}, []step{{0, "29"}, {1, "31"}, {2, "27"}, {3, "29"}, {4, "30.5"}, {5, "29"}, {6, "27"}},
			"1@2:31>27below[e2] 2@4:29>30.5above[e4] 3@6:29>27below[e6] "},
		"one limit": {Spec{Above: number(30), Steps: []belfry.Step{{To: "above"}}}, []step{{0, "30"}, {1, "31"}, {2, "30"}, {3, "1e9"}}, "1@1:30>31above[e1] 2@3:30>1e9above[e3] "},
		"a fall":    {Spec{Below: number(0), Steps: []belfry.Step{{From: "above"}}}, []step{{0, "0"}, {1, "-1"}, {2, "-2"}, {3, "0"}, {4, "-1"}}, "1@1:0>-1below[e1] 2@4:0>-1below[e4] "},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.spec
			s.Mark, s.Late = mark("x"), time.Hour
			if s.Span == 0 {
				s.Span = day
			}
			g := &group{spec: s, page: 100}
			for i, step := range c.steps {
				g.come(belfry.Observed{At: at(step.second), EventID: fmt.Sprint("e", i), Value: s.Keep(step.value)})
				g.pass(t, at(step.second))
			}
			if got := changeText(g.all); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Values of another expression are none of this one: after an edit the next
// value is the first, also among those that were waiting.
func TestChangeEdited(t *testing.T) {
	old := Spec{Mark: mark("event.data.a"), Span: time.Hour, Late: time.Hour, Wait: 10 * time.Second}
	edited := old
	edited.Mark = mark("event.data.b")
	g := &group{spec: old, page: 100}
	come := func(s Spec, second int, value string) {
		g.come(belfry.Observed{At: at(second), EventID: fmt.Sprint("e", second), Value: s.Keep(value)})
	}
	come(old, 0, "1")
	g.pass(t, at(20))
	come(old, 21, "2") // still waits when the subscription is edited
	g.spec = edited
	come(edited, 23, "3")
	come(edited, 24, "4")
	g.pass(t, at(60))
	if got, want := changeText(g.all), "1@24:3>4[e24] "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	v := edited.View(&g.st, "g", nil, at(60))
	if v.Value == nil || *v.Value != "4" || !v.Last.Equal(at(24)) || v.Side != "" {
		t.Errorf("it stands at %+v", v)
	}
	if v := old.View(&g.st, "g", nil, at(60)); v.Value != nil {
		t.Errorf("of another expression: %+v", v)
	}
}
