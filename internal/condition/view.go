package condition

import (
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// View says where a condition stands in a group; its words are package words'.
// counted are the observations within its window now that come after
// State.Reset, in order; only a count has any.
func (s *Spec) View(st *State, group string, counted []belfry.Observed, now time.Time) *belfry.ConditionView {
	v := &belfry.ConditionView{Group: group, Needed: s.Count, Firings: st.Fired}
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
	if !s.open(now) {
		v.Ended = when(s.Until)
	}
	switch {
	case s.Change():
		s.viewChange(v, st, now)
	case s.Absence():
		v.Within = Words(s.Span)
		s.viewAbsence(v, st, when)
	default:
		v.Within = Words(s.Span)
		if v.Count = len(counted); v.Count > 0 {
			v.First, v.Last = when(counted[0].At), when(counted[v.Count-1].At)
		}
	}
	return v
}

func (s *Spec) viewAbsence(v *belfry.ConditionView, st *State, when func(time.Time) *time.Time) {
	v.Open, v.Since = st.Silent, when(st.Last.At)
	if st.Last.EventID != "" {
		v.Last = v.Since
	}
	if v.Since != nil && !st.Silent {
		v.Due = when(s.meets(st).Add(s.Wait))
	}
}

func (s *Spec) viewChange(v *belfry.ConditionView, st *State, now time.Time) {
	is := st.Is
	if st.Of != s.Mark || is.At.IsZero() || now.Sub(is.At) > s.Span+s.Late {
		return // nothing is remembered
	}
	v.Value, v.Last = &is.Text, &is.At
	if v.Side = is.Side; s.Limits() && v.Side == "" {
		v.Side = belfry.Between
	}
}
