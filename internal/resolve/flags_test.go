package resolve

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-13 notify_local_only and notify_no_local by object: role rules
// alone, no_local before local_only, the event's own flags before both
func TestObjectFlags(t *testing.T) {
	set := func(flags ...string) func(*belfry.Object) {
		return func(o *belfry.Object) { o.Settings = &belfry.ObjectSettings{Flags: flags} }
	}
	w := newWorld().object("site", "", set(belfry.FlagLocalOnly)).
		object("folder", "site", set(belfry.FlagNoLocal)).object("page", "folder").object("sub", "folder").object("deep", "sub").
		object("quiet", "site", set(belfry.FlagSilent)).object("hush", "quiet").
		user("r-site", "r-sub", "r-deep", "r-page", "named").
		grant("site", "r", "r-site").grant("sub", "r", "r-sub").grant("deep", "r", "r-deep").grant("page", "r", "r-page")
	rules := append(explicit([]string{"named"}, nil, nil), role("", "", "r"))
	for _, tc := range []struct {
		name, object string
		flags        []string
		want         []string
	}{
		{"directly in the folder: no roles, the named ones still", "page", nil, []string{"named <named_user",
			"r-page !named_role:r@page,place_no_local@folder", "r-site !named_role:r@site,place_no_local@folder"}},
		{"on the folder itself", "folder", nil, []string{"named <named_user", "r-site !named_role:r@site,place_no_local@folder"}},
		{"further below: only what the site says", "deep", nil, []string{"named <named_user", "r-deep <named_role:r@deep",
			"r-site !named_role:r@site,place_local_only@site", "r-sub !named_role:r@sub,place_local_only@site"}},
		{"the event's own flag wins", "page", []string{belfry.FlagLocalOnly}, []string{"named <named_user", "r-page <named_role:r@page",
			"r-site !named_role:r@site,flag_local_only"}},
		{"silent for all below", "hush", nil, []string{"named !named_user,place_silent@quiet", "r-site !named_role:r@site,place_local_only@site"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := event(tc.object)
			e.Event.Flags = tc.flags
			want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: rules})), tc.want...)
		})
	}
	// Endpoints are not called either.
	sub := belfry.Subscription{Notify: []belfry.Notify{{Endpoint: "ep_1"}}}
	want(t, one(t, w, event("hush"), belfry.EventType{}, match(sub)), "ep_1 !named_endpoint,place_silent@quiet")
}
