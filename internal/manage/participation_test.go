package manage

import (
	"slices"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Creating, being assigned to and commenting on something joins it; what is
// done once more changes nothing; being taken off, or its end, leaves; who
// opted out stays out, who joined by herself stays in.
// feature: S3-25
func TestParticipation(t *testing.T) {
	h, s := joining(t, belfry.Joining{Who: belfry.JoinMembers, Follow: []belfry.Participation{
		{Types: []string{"task.created", "task.comment*"}},
		{Types: []string{"task.assigned"}, Who: "assignees.now"},
		{Types: []string{"task.assigned"}, Who: "assignees.before", Leave: true},
		{Types: []string{"task.closed"}, Who: belfry.Everybody, Leave: true},
	}})
	do := func(typ, object, actor, data string) {
		t.Helper()
		if data == "" {
			data = "{}"
		}
		h.ok(h.Participate(h.ctx(), by.Tenant, &belfry.Event{Type: typ, Object: object, Actor: actor, Data: []byte(data)}, []belfry.Subscription{s}))
	}
	version := func() int64 {
		v, err := h.db.Version(h.ctx(), by.Tenant)
		h.ok(err)
		return v
	}
	do("task.created", "forum/3", "user/8", "")
	before := version()
	do("task.commented", "forum/3", "user/8", "")
	if version() != before {
		t.Error("who takes part already is written again")
	}
	do("task.created", "course/42", "user/8", "") // out of the scope
	do("task.created", "forum/3", "user/77", "")  // nobody
	do("task.created", "forum/3", "user/10", "")  // deleted
	do("task.created", "nowhere", "user/8", "")   // not an object
	do("task.viewed", "forum/3", "user/9", "")    // no participation
	do("task.assigned", "forum/3", "user/8", `{"assignees":{"now":["user/9"],"before":"user/8"}}`)
	h.same("members", h.members(s.ID), []string{"user/9 forum/3"})
	ms, _, err := h.Members(h.ctx(), by.Tenant, s.ID, "", 10)
	h.ok(err)
	if ms[0].By != ByParticipation {
		t.Errorf("%+v", ms[0])
	}
	_, err = h.Leave(h.ctx(), by, s.ID, Joiner{User: "user/9"})
	h.ok(err)
	do("task.commented", "forum/3", "user/9", "")
	h.same("members", h.members(s.ID), nil)
	do("task.commented", "course/41", "user/8", "")
	h.joins(s.ID, Joiner{User: "user/8", Object: "forum/3"})
	do("task.closed", "forum/3", "user/9", "")
	do("task.closed", "course/41", "user/9", "")
	h.same("members", h.members(s.ID), []string{"user/8 forum/3"})
}

// What an event names that no store keeps takes no part: asking for it would
// fail again and again.
// feature: S3-25
func TestOnlyNamesTakePart(t *testing.T) {
	e := &belfry.Event{Data: []byte(`{"who":["a\u0000b","user/8","x\ny","` + strings.Repeat("x", 600) + `",""]}`)}
	if got := takers(e, "who"); !slices.Equal(got, []string{"user/8"}) {
		t.Errorf("%q", got)
	}
}
