package manage

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// predefined opens a house with a preset that teachers switch on at courses;
// user/9 is one at course 41.
func predefined(t *testing.T) (*house, belfry.Preset) {
	t.Helper()
	h, _ := joining(t, belfry.Joining{})
	p := belfry.Preset{Name: "submissions", Title: "Submissions to the teachers", ObjectTypes: []string{"course"}, Roles: []string{"teacher"}}
	p.Subscription.Types = []string{"assign.submitted"}
	p.Subscription.Recipients = []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"editingteacher"}}}}
	p, _, created, err := h.PutPreset(h.ctx(), by, p, nil)
	h.ok(err)
	if !created {
		t.Error("not created")
	}
	return h, p
}

func (h *house) presetsAt(object, user string) (list []string) {
	h.t.Helper()
	ps, _, err := h.PresetsAt(h.ctx(), by.Tenant, object, user, "", 0)
	h.ok(err)
	for _, p := range ps {
		list = append(list, strings.TrimSpace(p.Preset+" "+p.State+" "+strings.Join(p.Above, ",")))
	}
	return list
}

// A preset is switched on at an object by whoever administers it, as it is:
// twice is once; it cannot be edited there, only paused, ended and opted out of;
// an edit of the preset reaches it wherever it is on; and it is not deleted from
// under those who use it.
// feature: CPS-21, S3-23
func TestPresets(t *testing.T) {
	h, p := predefined(t)
	h.same("offered to a teacher", h.presetsAt("course/41", "user/9"), []string{"submissions off"})
	h.same("offered to a student", h.presetsAt("course/41", "user/8"), nil)
	h.same("offered at another type", h.presetsAt("category/2", ""), nil)

	_, _, err := h.SwitchPreset(h.ctx(), by, p.Name, "course/41", "user/8", true)
	h.refused(err, belfry.Forbidden, "switched by holders of teacher")
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "course/41", "user/77", true)
	h.refused(err, belfry.Invalid, "/user: no user")
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "category/2", "", true)
	h.refused(err, belfry.Conflict, "for objects of type course")
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "course/9", "", true)
	h.refused(err, belfry.NotFound)
	_, _, err = h.SwitchPreset(h.ctx(), by, "nothing", "course/41", "", true)
	h.refused(err, belfry.NotFound)
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "course/41", "", false)
	h.refused(err, belfry.NotFound, "was never on")

	s, created, err := h.SwitchPreset(h.ctx(), by, p.Name, "course/41", "user/9", true)
	h.ok(err)
	if !created || s.Origin != belfry.FromPreset || s.Preset != p.Name || s.Owner != "user/9" || s.Scope.Object != "course/41" || s.Title != p.Title || !s.OfAdministrators() {
		t.Errorf("%v %+v", created, s.Subscription)
	}
	again, created, err := h.SwitchPreset(h.ctx(), by, p.Name, "course/41", "user/9", true)
	h.ok(err)
	if created || again.ID != s.ID || again.Version != s.Version {
		t.Errorf("switched on twice: %v %+v", created, again.Subscription)
	}
	other, _, err := h.SwitchPreset(h.ctx(), by, p.Name, "course/42", "", true)
	h.ok(err)

	next := s.Subscription
	next.Title = "Mine"
	_, err = h.PutSubscription(h.ctx(), by, next, nil)
	h.refused(err, belfry.Conflict, "is preset submissions at course/41")
	_, err = h.PauseSubscription(h.ctx(), by, s.ID, "holidays")
	h.ok(err)
	h.same("paused", h.presetsAt("course/41", "user/9"), []string{"submissions paused"})

	p.Subscription.Types = []string{"assign.submitted", "quiz.submitted"}
	_, _, _, err = h.PutPreset(h.ctx(), by, p, nil)
	h.ok(err)
	for id, state := range map[string]string{s.ID: belfry.SubscriptionPaused, other.ID: belfry.SubscriptionActive} {
		now, err := h.Subscription(h.ctx(), by.Tenant, id)
		h.ok(err)
		if len(now.Types) != 2 || now.State != state || now.Preset != p.Name {
			t.Errorf("after the edit of the preset: %+v", now.Subscription)
		}
	}
	v := h.version()
	_, _, _, err = h.PutPreset(h.ctx(), by, p, nil)
	h.ok(err)
	if now, err := h.Subscription(h.ctx(), by.Tenant, other.ID); err != nil || now.Version >= v {
		t.Errorf("a preset put as it was rewrites what it is: %v %v", now.Version, err)
	}

	h.refused(h.DeletePreset(h.ctx(), by, p.Name, nil), belfry.Conflict, "course/41", "course/42", "everywhere with POST")
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "course/42", "", false)
	h.ok(err)
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "course/42", "", false)
	h.ok(err)
	places, _, err := h.PresetPlaces(h.ctx(), by.Tenant, p.Name, "", 0)
	h.ok(err)
	if len(places) != 1 || places[0].Object != "course/41" || places[0].State != belfry.PresetPaused || places[0].Owner != "user/9" {
		t.Errorf("%+v", places)
	}
	n, err := h.PresetOffEverywhere(h.ctx(), by, p.Name, "")
	h.ok(err)
	if n != 1 {
		t.Errorf("switched off at %d", n)
	}
	h.ok(h.DeletePreset(h.ctx(), by, p.Name, nil))
	ended, err := h.Subscription(h.ctx(), by.Tenant, s.ID)
	h.ok(err)
	if ended.State != belfry.SubscriptionEnded || !strings.Contains(ended.Because, "switched off everywhere by "+by.Who) {
		t.Errorf("%+v", ended.Subscription)
	}
}

// What is switched on again is the same subscription as the preset is now, and
// who opted out of it still has. A preset on above is shown below.
// feature: CPS-21, CPS-24
func TestPresetAgain(t *testing.T) {
	h, p := predefined(t)
	p.ObjectTypes = nil
	_, _, _, err := h.PutPreset(h.ctx(), by, p, nil)
	h.ok(err)
	s, _, err := h.SwitchPreset(h.ctx(), by, p.Name, "category/2", "", true)
	h.ok(err)
	_, err = h.store.Apply(h.ctx(), belfry.Changes{Tenant: by.Tenant, OptOuts: []belfry.OptOut{{Subscription: s.ID, Who: "user/8", Since: h.now}}})
	h.ok(err)
	root, _, err := h.SwitchPreset(h.ctx(), by, p.Name, "root", "", true)
	h.ok(err)
	if root.Scope.Object != "" || root.ID == s.ID {
		t.Errorf("%+v", root.Subscription)
	}
	h.same("below", h.presetsAt("forum/3", ""), []string{"submissions off category/2,root"})
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "category/2", "", false)
	h.ok(err)
	h.same("below", h.presetsAt("forum/3", ""), []string{"submissions off root"})
	p.Subscription.Scope.Applies = belfry.AppliesChildren
	_, _, _, err = h.PutPreset(h.ctx(), by, p, nil)
	h.ok(err)
	again, created, err := h.SwitchPreset(h.ctx(), by, p.Name, "category/2", "", true)
	h.ok(err)
	if !created || again.ID != s.ID || again.State != belfry.SubscriptionActive || again.Because != "" || again.Scope.Applies != belfry.AppliesChildren {
		t.Errorf("%v %+v", created, again.Subscription)
	}
	outs, err := h.db.OptOuts(h.ctx(), by.Tenant, s.ID, "", 10)
	h.ok(err)
	if len(outs) != 1 {
		t.Errorf("opt-outs: %+v", outs)
	}
	h.same("two levels below what applies to children", h.presetsAt("forum/3", ""), []string{"submissions off"})
	h.same("a level below", h.presetsAt("course/41", ""), []string{"submissions off category/2"})
}

// A preset is checked as a subscription is, has no place of its own, and one
// whose filter is gone is not switched on.
// feature: CPS-21
func TestPresetsRefused(t *testing.T) {
	h, p := predefined(t)
	bad := p
	bad.Name = "a b"
	bad.Subscription.Scope.Object, bad.Subscription.Owner, bad.Subscription.ID, bad.Subscription.Origin = "course/41", "user/8", "sub_1", "person"
	bad.Subscription.State = "active"
	_, _, _, err := h.PutPreset(h.ctx(), by, bad, nil)
	h.refused(err, belfry.Invalid, "/name: letters", "/subscription/scope/object: switched on", "/subscription/owner: switches", "/subscription/id: leave it out", "/subscription/origin: server", "/subscription/state: where")
	bad = p
	bad.Subscription.Filter, bad.Subscription.Notify = "event.(", []belfry.Notify{{Channels: []string{"pigeon"}}}
	_, _, _, err = h.PutPreset(h.ctx(), by, bad, nil)
	h.refused(err, belfry.Invalid, "/subscription/filter: ")

	_, _, _, err = h.PutFilter(h.ctx(), by, belfry.SavedFilter{Name: "open", Filter: "event.data.state == 'open'"}, nil)
	h.ok(err)
	p.Subscription.Filters = []string{"open"}
	shown, _, _, err := h.PutPreset(h.ctx(), by, p, nil)
	h.ok(err)
	if shown.Subscription.Combined != "" {
		t.Errorf("the filters of a preset may change: %q", shown.Subscription.Combined)
	}
	s, _, err := h.SwitchPreset(h.ctx(), by, p.Name, "course/41", "", true)
	h.ok(err)
	_, _, _, err = h.PutFilter(h.ctx(), by, belfry.SavedFilter{Name: "open", Filter: "event.data.state != 'closed'"}, nil)
	h.ok(err)
	now, err := h.Subscription(h.ctx(), by.Tenant, s.ID)
	h.ok(err)
	if !strings.Contains(now.Combined, "closed") {
		t.Errorf("the filter it names changed: %q", now.Combined)
	}
	h.ok(h.DeleteFilter(h.ctx(), by, "open", nil))
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "course/42", "", true)
	h.refused(err, belfry.Conflict, "cannot be switched on as it is")
	h.same("paused with its filter", h.presetsAt("course/41", ""), []string{"submissions paused"})
	p.Subscription.Filters, p.Roles = nil, nil
	_, _, _, err = h.PutPreset(h.ctx(), by, p, nil)
	h.ok(err)
	_, err = h.ResumeSubscription(h.ctx(), by, s.ID)
	h.ok(err)
	_, _, err = h.SwitchPreset(h.ctx(), by, p.Name, "course/41", "user/9", false)
	h.refused(err, belfry.Forbidden, "administrators alone")
}

// Another tenant's presets are not there.
func TestPresetsOfTenants(t *testing.T) {
	h, p := predefined(t)
	other := By{Tenant: "other", Who: "key_2"}
	_, _, err := h.Preset(h.ctx(), other.Tenant, p.Name)
	h.refused(err, belfry.NotFound)
	_, _, err = h.SwitchPreset(h.ctx(), other, p.Name, "root", "", true)
	h.refused(err, belfry.NotFound)
}

// version is one that the next edit has, or a later one.
func (h *house) version() int64 {
	h.t.Helper()
	v, err := h.store.Apply(h.ctx(), belfry.Changes{Tenant: by.Tenant, Documents: []belfry.Document{{Kind: belfry.KindSetting, ID: "tick", Body: []byte("1")}}})
	h.ok(err)
	return v
}
