package condition

import (
	"fmt"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// View says where a condition stands in a group. counted are the observations
// within its window now that come after State.Reset, in order; an absence has
// none.
func (s *Spec) View(st *State, group string, counted []belfry.Observed, now time.Time) *belfry.ConditionView {
	v := &belfry.ConditionView{Group: group, Needed: s.Count, Within: Words(s.Span), Firings: st.Fired, Count: len(counted)}
	if s.Change() {
		v.Within, v.Count = "", 0
	}
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	v.Last, v.Met = when(st.Seen), when(st.Met)
	if st.Quiet.After(now) {
		v.Quiet = when(st.Quiet)
	}
	switch {
	case s.Change():
		s.viewChange(v, st, now)
	case s.Absence():
		s.viewAbsence(v, st, when)
	default:
		if len(counted) > 0 {
			v.First, v.Last = when(counted[0].At), when(counted[len(counted)-1].At)
		}
		v.Text = fmt.Sprintf("%d of %d in %s", v.Count, v.Needed, v.Within)
		if more := v.Needed - v.Count; more > 0 {
			v.Text += fmt.Sprintf(": %d more needed", more)
		}
	}
	if v.Quiet != nil && !s.Absence() {
		v.Text += "; quiet until " + stamp(st.Quiet)
	}
	if !s.open(now) {
		v.Text = "ended on " + stamp(s.Until)
	}
	return v
}

func (s *Spec) viewAbsence(v *belfry.ConditionView, st *State, when func(time.Time) *time.Time) {
	v.Open = st.Silent
	if st.Last.EventID != "" {
		v.Last = when(st.Last.At)
	}
	switch {
	case st.Last.At.IsZero():
		v.Text = "the watch begins with the first event"
	case st.Silent:
		v.Text = fmt.Sprintf("met on %s: nothing has come since %s", stamp(st.Met), stamp(st.Last.At))
	default:
		v.Due = when(s.meets(st).Add(s.Wait))
		v.Text = fmt.Sprintf("met on %s if nothing comes; counted from %s", stamp(*v.Due), stamp(st.Last.At))
	}
}

func (s *Spec) viewChange(v *belfry.ConditionView, st *State, now time.Time) {
	is := st.Is
	if st.Of != s.Mark || is.At.IsZero() || now.Sub(is.At) > s.Span+s.Late {
		v.Text = "no value is known: the next one is the first"
		return
	}
	v.Value = &is.Text
	v.Text = fmt.Sprintf("it was %q on %s", is.Text, stamp(is.At))
	switch {
	case !s.Limits():
	case is.Side == "":
		v.Text += ", between the limits from the beginning"
	default:
		v.Text += ", on the side " + is.Side
	}
}
