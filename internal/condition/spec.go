package condition

import (
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Bounds of a condition.
const (
	MaxCount   = 10_000
	MaxWindow  = 31 * 24 * time.Hour
	MaxAbsence = 366 * 24 * time.Hour
	MaxLate    = 31 * 24 * time.Hour
	MaxWait    = 24 * time.Hour
	MaxGroups  = 100_000

	MaxSteps = 100 // of a change
	MaxStep  = 255 // bytes of a value in them

	usualLate   = time.Hour
	usualMemory = 90 * 24 * time.Hour // of a change
)

// Spec is a condition as it is evaluated.
type Spec struct {
	Count    int           // 0 = an absence, or a change
	Span     time.Duration // the window, how long nothing comes, or how long a value is remembered
	Cooldown time.Duration
	Late     time.Duration
	Wait     time.Duration
	Grouped  bool
	First    bool // an absence is watched for from the first event on
	Until    time.Time

	Mark         string // of a change: begins the values of its expression, and of no other
	Above, Below *float64
	Steps        []belfry.Step
	Opening      bool // the first value of a group is told of
}

// Absence reports whether it asks for events that do not come.
func (s *Spec) Absence() bool { return s.Count == 0 && s.Mark == "" }

// Change reports whether it asks for a value that is not what it was.
func (s *Spec) Change() bool { return s.Mark != "" }

// Limits reports whether it asks for the side of limits that a value is on.
func (s *Spec) Limits() bool { return s.Above != nil || s.Below != nil }

// Parse reads a condition; faults say what is wrong with it, under pointers
// within it.
func Parse(c *belfry.Condition) (s Spec, faults []belfry.Field) {
	fault := func(pointer, format string, args ...any) {
		faults = append(faults, belfry.Field{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
	span := func(pointer, text string, least, most time.Duration) time.Duration {
		d, ok := belfry.ParseSpan(text)
		switch {
		case !ok:
			fault(pointer, "%q is no length of time: write it as in 90s, 10m, 26h or 7d", text)
		case d < least || d > most:
			fault(pointer, "is %s: it must be from %s to %s", belfry.FormatSpan(d), belfry.FormatSpan(least), belfry.FormatSpan(most))
		}
		return d
	}
	optional := func(pointer, text string, most time.Duration) time.Duration {
		if text == "" {
			return 0
		}
		return span(pointer, text, 0, most)
	}
	s = Spec{Count: c.Count, Grouped: c.GroupBy != "", First: c.Starts == belfry.StartsFirst || c.GroupBy != ""}
	s.Cooldown, s.Wait = optional("/cooldown", c.Cooldown, MaxAbsence), optional("/wait", c.Wait, MaxWait)
	s.Late = usualLate
	if c.Change == "" {
		for _, of := range []struct {
			pointer string
			given   bool
		}{{"/above", c.Above != nil}, {"/below", c.Below != nil}, {"/transitions", len(c.Steps) > 0}, {"/first", c.First}} {
			if of.given {
				fault(of.pointer, "is for a change: say of what in \"change\"")
			}
		}
	}
	switch {
	case c.Change != "":
		s.change(c, fault, span)
	case c.Change == "" && c.Absence != "" && (c.Count != 0 || c.Within != ""):
		fault("", "asks both for events (count, within) and for none (absence): make two subscriptions of it")
	case c.Absence != "":
		s.Span = span("/absence", c.Absence, time.Second, MaxAbsence)
		s.Late = min(max(s.Late, s.Span), MaxLate)
		switch {
		case c.Starts != "" && c.Starts != belfry.StartsSaved && c.Starts != belfry.StartsFirst:
			fault("/starts", "%q is not known: it is %s or %s", c.Starts, belfry.StartsSaved, belfry.StartsFirst)
		case c.Starts == belfry.StartsSaved && c.GroupBy != "":
			fault("/starts", "must be %s, or left out: which groups there are shows with their first event", belfry.StartsFirst)
		}
	case c.Count == 0 && c.Within == "":
		fault("", "says neither count and within, nor absence, nor change: what is to be told of?")
	default:
		if c.Count < 1 || c.Count > MaxCount {
			fault("/count", "is %d: it must be from 1 to %d", c.Count, MaxCount)
		}
		if c.Within == "" {
			fault("/within", "is missing: in what time must the %d events come?", c.Count)
		} else {
			s.Span = span("/within", c.Within, time.Second, MaxWindow)
		}
		if c.Starts != "" {
			fault("/starts", "is for an absence: a count begins with the first event")
		}
		if c.Resolved {
			fault("/resolved", "is for an absence: a count is never over")
		}
	}
	if c.Late != "" {
		s.Late = span("/late", c.Late, 0, MaxLate)
	}
	switch {
	case c.Groups < 0 || c.Groups > MaxGroups:
		fault("/groups", "is %d: it must be from 1 to %d", c.Groups, MaxGroups)
	case c.Groups > 0 && c.GroupBy == "":
		fault("/groups", "is for a condition with group_by")
	}
	if c.Until != nil {
		s.Until = *c.Until
	}
	return s, faults
}

// change reads the parts of a change.
func (s *Spec) change(c *belfry.Condition, fault func(pointer, format string, args ...any), span func(pointer, text string, least, most time.Duration) time.Duration) {
	s.Mark, s.Above, s.Below, s.Steps, s.Opening = mark(c.Change), c.Above, c.Below, c.Steps, c.First
	if s.Span = usualMemory; c.Within != "" {
		s.Span = span("/within", c.Within, time.Second, MaxAbsence)
	}
	if c.Count != 0 || c.Absence != "" {
		fault("", "asks for a change and for events that come or do not (count, absence): make two subscriptions of it")
	}
	if c.Starts != "" {
		fault("/starts", "is for an absence: a change begins with the first event")
	}
	if c.Resolved {
		fault("/resolved", "is for an absence: ask for the change back in another one of the transitions")
	}
	for _, l := range []struct {
		pointer string
		limit   *float64
	}{{"/above", c.Above}, {"/below", c.Below}} {
		if l.limit != nil && (math.IsNaN(*l.limit) || math.IsInf(*l.limit, 0)) {
			fault(l.pointer, "is no number that a value can be more or less than")
		}
	}
	if c.Above != nil && c.Below != nil && *c.Below > *c.Above {
		fault("/below", "is %s, more than above (%s): a value would be on both sides", Number(*c.Below), Number(*c.Above))
	}
	if len(c.Steps) > MaxSteps {
		fault("/transitions", "are %d: there can be at most %d", len(c.Steps), MaxSteps)
		return
	}
	for i, step := range c.Steps {
		for _, end := range []struct{ name, value string }{{"from", step.From}, {"to", step.To}} {
			switch at := fmt.Sprintf("/transitions/%d/%s", i, end.name); {
			case len(end.value) > MaxStep:
				fault(at, "has %d bytes: a value has at most %d", len(end.value), MaxStep)
			case s.Limits() && !Anything(end.value) && end.value != belfry.SideAbove && end.value != belfry.SideBelow:
				fault(at, "%q is no side of a limit: it is %s, %s or *", end.value, belfry.SideAbove, belfry.SideBelow)
			}
		}
		if step.From == step.To && !Anything(step.From) {
			fault(fmt.Sprintf("/transitions/%d", i), "is no change: both are %q", step.From)
		}
	}
}

// mark names an expression within its values. A value of what the condition
// asked for before it was edited is none of what it asks for now.
func mark(expression string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.TrimSpace(expression)))
	return fmt.Sprintf("%08x", h.Sum32())
}

// Keep is how a value of the expression of a change is kept with an observation.
func (s *Spec) Keep(value string) string { return s.Mark + value }

// Anything reports whether an end of a transition is any value.
func Anything(value string) bool { return value == "" || value == "*" }

// Number writes a limit as people do.
func Number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// Text says what the condition asks for: 4 times in 10m.
func (s *Spec) Text() string {
	if s.Absence() {
		return "not for " + Words(s.Span)
	}
	if s.Change() {
		return "a change"
	}
	return fmt.Sprintf("%d times in %s", s.Count, Words(s.Span))
}

// Words write a span as people do: 10 minutes.
func Words(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := d / u.unit; n > 0 && d%u.unit == 0 {
			if n == 1 {
				return "1 " + u.name
			}
			if u.name == "day" || n < 100 || u.unit == time.Second {
				return fmt.Sprintf("%d %ss", n, u.name)
			}
		}
	}
	return d.String()
}

// Counts says whether an event counts, as of when, and if not why not: what
// happened too long before it was accepted does not, what claims to happen
// later counts as of when it was accepted.
func (s *Spec) Counts(happened, accepted time.Time) (at time.Time, odd *belfry.Reason, counts bool) {
	const skew = 5 * time.Minute // clocks differ; more than this is said
	switch {
	case !s.Until.IsZero() && !accepted.Before(s.Until):
		return at, &belfry.Reason{Code: belfry.ConditionEnded, Detail: stamp(s.Until)}, false
	case happened.After(accepted):
		if happened.Sub(accepted) > skew {
			odd = &belfry.Reason{Code: belfry.ConditionFuture, Detail: stamp(happened)}
		}
		return accepted, odd, true
	case accepted.Sub(happened) > s.Late:
		return at, &belfry.Reason{Code: belfry.ConditionLate, Detail: fmt.Sprintf("%s, and it came at %s", stamp(happened), stamp(accepted))}, false
	}
	return happened, nil, true
}

func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }
