package resolve

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

var (
	ofSub   = belfry.Reason{Code: belfry.NamedMember, Subscription: "sub_a"}
	ofPlace = belfry.Reason{Code: belfry.NamedMember, Subscription: "sub_b", Object: "forum/1"}
	ofOut   = belfry.Reason{Code: belfry.NamedMember, Subscription: "sub_out"}
	ofTeam  = belfry.Reason{Code: belfry.NamedMember, Subscription: "sub_a", Group: "team"}
	ofRole  = belfry.Reason{Code: belfry.NamedRole, Role: "reader", Object: "forum/1", Subscription: "sub_a"}
	matched = belfry.Reason{Code: belfry.ScopeMatched, Subscription: "sub_a"}
)

// Whoever left all that she had joined hears no more of what waits for her; what
// named her by anything else is not for this to say.
// feature: CPS-10, CPS-23
func TestLeft(t *testing.T) {
	w := newWorld().object("forum/1", "root").user("ada").group("team", "ada").
		member("sub_in", belfry.Member{Principal: "abe"}, belfry.Member{Principal: "ada"}).member("sub_b", belfry.Member{Principal: "ada", Object: "forum/2"})
	w.outs["sub_out"] = []string{"ada", "eve"}
	in := belfry.Reason{Code: belfry.NamedMember, Subscription: "sub_in"}
	gone := func(why belfry.Reason) *belfry.Reason {
		return &belfry.Reason{Code: belfry.NoLongerNamed, Subscription: why.Subscription, Object: why.Object}
	}
	for name, tc := range map[string]struct {
		because []belfry.Reason
		want    *belfry.Reason
	}{
		"nothing named her":         {because: []belfry.Reason{matched}},
		"is still a member":         {because: []belfry.Reason{matched, in}},
		"left":                      {because: []belfry.Reason{matched, ofSub}, want: gone(ofSub)},
		"left where she had joined": {because: []belfry.Reason{ofPlace}, want: gone(ofPlace)},
		"left one of two":           {because: []belfry.Reason{ofSub, in}},
		"left both":                 {because: []belfry.Reason{ofSub, ofPlace}, want: gone(ofPlace)},
		"opted out":                 {because: []belfry.Reason{matched, ofOut}, want: &belfry.Reason{Code: belfry.OptedOut, Subscription: "sub_out"}},
		"opted out of one of two":   {because: []belfry.Reason{ofOut, in}},
		"opted out, has a role":     {because: []belfry.Reason{ofOut, ofRole}},
		"her group joined":          {because: []belfry.Reason{ofSub, ofTeam}},
		"she has a role":            {because: []belfry.Reason{ofRole, ofSub}},
	} {
		got, err := Left(w, "ada", tc.because, noon)
		if d := cmp.Diff(tc.want, got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got)\n%s", name, err, d)
		}
	}
}

// Whoever joined again after something was planned for her is not told of it,
// where nothing but her joining named her, then or now. A millisecond is too
// little to tell: plans are dated in whole ones.
// feature: CPS-10, CPS-23
func TestRejoined(t *testing.T) {
	joined := func(after time.Duration) belfry.Via {
		return belfry.Via{Member: &belfry.Member{Subscription: "sub_a", Object: "forum/1", Principal: "ada", Since: noon.Add(after)}}
	}
	of := func(vias ...belfry.Via) *PageResult {
		return &PageResult{Recipients: []belfry.Recipient{{Principal: "ada", Via: vias}}}
	}
	again := &belfry.Reason{Code: belfry.NoLongerNamed, Subscription: "sub_a", Object: "forum/1", Detail: "joined again on " + noon.Add(time.Hour).UTC().Format(time.RFC3339)}
	byGroup := belfry.Via{Member: &belfry.Member{Subscription: "sub_a", Principal: "team", Since: noon.Add(time.Hour)}}
	for name, tc := range map[string]struct {
		because []belfry.Reason
		now     *PageResult
		want    *belfry.Reason
	}{
		"member ever since":        {because: []belfry.Reason{ofSub}, now: of(joined(-time.Hour))},
		"joined again":             {because: []belfry.Reason{matched, ofSub}, now: of(joined(time.Hour)), want: again},
		"in the same millisecond":  {because: []belfry.Reason{ofSub}, now: of(joined(time.Millisecond))},
		"a little later":           {because: []belfry.Reason{ofSub}, now: of(joined(time.Millisecond + time.Microsecond)), want: &belfry.Reason{Code: again.Code, Subscription: "sub_a", Object: "forum/1", Detail: "joined again on " + noon.UTC().Format(time.RFC3339)}},
		"a role named her then":    {because: []belfry.Reason{ofSub, ofRole}, now: of(joined(time.Hour))},
		"her group had joined":     {because: []belfry.Reason{ofTeam}, now: of(joined(time.Hour))},
		"a rule names her now":     {because: []belfry.Reason{ofSub}, now: of(joined(time.Hour), belfry.Via{})},
		"her group joined since":   {because: []belfry.Reason{ofSub}, now: of(byGroup)},
		"one of two memberships":   {because: []belfry.Reason{ofSub, ofPlace}, now: of(joined(time.Hour), joined(-time.Hour))},
		"both anew":                {because: []belfry.Reason{ofSub, ofPlace}, now: of(joined(2*time.Hour), joined(time.Hour)), want: again},
		"named by two recipients":  {because: []belfry.Reason{ofSub}, now: &PageResult{Recipients: append(of(joined(time.Hour)).Recipients, of(joined(-time.Hour)).Recipients...)}},
		"nothing names her at all": {because: []belfry.Reason{ofSub}, now: &PageResult{}},
	} {
		if d := cmp.Diff(tc.want, Rejoined("ada", tc.because, tc.now, noon)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
	}
}
